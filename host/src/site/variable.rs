//! What the Charging Manager variables and the user variables of devices came to in the newest cycle.

use std::collections::HashMap;

use ladekern_definition::formula::Name;

/// The computed values by name: `CM.x` for Charging Manager variables, `E1.x` and `M1.x` for user variables. A variable
/// whose formula needs what is missing now has none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VariableValues {
    values: HashMap<Name, f64>,
}

impl VariableValues {
    /// The value of a variable, finite.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// Gives a variable a value, or none. What is not finite is none.
    pub fn set(&mut self, name: &Name, value: Option<f64>) {
        match value.filter(|value| value.is_finite()) {
            Some(value) => {
                // Most cycles meet the same names again.
                match self.values.get_mut(name) {
                    Some(known) => *known = value,
                    None => _ = self.values.insert(name.clone(), value),
                }
            }
            None => _ = self.values.remove(name),
        }
    }

    /// Forgets the variables that are not `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.values.retain(|name, _| wanted(name));
    }
}
