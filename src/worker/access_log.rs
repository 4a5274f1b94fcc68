//! One line per response, in the combined format that Apache and nginx write.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use crate::gateway::{KnownName, MetaVariables};

/// Lines are written in one piece when the loop is about to wait, or from this size on.
const WRITE_FROM_BYTES: usize = 16 * 1024;

/// What the line says of the response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub status: u16,
    pub body_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct AccessLog {
    file: Option<std::fs::File>,
    lines: Vec<u8>,
    stamp: Vec<u8>,
    stamp_of: Option<u64>,
    failed: bool,
}

impl AccessLog {
    pub fn new(file: Option<OwnedFd>) -> Self {
        AccessLog { file: file.map(Into::into), ..AccessLog::default() }
    }

    /// After USR1: what waits goes to the old file.
    pub fn reopen(&mut self, file: OwnedFd) {
        self.flush();
        self.file = Some(file.into());
        self.failed = false;
    }

    pub fn is_on(&self) -> bool {
        self.file.is_some()
    }

    /// `host ident user [time] "request" status bytes "referer" "user agent"`.
    pub fn record(&mut self, meta: &MetaVariables, answer: Answer) {
        if self.file.is_none() {
            return;
        }
        self.refresh_stamp();
        let known = |name| meta.known(name).unwrap_or_default();
        let out = &mut self.lines;
        or_dash(out, known(KnownName::RemoteAddr));
        out.extend_from_slice(b" - ");
        or_dash(out, known(KnownName::RemoteUser));
        out.extend_from_slice(&self.stamp);
        escape(out, known(KnownName::RequestMethod));
        out.push(b' ');
        escape(out, known(KnownName::RequestUri));
        out.push(b' ');
        escape(out, known(KnownName::ServerProtocol));
        // Writing to memory does not fail.
        let _ = write!(out, "\" {} {} \"", answer.status, answer.body_bytes);
        or_dash(out, known(KnownName::HttpReferer));
        out.extend_from_slice(b"\" \"");
        or_dash(out, known(KnownName::HttpUserAgent));
        out.extend_from_slice(b"\"\n");
        if self.lines.len() >= WRITE_FROM_BYTES {
            self.flush();
        }
    }

    pub fn flush(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        if let Some(file) = &mut self.file {
            let result = file.write_all(&self.lines);
            if let (Err(error), false) = (&result, self.failed) {
                log::error!("the access log can't be written: {error}; lines are lost until it can");
            }
            self.failed = result.is_err();
        }
        self.lines.clear();
    }

    fn refresh_stamp(&mut self) {
        let now = SystemTime::now();
        let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        if self.stamp_of != Some(second) {
            self.stamp_of = Some(second);
            self.stamp = clf_stamp(now);
        }
    }
}

/// ` [23/Nov/2026:08:00:01 +0000] "`, in UTC: a worker's application may change TZ.
fn clf_stamp(time: SystemTime) -> Vec<u8> {
    // An IMF-fixdate has fixed places: `Mon, 23 Nov 2026 08:00:01 GMT` (RFC 9110 §5.6.7).
    let date = httpdate::fmt_http_date(time);
    format!(" [{}/{}/{}:{} +0000] \"", &date[5..7], &date[8..11], &date[12..16], &date[17..25]).into_bytes()
}

fn or_dash(out: &mut Vec<u8>, value: &[u8]) {
    if value.is_empty() { out.push(b'-') } else { escape(out, value) }
}

/// As Apache does it: quotes and backslashes with a backslash, what can't be printed as \xhh. A peer can forge no line.
fn escape(out: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_is_that_of_the_common_log_format() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_420_801);
        assert_eq!(clf_stamp(time), b" [23/Nov/2026:08:00:01 +0000] \"");
    }

    #[test]
    fn a_peer_cannot_forge_a_line() {
        let mut meta = MetaVariables::default();
        meta.push(KnownName::RemoteAddr, b"127.0.0.1");
        meta.push(KnownName::RequestMethod, b"GET");
        meta.push(KnownName::RequestUri, b"/a\"b");
        meta.push(KnownName::ServerProtocol, b"HTTP/1.1");
        meta.push(KnownName::HttpUserAgent, b"x\" 200\n\x1b[2Jy\\\xff");
        let file = tempfile::tempfile().expect("a file");
        let mut log = AccessLog::new(Some(file.try_clone().expect("a second descriptor").into()));
        log.record(&meta, Answer { status: 200, body_bytes: 5 });
        log.flush();
        let mut text = String::new();
        use std::io::{Read, Seek};
        let mut file = file;
        file.rewind().expect("a regular file");
        file.read_to_string(&mut text).expect("ASCII");
        assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
        assert!(
            text.ends_with("\"GET /a\\\"b HTTP/1.1\" 200 5 \"-\" \"x\\\" 200\\x0a\\x1b[2Jy\\\\\\xff\"\n"),
            "{text}"
        );
    }
}
