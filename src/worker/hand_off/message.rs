//! What a message of the hand-off queue says: a connection, and what has come on it.
//!
//! All numbers are big-endian:
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 1 | version |
//! | 1 | kind |
//! | 1 | protocol |
//! | 1 | how often this request has been handed over |
//! | 1 | where the body is |
//! | 8 | length of the body |
//! | 4 | length of the state |
//! | 8 | when the request was complete: nanoseconds of CLOCK_MONOTONIC, which all processes share; 0: there is none |
//! | … | the state, the body if it is here, the bytes that followed |
//!
//! The first descriptor is the connection, the second a file with the body if it is not here. A message is believed no
//! more than a peer is: a worker may be hostile, or of another generation.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::time::{ClockId, clock_gettime};

use crate::config::ListenerProtocol;
use crate::gateway::Body;
use crate::hand_off::{CONNECTION, MAX_MESSAGE_BYTES, NUDGE, VERSION};
use crate::worker::body::BodyBuffer;

/// Longer bodies travel as a file.
const LONGEST_BODY_BYTES: usize = 16 * 1024;

const HEADER_BYTES: usize = 25;

/// As much of a message as tells how long its request has waited.
pub(super) const PEEKED_BYTES: usize = HEADER_BYTES;

const BODY_EMPTY: u8 = 0;
const BODY_HERE: u8 = 1;
const BODY_IN_FILE: u8 = 2;

const HTTP: u8 = 0;
const FASTCGI: u8 = 1;

/// A message in the making. Its buffer is used again and again.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub bytes: Vec<u8>,
    pub body_file: Option<Arc<File>>,
}

impl Outgoing {
    /// Begins a message. What follows is appended to [`bytes`](Self::bytes), beginning with the state.
    pub fn begin(&mut self, protocol: ListenerProtocol, hops: u8, since: Option<Instant>) {
        let protocol = match protocol {
            ListenerProtocol::Http => HTTP,
            ListenerProtocol::FastCgi => FASTCGI,
        };
        self.bytes.clear();
        self.body_file = None;
        self.bytes.extend_from_slice(&[VERSION, CONNECTION, protocol, hops, BODY_EMPTY]);
        self.bytes.resize(HEADER_BYTES - 8, 0);
        self.bytes.extend_from_slice(&since.map_or(0, to_monotonic).to_be_bytes());
    }

    /// After the state: the body, and the bytes that followed it. False: that is too much for one message.
    pub fn finish(&mut self, body: &Body, unread: &[u8]) -> bool {
        let state_length = (self.bytes.len() - HEADER_BYTES) as u32;
        let Some(place) = self.body(body) else { return false };
        self.bytes[4] = place;
        self.bytes[5..13].copy_from_slice(&body.len().to_be_bytes());
        self.bytes[13..17].copy_from_slice(&state_length.to_be_bytes());
        self.bytes.extend_from_slice(unread);
        self.bytes.len() <= MAX_MESSAGE_BYTES
    }

    fn body(&mut self, body: &Body) -> Option<u8> {
        match body {
            _ if body.is_empty() => Some(BODY_EMPTY),
            Body::Empty => Some(BODY_EMPTY),
            Body::Memory(bytes) if bytes.len() <= LONGEST_BODY_BYTES => {
                self.bytes.extend_from_slice(bytes);
                Some(BODY_HERE)
            }
            Body::Memory(bytes) => {
                let file = memfd_create(c"forkhorn-body", MFdFlags::MFD_CLOEXEC).map(File::from);
                let mut file = file.inspect_err(|error| log::debug!("no memory for a body: {error}")).ok()?;
                file.write_all(bytes).ok()?;
                self.body_file = Some(Arc::new(file));
                Some(BODY_IN_FILE)
            }
            Body::File { file, .. } => {
                self.body_file = Some(Arc::clone(file));
                Some(BODY_IN_FILE)
            }
        }
    }
}

