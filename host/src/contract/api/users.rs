//! `get_users`, `get_user`, `set_user` and `get_new_user_id` (`cfos-interfaces.md` 1.10 and 3.5). A user's id is a
//! PIN: it is the credential of `set_user` without the admin password, and never in a log or a message.

use argon2::password_hash::rand_core::{OsRng, RngCore};
use serde_json::{Map, Value, json};
use toml_edit::{ArrayOfTables, Item, Table};

use crate::config::{CardConfig, Config, DeviceConfig, Edit, UserConfig, is_card_number};
use crate::site::{DeviceId, DeviceKind};

use super::{Answer, Api, Call, Refusal, bad, required, rules, values};

/// More than anybody carries.
const MOST_CARDS: usize = 100;

pub(super) fn all(api: &Api) -> Answer {
    let config = api.source.config.borrow().clone();
    Answer::of(&config.users.iter().map(object).collect::<Vec<_>>())
}

pub(super) fn one(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let id = required(call, "id", "4711")?;
    let config = api.source.config.borrow().clone();
    let user = config.users.iter().find(|user| user.id == id);
    user.map(|user| Answer::of(&object(user))).ok_or_else(|| bad("id: there is no such user"))
}

/// Ten digits that are nobody's id and nobody's card. Random: whoever knows an id may charge.
pub(super) fn new_id(api: &Api) -> Result<Answer, Refusal> {
    let config = api.source.config.borrow().clone();
    let taken = |id: &str| config.users.iter().any(|user| user.id == id || user.cards.iter().any(|card| card.id == id));
    let mut drawn = (0..100).map(|_| format!("{:010}", OsRng.next_u64() % 10_000_000_000));
    let id = drawn.find(|id| !taken(id)).ok_or_else(|| Refusal::NotNow("no free id was found".into()))?;
    Ok(Answer::of(&id))
}

/// Makes or changes a user; keys that are not given stay. `"delete": true` removes the user: how the original's
/// clients say that is not documented.
///
/// Without the admin password the body has to hold the id of a user; then that user's own name, list entry, cards
/// and charging rules may change. Wallboxes are given by the admin alone: a user could else charge where nobody wants that.
pub(super) async fn set(api: &Api, call: &Call) -> Result<Answer, Refusal> {
    let _one = api.changes.lock().await;
    let body = values::object(&call.body)?;
    let config = api.source.config.borrow().clone();
    let id = user_id(&body)?;
    let present = config.users.iter().find(|user| user.id == id);
    if present.is_none() && !call.caller.admin {
        return Err(Refusal::Unauthorised);
    }
    if let Some(delete) = body.get("delete")
        && values::flag("delete", delete)?
    {
        return delete_user(api, call, present).await;
    }
    let new = UserConfig {
        id,
        name: String::new(),
        display: true,
        devices: Vec::new(),
        cards: Vec::new(),
        charging_rules: None,
    };
    let user = changed(present.cloned().unwrap_or(new), &body, &config)?;
    if !call.caller.admin && present.is_none_or(|present| !same_devices(&present.devices, &user.devices)) {
        return Err(Refusal::Unauthorised);
    }
    unique(&user, &config).map_err(|why| match call.caller.admin {
        true => bad(why),
        // A wrong guess of a card as any other, and counted as one by whoever guards the door.
        false => Refusal::Forbidden(why),
    })?;
    if present != Some(&user) {
        let edit = Edit::Entry { list: "user", entry: entry(&user) };
        api.settings.change(vec![edit], Vec::new()).await?;
    }
    Ok(Answer::ok())
}

async fn delete_user(api: &Api, call: &Call, present: Option<&UserConfig>) -> Result<Answer, Refusal> {
    if !call.caller.admin {
        return Err(Refusal::Unauthorised);
    }
    let user = present.ok_or_else(|| bad("id: there is no such user"))?;
    let edit = Edit::RemoveEntry { list: "user", id: user.id.clone() };
    api.settings.change(vec![edit], Vec::new()).await?;
    Ok(Answer::ok())
}

fn same_devices(a: &[DeviceId], b: &[DeviceId]) -> bool {
    a.iter().all(|id| b.contains(id)) && b.iter().all(|id| a.contains(id))
}

fn user_id(body: &Map<String, Value>) -> Result<String, Refusal> {
    let wanted = "id: expected 1 to 32 digits as a text; get_new_user_id gives one";
    let id = match body.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) if id.is_u64() => id.to_string(),
        None => return Err(bad("id is missing; get_new_user_id gives one")),
        Some(_) => return Err(bad(wanted)),
    };
    let well = (1..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_digit());
    if well { Ok(id) } else { Err(bad(wanted)) }
}

fn changed(mut user: UserConfig, body: &Map<String, Value>, config: &Config) -> Result<UserConfig, Refusal> {
    if let Some(name) = body.get("name") {
        user.name = values::line("name", name, values::NAME)?;
    }
    if let Some(display) = body.get("display") {
        user.display = values::flag("display", display)?;
    }
    if let Some(ids) = body.get("dev_ids") {
        user.devices.clear();
        for (index, id) in values::list("dev_ids", ids)?.iter().enumerate() {
            let id = wallbox(&format!("dev_ids[{index}]"), id, &config.devices)?;
            if !user.devices.contains(&id) {
                user.devices.push(id);
            }
        }
    }
    if let Some(rules) = body.get("charging_rules") {
        user.charging_rules = match values::is_nothing(rules) {
            true => None,
            false => {
                values::list("charging_rules", rules)?;
                Some(rules::text("charging_rules", rules)?)
            }
        };
    }
    if let Some(cards) = body.get("rfids") {
        user.cards = self::cards(cards)?;
    }
    Ok(user)
}

