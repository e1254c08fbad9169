//! What a device task does with a command: the calls it needs, and what the asker is told.

use super::Task;
use crate::device::guest::Step;
use crate::device::live::Failure;
use crate::runtime::{CallError, DriverError};
use crate::site::{Command, CommandError, Measured};

impl Task {
    pub(super) async fn command(&mut self, command: Command) -> Result<(), CommandError> {
        let command = self.within_bounds(command);
        let Some(live) = &mut self.live else {
            return Err(CommandError::NotRunning(self.present_health().describe()));
        };
        let traits = live.artefact.traits();
        let steps = self.writes.plan(command, traits.min_write_interval, self.clock.now())?;
        for step in &steps {
            let known = if step.interface() == "phase-control" { traits.phase_control } else { traits.charge_control };
            if !known {
                let driver = live.artefact.label();
                return Err(CommandError::Unsupported(format!("{driver} has no {}", step.interface())));
            }
        }
        for step in steps {
            let Some(live) = &mut self.live else { break };
            match live.step(step).await {
                Ok(()) => {
                    let now = self.clock.now();
                    self.writes.accepted(step, now);
                    let accepted = match step {
                        Step::SetEnabled(false) => Some(0),
                        Step::SetEnabled(true) => self.writes.limit_ma(),
                        // A limit counts at once, even if allowing it fails: more is never drawn than is known.
                        Step::SetCurrentLimit(ma) => Some(ma),
                        Step::SetPhases(_) | Step::WakeUp => None,
                    };
                    if let Some(value) = accepted {
                        self.edit(|status| status.commanded = Some(Measured { value, at: now }));
                    }
                }
                Err(error) => {
                    self.writes.failed(step);
                    return Err(self.refused(error));
                }
            }
        }
        Ok(())
    }

    /// The contract with drivers: never more than the binding's maximum, never between 0 and its minimum.
    fn within_bounds(&self, command: Command) -> Command {
        match command {
            Command::Current(ma) if ma < self.device.min_ma => Command::Current(0),
            Command::Current(ma) => Command::Current(ma.min(self.device.max_ma)),
            other => other,
        }
    }

    fn refused(&mut self, error: CallError) -> CommandError {
        let text = error.to_string();
        match error {
            CallError::Driver(DriverError::Unsupported(reason)) => {
                CommandError::Unsupported(format!("{}: {reason}", self.driver_label()))
            }
            CallError::Driver(DriverError::Offline(reason)) => {
                self.note_error(&text);
                CommandError::Offline(reason)
            }
            CallError::Driver(_) => {
                self.note_error(&text);
                CommandError::Refused(text)
            }
            _ => {
                self.failed(Failure::Fault(text.clone()));
                CommandError::NotRunning(text)
            }
        }
    }
}
