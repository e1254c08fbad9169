//! Removes the password of every URL, and the cards and passwords of calls, from a text, whatever the rest of the
//! program did to keep them out.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// Arguments of calls that are secret, as they stand in a query or a topic: `cmd=enter_rfid&rfid=4711`.
const SECRETS: [&str; 3] = ["rfid=", "old_pwd=", "new_pwd="];

/// The text with `***` in the place of the password of every URL in it, `scheme://user:***@host`, and of the cards and
/// passwords of calls, `rfid=***`.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let text = without_passwords(text);
    if SECRETS.iter().any(|name| text.contains(name)) { without_arguments(&text).into() } else { text }
}

fn without_arguments(text: &str) -> String {
    let mut out = text.to_owned();
    for name in SECRETS {
        let mut parts = out.split(name);
        let mut clean = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| c.is_whitespace() || matches!(c, '&' | '"' | '`' | ':' | ','));
            clean.push_str(name);
            clean.push_str("***");
            clean.push_str(part.get(end.unwrap_or(part.len())..).unwrap_or_default());
        }
        out = clean;
    }
    out
}

fn without_passwords(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, url) = rest.split_at(at + 3);
        out.push_str(before);
        // A password may hold a slash or an @ that nobody escaped: the last @ of the word ends the login.
        let end = url.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | ',' | ';'));
        let (word, after) = url.split_at(end.unwrap_or(url.len()));
        let login = word.rfind('@').and_then(|end| word.get(..end));
        match login.and_then(|login| login.find(':').map(|colon| (login, colon))) {
            Some((login, colon)) => {
                out.push_str(login.get(..=colon).unwrap_or_default());
                out.push_str("***");
                out.push_str(word.get(login.len()..).unwrap_or_default());
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    out.into()
}

/// A writer of whole lines that [`redact`]s them.
#[derive(Clone, Copy)]
pub(super) struct Redacted<M>(pub M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Redacted<M> {
    type Writer = Redacted<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Redacted(self.0.make_writer())
    }
}

impl<W: Write> Write for Redacted<W> {
    /// The layer writes one line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(redact(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b14_cards_and_passwords_of_calls_are_removed() {
        for (text, redacted) in [
            (
                "topic=\"cfos_mqtt/api/cmd=enter_rfid&rfid=4711&dev_id=E1\"",
                "topic=\"cfos_mqtt/api/cmd=enter_rfid&rfid=***&dev_id=E1\"",
            ),
            (
                "cmd=change_admin_pwd&old_pwd=a&new_pwd=b too large",
                "cmd=change_admin_pwd&old_pwd=***&new_pwd=*** too large",
            ),
            ("api/cmd=enter_rfid&rfid=4711: ignored", "api/cmd=enter_rfid&rfid=***: ignored"),
            ("rfid=4711 and rfid=4712", "rfid=*** and rfid=***"),
            ("cmd=enter_rfid", "cmd=enter_rfid"),
        ] {
            assert_eq!(redact(text), redacted, "{text}");
        }
    }

    #[test]
    fn b14_passwords_of_urls_are_removed_wherever_they_stand() {
        for (text, redacted) in [
            ("mqtt://user:pass@host:1883", "mqtt://user:***@host:1883"),
            ("no connection to mqtts5://u:p%40x@h, again", "no connection to mqtts5://u:***@h, again"),
            ("broker=\"mqtt://u:a/b@c@h/\" x", "broker=\"mqtt://u:***@h/\" x"),
            ("a http://u:p@h/x and mqtt://v:q@i", "a http://u:***@h/x and mqtt://v:***@i"),
            ("http://127.0.0.1:4712/ listens", "http://127.0.0.1:4712/ listens"),
            ("mqtt://user@host", "mqtt://user@host"),
            ("a@b: c", "a@b: c"),
            ("://:geheim@", "://:***@"),
        ] {
            assert_eq!(redact(text), redacted, "{text}");
        }
    }

    #[test]
    fn b14_lines_on_standard_error_are_redacted_too() {
        let mut out = Vec::new();
        Redacted(&mut out).write_all(b"WARN lost broker=mqtt://u:geheim@h \xff\n").unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("WARN lost broker=mqtt://u:***@h ") && text.ends_with('\n'), "{text}");
    }
}
