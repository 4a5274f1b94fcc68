//! The web server's part of a FastCGI connection, played for a CGI program: environment and standard input in, standard
//! output out.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;

use crate::protocol::fastcgi::client::{self, Decoder, ResponseEvent};
use crate::protocol::fastcgi::record::{ProtocolStatus, Role};

/// There is one request.
const ID: u16 = 1;

/// Bytes of one read or write.
const PIECE: usize = 64 * 1024;

/// What the web server gets when there is no answer.
pub(super) const INTERNAL_ERROR: &str =
    "Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\n500 Internal Server Error\n";

/// What came of a request.
pub(super) enum End {
    Complete,
    /// There was no answer: the web server has got one from here.
    NotAnswered,
    /// The worker has broken its answer off, part of which was passed on.
    BrokenOff,
    /// The web server does not take it.
    NotTaken(io::Error),
}

/// Sends the request, then passes the answer on, up to its end. Blocks.
pub(super) fn relay(
    worker: &UnixStream,
    stdin: impl Read,
    mut stdout: impl Write,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> End {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> =
        environment.map(|(name, value)| (name.into_vec(), value.into_vec())).collect();
    if let Err(error) = send(worker, stdin, &pairs) {
        // It may have answered without the body, a 413 for one.
        log::debug!("the request could not be read or sent whole: {error}");
    }
    let mut answer = Answer { worker, decoder: Decoder::default(), buffer: vec![0; PIECE] };
    let mut has_begun = false;
    loop {
        match answer.next() {
            Some(ResponseEvent::Stdout { chunk, .. }) => {
                has_begun = true;
                if let Err(error) = stdout.write_all(&chunk) {
                    return End::NotTaken(error);
                }
            }
            Some(ResponseEvent::Stderr { chunk, .. }) => drop(io::stderr().write_all(&chunk)),
            Some(ResponseEvent::End {
                app_status: 0,
                protocol_status: ProtocolStatus::RequestComplete,
                ..
            }) => return End::Complete,
            Some(ResponseEvent::Values(_) | ResponseEvent::UnknownType(_)) => {}
            None | Some(ResponseEvent::End { .. }) if has_begun => return End::BrokenOff,
            None | Some(ResponseEvent::End { .. }) => {
                return match stdout.write_all(INTERNAL_ERROR.as_bytes()) {
                    Ok(()) => End::NotAnswered,
                    Err(error) => End::NotTaken(error),
                };
            }
        }
    }
}

struct Answer<'a> {
    worker: &'a UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Answer<'_> {
    /// `None`: it breaks off. A worker says so by bytes that are no record, for web servers that need it said.
    fn next(&mut self) -> Option<ResponseEvent> {
        loop {
            if let Some(event) = self.decoder.poll_event().ok()? {
                return Some(event);
            }
            let length = self.worker.read(&mut self.buffer).ok().filter(|length| *length > 0)?;
            self.decoder.receive(self.buffer.get(..length)?);
        }
    }
}

fn send(mut worker: &UnixStream, mut stdin: impl Read, pairs: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
    let mut out = Vec::new();
    client::begin_request(&mut out, ID, Role::Responder, false);
    client::params(&mut out, ID, pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
    worker.write_all(&out)?;
    let mut left = body_length(pairs);
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let Some(room) = buffer.get_mut(..most) else { break };
        let length = match stdin.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else { break };
        out.clear();
        client::stdin(&mut out, ID, piece);
        worker.write_all(&out)?;
        left -= length as u64;
    }
    out.clear();
    client::stdin_end(&mut out, ID);
    worker.write_all(&out)
}

/// A program must not read more than CONTENT_LENGTH says (RFC 3875 §4.2): the web server need not close standard input.
/// Apache sends a body whose length it does not know without a length, to its end.
fn body_length(pairs: &[(Vec<u8>, Vec<u8>)]) -> u64 {
    let value = |wanted: &[u8]| {
        pairs.iter().find(|(name, value)| name == wanted && !value.is_empty()).map(|(_, value)| value)
    };
    match value(b"CONTENT_LENGTH") {
        Some(length) => std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
        None if value(b"HTTP_TRANSFER_ENCODING").is_some() => u64::MAX,
        None => 0,
    }
}
