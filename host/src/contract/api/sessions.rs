//! `enter_rfid`, `override_device` and `soft_meter` (`cfos-interfaces.md` 1.6 to 1.8). Accepted in any state, also
//! while the wallbox is silent (contract rule B24). Cards and PINs are never in a log or a message.

use crate::config::is_card_number;
use crate::session::{OverrideChange, SessionError};
use crate::site::{DeviceId, DeviceKind};

use super::super::number::Number;
use super::{Answer, Api, Call, Refusal, UNKNOWN_DEVICE, args, bad, required, values};

/// More than any wallbox has.
const MOST_MA: f64 = 1_000_000.0;

/// Anybody: who has the card may charge.
pub(super) async fn enter_rfid(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let card = card(required(call, "rfid", "5678")?)?;
    let device = match call.args.get("dev_id") {
        // An empty one is how forms say "any".
        None | Some("") => None,
        Some(_) => Some(wallbox(api, call)?),
    };
    match api.sessions.enter_card(card, device.as_ref()).await {
        Ok(_) => Ok(Answer::ok()),
        Err(SessionError::UnknownDevice) => Err(Refusal::Exact(UNKNOWN_DEVICE)),
        Err(SessionError::Refused(why)) => Err(Refusal::Forbidden(why)),
    }
}

/// Who may: `C`, `c` and `mamps` the admin or a user of the wallbox (`rfid=`), `U`, `u` as well, `E`, `e` the admin.
///
/// `mamps` of 0 or -1 takes the limit away. One between 1 and the wallbox's minimum is kept as it is: no car can be
/// told so little, so the wallbox pauses until the limit is raised or taken away.
pub(super) async fn override_device(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let card = call.args.get("rfid").map(card).transpose()?;
    let flags = call.args.get("flags").map(flags).transpose()?.unwrap_or_default();
    let max_ma = call.args.get("mamps").map(milliamps).transpose()?;
    let change = OverrideChange { max_ma, ..flags };
    if change == OverrideChange::default() {
        return Err(bad("flags and mamps are missing; expected flags=C or mamps=16000"));
    }
    let device = wallbox(api, call);
    if !call.caller.admin {
        let device = device.as_ref().map_err(|_| Refusal::Unauthorised)?;
        let is_user = card.is_some_and(|card| api.sessions.is_user(card, device));
        if !is_user || change.rules_off.is_some() {
            return Err(Refusal::Unauthorised);
        }
    }
    api.sessions.override_device(&device?, change).await.map_err(refusal)?;
    Ok(Answer::ok())
}

/// Sets the estimated counter with `val`; answers the reading before.
pub(super) async fn soft_meter(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let set = call.args.get("val").map(|text| values::number_arg("val", text)).transpose()?;
    if let Some(value) = set.filter(|value| !(0.0..=1e12).contains(value)) {
        return Err(bad(format!("val: expected 0 to 1e12 Wh, found {value}")));
    }
    let before = api.sessions.soft_meter(&wallbox(api, call)?, set).await.map_err(refusal)?;
    Ok(Answer::of(&Number(before)))
}

fn refusal(error: SessionError) -> Refusal {
    match error {
        SessionError::UnknownDevice => Refusal::Exact(UNKNOWN_DEVICE),
        SessionError::Refused(why) => Refusal::Bad(why),
    }
}

/// The wallbox of `dev_id`; a meter is as unknown here as what is not there.
fn wallbox(api: &Api, call: &Call) -> Result<DeviceId, Refusal> {
    let id = values::device_arg(call, "E1")?;
    let config = api.source.config.borrow();
    let known = id.kind() == DeviceKind::Evse && config.devices.iter().any(|device| device.id == id);
    if known { Ok(id) } else { Err(Refusal::Exact(UNKNOWN_DEVICE)) }
}

fn card(text: &str) -> Result<&str, Refusal> {
    if is_card_number(text) { Ok(text) } else { Err(bad("rfid: expected 1 to 64 letters and digits")) }
}

/// Capitals switch off, small letters on again; they can be combined, each thing once.
fn flags(text: &str) -> Result<OverrideChange, Refusal> {
    let mut change = OverrideChange::default();
    for letter in text.chars() {
        let flag = match letter.to_ascii_uppercase() {
            'C' => &mut change.charging_off,
            'E' => &mut change.rules_off,
            'U' => &mut change.user_rules_off,
            _ => {
                let text = args::short(text);
                return Err(bad(format!("flags: expected letters out of C, c, E, e, U, u, found \"{text}\"")));
            }
        };
        if flag.replace(letter.is_ascii_uppercase()).is_some() {
            let letter = letter.to_ascii_uppercase();
            return Err(bad(format!("flags: expected each letter once, {letter} is there twice")));
        }
    }
    Ok(change)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in the range just before")]
fn milliamps(text: &str) -> Result<Option<u32>, Refusal> {
    let ma = values::number_arg("mamps", text)?;
    match ma.floor() {
        // Home Assistant writes 16000.0.
        _ if ma == 0.0 || ma == -1.0 => Ok(None),
        whole if (1.0..=MOST_MA).contains(&whole) => Ok(Some(whole as u32)),
        _ => Err(bad(format!("mamps: expected 1 to {MOST_MA} mA, or 0 or -1 for no limit, found {ma}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_combine_and_do_not_contradict() {
        let all = |on| OverrideChange { charging_off: on, rules_off: on, user_rules_off: on, max_ma: None };
        assert_eq!(flags("CEU").unwrap(), all(Some(true)));
        assert_eq!(flags("uec").unwrap(), all(Some(false)));
        assert_eq!(flags("").unwrap(), all(None));
        assert_eq!(
            flags("Ce").unwrap(),
            OverrideChange { user_rules_off: None, rules_off: Some(false), ..all(Some(true)) }
        );
        for text in ["Cc", "CC", "CEUu", "X", "C E", "Ç", "ſ"] {
            assert!(matches!(flags(text), Err(Refusal::Bad(_))), "{text}");
        }
    }

    #[test]
    fn a_limit_is_a_number_or_nothing() {
        for (text, wanted) in [
            ("16000.0", Some(16_000)),
            ("8000", Some(8_000)),
            ("3000", Some(3_000)),
            ("6000.9", Some(6_000)),
            ("1e4", Some(10_000)),
            ("0", None),
            ("-0.0", None),
            ("-1", None),
            ("-1.0", None),
        ] {
            assert_eq!(milliamps(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "x", "nan", "inf", "-2", "0.5", "-0.5", "1e9", "1000001", "16000mA"] {
            assert!(matches!(milliamps(text), Err(Refusal::Bad(_))), "{text}");
        }
    }
}
