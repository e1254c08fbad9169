//! Commands that only read the site.

use super::super::{DevInfo, dev_types as types};
use super::{Answer, Api};

pub(super) fn dev_info(api: &Api) -> Answer {
    Answer::of(&DevInfo(&api.source.view()))
}

pub(super) fn dev_types(api: &Api) -> Answer {
    Answer::of(&types(&api.source.config.borrow()))
}
