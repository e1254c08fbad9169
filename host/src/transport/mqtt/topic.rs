//! Topic names and filters as MQTT defines them (3.1.1 and 5, section 4.7): validity, matching, and the prefix that
//! an endpoint is bound to. Pure.

/// Longest topic in bytes (MQTT 1.5.3: a length of two bytes).
const LONGEST: usize = 65_535;

/// Whether `topic` may be published to.
pub(crate) fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() {
        return Err("a topic must not be empty".to_owned());
    }
    if topic.contains(['+', '#']) {
        return Err(format!("the topic `{topic}` contains a wildcard; publish to one topic at a time"));
    }
    check_text(topic)
}

/// Whether `filter` may be subscribed to.
pub(crate) fn check_filter(filter: &str) -> Result<(), String> {
    if filter.is_empty() {
        return Err("a filter must not be empty".to_owned());
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(format!("in the filter `{filter}`, `#` must be the whole last level"));
        }
        if level.contains('+') && level != "+" {
            return Err(format!("in the filter `{filter}`, `+` must be a whole level"));
        }
    }
    check_text(filter)
}

fn check_text(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(format!("a topic of {} bytes is longer than {LONGEST}", text.len()));
    }
    if text.contains('\0') {
        return Err("a topic must not contain a zero byte".to_owned());
    }
    Ok(())
}

/// Whether a device may name this topic or filter: it must stay below its prefix. Without one, a topic that begins with
/// a slash is a topic like any other.
pub(crate) fn check_relative(prefix: &str, topic: &str) -> Result<(), String> {
    if topic.starts_with('/') && !prefix.is_empty() {
        return Err(format!("`{topic}` begins with a slash; topics are relative to the endpoint's prefix"));
    }
    if topic.starts_with('$') {
        return Err(format!("`{topic}` begins with `$`, which is the broker's own"));
    }
    Ok(())
}

/// `prefix/topic`, or `topic` alone without a prefix.
pub(crate) fn join(prefix: &str, topic: &str) -> String {
    if prefix.is_empty() { topic.to_owned() } else { format!("{prefix}/{topic}") }
}

/// What remains of `topic` below `prefix`; the whole topic if it does not lie there.
pub(crate) fn strip<'a>(prefix: &str, topic: &'a str) -> &'a str {
    if prefix.is_empty() {
        return topic;
    }
    topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).unwrap_or(topic)
}

/// Whether `topic` matches `filter`. Both are taken to be valid. Topics of the broker (`$SYS/…`) match only filters
/// that name the `$` themselves.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let mut topic_levels = topic.split('/');
    let mut filter_levels = filter.split('/');
    loop {
        match (filter_levels.next(), topic_levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        // MQTT 3.1.1, 4.7.1.2, 4.7.1.3 and 4.7.2, with their own examples.
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/uptime", "$SYS/uptime", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a//b", "a//b", true),
            ("ü/+", "ü/ä", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} on {topic}");
        }
    }

    #[test]
    fn bad_filters_and_topics_are_refused() {
        for filter in ["", "a/#/b", "a#", "a/b#", "a+/b", "a/+b", "##", "a\0b"] {
            assert!(check_filter(filter).is_err(), "{filter:?}");
        }
        for filter in ["#", "+", "a", "a/+/b", "+/+/#", "/", "a//b", "$SYS/#"] {
            assert!(check_filter(filter).is_ok(), "{filter:?}");
        }
        for topic in ["", "a/+", "#", "a\0"] {
            assert!(check_topic(topic).is_err(), "{topic:?}");
        }
        assert!(check_topic("a/b").is_ok());
        assert!(check_topic(&"a".repeat(65_536)).is_err());
    }

    #[test]
    fn a_prefix_is_added_and_taken_off() {
        assert_eq!(join("go-e/123", "amp"), "go-e/123/amp");
        assert_eq!(join("", "amp"), "amp");
        assert_eq!(strip("go-e/123", "go-e/123/amp"), "amp");
        assert_eq!(strip("go-e/123", "go-e/1234/amp"), "go-e/1234/amp");
        assert_eq!(strip("", "a/b"), "a/b");
        for outside in ["/absolute", "$SYS/uptime", "$share/g/t"] {
            assert!(check_relative("go-e", outside).is_err(), "{outside}");
        }
        assert!(check_relative("go-e", "a/b").is_ok() && check_relative("", "/absolute").is_ok());
        assert!(check_relative("", "$SYS/uptime").is_err());
    }
}
