//! The `params` object: the whole site in one table. Fields and units: `cfos-interfaces.md` 1.3.1 and 7.1. What this
//! version does not have yet stands there with the value that means "none", because clients index these keys.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::config::{DeviceConfig, DisablePolicy, LoadMode};
use crate::site::{DeviceKind, Role};

use super::number::Number;
use super::source::overdraft_ma;
use super::{SiteView, VERSION, variables};

/// Volts to turn a current limit into the power that old clients read.
const NOMINAL_V: f64 = 230.0;

/// The answer to `get_params`, the payload of `get/params`.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a>(pub &'a SiteView);

/// Powers of the site in W, the contract's signs.
#[derive(Clone, Copy, Debug, Default)]
struct Powers {
    consumption: f64,
    generation: f64,
    grid: f64,
    evse: f64,
    /// What wallboxes that do not answer may draw.
    unanswered: f64,
    storage_home: f64,
    storage_all: f64,
}

impl SiteView {
    /// Sums over the devices of one kind whose values are fresh; `None`: there is none.
    fn sum(&self, wanted: impl Fn(&DeviceConfig) -> bool) -> Option<f64> {
        let mut sum = None;
        for (index, device) in self.config.devices.iter().enumerate() {
            let object = self.object(index, device);
            if wanted(device) && device.enabled && !object.com_err() {
                sum = Some(sum.unwrap_or_default() + object.power().unwrap_or_default());
            }
        }
        sum
    }

    fn powers(&self) -> Powers {
        let of_role = |role| self.sum(|device| device.id.kind() == DeviceKind::Meter && device.role == role);
        let evse = self.sum(|device| device.id.kind() == DeviceKind::Evse).unwrap_or_default();
        let generation = of_role(Role::Generation).unwrap_or_default();
        // Without one of the two meters the other one and the wallboxes tell what it would show (3.1).
        let (grid, consumption) = match (of_role(Role::Grid), of_role(Role::Consumption)) {
            (Some(grid), Some(consumption)) => (grid, consumption),
            (Some(grid), None) => (grid, grid + generation - evse),
            (None, Some(consumption)) => (consumption - generation + evse, consumption),
            (None, None) => (evse - generation, 0.0),
        };
        Powers {
            consumption,
            generation,
            grid,
            evse,
            unanswered: self.unanswered(),
            storage_home: of_role(Role::StorageHome).unwrap_or_default(),
            storage_all: of_role(Role::StorageAll).unwrap_or_default(),
        }
    }

    /// Wallboxes that do not answer count with the most they may draw.
    fn unanswered(&self) -> f64 {
        let mut sum = 0.0;
        for (index, device) in self.config.devices.iter().enumerate() {
            if device.id.kind() == DeviceKind::Evse && self.object(index, device).com_err() {
                let told = self.status(&device.id).and_then(|status| status.commanded).map(|commanded| commanded.value);
                let phases = device.phases.map_or(3, |map| map.of.iter().flatten().count());
                sum += watts(f64::from(told.unwrap_or(device.max_ma))) * if phases == 1 { 1.0 } else { 3.0 };
            }
        }
        sum
    }

    /// Limit of the house connection per phase in mA: the smallest of its three, 0 without a circuit.
    fn max_total_current(&self) -> u32 {
        self.config.circuits.first().and_then(|root| root.limit_ma.iter().min()).copied().unwrap_or(0)
    }

    /// What the house connection leaves for wallboxes, in W.
    fn available(&self, powers: &Powers) -> f64 {
        let load = &self.config.load;
        let limits = self.config.circuits.first().map_or([0; 3], |root| root.limit_ma);
        let usable =
            |limit: u32| f64::from(limit) * f64::from(load.max_total_cur_prc) / 100.0 - f64::from(load.reserve_ma);
        let usable: f64 = limits.into_iter().map(|limit| watts(usable(limit).max(0.0))).sum();
        (usable - powers.consumption.max(0.0)).max(0.0)
    }
}

fn watts(milliamps: f64) -> f64 {
    milliamps / 1000.0 * NOMINAL_V
}

impl Serialize for Params<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.who(&mut map)?;
        self.limits(&mut map)?;
        self.powers(&mut map)?;
        self.absent(&mut map)?;
        map.end()
    }
}

