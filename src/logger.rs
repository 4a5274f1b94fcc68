//! The log on standard error: one format for the master and all that it starts.
//!
//! `2026-11-23T08:00:01.123Z INFO  worker 0 [4711] script: [8c5a52be0e1d6a35] message`
//!
//! Or, with `--log-format json`, an object with the same in its members.
//!
//! In brackets before the message: the id of the request that it is about. A line names it by a key (`log::error!(request:%
//! = id; "…")`); what is logged on a thread while an application answers there gets it by itself ([`enter_request`]).
//!
//! Much of what is logged was written by others. Control characters are escaped, and further lines of a message are
//! marked, so that nobody can write a line that looks like ours, or send commands to a terminal.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::Write as _;
use std::str::FromStr;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use log::LevelFilter;
use log::kv::Key;

use crate::cli::LogFormat;
use crate::config::Config;
use crate::gateway::{IdText, Request, UniqueId};
use crate::printable::{push_json, push_printable};

/// The key by which a record tells its request.
const REQUEST: &str = "request";

/// Stands before every further line of a message.
const CONTINUATION: &str = "  | ";

/// Which process logs.
static NAME: RwLock<String> = RwLock::new(String::new());

/// In JSON, not as text.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Sets the logger of this process up. `name` stands in every line. A second call changes level, form and name.
pub fn init(config: &Config, name: &str) {
    rename(name);
    // An error means that there is a logger already: ours, since nothing else sets one.
    let _ = env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .write_style(env_logger::WriteStyle::Never)
        .format(|buffer, record| {
            let message = record.args().to_string();
            let line = Line {
                time: &buffer.timestamp_millis().to_string(),
                level: record.level(),
                name: &NAME.read().unwrap_or_else(|poisoned| poisoned.into_inner()),
                pid: std::process::id(),
                target: area(record.target()),
                request: &request_of(record),
                message: message.trim_end_matches('\n'),
            };
            match IS_JSON.load(Ordering::Relaxed) {
                true => buffer.write_all(&line.json()),
                false => buffer.write_all(line.text().as_bytes()),
            }
        })
        .try_init();
    configure(config);
}

/// From now on this process logs from `--log-level` up, in the form of `--log-format`.
pub fn configure(config: &Config) {
    log::set_max_level(LevelFilter::from_str(&config.log_level).unwrap_or(LevelFilter::Info));
    IS_JSON.store(config.log_format == LogFormat::Json, Ordering::Relaxed);
}

/// The part of forkhorn, or the crate, that speaks: `master` for `forkhorn::master::workers`.
fn area(target: &str) -> &str {
    let inner = target.strip_prefix("forkhorn::").or_else(|| target.strip_prefix("_forkhorn::"));
    inner.unwrap_or(target).split("::").next().unwrap_or(target)
}

/// From now on this process is called `name`: a worker that was forked by a template.
pub fn rename(name: &str) {
    let mut current = NAME.write().unwrap_or_else(|poisoned| poisoned.into_inner());
    current.clear();
    current.push_str(name);
}

thread_local! {
    static CURRENT: Cell<UniqueId> = const { Cell::new(UniqueId::from_bits(0)) };
    /// The front's id of that request, if it was taken.
    static TAKEN: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on what this thread logs is about `request`, until [`leave_request`].
pub fn enter_request(request: &Request) {
    CURRENT.set(request.id);
    if let taken @ IdText::Taken(_) = request.id_text() {
        TAKEN.with_borrow_mut(|text| {
            text.clear();
            // Writing to a String does not fail.
            let _ = write!(text, "{taken}");
        });
    }
}

pub fn leave_request() {
    CURRENT.set(UniqueId::default());
    TAKEN.with_borrow_mut(String::clear);
}

/// The id of the request that a record is about; empty if it is about none.
fn request_of(record: &log::Record<'_>) -> String {
    match record.key_values().get(Key::from_str(REQUEST)) {
        Some(id) => printable(&id.to_string()),
        None if CURRENT.get().is_none() => String::new(),
        None => TAKEN.with_borrow(|taken| match taken.is_empty() {
            true => CURRENT.get().to_string(),
            false => taken.clone(),
        }),
    }
}

/// `message` as it may be shown on a terminal: several lines if it has several, without other control characters.
pub fn printable(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for (index, line) in message.split('\n').enumerate() {
        if index > 0 {
            text.push('\n');
        }
        push_printable(&mut text, line);
    }
    text
}

/// What a record says.
struct Line<'a> {
    time: &'a str,
    level: log::Level,
    name: &'a str,
    pid: u32,
    target: &'a str,
    /// Empty if it is about none.
    request: &'a str,
    message: &'a str,
}