/// Whose card or PIN it is has to be clear: who pays depends on it. Readers write letters large or small.
fn unique(user: &UserConfig, config: &Config) -> Result<(), String> {
    let others = || {
        let others = config.users.iter().filter(|other| other.id != user.id);
        others.flat_map(|other| other.cards.iter().map(|card| &card.id).chain([&other.id]))
    };
    let taken = |id: &str| others().any(|other| other.eq_ignore_ascii_case(id));
    if taken(&user.id) {
        return Err("id: this number is taken already".into());
    }
    for (index, card) in user.cards.iter().enumerate() {
        let mut before = user.cards.iter().take(index);
        if taken(&card.id) || before.any(|other| other.id.eq_ignore_ascii_case(&card.id)) {
            return Err(format!("rfids[{index}].id: this number is taken already"));
        }
    }
    Ok(())
}

fn wallbox(key: &str, id: &Value, devices: &[DeviceConfig]) -> Result<DeviceId, Refusal> {
    let text = values::line(key, id, values::NAME)?;
    let id = values::device(&text).map_err(|error| bad(format!("{key}: {error}")))?;
    match devices.iter().any(|device| device.id == id) {
        _ if id.kind() == DeviceKind::Meter => Err(bad(format!("{key}: {id} is a meter; expected a wallbox"))),
        true => Ok(id),
        false => Err(bad(format!("{key}: there is no wallbox {id}"))),
    }
}

fn cards(list: &Value) -> Result<Vec<CardConfig>, Refusal> {
    let list = values::list("rfids", list)?;
    if list.len() > MOST_CARDS {
        return Err(bad(format!("rfids: expected at most {MOST_CARDS}, found {}", list.len())));
    }
    let card = |(index, card)| {
        let key = format!("rfids[{index}]");
        self::card(&key, values::inner(&key, card)?)
    };
    list.iter().enumerate().map(card).collect()
}

fn card(key: &str, card: &Map<String, Value>) -> Result<CardConfig, Refusal> {
    let id = match card.get("id") {
        Some(Value::String(id)) if is_card_number(id) => id.clone(),
        Some(Value::Number(id)) if id.is_u64() => id.to_string(),
        Some(_) => return Err(bad(format!("{key}.id: expected 1 to 64 letters and digits"))),
        None => return Err(bad(format!("{key}.id is missing"))),
    };
    let flag =
        |name: &str, default| card.get(name).map_or(Ok(default), |value| values::flag(&format!("{key}.{name}"), value));
    let name = card.get("name").map(|name| values::line(&format!("{key}.name"), name, values::NAME)).transpose()?;
    let phases = match card.get("used_phases") {
        None => 0,
        Some(value) => match values::whole(&format!("{key}.used_phases"), value, 0..=3)? {
            1 => 1,
            3 => 3,
            0 => 0,
            _ => return Err(bad(format!("{key}.used_phases: expected 0 (leave them), 1 or 3, found 2"))),
        },
    };
    Ok(CardConfig {
        id,
        name: name.unwrap_or_default(),
        authorises: flag("ac_auth", true)?,
        toggles: flag("ac_ovch", false)?,
        phases,
    })
}

fn object(user: &UserConfig) -> Value {
    let card = |card: &CardConfig| {
        json!({
            "id": card.id, "name": card.name, "ac_auth": card.authorises, "ac_ovch": card.toggles,
            "used_phases": card.phases,
        })
    };
    json!({
        "id": user.id, "name": user.name, "display": user.display,
        "dev_ids": user.devices.iter().map(DeviceId::as_str).collect::<Vec<_>>(),
        "rfids": user.cards.iter().map(card).collect::<Vec<_>>(),
        "charging_rules": rules::own(&rules::sets(user.charging_rules.as_deref())),
    })
}

/// The user as an entry of the file.
pub(super) fn entry(user: &UserConfig) -> Table {
    let mut table = Table::new();
    table.insert("id", toml_edit::value(user.id.as_str()));
    table.insert("name", toml_edit::value(user.name.as_str()));
    table.insert("display", toml_edit::value(user.display));
    let devices = user.devices.iter().map(DeviceId::as_str);
    table.insert("devices", toml_edit::value(toml_edit::Array::from_iter(devices)));
    if let Some(rules) = &user.charging_rules {
        table.insert("charging_rules", toml_edit::value(rules.as_str()));
    }
    let mut cards = ArrayOfTables::new();
    for card in &user.cards {
        let mut table = Table::new();
        table.insert("id", toml_edit::value(card.id.as_str()));
        table.insert("name", toml_edit::value(card.name.as_str()));
        table.insert("authorises", toml_edit::value(card.authorises));
        table.insert("toggles", toml_edit::value(card.toggles));
        table.insert("phases", toml_edit::value(i64::from(card.phases)));
        cards.push(table);
    }
    if !cards.is_empty() {
        table.insert("card", Item::ArrayOfTables(cards));
    }
    table
}
