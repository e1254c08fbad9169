//! Finds where in the text a change belongs, and makes it there: a value, a line, a block under a header. Every other
//! byte of the text stays as it is.

use std::ops::Range;

use toml_edit::{ArrayOfTables, Document, DocumentMut, Item, Key, Table, TableLike, Value};

use super::inline;
use super::plain::Plain;
use super::splice::Splices;

/// One text that is being changed.
pub(super) struct Blocks<'t> {
    text: &'t str,
    document: &'t Document<&'t str>,
    /// Headers and keys with their values, as whole lines, in the order of the text.
    lines: Vec<Range<usize>>,
    pub splices: Splices<'t>,
}

/// Where a table's keys are written.
#[derive(Clone)]
struct Place<'t> {
    table: &'t Table,
    home: Home<'t>,
    /// `["device", "endpoint"]` of `[device.endpoint]`.
    header: Vec<String>,
    /// `["main"]` where the keys are written `main.url = …`.
    dotted: Vec<String>,
}

#[derive(Clone, Copy)]
enum Home<'t> {
    /// At the top of the file, before any header.
    Top,
    /// Below the header of this table.
    Header(&'t Table),
    /// Nowhere: only headers of tables below it are there.
    None,
}

impl<'t> Place<'t> {
    fn below(&self, key: &str, table: &'t Table) -> Self {
        let mut place = Self { table, ..self.clone() };
        if table.is_dotted() {
            place.dotted.push(key.to_owned());
            return place;
        }
        place.header.append(&mut place.dotted);
        place.header.push(key.to_owned());
        place.home = if has_header(table) { Home::Header(table) } else { Home::None };
        place
    }

    /// One entry of `[[key]]`.
    fn entry(&self, key: &str, table: &'t Table) -> Self {
        let mut place = self.below(key, table);
        place.home = Home::Header(table);
        place
    }
}

impl<'t> Blocks<'t> {
    pub fn new(text: &'t str, document: &'t Document<&'t str>) -> Self {
        let splices = Splices::of(text);
        let mut blocks = Self { text, document, lines: Vec::new(), splices };
        let mut lines = Vec::new();
        blocks.collect(document.as_table(), &mut lines);
        lines.sort_by_key(|line| line.start);
        blocks.lines = lines;
        blocks
    }

