//! One message of `api/…`: the arguments in its topic, and where its answer goes (rule B7). Pure.

use super::super::super::api::Args;
use crate::transport::ReplyTo;

/// Longest `_rid`.
const LONGEST_ID: usize = 64;

/// Where an answer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `api_res`
    Plain,
    /// `api_res/<id>`, for an argument `_rid=<id>`.
    Request(String),
    /// The response topic of an MQTT 5 request.
    Response(ReplyTo),
}

/// A message as far as its topic tells.
#[derive(Debug)]
pub(super) struct Request {
    pub target: Target,
    /// The arguments without `_rid`, or what is wrong with them.
    pub args: Result<Args, String>,
}

impl Request {
    /// `topic` lies below `<prefix>/api`.
    pub fn read(prefix: &str, topic: &str, reply_to: Option<ReplyTo>) -> Self {
        let query = topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("/api/")).unwrap_or_default();
        let (ids, rest): (Vec<&str>, Vec<&str>) = query.split('&').partition(|part| is_id(part));
        let id = match ids.as_slice() {
            [] => Ok(None),
            [one] => id(one).map(Some),
            _ => Err("argument _rid is given twice".to_owned()),
        };
        let response = reply_to.filter(|reply| is_for_others(prefix, &reply.topic));
        let target = match (response, &id) {
            (Some(reply), _) => Target::Response(reply),
            (None, Ok(Some(id))) => Target::Request(id.clone()),
            (None, _) => Target::Plain,
        };
        let args = id.and_then(|_| Args::parse(&rest.join("&")).map_err(|error| error.to_string()));
        Self { target, args }
    }
}

/// Whether this is the argument `_rid`, however its name is escaped.
fn is_id(part: &str) -> bool {
    let name = part.split_once('=').map_or(part, |(name, _)| name);
    crate::config::percent_decode(name).as_deref() == Some("_rid")
}

/// The id of `_rid=<id>`: one level of a topic.
fn id(part: &str) -> Result<String, String> {
    let text = part.split_once('=').map_or("", |(_, id)| id).replace('+', " ");
    let wrong = || format!("_rid: expected 1 to {LONGEST_ID} characters without / + # and control characters");
    let id = crate::config::percent_decode(&text).ok_or_else(wrong)?;
    let good = |c: char| !c.is_control() && !matches!(c, '/' | '+' | '#');
    if id.is_empty() || id.chars().count() > LONGEST_ID || !id.chars().all(good) {
        return Err(wrong());
    }
    Ok(id)
}

/// Whether an answer may go there: not where we take orders ourselves or say how the site is, and not to the broker's
/// own topics. An answer to such a one goes to `api_res`.
fn is_for_others(prefix: &str, topic: &str) -> bool {
    if topic.is_empty() || topic.starts_with('$') || topic.contains(['+', '#', '\0']) {
        return false;
    }
    match topic.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) {
        Some(ours) => ours == "api_res" || ours.starts_with("api_res/"),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "cfos_mqtt";

    fn read(query: &str) -> Request {
        Request::read(PREFIX, &format!("cfos_mqtt/api/{query}"), None)
    }

    fn args(request: Request) -> Vec<(String, String)> {
        let args = request.args.unwrap();
        args.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a5_the_rest_of_the_topic_is_the_query() {
        let read = |query: &str| args(read(query));
        assert_eq!(read("cmd=set_cm_vars&name=x&val=1"), pairs(&[("cmd", "set_cm_vars"), ("name", "x"), ("val", "1")]));
        assert_eq!(read("cmd=x&path=a/b/c"), pairs(&[("cmd", "x"), ("path", "a/b/c")]), "slashes belong to values");
        assert_eq!(read("cmd=x&expr=1%2B2%23"), pairs(&[("cmd", "x"), ("expr", "1+2#")]));
        assert_eq!(read(""), pairs(&[]));
        assert_eq!(args(Request::read(PREFIX, "cfos_mqtt/api", None)), pairs(&[]));
    }

    #[test]
    fn b7_a_request_id_names_the_topic_and_is_no_argument() {
        let request = read("cmd=get_params&_rid=a%20b-1");
        assert_eq!(request.target, Target::Request("a b-1".into()));
        assert_eq!(args(request), pairs(&[("cmd", "get_params")]));
        assert_eq!(read("cmd=get_params").target, Target::Plain);
        assert_eq!(read("%5frid=7&cmd=x").target, Target::Request("7".into()), "a name may be escaped");
        let long = "x".repeat(65);
        for bad in [
            "_rid",
            "_rid=",
            "_rid=a/b",
            "_rid=a%2Bb",
            "_rid=%23",
            "_rid=%zz",
            "_rid=a&_rid=b",
            &format!("_rid={long}"),
        ] {
            let request = read(&format!("cmd=x&{bad}"));
            assert!(request.args.unwrap_err().contains("_rid"), "{bad}");
            assert_eq!(request.target, Target::Plain, "{bad}");
        }
    }

    #[test]
    fn b7_wrong_arguments_are_still_answered_where_the_caller_listens() {
        let request = read("cmd=%zz&_rid=7");
        assert_eq!(request.target, Target::Request("7".into()));
        assert!(request.args.is_err());
    }

    #[test]
    fn b7_a_response_topic_comes_first_unless_it_is_one_of_ours() {
        let reply = |topic: &str| ReplyTo { topic: topic.into(), correlation: Some("c".into()) };
        let target = |topic: &str| Request::read(PREFIX, "cfos_mqtt/api/cmd=x&_rid=7", Some(reply(topic))).target;
        assert_eq!(target("answers/me"), Target::Response(reply("answers/me")));
        assert_eq!(target("cfos_mqtt/api_res/me"), Target::Response(reply("cfos_mqtt/api_res/me")));
        for ours in ["cfos_mqtt/api/cmd=x", "cfos_mqtt/ctl", "cfos_mqtt/get/E1", "$SYS/x", "a/#", ""] {
            assert_eq!(target(ours), Target::Request("7".into()), "{ours}");
        }
    }
}
