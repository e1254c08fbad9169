//! `GET /api/transactions`: what was charged, as JSON or CSV, for accounting.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;

use crate::contract::api::{Args, BadArgs};
use crate::site::{BadDeviceId, DeviceKind};
use crate::store::{Transaction, TransactionFilter};

use super::{Admin, App, JSON, accepts, bad, error, reply};

/// Most transactions of one answer; who wants more asks for those after the last one.
const MOST: u32 = 10_000;
const COLUMNS: [&str; 11] = [
    "id",
    "dev_id",
    "name",
    "start",
    "end",
    "energy_wh",
    "meter_start_wh",
    "meter_end_wh",
    "rfid",
    "user_id",
    "reason",
];

/// Answers one request. Needs the admin: cards and habits are nobody else's business.
pub(super) async fn list(_: Admin, State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let wanted = Args::parse(uri.query().unwrap_or_default()).and_then(|args| wanted(&args));
    let (filter, csv) = match wanted {
        Ok(wanted) => wanted,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why.to_string()),
    };
    let list = match app.state.api.sessions.transactions().list(&filter).await {
        Ok(list) => list,
        Err(why) => return error(StatusCode::SERVICE_UNAVAILABLE, &why),
    };
    if !csv.unwrap_or_else(|| accepts(&headers, "text/csv")) {
        return reply(StatusCode::OK, JSON, crate::contract::to_json(&list));
    }
    let mut response = reply(StatusCode::OK, "text/csv; charset=utf-8; header=present", table(&list));
    let name = HeaderValue::from_static("attachment; filename=\"transactions.csv\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    response
}

/// The filter, and whether the answer is to be CSV.
fn wanted(args: &Args) -> Result<(TransactionFilter, Option<bool>), BadArgs> {
    let mut filter = TransactionFilter::default();
    let mut csv = None;
    for (name, value) in args.iter() {
        match name {
            "dev_id" => {
                let id: crate::site::DeviceId =
                    value.parse().map_err(|error: BadDeviceId| bad(format!("dev_id: {error}")))?;
                if id.kind() != DeviceKind::Evse {
                    return Err(bad(format!("dev_id: {id} is no wallbox; wallboxes are E1, E2, …")));
                }
                filter.device = Some(id);
            }
            "from" => filter.from = Some(time("from", value)?),
            "to" => filter.to = Some(time("to", value)?),
            "after" => filter.after = Some(number("after", value, u64::MAX)?),
            "limit" => {
                let limit = number("limit", value, MOST.into())?;
                filter.limit = Some(u32::try_from(limit).unwrap_or(MOST));
            }
            "format" => match value {
                "csv" => csv = Some(true),
                "json" => csv = Some(false),
                _ => return Err(bad("format: expected json or csv")),
            },
            _ => {
                let name = crate::config::tree::shorten(name);
                return Err(bad(format!(
                    "there is no argument {name}; there are dev_id, from, to, after, limit, format"
                )));
            }
        }
    }
    Ok((filter, csv))
}

fn number(name: &str, value: &str, most: u64) -> Result<u64, BadArgs> {
    let number = value.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| bad(format!("{name}: expected a whole number from 0 to {most}")))
}

/// Unix seconds, or RFC 3339.
fn time(name: &str, value: &str) -> Result<u64, BadArgs> {
    if let Ok(seconds) = value.parse() {
        return Ok(seconds);
    }
    rfc3339(value).ok_or_else(|| {
        bad(format!("{name}: expected Unix seconds, 2026-01-31, 2026-01-31T12:00:00Z or 2026-01-31T12:00:00+01:00"))
    })
}

