//! Arguments of a request. Tolerant: whatever clients send is read somehow, and nothing of it is an error here.

/// The arguments of `a=1&b=x%20y`, in their order. A plus is a space; an escape that is none stays as it is written.
pub(super) fn arguments(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', rest.get(1..).unwrap_or_default()),
            },
            (b'+', after) => (b' ', after),
            (other, after) => (*other, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_resolved_and_what_is_none_stays() {
        let pairs = |query: &str| {
            arguments(query).into_iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>()
        };
        assert_eq!(pairs("cmd=x&a=1%2C2+3&flag&=v&&b=%C3%BC"), ["cmd:x", "a:1,2 3", "flag:", ":v", "b:ü"]);
        assert_eq!(pairs("a=100%&b=%zz&c=%4&d=%+1&e=%ff"), ["a:100%", "b:%zz", "c:%4", "d:% 1", "e:\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn no_query_panics(query in "\\PC*|[%&=+0-9a-f]*") {
            let _ = arguments(&query);
        }
    }
}
