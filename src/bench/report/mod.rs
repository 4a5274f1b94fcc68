//! What was measured, as a table, as JSON, and as a page with charts.

mod chart;
mod html;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Outcome;
use super::breakdown::Breakdown;
use super::load::Measured;
use super::machine::Machine;
use crate::cli::{Bench, BenchStep};
use crate::config::Config;

/// Quantiles of the table and of the charts.
const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// If the clients had more than this part of all processor time, they may have been the limit.
const CLIENT_SHARE: f64 = 0.4;

/// A fixed rate counts as kept if so much of it was answered.
const KEPT: f64 = 0.95;

const COLUMNS: [&str; 11] = [
    "",
    "requests/s",
    "p50",
    "p90",
    "p99",
    "max",
    "first answer",
    "CPU/request",
    "memory",
    "errors",
    "ratio",
];

pub(super) struct Report {
    machine: Machine,
    outcomes: Vec<Outcome>,
    breakdowns: Vec<Breakdown>,
    /// What was left out, and what the reader should know before believing a figure.
    notes: Vec<String>,
    command: String,
    duration: f64,
    concurrency: u16,
}

impl Report {
    pub(super) fn new(
        mut notes: Vec<String>,
        outcomes: Vec<Outcome>,
        breakdowns: Vec<Breakdown>,
        options: &Bench,
    ) -> Self {
        let interpreter = Config::interpreter(&options.interpreter).unwrap_or_else(|_| "python3".into());
        let machine = Machine::of(&interpreter);
        notes.extend(outcomes.iter().flat_map(|outcome| warnings(outcome, machine.cores)));
        notes.extend(breakdowns.iter().filter(|breakdown| breakdown.is_doubtful()).map(|breakdown| {
            format!(
                "{}: its parts took longer one by one than together, so something else ran meanwhile: measure again on \
                 a machine that is idle",
                breakdown.name
            )
        }));
        let command: Vec<String> = std::env::args().collect();
        Report {
            machine,
            outcomes,
            breakdowns,
            notes,
            command: command.join(" "),
            duration: options.duration,
            concurrency: options.concurrency.get(),
        }
    }

    /// For a terminal.
    pub(super) fn table(&self) -> String {
        let mut out = format!("{}\n\n", self.machine.describe());
        let rows: Vec<Vec<String>> = self.outcomes.iter().map(|outcome| self.row(outcome)).collect();
        out.push_str(&aligned(&COLUMNS, &rows));
        let fixed: Vec<Vec<String>> = self.outcomes.iter().filter_map(fixed_row).collect();
        if !fixed.is_empty() {
            out.push_str("\nAt a fixed rate, counted from when each request was due:\n\n");
            out.push_str(&aligned(&["", "requests/s", "p50", "p90", "p99", "max", "errors"], &fixed));
        }
        for breakdown in &self.breakdowns {
            let _ = write!(out, "\nOne CGI request of {}, {}:", breakdown.name, time(breakdown.total()));
            for (part, duration) in &breakdown.parts {
                let _ = write!(out, " {part} {},", time(*duration));
            }
            out.pop();
            out.push('\n');
        }
        for note in &self.notes {
            let _ = write!(out, "\nnote: {note}\n");
        }
        out
    }

    fn row(&self, outcome: &Outcome) -> Vec<String> {
        let closed = &outcome.closed;
        let mut row = vec![outcome.case.name(), rate(closed.per_second())];
        row.extend([0.5, 0.9, 0.99, 1.0].map(|quantile| time(closed.quantile(quantile))));
        row.push(outcome.first_answer.map(time).unwrap_or_default());
        row.push(cpu_per_request(outcome).map(time).unwrap_or_default());
        row.push(outcome.usage.map(|usage| mebibytes(usage.memory_bytes)).unwrap_or_default());
        row.push(closed.errors.to_string());
        row.push(self.ratio(outcome).map(|ratio| format!("{} x", rate(ratio))).unwrap_or_default());
        row
    }

    /// How many times as fast as classic CGI of the same script or application.
    fn ratio(&self, outcome: &Outcome) -> Option<f64> {
        let base = self.outcomes.iter().find(|other| other.case.is_cgi_of(&outcome.case.what))?;
        let (rate, base) = (outcome.closed.per_second(), base.closed.per_second());
        (base > 0.0).then_some(rate / base)
    }

    /// For programs: times in microseconds, memory in bytes.
    pub(super) fn json(&self) -> String {
        let value = json!({
            "command": self.command,
            "machine": self.machine,
            "duration_seconds": self.duration,
            "concurrency": self.concurrency,
            "steps": self.outcomes.iter().map(|outcome| self.outcome_json(outcome)).collect::<Vec<_>>(),
            "breakdowns": self.breakdowns.iter().map(breakdown_json).collect::<Vec<_>>(),
            "notes": self.notes,
        });
        let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
        text.push('\n');
        text
    }

