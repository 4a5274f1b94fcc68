//! The Prometheus text format, version 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! Counters are sums over all workers since the master's start, those that have gone included, so that they never go
//! back. What is a matter of the present moment is a sum over the workers that there are.

use std::fmt::{Display, Write as _};

use super::report::{Gathered, seconds};
use crate::scoreboard::{Counter, Family, Gauge, Type};

const STATES: [&str; 4] = ["starting", "idle", "busy", "draining"];

/// Writing to a String does not fail.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP forkhorn_{name} {help}\n# TYPE forkhorn_{name} {kind}");
    }

    /// Labels are our own words, which need no escaping.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "forkhorn_{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counts(&mut self, name: &str, help: &str, label: &str, counts: &[(&str, u64)]) {
        self.family(name, "counter", help);
        for (value, count) in counts {
            self.sample(name, &[(label, value)], count);
        }
    }
}

impl Gathered {
    pub(crate) fn metrics(&self) -> String {
        let mut text = Text(String::with_capacity(16 * 1024));
        self.master(&mut text);
        self.processes(&mut text);
        self.gauges(&mut text);
        self.counters(&mut text);
        text.0
    }

    fn master(&self, text: &mut Text) {
        text.family("build_info", "gauge", "Which forkhorn this is");
        text.sample("build_info", &[("version", self.version)], 1);
        text.gauge(
            "start_time_seconds",
            "When the master was started, in Unix time",
            self.start_time_seconds,
        );
        text.gauge(
            "generation",
            "The generation that serves: one more with each reload",
            self.pool.generation,
        );
        text.gauge("workers_wanted", "Workers that there should be", self.pool.wanted);
        text.gauge("threads_each", "Application threads of each worker", self.threads);
        text.family("worker_starts_total", "counter", "Workers that were started");
        text.sample("worker_starts_total", &[], self.tally.worker_starts);
        let tally = &self.tally;
        text.counts(
            "worker_ends_total",
            "Workers that have ended: left as they were told to, exited by themselves, killed by a signal, or never begun",
            "how",
            &[
                ("left", tally.left),
                ("exited", tally.exited),
                ("killed", tally.killed),
                ("not_started", tally.not_started),
            ],
        );
        let recycled = self.pool.recycled;
        text.counts(
            "workers_recycled_total",
            "Workers that were replaced because they had served enough",
            "reason",
            &[
                ("requests", recycled.for_requests),
                ("memory", recycled.for_memory),
                ("lifetime", recycled.for_lifetime),
            ],
        );
        let reloads = [("ok", tally.reloads), ("failed", tally.failed_reloads)];
        text.counts("reloads_total", "Reloads that have ended", "result", &reloads);
    }

    fn processes(&self, text: &mut Text) {
        let workers = || self.processes.iter().filter(|process| process.slot.is_some());
        text.family("workers", "gauge", "Workers by state");
        for state in STATES {
            let count = workers().filter(|worker| worker.state == state).count();
            text.sample("workers", &[("state", state)], count);
        }
        text.family("worker_resident_bytes", "gauge", "Memory of each worker, shared pages included");
        for worker in workers() {
            let (Some(slot), Some(pid), Some(bytes)) = (worker.slot, worker.pid, worker.resident_bytes)
            else {
                continue;
            };
            // Two workers may have a slot for a while, one of which leaves.
            let labels = [("slot", slot.to_string()), ("pid", pid.to_string())];
            let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
            text.sample("worker_resident_bytes", &labels, bytes);
        }
    }

    fn gauges(&self, text: &mut Text) {
        for (index, gauge) in Gauge::ALL.iter().enumerate() {
            let values =
                || self.processes.iter().filter_map(|process| process.gauges.as_ref()?.get(index).copied());
            match gauge {
                Gauge::LongestQueue => {
                    let longest = values().max().unwrap_or_default();
                    text.gauge(gauge.name(), gauge.help(), seconds(longest));
                }
                _ => text.gauge(gauge.name(), gauge.help(), values().fold(0, u64::saturating_add)),
            }
        }
    }

    fn counters(&self, text: &mut Text) {
        for family in Counter::ALL.chunk_by(|one, other| one.family() == other.family()) {
            let Some(first) = family.first() else { continue };
            match first.family().kind {
                Type::Counter => self.counter(first.family(), family, text),
                Type::Histogram => self.histogram(first.family(), family, text),
            }
        }
    }

    fn counter(&self, family: Family, members: &[Counter], text: &mut Text) {
        let name = format!("{}_total", family.name);
        text.family(&name, "counter", family.help);
        for member in members {
            text.sample(&name, member.labels(), self.totals.of(*member));
        }
    }

    /// Buckets are cumulative outside, each on its own on the page.
    fn histogram(&self, family: Family, members: &[Counter], text: &mut Text) {
        text.family(family.name, "histogram", family.help);
        let mut count = 0u64;
        for member in members {
            let value = self.totals.of(*member);
            if member.labels().is_empty() {
                text.sample(&format!("{}_sum", family.name), &[], seconds(value));
            } else {
                count = count.saturating_add(value);
                text.sample(&format!("{}_bucket", family.name), member.labels(), count);
            }
        }
        text.sample(&format!("{}_count", family.name), &[], count);
    }
}
