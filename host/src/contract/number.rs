//! Numbers as the contract's clients expect them: whole ones without a decimal point.

use serde::{Serialize, Serializer};

/// Serialises 12345.0 as `12345` and 12345.5 as `12345.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Number(pub f64);

impl Serialize for Number {
    #[expect(clippy::cast_possible_truncation, reason = "only what is whole and fits")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Whole numbers up to 2^53 are exact in both.
        if self.0.fract() == 0.0 && self.0.abs() < 9_007_199_254_740_992.0 {
            serializer.serialize_i64(self.0 as i64)
        } else if self.0.is_finite() {
            serializer.serialize_f64(self.0)
        } else {
            // Values are checked where they come in; a shape must be valid JSON whatever happens.
            serializer.serialize_i64(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_have_no_point_and_others_are_not_rounded() {
        for (value, text) in [
            (12_345.0, "12345"),
            (-0.0, "0"),
            (-500.0, "-500"),
            (0.1, "0.1"),
            (-1234.5678, "-1234.5678"),
            (1e300, "1e+300"),
            (f64::NAN, "0"),
        ] {
            assert_eq!(serde_json::to_string(&Number(value)).unwrap(), text);
        }
    }
}
