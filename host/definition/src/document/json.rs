//! One pass over a JSON document along the tree of queries.

use super::error::{DocumentError, Problem, quote};
use super::scan::{NotJson, Scanner};
use super::tree::{Node, Sought, Wanted};
use super::value::Raw;
use crate::Query;
use crate::query::{Scalar, Step};

/// What was found of the tree in one document.
pub(super) struct Found<'a> {
    /// By node.
    seen: Vec<Seen>,
    /// By field: its part of the document.
    parts: Vec<Option<&'a [u8]>>,
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
pub(super) fn find<'a>(root: &Node, fields: usize, payload: &'a [u8]) -> Result<Found<'a>, DocumentError> {
    let payload = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    let found = Found { seen: vec![Seen::Nothing; root.end], parts: vec![None; fields] };
    let mut walk = Walk { scanner: Scanner::new(payload), found };
    walk.document(root).map_err(|error| describe(payload, &error))?;
    Ok(walk.found)
}

fn describe(payload: &[u8], error: &NotJson) -> DocumentError {
    let before = payload.get(..error.at).unwrap_or(payload);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    let text = payload.trim_ascii();
    let message = match text.get(..text.len().min(200)) {
        None | Some(b"") => "is empty; expected a JSON document".into(),
        Some(text) => {
            let end = if error.at >= payload.len() { ", where it ends" } else { "" };
            let begins = quote(&String::from_utf8_lossy(text));
            let expected = error.expected;
            format!("is no JSON: expected {expected} at line {line} column {column}{end}; it begins with {begins}")
        }
    };
    DocumentError { line, column, message }
}

struct Walk<'a> {
    scanner: Scanner<'a>,
    found: Found<'a>,
}

impl Walk<'_> {
    fn document(&mut self, root: &Node) -> Result<(), NotJson> {
        self.value(root)?;
        match self.scanner.next() {
            None => Ok(()),
            Some(_) => self.scanner.wrong("nothing behind the document"),
        }
    }

    /// The value of a node. Recurses as deep as the longest query has steps.
    fn value(&mut self, node: &Node) -> Result<(), NotJson> {
        if self.found.seen(node) != Seen::Nothing {
            self.found.forget(node);
        }
        let first = self.scanner.next();
        let start = self.scanner.at;
        let seen = match first {
            Some(b'{') => Seen::Object,
            Some(b'[') => Seen::Array,
            Some(b'n') => Seen::Null,
            _ => Seen::Scalar,
        };
        match seen {
            Seen::Object if !node.members.is_empty() => self.object(node)?,
            Seen::Array if !node.elements.is_empty() || !node.searches.is_empty() => self.array(node)?,
            _ => self.scanner.skip()?,
        }
        self.found.put(node, seen, self.scanner.since(start));
        Ok(())
    }

    fn object(&mut self, node: &Node) -> Result<(), NotJson> {
        let mut more = self.scanner.open(b'}')?;
        while more {
            let (name, escapes) = self.scanner.name()?;
            let child = match escapes {
                false => node.member(name),
                true => unescape(name).and_then(|name| node.member(name.as_bytes())),
            };
            match child {
                Some(child) => self.value(child)?,
                None => self.scanner.skip()?,
            }
            more = self.scanner.more(b'}')?;
        }
        Ok(())
    }

    fn array(&mut self, node: &Node) -> Result<(), NotJson> {
        let mut more = self.scanner.open(b']')?;
        let mut elements = node.elements.iter().peekable();
        let mut hits = vec![false; node.sought.hits];
        let mut unfound = node.searches.len();
        let mut index = 0;
        while more {
            let child = elements.next_if(|(wanted, _)| *wanted == index).map(|(_, node)| node);
            let first = self.scanner.next();
            let start = self.scanner.at;
            match child {
                Some(child) => self.value(child)?,
                None if unfound == 0 || first != Some(b'{') => self.scanner.skip()?,
                None => {}
            }
            if unfound > 0 && first == Some(b'{') {
                self.scanner.at = start;
                self.compare(&node.sought, &mut hits)?;
                let end = self.scanner.at;
                for search in &node.searches {
                    let all = hits.get(search.hits.clone()).is_some_and(|hits| hits.iter().all(|hit| *hit));
                    if all && self.found.seen(&search.node) == Seen::Nothing {
                        unfound -= 1;
                        self.scanner.at = start;
                        self.value(&search.node)?;
                        self.scanner.at = end;
                    }
                }
            }
            index += 1;
            more = self.scanner.more(b']')?;
        }
        Ok(())
    }

    /// Reads an object and notes which of its members equal what is sought.
    fn compare(&mut self, sought: &Sought, hits: &mut [bool]) -> Result<(), NotJson> {
        hits.fill(false);
        let mut more = self.scanner.open(b'}')?;
        while more {
            let (name, escapes) = self.scanner.name()?;
            let of = |name: &[u8]| sought.names.iter().find(|(own, _)| own.as_bytes() == name);
            let wanted = if escapes { unescape(name).and_then(|name| of(name.as_bytes())) } else { of(name) };
            self.scanner.next();
            let start = self.scanner.at;
            self.scanner.skip()?;
            if let Some((_, wanted)) = wanted {
                let raw = Raw::of_json(self.scanner.since(start));
                for Wanted { scalar, hit } in wanted {
                    if let Some(hit) = hits.get_mut(*hit) {
                        *hit = raw.as_ref().is_ok_and(|raw| scalar.equals(raw));
                    }
                }
            }
            more = self.scanner.more(b'}')?;
        }
        Ok(())
    }
}

