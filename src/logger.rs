//! The log on standard error: one format for the master and all that it starts.
//!
//! `2026-11-23T08:00:01.123Z INFO  worker 0 [4711] script: [8c5a52be0e1d6a35] message`
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

use log::LevelFilter;
use log::kv::Key;

use crate::gateway::{IdText, Request, UniqueId};
use crate::printable::push_printable;

/// The key by which a record tells its request.
const REQUEST: &str = "request";

/// Stands before every further line of a message.
const CONTINUATION: &str = "  | ";

/// Which process logs.
static NAME: RwLock<String> = RwLock::new(String::new());

/// Sets the logger of this process up. `level` is a name of `--log-level`, `name` stands in every line. A second call
/// changes both.
pub fn init(level: &str, name: &str) {
    rename(name);
    // An error means that there is a logger already: ours, since nothing else sets one.
    let _ = env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .write_style(env_logger::WriteStyle::Never)
        .format(|buffer, record| {
            let line = format_line(
                &buffer.timestamp_millis().to_string(),
                record.level(),
                std::process::id(),
                area(record.target()),
                &request_of(record),
                &record.args().to_string(),
            );
            buffer.write_all(line.as_bytes())
        })
        .try_init();
    set_level(level);
}

/// From now on this process logs from `level` up.
pub fn set_level(level: &str) {
    log::set_max_level(LevelFilter::from_str(level).unwrap_or(LevelFilter::Info));
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

fn format_line(
    time: &str,
    level: log::Level,
    pid: u32,
    target: &str,
    request: &str,
    message: &str,
) -> String {
    let name = NAME.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut line = String::with_capacity(message.len() + 96);
    let _ = write!(line, "{time} {level:<5} {name} [{pid}] {target}: ");
    if !request.is_empty() {
        let _ = write!(line, "[{request}] ");
    }
    for (index, part) in message.trim_end_matches('\n').split('\n').enumerate() {
        if index > 0 {
            line.push('\n');
            line.push_str(CONTINUATION);
        }
        push_printable(&mut line, part);
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("ready", "T INFO   [1] t: ready\n"),
            ("a\nb\n", "T INFO   [1] t: a\n  | b\n"),
            ("a\r\nT ERROR x", "T INFO   [1] t: a\\r\n  | T ERROR x\n"),
            ("\x1b[2J\t\u{9b}\u{7f}\0é", "T INFO   [1] t: \\u{1b}[2J\t\\u{9b}\\u{7f}\\u{0}é\n"),
        ] {
            assert_eq!(format_line("T", log::Level::Info, 1, "t", "", message), expected);
        }
    }

    #[test]
    fn a_line_about_a_request_says_which() {
        assert_eq!(
            format_line("T", log::Level::Info, 1, "t", "id", "a\nb"),
            "T INFO   [1] t: [id] a\n  | b\n"
        );
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
