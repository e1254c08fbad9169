//! Commands that only read and that everybody may call.

use serde_json::Value;

use super::super::{DevInfo, Params, dev_types as types};
use super::{Answer, Api};

pub(super) fn dev_info(api: &Api) -> Answer {
    Answer::of(&DevInfo(&api.source.view()))
}

/// The object of `get/params` and `dev_meta`, which the first generation of clients reads here.
pub(super) fn params(api: &Api) -> Answer {
    let view = api.source.view();
    let mut params = serde_json::to_value(Params(&view)).unwrap_or_default();
    if let Value::Object(params) = &mut params {
        let types = types(&view.config).into_iter().map(|(name, label)| (name, Value::String(label)));
        params.insert("dev_meta".into(), Value::Object(types.collect()));
    }
    Answer::of(&params)
}

pub(super) fn dev_types(api: &Api) -> Answer {
    Answer::of(&types(&api.source.config.borrow()))
}
