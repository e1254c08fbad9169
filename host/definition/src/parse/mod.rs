//! From the text of a definition file to a [`Definition`], or to everything that is wrong with it: all mistakes of a
//! file together, each with its line, column and key, and with what would be right.
//!
//! The format is that of `cfos-interfaces.md` section 2, described for users in `docs/definitions.md`. It is read as
//! JSON5: comments, hexadecimal numbers, trailing commas, keys without quotes.

mod fields;
mod finding;
mod head;
mod keys;
mod names;
mod schema;
mod source;

#[cfg(test)]
mod tests;
mod text;
mod units;
mod variable;

use crate::Definition;

pub use finding::Finding;
pub use schema::schema;

/// A definition, and what is doubtful about its file.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// What the file says.
    pub definition: Definition,
    /// In the order of the file.
    pub warnings: Vec<Finding>,
}

/// Reads the text of a definition file. `file` is only named in findings.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn parse(file: &str, text: &str) -> Result<Parsed, Vec<Finding>> {
    let Checked { definition, errors, warnings } = check(file, text);
    definition.map(|definition| Parsed { definition, warnings }).ok_or(errors)
}

/// What is to be said about a file, right or wrong.
#[derive(Clone, Debug)]
pub struct Checked {
    /// There if there are no errors.
    pub definition: Option<Definition>,
    /// In the order of the file.
    pub errors: Vec<Finding>,
    /// In the order of the file.
    pub warnings: Vec<Finding>,
}

/// Like [`parse`], with the warnings of a file that also has errors.
#[must_use]
pub fn check(file: &str, text: &str) -> Checked {
    // Some editors of Windows begin files with a mark of the encoding.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut report = finding::Report::default();
    let definition = text::read(text, &mut report).and_then(|object| head::read(text, &object, &mut report));
    let (errors, warnings) = report.finish(file, text);
    Checked { definition: definition.filter(|_| errors.is_empty()), errors, warnings }
}
