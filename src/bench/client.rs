//! One connection that asks again and again, and waits for each answer.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::http::{HttpClient, Url};
use crate::protocol::fastcgi::client::{self, Decoder, ResponseEvent};
use crate::protocol::fastcgi::record::ProtocolStatus;

/// How long one answer may take before it counts as an error.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a server that does not listen yet.
const PAUSE: Duration = Duration::from_micros(200);

/// What is asked, and where.
#[derive(Debug, Clone)]
pub(super) enum Target {
    FastCgi { socket: PathBuf, request: Vec<u8> },
    Url(Url),
}

/// One connection to a target.
pub(super) enum Client {
    FastCgi(FastCgiClient),
    Http(HttpClient),
}

impl Target {
    /// A GET of `path` on a private socket; connections are kept.
    pub(super) fn fastcgi(socket: PathBuf, path: &str) -> Self {
        let pairs = [
            ("REQUEST_METHOD", "GET"),
            ("SCRIPT_NAME", path),
            ("REQUEST_URI", path),
            ("DOCUMENT_URI", path),
            ("QUERY_STRING", ""),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "localhost"),
            ("SERVER_PORT", "80"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("HTTP_HOST", "localhost"),
            ("HTTP_USER_AGENT", "forkhorn-bench"),
        ];
        let mut request = Vec::new();
        let pairs = pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        client::request(&mut request, 1, true, pairs, b"");
        Target::FastCgi { socket, request }
    }

    pub(super) fn connect(&self) -> io::Result<Client> {
        Ok(match self {
            Target::FastCgi { socket, request } => {
                let stream = UnixStream::connect(socket)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                let decoder = Decoder::default();
                let buffer = vec![0; 64 * 1024];
                Client::FastCgi(FastCgiClient { stream, request: request.clone(), decoder, buffer })
            }
            Target::Url(url) => Client::Http(HttpClient::connect(url, PATIENCE)?),
        })
    }

    /// Asks until somebody answers, at most for `patience` and until `is_hopeless`: the status.
    ///
    /// # Errors
    /// The last of the attempts.
    pub(super) fn first_answer(
        &self,
        patience: Duration,
        mut is_hopeless: impl FnMut() -> bool,
    ) -> Result<u16, io::Error> {
        let begin = Instant::now();
        loop {
            match self.connect().and_then(|mut client| client.ask()) {
                Ok(status) => return Ok(status),
                Err(error) if begin.elapsed() > patience || is_hopeless() => return Err(error),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }
}

impl Client {
    /// One request, to the end of its answer: the status.
    pub(super) fn ask(&mut self) -> io::Result<u16> {
        match self {
            Client::FastCgi(client) => client.ask(),
            Client::Http(client) => client.ask(),
        }
    }
}

pub(super) struct FastCgiClient {
    stream: UnixStream,
    request: Vec<u8>,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl FastCgiClient {
    fn ask(&mut self) -> io::Result<u16> {
        self.stream.write_all(&self.request)?;
        let mut head = Vec::new();
        loop {
            while let Some(event) =
                self.decoder.poll_event().map_err(|error| io::Error::other(error.to_string()))?
            {
                match event {
                    // The status stands in one of the first lines.
                    ResponseEvent::Stdout { chunk, .. } if head.len() < 4096 => {
                        head.extend_from_slice(&chunk)
                    }
                    ResponseEvent::End { protocol_status: ProtocolStatus::RequestComplete, .. } => {
                        return Ok(status_of(&head));
                    }
                    ResponseEvent::End { .. } => return Err(io::Error::other("the request was refused")),
                    _ => {}
                }
            }
            let length = self.stream.read(&mut self.buffer)?;
            let bytes = self.buffer.get(..length).filter(|bytes| !bytes.is_empty());
            self.decoder.receive(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        }
    }
}

/// The value of the field Status, or 200 (RFC 3875 §6.3.3).
fn status_of(head: &[u8]) -> u16 {
    let head = String::from_utf8_lossy(head);
    let lines = head.lines().take_while(|line| !line.is_empty());
    let status = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| *name == "Status");
    let code = status.and_then(|(_, value)| value.trim().split(' ').next()?.parse().ok());
    code.unwrap_or(200)
}

#[cfg(test)]
mod tests {
    use super::status_of;

    #[test]
    fn the_status_is_that_of_the_head_and_200_without_one() {
        for (head, status) in [
            ("Content-Type: text/plain\r\nStatus: 404 Not Found\r\n\r\nStatus: 500", 404),
            ("Content-Type: a/b\r\n\r\nStatus: 500", 200),
            ("", 200),
        ] {
            assert_eq!(status_of(head.as_bytes()), status, "{head}");
        }
    }
}