/// A message that has come.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub protocol: ListenerProtocol,
    pub hops: u8,
    /// When the request was complete.
    pub since: Option<Instant>,
    pub state: &'a [u8],
    pub body: BodyBuffer,
    pub unread: &'a [u8],
    pub socket: OwnedFd,
}

/// What is wrong with a message.
pub(super) type Malformed = &'static str;

impl<'a> Incoming<'a> {
    /// `Ok(None)`: it was only to wake somebody.
    pub fn decode(bytes: &'a [u8], descriptors: Vec<OwnedFd>) -> Result<Option<Self>, Malformed> {
        match bytes {
            [VERSION, NUDGE] if descriptors.is_empty() => return Ok(None),
            [VERSION, CONNECTION, ..] => {}
            [VERSION, ..] => return Err("it is of an unknown kind"),
            _ => return Err("it is of another version"),
        }
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err("it is cut off");
        };
        let [_, _, protocol, hops, place, a, b, c, d, e, f, g, h, i, j, k, l, since @ ..] = *header;
        let protocol = match protocol {
            HTTP => ListenerProtocol::Http,
            FASTCGI => ListenerProtocol::FastCgi,
            _ => return Err("it is of an unknown protocol"),
        };
        let body_length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let state_length = u32::from_be_bytes([i, j, k, l]) as usize;
        let (state, rest) = rest.split_at_checked(state_length).ok_or("its state is cut off")?;
        let mut descriptors = descriptors.into_iter();
        let socket = descriptors.next().ok_or("it brings no connection")?;
        let (body, unread) = body(place, body_length, rest, descriptors.next())?;
        let since = from_monotonic(u64::from_be_bytes(since));
        Ok(Some(Incoming { protocol, hops, since, state, body, unread, socket }))
    }
}

/// When the request of a message was complete, of which these are the first [`PEEKED_BYTES`].
pub(super) fn complete_at(bytes: &[u8]) -> Option<Instant> {
    match bytes.split_first_chunk::<HEADER_BYTES>() {
        Some(([VERSION, CONNECTION, .., a, b, c, d, e, f, g, h], _)) => {
            from_monotonic(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
        }
        _ => None,
    }
}

/// An [`Instant`] means nothing to another process. Its clock does.
fn monotonic_nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn to_monotonic(at: Instant) -> u64 {
    let ago = u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX);
    monotonic_nanoseconds().saturating_sub(ago).max(1)
}

/// Never in the future, whatever the other process says.
fn from_monotonic(at: u64) -> Option<Instant> {
    let ago = Duration::from_nanos(monotonic_nanoseconds().saturating_sub(at));
    (at != 0).then(|| Instant::now().checked_sub(ago)).flatten()
}

/// The body, and what comes behind it.
fn body(
    place: u8,
    length: u64,
    rest: &[u8],
    file: Option<OwnedFd>,
) -> Result<(BodyBuffer, &[u8]), Malformed> {
    match (place, file) {
        (BODY_EMPTY, None) if length == 0 => Ok((BodyBuffer::default(), rest)),
        (BODY_HERE, None) if length > 0 => {
            let length = usize::try_from(length).map_err(|_| "its body is cut off")?;
            let (body, rest) = rest.split_at_checked(length).ok_or("its body is cut off")?;
            Ok((BodyBuffer::from(Bytes::copy_from_slice(body)), rest))
        }
        (BODY_IN_FILE, Some(file)) if length > 0 => {
            let file = File::from(file);
            let is_whole =
                file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() >= length);
            match is_whole {
                true => Ok((BodyBuffer::spooled(file, length), rest)),
                false => Err("its body is not a regular file of the announced length"),
            }
        }
        _ => Err("its body is not where it should be"),
    }
}

/// The descriptors that go with a message.
pub(super) fn descriptors<'a>(
    socket: &'a impl AsFd,
    body_file: &'a Option<Arc<File>>,
) -> Vec<std::os::fd::BorrowedFd<'a>> {
    std::iter::once(socket.as_fd()).chain(body_file.as_ref().map(|file| file.as_fd())).collect()
}
