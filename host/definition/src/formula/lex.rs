//! The words of a formula.

use super::FormulaError;

/// A word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    /// A finite number.
    Number(f64),
    /// A name with its prefix, or a function's.
    Name(&'a str),
    /// An operator, a parenthesis, a comma.
    Sign(&'static str),
    /// Behind the last word.
    End,
}

/// Longer ones first: `<=` is not `<`.
const SIGNS: [&str; 21] =
    ["==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "+", "-", "*", "/", "%", "^", "&", "|", "?", ":", "(", ")"];

/// The words of the text with the byte where each begins; the last one is [`Token::End`].
///
/// # Errors
/// A character that begins no word, or a word that begins like a number and is none.
pub(super) fn words(text: &str) -> Result<Vec<(usize, Token<'_>)>, FormulaError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let offset = text.len() - rest.len();
        let (token, length) = word(rest).map_err(|message| FormulaError { offset, message })?;
        words.push((offset, token));
        if token == Token::End {
            return Ok(words);
        }
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
}

fn word(rest: &str) -> Result<(Token<'_>, usize), String> {
    let Some(first) = rest.chars().next() else { return Ok((Token::End, 0)) };
    let second = rest.chars().nth(1);
    if first.is_ascii_digit() || (first == '.' && second.is_some_and(|second| second.is_ascii_digit())) {
        return number(rest);
    }
    if first == '_' || first.is_alphabetic() {
        let name = leading(rest, |c| c == '_' || c == '.' || c.is_alphanumeric());
        return Ok((Token::Name(name), name.len()));
    }
    if let Some(sign) = SIGNS.into_iter().chain([","]).find(|sign| rest.starts_with(sign)) {
        return Ok((Token::Sign(sign), sign.len()));
    }
    Err(match first {
        '=' => "= is no operator; == compares".to_owned(),
        ';' => "; is no part of a formula; the values of a function are separated by commas".to_owned(),
        '"' | '\'' => "texts are no part of a formula; there are only numbers and names".to_owned(),
        _ => format!("{first:?} is no part of a formula"),
    })
}

/// A number: decimal, with an exponent, or hexadecimal.
fn number(rest: &str) -> Result<(Token<'_>, usize), String> {
    // Everything up to where a number could not go on, so that "12kW" and "1.2.3" are named as a whole.
    let mut run = leading(rest, |c| c == '_' || c == '.' || c.is_alphanumeric());
    let hex = run.strip_prefix("0x").or_else(|| run.strip_prefix("0X"));
    if let Some(digits) = hex {
        // No sign: `from_str_radix` would take one, the run holds none.
        return match u64::from_str_radix(digits, 16) {
            Ok(value) => Ok((Token::Number(precise(value)), run.len())),
            Err(_) => Err(format!("\"{run}\" is no number; hexadecimal ones look like 0xFF, with at most 16 digits")),
        };
    }
    if run.ends_with(['e', 'E']) && run.bytes().filter(u8::is_ascii_alphabetic).count() == 1 {
        let behind = rest.get(run.len()..).unwrap_or_default();
        let exponent = behind.strip_prefix(['+', '-']).map(|digits| leading(digits, |c| c.is_ascii_digit()));
        if let Some(exponent) = exponent.filter(|digits| !digits.is_empty()) {
            run = rest.get(..run.len() + 1 + exponent.len()).unwrap_or(run);
        }
    }
    match run.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Token::Number(value), run.len())),
        Ok(_) => Err(format!("{run} is too large for a number")),
        Err(_) => Err(format!("\"{run}\" is no number; numbers look like 230, 0.5, 1e3 or 0xFF")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "as every number of a formula it is a floating point number")]
fn precise(value: u64) -> f64 {
    value as f64
}

/// The part of the text whose characters are all like that.
fn leading(text: &str, like: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !like(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or(text)
}
