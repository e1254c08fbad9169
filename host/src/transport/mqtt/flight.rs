//! Messages of QoS 1 and 2 on their way: sent, and not yet acknowledged by the broker. Pure.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::outbox::Outgoing;
use crate::transport::{MqttError, Qos};

#[derive(Debug)]
struct Sent {
    id: u16,
    since: Instant,
    message: Outgoing,
    /// QoS 2: the broker has it, and only the end of the handshake is missing.
    received: bool,
}

/// In the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Flight {
    sent: VecDeque<Sent>,
}

/// What an acknowledgement meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The broker has the message.
    Taken,
    /// The broker does not take it; the topic.
    Refused(String),
    /// It belongs to no message on its way. Some brokers acknowledge twice.
    Stray,
}

impl Flight {
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Whether a message with this packet id is on its way.
    pub(super) fn has(&self, id: u16) -> bool {
        self.sent.iter().any(|sent| sent.id == id)
    }

    /// Since when the oldest waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.sent.front().map(|sent| sent.since)
    }

    pub(super) fn add(&mut self, id: u16, message: Outgoing, since: Instant) {
        self.sent.push_back(Sent { id, since, message, received: false });
    }

    /// PUBACK. Who waits for exactly this message learns of it.
    pub(super) fn acknowledged(&mut self, id: u16, refused: Option<String>) -> Outcome {
        self.end(refused, |sent| sent.id == id && sent.message.qos == Qos::AtLeastOnce)
    }

    /// PUBREC. A refusal ends the handshake.
    pub(super) fn received(&mut self, id: u16, refused: Option<String>) -> Outcome {
        if refused.is_some() {
            return self.end(refused, |sent| sent.id == id && sent.message.qos == Qos::ExactlyOnce);
        }
        let mut second = self.sent.iter_mut().filter(|sent| sent.id == id && sent.message.qos == Qos::ExactlyOnce);
        match second.next() {
            Some(sent) => {
                sent.received = true;
                Outcome::Taken
            }
            None => Outcome::Stray,
        }
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, id: u16) -> Outcome {
        self.end(None, |sent| sent.id == id && sent.received)
    }

    fn end(&mut self, refused: Option<String>, is_it: impl Fn(&Sent) -> bool) -> Outcome {
        let Some(sent) = self.sent.iter().position(is_it).and_then(|at| self.sent.remove(at)) else {
            return Outcome::Stray;
        };
        let Outgoing { topic, done, .. } = sent.message;
        let (result, outcome) = match refused {
            None => (Ok(()), Outcome::Taken),
            Some(why) => {
                let why = format!("the broker does not take the message on `{topic}`: {why}");
                (Err(MqttError::Denied(why)), Outcome::Refused(topic))
            }
        };
        if let Some(done) = done {
            // Who waited may have gone.
            let _ = done.send(result);
        }
        outcome
    }

    /// The connection is lost: what the broker may not have, in order.
    pub(super) fn lost(self) -> Vec<Outgoing> {
        self.sent.into_iter().filter(|sent| !sent.received).map(|sent| sent.message).collect()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::{self, Receiver};

    use super::*;

    fn message(topic: &str, qos: Qos) -> (Outgoing, Receiver<Result<(), MqttError>>) {
        let (done, waiting) = oneshot::channel();
        (Outgoing { done: Some(done), ..Outgoing::new(topic.to_owned(), "".into(), qos, false) }, waiting)
    }

    #[test]
    fn each_acknowledgement_ends_its_own_message_whatever_their_order() {
        let mut flight = Flight::default();
        let mut waiting: Vec<_> = (1..=3)
            .map(|id| {
                let (message, waiting) = message(&id.to_string(), Qos::AtLeastOnce);
                flight.add(id, message, Instant::now());
                waiting
            })
            .collect();
        assert_eq!(flight.acknowledged(2, None), Outcome::Taken);
        assert_eq!(waiting[1].try_recv(), Ok(Ok(())));
        assert!(waiting[0].try_recv().is_err() && waiting[2].try_recv().is_err());
        assert_eq!(flight.acknowledged(2, None), Outcome::Stray, "acknowledged twice");
        assert_eq!(flight.acknowledged(9, None), Outcome::Stray, "never sent");
        assert_eq!(flight.acknowledged(3, Some("not authorized".into())), Outcome::Refused("3".into()));
        assert!(matches!(waiting[2].try_recv(), Ok(Err(MqttError::Denied(why))) if why.contains("not authorized")));
        let lost: Vec<_> = flight.lost().into_iter().map(|message| message.topic).collect();
        assert_eq!(lost, ["1"]);
    }

    #[test]
    fn a_message_of_qos_2_is_over_when_the_handshake_is_and_does_not_come_back_once_received() {
        let mut flight = Flight::default();
        for id in [1, 2] {
            flight.add(id, message("x", Qos::ExactlyOnce).0, Instant::now());
        }
        assert_eq!(flight.acknowledged(1, None), Outcome::Stray, "PUBACK does not answer QoS 2");
        assert_eq!(flight.completed(1), Outcome::Stray, "PUBCOMP before PUBREC");
        assert_eq!(flight.received(1, None), Outcome::Taken);
        assert_eq!(flight.received(2, None), Outcome::Taken);
        assert_eq!(flight.completed(1), Outcome::Taken);
        assert_eq!(flight.len(), 1);
        assert_eq!(flight.lost().len(), 0);
    }
}
