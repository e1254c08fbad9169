//! The text of the file as a tree in which each value knows where it was written, with the `--set` overrides laid
//! over it. Knows TOML, and nothing of what the keys mean.

use std::fmt;
use std::str::FromStr;

use toml_edit::{Document, Item, Key, TableLike, Value};

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Line of the file, counted from 1.
    Line(usize),
    /// The override with this index.
    Set(usize),
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub place: Place,
    pub data: Data,
}

/// What TOML knows. Tables and arrays of tables are the same whether written inline or under headers.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// A date or time, as text.
    Date(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Data {
    /// What a message calls this value.
    pub fn describe(&self) -> String {
        match self {
            Data::Text(text) => format!("the text \"{}\"", shorten(text)),
            Data::Integer(number) => format!("the number {number}"),
            Data::Float(number) => format!("the number {number:?}"),
            Data::Bool(value) => format!("{value}"),
            Data::Date(text) => format!("the date {text}"),
            Data::List(items) => format!("a list of {}", items.len()),
            Data::Table(_) => "a table".into(),
        }
    }
}

/// At most 60 characters of a text for a message, with a password inside a URL left out.
pub(crate) fn shorten(text: &str) -> String {
    let text = super::url::redact(text);
    let mut short: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// A text that is no TOML.
pub(crate) struct Syntax {
    pub line: usize,
    pub message: String,
}

/// Parses a whole file.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, Node)>, Syntax> {
    let lines = Lines::of(text);
    let document = Document::parse(text).map_err(|error| Syntax {
        line: error.span().map_or(1, |span| lines.at(span.start)),
        message: error.message().lines().collect::<Vec<_>>().join("; "),
    })?;
    Ok(table(document.as_table(), &lines, 1))
}

/// Starts of the lines of a text.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { starts }
    }

    fn at(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }
}

fn table(table: &dyn TableLike, lines: &Lines, above: usize) -> Vec<(String, Node)> {
    let node = |(name, item): (&str, &Item)| {
        let span = table.key(name).and_then(Key::span).or_else(|| item.span());
        let line = span.map_or(above, |span| lines.at(span.start));
        Some((name.to_owned(), of_item(item, lines, line)?))
    };
    table.iter().filter_map(node).collect()
}

fn of_item(item: &Item, lines: &Lines, line: usize) -> Option<Node> {
    let data = match item {
        Item::None => return None,
        Item::Value(value) => return Some(of_value(value, lines, line)),
        Item::Table(inner) => Data::Table(table(inner, lines, line)),
        Item::ArrayOfTables(tables) => Data::List(
            tables
                .iter()
                .map(|inner| {
                    let line = inner.span().map_or(line, |span| lines.at(span.start));
                    Node { place: Place::Line(line), data: Data::Table(table(inner, lines, line)) }
                })
                .collect(),
        ),
    };
    Some(Node { place: Place::Line(line), data })
}

fn of_value(value: &Value, lines: &Lines, line: usize) -> Node {
    let line_of = |value: &Value| value.span().map_or(line, |span| lines.at(span.start));
    let data = match value {
        Value::String(text) => Data::Text(text.value().clone()),
        Value::Integer(number) => Data::Integer(*number.value()),
        Value::Float(number) => Data::Float(*number.value()),
        Value::Boolean(value) => Data::Bool(*value.value()),
        Value::Datetime(date) => Data::Date(date.value().to_string()),
        Value::Array(items) => Data::List(items.iter().map(|item| of_value(item, lines, line_of(item))).collect()),
        Value::InlineTable(inner) => Data::Table(table(inner, lines, line)),
    };
    Node { place: Place::Line(line), data }
}

/// One `--set key=value` of the command line. Stays in force across hot reloads and is never saved.
#[derive(Clone, Debug)]
pub struct Override {
    text: String,
    path: Vec<String>,
    value: Data,
}

/// A `--set` that is no `key=value`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--set {text}: {message}")]
pub struct BadOverride {
    text: String,
    message: String,
}

impl FromStr for Override {
    type Err = BadOverride;

