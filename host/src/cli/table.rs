//! The live table of the demo and of `run` on a terminal: one row a device, redrawn in place on a terminal, printed
//! as plain lines elsewhere. Pure text; where it goes is the caller's business.

use std::fmt::Write as _;

/// One device at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `E1 Carport`.
    pub device: String,
    /// `charging`, `connected`, `online`, `offline: …`.
    pub state: String,
    /// Current per phase in mA; `None` is unknown.
    pub current_ma: [Option<i64>; 3],
    /// Setpoint of a wallbox or limit of a circuit in mA per phase; `None` where there is none.
    pub limit_ma: Option<u32>,
    /// Why it is as it is.
    pub why: String,
}

const HEAD: [&str; 7] = ["device", "state", "L1 A", "L2 A", "L3 A", "limit A", "why"];

/// The rows as aligned text, a header first, each line ended by a line feed.
#[must_use]
pub fn render(rows: &[Row]) -> String {
    let cells: Vec<[String; 7]> = std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let mut widths = [0; 7];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Numbers stand right, words left; the last column needs no padding.
            let padded = match column {
                2..=5 => format!("{cell:>width$}  "),
                6 => cell.clone(),
                _ => format!("{cell:<width$}  "),
            };
            line.push_str(&padded);
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The text with every line cut to `width` characters.
#[must_use]
pub fn cut(text: &str, width: usize) -> String {
    text.lines().map(|line| line.chars().take(width).chain(['\n']).collect::<String>()).collect()
}

fn cells(row: &Row) -> [String; 7] {
    let [l1, l2, l3] = row.current_ma.map(|ma| ma.map_or_else(|| "?".to_owned(), amps));
    let limit = row.limit_ma.map_or_else(|| "-".to_owned(), |ma| amps(i64::from(ma)));
    [row.device.clone(), row.state.clone(), l1, l2, l3, limit, row.why.clone()]
}

/// Milliamperes as amperes with one decimal.
fn amps(ma: i64) -> String {
    let tenths = (ma.abs() + 50) / 100;
    let sign = if ma < 0 && tenths > 0 { "-" } else { "" };
    format!("{sign}{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_is_never_wider_than_the_terminal() {
        assert_eq!(cut("äöü\nab\n", 2), "äö\nab\n");
    }

    #[test]
    fn columns_line_up_and_unknown_is_a_question_mark() {
        let rows = [
            Row {
                device: "E1 Carport".into(),
                state: "charging".into(),
                current_ma: [Some(15_960), Some(0), None],
                limit_ma: Some(16_000),
                why: "its own maximum".into(),
            },
            Row {
                device: "M1".into(),
                state: "online".into(),
                current_ma: [Some(-1_040), Some(-40), Some(35_000)],
                ..Row::default()
            },
        ];
        assert_eq!(
            render(&rows),
            "device      state     L1 A  L2 A  L3 A  limit A  why\n\
             E1 Carport  charging  16.0   0.0     ?     16.0  its own maximum\n\
             M1          online    -1.0   0.0  35.0        -\n"
        );
    }
}
