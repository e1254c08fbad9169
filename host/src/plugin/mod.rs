//! Plugins as files: the manifest, what the component imports and exports, the checks before anything runs, and
//! the registry of what is there. Runs no guest code; that is [`crate::runtime`]'s.

mod checks;
mod inspect;
mod manifest;
#[expect(clippy::module_inception, reason = "the file is about one plugin, the folder about plugins")]
mod plugin;
mod registry;
mod watch;

pub use checks::{Binding, BindingProblem, check};
pub use inspect::{BadVersion, Contents, HOST, Interface, Version};
pub use manifest::{Manifest, Slot, SlotKind};
pub use plugin::{COMPONENT_FILE, MANIFEST_FILE, Plugin, PluginError};
pub use registry::{Registry, plugin_folders};
pub use watch::{PluginEvent, PluginWatch, watch};