impl Line<'_> {
    fn text(&self) -> String {
        let Line { time, level, name, pid, target, request, message } = self;
        let mut line = String::with_capacity(message.len() + 96);
        let _ = write!(line, "{time} {level:<5} {name} [{pid}] {target}: ");
        if !request.is_empty() {
            let _ = write!(line, "[{request}] ");
        }
        for (index, part) in message.split('\n').enumerate() {
            if index > 0 {
                line.push('\n');
                line.push_str(CONTINUATION);
            }
            push_printable(&mut line, part);
        }
        line.push('\n');
        line
    }

    /// The further lines of a message, a traceback for one, are one text of their own.
    fn json(&self) -> Vec<u8> {
        let (message, detail) = self.message.split_once('\n').unwrap_or((self.message, ""));
        let level = self.level.as_str().to_ascii_lowercase();
        let mut line = Vec::with_capacity(self.message.len() + 192);
        for (name, value) in [
            ("time", self.time),
            ("level", &level),
            ("process", self.name),
            ("target", self.target),
            ("request_id", self.request),
            ("message", message),
            ("detail", detail),
        ] {
            if value.is_empty() && name != "message" {
                continue;
            }
            line.push(if line.is_empty() { b'{' } else { b',' });
            push_json(&mut line, name.as_bytes());
            line.push(b':');
            push_json(&mut line, value.as_bytes());
        }
        let _ = write!(line, ",\"pid\":{}", self.pid);
        if let Some(slot) = self.name.strip_prefix("worker ").and_then(|slot| slot.parse::<u16>().ok()) {
            let _ = write!(line, ",\"worker\":{slot}");
        }
        line.extend_from_slice(b"}\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(request: &'a str, message: &'a str) -> Line<'a> {
        let (name, message) = ("worker 3", message.trim_end_matches('\n'));
        Line { time: "T", level: log::Level::Info, name, pid: 1, target: "t", request, message }
    }

    #[test]
    fn an_object_has_the_same_in_its_members() {
        for (request, message, expected) in [
            (
                "",
                "ready",
                r#"{"time":"T","level":"info","process":"worker 3","target":"t","message":"ready","pid":1,"worker":3}"#,
            ),
            (
                "id",
                "a\nb\n\"c\"\n",
                r#"{"time":"T","level":"info","process":"worker 3","target":"t","request_id":"id","message":"a","detail":"b\n\"c\"","pid":1,"worker":3}"#,
            ),
            (
                "",
                "",
                r#"{"time":"T","level":"info","process":"worker 3","target":"t","message":"","pid":1,"worker":3}"#,
            ),
        ] {
            let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).expect("JSON");
            let made = line(request, message).json();
            assert_eq!(read(&made), read(expected.as_bytes()));
            assert_eq!(made.iter().filter(|byte| byte.is_ascii_control()).count(), 1, "one end of a line");
        }
    }

    #[test]
    fn a_line_names_the_part_that_speaks() {
        for (target, expected) in [
            ("forkhorn::master::workers", "master"),
            ("_forkhorn::template", "template"),
            ("_forkhorn", "_forkhorn"),
            ("mio::poll", "mio"),
        ] {
            assert_eq!(area(target), expected);
        }
    }

    #[test]
    fn a_message_can_not_forge_a_line() {
        for (message, expected) in [
            ("ready", "T INFO  worker 3 [1] t: ready\n"),
            ("a\nb\n", "T INFO  worker 3 [1] t: a\n  | b\n"),
            ("a\r\nT ERROR x", "T INFO  worker 3 [1] t: a\\r\n  | T ERROR x\n"),
            ("\x1b[2J\t\u{9b}\u{7f}\0é", "T INFO  worker 3 [1] t: \\u{1b}[2J\t\\u{9b}\\u{7f}\\u{0}é\n"),
        ] {
            assert_eq!(line("", message).text(), expected);
        }
    }

    #[test]
    fn a_line_about_a_request_says_which() {
        assert_eq!(line("id", "a\nb").text(), "T INFO  worker 3 [1] t: [id] a\n  | b\n");
        let record = |values: &dyn log::kv::Source| {
            request_of(&log::Record::builder().args(format_args!("")).key_values(&values).build())
        };
        let mut request = Request { id: UniqueId::from_bits(10), ..Request::default() };
        assert_eq!(record(&None::<(&str, &str)>), "");
        enter_request(&request);
        assert_eq!(record(&None::<(&str, &str)>), "000000000000000a");
        assert_eq!(record(&("request", "of another")), "of another");
        request.meta.set(b"UNIQUE_ID", b"from-front");
        enter_request(&request);
        assert_eq!(record(&None::<(&str, &str)>), "from-front");
        leave_request();
        assert_eq!(record(&None::<(&str, &str)>), "");
    }
}
