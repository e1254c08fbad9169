//! Texts with values in them, as outputs have (`cfos-interfaces.md` 2.4): `${power_w / 1000}`, a text by a condition
//! ``${if soc > 50`on`off}``, and the device's own `${address}` and `${id}`.
//!
//! A text that lacks a value is none at all: half a command is worse than no command. Whole numbers are written without
//! a point, others with at most 15 digits. The texts of a condition may hold `${…}` again; braces in them are in pairs
//! (as in JSON), a backtick ends them, and one more before the closing brace does no harm. Without a second text there
//! is nothing where the condition does not hold.

use std::fmt::Write as _;

use crate::formula::{Formula, Name, Scope};

/// A longer text is refused, in bytes.
const MAX_TEXT: usize = 16_384;
/// Conditions in one another.
const MAX_NESTING: usize = 8;

/// A parsed text.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Value(Formula),
    Choice { condition: Formula, then: Vec<Part>, otherwise: Vec<Part> },
    Address,
    Id,
}

/// A text that is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// Byte of the text.
    pub offset: usize,
    /// What is wrong there and what would be right.
    pub message: String,
}

/// What `${address}` and `${id}` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own<'a> {
    /// The device's address.
    pub address: &'a str,
    /// The device's id at that address.
    pub id: &'a str,
}

impl Template {
    /// Parses the text.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEXT {
            let message = format!("is longer than {MAX_TEXT} bytes");
            return Err(TemplateError { offset: text.floor_char_boundary(MAX_TEXT), message });
        }
        let mut parser = Parser { text, at: 0 };
        let (parts, _) = parser.parts(0, false)?;
        Ok(Self { parts })
    }

    /// The text with its values; `None` if one of them is missing now.
    #[must_use]
    pub fn render(&self, scope: &dyn Scope, own: Own) -> Option<String> {
        let mut text = String::new();
        render(&self.parts, scope, own, &mut text)?;
        Some(text)
    }

    /// The text of a template without values.
    #[must_use]
    pub fn constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Every name its formulas mention; one may come more than once.
    #[must_use]
    pub fn names(&self) -> Vec<&Name> {
        let mut names = Vec::new();
        let mut open: Vec<&Part> = self.parts.iter().collect();
        while let Some(part) = open.pop() {
            match part {
                Part::Text(_) | Part::Address | Part::Id => {}
                Part::Value(formula) => names.extend(formula.names()),
                Part::Choice { condition, then, otherwise } => {
                    names.extend(condition.names());
                    open.extend(then.iter().chain(otherwise));
                }
            }
        }
        names
    }
}

/// Calls itself for a choice; the parser bounds how often.
fn render(parts: &[Part], scope: &dyn Scope, own: Own, text: &mut String) -> Option<()> {
    for part in parts {
        match part {
            Part::Text(part) => text.push_str(part),
            Part::Value(formula) => push_number(formula.value(scope)?, text),
            Part::Choice { condition, then, otherwise } => {
                render(if condition.holds(scope)? { then } else { otherwise }, scope, own, text)?;
            }
            Part::Address => text.push_str(own.address),
            Part::Id => text.push_str(own.id),
        }
    }
    Some(())
}

