//! `date.`: local time, in the time zone of the system. Pure.

use jiff::Zoned;

/// Months count from 0 (January) to 11, weekdays from 0 (Sunday) to 6, days of the year from 0 (1 January).
pub(super) fn member(now: &Zoned, member: &str) -> Option<f64> {
    let time = now.time();
    let minute = i32::from(time.hour()) * 60 + i32::from(time.minute());
    let value = match member {
        "year" => i32::from(now.year()),
        "month" => i32::from(now.month()) - 1,
        "day" => i32::from(now.day()),
        "weekday" => i32::from(now.weekday().to_sunday_zero_offset()),
        "yearday" => i32::from(now.day_of_year()) - 1,
        "hour" => i32::from(time.hour()),
        "minute" => i32::from(time.minute()),
        "second" => i32::from(time.second()),
        "daysecond" => minute * 60 + i32::from(time.second()),
        "dayminute" => minute,
        "dst" => i32::from(now.time_zone().to_offset_info(now.timestamp()).dst().is_dst()),
        #[expect(clippy::cast_precision_loss, reason = "seconds of the calendar are exact")]
        "timestamp" => return Some(now.timestamp().as_second() as f64),
        _ => return None,
    };
    Some(f64::from(value))
}
