//! Limits that are formulas (`limit_ma_expr`, `max_ma_expr`). They only lower what the configured numbers allow; one
//! without a value leaves nothing, as a silent meter does.

use ladekern_definition::Formula;
use ladekern_definition::formula::Scope;

use super::inputs::usable;
use crate::config::Config;
use crate::formulas::World;
use crate::load::{Milliamps, Site};

/// Applies the formulas of `config` to the site.
pub(super) fn lower(site: &mut Site, config: &Config, world: &World) {
    let limited = config.circuits.iter().any(|circuit| circuit.limit_ma_expr.is_some())
        || config.devices.iter().any(|device| device.max_ma_expr.is_some());
    if !limited {
        return;
    }
    let look = world.look();
    for circuit in &mut site.circuits {
        let configured = config.circuits.iter().find(|configured| configured.id == circuit.id.as_str());
        if let Some(formula) = configured.and_then(|configured| configured.limit_ma_expr.as_ref()) {
            let limit = usable(config, milliamps(formula, &look.scope(None)));
            circuit.limit = circuit.limit.map(|hard| hard.min(limit));
        }
    }
    for charger in &mut site.chargers {
        let device = config.devices.iter().find(|device| device.id == charger.id);
        if let Some(formula) = device.and_then(|device| device.max_ma_expr.as_ref()) {
            let most = Milliamps::from(milliamps(formula, &look.scope(Some(&charger.id))));
            charger.allowed = Some(charger.allowed.map_or(most, |allowed| allowed.min(most)));
        }
    }
}

/// Rounded down; nothing while there is no value, and nothing for a negative one.
fn milliamps(formula: &Formula, scope: &dyn Scope) -> u32 {
    let value = formula.value(scope).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates at both ends")]
    let ma = value as u32;
    ma
}
