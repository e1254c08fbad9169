//! Changes inside one value, `endpoint.main = { … }` or `limit_ma = [ … ]`, which keep how the rest of it is written.

use toml_edit::{Array, Decor, InlineTable, Value};

use super::plain::Plain;

/// Gives a key inside the value another value; tables on the way are created.
pub(super) fn set(value: &mut Value, path: &[String], new: &Value) -> Result<(), String> {
    let [key, rest @ ..] = path else {
        become_value(value, new);
        return Ok(());
    };
    match value {
        Value::InlineTable(table) => match table.get_mut(key) {
            Some(inner) => set(inner, rest, new),
            None => {
                insert(
                    table,
                    key,
                    rest.iter().rev().fold(new.clone(), |inner, key| {
                        let mut table = InlineTable::new();
                        table.insert(key, inner.decorated(" ", " "));
                        Value::InlineTable(table)
                    }),
                );
                Ok(())
            }
        },
        Value::Array(items) => match by_id(items, key) {
            Some(inner) if !rest.is_empty() => set(inner, rest, new),
            Some(_) => Err("the key ends too early, expected one more part".into()),
            None => Err(super::NO_ENTRY.into()),
        },
        _ => Err("is a single value, not a table".into()),
    }
}

/// Removes a key inside the value; one that is not there is fine.
pub(super) fn remove(value: &mut Value, path: &[String]) {
    let [key, rest @ ..] = path else { return };
    match value {
        Value::InlineTable(table) if rest.is_empty() => remove_key(table, key),
        Value::InlineTable(table) => {
            if let Some(inner) = table.get_mut(key) {
                remove(inner, rest);
            }
        }
        Value::Array(items) => {
            if let Some(inner) = by_id(items, key) {
                remove(inner, rest);
            }
        }
        _ => {}
    }
}

/// Puts an entry into a list that is written as one value.
pub(super) fn put_entry(items: &mut Array, id: &str, new: &Value) {
    match by_id(items, id) {
        Some(old) => become_value(old, new),
        None => push(items, new),
    }
}

/// Takes an entry out of a list that is written as one value.
pub(super) fn remove_entry(items: &mut Array, id: &str) {
    let start = items.iter().next().map(|first| prefix(first.decor()).to_owned());
    items.retain(|item| Plain::of_value(item).id() != Some(id));
    if let (Some(start), Some(first)) = (start, items.iter_mut().next()) {
        first.decor_mut().set_prefix(start);
    }
}

fn by_id<'a>(items: &'a mut Array, id: &str) -> Option<&'a mut Value> {
    items.iter_mut().find(|item| Plain::of_value(item).id() == Some(id))
}

/// Makes `old` say what `new` says; what says the same already stays as it is written.
fn become_value(old: &mut Value, new: &Value) {
    if Plain::of_value(old).same(&Plain::of_value(new)) {
        return;
    }
    match (&mut *old, new) {
        (Value::InlineTable(old), Value::InlineTable(new)) => {
            let gone: Vec<String> =
                old.iter().map(|(key, _)| key.to_owned()).filter(|k| !new.contains_key(k)).collect();
            gone.iter().for_each(|key| remove_key(old, key));
            for (key, value) in new.iter() {
                match old.get_mut(key) {
                    Some(inner) => become_value(inner, value),
                    None => insert(old, key, value.clone()),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            old.iter_mut().zip(new.iter()).for_each(|(old, new)| become_value(old, new));
            for value in new.iter().skip(old.len()) {
                push(old, value);
            }
            shorten(old, new.len());
        }
        (old, new) => {
            let decor = old.decor().clone();
            *old = bare(new);
            *old.decor_mut() = decor;
        }
    }
}

/// Takes elements off the end; comments that stood beside them stay in the list.
fn shorten(items: &mut Array, len: usize) {
    let mut kept = String::new();
    while items.len() > len {
        let gone = items.remove(items.len() - 1);
        let beside = format!("{}{}", prefix(gone.decor()), suffix(gone.decor()));
        if beside.contains('#') {
            kept.insert_str(0, &beside);
        }
    }
    if !kept.is_empty() {
        let trailing = items.trailing().as_str().unwrap_or_default();
        let trailing =
            if trailing.contains('\n') { format!("{kept}{trailing}") } else { format!("{kept}\n{trailing}") };
        items.set_trailing(trailing);
    }
}

/// The value without what its writer put around it.
pub(super) fn bare(value: &Value) -> Value {
    value.clone().decorated("", "")
}

fn prefix(decor: &Decor) -> &str {
    decor.prefix().and_then(|raw| raw.as_str()).unwrap_or_default()
}

fn suffix(decor: &Decor) -> &str {
    decor.suffix().and_then(|raw| raw.as_str()).unwrap_or_default()
}

/// Adds a key at the end; the blank before the closing brace stays there.
fn insert(table: &mut InlineTable, key: &str, value: Value) {
    let last = table.iter_mut().last().map(|(_, value)| {
        let space = suffix(value.decor()).to_owned();
        value.decor_mut().set_suffix("");
        space
    });
    let space = last.unwrap_or_else(|| " ".into());
    table.insert(key, bare(&value).decorated(" ", space));
}

/// Removes a key; the blank before the closing brace stays there.
fn remove_key(table: &mut InlineTable, key: &str) {
    let last = table.iter().last().map(|(key, value)| (key.to_owned(), suffix(value.decor()).to_owned()));
    table.remove(key);
    if let Some((_, space)) = last.filter(|(last, _)| last == key)
        && let Some((_, value)) = table.iter_mut().last()
    {
        value.decor_mut().set_suffix(space);
    }
}

/// Adds an element at the end, on a line of its own where the others have lines of their own.
fn push(items: &mut Array, value: &Value) {
    let Some(last) = items.iter_mut().last() else {
        items.push_formatted(bare(value));
        return;
    };
    let before = prefix(last.decor());
    let indent = before.rfind('\n').and_then(|at| before.get(at..)).map_or_else(
        || " ".to_owned(),
        |indent| {
            if before.contains("\r\n") { format!("\r{indent}") } else { indent.to_owned() }
        },
    );
    let space = suffix(last.decor()).to_owned();
    // A comment after the last element stays with it.
    let (own, space) = if space.contains('#') { (space, String::new()) } else { (String::new(), space) };
    last.decor_mut().set_suffix(own);
    items.push_formatted(bare(value).decorated(indent, space));
}
