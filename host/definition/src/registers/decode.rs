//! From registers to a value.

use crate::{Definition, ModbusField, Number, Shape, Value, WordOrder};

/// Registers that cannot hold what the field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A number of another width.
    #[error("this type takes {wanted} registers, there are {found}")]
    Length {
        /// Registers of the type.
        wanted: usize,
        /// Registers that were given.
        found: usize,
    },
    /// A dotted version of a type that has no such parts.
    #[error("a version of {parts} parts is made of {wanted}")]
    Version {
        /// `length`
        parts: u8,
        /// What would be right.
        wanted: &'static str,
    },
}

/// Raw numbers of a definition that mean something else than themselves. Each may be written as the signed number or
/// as the bits of the registers: `0x8000` and `-32768` mean the same int16.
#[derive(Clone, Copy, Debug, Default)]
pub struct Special<'a> {
    /// `reserved`: 0.
    pub reserved: &'a [f64],
    /// `unavailable`: no value. Beats `reserved`. All ones of a signed number are meant only by `-1`.
    pub unavailable: &'a [f64],
}

impl<'a> From<&'a Definition> for Special<'a> {
    fn from(definition: &'a Definition) -> Self {
        Self { reserved: &definition.reserved, unavailable: &definition.unavailable }
    }
}

/// A number as it stands in the registers, before `resolution`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Raw {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

impl Number {
    /// Registers that a number of this type takes.
    #[must_use]
    pub fn registers(self) -> u16 {
        match self {
            Number::Int16 | Number::Uint16 => 1,
            Number::Int32 | Number::Uint32 | Number::Float => 2,
            Number::Int64 | Number::Uint64 | Number::Double => 4,
        }
    }
}

/// The value of `words`, which begin at the field's first register. `None`: the device has no value, which it says
/// with NaN, an infinity, an `unavailable` number, or a text of nothing but padding; also a number that `resolution` makes infinite.
///
/// Numbers are `f64`: integers beyond 2^53 (9 007 199 254 740 992) lose their last digits, some 16 remain. Use
/// [`decode_text`] where every digit counts.
///
/// Text is UTF-8, else Latin-1 (which every byte is). It ends at the first NUL behind its beginning; padding of NUL
/// and blanks on both sides and control characters are left out. Nothing but 0xFF, as empty memory reads, is no text.
///
/// # Errors
/// See [`DecodeError`]; the parser lets no such field through.
pub fn decode(field: &ModbusField, words: &[u16], special: Special<'_>) -> Result<Option<Value>, DecodeError> {
    match field.shape {
        Shape::Number { number, factor } => {
            let raw = raw(number, field.order, words)?;
            let value = match raw {
                raw if is_unavailable(raw, special) => None,
                raw if is_among(raw, special.reserved) => Some(0.0),
                (raw, _) => scaled(raw.value(), factor),
            };
            Ok(value.map(Value::Number))
        }
        Shape::Text => Ok(text(words).map(Value::Text)),
        Shape::Dotted { number, parts } => match raw(number, field.order, words)? {
            raw if is_among(raw, special.unavailable) => Ok(None),
            (_, bits) => dotted(bits, number, parts).map(|text| Some(Value::Text(text))),
        },
    }
}

/// As [`decode`], as text with every digit: serial numbers and versions.
///
/// # Errors
/// As [`decode`].
pub fn decode_text(field: &ModbusField, words: &[u16], special: Special<'_>) -> Result<Option<String>, DecodeError> {
    if let Shape::Number { number, factor } = field.shape
        && factor.to_bits() == 1.0f64.to_bits()
    {
        match raw(number, field.order, words)? {
            raw if is_unavailable(raw, special) => return Ok(None),
            raw if is_among(raw, special.reserved) => return Ok(Some("0".to_owned())),
            (Raw::Signed(value), _) => return Ok(Some(value.to_string())),
            (Raw::Unsigned(value), _) => return Ok(Some(value.to_string())),
            (Raw::Float(_), _) => {}
        }
    }
    Ok(decode(field, words, special)?.map(|value| match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text,
    }))
}

/// `raw` times `factor`. A factor like 0.1 is a division by 10, which gives the nearest number to what a person would
/// write: 3 × 0.1 is 0.3.
pub(crate) fn scaled(raw: f64, factor: f64) -> Option<f64> {
    let divisor = (1.0 / factor).round();
    let is_fraction = divisor.abs() > 1.0 && (1.0 / divisor).to_bits() == factor.to_bits();
    let value = if is_fraction { raw / divisor } else { raw * factor };
    // Adding 0 makes -0, which an inverted 0 is, a plain one.
    (value + 0.0).is_finite().then_some(value + 0.0)
}

