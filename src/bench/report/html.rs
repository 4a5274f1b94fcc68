//! The page: one file, without scripts, for light and dark screens. The same charts alone make the SVG file.

use std::fmt::Write as _;

use super::chart::{self, Bar, Line, Stack};
use super::{COLUMNS, QUANTILES, Report, fixed_row, rate};
use crate::bench::Outcome;
use crate::cli::BenchStep;

/// Colours that keep apart for readers who see few of them, on both backgrounds; text is never in one of them.
const STYLE: &str = include_str!("chart.css");

const PAGE_STYLE: &str = include_str!("page.css");

/// For text and attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

impl Report {
    pub(in crate::bench) fn html(&self) -> String {
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>From CGI to prefork, measured</title>\n\
             <style>{STYLE}{PAGE_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>From CGI to prefork, measured</h1>\n\
             <p class=\"soft\">{}</p>\n",
            escape(&self.machine.describe())
        );
        self.push_summary(&mut out);
        out.push_str("<h2>Requests a second</h2>\n");
        let caption = format!(
            "{} clients, each of which asks as soon as it has its answer, for {} s. Each line of the grid is ten times the \
             one before.",
            self.concurrency, self.duration
        );
        figure(&mut out, &self.rates(), &caption);
        out.push_str("<h2>How long a request takes</h2>\n");
        figure(
            &mut out,
            &self.latencies(),
            "At a fixed rate, half of what each way can do unless a rate was given; counted from when a request was due, \
             so that waiting counts too.",
        );
        if !self.breakdowns.is_empty() {
            out.push_str("<h2>Where the time of one CGI request goes</h2>\n");
            figure(
                &mut out,
                &self.parts(),
                "Process: an empty program is started and waited for. Interpreter: its start, with an empty script. \
                 Modules: what the script imports. Script: its own work. Transfer: from the web server's side and back.",
            );
        }
        out.push_str("<h2>All figures</h2>\n");
        let rows: Vec<Vec<String>> = self.outcomes.iter().map(|outcome| self.row(outcome)).collect();
        table(&mut out, &COLUMNS, &rows);
        out.push_str(
            "<p class=\"soft\">First answer: from the start of the server to its first answer. CPU/request: of the server \
             and everything that it started. Memory: the most that all its processes had at one time, pages that they \
             share counted once. Ratio: beside classic CGI of the same script or application.</p>\n\
             <h2>At a fixed rate</h2>\n",
        );
        let rows: Vec<Vec<String>> = self.outcomes.iter().filter_map(fixed_row).collect();
        table(&mut out, &["", "requests/s", "p50", "p90", "p99", "max", "errors"], &rows);
        if !self.notes.is_empty() {
            out.push_str("<h2>Notes</h2>\n<ul>\n");
            for note in &self.notes {
                let _ = writeln!(out, "<li>{}</li>", escape(note));
            }
            out.push_str("</ul>\n");
        }
        let _ = write!(
            out,
            "<h2>Measured with</h2>\n<p><code>{}</code></p>\n</main>\n</body>\n</html>\n",
            escape(&self.command)
        );
        out
    }

    /// The charts alone, one below the other.
    pub(in crate::bench) fn svg(&self) -> String {
        let mut charts = vec![self.rates(), self.latencies()];
        if !self.breakdowns.is_empty() {
            charts.push(self.parts());
        }
        let (mut inner, mut height) = (String::new(), 16.0);
        for chart in charts {
            let own = attribute(&chart, "height").and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
            let _ = write!(inner, r#"<g transform="translate(20 {height})">{chart}</g>"#);
            height += own + 24.0;
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {height:.0}\" width=\"800\" \
             height=\"{height:.0}\">\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" \
             class=\"back\"/>\n{inner}\n</svg>\n"
        )
    }

    /// What each way gains, in a sentence.
    fn push_summary(&self, out: &mut String) {
        let ratios = self.outcomes.iter().filter_map(|outcome| Some((outcome, self.ratio(outcome)?)));
        let best = ratios.filter(|(outcome, _)| outcome.case.step != Some(BenchStep::Cgi));
        let mut sentences = Vec::new();
        for (outcome, ratio) in best {
            sentences.push(format!(
                "{} times as many by {}",
                rate(ratio),
                outcome.case.name().replacen(": ", " of ", 1)
            ));
        }
        if !sentences.is_empty() {
            let _ = writeln!(
                out,
                "<p>Requests a second, beside classic CGI of the same: {}.</p>",
                escape(&sentences.join(", "))
            );
        }
    }

    fn rates(&self) -> String {
        let bars: Vec<Bar> = self
            .outcomes
            .iter()
            .map(|outcome| Bar {
                label: outcome.case.name(),
                value: outcome.closed.per_second(),
                series: step_colour(outcome),
            })
            .collect();
        chart::bars("Requests a second", &bars)
    }

    fn latencies(&self) -> String {
        // The colour is that of the way, as in the bars above; the dashes tell what is answered.
        let mut answered: Vec<&str> = Vec::new();
        let lines: Vec<Line> = self
            .outcomes
            .iter()
            .map(|outcome| {
                let what = outcome.case.what.as_str();
                let dash = answered.iter().position(|other| *other == what).unwrap_or_else(|| {
                    answered.push(what);
                    answered.len() - 1
                });
                let measured = outcome.fixed.as_ref().map_or(&outcome.closed, |(_, measured)| measured);
                Line {
                    label: outcome.case.name(),
                    series: step_colour(outcome),
                    dash,
                    points: QUANTILES.map(|(name, quantile)| (name, measured.quantile(quantile))).to_vec(),
                }
            })
            .collect();
        chart::lines("Latency over percentiles", &lines)
    }

    fn parts(&self) -> String {
        let stacks: Vec<Stack> = self
            .breakdowns
            .iter()
            .map(|breakdown| Stack { label: breakdown.name.clone(), parts: breakdown.parts.clone() })
            .collect();
        chart::stacks("The parts of one CGI request", &stacks)
    }
}

fn step_colour(outcome: &Outcome) -> usize {
    match outcome.case.step {
        Some(BenchStep::Cgi) => 1,
        Some(BenchStep::Warm) => 4,
        Some(BenchStep::Prefork) => 2,
        None => 0,
    }
}

fn figure(out: &mut String, chart: &str, caption: &str) {
    let _ = writeln!(out, "<figure>{chart}<figcaption>{}</figcaption></figure>", escape(caption));
}

fn table(out: &mut String, titles: &[&str], rows: &[Vec<String>]) {
    out.push_str("<div class=\"table\"><table>\n<thead><tr>");
    for title in titles {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(title));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
}

/// The value of the first attribute of this name.
fn attribute<'a>(svg: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = svg.split_once(&format!(" {name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}
