//! Opens the access log, so that workers without the right to do so can write it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::config::{AccessLogConfig, StartupError};

/// `None` if there is no access log.
pub(crate) fn open(config: &AccessLogConfig) -> Result<Option<OwnedFd>, StartupError> {
    let failed = |name: &str, error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "its directory does not exist".to_owned(),
            _ => error.to_string(),
        };
        StartupError::other(format!("--access-log {name}: it can't be opened: {why}"))
    };
    match config {
        AccessLogConfig::Off => Ok(None),
        AccessLogConfig::Stdout => {
            let copy = io::stdout().as_fd().try_clone_to_owned();
            copy.map(Some).map_err(|error| failed("-", error))
        }
        AccessLogConfig::File(path) => {
            let open = || {
                let file = OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    // A FIFO that nobody reads is an error, not a wait without end.
                    .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
                    .open(path)?;
                let flags = OFlag::from_bits_truncate(fcntl(&file, FcntlArg::F_GETFL)?);
                fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
                Ok(OwnedFd::from(file))
            };
            open().map(Some).map_err(|error| failed(&path.display().to_string(), error))
        }
    }
}
