//! Changes of a text that are gathered and then made all at once.

use std::ops::Range;

/// Changes of one text, by byte offsets of the text before.
pub(super) struct Splices<'t> {
    text: &'t str,
    newline: &'static str,
    changes: Vec<Change>,
}

struct Change {
    range: Range<usize>,
    with: String,
    /// Begins with a header, so that what belongs to the table before it has to come first.
    header: bool,
}

const BOM: &str = "\u{feff}";

impl<'t> Splices<'t> {
    pub fn of(text: &'t str) -> Self {
        let first = text.split_inclusive('\n').next().unwrap_or_default();
        Self { text, newline: if first.ends_with("\r\n") { "\r\n" } else { "\n" }, changes: Vec::new() }
    }

    /// Where the text begins, after a byte order mark.
    pub fn top(&self) -> usize {
        if self.text.starts_with(BOM) { BOM.len() } else { 0 }
    }

    fn change(&mut self, range: Range<usize>, with: String, header: bool) {
        self.changes.push(Change { range, with, header });
    }

    /// Puts another text into the place of this one.
    pub fn replace(&mut self, range: Range<usize>, with: String) {
        self.change(range, with, false);
    }

    /// Takes whole lines out.
    pub fn cut(&mut self, range: Range<usize>) {
        self.change(range, String::new(), false);
    }

    /// Takes a block out, and the blank lines after it if there are some before it.
    pub fn cut_block(&mut self, range: Range<usize>) {
        let mut end = range.end;
        if self.blank_before(range.start) {
            let after = self.text.get(end..).unwrap_or_default();
            let blanks = after.split_inclusive('\n').take_while(|line| line.trim().is_empty());
            end += blanks.map(str::len).sum::<usize>();
        }
        self.cut(range.start..end);
    }

    /// Adds whole lines at the end of a line.
    pub fn insert_lines(&mut self, after: usize, lines: &str) {
        let mut text = self.own_newlines(lines);
        let before = self.text.get(..after).unwrap_or_default();
        if after > self.top() && !before.ends_with('\n') {
            text.insert_str(0, self.newline);
            // The text ended without a newline, and still does.
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        self.change(after..after, text, false);
    }

    /// Adds a block at the end of a line, with a blank line before it and, if something follows at once, after it.
    pub fn insert_block(&mut self, after: usize, block: &str) {
        let mut text = self.own_newlines(block.trim_matches('\n'));
        text.push_str(self.newline);
        let before = self.text.get(..after).unwrap_or_default();
        if !self.blank_before(after) {
            text.insert_str(0, self.newline);
        }
        if after > self.top() && !before.ends_with('\n') {
            text.insert_str(0, self.newline);
        }
        let follows = self.text.get(after..).unwrap_or_default().split_inclusive('\n').next();
        if follows.is_some_and(|line| !line.trim().is_empty()) {
            text.push_str(self.newline);
        }
        self.change(after..after, text, true);
    }

    /// Adds a block before a header and the comments that stand directly above it. Where those are the first lines
    /// of the file they may be about the file: then the block goes to the end of it.
    pub fn insert_before_block(&mut self, header: usize, block: &str) {
        let mut at = header;
        loop {
            let before = self.text.get(self.top()..at).unwrap_or_default();
            let Some(line) = before.split_inclusive('\n').next_back() else { break };
            if !line.trim_start().starts_with('#') {
                break;
            }
            at -= line.len();
        }
        if at == self.top() && at != header {
            self.append(block);
        } else {
            self.insert_block(at, block);
        }
    }

    /// Adds a block at the end of the text.
    pub fn append(&mut self, block: &str) {
        self.insert_block(self.text.len(), block);
    }

    /// The text with all changes.
    pub fn made(mut self) -> String {
        if self.changes.is_empty() {
            return self.text.to_owned();
        }
        // Stable: what is added at the same place stays in the order in which it was added.
        self.changes.sort_by_key(|change| (change.range.start, change.header));
        let mut made = String::with_capacity(self.text.len());
        let mut at = 0;
        for Change { range, with, .. } in &self.changes {
            made.push_str(self.text.get(at..range.start).unwrap_or_default());
            made.push_str(with);
            at = at.max(range.end);
        }
        made.push_str(self.text.get(at..).unwrap_or_default());
        made
    }

    /// Whether the line before is blank, or there is none.
    fn blank_before(&self, at: usize) -> bool {
        let before = self.text.get(self.top()..at).unwrap_or_default();
        before.split_inclusive('\n').next_back().is_none_or(|line| line.trim().is_empty())
    }

    /// With the newlines of the text; a text of several lines as a value keeps its own.
    pub fn own_newlines(&self, text: &str) -> String {
        if self.newline == "\n" || text.contains("\"\"\"") || text.contains("'''") {
            text.to_owned()
        } else {
            text.replace('\n', self.newline)
        }
    }
}