impl Raw {
    /// Beyond 2^53 the last digits are lost.
    fn value(self) -> f64 {
        match self {
            Raw::Signed(value) => value as f64,
            Raw::Unsigned(value) => value as f64,
            Raw::Float(value) => value,
        }
    }
}

/// The registers as one unsigned number.
fn bits(number: Number, order: WordOrder, words: &[u16]) -> Result<u64, DecodeError> {
    let wanted = usize::from(number.registers());
    if words.len() != wanted {
        return Err(DecodeError::Length { wanted, found: words.len() });
    }
    let join = |bits: u64, word: &u16| bits << 16 | u64::from(*word);
    Ok(match order {
        WordOrder::HighFirst => words.iter().fold(0, join),
        WordOrder::LowFirst => words.iter().rev().fold(0, join),
    })
}

/// The number, and the bits it is made of.
fn raw(number: Number, order: WordOrder, words: &[u16]) -> Result<(Raw, u64), DecodeError> {
    let bits = bits(number, order, words)?;
    // Each cast keeps the bits of its type; the registers hold no others.
    let raw = match number {
        Number::Int16 => Raw::Signed((bits as i16).into()),
        Number::Int32 => Raw::Signed((bits as i32).into()),
        Number::Int64 => Raw::Signed(bits as i64),
        Number::Uint16 | Number::Uint32 | Number::Uint64 => Raw::Unsigned(bits),
        Number::Float => Raw::Float(f32::from_bits(bits as u32).into()),
        Number::Double => Raw::Float(f64::from_bits(bits)),
    };
    Ok((raw, bits))
}

/// `0xFFFFFFFF` is how unsigned numbers say it. In a signed one the same bits are -1 W, which the device does know: they
/// count only if they are written as `-1`.
fn is_unavailable((raw, bits): (Raw, u64), special: Special<'_>) -> bool {
    match raw {
        Raw::Signed(-1) => special.unavailable.contains(&-1.0),
        _ => is_among((raw, bits), special.unavailable),
    }
}

/// The bits count beside the value: who writes `0xFFFF` means the registers, whatever the type makes of them. Of a
/// float only where they are no number, else 1.0 would be 1065353216 too.
fn is_among((raw, bits): (Raw, u64), entries: &[f64]) -> bool {
    let value = raw.value();
    let is_pattern = |entry: &f64| match raw {
        Raw::Float(float) if float.is_finite() => false,
        _ => *entry == bits as f64,
    };
    entries.iter().any(|entry| *entry == value || is_pattern(entry))
}

/// The parts of an integer's bits with dots between them, the highest first.
pub(crate) fn dotted(bits: u64, number: Number, parts: u8) -> Result<String, DecodeError> {
    let width = u32::from(number.registers()) * 16;
    let wrong = |wanted| DecodeError::Version { parts, wanted };
    let part_width = match (parts, number) {
        (_, Number::Float | Number::Double) => return Err(wrong("an integer, int32 for one")),
        (2, _) => width / 2,
        (4, Number::Int16 | Number::Uint16) => return Err(wrong("int32 or int64")),
        (4, _) => width / 4,
        _ => return Err(wrong("2 or 4 parts of an integer")),
    };
    let part = |at: u32| (bits >> (part_width * at)) & ((1 << part_width) - 1);
    let parts: Vec<String> = (0..u32::from(parts)).rev().map(|at| part(at).to_string()).collect();
    Ok(parts.join("."))
}