    fn outcome_json(&self, outcome: &Outcome) -> Value {
        json!({
            "step": outcome.case.step.map(BenchStep::title),
            "what": outcome.case.what,
            "closed_loop": measured_json(&outcome.closed),
            "fixed_rate": outcome.fixed.as_ref().map(|(rate, measured)| {
                let mut value = measured_json(measured);
                value["rate"] = json!(rate);
                value
            }),
            "alone_us": micros(outcome.closed.alone()),
            "first_answer_us": outcome.first_answer.map(micros),
            "cpu_us_per_request": cpu_per_request(outcome).map(micros),
            "memory_bytes": outcome.usage.map(|usage| usage.memory_bytes),
            "times_as_fast_as_cgi": self.ratio(outcome),
        })
    }
}

/// What makes a figure doubtful.
fn warnings(outcome: &Outcome, cores: usize) -> Vec<String> {
    let (name, mut all) = (outcome.case.name(), Vec::new());
    if let Some(usage) = outcome.usage {
        let (own, server) = (outcome.own_cpu.as_secs_f64(), usage.cpu.as_secs_f64());
        let busy = (own + server) / (outcome.closed.elapsed.as_secs_f64() * cores as f64).max(f64::EPSILON);
        if own > CLIENT_SHARE * (own + server) && busy > 0.5 {
            all.push(format!(
                "{name}: the clients had {:.0} % of the processor time and were the limit: the server can do more",
                100.0 * own / (own + server)
            ));
        }
    }
    if outcome.closed.errors > 0 {
        all.push(format!("{name}: {} requests failed", outcome.closed.errors));
    }
    if let Some((wanted, measured)) = &outcome.fixed
        && measured.per_second() < KEPT * wanted
    {
        all.push(format!(
            "{name}: {} requests a second were wanted, {} were answered: its latencies at the fixed rate are those of a \
             queue that grows",
            rate(*wanted),
            rate(measured.per_second())
        ));
    }
    all
}

fn fixed_row(outcome: &Outcome) -> Option<Vec<String>> {
    let (wanted, measured) = outcome.fixed.as_ref()?;
    let mut row = vec![outcome.case.name(), rate(*wanted)];
    row.extend([0.5, 0.9, 0.99, 1.0].map(|quantile| time(measured.quantile(quantile))));
    row.push(measured.errors.to_string());
    Some(row)
}

fn measured_json(measured: &Measured) -> Value {
    let quantiles: serde_json::Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), json!(micros(measured.quantile(*quantile)))))
        .collect();
    json!({
        "requests": measured.latencies.len(),
        "requests_per_second": measured.per_second(),
        "errors": measured.errors,
        "latency_us": quantiles,
    })
}

fn breakdown_json(breakdown: &Breakdown) -> Value {
    let parts: Vec<Value> =
        breakdown.parts.iter().map(|(part, time)| json!({ "part": part, "us": micros(*time) })).collect();
    json!({ "script": breakdown.name, "total_us": micros(breakdown.total()), "parts": parts })
}

fn cpu_per_request(outcome: &Outcome) -> Option<Duration> {
    let requests = outcome.closed.latencies.len() + outcome.closed.errors;
    outcome.usage.filter(|_| requests > 0).map(|usage| usage.cpu.div_f64(requests as f64))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// `870 µs`, `12.3 ms`, `1.20 s`
fn time(time: Duration) -> String {
    match time.as_secs_f64() * 1e6 {
        micros if micros < 999.5 => format!("{micros:.0} µs"),
        micros if micros < 99_950.0 => format!("{:.1} ms", micros / 1e3),
        micros if micros < 999_500.0 => format!("{:.0} ms", micros / 1e3),
        micros => format!("{:.2} s", micros / 1e6),
    }
}

/// `86.1`, `12,300`
fn rate(rate: f64) -> String {
    if rate < 99.95 {
        return format!("{rate:.1}");
    }
    let digits = format!("{rate:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))
}

/// Columns of equal width: the first to the left, figures to the right.
fn aligned(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([titles.get(column).map_or(0, |title| title.chars().count())]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let mut out = String::new();
    let titles: Vec<String> = titles.iter().map(|&title| title.to_owned()).collect();
    for row in [&titles].into_iter().chain(rows) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.chars().count());
            let _ = if column == 0 { write!(line, "{cell}{gap}") } else { write!(line, "  {gap}{cell}") };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_for_readers() {
        for (micros, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_234, "1.2 ms"),
            (99_949, "99.9 ms"),
            (100_400, "100 ms"),
            (1_204_000, "1.20 s"),
        ] {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
        for (value, text) in
            [(0.0, "0.0"), (86.14, "86.1"), (100.0, "100"), (12_345.6, "12,346"), (1e6, "1,000,000")]
        {
            assert_eq!(rate(value), text);
        }
    }

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let rows =
            vec![vec!["a".to_owned(), "5 µs".to_owned()], vec!["longer".to_owned(), "12.3 ms".to_owned()]];
        assert_eq!(aligned(&["", "p50"], &rows), "            p50\na          5 µs\nlonger  12.3 ms\n");
    }
}
