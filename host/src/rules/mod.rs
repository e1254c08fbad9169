//! Charging rules (`cfos-interfaces.md` 3.3): small programs of a wallbox or a user that say before each plan how much
//! current is wanted. They only lower what the load manager has to give. Reading and running them is pure.

mod engine;
mod evaluate;
mod folder;
mod live;
mod local_time;
mod rule;
mod source;
#[cfg(test)]
mod tests;
mod times;

pub use engine::{Decided, Engine, RuledBox, RuledSite, Scopes};
pub use evaluate::{MOST_STEPS, Powers, RuleContext, RuleMemory, Verdict, evaluate};
pub use folder::{RuleFolder, read_folder};
pub use live::{Assign, LiveRules};
pub use local_time::LocalTime;
pub use rule::{Action, Condition, Flow, MOST_RULES, Problem, Rule, RuleSet};
pub use source::{SharedSets, check, select};
pub use times::{Pace, SHORTEST_PAUSE, SHORTEST_RUN, SHORTEST_SURPLUS_PAUSE, Steady};
