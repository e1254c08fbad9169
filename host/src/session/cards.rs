//! Whose card is it, and what may it do? Pure. Card numbers appear in no message.

use crate::config::{Config, UserConfig};
use crate::site::DeviceId;

/// What a card does at a wallbox.
#[derive(Clone, PartialEq, Eq)]
pub struct Card {
    /// The user's id.
    pub user_id: String,
    /// The user's name.
    pub user_name: String,
    /// It authorises charging.
    pub authorises: bool,
    /// It switches charging off and on.
    pub toggles: bool,
    /// Phases to charge with; 0 leaves them.
    pub phases: u8,
}

/// Who is assigned to a wallbox.
pub fn users<'a>(config: &'a Config, device: &'a DeviceId) -> impl Iterator<Item = &'a UserConfig> {
    config.users.iter().filter(move |user| user.devices.contains(device))
}

/// What this card or PIN does at this wallbox; `None`: no user of it has such a one. The user's id is a PIN.
pub fn find(config: &Config, device: &DeviceId, card: &str) -> Option<Card> {
    users(config, device).find_map(|user| {
        let known = |authorises, toggles, phases| Card {
            user_id: user.id.clone(),
            user_name: user.name.clone(),
            authorises,
            toggles,
            phases,
        };
        if let Some(own) = user.cards.iter().find(|own| same(&own.id, card)) {
            return Some(known(own.authorises, own.toggles, own.phases));
        }
        same(&user.id, card).then(|| known(true, false, 0))
    })
}

/// Readers write hexadecimal digits large or small, some with separators.
pub fn same(one: &str, other: &str) -> bool {
    let digits = |text: &str| -> String {
        text.chars().filter(char::is_ascii_alphanumeric).map(|digit| digit.to_ascii_uppercase()).collect()
    };
    let one = digits(one);
    !one.is_empty() && one == digits(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_looked_for_among_the_users_of_the_wallbox() {
        let text = r#"
            [[device]]
            id = "E1"
            type = "http-input"
            [[device]]
            id = "E2"
            type = "http-input"
            [[user]]
            id = "1234"
            name = "Ann"
            devices = ["E1"]
            [[user.card]]
            id = "04AB12"
            authorises = false
            toggles = true
            phases = 1
        "#;
        let config = crate::config::parse("f", text, &[]).unwrap();
        let (e1, e2) = ("E1".parse().unwrap(), "E2".parse().unwrap());
        let card = find(&config, &e1, "04:ab:12").unwrap();
        assert_eq!((card.user_id.as_str(), card.authorises, card.toggles, card.phases), ("1234", false, true, 1));
        assert!(find(&config, &e1, "1234").unwrap().authorises);
        for stranger in ["", ":", "04AB1", "4711"] {
            assert!(find(&config, &e1, stranger).is_none(), "{stranger}");
        }
        assert!(find(&config, &e2, "1234").is_none());
    }
}
