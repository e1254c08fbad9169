//! Numbers and texts out of Modbus registers. Every getter gives `None` for what lies outside the block and for floats that are no
//! number; it never panics. It knows no device's special values: filter those where the device is described.

/// A run of registers that was read from wire address `start`. Bytes inside a register are high byte first; 32 and 64 bit
/// values have the high word first unless [`Registers::low_word_first`] was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Registers<'a> {
    start: u16,
    words: &'a [u16],
    low_word_first: bool,
}

impl<'a> Registers<'a> {
    /// Registers from wire address `start`.
    #[must_use]
    pub fn new(start: u16, words: &'a [u16]) -> Self {
        Self { start, words, low_word_first: false }
    }

    /// The same registers for a device that sends the low word first (CDAB).
    #[must_use]
    pub fn low_word_first(mut self) -> Self {
        self.low_word_first = true;
        self
    }

    /// Nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// `count` registers from `address`, or none if not all of them were read.
    #[must_use]
    pub fn words(&self, address: u16, count: usize) -> Option<&'a [u16]> {
        let from = usize::from(address.checked_sub(self.start)?);
        self.words.get(from..from.checked_add(count)?)
    }

    /// One register.
    #[must_use]
    pub fn u16(&self, address: u16) -> Option<u16> {
        self.words(address, 1)?.first().copied()
    }

    /// One register, two's complement.
    #[must_use]
    pub fn i16(&self, address: u16) -> Option<i16> {
        self.u16(address).map(u16::cast_signed)
    }

    /// Two registers.
    #[must_use]
    pub fn u32(&self, address: u16) -> Option<u32> {
        self.joined(address, 2).and_then(|v| u32::try_from(v).ok())
    }

    /// Two registers, two's complement.
    #[must_use]
    pub fn i32(&self, address: u16) -> Option<i32> {
        self.u32(address).map(u32::cast_signed)
    }

    /// Four registers.
    #[must_use]
    pub fn u64(&self, address: u16) -> Option<u64> {
        self.joined(address, 4)
    }

    /// Four registers, two's complement.
    #[must_use]
    pub fn i64(&self, address: u16) -> Option<i64> {
        self.u64(address).map(u64::cast_signed)
    }

    /// Two registers, IEEE 754; NaN, infinities and the largest negative number (a "not available" of several vendors)
    /// are unknown.
    #[must_use]
    pub fn f32(&self, address: u16) -> Option<f64> {
        let value = f32::from_bits(self.u32(address)?);
        (value.is_finite() && value != f32::MIN).then_some(f64::from(value))
    }

    /// Four registers, IEEE 754; what is not finite is unknown.
    #[must_use]
    pub fn f64(&self, address: u16) -> Option<f64> {
        Some(f64::from_bits(self.u64(address)?)).filter(|v| v.is_finite())
    }

    /// `count` registers of two characters each, up to the first NUL, without surrounding blanks. None if nothing is
    /// left; what is not ASCII text becomes `?`.
    #[must_use]
    pub fn text(&self, address: u16, count: usize) -> Option<String> {
        let mut text = String::with_capacity(count * 2);
        let bytes = self.words(address, count)?.iter().flat_map(|word| word.to_be_bytes());
        for byte in bytes.take_while(|byte| *byte != 0) {
            text.push(if byte == b' ' || byte.is_ascii_graphic() { char::from(byte) } else { '?' });
        }
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn joined(&self, address: u16, count: usize) -> Option<u64> {
        let join = |value: u64, word: &u16| value << 16 | u64::from(*word);
        let words = self.words(address, count)?;
        Some(if self.low_word_first { words.iter().rev().fold(0, join) } else { words.iter().fold(0, join) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_words_in_both_orders() {
        let words = [0x0001, 0x0203, 0x0405, 0x0607];
        let be = Registers::new(100, &words);
        assert_eq!(be.u32(100), Some(0x0001_0203));
        assert_eq!(be.u64(100), Some(0x0001_0203_0405_0607));
        let low_first = be.low_word_first();
        assert_eq!(low_first.u32(100), Some(0x0203_0001));
        assert_eq!(low_first.u64(100), Some(0x0607_0405_0203_0001));
        assert_eq!(Registers::new(0, &[0xFFFF, 0xFFFE]).i32(0), Some(-2));
        assert_eq!(Registers::new(0, &[0xFFFE]).i16(0), Some(-2));
    }

    #[test]
    fn outside_the_block_is_unknown() {
        let be = Registers::new(100, &[1, 2]);
        assert_eq!(be.u16(99), None);
        assert_eq!(be.u16(102), None);
        assert_eq!(be.u32(101), None);
        assert_eq!(Registers::new(65_535, &[1]).u32(65_535), None);
        assert_eq!(Registers::new(0, &[]).text(0, 4), None);
    }

    #[test]
    fn floats_that_are_no_number_are_unknown() {
        for (high, low) in [(0x7FC0, 0), (0x7F80, 0), (0xFF80, 0), (0xFF7F, 0xFFFF), (0xFFFF, 0xFFFF)] {
            assert_eq!(Registers::new(0, &[high, low]).f32(0), None, "{high:04X}{low:04X}");
        }
        assert_eq!(Registers::new(0, &[0x3F80, 0]).f32(0), Some(1.0));
        assert_eq!(Registers::new(0, &[0x7FF8, 0, 0, 0]).f64(0), None);
    }

    #[test]
    fn texts_end_at_nul_and_hold_no_control_characters() {
        assert_eq!(Registers::new(0, &[0x2041, 0x4200]).text(0, 2).as_deref(), Some("AB"));
        assert_eq!(Registers::new(0, &[0, 0]).text(0, 2), None);
        assert_eq!(Registers::new(0, &[0x41FF, 0x0A42]).text(0, 2).as_deref(), Some("A??B"));
    }
}
