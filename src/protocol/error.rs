//! What a peer can do wrong, and the status that says so.

use std::fmt;

/// The peer broke a rule of its protocol, or a limit of ours.
///
/// `reason` names the rule in a few words for the log (debug level); `offset` is where in the connection's input, in
/// bytes, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolError {
    status: u16,
    reason: &'static str,
    offset: Option<u64>,
}

impl ProtocolError {
    /// `status` is the HTTP status for the peer: 400, 408, 411, 413, 414, 417, 431, 501, 503 or 505.
    pub const fn new(status: u16, reason: &'static str) -> Self {
        ProtocolError { status, reason, offset: None }
    }

    pub const fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The status that the peer gets, if it can still get one.
    pub const fn status(&self) -> u16 {
        self.status
    }

    pub const fn reason(&self) -> &'static str {
        self.reason
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason)?;
        match self.offset {
            Some(offset) => write!(f, " (at byte {offset})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ProtocolError {}
