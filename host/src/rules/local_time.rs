//! The time of day and the day of the week where the site is, as charging rules use them. Pure.

/// A moment on the clock on the wall. Where the clock is set back, an hour comes twice and a window over it lasts
/// longer; where it is set forward, what lies in the missing hour does not happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalTime {
    /// 0 Monday to 6 Sunday.
    pub weekday: u8,
    /// Seconds after midnight as the clock shows them, 0 to 86 399.
    pub second: u32,
}

/// Minutes of a day on the clock.
const DAY_MIN: u32 = 24 * 60;

impl LocalTime {
    /// Of a zoned time.
    #[must_use]
    pub fn of(time: &jiff::Zoned) -> Self {
        let part = |part: i8| u32::try_from(part).unwrap_or(0);
        let weekday = u8::try_from(time.weekday().to_monday_zero_offset()).unwrap_or(0);
        Self { weekday, second: part(time.hour()) * 3_600 + part(time.minute()) * 60 + part(time.second()) }
    }

    /// Whether today is among the days, bit 0 Monday.
    #[must_use]
    pub fn is_on(self, days: u8) -> bool {
        days >> self.weekday & 1 == 1
    }

    /// Whether it lies in a window of `minutes` from minute `start` of a day; over midnight the day on which the
    /// window begins is the one that has to be among the days.
    #[must_use]
    pub fn is_within(self, start: u32, minutes: u32, days: u8) -> bool {
        let minute = self.second / 60;
        let start = start % DAY_MIN;
        if minute >= start && minute - start < minutes && self.is_on(days) {
            return true;
        }
        let yesterday = (self.weekday + 6) % 7;
        let since_yesterday = minute + DAY_MIN - start;
        since_yesterday < minutes.min(DAY_MIN) && days >> yesterday & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: u8 = 127;

    fn at(time: &str) -> LocalTime {
        LocalTime::of(&time.parse().unwrap())
    }

    #[test]
    fn a_window_begins_with_its_minute_and_ends_before_its_last() {
        let within = |time: &str| at(time).is_within(8 * 60, 30, EVERY);
        assert!(!within("2026-06-01T07:59:59[Europe/Berlin]"));
        assert!(within("2026-06-01T08:00:00[Europe/Berlin]"));
        assert!(within("2026-06-01T08:29:59[Europe/Berlin]"));
        assert!(!within("2026-06-01T08:30:00[Europe/Berlin]"));
        // Nothing and a whole day.
        assert!(!at("2026-06-01T08:00:00[Europe/Berlin]").is_within(8 * 60, 0, EVERY));
        for hour in 0..24 {
            assert!(at(&format!("2026-06-01T{hour:02}:30:00[Europe/Berlin]")).is_within(300, 1_440, EVERY), "{hour}");
        }
    }

    #[test]
    fn over_midnight_the_day_of_the_beginning_counts() {
        // 2026-06-05 is a Friday: from 22:00 for 8 hours.
        let friday = 1 << 4;
        let within = |time: &str| at(time).is_within(22 * 60, 8 * 60, friday);
        assert!(!within("2026-06-05T05:00:00[Europe/Berlin]"), "that belongs to Thursday");
        assert!(within("2026-06-05T23:00:00[Europe/Berlin]"));
        assert!(within("2026-06-06T05:59:00[Europe/Berlin]"), "Saturday morning");
        assert!(!within("2026-06-06T06:00:00[Europe/Berlin]"));
        assert!(!within("2026-06-06T23:00:00[Europe/Berlin]"));
        // Sunday into Monday.
        assert!(at("2026-06-08T01:00:00[Europe/Berlin]").is_within(23 * 60, 180, 1 << 6));
    }

    #[test]
    fn on_the_days_of_the_clock_change_the_clock_on_the_wall_counts() {
        // 2026-03-29: 02:00 becomes 03:00. A window from 1:00 to 5:00 ends at 5:00, after three hours.
        let spring = |time: &str| at(time).is_within(60, 240, EVERY);
        assert!(spring("2026-03-29T01:30:00+01:00[Europe/Berlin]"));
        assert!(spring("2026-03-29T04:59:00+02:00[Europe/Berlin]"));
        assert!(!spring("2026-03-29T05:00:00+02:00[Europe/Berlin]"));
        // 2026-10-25: 03:00 becomes 02:00, and 02:30 comes twice.
        let autumn = |time: &str| at(time).is_within(120, 60, EVERY);
        assert!(autumn("2026-10-25T02:30:00+02:00[Europe/Berlin]"));
        assert!(autumn("2026-10-25T02:30:00+01:00[Europe/Berlin]"));
        assert!(!autumn("2026-10-25T03:00:00+01:00[Europe/Berlin]"));
    }

    #[test]
    fn monday_is_bit_0() {
        assert_eq!(at("2026-06-01T00:00:00[UTC]").weekday, 0);
        assert_eq!(at("2026-06-07T00:00:00[UTC]").weekday, 6);
        assert!(at("2026-06-07T00:00:00[UTC]").is_on(0b100_0000));
        assert!(!at("2026-06-07T00:00:00[UTC]").is_on(0b011_1111));
    }
}
