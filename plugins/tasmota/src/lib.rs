//! Tasmota energy monitors and meter readers, over MQTT and HTTP. Glue only: what a message means stands in [`decode`].
//! It never asks for anything but what the device reports by itself or on `Status 8`.

mod decode;

use decode::Settings;
use ladekern_plugin_sdk::payload::{Message, Wants};
use ladekern_plugin_sdk::{Error, Json, Outcome, PayloadDecoder};

struct Tasmota(Settings);

impl PayloadDecoder for Tasmota {
    fn open(config: &Json<'_>) -> Result<(Self, Wants), Error> {
        let settings = Settings::new(config);
        // The user binds either `tele/<topic>` or, with the other order of the full topic, `<topic>`.
        let topics =
            ["SENSOR", "LWT", "STATUS8", "STATUS10", "tele/SENSOR", "tele/LWT", "stat/STATUS8", "stat/STATUS10"];
        let wants = topics.iter().fold(Wants::new(), |wants, topic| wants.subscribe("mqtt", topic));
        let wants = wants.fetch("http", &settings.path());
        Ok((Self(settings), wants))
    }

    fn decode(&mut self, message: &Message) -> Result<Option<Outcome>, Error> {
        self.0.message(&message.source, message.text())
    }
}

ladekern_plugin_sdk::export!(Tasmota: PayloadDecoder);

#[cfg(test)]
mod tests;