fn text(words: &[u16]) -> Option<String> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    if bytes.iter().all(|byte| *byte == 0xff) {
        return None;
    }
    let start = bytes.iter().position(|byte| !matches!(byte, 0 | b' '))?;
    let bytes = bytes.get(start..)?.split(|byte| *byte == 0).next()?;
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    let text: String = text.chars().filter(|char| !char.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: Special<'static> = Special { reserved: &[], unavailable: &[] };

    fn zeros(reserved: &[f64]) -> Special<'_> {
        Special { reserved, unavailable: &[] }
    }

    fn number(number: Number, factor: f64, order: WordOrder) -> ModbusField {
        ModbusField { address: 0, count: number.registers(), shape: Shape::Number { number, factor }, order }
    }

    fn plain(words: &[u16], of: Number) -> Option<f64> {
        match decode(&number(of, 1.0, WordOrder::HighFirst), words, NONE).unwrap() {
            Some(Value::Number(value)) => Some(value),
            None => None,
            Some(Value::Text(text)) => panic!("{text}"),
        }
    }

    #[test]
    fn every_type_at_its_edges() {
        assert_eq!(plain(&[0x8000], Number::Int16), Some(-32_768.0));
        assert_eq!(plain(&[0xffff], Number::Uint16), Some(65_535.0));
        assert_eq!(plain(&[0xffff, 0xfffe], Number::Int32), Some(-2.0));
        assert_eq!(plain(&[0xffff, 0xfffe], Number::Uint32), Some(4_294_967_294.0));
        assert_eq!(plain(&[0xffff, 0xffff, 0xffff, 0xfffe], Number::Int64), Some(-2.0));
        assert_eq!(plain(&[0, 1, 0, 2], Number::Uint64), Some(4_294_967_298.0));
        assert_eq!(plain(&[0x4366, 0x3333], Number::Float), Some(f64::from(230.2f32)));
        assert_eq!(plain(&[0x4167, 0x8c29, 0xd000, 0x0000], Number::Double), Some(12_345_678.5));
        // 2^64 - 1 has no f64 of its own.
        assert_eq!(plain(&[0xffff; 4], Number::Uint64), Some(18_446_744_073_709_551_616.0));
    }

    #[test]
    fn the_low_word_may_come_first() {
        let low = |of| number(of, 1.0, WordOrder::LowFirst);
        let decoded = |of, words: &[u16]| decode(&low(of), words, NONE).unwrap();
        assert_eq!(decoded(Number::Uint32, &[2, 1]), Some(Value::Number(65_538.0)));
        assert_eq!(decoded(Number::Int64, &[0xfffe, 0xffff, 0xffff, 0xffff]), Some(Value::Number(-2.0)));
        assert_eq!(decoded(Number::Float, &[0x0000, 0x3f80]), Some(Value::Number(1.0)));
    }

    #[test]
    fn what_is_no_number_is_missing() {
        for words in [[0x7fc0, 0], [0xffc0, 0], [0x7f80, 0], [0xff80, 0], [0x7f80, 1]] {
            assert_eq!(plain(&words, Number::Float), None, "{words:x?}");
        }
        let huge = number(Number::Float, 1e300, WordOrder::HighFirst);
        assert_eq!(decode(&huge, &[0x7f7f, 0xffff], NONE).unwrap(), None, "finite, and infinite with its resolution");
    }

    #[test]
    fn a_factor_gives_what_a_person_would_write() {
        let scaled = |raw, factor| decode(&number(Number::Int16, factor, WordOrder::HighFirst), &[raw], NONE).unwrap();
        assert_eq!(scaled(3, 0.1), Some(Value::Number(0.3)));
        assert_eq!(scaled(3, -0.001), Some(Value::Number(-0.003)));
        assert_eq!(scaled(3, 1000.0), Some(Value::Number(3000.0)));
        assert_eq!(scaled(2, 0.3), Some(Value::Number(0.6)));
        let Some(Value::Number(zero)) = scaled(0, -1.0) else { panic!() };
        assert!(zero.is_sign_positive(), "no -0");
        assert_eq!(scaled(3, 0.0), Some(Value::Number(0.0)));
    }

    #[test]
    fn reserved_values_are_0_as_numbers_and_as_bits() {
        let is_zero = |of, words: &[u16], reserved: f64| {
            decode(&number(of, 2.0, WordOrder::HighFirst), words, zeros(&[77.0, reserved])).unwrap()
                == Some(Value::Number(0.0))
        };
        assert!(is_zero(Number::Int16, &[0x8000], -32_768.0));
        assert!(is_zero(Number::Int16, &[0x8000], f64::from(0x8000)));
        assert!(is_zero(Number::Uint32, &[0xffff, 0xffff], f64::from(u32::MAX)));
        assert!(is_zero(Number::Float, &[0x7fc0, 0], f64::from(0x7fc0_0000)), "a NaN by its bits");
        assert!(is_zero(Number::Float, &[0x4120, 0], 10.0));
        assert!(!is_zero(Number::Float, &[0x3f80, 0], f64::from(0x3f80_0000)), "1.0 is 1.0");
        assert!(!is_zero(Number::Int16, &[154], 154.0 * 2.0), "the raw value counts, not the scaled one");
    }

    #[test]
    fn unavailable_values_are_missing() {
        let special = Special { reserved: &[-1.0], unavailable: &[-1.0, f64::from(0x8000)] };
        let decoded = |of, words: &[u16]| decode(&number(of, 0.1, WordOrder::HighFirst), words, special).unwrap();
        assert_eq!(decoded(Number::Int16, &[0x8000]), None);
        assert_eq!(decoded(Number::Int16, &[0xffff]), None, "not 0: who says both does not know");
        assert_eq!(decoded(Number::Uint16, &[0x8000]), None);
        assert_eq!(decoded(Number::Int16, &[10]), Some(Value::Number(1.0)));
        let serial = number(Number::Uint16, 1.0, WordOrder::HighFirst);
        assert_eq!(decode_text(&serial, &[0x8000], special), Ok(None));
        let version = Shape::Dotted { number: Number::Int16, parts: 2 };
        let version = ModbusField { address: 0, count: 1, shape: version, order: WordOrder::HighFirst };
        assert_eq!(decode(&version, &[0x8000], special), Ok(None));
    }

    #[test]
    fn minus_one_is_a_number_where_all_ones_are_unavailable() {
        let special = Special { reserved: &[], unavailable: &[f64::from(0xffff), f64::from(u32::MAX)] };
        let decoded = |of, words: &[u16]| decode(&number(of, 1.0, WordOrder::HighFirst), words, special).unwrap();
        assert_eq!(decoded(Number::Uint16, &[0xffff]), None);
        assert_eq!(decoded(Number::Uint32, &[0xffff, 0xffff]), None);
        assert_eq!(decoded(Number::Int16, &[0xffff]), Some(Value::Number(-1.0)));
        assert_eq!(decoded(Number::Int32, &[0xffff, 0xffff]), Some(Value::Number(-1.0)));
        let serial = number(Number::Int16, 1.0, WordOrder::HighFirst);
        assert_eq!(decode_text(&serial, &[0xffff], special), Ok(Some("-1".to_owned())));
    }

    #[test]
    fn texts_lose_their_padding() {
        let shown = |bytes: &[u8]| {
            let word = |pair: &[u8]| u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            let words: Vec<u16> = bytes.chunks(2).map(word).collect();
            let count = words.len() as u16;
            let field = ModbusField { address: 0, count, shape: Shape::Text, order: WordOrder::LowFirst };
            match decode(&field, &words, zeros(&[0.0])).unwrap() {
                Some(Value::Text(text)) => Some(text),
                None => None,
                Some(Value::Number(number)) => panic!("{number}"),
            }
        };
        assert_eq!(shown(b"SDM630\0\0").as_deref(), Some("SDM630"));
        assert_eq!(shown(b"\0 AB C   ").as_deref(), Some("AB C"));
        assert_eq!(shown(b"ab\0xyz12\0").as_deref(), Some("ab"), "what is behind the end is no text");
        assert_eq!(shown("Zähler ".as_bytes()).as_deref(), Some("Zähler"), "UTF-8");
        assert_eq!(shown(b"Z\xe4hler").as_deref(), Some("Zähler"), "Latin-1");
        assert_eq!(shown(b"a\x07b\n").as_deref(), Some("ab"));
        for nothing in [&b"\0\0\0\0"[..], b"    ", b"\xff\xff\xff\xff", b" \0 \0", b"\x01\x02"] {
            assert_eq!(shown(nothing), None, "{nothing:x?}");
        }
    }

    #[test]
    fn versions_have_dots() {
        let shown = |of: Number, parts, order, words: &[u16]| {
            let field = ModbusField { address: 0, count: 0, shape: Shape::Dotted { number: of, parts }, order };
            decode(&field, words, NONE).map_err(|error| error.to_string())
        };
        let text = |text: &str| Ok(Some(Value::Text(text.to_owned())));
        use WordOrder::{HighFirst, LowFirst};
        assert_eq!(shown(Number::Int16, 2, HighFirst, &[0x01ff]), text("1.255"));
        assert_eq!(shown(Number::Int32, 2, HighFirst, &[3, 0xffff]), text("3.65535"));
        assert_eq!(shown(Number::Int32, 2, LowFirst, &[7, 3]), text("3.7"));
        assert_eq!(shown(Number::Int64, 2, HighFirst, &[0, 1, 0xffff, 0xffff]), text("1.4294967295"));
        assert_eq!(shown(Number::Int32, 4, HighFirst, &[0x0102, 0x03fe]), text("1.2.3.254"));
        assert_eq!(shown(Number::Int64, 4, HighFirst, &[1, 2, 3, 65_535]), text("1.2.3.65535"));
        assert_eq!(
            shown(Number::Int16, 4, HighFirst, &[1]),
            Err("a version of 4 parts is made of int32 or int64".into())
        );
        assert!(shown(Number::Float, 2, HighFirst, &[1, 2]).is_err());
        assert!(shown(Number::Int32, 3, HighFirst, &[1, 2]).is_err());
    }

    #[test]
    fn serial_numbers_keep_every_digit() {
        let field = number(Number::Uint64, 1.0, WordOrder::HighFirst);
        assert_eq!(decode_text(&field, &[0xffff; 4], NONE).unwrap().as_deref(), Some("18446744073709551615"));
        let signed = number(Number::Int32, 1.0, WordOrder::HighFirst);
        assert_eq!(decode_text(&signed, &[0xffff; 2], NONE).unwrap().as_deref(), Some("-1"));
        assert_eq!(decode_text(&signed, &[0xffff; 2], zeros(&[-1.0])).unwrap().as_deref(), Some("0"));
        let scaled = number(Number::Uint16, 0.01, WordOrder::HighFirst);
        assert_eq!(decode_text(&scaled, &[213], NONE).unwrap().as_deref(), Some("2.13"));
        let float = number(Number::Float, 1.0, WordOrder::HighFirst);
        assert_eq!(decode_text(&float, &[0x4000, 0], NONE).unwrap().as_deref(), Some("2"));
    }

    #[test]
    fn another_number_of_registers_is_said() {
        let field = number(Number::Int32, 1.0, WordOrder::HighFirst);
        for words in [&[][..], &[1], &[1, 2, 3]] {
            assert_eq!(decode(&field, words, NONE), Err(DecodeError::Length { wanted: 2, found: words.len() }));
        }
    }

    fn any_number() -> impl Strategy<Value = Number> {
        use Number::{Double, Float, Int16, Int32, Int64, Uint16, Uint32, Uint64};
        prop::sample::select(vec![Int16, Uint16, Int32, Uint32, Int64, Uint64, Float, Double])
    }

    /// What a device does, written the other way round: the bytes of the machine's own encoding.
    fn encode(value: i128, of: Number, order: WordOrder) -> Vec<u16> {
        let bytes = match of {
            Number::Int16 => (value as i16).to_be_bytes().to_vec(),
            Number::Uint16 => (value as u16).to_be_bytes().to_vec(),
            Number::Int32 => (value as i32).to_be_bytes().to_vec(),
            Number::Uint32 => (value as u32).to_be_bytes().to_vec(),
            Number::Int64 => (value as i64).to_be_bytes().to_vec(),
            Number::Uint64 => (value as u64).to_be_bytes().to_vec(),
            Number::Float => (value as f32).to_be_bytes().to_vec(),
            Number::Double => (value as f64).to_be_bytes().to_vec(),
        };
        let mut words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        if order == WordOrder::LowFirst {
            words.reverse();
        }
        words
    }

    fn range(of: Number) -> (i128, i128) {
        match of {
            Number::Int16 => (i16::MIN.into(), i16::MAX.into()),
            Number::Uint16 => (0, u16::MAX.into()),
            Number::Int32 => (i32::MIN.into(), i32::MAX.into()),
            Number::Uint32 => (0, u32::MAX.into()),
            Number::Int64 => (i64::MIN.into(), i64::MAX.into()),
            Number::Uint64 => (0, u64::MAX.into()),
            Number::Float => (-(1 << 24), 1 << 24),
            Number::Double => (-(1 << 53), 1 << 53),
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(of in any_number(), low in any::<bool>(), seed in any::<u128>()) {
            let order = if low { WordOrder::LowFirst } else { WordOrder::HighFirst };
            let (least, most) = range(of);
            let value = least + (seed % ((most - least + 1) as u128)) as i128;
            let words = encode(value, of, order);
            let field = number(of, 1.0, order);
            prop_assert_eq!(decode(&field, &words, NONE).unwrap(), Some(Value::Number(value as f64)));
            prop_assert_eq!(decode_text(&field, &words, NONE).unwrap(), Some(value.to_string()));
        }

        #[test]
        fn any_registers_give_a_finite_number_a_text_or_nothing(
            of in any_number(),
            words in prop::collection::vec(any::<u16>(), 0..12),
            factor in prop::num::f64::ANY,
            reserved in prop::collection::vec(prop::num::f64::ANY, 0..3),
            unavailable in prop::collection::vec(prop::num::f64::ANY, 0..3),
        ) {
            let shapes = [Shape::Number { number: of, factor }, Shape::Text, Shape::Dotted { number: of, parts: 4 }];
            for shape in shapes {
                let field = ModbusField { address: 0, count: words.len() as u16, shape, order: WordOrder::HighFirst };
                match decode(&field, &words, Special { reserved: &reserved, unavailable: &unavailable }) {
                    Ok(Some(Value::Number(value))) => prop_assert!(value.is_finite()),
                    Ok(Some(Value::Text(text))) => prop_assert_eq!(text.trim(), &text),
                    Ok(None) | Err(_) => {}
                }
            }
        }
    }
}
