//! What a TOML text says, without how it is written: to tell whether two texts say the same, and in what they differ.

use toml_edit::{ArrayOfTables, Datetime, InlineTable, Item, Table, TableLike, Value};

use crate::config::Edit;

/// The lists of the file whose entries have ids.
pub(super) const LISTS: [&str; 3] = ["device", "circuit", "user"];

/// A value. Tables keep the order of the file, which does not count in comparisons.
#[derive(Clone, Debug)]
pub(super) enum Plain {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Date(Datetime),
    List(Vec<Plain>),
    Table(Vec<(String, Plain)>),
}

impl Plain {
    pub fn of_table(table: &dyn TableLike) -> Self {
        let entries = table.iter().filter_map(|(key, item)| Some((key.to_owned(), Self::of_item(item)?)));
        Self::Table(entries.collect())
    }

    pub fn of_item(item: &Item) -> Option<Self> {
        match item {
            Item::None => None,
            Item::Value(value) => Some(Self::of_value(value)),
            Item::Table(table) => Some(Self::of_table(table)),
            Item::ArrayOfTables(list) => Some(Self::List(list.iter().map(|table| Self::of_table(table)).collect())),
        }
    }

    pub fn of_value(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text.value().clone()),
            Value::Integer(number) => Self::Integer(*number.value()),
            Value::Float(number) => Self::Float(*number.value()),
            Value::Boolean(value) => Self::Bool(*value.value()),
            Value::Datetime(date) => Self::Date(*date.value()),
            Value::Array(items) => Self::List(items.iter().map(Self::of_value).collect()),
            Value::InlineTable(table) => Self::of_table(table),
        }
    }

    pub fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Integer(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Bool(value) => (*value).into(),
            Self::Date(date) => (*date).into(),
            Self::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Self::Table(entries) => {
                let entries = entries.iter().map(|(key, value)| (key.clone(), value.to_value()));
                Value::InlineTable(entries.collect::<InlineTable>())
            }
        }
    }

    /// As an entry of a list under headers.
    pub fn to_table(&self) -> Table {
        let mut table = Table::new();
        for (key, value) in self.entries() {
            let item = match value {
                Self::List(items) if !items.is_empty() && items.iter().all(|item| matches!(item, Self::Table(_))) => {
                    Item::ArrayOfTables(items.iter().map(Self::to_table).collect::<ArrayOfTables>())
                }
                other => Item::Value(other.to_value()),
            };
            table.insert(key, item);
        }
        table
    }

    fn entries(&self) -> &[(String, Plain)] {
        match self {
            Self::Table(entries) => entries,
            _ => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Plain> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// `id` of an entry of a list.
    pub fn id(&self) -> Option<&str> {
        match self.get("id") {
            Some(Self::Text(id)) => Some(id),
            _ => None,
        }
    }

    /// Whether both say the same. Whole numbers and such with a point are the same kind of number.
    pub fn same(&self, other: &Plain) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Date(a), Self::Date(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits() || a == b,
            #[expect(clippy::cast_precision_loss, reason = "a number beyond 2^53 written both ways is the same")]
            (Self::Float(a), Self::Integer(b)) | (Self::Integer(b), Self::Float(a)) => *a == *b as f64,
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Self::Table(a), Self::Table(b)) => {
                let has = |table: &Plain, key: &str, value: &Plain| table.get(key).is_some_and(|own| own.same(value));
                a.len() == b.len() && b.iter().all(|(key, value)| has(self, key, value))
            }
            _ => false,
        }
    }

    /// Without empty tables and lists, which a text may have or not have as its form wants it.
    pub fn without_empty(self) -> Self {
        match self {
            Self::List(items) => Self::List(items.into_iter().map(Self::without_empty).collect()),
            Self::Table(entries) => {
                let entries = entries.into_iter().map(|(key, value)| (key, value.without_empty()));
                Self::Table(entries.filter(|(_, value)| !value.is_empty()).collect())
            }
            other => other,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::List(items) => items.is_empty(),
            Self::Table(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// Does to the data what the edit does to the text. What cannot be is left undone; the text's editor reports it.
    pub fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Set { key, value } => self.set(key, Self::of_value(value)),
            Edit::Remove { key } => self.remove(key),
            Edit::Entry { list, entry } => {
                let entry = Self::of_table(entry);
                let Some(id) = entry.id().map(str::to_owned) else { return };
                let Some(Self::List(items)) = self.entry(list, || Self::List(Vec::new())) else { return };
                match items.iter_mut().find(|item| item.id() == Some(id.as_str())) {
                    Some(old) => *old = entry,
                    None => items.push(entry),
                }
            }
            Edit::RemoveEntry { list, id } => {
                let Some(Self::List(items)) = self.entry(list, || Self::List(Vec::new())) else { return };
                items.retain(|item| item.id() != Some(id.as_str()));
            }
        }
    }

    fn entry(&mut self, key: &str, new: impl FnOnce() -> Plain) -> Option<&mut Plain> {
        let Self::Table(entries) = self else { return None };
        if !entries.iter().any(|(name, _)| name == key) {
            entries.push((key.to_owned(), new()));
        }
        entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    fn set(&mut self, path: &[String], new: Plain) {
        let [key, rest @ ..] = path else {
            // A whole number stays one if it says the same.
            if !self.same(&new) {
                *self = new;
            }
            return;
        };
        match self {
            Self::List(items) => {
                let item = items.iter_mut().find(|item| item.id() == Some(key));
                item.into_iter().for_each(|item| item.set(rest, new.clone()));
            }
            _ => {
                let start = if rest.is_empty() { new.clone() } else { Self::Table(Vec::new()) };
                if let Some(inner) = self.entry(key, || start) {
                    inner.set(rest, new);
                }
            }
        }
    }

    fn remove(&mut self, path: &[String]) {
        let [key, rest @ ..] = path else { return };
        match self {
            Self::List(items) => {
                let item = items.iter_mut().find(|item| item.id() == Some(key));
                item.into_iter().for_each(|item| item.remove(rest));
            }
            Self::Table(entries) if rest.is_empty() => entries.retain(|(name, _)| name != key),
            Self::Table(entries) => {
                let inner = entries.iter_mut().find(|(name, _)| name == key);
                inner.into_iter().for_each(|(_, inner)| inner.remove(rest));
            }
            _ => {}
        }
    }

    /// The edits that make `after` of `self`.
    pub fn differences(&self, after: &Plain) -> Vec<Edit> {
        let mut edits = Vec::new();
        self.differ(after, &mut Vec::new(), &mut edits);
        edits
    }

    fn differ(&self, after: &Plain, path: &mut Vec<String>, edits: &mut Vec<Edit>) {
        if self.same(after) {
            return;
        }
        if let (Self::List(before), Self::List(now), [name]) = (self, after, path.as_slice())
            && let Some(list) = LISTS.into_iter().find(|list| *list == name)
            && has_ids(before)
            && has_ids(now)
        {
            differ_list(list, before, now, path, edits);
            return;
        }
        let (Self::Table(before), Self::Table(now)) = (self, after) else {
            edits.push(Edit::Set { key: path.clone(), value: after.to_value() });
            return;
        };
        for (key, _) in before.iter().filter(|(key, _)| after.get(key).is_none()) {
            path.push(key.clone());
            // A list that is gone has lost its entries one by one.
            match self.get(key) {
                Some(Self::List(entries)) if path.len() == 1 && has_ids(entries) && !entries.is_empty() => {
                    Self::List(entries.clone()).differ(&Self::List(Vec::new()), path, edits);
                }
                _ => edits.push(Edit::Remove { key: path.clone() }),
            }
            path.pop();
        }
        for (key, value) in now {
            path.push(key.clone());
            match (self.get(key), value) {
                (Some(old), value) => old.differ(value, path, edits),
                (None, Self::List(_)) if path.len() == 1 => Self::List(Vec::new()).differ(value, path, edits),
                // Leaf by leaf, so that two who make the same table do not exclude each other.
                (None, Self::Table(inner)) if !inner.is_empty() => Self::Table(Vec::new()).differ(value, path, edits),
                (None, value) => edits.push(Edit::Set { key: path.clone(), value: value.to_value() }),
            }
            path.pop();
        }
    }
}

/// Whether every entry has an id, each its own.
fn has_ids(items: &[Plain]) -> bool {
    let ids: std::collections::BTreeSet<&str> = items.iter().filter_map(Plain::id).collect();
    ids.len() == items.len()
}

fn differ_list(list: &'static str, before: &[Plain], now: &[Plain], path: &mut Vec<String>, edits: &mut Vec<Edit>) {
    let find = |items: &[Plain], id: &str| items.iter().find(|item| item.id() == Some(id)).cloned();
    for id in before.iter().filter_map(Plain::id).filter(|id| find(now, id).is_none()) {
        edits.push(Edit::RemoveEntry { list, id: id.to_owned() });
    }
    for item in now {
        let Some(id) = item.id() else { continue };
        match find(before, id) {
            Some(old) => {
                path.push(id.to_owned());
                old.differ(item, path, edits);
                path.pop();
            }
            None => edits.push(Edit::Entry { list, entry: item.to_table() }),
        }
    }
}
