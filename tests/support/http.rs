//! An HTTP/1.1 client that sends exactly the bytes it is given, at any pace, and reads strictly: framing errors of
//! the server fail the test.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait::DEADLINE;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// The stream of either kind of socket.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    #[track_caller]
    pub fn open(address: &Address) -> Stream {
        match Stream::try_open(address) {
            Ok(stream) => stream,
            Err(error) => panic!("cannot connect to {address:?}: {error}"),
        }
    }

    pub fn try_open(address: &Address) -> std::io::Result<Stream> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        };
        stream.set_read_timeout(DEADLINE);
        match &stream {
            Stream::Tcp(stream) => stream.set_write_timeout(Some(DEADLINE))?,
            Stream::Unix(stream) => stream.set_write_timeout(Some(DEADLINE))?,
        }
        Ok(stream)
    }

    pub fn set_read_timeout(&self, limit: Duration) {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(limit)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
        .expect("a limit over zero");
    }

    fn try_clone(&self) -> std::io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    /// Sends on a thread of its own, if there is more than fits the buffers of a socket.
    pub fn send_meanwhile(&mut self, bytes: Vec<u8>) -> JoinHandle<std::io::Result<()>> {
        let mut stream = self.try_clone().expect("a second descriptor");
        if bytes.len() < 4096 {
            let done = stream.write_all(&bytes);
            return std::thread::spawn(move || done);
        }
        std::thread::spawn(move || stream.write_all(&bytes))
    }

    pub fn finish_sending(&self) {
        // A peer that has closed already makes this fail; what it sent can still be read.
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Clone, Default)]
pub struct Response {
    /// `HTTP/1.1`
    pub version: String,
    pub status: u16,
    pub reason: String,
    /// In order, names as they came, values in Latin-1.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// False if the connection ended before the framing said so.
    pub complete: bool,
}

impl Response {
    /// The values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that may come only once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} came {} times", all.len());
        all.first().copied()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; a helpful failure if it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("no JSON ({error}): {} {}", self.status, self.text()),
        }
    }
}

/// One connection to an HTTP server.
#[derive(Debug)]
pub struct Connection {
    pub stream: Stream,
    buffer: Vec<u8>,
}

impl Connection {
    #[track_caller]
    pub fn open(address: &Address) -> Connection {
        Connection::over(Stream::open(address))
    }

