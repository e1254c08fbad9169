//! What is said about a file: where, which key, and what would be right. Findings are collected by byte and get their
//! lines and columns at the end, all in one walk, so that ten thousand of them cost no more than one.

use std::fmt;

use serde::Serialize;

/// One mistake or doubt in a definition file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// Path of the key, `power_w.address`; empty: the file as a whole.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, key, message } = self;
        write!(f, "{file}:{line}:{column}: ")?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        f.write_str(message)
    }
}

/// Collects what is found while a file is read.
#[derive(Debug, Default)]
pub(super) struct Report {
    errors: Vec<Raw>,
    warnings: Vec<Raw>,
}

#[derive(Debug)]
struct Raw {
    offset: usize,
    key: String,
    message: String,
}

impl Report {
    /// A mistake at a byte of the text.
    pub(super) fn error(&mut self, offset: usize, key: impl Into<String>, message: impl Into<String>) {
        self.errors.push(Raw { offset, key: key.into(), message: message.into() });
    }

    /// A doubt at a byte of the text.
    pub(super) fn warning(&mut self, offset: usize, key: impl Into<String>, message: impl Into<String>) {
        self.warnings.push(Raw { offset, key: key.into(), message: message.into() });
    }

    /// Errors and warnings, each in the order of the text.
    pub(super) fn finish(self, file: &str, text: &str) -> (Vec<Finding>, Vec<Finding>) {
        (locate(file, text, self.errors), locate(file, text, self.warnings))
    }
}

/// Turns bytes into lines and columns. A line ends with `\n`, `\r\n` or `\r`.
fn locate(file: &str, text: &str, mut raw: Vec<Raw>) -> Vec<Finding> {
    raw.sort_by_key(|raw| raw.offset);
    let mut letters = text.char_indices().peekable();
    let (mut line, mut column) = (1, 1);
    let mut findings = Vec::with_capacity(raw.len());
    for Raw { offset, key, message } in raw {
        while let Some((_, letter)) = letters.next_if(|(at, _)| *at < offset) {
            let ends_line = letter == '\n' || letter == '\r' && letters.peek().is_none_or(|(_, next)| *next != '\n');
            (line, column) = if ends_line { (line + 1, 1) } else { (line, column + 1) };
        }
        findings.push(Finding { file: file.to_owned(), line, column, key, message });
    }
    findings
}

/// The known name that `name` was probably meant to be: at most a third of its length away, or the one that it begins.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A key of a megabyte resembles nothing; do not compute for minutes to find that out.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_lowercase();
    let known: Vec<&str> = known.into_iter().collect();
    let distance = |known: &str| strsim::damerau_levenshtein(&name, &known.to_lowercase());
    let (distance, best) = known.iter().map(|known| (distance(known), *known)).min()?;
    let begun = || known.iter().find(|known| name.len() >= 4 && known.starts_with(&name)).copied();
    if distance <= best.len().max(3) / 3 { Some(best) } else { begun() }
}

/// `text` in quotes, shortened when it is long.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 40;
    if text.chars().count() <= MOST {
        return format!("{text:?}");
    }
    let short: String = text.chars().take(MOST - 1).collect();
    format!("{short:?}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_characters_and_every_kind_of_line_end() {
        let text = "aä\r\nb\rc\n\nd";
        let mut report = Report::default();
        for (offset, _) in text.char_indices().rev() {
            report.error(offset, "k", offset.to_string());
        }
        report.error(text.len(), "k", "end");
        let (errors, _) = report.finish("f", text);
        let places: Vec<_> = errors.iter().map(|finding| (finding.line, finding.column)).collect();
        let expected = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (3, 2), (4, 1), (5, 1), (5, 2)];
        assert_eq!(places, expected);
        assert_eq!(errors.first().map(ToString::to_string), Some("f:1:1: k: 0".into()));
    }

    #[test]
    fn a_name_that_resembles_nothing_is_not_guessed() {
        let known = ["address", "type", "resolution"];
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("Type", known), Some("type"));
        assert_eq!(nearest("resol", known), Some("resolution"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"a".repeat(10_000), known), None);
    }
}
