//! From the words of a formula to its steps: operators by precedence, as in C.

use super::lex::{Token, words};
use super::program::{Binary, Step, Unary};
use super::{FormulaError, Name, Price};

/// A formula longer than this is refused, in bytes.
const MAX_TEXT: usize = 4_096;
/// Values and operators of a formula.
const MAX_STEPS: usize = 1_000;
/// Parentheses, functions, signs, powers and choices in one another. The parser calls itself for each, so this keeps
/// it off the end of the stack.
const MAX_NESTING: usize = 100;

/// What the parser makes.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) steps: Vec<Step>,
    /// Each once; [`Step::Name`] is an index of it.
    pub(super) names: Vec<Name>,
    /// The most numbers on the stack at once.
    pub(super) depth: usize,
}

/// How tightly something holds together its operands.
type Tightness = u8;

const CHOICE: Tightness = 1;
const SIGN: Tightness = 10;
const POWER: Tightness = 11;

/// Operators between two values, all but `? :`.
fn infix(sign: &str) -> Option<(Tightness, Binary)> {
    Some(match sign {
        "||" => (2, Binary::Or),
        "&&" => (3, Binary::And),
        "|" => (4, Binary::BitOr),
        "&" => (5, Binary::BitAnd),
        "==" => (6, Binary::Equal),
        "!=" => (6, Binary::NotEqual),
        "<" => (7, Binary::Less),
        "<=" => (7, Binary::LessEqual),
        ">" => (7, Binary::Greater),
        ">=" => (7, Binary::GreaterEqual),
        "+" => (8, Binary::Add),
        "-" => (8, Binary::Subtract),
        "*" => (9, Binary::Multiply),
        "/" => (9, Binary::Divide),
        "%" => (9, Binary::Remainder),
        "^" => (POWER, Binary::Power),
        _ => return None,
    })
}

/// A function.
struct Function {
    name: &'static str,
    /// How it is written, for messages.
    usage: &'static str,
    step: Step,
}

const FUNCTIONS: [Function; 12] = [
    Function { name: "min", usage: "min(a, b, …)", step: Step::Binary(Binary::Min) },
    Function { name: "max", usage: "max(a, b, …)", step: Step::Binary(Binary::Max) },
    Function { name: "abs", usage: "abs(x)", step: Step::Unary(Unary::Abs) },
    Function { name: "clamp", usage: "clamp(x, low, high)", step: Step::Clamp },
    Function { name: "round", usage: "round(x)", step: Step::Unary(Unary::Round) },
    Function { name: "sqrt", usage: "sqrt(x)", step: Step::Unary(Unary::Sqrt) },
    Function { name: "exists", usage: "exists(x)", step: Step::Unary(Unary::Exists) },
    Function { name: "param", usage: "param(id)", step: Step::Param },
    Function { name: "min_price", usage: "min_price(seconds)", step: Step::Price(Price::Min) },
    Function { name: "max_price", usage: "max_price(seconds)", step: Step::Price(Price::Max) },
    Function { name: "min_price_secs", usage: "min_price_secs(seconds)", step: Step::Price(Price::MinSecs) },
    Function { name: "max_price_secs", usage: "max_price_secs(seconds)", step: Step::Price(Price::MaxSecs) },
];

pub(super) fn parse(text: &str) -> Result<Parsed, FormulaError> {
    if text.len() > MAX_TEXT {
        let message = format!("is longer than {MAX_TEXT} bytes; split it into variables");
        return Err(FormulaError { offset: text.floor_char_boundary(MAX_TEXT), message });
    }
    let words = words(text)?;
    let mut parser = Parser { words: &words, at: 0, nesting: 0, height: 0, parsed: Parsed::default() };
    parser.expression(0)?;
    match parser.here() {
        (_, Token::End) => Ok(parser.parsed),
        (offset, token) => Err(FormulaError { offset, message: behind_value(token) }),
    }
}

struct Parser<'a> {
    words: &'a [(usize, Token<'a>)],
    at: usize,
    nesting: usize,
    /// Numbers that are on the stack behind the last step.
    height: usize,
    parsed: Parsed,
}

impl<'a> Parser<'a> {
    /// The next word, and where it begins. Behind the end there is the end.
    fn here(&self) -> (usize, Token<'a>) {
        self.words.get(self.at).or_else(|| self.words.last()).copied().unwrap_or((0, Token::End))
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let there = self.here().1 == Token::Sign(sign);
        self.at += usize::from(there);
        there
    }

    /// A value and all operators behind it that hold at least this tightly.
    fn expression(&mut self, least: Tightness) -> Result<(), FormulaError> {
        self.value()?;
        loop {
            let (offset, Token::Sign(sign)) = self.here() else { return Ok(()) };
            if sign == "?" && least <= CHOICE {
                self.at += 1;
                self.nested(offset, |parser| {
                    parser.expression(0)?;
                    parser.expect(":", "a choice is written condition ? a : b")?;
                    parser.expression(CHOICE)
                })?;
                self.emit(offset, Step::Choose)?;
                continue;
            }
            let Some((tightness, operator)) = infix(sign).filter(|(tightness, _)| *tightness >= least) else {
                return Ok(());
            };
            self.at += 1;
            if tightness == POWER {
                // From the right: 2^3^2 is 2^9.
                self.nested(offset, |parser| parser.expression(POWER))?;
            } else {
                self.expression(tightness + 1)?;
            }
            self.emit(offset, Step::Binary(operator))?;
        }
    }

