//! Reads tables of the tree key by key, gathers every mistake, and notices at the end which keys nobody asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ladekern_definition::Formula;

use super::error::ConfigError;
use super::tree::{Data, Node, Override, Place};
use super::types::RulePlaces;

/// What all tables of one parse share.
pub(crate) struct Context<'a> {
    pub file: &'a str,
    pub overrides: &'a [Override],
    errors: RefCell<Vec<(usize, ConfigError)>>,
    /// Every key that was asked for, `device.max_ma`: what this version accepts.
    asked: RefCell<BTreeSet<String>>,
    /// Where charging rules are written, by key.
    rules: RefCell<BTreeMap<String, RulePlaces>>,
}

impl<'a> Context<'a> {
    pub fn new(file: &'a str, overrides: &'a [Override]) -> Self {
        Self { file, overrides, errors: RefCell::default(), asked: RefCell::default(), rules: RefCell::default() }
    }

    pub fn error(&self, place: Place, key: impl Into<String>, message: impl Into<String>) {
        let order = match place {
            Place::Line(line) => line,
            Place::Set(_) => usize::MAX,
        };
        let error = ConfigError { place: self.place(place), key: key.into(), message: message.into() };
        self.errors.borrow_mut().push((order, error));
    }

    /// A place as messages name it.
    pub fn place(&self, place: Place) -> String {
        match place {
            Place::Line(line) => format!("{}:{line}", self.file),
            Place::Set(index) => self.overrides.get(index).map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Remembers where charging rules are written.
    pub fn note_rules(&self, key: String, places: RulePlaces) {
        self.rules.borrow_mut().insert(key, places);
    }

    /// Where charging rules are written, by key.
    pub fn rules(&self) -> BTreeMap<String, RulePlaces> {
        self.rules.borrow().clone()
    }

    /// All mistakes in the order of the file, those of `--set` last; and the keys that were asked for.
    pub fn into_parts(self) -> (Vec<ConfigError>, BTreeSet<String>) {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|(order, _)| *order);
        (errors.into_iter().map(|(_, error)| error).collect(), self.asked.into_inner())
    }
}

/// One table that is being read.
pub(crate) struct Reader<'a> {
    context: &'a Context<'a>,
    /// `device.E1`, for messages.
    path: String,
    /// `device`, the same for all devices.
    kind: String,
    entries: &'a [(String, Node)],
    pub place: Place,
    asked: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub fn new(
        context: &'a Context<'a>,
        path: impl Into<String>,
        kind: impl Into<String>,
        entries: &'a [(String, Node)],
        place: Place,
    ) -> Self {
        Self { context, path: path.into(), kind: kind.into(), entries, place, asked: Vec::new() }
    }

    /// Gives the table a better name for messages, once its id is known.
    pub fn rename(&mut self, path: String) {
        self.path = path;
    }

    /// `device.E1.max_ma`
    pub fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes the node of a key, if the file has it.
    pub fn node(&mut self, name: &'static str) -> Option<&'a Node> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
            let full = if self.kind.is_empty() { name.to_owned() } else { format!("{}.{name}", self.kind) };
            self.context.asked.borrow_mut().insert(full);
        }
        self.peek(name)
    }

    /// Looks at the node of a key without asking for it.
    pub fn peek(&self, name: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(key, _)| key == name).map(|(_, node)| node)
    }

    /// Where a key is written, or the table if it is not.
    pub fn place_of(&self, name: &str) -> Place {
        self.peek(name).map_or(self.place, |node| node.place)
    }

    /// Reads a key. `None`: absent, or wrong and reported.
    pub fn read<T>(&mut self, name: &'static str, parse: impl FnOnce(&'a Node) -> Result<T, String>) -> Option<T> {
        let node = self.node(name)?;
        match parse(node) {
            Ok(value) => Some(value),
            Err(message) => {
                self.context.error(node.place, self.key(name), message);
                None
            }
        }
    }

    /// Reads the name of a file; a relative one is relative to the folder of the configuration file.
    pub fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        let folder = Path::new(self.context.file).parent().unwrap_or(Path::new(""));
        self.read(name, |node| match text(node)? {
            "" => Err("is empty; expected the name of a file".into()),
            file => Ok(folder.join(file)),
        })
    }

    /// Two keys of which neither makes sense without the other.
    pub fn together(&self, a: &str, b: &str) {
        if self.peek(a).is_some() != self.peek(b).is_some() {
            let given = if self.peek(a).is_some() { a } else { b };
            self.error(given, format!("{a} and {b} belong together"));
        }
    }

    /// The tables of a list of tables, `[[device]]`.
    pub fn tables(&mut self, name: &'static str) -> Vec<(Place, &'a [(String, Node)])> {
        let Some(node) = self.node(name) else { return Vec::new() };
        let Data::List(items) = &node.data else {
            self.error(name, format!("expected [[{name}]] tables, found {}", node.data.describe()));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            match &item.data {
                Data::Table(entries) => tables.push((item.place, entries.as_slice())),
                other => self.context.error(
                    item.place,
                    self.key(name),
                    format!("expected a table, found {}", other.describe()),
                ),
            }
        }
        tables
    }

    /// A table below this one; an absent one reads as empty.
    pub fn table(&mut self, name: &'static str) -> Reader<'a> {
        let kind = if self.kind.is_empty() { name.to_owned() } else { format!("{}.{name}", self.kind) };
        let key = self.key(name);
        let (entries, place): (&[_], _) = match self.node(name) {
            None => (&[], self.place),
            Some(node) => match &node.data {
                Data::Table(entries) => (entries, node.place),
                other => {
                    self.error(name, format!("expected a table, found {}", other.describe()));
                    (&[], node.place)
                }
            },
        };
        Reader::new(self.context, key, kind, entries, place)
    }

    /// Reports a mistake at a key (or at the table, where the key is missing).
    pub fn error(&self, name: &str, message: impl Into<String>) {
        self.context.error(self.place_of(name), self.key(name), message);
    }

    pub fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// The entries of a free-form table with their places.
    pub fn entries(&self) -> &'a [(String, Node)] {
        self.entries
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        for (name, node) in self.entries {
            if self.asked.contains(&name.as_str()) {
                continue;
            }
            let message = match nearest(name, &self.asked) {
                Some(known) => format!("unknown key, did you mean \"{known}\"?"),
                None => format!("unknown key, known here are: {}", self.known()),
            };
            self.context.error(node.place, self.key(name), message);
        }
    }

    fn known(&self) -> String {
        let mut names = self.asked.clone();
        names.sort_unstable();
        names.join(", ")
    }
}

