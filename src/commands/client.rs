//! One question to the master over its control socket, in HTTP.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

use crate::sys;

/// Longer answers are none of ours: 4096 workers need some megabytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// The process that listens on a control socket.
#[derive(Debug)]
pub(super) struct MasterProcess {
    /// Readable once it has ended; `None` where the kernel has no such descriptor.
    end: Option<OwnedFd>,
    pid: i32,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) master: MasterProcess,
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Failure {
    NobodyListens,
    NoSuchSocket,
    NotAllowed,
    TooLate(Duration),
    /// The connection has ended without an answer.
    Closed,
    NotUnderstood,
    Io(std::io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NobodyListens => f.write_str("nobody listens there: forkhorn does not run"),
            Failure::NoSuchSocket => {
                f.write_str("there is no such socket: forkhorn does not run, or was given another --control or --pid-file")
            }
            Failure::NotAllowed => f.write_str("only root, and the user who runs the master, may ask"),
            Failure::TooLate(limit) => write!(f, "none within {} s", limit.as_secs_f64()),
            Failure::Closed => f.write_str("forkhorn has ended, or refuses this user"),
            Failure::NotUnderstood => f.write_str("what answers there is not forkhorn"),
            Failure::Io(error) => error.fmt(f),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Failure::NoSuchSocket,
            ErrorKind::ConnectionRefused => Failure::NobodyListens,
            ErrorKind::PermissionDenied => Failure::NotAllowed,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Io(error),
        }
    }
}

/// Asks, and waits for the answer: for ever, if there is no limit.
pub(super) fn ask(
    path: &Path,
    method: &str,
    target: &str,
    limit: Option<Duration>,
) -> Result<Reply, Failure> {
    let mut stream = UnixStream::connect(path)?;
    let master = MasterProcess::behind(&stream)?;
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: forkhorn\r\nConnection: close\r\n\r\n")?;
    let deadline = limit.map(|limit| Instant::now() + limit);
    let mut answer = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::TooLate(limit.unwrap_or_default()));
            }
            stream.set_read_timeout(Some(left))?;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The next round finds that the time is over.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if answer.len() as u64 > MOST_BYTES {
            return Err(Failure::NotUnderstood);
        }
    }
    parse(&answer, master)
}

fn parse(answer: &[u8], master: MasterProcess) -> Result<Reply, Failure> {
    if answer.is_empty() {
        return Err(Failure::Closed);
    }
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = head.parse(answer) else {
        return Err(Failure::NotUnderstood);
    };
    let announced = head
        .headers
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case("Content-Length"))
        .and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
    let body = answer.get(length..).unwrap_or_default();
    match (head.code, announced) {
        (Some(status), Some(announced)) if body.len() == announced => {
            Ok(Reply { status, body: body.to_vec(), master })
        }
        // It ended in the middle of its answer.
        (Some(_), Some(_)) => Err(Failure::Closed),
        _ => Err(Failure::NotUnderstood),
    }
}

impl MasterProcess {
    fn behind(stream: &UnixStream) -> Result<Self, Failure> {
        let peer = getsockopt(stream, sockopt::PeerCredentials).map_err(std::io::Error::from)?;
        Ok(MasterProcess { end: sys::pidfd(peer.pid()), pid: peer.pid() })
    }

    /// False: it still runs at the end of the time.
    pub(super) fn wait_for_end(&self, limit: Option<Duration>) -> bool {
        const STEP: Duration = Duration::from_millis(20);
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return !self.runs(Duration::ZERO);
            }
            if !self.runs(left.unwrap_or(STEP).min(STEP)) {
                return true;
            }
        }
    }

    /// Waits for at most `time` until it does not.
    fn runs(&self, time: Duration) -> bool {
        let Some(end) = &self.end else {
            std::thread::sleep(time);
            return nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), None).is_ok();
        };
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
        !matches!(poll(&mut [PollFd::new(end.as_fd(), PollFlags::POLLIN)], time), Ok(ready) if ready > 0)
    }
}