    fn value(&mut self) -> Result<(), FormulaError> {
        let (offset, token) = self.here();
        self.at += 1;
        match token {
            Token::Number(number) => self.emit(offset, Step::Number(number)),
            Token::Name(name) if self.take("(") => self.nested(offset, |parser| parser.call(offset, name)),
            Token::Name(name) => {
                let name = Name::read(name).map_err(|message| FormulaError { offset, message })?;
                let known = self.parsed.names.iter().position(|known| *known == name);
                let index = known.unwrap_or_else(|| {
                    self.parsed.names.push(name);
                    self.parsed.names.len() - 1
                });
                self.emit(offset, Step::Name(index))
            }
            Token::Sign("(") => self.nested(offset, |parser| {
                parser.expression(0)?;
                parser.expect(")", &format!("the parenthesis of byte {offset} is open"))
            }),
            Token::Sign("+") => self.nested(offset, |parser| parser.expression(SIGN)),
            Token::Sign("-") => {
                self.nested(offset, |parser| parser.expression(SIGN))?;
                self.emit(offset, Step::Unary(Unary::Minus))
            }
            Token::Sign("!") => {
                self.nested(offset, |parser| parser.expression(SIGN))?;
                self.emit(offset, Step::Unary(Unary::Not))
            }
            Token::Sign(sign) => {
                let message = format!("expected a number, a name or a parenthesis before {sign}");
                Err(FormulaError { offset, message })
            }
            Token::End if self.parsed.steps.is_empty() && self.nesting == 0 => {
                Err(FormulaError { offset, message: "is empty; expected a formula, like power_w * 2".into() })
            }
            Token::End => Err(FormulaError { offset, message: "ends where a number or a name is expected".into() }),
        }
    }

    /// A function, behind its opening parenthesis.
    fn call(&mut self, offset: usize, name: &str) -> Result<(), FormulaError> {
        let lower = name.to_lowercase();
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == lower) else {
            let nearest = FUNCTIONS.iter().min_by_key(|function| strsim::osa_distance(function.name, &lower));
            let nearest = nearest.map_or_else(String::new, |nearest| format!("; the nearest one is {}", nearest.usage));
            return Err(FormulaError { offset, message: format!("there is no function {name}{nearest}") });
        };
        let any_number = matches!(function.step, Step::Binary(_));
        let mut values = 0;
        if !self.take(")") {
            loop {
                self.expression(0)?;
                values += 1;
                // Two at a time, so that many values do not need much of a stack.
                if any_number && values > 1 {
                    self.emit(offset, function.step)?;
                }
                if self.take(")") {
                    break;
                }
                if !self.take(",") {
                    return self.expect(")", &format!("{} is open", function.usage));
                }
            }
        }
        if any_number && values > 0 {
            return Ok(());
        }
        if any_number || values != function.step.operands() {
            let message = format!("{} is written {}, here with {}", function.name, function.usage, counted(values));
            return Err(FormulaError { offset, message });
        }
        self.emit(offset, function.step)
    }

    fn expect(&mut self, sign: &'static str, why: &str) -> Result<(), FormulaError> {
        if self.take(sign) {
            return Ok(());
        }
        let (offset, token) = self.here();
        let message = match token {
            Token::End => format!("{why}; expected {sign} before the end"),
            _ => format!("{why}; {}", behind_value(token).replacen("expected", &format!("expected {sign} or"), 1)),
        };
        Err(FormulaError { offset, message })
    }

    /// One level deeper.
    fn nested(
        &mut self,
        offset: usize,
        inner: impl FnOnce(&mut Self) -> Result<(), FormulaError>,
    ) -> Result<(), FormulaError> {
        if self.nesting == MAX_NESTING {
            let message = format!("is nested more than {MAX_NESTING} deep; split it into variables");
            return Err(FormulaError { offset, message });
        }
        self.nesting += 1;
        inner(self)?;
        self.nesting -= 1;
        Ok(())
    }

    fn emit(&mut self, offset: usize, step: Step) -> Result<(), FormulaError> {
        if self.parsed.steps.len() == MAX_STEPS {
            let message = format!("has more than {MAX_STEPS} values and operators; split it into variables");
            return Err(FormulaError { offset, message });
        }
        self.height = (self.height + 1).saturating_sub(step.operands());
        self.parsed.depth = self.parsed.depth.max(self.height);
        self.parsed.steps.push(step);
        Ok(())
    }
}

/// What is wrong with a word that stands where a formula could end.
fn behind_value(token: Token) -> String {
    match token {
        Token::Number(number) => format!("expected an operator before {number}"),
        Token::Name(name) => format!("expected an operator before {name}"),
        Token::Sign(")") => "this ) closes no parenthesis; expected an operator or the end".into(),
        Token::Sign(",") => {
            "expected an operator before the comma; a decimal point is written as a point, and only the values of a \
             function are separated by commas"
                .into()
        }
        Token::Sign(":") => "expected an operator before : (a choice is written condition ? a : b)".into(),
        Token::Sign(sign) => format!("expected an operator before {sign}"),
        Token::End => "expected an operator".into(),
    }
}

fn counted(values: usize) -> String {
    match values {
        0 => "no value".into(),
        1 => "1 value".into(),
        more => format!("{more} values"),
    }
}
