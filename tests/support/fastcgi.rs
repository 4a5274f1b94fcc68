//! The web server's side of FastCGI 1.0, written from the specification for these tests alone: records are made by
//! hand, whole requests with one call, and any of it can be split, mixed or wrong.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

use super::http::{Address, Response, Stream, find, read_uninterrupted};
use super::wait::DEADLINE;

/// Record types (FastCGI 1.0 §8).
pub const BEGIN_REQUEST: u8 = 1;
pub const ABORT_REQUEST: u8 = 2;
pub const END_REQUEST: u8 = 3;
pub const PARAMS: u8 = 4;
pub const STDIN: u8 = 5;
pub const STDOUT: u8 = 6;
pub const STDERR: u8 = 7;
pub const DATA: u8 = 8;
pub const GET_VALUES: u8 = 9;
pub const GET_VALUES_RESULT: u8 = 10;
pub const UNKNOWN_TYPE: u8 = 11;

/// Roles.
pub const RESPONDER: u16 = 1;
pub const AUTHORIZER: u16 = 2;
pub const FILTER: u16 = 3;

/// Flag of BEGIN_REQUEST.
pub const KEEP_CONN: u8 = 1;

/// Protocol statuses of END_REQUEST.
pub const REQUEST_COMPLETE: u8 = 0;
pub const CANT_MPX_CONN: u8 = 1;
pub const UNKNOWN_ROLE: u8 = 3;

/// One record with as much padding as its content needs to end at a multiple of eight.
pub fn record(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    padded_record(kind, id, content, (8 - content.len() % 8) as u8 % 8)
}

pub fn padded_record(kind: u8, id: u16, content: &[u8], padding: u8) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("at most 65535 bytes in a record").to_be_bytes();
    let [id_high, id_low] = id.to_be_bytes();
    let mut bytes = vec![1, kind, id_high, id_low, length[0], length[1], padding, 0];
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len() + usize::from(padding), 0xAA);
    bytes
}

pub fn begin(id: u16, role: u16, flags: u8) -> Vec<u8> {
    let [high, low] = role.to_be_bytes();
    record(BEGIN_REQUEST, id, &[high, low, flags, 0, 0, 0, 0, 0])
}

/// A stream in records of at most `step` bytes, with the empty record at its end.
pub fn stream(kind: u8, id: u16, content: &[u8], step: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = content.chunks(step).flat_map(|chunk| record(kind, id, chunk)).collect();
    bytes.extend(record(kind, id, b""));
    bytes
}

/// A name-value pair (§3.4): lengths under 128 in one byte, others in four.
pub fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [name, value] {
        match u8::try_from(part.len()) {
            Ok(length @ 0..128) => bytes.push(length),
            _ => bytes.extend((part.len() as u32 | 1 << 31).to_be_bytes()),
        }
    }
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(value);
    bytes
}

pub fn pairs(all: &[(&str, &str)]) -> Vec<u8> {
    all.iter().flat_map(|(name, value)| pair(name.as_bytes(), value.as_bytes())).collect()
}

/// Percent-decoded, as web servers do it; bytes from 128 on as characters of Latin-1.
fn decoded(path: &str) -> String {
    let mut rest = path;
    let mut text = String::new();
    while let Some((plain, encoded)) = rest.split_once('%') {
        text.push_str(plain);
        let byte = encoded.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        text.push(byte.map_or('%', char::from));
        rest = if byte.is_some() { &encoded[2..] } else { encoded };
    }
    text + rest
}

/// Characters of Latin-1 as the bytes that they stand for.
fn latin_1(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("Latin-1")).collect()
}

