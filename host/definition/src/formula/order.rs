//! In which order formulas that name one another are to be computed.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::{Formula, Name, Object};

/// Formulas that need one another's values, so that none can be computed first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Cycle {
    /// Each needs the next one, the last one the first.
    pub names: Vec<Name>,
}

/// `a → b → a`
impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.names {
            write!(f, "{name} → ")?;
        }
        self.names.first().map_or(Ok(()), |first| first.fmt(f))
    }
}

/// The order in which to compute variables: each behind all whose value it needs, otherwise as given. A name without a
/// prefix in the formula of `M1.x` means `M1`'s, as one in the formula of `CM.x` means another manager variable. Names
/// that are none of these variables do not matter. Of two variables of one name the first is the one that others need.
///
/// # Errors
/// One [`Cycle`], the one of the first variable that is in one.
pub fn order(variables: &[(Name, &Formula)]) -> Result<Vec<usize>, Cycle> {
    let mut index = HashMap::new();
    for (at, (name, _)) in variables.iter().enumerate() {
        index.entry(name).or_insert(at);
    }
    let needs: Vec<Vec<usize>> = variables
        .iter()
        .map(|(owner, formula)| {
            let found = formula.names().iter().filter_map(|name| match name.object {
                Object::Own => index.get(&Name { object: owner.object, member: name.member.clone() }),
                _ => index.get(name),
            });
            found.copied().collect::<BTreeSet<_>>().into_iter().collect()
        })
        .collect();
    let mut needed_by = vec![Vec::new(); variables.len()];
    for (at, needs) in needs.iter().enumerate() {
        for need in needs {
            if let Some(list) = needed_by.get_mut(*need) {
                list.push(at);
            }
        }
    }
    let mut open: Vec<usize> = needs.iter().map(Vec::len).collect();
    let mut ready: BTreeSet<usize> =
        open.iter().enumerate().filter(|(_, open)| **open == 0).map(|(at, _)| at).collect();
    let mut order = Vec::with_capacity(variables.len());
    while let Some(at) = ready.pop_first() {
        order.push(at);
        for user in needed_by.get(at).into_iter().flatten() {
            if let Some(open) = open.get_mut(*user) {
                *open -= 1;
                if *open == 0 {
                    ready.insert(*user);
                }
            }
        }
    }
    if order.len() == variables.len() { Ok(order) } else { Err(cycle(variables, &needs, &open)) }
}

/// One of the cycles among what is open: whoever waits, waits for somebody who waits.
fn cycle(variables: &[(Name, &Formula)], needs: &[Vec<usize>], open: &[usize]) -> Cycle {
    let waits = |at: &usize| open.get(*at).is_some_and(|open| *open > 0);
    let mut path: Vec<usize> = Vec::new();
    let mut next = (0..open.len()).find(waits);
    while let Some(at) = next {
        if let Some(begin) = path.iter().position(|seen| *seen == at) {
            path.drain(..begin);
            break;
        }
        path.push(at);
        next = needs.get(at).and_then(|needs| needs.iter().copied().find(waits));
    }
    // The same cycle reads the same wherever it was entered.
    if let Some(first) = path.iter().enumerate().min_by_key(|(_, at)| **at).map(|(first, _)| first) {
        path.rotate_left(first);
    }
    Cycle { names: path.iter().filter_map(|at| variables.get(*at)).map(|(name, _)| name.clone()).collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn own(name: &str) -> Name {
        Name::new(Object::Own, name)
    }

    fn order_of(variables: &[(Name, &str)]) -> Result<Vec<usize>, String> {
        let formulas: Vec<Formula> = variables.iter().map(|(_, text)| Formula::parse(text).unwrap()).collect();
        let named: Vec<(Name, &Formula)> =
            variables.iter().zip(&formulas).map(|((name, _), formula)| (name.clone(), formula)).collect();
        order(&named).map_err(|cycle| cycle.to_string())
    }

    #[test]
    fn each_comes_behind_what_it_needs_and_otherwise_as_given() {
        let of = |texts: &[(&str, &str)]| {
            order_of(&texts.iter().map(|(name, text)| (own(name), *text)).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(of(&[]), Vec::<usize>::new());
        assert_eq!(of(&[("a", "1"), ("b", "2"), ("c", "3")]), [0, 1, 2]);
        assert_eq!(of(&[("a", "B + c"), ("b", "C"), ("c", "power_w")]), [2, 1, 0]);
        assert_eq!(of(&[("a", "d"), ("b", "1"), ("c", "b"), ("d", "b * b")]), [1, 2, 3, 0]);
    }

    #[test]
    fn a_name_without_prefix_is_one_of_the_same_object() {
        let (manager, meter) = (|name| Name::new(Object::Manager, name), |name| Name::new(Object::Meter(1), name));
        assert_eq!(order_of(&[(manager("x"), "y"), (manager("y"), "m1.y"), (meter("y"), "1")]), Ok(vec![2, 1, 0]));
        assert_eq!(order_of(&[(meter("x"), "y"), (manager("y"), "M1.x")]), Ok(vec![0, 1]), "M1.y is no CM.y");
    }

    #[test]
    fn cycles_are_told_by_name() {
        let of = |texts: &[(Name, &str)]| order_of(texts).unwrap_err();
        assert_eq!(of(&[(own("a"), "a + 1")]), "a → a");
        assert_eq!(of(&[(own("a"), "b"), (own("b"), "a")]), "a → b → a");
        let three = [(own("x"), "c"), (own("c"), "a"), (own("a"), "b"), (own("b"), "c"), (own("y"), "x")];
        assert_eq!(of(&three), "c → a → b → c", "x and y only wait for it");
        let across = [(Name::new(Object::Manager, "a"), "M1.b * 2"), (Name::new(Object::Meter(1), "B"), "cm.A")];
        assert_eq!(of(&across), "CM.a → M1.b → CM.a");
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let texts: Vec<String> = (1..=20_000).map(|at| format!("v{at}")).collect();
        let formulas: Vec<Formula> = texts.iter().map(|text| Formula::parse(text).unwrap()).collect();
        let chain: Vec<(Name, &Formula)> =
            formulas.iter().enumerate().map(|(at, formula)| (own(&format!("v{at}")), formula)).collect();
        assert_eq!(order(&chain).unwrap(), (0..20_000).rev().collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn an_order_or_a_cycle_that_is_one(edges in prop::collection::vec((0..8_usize, 0..8_usize), 0..16)) {
            let needs = |at: usize| edges.iter().filter(move |(from, _)| *from == at).map(|(_, to)| *to);
            let text = |at: usize| needs(at).fold("0".to_owned(), |text, to| format!("{text} + v{to}"));
            let formulas: Vec<Formula> = (0..8).map(|at| Formula::parse(&text(at)).unwrap()).collect();
            let named: Vec<_> = formulas.iter().enumerate().map(|(at, f)| (own(&format!("v{at}")), f)).collect();
            match order(&named) {
                Ok(order) => {
                    let place = |at: usize| order.iter().position(|other| *other == at).unwrap();
                    prop_assert!((0..8).all(|at| needs(at).all(|need| place(need) < place(at))));
                    prop_assert_eq!(order.len(), 8);
                }
                Err(cycle) => {
                    let at = |name: &Name| name.member[1..].parse::<usize>().unwrap();
                    prop_assert!(!cycle.names.is_empty());
                    for (name, next) in cycle.names.iter().zip(cycle.names.iter().cycle().skip(1)) {
                        prop_assert!(needs(at(name)).any(|need| need == at(next)));
                    }
                }
            }
        }
    }
}