impl Params<'_> {
    fn who<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let view = self.0;
        map.serialize_entry("title", &view.config.site.title)?;
        map.serialize_entry("desc", &view.config.site.desc)?;
        map.serialize_entry("version", VERSION)?;
        map.serialize_entry("ladekern_version", env!("CARGO_PKG_VERSION"))?;
        map.serialize_entry("time", &view.unix_s)?;
        // Vendor, product and packed version are those of the emulated level: clients compare them.
        let vsn = serde_json::json!({
            "vendorid": 52997, "version": 33_564_433, "productid": 1, "serialno": &*view.serial, "platform": "linux",
        });
        map.serialize_entry("vsn", &vsn)
    }

    fn limits<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let view = self.0;
        let load = &view.config.load;
        let total = view.max_total_current();
        map.serialize_entry("max_total_cur_prc", &load.max_total_cur_prc)?;
        map.serialize_entry("max_total_current", &total)?;
        map.serialize_entry("reserve_current", &load.reserve_ma)?;
        map.serialize_entry("overdraft_cur", &view.max_overdraft_ma)?;
        map.serialize_entry("max_overdraft_cur", &view.max_overdraft_ma)?;
        map.serialize_entry("cur_overdraft", &overdraft_ma(&view.config, &view.plan))?;
        map.serialize_entry("max_total_power", &Number((3.0 * watts(total.into())).round()))?;
        map.serialize_entry("power_reserve", &Number((3.0 * watts(load.reserve_ma.into())).round()))?;
        map.serialize_entry("overdraft", &Number((3.0 * watts(view.max_overdraft_ma.into())).round()))?;
        map.serialize_entry("lb_enabled", &(load.mode == LoadMode::Manage))?;
        let policy = match load.disable_policy {
            DisablePolicy::Stop => 0,
            DisablePolicy::Minimum => 1,
            DisablePolicy::Unlimited => -1,
        };
        map.serialize_entry("disable_policy", &policy)?;
        map.serialize_entry("cycle_time", &u64::try_from(load.cycle.as_millis()).unwrap_or(u64::MAX))?;
        let wallboxes = |enabled: bool| {
            let wallboxes = view.config.devices.iter().filter(|device| device.id.kind() == DeviceKind::Evse);
            wallboxes.filter(|device| device.enabled == enabled).count()
        };
        map.serialize_entry("real_evses", &wallboxes(true))?;
        map.serialize_entry("real_evses_dis", &wallboxes(false))?;
        map.serialize_entry("cm_vars", &variables(&view.config))?;
        map.serialize_entry("cpu", &view.machine.cpu)?;
        map.serialize_entry("mem", &view.machine.mem)
    }

    fn powers<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let powers = self.0.powers();
        let available = self.0.available(&powers);
        let surplus = (powers.evse - powers.grid).max(0.0);
        for (name, watts) in [
            ("cons_pwr", powers.consumption),
            ("prod_pwr", powers.generation),
            ("grid_pwr", powers.grid),
            ("error_pwr", powers.unanswered),
            ("storage_home", powers.storage_home),
            ("storage_all", powers.storage_all),
            ("cons_evse_power", powers.evse),
            ("consumed_evse_power", powers.evse),
            ("avail_evse_power", available),
            ("remaining_evse_power", available - powers.evse),
            ("surplus_power", surplus),
        ] {
            map.serialize_entry(name, &Number(watts.round()))?;
        }
        Ok(())
    }

    /// What this version does not have: no limit for all wallboxes together, no imbalance limit, no pauses, no
    /// prices, no outputs, no licences, no OCPP.
    fn absent<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        for name in [
            "max_total_evse_current",
            "max_total_evse_power",
            "max_imbalance_cur",
            "max_imbalance",
            "min_pause_time",
            "phase_switch_delay",
            "price_model",
            "fixed_price",
            "feed_in_tariff",
            "last_budget_reset",
            "cm_flags",
            "license_end",
            "ocpp_gateway_license_cnt",
            "ocpp_gateway_licenses_used",
        ] {
            map.serialize_entry(name, &0)?;
        }
        for name in ["imbalance_add", "shareware_mode", "ocpp_srv_use_ext_cert"] {
            map.serialize_entry(name, &false)?;
        }
        for name in
            ["surplus_expr", "tibber_home_id", "ocpp_srv_cert_fn", "ocpp_srv_private_key_fn", "ocpp_srv_password"]
        {
            map.serialize_entry(name, "")?;
        }
        for name in ["cm_outs", "ocpp_srv_cacert_fn"] {
            map.serialize_entry(name, &serde_json::json!([]))?;
        }
        // A wallbox that does not answer always counts as a load here.
        map.serialize_entry("reduce_on_com_err", &true)?;
        map.serialize_entry("max_evses", &1000)?;
        map.serialize_entry("ocpp_srv_tls_mode", "off")?;
        map.serialize_entry("ocpp_srv_port", &19520)
    }
}
