//! From text to steps.

use serde_json::Value;

use super::{MAX_LENGTH, MAX_STEPS, Part, QueryError, Scalar, Step};

pub(super) fn steps(text: &str) -> Result<Vec<Part>, QueryError> {
    if text.is_empty() {
        return Err(wrong(0, "is empty; expected a member, like power"));
    }
    if text.len() > MAX_LENGTH {
        return Err(wrong(MAX_LENGTH, format!("is {} bytes long; expected at most {MAX_LENGTH}", text.len())));
    }
    let mut reader = Reader { text, at: 0 };
    let mut parts: Vec<Part> = Vec::new();
    while reader.at < text.len() {
        if parts.len() == MAX_STEPS {
            return Err(wrong(reader.at, format!("has more than {MAX_STEPS} steps")));
        }
        let step = match (reader.peek(), parts.is_empty()) {
            (Some('['), _) => reader.index()?,
            (Some('.'), false) => {
                reader.at += 1;
                reader.member()?
            }
            (_, true) => reader.member()?,
            (Some(']'), false) => return Err(wrong(reader.at, "a ] that no [ opens")),
            (_, false) => return Err(wrong(reader.at, "expected a . or a [ after the ]")),
        };
        parts.push(Part { step, end: reader.at });
    }
    Ok(parts)
}

fn wrong(offset: usize, message: impl Into<String>) -> QueryError {
    QueryError { offset, message: message.into() }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// What comes before the next point or bracket.
    fn bare(&mut self) -> &'a str {
        let rest = self.rest();
        let name = rest.split(['.', '[', ']']).next().unwrap_or_default();
        self.at += name.len();
        name
    }

    fn member(&mut self) -> Result<Step, QueryError> {
        let start = self.at;
        let name = self.bare();
        if name.is_empty() {
            let message = match self.peek() {
                Some(']') => "a ] that no [ opens".into(),
                Some(found) => format!("a member name is missing before the {found}"),
                None => "ends with a point; expected a member name after it".into(),
            };
            return Err(wrong(start, message));
        }
        if name.trim() != name {
            let quoted = Value::from(name);
            let message =
                format!("a blank beside the name; expected {} or, if it is part of it, [{quoted}]", name.trim());
            return Err(wrong(start, message));
        }
        if start == 0 && name == "$" {
            return Err(wrong(0, "a query does not begin with $; expected the first member, like power"));
        }
        check_wildcard(start, name)?;
        Ok(Step::Member(name.into()))
    }

    fn index(&mut self) -> Result<Step, QueryError> {
        let open = self.at;
        self.at += 1;
        self.skip_blanks();
        let step = match self.peek() {
            None => return Err(unclosed(open)),
            Some('"') => self.quoted()?,
            Some('{') => self.filter()?,
            Some('\'') => return Err(wrong(self.at, "single quotes; expected double ones, like [\"power\"]")),
            Some('?') => return Err(wrong(self.at, "expected the members to look for, like [{\"name\":\"value\"}]")),
            Some(_) => self.number_or_name()?,
        };
        self.skip_blanks();
        match self.peek() {
            Some(']') => {
                self.at += 1;
                Ok(step)
            }
            None => Err(unclosed(open)),
            Some(found) => Err(wrong(self.at, format!("expected ], found {found}"))),
        }
    }

    fn number_or_name(&mut self) -> Result<Step, QueryError> {
        let start = self.at;
        let name = self.bare().trim_end();
        match self.peek() {
            Some('.') => {
                return Err(wrong(self.at, "a point inside of [ ]; expected the name in quotes, like [\"1.8.0\"]"));
            }
            Some(']') if name.is_empty() => {
                return Err(wrong(start, "nothing in the brackets; expected an index, like [0]"));
            }
            _ => {}
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits(name) {
            let index: Option<u32> = name.parse().ok();
            let index = index.and_then(|index| usize::try_from(index).ok());
            let message = "a larger index than any array has; expected at most 4294967295";
            return index.map(Step::Element).ok_or_else(|| wrong(start, message));
        }
        if name.strip_prefix('-').is_some_and(digits) {
            return Err(wrong(start, "a negative index; expected one that counts from the beginning, like [0]"));
        }
        check_wildcard(start, name)?;
        Ok(Step::Member(name.into()))
    }

    fn quoted(&mut self) -> Result<Step, QueryError> {
        let start = self.at;
        let mut stream = serde_json::Deserializer::from_str(self.rest()).into_iter::<String>();
        match stream.next() {
            Some(Ok(name)) => {
                self.at += stream.byte_offset();
                Ok(Step::Member(name.into()))
            }
            Some(Err(error)) if !error.is_eof() => Err(wrong(
                start + error.column().saturating_sub(1),
                "an escape that JSON does not know, or a control character",
            )),
            _ => Err(wrong(start, "a quote that is not closed; expected another \" after the name")),
        }
    }

    fn filter(&mut self) -> Result<Step, QueryError> {
        let start = self.at;
        let mut stream = serde_json::Deserializer::from_str(self.rest()).into_iter::<Value>();
        let members = match stream.next() {
            Some(Ok(Value::Object(members))) => members,
            Some(Err(error)) if !error.is_eof() => {
                let offset = if error.line() == 1 { error.column().saturating_sub(1) } else { 0 };
                return Err(wrong(
                    start + offset,
                    "no JSON object; expected one like {\"name\":\"value\",\"phase\":1}",
                ));
            }
            _ => return Err(wrong(start, "a { that is not closed; expected a } after the last member")),
        };
        self.at += stream.byte_offset();
        if members.is_empty() {
            return Err(wrong(start, "no members to look for; expected some, like {\"name\":\"value\"}"));
        }
        let scalar = |(name, value): (String, Value)| match Scalar::of(&value) {
            Some(scalar) => Ok((name.into_boxed_str(), scalar)),
            None => {
                let message = format!(
                    "the member {name:?} is to equal a list or an object; expected a text, a number, true, false or null"
                );
                Err(wrong(start, message))
            }
        };
        members.into_iter().map(scalar).collect::<Result<_, _>>().map(Step::Where)
    }
}

impl Scalar {
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match number.as_i128() {
                Some(integer) => Self::Integer(integer),
                None => Self::Float(number.as_f64()?),
            },
            Value::String(text) => Self::Text(text.as_str().into()),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }
}

fn unclosed(open: usize) -> QueryError {
    wrong(open, "a [ that is not closed; expected a ] after the index")
}

fn check_wildcard(offset: usize, name: &str) -> Result<(), QueryError> {
    if name == "*" {
        return Err(wrong(
            offset,
            "a query has no wildcards; expected a name or an index (a member of that name is [\"*\"])",
        ));
    }
    Ok(())
}
