//! Changes the text of `ladekern.toml` and leaves everything else in it as a human wrote it: comments, order, blank
//! lines, the way each table is written. Pure: from a text and edits to a text.
//!
//! A change is made at its place and nowhere else, and afterwards both texts are compared as data: what comes out says
//! what was asked for, and else the same as before, or there is an error and no text.

mod blocks;
mod inline;
mod plain;
mod splice;
#[cfg(test)]
mod tests;

use toml_edit::{Document, Item};

use self::blocks::Blocks;
use self::plain::Plain;
use super::Edit;

/// Why an edit cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EditError {
    /// `device.E1.max_ma`; ids of users are left out.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

/// Makes the edits one after the other.
///
/// # Errors
/// The first edit that cannot be made; nothing is changed then.
pub(crate) fn edit(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    // Most calls bring edits of different keys, which are made in one go: reading a large file once for each of a
    // thousand variables would take seconds. Where two of them need the same new table, the first one makes it.
    if let Ok(made) = at_once(text, edits) {
        return Ok(made);
    }
    let [first, rest @ ..] = edits else { return Ok(text.to_owned()) };
    let mut text = alone(text, first)?;
    if let Ok(made) = at_once(&text, rest) {
        return Ok(made);
    }
    for edit in rest {
        text = alone(&text, edit)?;
    }
    Ok(text)
}

fn alone(text: &str, edit: &Edit) -> Result<String, EditError> {
    at_once(text, std::slice::from_ref(edit)).map_err(|message| EditError { key: key_of(edit), message })
}

/// Makes edits that have nothing to do with each other.
fn at_once(text: &str, edits: &[Edit]) -> Result<String, String> {
    let mut targets: Vec<Vec<String>> = edits.iter().map(target).collect();
    targets.sort();
    if targets.iter().zip(targets.iter().skip(1)).any(|(a, b)| b.starts_with(a)) {
        return Err("one edit is about a part of another one".into());
    }
    let document = parse(text)?;
    let mut wanted = Plain::of_table(document.as_table());
    let mut blocks = Blocks::new(text, &document);
    for edit in edits {
        wanted.apply(edit);
        match edit {
            Edit::Set { key, .. } if key.first().is_some_and(|list| is_missing_list(&document, list)) => {
                return Err(NO_ENTRY.into());
            }
            Edit::Set { key, value } => blocks.set(key, value)?,
            Edit::Remove { key } => blocks.remove(key)?,
            Edit::Entry { list, entry } => {
                let id = entry.get("id").and_then(Item::as_str).ok_or("the entry has no id")?;
                blocks.put_entry(list, id, entry)?;
            }
            Edit::RemoveEntry { list, id } => blocks.remove_entry(list, id)?,
        }
    }
    let made = blocks.splices.made();
    if made == text {
        return Ok(made);
    }
    // The last word has the data, so that a place nobody thought of is a message and not a spoiled file.
    let says = Plain::of_table(parse(&made).map_err(|_| UNUSUAL)?.as_table());
    if says.without_empty().same(&wanted.without_empty()) { Ok(made) } else { Err(UNUSUAL.into()) }
}

fn is_missing_list(document: &Document<&str>, key: &str) -> bool {
    plain::LISTS.contains(&key) && document.get(key).is_none()
}

const UNUSUAL: &str = "stands in the file in a way that can only be changed by hand";

fn parse(text: &str) -> Result<Document<&str>, String> {
    Document::parse(text).map_err(|error| format!("the file is no TOML: {}", error.message()))
}

/// The edits that make one text say what the other says, in no special wording. `None`: one of them is no TOML.
pub(crate) fn differences(before: &str, after: &str) -> Option<Vec<Edit>> {
    let data = |text| Some(Plain::of_table(Document::parse(text).ok()?.as_table()));
    Some(data(before)?.differences(&data(after)?))
}

/// What an edit is about: a key, or a list and an id.
pub(crate) fn target(edit: &Edit) -> Vec<String> {
    match edit {
        Edit::Set { key, .. } | Edit::Remove { key } => key.clone(),
        Edit::Entry { list, entry } => {
            let id = entry.get("id").and_then(Item::as_str).unwrap_or_default();
            vec![(*list).to_owned(), id.to_owned()]
        }
        Edit::RemoveEntry { list, id } => vec![(*list).to_owned(), id.clone()],
    }
}

/// The keys an edit gives values, one by one.
pub(crate) fn leaves(edit: &Edit) -> Vec<Vec<String>> {
    let path = target(edit);
    match edit {
        Edit::Entry { entry, .. } => {
            let below = entry.iter().map(|(key, _)| path.iter().cloned().chain([key.to_owned()]).collect());
            below.collect()
        }
        _ => vec![path],
    }
}

/// Whether one of them is the other or lies below it.
pub(crate) fn overlap(a: &[String], b: &[String]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// A key for messages. Ids of users are PINs and do not belong there.
pub(crate) fn key_of(edit: &Edit) -> String {
    name_of(&target(edit))
}

/// As [`key_of`].
pub(crate) fn name_of(path: &[String]) -> String {
    // A name may be a URL with a password.
    let mut parts: Vec<String> = path.iter().map(|part| super::tree::shorten(part)).collect();
    if let [list, id, ..] = parts.as_mut_slice()
        && list == "user"
    {
        *id = "***".into();
    }
    parts.join(".")
}

/// Without the id, which may be a PIN.
const NO_ENTRY: &str = "there is no entry with this id";