    /// The value is read as TOML if it is TOML, else it is a text: `load.mode=observe`, `http.listen="[::1]:80"`,
    /// `device.E1.max_ma=8000`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |message: String| BadOverride { text: shorten(text), message };
        let (key, value) =
            text.split_once('=').ok_or_else(|| bad("expected key=value, like load.mode=observe".into()))?;
        let path = Key::parse(key.trim())
            .map_err(|_| bad(format!("\"{}\" is no key, a key looks like load.mode", key.trim())))?;
        let value = value.trim();
        let data = match value.parse::<Value>() {
            Ok(parsed) => of_value(&parsed, &Lines::of(value), 1).data,
            Err(_) => Data::Text(value.to_owned()),
        };
        Ok(Self { text: text.to_owned(), path: path.iter().map(|key| key.get().to_owned()).collect(), value: data })
    }
}

impl Override {
    /// Whether it speaks about this key, about a table the key is in, or about something in it.
    pub(crate) fn covers(&self, key: &[String]) -> bool {
        super::edit::overlap(&self.path, key)
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--set {}", shorten(&self.text))
    }
}

/// Lays `with` over the tree. Entries of `[[device]]` and `[[circuit]]` are addressed by their id; what is missing
/// on the way is created.
pub(crate) fn apply(root: &mut Vec<(String, Node)>, with: &Override, index: usize) -> Result<(), String> {
    let place = Place::Set(index);
    let mut value = with.value.clone();
    mark(&mut value, place);
    let mut path = with.path.iter().map(String::as_str).peekable();
    let Some(first) = path.next() else { return Err("the key is empty".into()) };
    if path.peek().is_none() {
        set(root, first, Node { place, data: value });
        return Ok(());
    }
    let mut table = match first {
        "device" | "circuit" => {
            let list = entry(root, first, || Node { place, data: Data::List(Vec::new()) });
            let Data::List(items) = &mut list.data else {
                return Err(format!("{first} is {}, not a list of tables", list.data.describe()));
            };
            let id = path.next().unwrap_or_default();
            by_id(items, id, place)?
        }
        _ => step(root, first, place)?,
    };
    loop {
        match (path.next(), path.peek().is_some()) {
            (Some(key), true) => table = step(table, key, place)?,
            (Some(key), false) => {
                set(table, key, Node { place, data: value });
                return Ok(());
            }
            (None, _) => return Err(format!("the key ends too early, expected {}.<key>", with.path.join("."))),
        }
    }
}

/// The values inside an override were written on the command line too.
fn mark(data: &mut Data, place: Place) {
    let mark_node = |node: &mut Node| {
        node.place = place;
        mark(&mut node.data, place);
    };
    match data {
        Data::List(items) => items.iter_mut().for_each(mark_node),
        Data::Table(entries) => entries.iter_mut().map(|(_, node)| node).for_each(mark_node),
        _ => {}
    }
}

fn set(table: &mut Vec<(String, Node)>, key: &str, node: Node) {
    table.retain(|(name, _)| name != key);
    table.push((key.to_owned(), node));
}

fn entry<'a>(table: &'a mut Vec<(String, Node)>, key: &str, new: impl FnOnce() -> Node) -> &'a mut Node {
    let at = table.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
        table.push((key.to_owned(), new()));
        table.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "the index was found or made in this very function")]
    &mut table[at].1
}

fn step<'a>(
    table: &'a mut Vec<(String, Node)>,
    key: &str,
    place: Place,
) -> Result<&'a mut Vec<(String, Node)>, String> {
    let node = entry(table, key, || Node { place, data: Data::Table(Vec::new()) });
    match &mut node.data {
        Data::Table(inner) => Ok(inner),
        other => Err(format!("{key} is {}, not a table", other.describe())),
    }
}

fn by_id<'a>(items: &'a mut Vec<Node>, id: &str, place: Place) -> Result<&'a mut Vec<(String, Node)>, String> {
    let has_id = |node: &Node| match &node.data {
        Data::Table(entries) => {
            entries.iter().any(|(name, value)| name == "id" && matches!(&value.data, Data::Text(text) if text == id))
        }
        _ => false,
    };
    let at = items.iter().position(has_id).unwrap_or_else(|| {
        let own_id = Node { place, data: Data::Text(id.to_owned()) };
        items.push(Node { place, data: Data::Table(vec![("id".to_owned(), own_id)]) });
        items.len() - 1
    });
    match items.get_mut(at).map(|node| &mut node.data) {
        Some(Data::Table(entries)) => Ok(entries),
        _ => Err(format!("{id} is no table")),
    }
}