/// A member name with its escapes read; `None`: they are no characters, and no query names it.
fn unescape(name: &[u8]) -> Option<String> {
    serde_json::from_slice(&[b"\"", name, b"\""].concat()).ok()
}

impl<'a> Found<'a> {
    fn seen(&self, node: &Node) -> Seen {
        self.seen.get(node.id).copied().unwrap_or(Seen::Nothing)
    }

    fn put(&mut self, node: &Node, what: Seen, json: &'a [u8]) {
        if let Some(seen) = self.seen.get_mut(node.id) {
            *seen = what;
        }
        for field in &node.fields {
            if let Some(part) = self.parts.get_mut(*field) {
                *part = Some(json);
            }
        }
    }

    /// A member is there again: what was found there before does not count.
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

    /// The part a query leads to.
    pub fn part(&self, field: usize, query: &Query, root: &Node) -> Result<Raw<'a>, Problem> {
        match self.parts.get(field) {
            Some(Some(json)) => Raw::of_json(json),
            _ => Err(self.explain(query, root)),
        }
    }

    /// Which step leads nowhere.
    fn explain(&self, query: &Query, root: &Node) -> Problem {
        let mut node = root;
        let mut start = 0;
        for part in query.parts() {
            let seen = self.seen(node);
            let child = node.child(&part.step);
            if let Some(child) = child.filter(|child| self.seen(child) != Seen::Nothing) {
                node = child;
                start = part.end;
                continue;
            }
            let within = query.text().get(..start).filter(|text| !text.is_empty()).unwrap_or("the document").into();
            let step = part.step.shown();
            let (right, wanted) = match part.step {
                Step::Member(_) => (Seen::Object, "an object"),
                Step::Element(_) | Step::Where(_) => (Seen::Array, "an array"),
            };
            return match seen {
                Seen::Null => Problem::NoValue,
                seen if seen == right => Problem::NotThere { step, within },
                Seen::Object => Problem::NotInside { step, within, found: "an object", wanted },
                Seen::Array => Problem::NotInside { step, within, found: "an array", wanted },
                Seen::Scalar | Seen::Nothing => Problem::NotInside { step, within, found: "a single value", wanted },
            };
        }
        Problem::NoValue
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

impl Scalar {
    /// Whether this is what stands there.
    fn equals(&self, raw: &Raw) -> bool {
        match (self, raw) {
            (Self::Null, Raw::Null) => true,
            (Self::Bool(own), Raw::Bool(other)) => own == other,
            (Self::Text(own), Raw::Text(other)) => **own == **other,
            (Self::Integer(own), Raw::Number(other)) => match other.parse::<i128>() {
                Ok(other) => *own == other,
                Err(_) => other.parse() == Ok(*own as f64),
            },
            (Self::Float(own), Raw::Number(other)) => other.parse() == Ok(*own),
            _ => false,
        }
    }
}
