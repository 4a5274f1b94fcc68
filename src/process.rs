//! How a process that the master starts learns what it is: the channel on descriptor 0, and the first message on it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::config::Config;

/// What a worker is given.
pub struct WorkerStart {
    pub config: Arc<Config>,
    /// 0 up to the number of workers.
    pub slot: u16,
    /// 0 at start, one more with each reload.
    pub generation: u32,
    /// In the order of `config.listeners`.
    pub listeners: Vec<OwnedFd>,
    /// `None` if there is no access log.
    pub access_log: Option<OwnedFd>,
    pub channel: crate::channel::Channel,
}