fn rfc3339(value: &str) -> Option<u64> {
    if value.len() == 10 {
        return rfc3339(&format!("{value}T00:00:00Z"));
    }
    let (plain, offset_s) = match value.char_indices().nth_back(5) {
        // A plus that nobody escaped is a space.
        Some((at, sign @ ('+' | ' ' | '-'))) => {
            let (plain, offset) = value.split_at_checked(at)?;
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let hours: i64 = hours.parse().ok().filter(|hours| *hours < 24)?;
            let minutes: i64 = minutes.parse().ok().filter(|minutes| *minutes < 60)?;
            let seconds = (hours * 60 + minutes) * 60;
            (plain, if sign == '-' { -seconds } else { seconds })
        }
        _ => (value.strip_suffix(['Z', 'z'])?, 0),
    };
    let at = humantime::parse_rfc3339(&format!("{plain}Z")).ok()?;
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    Some(seconds.saturating_add_signed(-offset_s))
}

fn table(list: &[Transaction]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
    let text = |text: &Option<String>| harmless(text.as_deref().unwrap_or_default());
    // Writing into memory cannot fail.
    let _ = writer.write_record(COLUMNS);
    for one in list {
        let _ = writer.write_record([
            one.id.to_string(),
            harmless(&one.dev_id),
            harmless(&one.name),
            harmless(&one.start),
            text(&one.end),
            number(Some(one.energy_wh)),
            number(one.meter_start_wh),
            number(one.meter_end_wh),
            text(&one.rfid),
            text(&one.user_id),
            text(&one.reason),
        ]);
    }
    writer.into_inner().unwrap_or_default()
}

/// A spreadsheet would compute a text that begins like a formula.
fn harmless(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_read_and_wrong_ones_are_told() {
        let args = Args::parse("dev_id=E2&from=100&to=1970-01-01T01:00:00%2B00:30&after=7&limit=3&format=csv").unwrap();
        let (filter, csv) = wanted(&args).unwrap();
        let id = "E2".parse().ok();
        assert_eq!(
            filter,
            TransactionFilter { device: id, from: Some(100), to: Some(1800), after: Some(7), limit: Some(3) }
        );
        assert_eq!(csv, Some(true));
        for (query, part) in [
            ("dev_id=M1", "M1 is no wallbox"),
            ("dev_id=x", "dev_id: "),
            ("from=gestern", "from: expected Unix seconds"),
            ("to=-1", "to: expected"),
            ("after=x", "after: expected a whole number"),
            ("limit=10001", "from 0 to 10000"),
            ("format=xml", "json or csv"),
            ("what=1", "there is no argument what"),
        ] {
            let why = wanted(&Args::parse(query).unwrap()).unwrap_err().to_string();
            assert!(why.contains(part), "{query}: {why}");
        }
    }

    #[test]
    fn times_are_read_with_their_offset() {
        for (text, seconds) in [
            ("1970-01-02", 86_400),
            ("1970-01-02T00:00:00Z", 86_400),
            ("1970-01-02T01:00:00+01:00", 86_400),
            ("1970-01-02T01:00:00 01:00", 86_400),
            ("1970-01-01T22:30:00-01:30", 86_400),
            ("2026-02-28T12:34:56.789Z", 1_772_282_096),
        ] {
            assert_eq!(rfc3339(text), Some(seconds), "{text}");
        }
        for text in
            ["", "1970-01-02T00:00:00", "1970-13-02", "1970-01-02T00:00:00+25:00", "ä0-01-0é", "1970-01-0ä", "+01:00"]
        {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_table_holds_everything_and_no_formula() {
        let one = Transaction {
            id: 1,
            dev_id: "E1".into(),
            name: "=HYPERLINK(\"http://evil\";\"x\")".into(),
            start: "2026-01-01T00:00:00Z".into(),
            end: None,
            energy_wh: 1500.5,
            meter_start_wh: Some(-2.0),
            meter_end_wh: None,
            rfid: Some("+49".into()),
            user_id: Some("4711".into()),
            reason: Some("a, \"b\"".into()),
        };
        let text = String::from_utf8(table(&[one])).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], COLUMNS.join(","));
        assert_eq!(
            lines[1],
            "1,E1,\"'=HYPERLINK(\"\"http://evil\"\";\"\"x\"\")\",2026-01-01T00:00:00Z,,1500.5,-2,,'+49,4711,\"a, \"\"b\"\"\""
        );
    }
}