    pub fn over(stream: Stream) -> Connection {
        Connection { stream, buffer: Vec::new() }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            panic!("the server does not read: {error}");
        }
    }

    /// For requests that the server may refuse before it has read them whole.
    pub fn send_anyway(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// In pieces of `step` bytes, each in a packet of its own.
    #[track_caller]
    pub fn send_in_steps(&mut self, bytes: &[u8], step: usize) {
        for piece in bytes.chunks(step) {
            self.send(piece);
        }
    }

    /// Sends a request without a body and reads its answer.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[], b"")
    }

    /// Sends a request; Host is added, and Content-Length if there is a body.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
        self.exchange(request_bytes(method, target, fields, body), method)
    }

    /// Sends a whole request and reads its answer meanwhile, as browsers do: a script may answer while it reads.
    #[track_caller]
    pub fn exchange(&mut self, request: impl Into<Vec<u8>>, method: &str) -> Response {
        let sender = self.stream.send_meanwhile(request.into());
        let response = self.read_response_to(method);
        // A server that has refused the request need not read all of it.
        let _ = sender.join().expect("the sender does not panic");
        response
    }

    /// The next final response to a request that was no HEAD.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        self.read_response_to("GET")
    }

    #[track_caller]
    pub fn read_response_to(&mut self, method: &str) -> Response {
        loop {
            match self.try_read(method) {
                Ok(response) if response.status < 200 => {}
                Ok(response) => return response,
                Err(error) => panic!("no response: {error}"),
            }
        }
    }

    /// The next response, an interim one too (RFC 9110 §15.2).
    #[track_caller]
    pub fn read_any(&mut self) -> Response {
        match self.try_read("GET") {
            Ok(response) => response,
            Err(error) => panic!("no response: {error}"),
        }
    }

    /// Reads one response by RFC 9112 §6.3. `Err` if there is no head, or its framing is wrong.
    pub fn try_read(&mut self, method: &str) -> Result<Response, String> {
        let mut response = self.read_head()?;
        let bodyless = method == "HEAD" || response.status < 200 || matches!(response.status, 204 | 304);
        response.complete = true;
        if bodyless {
            return Ok(response);
        }
        let codings = response.all("Transfer-Encoding").join(", ");
        let lengths = response.all("Content-Length").join(", ");
        match (codings.as_str(), lengths.as_str()) {
            ("chunked", "") => self.read_chunks(&mut response)?,
            ("", "") => {
                while self.fill()? > 0 {}
                response.body = std::mem::take(&mut self.buffer);
            }
            ("", length) => {
                let length: usize = length.parse().map_err(|_| format!("Content-Length: {length}"))?;
                while self.buffer.len() < length && self.fill()? > 0 {}
                let taken = length.min(self.buffer.len());
                response.complete = taken == length;
                response.body = self.buffer.drain(..taken).collect();
            }
            (codings, lengths) => {
                return Err(format!("Transfer-Encoding {codings}, Content-Length {lengths}"));
            }
        }
        Ok(response)
    }

    /// True if the server closes without sending another byte. An answer that comes instead fails the test.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        while matches!(self.fill(), Ok(1..)) {}
        assert!(self.buffer.is_empty(), "more bytes came: {}", String::from_utf8_lossy(&self.buffer));
        true
    }

    /// Everything up to the end of the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        while matches!(self.fill(), Ok(1..)) {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads at least once; what has come so far, without taking it.
    pub fn peek(&mut self) -> &[u8] {
        let _ = self.fill();
        &self.buffer
    }

    /// What has come and was not taken; reads nothing.
    pub fn peek_now(&self) -> &[u8] {
        &self.buffer
    }

    pub fn read_head(&mut self) -> Result<Response, String> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.fill()? == 0 {
                return Err(format!("closed after {:?}", String::from_utf8_lossy(&self.buffer)));
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).take(end).collect();
        let head: String = head.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = head.split("\r\n");
        let mut status_line = lines.next().unwrap_or_default().splitn(3, ' ');
        let mut next = || status_line.next().unwrap_or_default().to_owned();
        let mut response = Response { version: next(), ..Response::default() };
        let status = next();
        response.status = status.parse().map_err(|_| format!("status line of {head:?}"))?;
        response.reason = next();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(format!("no field line: {line:?}"))?;
            let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic());
            if !is_token || line.contains(['\r', '\n', '\0']) {
                return Err(format!("bad field line: {line:?}"));
            }
            response.fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
        Ok(response)
    }

    fn read_chunks(&mut self, response: &mut Response) -> Result<(), String> {
        loop {
            let Some(line) = self.read_line()? else {
                response.complete = false;
                return Ok(());
            };
            let size = usize::from_str_radix(&line, 16).map_err(|_| format!("chunk size {line:?}"))?;
            if size == 0 {
                return match self.read_line()?.as_deref() {
                    Some("") => Ok(()),
                    other => Err(format!("after the last chunk: {other:?}")),
                };
            }
            while self.buffer.len() < size + 2 {
                if self.fill()? == 0 {
                    response.body.append(&mut self.buffer);
                    response.complete = false;
                    return Ok(());
                }
            }
            response.body.extend(self.buffer.drain(..size));
            if self.buffer.drain(..2).ne(*b"\r\n") {
                return Err("no CR LF after a chunk".to_owned());
            }
        }
    }

    /// `None` at the end of the connection.
    fn read_line(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map(Some).map_err(|error| error.to_string());
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads once; 0 at the end of the connection, be it a close or a reset.
    fn fill(&mut self) -> Result<usize, String> {
        let mut chunk = [0; 64 * 1024];
        match read_uninterrupted(&mut self.stream, &mut chunk) {
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(0),
            Err(error) => Err(format!("{error}; so far {:?}", String::from_utf8_lossy(&self.buffer))),
        }
    }
}

/// A read that a signal to this process has interrupted is begun again.
pub fn read_uninterrupted(stream: &mut Stream, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A request with Host, and Content-Length if there is a body.
pub fn request_bytes(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("Host")) {
        bytes.extend_from_slice(b"Host: localhost\r\n");
    }
    for (name, value) in fields {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    // RFC 9110 §8.6: where a body is expected, none has a length too.
    if !body.is_empty() || ["POST", "PUT", "PATCH"].contains(&method) {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// One request on a connection of its own.
#[track_caller]
pub fn request(
    address: &Address,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> Response {
    Connection::open(address).request(method, target, fields, body)
}

#[track_caller]
pub fn get(address: &Address, target: &str) -> Response {
    request(address, "GET", target, &[], b"")
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