/// One request for the responder. Names and values are Latin-1: each character is one byte.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: u16,
    pub flags: u8,
    pub params: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// What nginx's `fastcgi_params` would send.
    pub fn new(method: &str, target: &str) -> Request {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = &decoded(path);
        let params = [
            ("QUERY_STRING", query),
            ("REQUEST_METHOD", method),
            ("CONTENT_TYPE", ""),
            ("CONTENT_LENGTH", ""),
            ("SCRIPT_NAME", path),
            ("REQUEST_URI", target),
            ("DOCUMENT_URI", path),
            ("DOCUMENT_ROOT", "/usr/share/nginx/html"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REQUEST_SCHEME", "http"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_SOFTWARE", "nginx/1.22.1"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REMOTE_PORT", "50123"),
            ("SERVER_ADDR", "192.0.2.1"),
            ("SERVER_PORT", "80"),
            ("SERVER_NAME", ""),
            ("HTTP_HOST", "example.org"),
        ];
        let params = params.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Request { id: 1, flags: 0, params, body: Vec::new() }
    }

    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    pub fn keep(mut self) -> Self {
        self.flags = KEEP_CONN;
        self
    }

    /// Sets a parameter, in place of one with its name.
    pub fn param(mut self, name: &str, value: &str) -> Self {
        match self.params.iter_mut().find(|(found, _)| found == name) {
            Some((_, old)) => *old = value.to_owned(),
            None => self.params.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.params.retain(|(found, _)| found != name);
        self
    }

    /// A body, with its CONTENT_LENGTH.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let mut request = self.param("CONTENT_LENGTH", &body.len().to_string());
        request.body = body;
        request
    }

    pub fn params_content(&self) -> Vec<u8> {
        self.params.iter().flat_map(|(name, value)| pair(&latin_1(name), &latin_1(value))).collect()
    }

    /// All its records.
    pub fn bytes(&self) -> Vec<u8> {
        self.bytes_in_steps(32 * 1024)
    }

    pub fn bytes_in_steps(&self, step: usize) -> Vec<u8> {
        let mut bytes = begin(self.id, RESPONDER, self.flags);
        bytes.extend(stream(PARAMS, self.id, &self.params_content(), step));
        bytes.extend(stream(STDIN, self.id, &self.body, step));
        bytes
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub id: u16,
    pub content: Vec<u8>,
}

/// What one request got.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub app_status: u32,
    pub protocol_status: u8,
    /// False if the connection ended before END_REQUEST.
    pub complete: bool,
}

impl Answer {
    /// Its standard output read as a CGI response (RFC 3875 §6): `Status`, other fields, body.
    #[track_caller]
    pub fn response(&self) -> Response {
        let Some(end) = find(&self.stdout, b"\r\n\r\n") else {
            panic!("no header in {:?}, {self:?}", String::from_utf8_lossy(&self.stdout));
        };
        let head: String = self.stdout[..end].iter().map(|byte| char::from(*byte)).collect();
        let mut response = Response {
            status: 200,
            body: self.stdout[end + 4..].to_vec(),
            complete: self.complete,
            ..Response::default()
        };
        for line in head.split("\r\n") {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field line: {line:?}"));
            let value = value.trim().to_owned();
            if name.eq_ignore_ascii_case("Status") {
                let (status, reason) = value.split_once(' ').unwrap_or((&value, ""));
                response.status = status.parse().unwrap_or_else(|_| panic!("Status: {value}"));
                response.reason = reason.to_owned();
            }
            response.fields.push((name.to_owned(), value));
        }
        response
    }
}

/// One connection to a FastCGI application.
#[derive(Debug)]
pub struct Peer {
    pub stream: Stream,
    buffer: Vec<u8>,
    answers: BTreeMap<u16, Answer>,
    /// Something came that is no record.
    broken: bool,
}

impl Peer {
    #[track_caller]
    pub fn open(address: &Address) -> Peer {
        Peer { stream: Stream::open(address), buffer: Vec::new(), answers: BTreeMap::new(), broken: false }
    }

