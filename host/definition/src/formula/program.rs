//! What a formula becomes: a list of steps for a stack of numbers. Evaluating it neither recurses nor allocates (but
//! for a formula of unusual depth), and every step costs the same, so that a formula's length bounds its cost. Nothing
//! has a side effect, so both sides of `&&`, `||` and `? :` are computed and one is chosen.

use super::{Name, Price, Scope};

/// One step. Operands are on the stack, the last one on top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Puts a number there.
    Number(f64),
    /// Puts the value of a name there: its index in the list of names.
    Name(usize),
    /// One operand.
    Unary(Unary),
    /// Two operands.
    Binary(Binary),
    /// `clamp(x, low, high)`
    Clamp,
    /// `condition ? a : b`
    Choose,
    /// `param(id)`
    Param,
    /// `min_price(seconds)` and its kin.
    Price(Price),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Minus,
    Not,
    Abs,
    Round,
    Sqrt,
    Exists,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    BitAnd,
    BitOr,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Min,
    Max,
}

impl Step {
    /// How many operands it takes off the stack; it always puts one number there.
    pub(super) fn operands(self) -> usize {
        match self {
            Self::Number(_) | Self::Name(_) => 0,
            Self::Unary(_) | Self::Param | Self::Price(_) => 1,
            Self::Binary(_) => 2,
            Self::Clamp | Self::Choose => 3,
        }
    }
}

/// A value that is missing, while computing: arithmetic spreads it by itself.
const MISSING: f64 = f64::NAN;

/// Stack that lies in the caller's frame; a formula that needs more gets it from the heap.
const SMALL: usize = 24;

/// Runs the steps. `depth`: the most numbers that are on the stack at once.
pub(super) fn run(steps: &[Step], names: &[Name], depth: usize, scope: &dyn Scope) -> Option<f64> {
    let value = if depth <= SMALL {
        compute(steps, names, &mut [MISSING; SMALL], scope)
    } else {
        compute(steps, names, &mut vec![MISSING; depth], scope)
    };
    // -0 is 0 for everybody who looks at it.
    (!value.is_nan()).then_some(value + 0.0)
}

fn compute(steps: &[Step], names: &[Name], slots: &mut [f64], scope: &dyn Scope) -> f64 {
    let mut stack = Stack { slots, height: 0 };
    for step in steps {
        let value = match *step {
            Step::Number(value) => value,
            Step::Name(index) => names.get(index).and_then(|name| scope.get(name)).unwrap_or(MISSING),
            Step::Unary(unary) => unary.of(stack.pop()),
            Step::Binary(binary) => {
                let right = stack.pop();
                binary.of(stack.pop(), right)
            }
            Step::Clamp => {
                let (high, low, value) = (stack.pop(), stack.pop(), stack.pop());
                let missing = value.is_nan() || low.is_nan() || high.is_nan();
                // f64::clamp would panic where low > high.
                if missing { MISSING } else { value.max(low).min(high) }
            }
            Step::Choose => {
                let (otherwise, then, condition) = (stack.pop(), stack.pop(), stack.pop());
                match truth(condition) {
                    Some(true) => then,
                    Some(false) => otherwise,
                    None => MISSING,
                }
            }
            Step::Param => whole(stack.pop()).and_then(|id| scope.param(id)).unwrap_or(MISSING),
            Step::Price(what) => known(stack.pop()).and_then(|s| scope.price(what, s)).unwrap_or(MISSING),
        };
        stack.push(if value.is_finite() { value } else { MISSING });
    }
    stack.pop()
}

/// The numbers in between. The parser has counted how many there are; were it wrong, they would be missing.
struct Stack<'a> {
    slots: &'a mut [f64],
    height: usize,
}

impl Stack<'_> {
    fn push(&mut self, value: f64) {
        if let Some(slot) = self.slots.get_mut(self.height) {
            *slot = value;
        }
        self.height += 1;
    }

    fn pop(&mut self) -> f64 {
        self.height = self.height.saturating_sub(1);
        self.slots.get(self.height).copied().unwrap_or(MISSING)
    }
}

impl Unary {
    fn of(self, value: f64) -> f64 {
        match self {
            Self::Exists => number(!value.is_nan()),
            Self::Not => truth(value).map_or(MISSING, |holds| number(!holds)),
            Self::Minus => -value,
            Self::Abs => value.abs(),
            Self::Round => value.round(),
            // Of a negative number it is NaN, which is missing.
            Self::Sqrt => value.sqrt(),
        }
    }
}

impl Binary {
    fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Self::And => match (truth(left), truth(right)) {
                (Some(false), _) | (_, Some(false)) => 0.0,
                (Some(true), Some(true)) => 1.0,
                _ => MISSING,
            },
            Self::Or => match (truth(left), truth(right)) {
                (Some(true), _) | (_, Some(true)) => 1.0,
                (Some(false), Some(false)) => 0.0,
                _ => MISSING,
            },
            // `min`, comparisons and powers of 0 and 1 would find a value where there is none.
            _ if left.is_nan() || right.is_nan() => MISSING,
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            // By zero: infinite or NaN, which is missing.
            Self::Divide => left / right,
            Self::Remainder => left % right,
            Self::Power => left.powf(right),
            Self::BitAnd => bits(left, right, |left, right| left & right),
            Self::BitOr => bits(left, right, |left, right| left | right),
            #[expect(clippy::float_cmp, reason = "that is what the formula asks for")]
            Self::Equal => number(left == right),
            #[expect(clippy::float_cmp, reason = "that is what the formula asks for")]
            Self::NotEqual => number(left != right),
            Self::Less => number(left < right),
            Self::LessEqual => number(left <= right),
            Self::Greater => number(left > right),
            Self::GreaterEqual => number(left >= right),
            Self::Min => left.min(right),
            Self::Max => left.max(right),
        }
    }
}

fn known(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value)
}

/// A condition holds when it is greater than 0.
pub(super) fn truth(value: f64) -> Option<bool> {
    known(value).map(|value| value > 0.0)
}

fn number(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "the result is a floating point number as every other")]
fn bits(left: f64, right: f64, of: impl Fn(i64, i64) -> i64) -> f64 {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => of(left, right) as f64,
        _ => MISSING,
    }
}

/// Without what is behind the point, if it fits.
#[expect(clippy::cast_possible_truncation, reason = "only what fits")]
fn whole(value: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    (-LIMIT..LIMIT).contains(&value).then_some(value as i64)
}
