//! How things are, in a few words: for the service manager.

use std::fmt;
use std::time::Duration;

use super::process::Process;
use super::{GRACE_MARGIN, Workers};

/// What [`Workers::summary`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) generation: u32,
    /// Workers that accept requests, of all generations.
    pub(crate) serving: usize,
    pub(crate) wanted: u16,
    /// The applications could be loaded.
    pub(crate) ever_ready: bool,
    pub(crate) reloading: bool,
    /// Why the last reload has failed, unless one has gone well since, or another is under way.
    pub(crate) reload_failure: Option<String>,
    pub(crate) stopping: bool,
}

impl Workers {
    /// How long a graceful stop that begins now may take.
    pub(crate) fn longest_stop(&self) -> Duration {
        self.settings.graceful_timeout + GRACE_MARGIN
    }

    fn reload_failure(&self) -> Option<String> {
        let (_, last) = self.tally.last_reload.as_ref().filter(|_| !self.is_reloading())?;
        last.as_ref().err().cloned()
    }

    pub(crate) fn summary(&self) -> Summary {
        let stopping = self.end.is_some();
        let counts = |process: &&Process| match stopping {
            true => process.is_leaving_worker(),
            false => process.is_serving(),
        };
        Summary {
            generation: self.current.number,
            serving: self.processes.values().filter(counts).count(),
            wanted: self.wanted,
            ever_ready: self.ever_ready,
            reloading: self.is_reloading(),
            reload_failure: self.reload_failure(),
            stopping,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Summary { generation, serving, wanted, .. } = self;
        match (self.stopping, self.ever_ready, serving) {
            (true, _, 0) => return f.write_str("stopping"),
            (true, _, 1) => return f.write_str("stopping: 1 worker finishes its requests"),
            (true, _, _) => return write!(f, "stopping: {serving} workers finish their requests"),
            (false, false, _) => write!(f, "starting: {serving} of {wanted} workers ready")?,
            (false, true, _) => {
                write!(f, "generation {generation} serves, {serving} of {wanted} workers ready")?
            }
        }
        match &self.reload_failure {
            _ if self.reloading => f.write_str("; reloading"),
            Some(why) => write!(f, "; the last reload failed: {}", why.lines().next().unwrap_or_default()),
            None => Ok(()),
        }
    }
}