/// Shorter than what tells all numbers apart, so that 0.1 + 0.2 is 0.3.
fn push_number(value: f64, text: &mut String) {
    let rounded = format!("{value:.14e}").parse().unwrap_or(value);
    // Writing to a String cannot fail. Adding 0 makes 0 of -0.
    let _ = write!(text, "{}", rounded + 0.0);
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// What ended a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Text,
    Brace,
    Backtick,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn error<T>(offset: usize, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError { offset, message: message.into() })
    }

    /// Up to the end, or inside a choice up to what ends one of its texts, which is taken.
    fn parts(&mut self, nesting: usize, in_choice: bool) -> Result<(Vec<Part>, End), TemplateError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut braces = 0_usize;
        let end = loop {
            let rest = self.rest();
            if rest.starts_with("${") {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(self.value(nesting)?);
                continue;
            }
            let Some(next) = rest.chars().next() else { break End::Text };
            self.at += next.len_utf8();
            match next {
                '`' if in_choice => break End::Backtick,
                '}' if in_choice && braces == 0 => break End::Brace,
                '{' => braces += 1,
                '}' => braces = braces.saturating_sub(1),
                _ => {}
            }
            text.push(next);
        };
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok((parts, end))
    }

    /// `${…}`
    fn value(&mut self, nesting: usize) -> Result<Part, TemplateError> {
        let begin = self.at;
        self.at += 2;
        let inner = self.rest();
        let Some(length) = inner.find(['}', '`']) else { return Self::error(begin, "this ${ is not closed by a }") };
        let (inner, ended) = (inner.get(..length).unwrap_or_default(), inner.get(length..).unwrap_or_default());
        let choice = condition_of(inner);
        if ended.starts_with('}') {
            if choice.is_some() {
                return Self::error(self.at, "a choice is written ${if condition`text`other text}");
            }
            let part = match inner.trim().to_ascii_lowercase().as_str() {
                "address" => Part::Address,
                "id" => Part::Id,
                _ => Part::Value(Self::formula(self.at, inner)?),
            };
            self.at += length + 1;
            return Ok(part);
        }
        let Some(condition) = choice else {
            return Self::error(self.at, "a text by a condition begins with if: ${if condition`text`other text}");
        };
        if nesting == MAX_NESTING {
            return Self::error(begin, format!("there are more than {MAX_NESTING} conditions in one another"));
        }
        let condition = Self::formula(self.at + (inner.len() - condition.len()), condition)?;
        self.at += length + 1;
        let (then, mut end) = self.parts(nesting + 1, true)?;
        let mut otherwise = Vec::new();
        if end == End::Backtick {
            (otherwise, end) = self.parts(nesting + 1, true)?;
        }
        if end == End::Backtick {
            if !self.rest().starts_with('}') {
                return Self::error(self.at, "a choice has two texts; expected } here");
            }
            self.at += 1;
        }
        if end == End::Text {
            return Self::error(begin, "this ${if is not closed by a }");
        }
        Ok(Part::Choice { condition, then, otherwise })
    }

    fn formula(offset: usize, text: &str) -> Result<Formula, TemplateError> {
        Formula::parse(text).map_err(|error| TemplateError { offset: offset + error.offset, message: error.message })
    }
}

