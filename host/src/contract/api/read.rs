//! Commands that only read the site.

use super::super::dev_types as types;
use super::{Answer, Api};

pub(super) fn dev_info(api: &Api) -> Answer {
    Answer { status: 200, body: api.source.dev_info().to_vec() }
}

pub(super) fn dev_types(api: &Api) -> Answer {
    Answer::of(&types(&api.source.config.borrow(), api.devices.definitions()))
}
