//! How many files a process may have open (RLIMIT_NOFILE): each connection takes one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Config;

/// What a worker has open besides: listeners, channel, logs, the interpreter's files, bodies on their way, and something
/// for the application.
const BESIDES: u64 = 512;

/// Pipes and a pidfd.
const EACH_SCRIPT: u64 = 4;

/// Raises the soft limit, which workers inherit, to what the options need, as far as the hard limit allows; not beyond,
/// since old programs walk through all descriptors that they might have.
pub(super) fn raise(config: &Config) {
    let needed = needed(config);
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => return log::warn!("the limit of open files is not known: {error}"),
    };
    let most = needed.min(hard);
    if soft < most
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, most, hard)
    {
        log::warn!("the limit of open files can't be raised from {soft} to {most}: {error}");
    }
    if hard < needed {
        log::warn!(
            "--max-connections {} can't be reached: a process may have {hard} files open (ulimit -Hn; LimitNOFILE= of \
             systemd), and a worker may need {needed}",
            config.limits.max_connections
        );
    }
}

fn needed(config: &Config) -> u64 {
    let scripts = (config.cgi.max_scripts as u64).saturating_mul(EACH_SCRIPT);
    let connections = config.limits.max_connections as u64;
    connections.saturating_add(scripts).saturating_add(BESIDES)
}
