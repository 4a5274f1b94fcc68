//! One client: bytes in, one question, one answer, bytes out.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;

use super::routes::{self, Answer, Question};
use super::{ANSWER_TIME, Access, REQUEST_TIME};
use crate::protocol::{Event, Limits, RequestId, ResponseHead, ResponsePart, default_reason, http1};

/// Bytes of one read.
const READ_BYTES: usize = 4096;

/// Reads of one turn: nobody who keeps to the limits needs more.
const MOST_READS: usize = 8;

pub(super) struct Client {
    socket: Socket,
    access: Access,
    protocol: http1::Connection,
    /// What was asked, until it is answered.
    asked: Option<(RequestId, bool)>,
    /// `None` while the answer is not ours to give yet.
    expires_at: Option<Instant>,
    is_at_eof: bool,
    is_shut: bool,
}

/// What a look at a client has led to.
pub(super) enum Progress {
    Waits,
    Asks(Question),
    /// The answer is clear without the master.
    Refused(Answer),
    /// It has its answer, or has left.
    Over,
}

impl Client {
    pub(super) fn new(socket: Socket, access: Access, limits: Arc<Limits>, now: Instant) -> Self {
        Client {
            socket,
            access,
            protocol: http1::Connection::new(limits, now),
            asked: None,
            expires_at: Some(now + REQUEST_TIME),
            is_at_eof: false,
            is_shut: false,
        }
    }

    pub(super) fn watch(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), token, interest)
    }

    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn advance(&mut self, now: Instant) -> Progress {
        self.try_advance(now).unwrap_or_else(|error| {
            log::debug!("a client of the status listener has left: {error}");
            Progress::Over
        })
    }

    fn try_advance(&mut self, now: Instant) -> io::Result<Progress> {
        self.read(now)?;
        if self.asked.is_none() && !self.protocol.wants_close() {
            match self.poll() {
                Progress::Waits => {}
                progress => return Ok(progress),
            }
        }
        self.write()?;
        let is_answered = self.protocol.wants_close() && self.protocol.output().is_empty();
        if is_answered && self.protocol.wants_linger() && !self.is_at_eof {
            if !self.is_shut {
                self.is_shut = true;
                self.socket.shutdown(Shutdown::Write)?;
            }
            return Ok(Progress::Waits);
        }
        let has_left = self.is_at_eof && self.asked.is_none() && self.protocol.output().is_empty();
        Ok(if is_answered || has_left { Progress::Over } else { Progress::Waits })
    }

    fn read(&mut self, now: Instant) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..MOST_READS {
            if self.is_at_eof {
                return Ok(());
            }
            match (&self.socket).read(&mut buffer) {
                Ok(0) => {
                    self.is_at_eof = true;
                    self.protocol.receive_eof();
                }
                Ok(count) => self.protocol.receive(buffer.get(..count).unwrap_or_default(), now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("it sends too much"))
    }

    fn poll(&mut self) -> Progress {
        while let Ok(Some(event)) = self.protocol.poll_event() {
            match event {
                Event::Request { id, head } => {
                    let (method, target) =
                        (head.method().unwrap_or_default(), head.target().unwrap_or_default());
                    self.asked = Some((id, method == b"HEAD"));
                    self.expires_at = None;
                    return match routes::question(method, target, self.access) {
                        Ok(question) => Progress::Asks(question),
                        Err(answer) => Progress::Refused(answer),
                    };
                }
                Event::Reject { id, error } => {
                    self.asked = Some((id, false));
                    return Progress::Refused(Answer::text(error.status(), error.reason()));
                }
                // Bodies are none of our business, and an end of nothing is none either.
                Event::Body { .. } | Event::BodyEnd { .. } | Event::Abort { .. } => {}
            }
        }
        Progress::Waits
    }

    pub(super) fn answer(&mut self, answer: &Answer, date: &[u8; http1::DATE_BYTES], now: Instant) {
        let Some((id, is_head)) = self.asked.take() else { return };
        let mut head = ResponseHead::default();
        head.start(answer.status, default_reason(answer.status).as_bytes());
        for (name, value) in [("Content-Type", answer.content_type), ("Cache-Control", "no-store")] {
            // Both are constants that keep to the rules.
            let _ = head.push(name.as_bytes(), value.as_bytes());
        }
        if let Some(allow) = answer.allow {
            let _ = head.push(b"Allow", allow.as_bytes());
        }
        head.content_length = Some(answer.body.len() as u64);
        head.has_body = !is_head;
        head.close = true;
        self.protocol.set_date(date);
        self.protocol.send(id, ResponsePart::Head(&head), now);
        if !is_head {
            self.protocol.send(id, ResponsePart::Body(&answer.body), now);
        }
        self.protocol.send(id, ResponsePart::End, now);
        self.expires_at = Some(now + ANSWER_TIME);
    }

    fn write(&mut self) -> io::Result<()> {
        let output = self.protocol.output();
        while !output.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let (filled, _) = output.slices(&mut slices);
            match (&self.socket).write_vectored(slices.get(..filled).unwrap_or_default()) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => output.consume(count as u64),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
