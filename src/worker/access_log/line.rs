//! One line: each field's value, as text or as a member of a JSON object.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

use super::stamp::Stamps;
use super::{Whereabouts, escape};
use crate::config::{Field, NamedField, Piece, Unit};
use crate::gateway::{IdText, KnownName, MetaVariables, UniqueId};
use crate::printable::push_json;
use crate::scoreboard::Answerer;
use crate::sys::spawn::Exit;
use crate::worker::flight::Flight;

/// What the lines say of a response.
pub(crate) struct Answer<'a> {
    pub flight: &'a Flight,
    pub meta: &'a MetaVariables,
    pub id: UniqueId,
    pub status: u16,
    /// The connection waits for its next request.
    pub is_kept: bool,
}

pub(super) struct Line<'a> {
    pub out: &'a mut Vec<u8>,
    pub stamps: &'a mut Stamps,
    pub answer: &'a Answer<'a>,
    pub whereabouts: Whereabouts,
}

/// A field's value, before it is written in one form or the other.
enum Value<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// Two parts of one text.
    Joined(&'a [u8], &'a [u8]),
    /// Printable without quotation marks and backslashes.
    Plain(&'a str),
    Number(u64),
    Decimal(Duration),
    Truth(bool),
    Id(IdText<'a>),
    Exit(Exit),
    Time,
    TimeClf,
    TimeUnix,
}

impl Line<'_> {
    pub fn text(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.out.extend_from_slice(text.as_bytes()),
                Piece::Field { field, quoted } => {
                    let value = value(self.answer, self.whereabouts, field);
                    self.push_text(value, *quoted);
                }
            }
        }
        self.out.push(b'\n');
    }

    pub fn json(&mut self, members: &[NamedField]) {
        for (index, member) in members.iter().enumerate() {
            self.out.extend_from_slice(if index == 0 { b"{" } else { b"," });
            push_json(self.out, member.name.as_bytes());
            self.out.push(b':');
            let value = value(self.answer, self.whereabouts, &member.field);
            self.push_json(value);
        }
        self.out.extend_from_slice(b"}\n");
    }

    fn push_text(&mut self, value: Value<'_>, quoted: bool) {
        match value {
            Value::Nothing => self.out.push(b'-'),
            Value::Bytes(bytes) => escape::text(self.out, bytes, quoted),
            Value::Joined(b"", bytes) | Value::Joined(bytes, b"") => escape::text(self.out, bytes, quoted),
            Value::Joined(one, other) => {
                escape::text(self.out, one, quoted);
                escape::text(self.out, other, quoted);
            }
            Value::Exit(Exit::Signal(number)) => self.display(format_args!("signal:{number}")),
            Value::Exit(Exit::Status(status)) => self.display(status),
            Value::Exit(Exit::Unknown) => self.out.push(b'-'),
            plain => self.push_plain(plain),
        }
    }

    fn push_json(&mut self, value: Value<'_>) {
        match value {
            Value::Nothing | Value::Bytes(b"") | Value::Exit(Exit::Unknown) => {
                self.out.extend_from_slice(b"null")
            }
            Value::Bytes(bytes) => push_json(self.out, bytes),
            Value::Joined(one, other) => push_json(self.out, &[one, other].concat()),
            Value::Exit(Exit::Signal(number)) => self.display(format_args!("\"signal:{number}\"")),
            Value::Exit(Exit::Status(status)) => self.display(status),
            value @ (Value::Number(_) | Value::Decimal(_) | Value::Truth(_) | Value::TimeUnix) => {
                self.push_plain(value);
            }
            text => {
                self.out.push(b'"');
                self.push_plain(text);
                self.out.push(b'"');
            }
        }
    }

    /// What is the same in both forms, but for quotation marks.
    fn push_plain(&mut self, value: Value<'_>) {
        match value {
            Value::Plain(text) => self.out.extend_from_slice(text.as_bytes()),
            Value::Number(number) => self.display(number),
            Value::Decimal(duration) => {
                self.display(format_args!("{}.{:06}", duration.as_secs(), duration.subsec_micros()));
            }
            Value::Truth(truth) => self.display(truth),
            Value::Id(id) => self.display(id),
            Value::Time => self.stamps.iso(self.out),
            Value::TimeClf => self.stamps.clf(self.out),
            Value::TimeUnix => Stamps::unix(self.out),
            Value::Nothing | Value::Bytes(_) | Value::Joined(..) | Value::Exit(_) => {}
        }
    }

    fn display(&mut self, value: impl Display) {
        // Writing to memory does not fail.
        let _ = write!(self.out, "{value}");
    }
}

