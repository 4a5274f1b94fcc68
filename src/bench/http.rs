//! A small HTTP/1.1 client for `--url`: one kept connection, GET, the three ways in which a body ends.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::config::StartupError;

/// A longer head is not believed.
const LONGEST_HEAD: usize = 64 * 1024;

/// Most fields of a head.
const MOST_FIELDS: usize = 128;

/// `http://HOST[:PORT][/PATH]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// As it was given.
    pub(super) text: String,
    /// Host and port, to connect to.
    address: String,
    host: String,
    target: String,
}

impl Url {
    /// # Errors
    /// What is wrong with it, and what would be right.
    pub(super) fn parse(text: &str) -> Result<Url, StartupError> {
        let wrong = |why: &str| StartupError::usage(format!("--url {text}: {why}"));
        let Some(rest) = text.strip_prefix("http://") else {
            return Err(wrong("expected http://HOST:PORT/PATH; measure the part behind TLS"));
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.is_empty() || text.contains(|c: char| c.is_ascii_control() || c == ' ') {
            return Err(wrong("there is no host in it, or a space"));
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { host.to_owned() } else { format!("{host}:80") };
        let target = if path.is_empty() { "/" } else { path };
        Ok(Url { text: text.to_owned(), address, host: host.to_owned(), target: target.to_owned() })
    }
}

pub(super) struct HttpClient {
    stream: TcpStream,
    url: Url,
    patience: Duration,
    request: Vec<u8>,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were read.
    filled: usize,
    closed: bool,
}

struct Head {
    status: u16,
    bytes: usize,
    body: BodyEnd,
    keeps: bool,
}

enum BodyEnd {
    Length(u64),
    Chunked,
    Close,
}

impl HttpClient {
    pub(super) fn connect(url: &Url, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(&url.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: forkhorn-bench\r\nAccept: */*\r\n\r\n",
            url.target, url.host
        );
        Ok(HttpClient {
            stream,
            url: url.clone(),
            patience,
            request: request.into_bytes(),
            buffer: vec![0; 2 * LONGEST_HEAD],
            filled: 0,
            closed: false,
        })
    }

    pub(super) fn ask(&mut self) -> io::Result<u16> {
        if self.closed {
            *self = HttpClient::connect(&self.url.clone(), self.patience)?;
        }
        self.stream.write_all(&self.request)?;
        self.filled = 0;
        let head = loop {
            if let Some(head) = self.head()? {
                break head;
            }
            self.read_more()?;
        };
        self.closed = !head.keeps;
        self.consume(head.bytes);
        match head.body {
            BodyEnd::Length(length) => self.skip(length)?,
            BodyEnd::Chunked => self.skip_chunks()?,
            BodyEnd::Close => {
                self.closed = true;
                io::copy(&mut self.stream, &mut io::sink())?;
            }
        }
        Ok(head.status)
    }

    fn head(&self) -> io::Result<Option<Head>> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let bytes = self.buffer.get(..self.filled).unwrap_or_default();
        let parsed = response.parse(bytes).map_err(|error| io::Error::other(error.to_string()))?;
        let httparse::Status::Complete(bytes) = parsed else { return Ok(None) };
        let field = |wanted: &str| {
            let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(wanted));
            found.map(|field| String::from_utf8_lossy(field.value).to_ascii_lowercase())
        };
        let status = response.code.unwrap_or(0);
        let body = match (field("transfer-encoding"), field("content-length")) {
            _ if matches!(status, 204 | 304) => BodyEnd::Length(0),
            (Some(_), _) => BodyEnd::Chunked,
            (None, Some(length)) => BodyEnd::Length(length.parse().map_err(io::Error::other)?),
            (None, None) => BodyEnd::Close,
        };
        let keeps = response.version == Some(1) && field("connection").as_deref() != Some("close");
        Ok(Some(Head { status, bytes, body, keeps }))
    }

    fn read_more(&mut self) -> io::Result<()> {
        let room = self.buffer.get_mut(self.filled..).filter(|room| !room.is_empty());
        let room = room.ok_or_else(|| io::Error::other("the head of the answer is too long"))?;
        match self.stream.read(room)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.filled += length;
                Ok(())
            }
        }
    }

    /// Forgets the first bytes of the buffer.
    fn consume(&mut self, count: usize) {
        let count = count.min(self.filled);
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    fn skip(&mut self, mut length: u64) -> io::Result<()> {
        loop {
            let here = usize::try_from(length).unwrap_or(usize::MAX).min(self.filled);
            self.consume(here);
            length -= here as u64;
            if length == 0 {
                return Ok(());
            }
            self.read_more()?;
        }
    }

    /// To the end of the last chunk and its trailer section (RFC 9112 §7.1).
    fn skip_chunks(&mut self) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(());
            }
            self.skip(size.saturating_add(2))?;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            let bytes = self.buffer.get(..self.filled).unwrap_or_default();
            if let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
                self.consume(end + 2);
                return Ok(line);
            }
            self.read_more()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, address, target) in [
            ("http://127.0.0.1:8000/a?b=c", "127.0.0.1:8000", "/a?b=c"),
            ("http://example.org", "example.org:80", "/"),
            ("http://[::1]:81/x", "[::1]:81", "/x"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!((url.address.as_str(), url.target.as_str()), (address, target), "{text}");
        }
        for text in ["https://example.org/", "example.org", "http:///x", "http://a b/"] {
            assert_eq!(Url::parse(text).expect_err(text).exit_code(), 2, "{text}");
        }
    }

    #[test]
    fn bodies_of_every_form_are_read_to_their_end() {
        let answers: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nTrailer: x\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            b"HTTP/1.0 500 No\r\n\r\nto the end",
        ];
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = Url::parse(&format!("http://{}/", listener.local_addr().expect("bound"))).expect("a URL");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            for answer in answers {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    request.push(byte[0]);
                }
                stream.write_all(answer).expect("sent");
            }
        });
        let mut client = HttpClient::connect(&url, Duration::from_secs(40)).expect("connected");
        let statuses: Vec<u16> = (0..answers.len()).map(|_| client.ask().expect("an answer")).collect();
        assert_eq!(statuses, [200, 201, 304, 500]);
        assert!(client.closed);
        server.join().expect("served");
    }
}
