//! One pass over a JSON document along the tree of queries.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{DocumentError, Problem, quote};
use super::tree::{Node, Search, Tree};
use super::value::Raw;
use crate::Query;
use crate::query::{Scalar, Step};

/// What was found of the tree in one document.
pub(super) struct Found<'a> {
    /// By node.
    seen: Vec<Seen>,
    /// By field: its part of the document.
    parts: Vec<Option<&'a str>>,
}

/// What stands at a place of the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Null,
    Scalar,
    Object,
    Array,
}

/// # Errors
/// The payload is no JSON document, or anything stands behind it.
pub(super) fn find<'a>(tree: &Tree, fields: usize, payload: &'a [u8]) -> Result<Found<'a>, DocumentError> {
    let payload = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    let mut found = Found { seen: vec![Seen::Nothing; tree.size], parts: vec![None; fields] };
    let mut json = serde_json::Deserializer::from_slice(payload);
    let walked = Walk { node: &tree.root, found: &mut found }.deserialize(&mut json).and_then(|()| json.end());
    walked.map_err(|error| DocumentError {
        line: error.line(),
        column: error.column(),
        message: match payload.trim_ascii() {
            b"" => "is empty; expected a JSON document".into(),
            text => format!(
                "is no JSON: {error}; it begins with {}",
                quote(&String::from_utf8_lossy(text.get(..200).unwrap_or(text)))
            ),
        },
    })?;
    Ok(found)
}

impl<'a> Found<'a> {
    /// The part a query leads to.
    pub fn part(&self, field: usize, query: &Query, tree: &Tree) -> Result<Raw<'a>, Problem> {
        match self.parts.get(field) {
            Some(Some(json)) => Raw::of_json(json),
            _ => Err(self.explain(query, tree)),
        }
    }

    /// Which step leads nowhere.
    fn explain(&self, query: &Query, tree: &Tree) -> Problem {
        let mut node = &tree.root;
        let mut start = 0;
        for part in query.parts() {
            let seen = self.seen(node);
            let child = node.child(&part.step);
            if let Some(child) = child.filter(|child| self.seen(child) != Seen::Nothing) {
                node = child;
                start = part.end;
                continue;
            }
            if seen == Seen::Null {
                return Problem::NoValue;
            }
            let within = query.text().get(..start).filter(|text| !text.is_empty()).unwrap_or("the document").into();
            let step = part.step.shown();
            let (fits, wanted) = match part.step {
                Step::Member(_) => (seen == Seen::Object, "an object"),
                Step::Element(_) | Step::Where(_) => (seen == Seen::Array, "an array"),
            };
            return match seen {
                _ if fits => Problem::NotThere { step, within },
                Seen::Object => Problem::NotInside { step, within, found: "an object", wanted },
                Seen::Array => Problem::NotInside { step, within, found: "an array", wanted },
                _ => Problem::NotInside { step, within, found: "a single value", wanted },
            };
        }
        Problem::NoValue
    }

    fn seen(&self, node: &Node) -> Seen {
        self.seen.get(node.id).copied().unwrap_or(Seen::Nothing)
    }

    fn see(&mut self, node: &Node, what: Seen) {
        if let Some(seen) = self.seen.get_mut(node.id) {
            *seen = what;
        }
    }

    /// A member is there again: what stood there before does not count.
    fn forget(&mut self, node: &Node) {
        if let Some(below) = self.seen.get_mut(node.id..node.end) {
            below.fill(Seen::Nothing);
        }
        self.forget_fields(node);
    }

    fn forget_fields(&mut self, node: &Node) {
        for field in &node.fields {
            if let Some(part) = self.parts.get_mut(*field) {
                *part = None;
            }
        }
        node.children().for_each(|child| self.forget_fields(child));
    }

    /// A value whose text is known.
    fn take(&mut self, node: &Node, json: &'a str) -> Result<(), serde_json::Error> {
        if self.seen(node) != Seen::Nothing {
            self.forget(node);
        }
        for field in &node.fields {
            if let Some(part) = self.parts.get_mut(*field) {
                *part = Some(json);
            }
        }
        let seen = match json.as_bytes().first() {
            Some(b'{') => Seen::Object,
            Some(b'[') => Seen::Array,
            Some(b'n') => Seen::Null,
            _ => Seen::Scalar,
        };
        self.see(node, seen);
        if !node.is_leaf() && matches!(seen, Seen::Object | Seen::Array) {
            serde_json::Deserializer::from_str(json).deserialize_any(Inside { node, found: self })?;
        }
        Ok(())
    }
}

impl Step {
    /// For messages.
    fn shown(&self) -> Box<str> {
        match self {
            Self::Member(name) => format!("member {}", quote(name)).into(),
            Self::Element(index) => format!("element {index}").into(),
            Self::Where(_) => "element with these members".into(),
        }
    }
}

/// The value of a node.
struct Walk<'n, 'f, 'a> {
    node: &'n Node,
    found: &'f mut Found<'a>,
}