fn value<'a>(answer: &Answer<'a>, whereabouts: Whereabouts, field: &'a Field) -> Value<'a> {
    let (flight, meta) = (answer.flight, answer.meta);
    let known = |name| meta.known(name).map_or(Value::Nothing, Value::Bytes);
    match field {
        Field::Time => Value::Time,
        Field::TimeClf => Value::TimeClf,
        Field::TimeUnix => Value::TimeUnix,
        Field::RemoteAddr => known(KnownName::RemoteAddr),
        Field::RemotePort => known(KnownName::RemotePort),
        Field::RemoteUser => known(KnownName::RemoteUser),
        Field::Method => match &flight.told.asked {
            Some(asked) => Value::Bytes(&asked.method),
            None => known(KnownName::RequestMethod),
        },
        Field::Target => match (&flight.told.asked, meta.known(KnownName::RequestUri)) {
            (Some(asked), _) => Value::Bytes(&asked.target),
            (None, Some(target)) => Value::Bytes(target),
            (None, None) => path(meta),
        },
        Field::Path => path(meta),
        Field::Query => known(KnownName::QueryString),
        Field::Protocol => known(KnownName::ServerProtocol),
        Field::Scheme => known(KnownName::RequestScheme),
        Field::Host => known(KnownName::HttpHost),
        Field::Referer => known(KnownName::HttpReferer),
        Field::UserAgent => known(KnownName::HttpUserAgent),
        Field::Variable(name) => meta.get(name.as_bytes()).map_or(Value::Nothing, Value::Bytes),
        Field::Status => Value::Number(answer.status.into()),
        Field::BytesIn => Value::Number(flight.told.bytes_in),
        Field::BytesOut => Value::Number(flight.outgoing.body_bytes),
        Field::RequestId => Value::Id(match meta.known(KnownName::UniqueId) {
            Some(taken) => IdText::Taken(taken),
            None => IdText::Made(answer.id),
        }),
        Field::Duration(unit) => duration(Instant::now().saturating_duration_since(flight.told.began), *unit),
        Field::Queue(unit) => flight.told.waited().map_or(Value::Nothing, |waited| duration(waited, *unit)),
        Field::Cpu(unit) => flight.told.cpu.map_or(Value::Nothing, |cpu| duration(cpu, *unit)),
        Field::Worker => Value::Number(whereabouts.slot.into()),
        Field::Generation => Value::Number(whereabouts.generation.into()),
        Field::Pid => Value::Number(whereabouts.pid.into()),
        Field::Handler => Value::Plain(match flight.by {
            Answerer::Nobody => return Value::Nothing,
            Answerer::Application => "wsgi",
            Answerer::Script => "cgi",
            Answerer::File => "static",
        }),
        Field::Mount => mount(flight, meta),
        Field::ScriptExit => flight.told.exit.map_or(Value::Nothing, Value::Exit),
        Field::Kept => Value::Truth(answer.is_kept),
    }
}

fn duration<'a>(duration: Duration, unit: Unit) -> Value<'a> {
    match unit {
        Unit::Seconds => Value::Decimal(duration),
        Unit::Milliseconds => Value::Number(duration.as_millis() as u64),
        Unit::Microseconds => Value::Number(duration.as_micros() as u64),
    }
}

/// Decoded.
fn path(meta: &MetaVariables) -> Value<'_> {
    let part = |name| meta.known(name).unwrap_or_default();
    match (part(KnownName::ScriptName), part(KnownName::PathInfo)) {
        (b"", b"") => Value::Nothing,
        (script_name, path_info) => Value::Joined(script_name, path_info),
    }
}

/// The prefix; `/` where it is empty.
fn mount<'a>(flight: &Flight, meta: &'a MetaVariables) -> Value<'a> {
    let script_name = meta.known(KnownName::ScriptName).unwrap_or_default();
    let prefix = match (flight.by, flight.told.prefix_length) {
        (Answerer::Nobody, _) | (Answerer::Script, None) => return Value::Nothing,
        (Answerer::Application | Answerer::File, _) => script_name,
        (Answerer::Script, Some(length)) => script_name.get(..length).unwrap_or(script_name),
    };
    if prefix.is_empty() { Value::Plain("/") } else { Value::Bytes(prefix) }
}
