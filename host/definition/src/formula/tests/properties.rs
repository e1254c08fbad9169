//! Random formulas, written down with no more parentheses than they need and computed a second way: on the tree, by
//! recursion, with `Option` for what is missing.

use proptest::prelude::*;

use super::super::*;

#[derive(Clone, Debug)]
enum Tree {
    Number(f64),
    Name(usize),
    Unary(&'static str, Box<Tree>),
    Binary(&'static str, Box<Tree>, Box<Tree>),
    Choose(Box<Tree>, Box<Tree>, Box<Tree>),
    Call(&'static str, Vec<Tree>),
}

const NAMES: [&str; 4] = ["power_w", "M1.soc", "CM._x", "missing"];
const BINARY: [(&str, u8); 16] = [
    ("||", 2),
    ("&&", 3),
    ("|", 4),
    ("&", 5),
    ("==", 6),
    ("!=", 6),
    ("<", 7),
    ("<=", 7),
    (">", 7),
    (">=", 7),
    ("+", 8),
    ("-", 8),
    ("*", 9),
    ("/", 9),
    ("%", 9),
    ("^", 11),
];

/// `NAMES` but for the last one.
struct Values([f64; 3]);

impl Scope for Values {
    fn get(&self, name: &Name) -> Option<f64> {
        let name = name.to_string();
        let index = NAMES.iter().position(|known| known.eq_ignore_ascii_case(&name)).unwrap();
        self.0.get(index).copied()
    }
}

fn tightness(operator: &str) -> u8 {
    BINARY.iter().find(|(known, _)| *known == operator).unwrap().1
}

impl Tree {
    fn holds(&self) -> u8 {
        match self {
            Tree::Number(_) | Tree::Name(_) | Tree::Call(..) => 12,
            Tree::Unary(..) => 10,
            Tree::Binary(operator, ..) => tightness(operator),
            Tree::Choose(..) => 1,
        }
    }

    /// The text, in parentheses if it does not hold together that tightly.
    fn text(&self, least: u8) -> String {
        let text = match self {
            Tree::Number(number) => format!("{number}"),
            Tree::Name(index) => NAMES[*index].to_owned(),
            Tree::Unary(operator, inner) => format!("{operator}{}", inner.text(10)),
            Tree::Binary("^", left, right) => format!("{}^{}", left.text(12), right.text(10)),
            Tree::Binary(operator, left, right) => {
                let own = tightness(operator);
                format!("{}{operator} {}", left.text(own), right.text(own + 1))
            }
            Tree::Choose(condition, then, otherwise) => {
                format!("{} ? {} : {}", condition.text(2), then.text(0), otherwise.text(1))
            }
            Tree::Call(name, values) => {
                let values: Vec<String> = values.iter().map(|value| value.text(0)).collect();
                format!("{name}({})", values.join(", "))
            }
        };
        if self.holds() < least { format!("({text})") } else { text }
    }

    fn value(&self, scope: &Values) -> Option<f64> {
        let holds = |tree: &Tree| tree.value(scope).map(|value| value > 0.0);
        let flag = |holds: bool| f64::from(u8::from(holds));
        let value = match self {
            Tree::Number(number) => *number,
            Tree::Name(index) => scope.0.get(*index).copied()?,
            Tree::Unary("!", inner) => flag(!holds(inner)?),
            Tree::Unary(_, inner) => -inner.value(scope)?,
            Tree::Binary("&&", left, right) => match (holds(left), holds(right)) {
                (Some(false), _) | (_, Some(false)) => 0.0,
                (Some(true), Some(true)) => 1.0,
                _ => return None,
            },
            Tree::Binary("||", left, right) => match (holds(left), holds(right)) {
                (Some(true), _) | (_, Some(true)) => 1.0,
                (Some(false), Some(false)) => 0.0,
                _ => return None,
            },
            Tree::Binary(operator, left, right) => {
                let (left, right) = (left.value(scope)?, right.value(scope)?);
                let bits = |value: f64| (-2.0_f64.powi(63)..2.0_f64.powi(63)).contains(&value).then_some(value as i64);
                match *operator {
                    "+" => left + right,
                    "-" => left - right,
                    "*" => left * right,
                    "/" => left / right,
                    "%" => left % right,
                    "^" => left.powf(right),
                    "&" => (bits(left)? & bits(right)?) as f64,
                    "|" => (bits(left)? | bits(right)?) as f64,
                    "==" => flag(left == right),
                    "!=" => flag(left != right),
                    "<" => flag(left < right),
                    "<=" => flag(left <= right),
                    ">" => flag(left > right),
                    _ => flag(left >= right),
                }
            }
            Tree::Choose(condition, then, otherwise) => {
                if holds(condition)? {
                    then.value(scope)?
                } else {
                    otherwise.value(scope)?
                }
            }
            Tree::Call("exists", values) => flag(values[0].value(scope).is_some()),
            Tree::Call(name, values) => {
                let values: Vec<f64> = values.iter().map(|value| value.value(scope)).collect::<Option<_>>()?;
                match *name {
                    "min" => values.into_iter().fold(f64::INFINITY, f64::min),
                    "max" => values.into_iter().fold(f64::NEG_INFINITY, f64::max),
                    "abs" => values[0].abs(),
                    "round" => values[0].round(),
                    "sqrt" => values[0].sqrt(),
                    _ => values[0].max(values[1]).min(values[2]),
                }
            }
        };
        value.is_finite().then_some(value)
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        (0..12_u32).prop_map(|value| Tree::Number(f64::from(value))),
        (0.0..1e6).prop_map(Tree::Number),
        Just(Tree::Number(1e19)),
        (0..NAMES.len()).prop_map(Tree::Name),
    ];
    leaf.prop_recursive(6, 48, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            1 => (prop_oneof![Just("-"), Just("!")], boxed.clone()).prop_map(|(op, inner)| Tree::Unary(op, inner)),
            5 => ((0..BINARY.len()), boxed.clone(), boxed.clone())
                .prop_map(|(op, left, right)| Tree::Binary(BINARY[op].0, left, right)),
            1 => (boxed.clone(), boxed.clone(), boxed).prop_map(|(c, a, b)| Tree::Choose(c, a, b)),
            1 => (prop_oneof![Just("min"), Just("max")], prop::collection::vec(inner.clone(), 1..4))
                .prop_map(|(name, values)| Tree::Call(name, values)),
            1 => (prop_oneof![Just("abs"), Just("round"), Just("sqrt"), Just("exists")], inner.clone())
                .prop_map(|(name, value)| Tree::Call(name, vec![value])),
            1 => prop::collection::vec(inner, 3).prop_map(|values| Tree::Call("clamp", values)),
        ]
    })
}

/// What looks like a formula often enough to get past the first word.
fn nearly_formulas() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "1",
        "0x1F",
        ".5",
        "1e",
        "e-3",
        "+",
        "-",
        "*",
        "/",
        "%",
        "^",
        "&",
        "|",
        "==",
        "!=",
        "<",
        ">=",
        "!",
        "&&",
        "||",
        "?",
        ":",
        "(",
        ")",
        ",",
        "min(",
        "exists(",
        "clamp",
        "M1.",
        "m1.soc",
        "power_w",
        "cm._x",
        "date",
        " ",
        "=",
        ".",
        "\u{e4}",
        "\u{2192}",
        "\0",
        "9999999999999999999999",
    ]);
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn computes_as_the_tree(tree in trees(), values in [-1e3..1e3, 0.0..100.0, -2.0..2.0]) {
        let scope = Values(values);
        let text = tree.text(0);
        let formula = Formula::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        prop_assert_eq!(formula.text(), text.as_str());
        prop_assert_eq!(formula.value(&scope), tree.value(&scope), "{}", text);
        prop_assert_eq!(formula.holds(&scope), tree.value(&scope).map(|value| value > 0.0));
    }

    #[test]
    fn any_text_is_a_formula_or_a_mistake_inside_it(text in prop_oneof![any::<String>(), nearly_formulas()]) {
        match Formula::parse(&text) {
            Ok(formula) => {
                let value = formula.value(&super::Noon);
                prop_assert!(value.is_none_or(f64::is_finite));
                prop_assert_eq!(Formula::parse(&format!("({text})")).unwrap().value(&super::Noon), value);
            }
            Err(error) => {
                prop_assert!(text.is_char_boundary(error.offset), "{} of {:?}", error.offset, text);
                prop_assert!(!error.message.is_empty());
            }
        }
    }
}