/// The known name that is at most a third of its length away.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, best) = known.iter().map(|candidate| (edit_distance(name, candidate), *candidate)).min()?;
    (distance <= (best.chars().count().max(3) / 3)).then_some(best)
}

/// Insertions, deletions, replacements and swaps of neighbours that make `b` of `a`.
fn edit_distance(a: &str, b: &str) -> usize {
    // A key of a megabyte resembles nothing; do not compute for minutes to find that out.
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = (cell(&row, j) + usize::from(ca != cb)).min(cell(&row, j + 1) + 1).min(cell(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca);
            if swapped {
                best = best.min(cell(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

// === Values ===

pub(crate) fn text(node: &Node) -> Result<&str, String> {
    match &node.data {
        Data::Text(text) => Ok(text),
        other => Err(format!("expected a text in quotes, found {}", other.describe())),
    }
}

pub(crate) fn owned(node: &Node) -> Result<String, String> {
    text(node).map(str::to_owned)
}

pub(crate) fn boolean(node: &Node) -> Result<bool, String> {
    match &node.data {
        Data::Bool(value) => Ok(*value),
        other => Err(format!("expected true or false, found {}", other.describe())),
    }
}

/// A formula; an empty text is none.
pub(crate) fn optional_formula(node: &Node) -> Result<Option<Formula>, String> {
    match text(node)? {
        "" => Ok(None),
        text => formula(text).map(Some),
    }
}

/// A formula.
///
/// # Errors
/// Where in the text it goes wrong, what is wrong there and what would be right.
pub fn formula(text: &str) -> Result<Formula, String> {
    Formula::parse(text).map_err(|error| {
        let before = text.get(..error.offset).unwrap_or(text);
        format!("the formula goes wrong at character {}: {}", before.chars().count() + 1, error.message)
    })
}

/// A whole number in `range`.
pub(crate) fn number<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&Node) -> Result<T, String> {
    move |node| {
        let wanted = || format!("expected a whole number from {} to {}", range.start(), range.end());
        match &node.data {
            Data::Integer(number) if range.contains(number) => {
                T::try_from(*number).map_err(|_| format!("{}, found {number}", wanted()))
            }
            other => Err(format!("{}, found {}", wanted(), other.describe())),
        }
    }
}

/// One number for each of L1, L2, L3.
pub(crate) fn three_phases(node: &Node) -> Result<[u32; 3], String> {
    let wanted = "expected three whole numbers in mA for L1, L2, L3, like [35000, 35000, 35000]";
    let Data::List(items) = &node.data else { return Err(format!("{wanted}, found {}", node.data.describe())) };
    let numbers: Result<Vec<u32>, String> = items.iter().map(number(0..=10_000_000)).collect();
    let numbers = numbers.map_err(|why| format!("{wanted}; {why}"))?;
    <[u32; 3]>::try_from(numbers).map_err(|numbers| format!("{wanted}, found {} numbers", numbers.len()))
}

/// A count of bytes: a number, or a text like "8MiB".
pub(crate) fn size(range: RangeInclusive<i64>) -> impl Fn(&Node) -> Result<u64, String> {
    move |node| {
        let Data::Text(text) = &node.data else { return number(range.clone())(node) };
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at_checked(split).unwrap_or((text, ""));
        let factor = match unit.trim() {
            "" | "B" => Some(1_u64),
            "kB" => Some(1_000),
            "KiB" => Some(1 << 10),
            "MB" => Some(1_000_000),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let bytes = digits.parse::<u64>().ok().zip(factor).and_then(|(n, factor)| n.checked_mul(factor));
        bytes.filter(|bytes| i64::try_from(*bytes).is_ok_and(|bytes| range.contains(&bytes))).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            format!("expected a size like \"8MiB\" or \"64KiB\", {low} to {high} bytes, found {}", node.data.describe())
        })
    }
}

/// Any value as JSON.
pub(crate) fn json(node: &Node) -> Result<serde_json::Value, String> {
    use serde_json::Value as Json;
    Ok(match &node.data {
        Data::Text(text) | Data::Date(text) => Json::String(text.clone()),
        Data::Integer(number) => Json::from(*number),
        Data::Float(number) => {
            serde_json::Number::from_f64(*number).map(Json::Number).ok_or("infinity and nan cannot be passed on")?
        }
        Data::Bool(value) => Json::Bool(*value),
        Data::List(items) => Json::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        Data::Table(entries) => Json::Object(
            entries.iter().map(|(key, node)| Ok((key.clone(), json(node)?))).collect::<Result<_, String>>()?,
        ),
    })
}
