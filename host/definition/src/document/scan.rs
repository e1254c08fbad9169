//! The grammar of JSON (RFC 8259), read without keeping anything: where a value ends, and whether it is one. Strict but
//! for one thing: that texts are UTF-8 is checked where one is asked for, so that a degree sign in Latin-1 beside a power
//! does not cost the power. Nothing recurses, however deep the document is nested.

/// Arrays and objects within each other.
pub(super) const MAX_DEPTH: u32 = 128;

/// Reads from the front to the back.
pub(super) struct Scanner<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    /// Arrays and objects that the caller has opened.
    pub depth: u32,
}

/// Something that is no JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotJson {
    /// Byte of the document.
    pub at: usize,
    /// What would be right.
    pub expected: &'static str,
}

const DEEP: &str = "at most 128 arrays and objects within each other";

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    pub fn wrong<T>(&self, expected: &'static str) -> Result<T, NotJson> {
        Err(NotJson { at: self.at, expected })
    }

    #[inline]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// What was read since.
    #[inline]
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// The next byte that is no blank, which stays there.
    #[inline]
    pub fn next(&mut self) -> Option<u8> {
        loop {
            match self.peek() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    /// Takes the byte if it is next behind blanks.
    pub fn take(&mut self, byte: u8) -> bool {
        let there = self.next() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Goes into the array or object that begins here; whether there is anything in it.
    pub fn open(&mut self, close: u8) -> Result<bool, NotJson> {
        if self.depth >= MAX_DEPTH {
            return self.wrong(DEEP);
        }
        self.at += 1;
        let any = !self.take(close);
        self.depth += u32::from(any);
        Ok(any)
    }

    /// Behind a value in an array or object: whether another one follows.
    pub fn more(&mut self, close: u8) -> Result<bool, NotJson> {
        match self.next() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                Ok(false)
            }
            _ if close == b'}' => self.wrong("a comma or }"),
            _ => self.wrong("a comma or ]"),
        }
    }

    /// A member name with its colon: what is between the quotes, and whether there are escapes in it.
    pub fn name(&mut self) -> Result<(&'a [u8], bool), NotJson> {
        if self.next() != Some(b'"') {
            return self.wrong("a member name in double quotes");
        }
        let start = self.at + 1;
        let escapes = self.text()?;
        let name = self.bytes.get(start..self.at - 1).unwrap_or_default();
        if !self.take(b':') {
            return self.wrong("a colon after the member name");
        }
        Ok((name, escapes))
    }

    /// A value, whatever it is.
    pub fn skip(&mut self) -> Result<(), NotJson> {
        let outside = self.depth;
        // One bit for each open array or object; set: an object. The lowest is the innermost.
        let mut kinds: u128 = 0;
        loop {
            match self.next() {
                Some(b'"') => _ = self.text()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b'{') if self.open(b'}')? => {
                    kinds = kinds << 1 | 1;
                    self.name()?;
                    continue;
                }
                Some(b'[') if self.open(b']')? => {
                    kinds <<= 1;
                    continue;
                }
                Some(b'{' | b'[') => {}
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                _ => return self.wrong("a value"),
            }
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                let object = kinds & 1 == 1;
                if self.more(if object { b'}' } else { b']' })? {
                    if object {
                        self.name()?;
                    }
                    break;
                }
                kinds >>= 1;
            }
        }
    }

    /// A text; whether there are escapes in it.
    fn text(&mut self) -> Result<bool, NotJson> {
        self.at += 1;
        let mut escapes = false;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let special = |byte: &u8| *byte == b'"' || *byte == b'\\' || *byte < 0x20;
            self.at += rest.iter().position(special).unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escapes);
                }
                Some(b'\\') => {
                    escapes = true;
                    self.escape()?;
                }
                Some(_) => return self.wrong("a control character to be written as an escape, like \\n"),
                None => return self.wrong("the closing \" of a text"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        let hex = |byte: &u8| byte.is_ascii_hexdigit();
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') if self.bytes.get(self.at + 1..self.at + 5).is_some_and(|code| code.iter().all(hex)) => {
                self.at += 5
            }
            _ => return self.wrong("an escape of JSON, like \\n or \\u00e9"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        // 007 and 1.2.3 are told as what they are, and not as a comma that is missing.
        match self.peek() {
            Some(b'0'..=b'9' | b'.' | b'-' | b'+' | b'a'..=b'z' | b'A'..=b'Z') => {
                self.wrong("a number as JSON writes it")
            }
            _ => Ok(()),
        }
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += digits;
        if digits == 0 { self.wrong("a digit") } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        let end = self.at + word.len();
        if self.bytes.get(self.at..end) != Some(word) {
            return self.wrong("true, false or null");
        }
        self.at = end;
        Ok(())
    }
}
