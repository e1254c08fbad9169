//! `ladekern.toml`: its types. The only module that reads configuration text.

mod types;

pub use types::*;