    /// From an address of our choice.
    #[track_caller]
    pub fn open_from(address: &Address, source: SocketAddr) -> Peer {
        let Address::Tcp(address) = address else { panic!("{address:?} is no TCP address") };
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&source.into()).expect("an address of this machine");
        socket.connect(&(*address).into()).expect("a connection");
        let stream = Stream::Tcp(socket.into());
        stream.set_read_timeout(DEADLINE);
        Peer { stream, buffer: Vec::new(), answers: BTreeMap::new(), broken: false }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            panic!("the application does not read: {error}");
        }
    }

    pub fn send_anyway(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    #[track_caller]
    pub fn send_in_steps(&mut self, bytes: &[u8], step: usize) {
        for piece in bytes.chunks(step) {
            self.send(piece);
        }
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub fn request(&mut self, request: &Request) -> Answer {
        let sender = self.stream.send_meanwhile(request.bytes());
        let answer = self.answer(request.id);
        let _ = sender.join().expect("the sender does not panic");
        answer
    }

    /// Reads records until the request is answered or the connection ends; other requests' records are kept.
    #[track_caller]
    pub fn answer(&mut self, id: u16) -> Answer {
        while !self.answers.get(&id).is_some_and(|answer| answer.complete) {
            let Some(record) = self.read_record() else { break };
            self.take(record);
        }
        self.answers.remove(&id).unwrap_or_default()
    }

    fn take(&mut self, record: Record) {
        let answer = self.answers.entry(record.id).or_default();
        assert!(!answer.complete, "a record after END_REQUEST: {record:?}");
        match record.kind {
            STDOUT => answer.stdout.extend(record.content),
            STDERR => answer.stderr.extend(record.content),
            END_REQUEST => {
                let content: [u8; 8] = record.content.try_into().expect("8 bytes in END_REQUEST");
                answer.app_status = u32::from_be_bytes([content[0], content[1], content[2], content[3]]);
                answer.protocol_status = content[4];
                answer.complete = true;
            }
            kind => panic!("a record of type {kind} in an answer"),
        }
    }

    /// The next record; `None` at the end of the connection. Half a record fails the test.
    #[track_caller]
    pub fn read_record(&mut self) -> Option<Record> {
        if !self.fill_to(8) {
            assert!(self.buffer.is_empty(), "the connection ended within a record");
            return None;
        }
        let header = &self.buffer[..8];
        let content_length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        let (version, kind, id) = (header[0], header[1], u16::from_be_bytes([header[2], header[3]]));
        let length = 8 + content_length + usize::from(header[6]);
        if version != 1 {
            // So a broken answer is marked: web servers take it for an error, as they should.
            self.buffer.clear();
            self.broken = true;
        }
        if self.broken {
            return None;
        }
        if !self.fill_to(length) {
            // A broken connection may end anywhere.
            self.buffer.clear();
            return None;
        }
        let content = self.buffer[8..8 + content_length].to_vec();
        self.buffer.drain(..length);
        Some(Record { kind, id, content })
    }

    /// True once the application closes without another record.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        match self.read_record() {
            None => true,
            Some(record) => panic!("another record came: {record:?}"),
        }
    }

    fn fill_to(&mut self, length: usize) -> bool {
        let mut chunk = [0; 64 * 1024];
        while self.buffer.len() < length {
            match read_uninterrupted(&mut self.stream, &mut chunk) {
                Ok(0) => return false,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("no record: {error}"),
            }
        }
        true
    }
}

/// The name-value pairs of a GET_VALUES_RESULT.
pub fn parse_pairs(mut content: &[u8]) -> BTreeMap<String, String> {
    fn length(content: &mut &[u8]) -> usize {
        let first = content[0];
        if first < 128 {
            *content = &content[1..];
            return usize::from(first);
        }
        let length = u32::from_be_bytes([first & 0x7f, content[1], content[2], content[3]]);
        *content = &content[4..];
        length as usize
    }
    let mut all = BTreeMap::new();
    while !content.is_empty() {
        let (name, value) = (length(&mut content), length(&mut content));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
        all.insert(text(&content[..name]), text(&content[name..name + value]));
        content = &content[name + value..];
    }
    all
}

/// One request on a connection of its own.
#[track_caller]
pub fn request(address: &Address, request: &Request) -> Answer {
    Peer::open(address).request(request)
}