/// What is behind the `if`, if there is one.
fn condition_of(inner: &str) -> Option<&str> {
    let rest = inner.trim_start().strip_prefix("if")?;
    rest.starts_with(|next: char| next.is_whitespace() || next == '(').then_some(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Values;

    impl Scope for Values {
        fn get(&self, name: &Name) -> Option<f64> {
            match name.to_string().as_str() {
                "power_w" => Some(2_300.0),
                "soc" => Some(55.5),
                "low" => Some(-0.0),
                "off" => Some(0.0),
                "CM.big" => Some(1e18),
                _ => None,
            }
        }
    }

    fn rendered(text: &str) -> Option<String> {
        let own = Own { address: "192.0.2.1:502", id: "7" };
        Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).render(&Values, own)
    }

    #[test]
    fn values_and_choices() {
        for (text, expected) in [
            ("", ""),
            ("plain $ { } ` text", "plain $ { } ` text"),
            ("${power_w}", "2300"),
            ("${ power_w / 1000 } kW", "2.3 kW"),
            ("/set?p=${power_w}&s=${soc}", "/set?p=2300&s=55.5"),
            ("${0.1 + 0.2}", "0.3"),
            ("${1/3}", "0.333333333333333"),
            ("${low}", "0"),
            ("${-low - 12.5}", "-12.5"),
            ("${cm.BIG}", "1000000000000000000"),
            ("{\"p\":${power_w}}", "{\"p\":2300}"),
            ("${address}/${ID}", "192.0.2.1:502/7"),
            ("${if soc > 50`on`off}", "on"),
            ("${if soc > 60`on`off}", "off"),
            ("${if(off)`on`off`}!", "off!"),
            ("${if off`on`}", ""),
            ("${if off`on}", ""),
            ("${if soc`on}", "on"),
            ("a${if soc```}b", "ab"),
            ("${if soc`{\"a\":{\"b\":1}}`{}`}", "{\"a\":{\"b\":1}}"),
            ("${if off`{\"a\":1}`{\"a\":{}}}", "{\"a\":{}}"),
            ("${if exists(limit)`/limit?w=${limit}`/auto?w=${power_w}}", "/auto?w=2300"),
            ("${if soc > 50`${if soc > 90`full`half}`low}", "half"),
            ("grün ${if soc`ä`ö} → ${power_w}", "grün ä → 2300"),
        ] {
            assert_eq!(rendered(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_missing_value_is_no_text_unless_it_is_not_chosen() {
        for text in ["${missing}", "a ${1/0}", "${if missing`a`a}", "${if soc`${missing}`a}"] {
            assert_eq!(rendered(text), None, "{text}");
        }
        assert_eq!(rendered("${if soc`a`${missing}}").as_deref(), Some("a"));
    }

    #[test]
    fn mistakes_have_a_place_in_the_whole_text() {
        for (text, offset, message) in [
            ("ab${power_w", 2, "this ${ is not closed by a }"),
            ("ab${1 +}", 7, "ends where a number or a name is expected"),
            ("ü ${ 1 2}", 8, "expected an operator before 2"),
            ("${}", 2, "is empty; expected a formula, like power_w * 2"),
            ("${soc`a`b}", 2, "a text by a condition begins with if: ${if condition`text`other text}"),
            ("${if soc}", 2, "a choice is written ${if condition`text`other text}"),
            ("x${if soc > $`a`b}", 12, "'$' is no part of a formula"),
            ("${if soc`a`b", 0, "this ${if is not closed by a }"),
            ("${if soc`a", 0, "this ${if is not closed by a }"),
            ("${if soc`a`b`c}", 13, "a choice has two texts; expected } here"),
            ("${if soc`a`${x y}}", 15, "expected an operator before y"),
        ] {
            let error = Template::parse(text).expect_err(text);
            assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
        }
    }

    #[test]
    fn size_has_limits() {
        let nested = |levels: usize| format!("{}x{}", "${if 1`".repeat(levels), "}".repeat(levels));
        assert_eq!(rendered(&nested(8)).as_deref(), Some("x"));
        let error = Template::parse(&nested(9)).unwrap_err();
        assert_eq!((error.offset, error.message.as_str()), (56, "there are more than 8 conditions in one another"));
        assert!(Template::parse(&"x".repeat(16_384)).is_ok());
        let error = Template::parse(&format!("{}ü", "x".repeat(16_383))).unwrap_err();
        assert_eq!((error.offset, error.message.as_str()), (16_383, "is longer than 16384 bytes"));
    }

    #[test]
    fn names_are_those_of_all_parts() {
        let template = Template::parse("${a}${if b`${if c`${d}`}`x${M1.e}}${id}").unwrap();
        let mut names: Vec<String> = template.names().into_iter().map(Name::to_string).collect();
        names.sort();
        assert_eq!(names, ["M1.e", "a", "b", "c", "d"]);
        assert_eq!(Template::parse("text").unwrap().constant(), Some("text"));
        assert_eq!(template.constant(), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_a_mistake_inside_it(
            words in prop::collection::vec(
                prop::sample::select(vec!["${", "}", "{", "`", "if ", "soc", "1", " > ", "missing", "ü", "id", "$"]), 0..30)
        ) {
            let text = words.concat();
            match Template::parse(&text) {
                Ok(template) => drop(template.render(&Values, Own { address: "", id: "" })),
                Err(error) => prop_assert!(text.is_char_boundary(error.offset) && error.offset <= text.len()),
            }
        }

        #[test]
        fn a_text_without_values_is_itself(text in "[^$]*") {
            let template = Template::parse(&text).unwrap();
            prop_assert_eq!(template.constant(), Some(text.as_str()));
        }

        #[test]
        fn numbers_are_read_back(value in prop_oneof![any::<i32>().prop_map(f64::from), -1e6..1e6]) {
            let mut text = String::new();
            push_number(value, &mut text);
            let read: f64 = text.parse().unwrap();
            prop_assert!((read - value).abs() <= value.abs() * 1e-14);
            prop_assert_eq!(value.fract() == 0.0, !text.contains('.'));
        }
    }
}