    fn root(&self) -> Place<'t> {
        Place { table: self.document.as_table(), home: Home::Top, header: Vec::new(), dotted: Vec::new() }
    }

    // === What is asked for ===

    pub fn set(&mut self, path: &[String], new: &Value) -> Result<(), String> {
        self.set_at(&self.root(), path, new)
    }

    fn set_at(&mut self, at: &Place<'t>, path: &[String], new: &Value) -> Result<(), String> {
        let [key, rest @ ..] = path else { return Err("the key ends too early".into()) };
        match at.table.get(key) {
            None | Some(Item::None) => {
                self.insert(at, vec![(path.to_vec(), Item::Value(new.clone()))]);
                Ok(())
            }
            Some(item) if rest.is_empty() => self.replace(at, key, item, &Item::Value(new.clone())),
            Some(Item::Value(value)) => self.within(value, |value| inline::set(value, rest, new)),
            Some(Item::Table(table)) => self.set_at(&at.below(key, table), rest, new),
            Some(Item::ArrayOfTables(list)) => match (find(list, rest.first()), rest) {
                (None, [_, ..]) => Err(super::NO_ENTRY.into()),
                (Some(table), [_, rest @ ..]) if !rest.is_empty() => self.set_at(&at.entry(key, table), rest, new),
                _ => Err("the key ends too early, expected one more part".into()),
            },
        }
    }

    pub fn remove(&mut self, path: &[String]) -> Result<(), String> {
        self.remove_at(&self.root(), path)
    }

    fn remove_at(&mut self, at: &Place<'t>, path: &[String]) -> Result<(), String> {
        let [key, rest @ ..] = path else { return Err("the key is empty".into()) };
        match at.table.get(key) {
            None | Some(Item::None) => Ok(()),
            Some(item) if rest.is_empty() => {
                self.cut(at.table, key, item);
                Ok(())
            }
            Some(Item::Value(value)) => self.within(value, |value| {
                inline::remove(value, rest);
                Ok(())
            }),
            Some(Item::Table(table)) => self.remove_at(&at.below(key, table), rest),
            Some(Item::ArrayOfTables(list)) => match (find(list, rest.first()), rest) {
                (None, _) => Ok(()),
                (Some(table), [_, rest @ ..]) if !rest.is_empty() => self.remove_at(&at.entry(key, table), rest),
                _ => Err("the key ends too early, expected one more part".into()),
            },
        }
    }

    pub fn put_entry(&mut self, list: &str, id: &str, entry: &Table) -> Result<(), String> {
        let root = self.root();
        match root.table.get(list) {
            None | Some(Item::None) => {
                self.splices.append(&block(&[list.to_owned()], entry));
                Ok(())
            }
            Some(Item::Value(value)) => self.within(value, |value| {
                let items = value.as_array_mut().ok_or("is a single value, not a list of tables")?;
                inline::put_entry(items, id, &Value::InlineTable(entry.clone().into_inline_table()));
                Ok(())
            }),
            Some(Item::Table(_)) => Err("is a table, not a list of tables".into()),
            Some(Item::ArrayOfTables(tables)) => match tables.iter().find(|table| has_id(table, id)) {
                Some(table) => self.sync(&root.entry(list, table), entry),
                None => {
                    let after = tables.iter().map(|table| self.end_of(table)).max().unwrap_or(self.text.len());
                    self.splices.insert_block(after, &block(&[list.to_owned()], entry));
                    Ok(())
                }
            },
        }
    }

    pub fn remove_entry(&mut self, list: &str, id: &str) -> Result<(), String> {
        match self.root().table.get(list) {
            Some(Item::Value(value)) => self.within(value, |value| {
                value.as_array_mut().into_iter().for_each(|items| inline::remove_entry(items, id));
                Ok(())
            }),
            Some(Item::ArrayOfTables(tables)) => {
                for table in tables.iter().filter(|table| has_id(table, id)) {
                    self.cut_table(table);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    // === How it is done ===

    /// Changes one value by rewriting its own text only.
    fn within(&mut self, value: &Value, change: impl FnOnce(&mut Value) -> Result<(), String>) -> Result<(), String> {
        let span = value.span().ok_or(UNPLACED)?;
        let written = self.text.get(span.clone()).ok_or(UNPLACED)?;
        let mut parsed: Value = written.parse().map_err(|_| UNPLACED)?;
        change(&mut parsed)?;
        if !Plain::of_value(&parsed).same(&Plain::of_value(value)) {
            let made = inline::bare(&parsed).to_string().replace("\r\n", "\n");
            self.splices.replace(span, self.splices.own_newlines(&made));
        }
        Ok(())
    }

    /// Makes the item at `key` say what `new` says.
    fn replace(&mut self, at: &Place<'t>, key: &str, item: &'t Item, new: &Item) -> Result<(), String> {
        let same = Plain::of_item(item).zip(Plain::of_item(new)).is_some_and(|(old, new)| old.same(&new));
        if same {
            return Ok(());
        }
        match item {
            Item::Value(value) => {
                let new = new.clone().into_value().map_err(|_| UNPLACED)?;
                self.within(value, |value| inline::set(value, &[], &new))
            }
            Item::Table(table) if new.is_table_like() => match new.as_table_like() {
                Some(new) => self.sync(&at.below(key, table), new),
                None => Ok(()),
            },
            Item::ArrayOfTables(list) if tables_of(new).is_some() => {
                self.sync_list(at, key, list, tables_of(new).unwrap_or_default())
            }
            other => {
                self.cut(at.table, key, other);
                self.insert(at, vec![(vec![key.to_owned()], new.clone())]);
                Ok(())
            }
        }
    }

    /// Makes a table say what `new` says.
    fn sync(&mut self, at: &Place<'t>, new: &dyn TableLike) -> Result<(), String> {
        for (key, item) in at.table.iter().filter(|(key, _)| !new.contains_key(key)) {
            self.cut(at.table, key, item);
        }
        let mut missing = Vec::new();
        for (key, item) in new.iter().filter(|(_, item)| !item.is_none()) {
            match at.table.get(key) {
                Some(old) if !old.is_none() => self.replace(at, key, old, item)?,
                _ => missing.push((vec![key.to_owned()], item.clone())),
            }
        }
        self.insert(at, missing);
        Ok(())
    }

    /// Makes a list of tables under headers say what `new` says: entries that keep their id and order are changed,
    /// others go and come.
    fn sync_list(&mut self, at: &Place<'t>, key: &str, list: &'t ArrayOfTables, new: Vec<Table>) -> Result<(), String> {
        let id = |table: &Table| table.get("id").and_then(Item::as_str).map(str::to_owned);
        let (old_ids, new_ids): (Vec<_>, Vec<_>) = (list.iter().map(id).collect(), new.iter().map(id).collect());
        let staying: Vec<_> = old_ids.iter().filter(|id| new_ids.contains(id)).collect();
        let unique = |ids: &[Option<String>]| {
            ids.iter().enumerate().all(|(at, id)| id.is_some() && !ids.iter().take(at).any(|other| other == id))
        };
        let in_order = unique(&old_ids) && unique(&new_ids) && new_ids.iter().take(staying.len()).eq(staying);
        let end = list.iter().map(|table| self.end_of(table)).max().unwrap_or(self.text.len());
        for (table, old_id) in list.iter().zip(&old_ids) {
            match new.iter().zip(&new_ids).find(|(_, id)| in_order && *id == old_id) {
                Some((new, _)) => self.sync(&at.entry(key, table), new)?,
                None => self.cut_table(table),
            }
        }
        let header = at.entry(key, at.table).header;
        for (table, _) in new.iter().zip(&new_ids).filter(|(_, id)| !in_order || !old_ids.contains(id)) {
            self.splices.insert_block(end, &block(&header, table));
        }
        Ok(())
    }

    /// Writes new keys into a table.
    fn insert(&mut self, at: &Place<'t>, new: Vec<(Vec<String>, Item)>) {
        if new.is_empty() {
            return;
        }
        let is_table = |path: &[String], item: &Item| path.len() > 1 || item.is_table_like();
        let first_header = match at.home {
            Home::Top if at.dotted.is_empty() && new.iter().all(|(path, item)| is_table(path, item)) => {
                new.into_iter().for_each(|(path, item)| self.new_table(&path, item));
                return;
            }
            Home::None => {
                let mut lines = Vec::new();
                self.collect(at.table, &mut lines);
                lines.iter().map(|line| line.start).min()
            }
            _ => None,
        };
        let statements: String =
            new.into_iter().map(|(path, item)| statement(at.dotted.iter().chain(&path), item)).collect();
        if let Some(before) = first_header {
            let header = format!("[{}]\n", name(at.header.iter()));
            self.splices.insert_before_block(before, &format!("{header}{statements}"));
            return;
        }
        let last = at.own_lines(self).map(|line| (line.end, self.indent(line.start))).max_by_key(|(end, _)| *end);
        let (after, indent) = match (last, at.home) {
            (Some(last), _) => last,
            (None, Home::Header(table)) => {
                let header = table.span().unwrap_or_default();
                (self.line_end(header.end), self.indent(header.start))
            }
            (None, _) => (self.splices.top(), String::new()),
        };
        let indented = statements.lines().map(|line| format!("{indent}{line}\n")).collect::<String>();
        // A text of several lines keeps its own beginning of lines.
        let whole = if statements.contains("\"\"\"") || statements.contains("'''") { statements } else { indented };
        self.splices.insert_lines(after, &whole);
    }

    /// A table of its own: before the first `[[…]]`, because those belong together, else at the end.
    fn new_table(&mut self, path: &[String], item: Item) {
        let [table, rest @ ..] = path else { return };
        let body: String = match (rest, item.as_table_like()) {
            ([], Some(inner)) => inner.iter().map(|(key, item)| statement([&key.to_owned()], item.clone())).collect(),
            _ => statement(rest.iter(), item),
        };
        let text = format!("[{}]\n{body}", name([table]));
        let lists = self.document.as_table().iter().filter_map(|(_, item)| item.as_array_of_tables());
        let first = lists.flat_map(|list| list.iter()).filter_map(Table::span).map(|span| span.start).min();
        match first {
            Some(before) => self.splices.insert_before_block(self.line_start(before), &text),
            None => self.splices.append(&text),
        }
    }

    /// Removes what is written at a key of a table.
    fn cut(&mut self, table: &'t Table, key: &str, item: &'t Item) {
        match item {
            Item::None => {}
            Item::Value(value) => {
                if let Some(line) = self.line_of(table.key(key), value) {
                    self.splices.cut(line);
                }
            }
            Item::Table(table) => self.cut_table(table),
            Item::ArrayOfTables(list) => list.iter().for_each(|table| self.cut_table(table)),
        }
    }

    /// Removes a table, with the comments in it unless something else stands between its parts.
    fn cut_table(&mut self, table: &'t Table) {
        let mut own = Vec::new();
        self.collect(table, &mut own);
        let (Some(start), Some(end)) = (own.iter().map(|l| l.start).min(), own.iter().map(|l| l.end).max()) else {
            return;
        };
        let foreign = self.lines.iter().any(|line| line.start >= start && line.start < end && !own.contains(line));
        if foreign {
            own.into_iter().for_each(|line| self.splices.cut(line));
        } else {
            self.splices.cut_block(start..end);
        }
    }

    /// Where a table with all below it ends.
    fn end_of(&self, table: &'t Table) -> usize {
        let mut lines = Vec::new();
        self.collect(table, &mut lines);
        lines.iter().map(|line| line.end).max().unwrap_or(self.text.len())
    }

    // === Lines ===

    /// The lines of a table and of all below it.
    fn collect(&self, table: &Table, lines: &mut Vec<Range<usize>>) {
        if has_header(table)
            && let Some(header) = table.span()
        {
            lines.push(self.line_start(header.start)..self.line_end(header.end));
        }
        for (key, item) in table.iter() {
            match item {
                Item::None => {}
                Item::Value(value) => lines.extend(self.line_of(table.key(key), value)),
                Item::Table(inner) => self.collect(inner, lines),
                Item::ArrayOfTables(list) => list.iter().for_each(|inner| self.collect(inner, lines)),
            }
        }
    }

    /// The whole lines of `key = value`.
    fn line_of(&self, key: Option<&Key>, value: &Value) -> Option<Range<usize>> {
        Some(self.line_start(key?.span()?.start)..self.line_end(value.span()?.end))
    }

    fn line_start(&self, at: usize) -> usize {
        let before = self.text.get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |newline| newline + 1).max(self.splices.top())
    }

    fn line_end(&self, at: usize) -> usize {
        let after = self.text.get(at..).unwrap_or_default();
        after.find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    fn indent(&self, at: usize) -> String {
        let line = self.text.get(self.line_start(at)..).unwrap_or_default();
        line.chars().take_while(|c| matches!(c, ' ' | '\t')).collect()
    }
}

impl<'t> Place<'t> {
    /// The lines of the table's own keys, not those below other headers.
    fn own_lines(&self, blocks: &Blocks<'t>) -> impl Iterator<Item = Range<usize>> {
        let mut lines = Vec::new();
        let mut tables = vec![self.table];
        while let Some(table) = tables.pop() {
            for (key, item) in table.iter() {
                match item {
                    Item::Value(value) => lines.extend(blocks.line_of(table.key(key), value)),
                    Item::Table(inner) if inner.is_dotted() => tables.push(inner),
                    _ => {}
                }
            }
        }
        lines.into_iter()
    }
}

const UNPLACED: &str = "this place of the file cannot be edited";

/// Only a header gives a table a position.
fn has_header(table: &Table) -> bool {
    table.position().is_some()
}

fn has_id(table: &Table, id: &str) -> bool {
    table.get("id").and_then(Item::as_str) == Some(id)
}

fn find<'t>(list: &'t ArrayOfTables, id: Option<&String>) -> Option<&'t Table> {
    list.iter().find(|table| id.is_some_and(|id| has_id(table, id)))
}

/// The entries, if the item is a list of tables however written.
fn tables_of(item: &Item) -> Option<Vec<Table>> {
    match item {
        Item::ArrayOfTables(list) => Some(list.iter().cloned().collect()),
        Item::Value(Value::Array(items)) if !items.is_empty() => {
            items.iter().map(|item| item.as_inline_table().map(|table| table.clone().into_table())).collect()
        }
        _ => None,
    }
}

/// `endpoint."the main one"`
fn name<'a>(path: impl IntoIterator<Item = &'a String>) -> String {
    let parts: Vec<String> = path.into_iter().map(|part| Key::new(part).display_repr().into_owned()).collect();
    parts.join(".")
}

fn statement<'a>(path: impl IntoIterator<Item = &'a String>, item: Item) -> String {
    let Ok(value) = item.into_value() else { return String::new() };
    format!("{} = {}\n", name(path), inline::bare(&value))
}

/// An entry under its header, `[[user]]`.
fn block(header: &[String], entry: &Table) -> String {
    // Written anew: what the caller's table says about places and blanks is of another text.
    let entry = Plain::of_table(entry).to_table();
    let [above @ .., list] = header else { return String::new() };
    let mut document = DocumentMut::new();
    let mut table = document.as_table_mut();
    for key in above {
        let mut inner = Table::new();
        inner.set_implicit(true);
        let item = table.entry(key).or_insert(Item::Table(inner));
        let Some(inner) = item.as_table_mut() else { return String::new() };
        table = inner;
    }
    let mut tables = ArrayOfTables::new();
    tables.push(entry);
    table.insert(list, Item::ArrayOfTables(tables));
    document.to_string()
}
