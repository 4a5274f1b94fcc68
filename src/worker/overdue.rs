//! Requests that an application runs for too long: answered 504 past `--timeout`, only told of past `--slow-request`.
//!
//! Time in which the application waits for a slow reader counts for neither. What is found here is logged by
//! [`Shared::turn`](super::Shared), without the lock of the state, with the stack of every Python thread.

use std::time::{Duration, Instant};

use log::Level;

use super::connection::{Connection, earlier};
use super::core::Core;
use super::flight::Flight;
use super::state::State;
use crate::protocol::RequestId;
use crate::scoreboard::Counter;

/// Stacks of slow requests are logged so often at most: a hundred threads that wait for one lock are one matter.
pub(super) const SLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Requests that one report names.
const MOST_NAMED: usize = 16;

/// A request that has run for too long.
#[derive(Debug)]
pub(crate) struct Overdue {
    /// What the log calls its id.
    pub id: String,
    /// Method and target.
    pub what: String,
    /// On its application thread, without the time that it waited for its reader.
    pub elapsed: Duration,
    /// It has been answered 504, or broken off; else it is only slow.
    pub ended: bool,
}

/// What goes into the log at once: one set of stacks shows where all of them are.
#[derive(Debug)]
pub(super) struct Report {
    found: Vec<Overdue>,
    /// Slow requests that earlier reports would have named.
    left_out: u64,
}

impl Report {
    /// `--timeout` has ended a request: the worker can't be trusted with another one.
    pub fn has_ended(&self) -> bool {
        self.found.iter().any(|request| request.ended)
    }

    /// The stacks come with the last line.
    pub fn log(&self, stacks: &str) {
        let named = &self.found[..self.found.len().min(MOST_NAMED)];
        let unnamed = self.left_out + (self.found.len() - named.len()) as u64;
        for (index, request) in named.iter().enumerate() {
            let is_last = index + 1 == named.len();
            let text = request.text(is_last.then_some((unnamed, stacks)));
            let level = if request.ended { Level::Error } else { Level::Warn };
            log::log!(level, request:% = request.id; "{text}");
        }
    }
}

impl Overdue {
    fn text(&self, last: Option<(u64, &str)>) -> String {
        let which = if self.ended { "over --timeout" } else { "over --slow-request, still running" };
        let mut text = format!("{}: {which} after {:.1} s", self.what, self.elapsed.as_secs_f64());
        if let Some((unnamed, stacks)) = last {
            if unnamed > 0 {
                text += &format!("; {unnamed} more slow requests were not named");
            }
            text.push('\n');
            text += stacks;
        }
        text
    }
}

impl Connection {
    /// Requests that have been with the application for too long: 504 or a broken connection, or a mention in the log.
    pub(super) fn see_to_overdue(&mut self, core: &mut Core) {
        let processes = &core.config.processes;
        let (timeout, slow, now) = (processes.timeout, processes.slow_request, core.now);
        let mut ended: Vec<RequestId> = Vec::new();
        for flight in &mut self.flights {
            let is_over = flight.overdue_at(timeout).is_some_and(|at| now >= at);
            if is_over {
                ended.push(flight.id);
            } else if flight.slow_at(slow).is_none_or(|at| now < at) {
                continue;
            }
            if !is_over {
                core.board.count(Counter::SlowRequests);
            }
            flight.is_told_slow = true;
            core.overdue.push(Overdue {
                id: flight.id_text().to_string(),
                what: flight.description(),
                elapsed: flight.ran_for(now),
                ended: is_over,
            });
        }
        for id in ended {
            core.board.count(Counter::ApplicationTimeout);
            self.answer_error(id, 504, core);
        }
    }

    /// When [`see_to_overdue`](Self::see_to_overdue) has something to do.
    pub(super) fn overdue_at(&self, core: &Core) -> Option<Instant> {
        let processes = &core.config.processes;
        let (timeout, slow) = (processes.timeout, processes.slow_request);
        let both = earlier(timeout, slow);
        let due = |flight: &Flight| flight.overdue_at(if flight.is_told_slow { timeout } else { both });
        self.flights.iter().fold(None, |first, flight| earlier(first, due(flight)))
    }
}

impl State {
    /// What is to be logged about requests that were found since the last call.
    pub(super) fn take_report(&mut self) -> Option<Report> {
        if self.core.overdue.is_empty() {
            return None;
        }
        let found = std::mem::take(&mut self.core.overdue);
        let ended = found.iter().any(|request| request.ended);
        let left_out = match self.core.slow_reports.admit(self.core.now) {
            Some(left_out) => left_out,
            None if ended => 0,
            None => {
                // Counted as one by the throttle.
                self.core.slow_reports.leave_out(found.len() as u64 - 1);
                return None;
            }
        };
        Some(Report { found, left_out })
    }

    /// `--graceful-timeout` is over: what the application still holds is named, since its process is about to be killed.
    pub(super) fn name_stuck(&self) {
        for connection in self.connections.values() {
            for flight in connection.flights.iter().filter(|flight| flight.running_since.is_some()) {
                log::error!(
                    request:% = flight.id_text();
                    "{}: still in the application after {:.1} s, and --graceful-timeout is over: its worker is killed",
                    flight.description(),
                    flight.ran_for(self.core.now).as_secs_f64()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_tells_what_it_leaves_out_and_ends_with_the_stacks() {
        let request = |ended| Overdue {
            id: "1".into(),
            what: "GET /x".into(),
            elapsed: Duration::from_millis(1250),
            ended,
        };
        assert_eq!(request(true).text(None), "GET /x: over --timeout after 1.2 s");
        assert_eq!(
            request(false).text(Some((0, "stacks"))),
            "GET /x: over --slow-request, still running after 1.2 s\nstacks"
        );
        assert_eq!(
            request(true).text(Some((3, "stacks"))),
            "GET /x: over --timeout after 1.2 s; 3 more slow requests were not named\nstacks"
        );
    }
}
