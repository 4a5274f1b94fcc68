//! CGI scripts, RFC 3875: one process per request.
//!
//! [`locate()`] finds the script and splits the path at it, [`environment()`] makes the script's environment, and a
//! [`ScriptRun`] is the running script: a state machine over its three pipes and its exit. It owns no event loop; the
//! worker registers [`ScriptRun::sources`] and tells it what has become ready.
//!
//! | file | job |
//! | --- | --- |
//! | `locate` | URL path to script, `SCRIPT_NAME`, `PATH_INFO` |
//! | `environment` | which meta-variables reach the script |
//! | `run` | the state machine |
//! | `pipes`, `input`, `output`, `stderr` | the pipes |
//! | `header` | the script's output up to the empty line |
//! | `process` | exit, time limit, TERM and KILL |
//! | `warm` | scripts run by copies of a warm interpreter |
//! | `label` | what the log calls a running script |
//! | `diagnosis` | causes and cures for the log |

mod diagnosis;
mod environment;
mod header;
mod input;
mod label;
mod locate;
mod output;
mod pipes;
mod process;
mod run;
mod stderr;
#[cfg(test)]
mod tests;
pub(crate) mod warm;

pub use super::HandlerError;
pub use crate::gateway::{CgiTarget, Place};
pub use environment::environment;
pub use header::{Header, HeaderError, HeaderLimits, HeaderParser};
pub use locate::{Script, locate};
pub use process::{GRACE, GROUP_GRACE};
pub use run::{Pipe, ScriptEvent, ScriptRun};
pub use warm::{Warm, WarmSource};