impl<'a> DeserializeSeed<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'a>>(self, json: D) -> Result<(), D::Error> {
        let Self { node, found } = self;
        if node.fields.is_empty() {
            if found.seen(node) != Seen::Nothing {
                found.forget(node);
            }
            return json.deserialize_any(Inside { node, found });
        }
        let raw: &'a RawValue = serde::Deserialize::deserialize(json)?;
        found.take(node, raw.get()).map_err(D::Error::custom)
    }
}

/// What is inside of the value of a node.
struct Inside<'n, 'f, 'a> {
    node: &'n Node,
    found: &'f mut Found<'a>,
}

impl Inside<'_, '_, '_> {
    fn scalar<E>(self, seen: Seen) -> Result<(), E> {
        self.found.see(self.node, seen);
        Ok(())
    }
}

impl<'a> Visitor<'a> for Inside<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { node, found } = self;
        found.see(node, Seen::Object);
        while let Some(child) = map.next_key_seed(Name(node))? {
            match child {
                Some(node) => map.next_value_seed(Walk { node, found })?,
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { node, found } = self;
        found.see(node, Seen::Array);
        let mut elements = node.elements.iter().peekable();
        let mut searched = node.searches.len();
        let mut hits = Vec::new();
        for index in 0_usize.. {
            let child = elements.next_if(|(wanted, _)| **wanted == index).map(|(_, node)| node);
            if searched > 0 {
                let Some(raw) = seq.next_element::<&'a RawValue>()? else { break };
                if let Some(child) = child {
                    found.take(child, raw.get()).map_err(A::Error::custom)?;
                }
                if !raw.get().starts_with('{') {
                    continue;
                }
                compare(&node.searches, raw.get(), &mut hits).map_err(A::Error::custom)?;
                let mut hits = hits.iter();
                for search in node.searches.values() {
                    let all = hits.by_ref().take(search.members.len()).filter(|hit| **hit).count();
                    if all == search.members.len() && found.seen(&search.node) == Seen::Nothing {
                        searched -= 1;
                        found.take(&search.node, raw.get()).map_err(A::Error::custom)?;
                    }
                }
            } else {
                let more = match child {
                    Some(node) => seq.next_element_seed(Walk { node, found })?,
                    None => seq.next_element::<IgnoredAny>()?.map(|_| ()),
                };
                if more.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar(Seen::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.scalar(Seen::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.scalar(Seen::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.scalar(Seen::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.scalar(Seen::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.scalar(Seen::Scalar)
    }
}

/// The node of a member name.
struct Name<'n>(&'n Node);

impl<'a, 'n> DeserializeSeed<'a> for Name<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: serde::Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Name<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.member(name))
    }
}

/// Which members of an array's element equal what is searched for: one truth per member of each search, in order.
fn compare(searches: &Searches, element: &str, hits: &mut Vec<bool>) -> Result<(), serde_json::Error> {
    hits.clear();
    hits.resize(searches.values().map(|search| search.members.len()).sum(), false);
    serde_json::Deserializer::from_str(element).deserialize_map(Compare { searches, hits })
}

type Searches = BTreeMap<String, Search>;

struct Compare<'s, 'h> {
    searches: &'s Searches,
    hits: &'h mut [bool],
}

impl<'a> Visitor<'a> for Compare<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(SearchedName(self.searches))? {
            let Some(name) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let json = map.next_value::<&RawValue>()?.get();
            let members = self.searches.values().flat_map(|search| &search.members);
            for ((_, wanted), hit) in members.zip(self.hits.iter_mut()).filter(|((own, _), _)| **own == *name) {
                *hit = wanted.equals(json);
            }
        }
        Ok(())
    }
}

/// A member name, if it is searched for.
struct SearchedName<'s>(&'s Searches);

impl<'a, 's> DeserializeSeed<'a> for SearchedName<'s> {
    type Value = Option<&'s str>;

    fn deserialize<D: serde::Deserializer<'a>>(self, name: D) -> Result<Self::Value, D::Error> {
        name.deserialize_str(self)
    }
}

impl<'s> Visitor<'_> for SearchedName<'s> {
    type Value = Option<&'s str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        let mut members = self.0.values().flat_map(|search| &search.members);
        Ok(members.find(|(own, _)| **own == *name).map(|(own, _)| &**own))
    }
}

impl Scalar {
    /// Whether this is what valid JSON says.
    fn equals(&self, json: &str) -> bool {
        match (self, Raw::of_json(json)) {
            (Self::Null, Ok(Raw::Null)) => true,
            (Self::Bool(own), Ok(Raw::Bool(other))) => *own == other,
            (Self::Text(own), Ok(Raw::Text(other))) => **own == *other,
            #[expect(clippy::float_cmp, clippy::cast_precision_loss, reason = "equal by value is what is asked for")]
            (Self::Integer(own), Ok(Raw::Number(other))) => match other.parse::<i128>() {
                Ok(other) => *own == other,
                Err(_) => other.parse() == Ok(*own as f64),
            },
            (Self::Float(own), Ok(Raw::Number(other))) => other.parse() == Ok(*own),
            _ => false,
        }
    }
}
