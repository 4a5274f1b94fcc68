//! `forkhorn bench`: the same work by CGI, warm CGI and prefork, measured side by side on the user's own machine.
//!
//! | step | module | job |
//! | --- | --- | --- |
//! | 1 | `plan` | options to cases: what is measured, by which way, and what has to be written down for it |
//! | 2 | `server` | a forkhorn of its own for each case, on a private socket: its first answer, processor time, memory |
//! | 3 | `client`, `http` | one connection that asks: FastCGI by this crate's own client side, HTTP for `--url` |
//! | 4 | `load` | many of them, as fast as they can and at a fixed rate |
//! | 5 | `breakdown` | where the time of one CGI request goes |
//! | 6 | `report` | a table, JSON, a page with charts |
//!
//! Nothing here runs in a daemon.

mod breakdown;
mod client;
mod http;
mod load;
mod machine;
mod plan;
mod report;
mod server;

use std::fs;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Bench, BenchStep};
use crate::config::StartupError;
use load::{Load, Measured};
use plan::{Case, Plan};
use report::Report;
use server::{Server, Usage};

/// How long a server may take to its first answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was measured of one case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) case: Case,
    /// As fast as the clients can.
    pub(crate) closed: Measured,
    /// At a fixed rate of requests a second.
    pub(crate) fixed: Option<(f64, Measured)>,
    /// From the start of the server to its first answer.
    pub(crate) first_answer: Option<Duration>,
    /// Of the server and everything that it started, while `closed` was measured; `None` for a URL.
    pub(crate) usage: Option<Usage>,
    /// Processor time of this process meanwhile.
    pub(crate) own_cpu: Duration,
}

/// Measures, prints the table, writes the reports.
///
/// # Errors
/// What is wrong with the options, or what kept a server from answering.
pub fn run(options: Bench) -> Result<(), StartupError> {
    let plan = Plan::new(&options)?;
    let progress = Progress::new(&plan);
    let mut outcomes = Vec::new();
    for case in &plan.cases {
        outcomes.push(measure(case, &plan, &progress)?);
    }
    let mut breakdowns = Vec::new();
    for script in &plan.breakdowns {
        progress.say(&format!("where the time of {} goes", script.name));
        let served = outcomes.iter().find(|outcome| outcome.case.is_cgi_of(&script.name));
        breakdowns.push(breakdown::measure(script, served.map(|outcome| outcome.closed.alone()))?);
        progress.step();
    }
    progress.end();
    let report = Report::new(plan.notes.clone(), outcomes, breakdowns, &options);
    print!("{}", report.table());
    if let Some(path) = &options.report {
        write(path, &report.html())?;
        write(&path.with_extension("svg"), &report.svg())?;
        write(&path.with_extension("json"), &report.json())?;
    }
    if let Some(path) = &options.json {
        write(path, &report.json())?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), StartupError> {
    fs::write(path, text)
        .map_err(|error| StartupError::other(format!("cannot write {}: {error}", path.display())))?;
    println!("wrote {}", path.display());
    Ok(())
}

fn measure(case: &Case, plan: &Plan, progress: &Progress) -> Result<Outcome, StartupError> {
    let name = case.name();
    progress.say(&format!("{name}: start"));
    let mut server = case.server.as_ref().map(|server| Server::start(server, plan)).transpose()?;
    let target = case.target(server.as_ref().map(Server::socket));
    let mut is_hopeless = || server.as_mut().is_none_or(Server::has_ended);
    let answer = target.first_answer(PATIENCE, &mut is_hopeless);
    let first_answer = server.as_ref().map(|server| server.started().elapsed());
    let wrong = match answer {
        Ok(200..400) => None,
        Ok(status) => Some(format!("{name} answers {status}")),
        Err(error) => Some(format!("{name} does not answer: {error}")),
    };
    if let Some(wrong) = wrong {
        let log = server.as_mut().map(Server::end).unwrap_or_default();
        return Err(StartupError::other(format!("{wrong}\n{log}").trim_end()));
    }
    let load = Load { target: &target, connections: plan.concurrency };
    progress.say(&format!("{name}: warm-up"));
    if case.step == Some(BenchStep::Warm) {
        load.closed(plan.learning());
    }
    // Also one client alone: what a request costs when nobody else asks.
    let alone = load.alone(plan.warm_up());
    load.closed(plan.warm_up());
    progress.say(&format!("{name}: as fast as it can"));
    let watch = server.as_ref().map(|server| server.watch());
    let own = machine::own_cpu();
    let closed = load.closed(plan.duration).with_alone(alone);
    let own_cpu = machine::own_cpu().saturating_sub(own);
    let usage = watch.map(server::Watch::end);
    progress.step();
    let rate = plan.rate.unwrap_or(closed.per_second() / 2.0);
    progress.say(&format!("{name}: {rate:.0} requests a second"));
    let fixed = (rate > 0.0).then(|| (rate, load.fixed(rate, plan.duration)));
    progress.step();
    Ok(Outcome { case: case.clone(), closed, fixed, first_answer, usage, own_cpu })
}

/// A bar on a terminal, nothing elsewhere.
struct Progress(ProgressBar);

impl Progress {
    fn new(plan: &Plan) -> Self {
        let bar = ProgressBar::new((plan.cases.len() * 2 + plan.breakdowns.len()) as u64);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed_precise} {msg}");
        Progress(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.tick();
    }

    fn step(&self) {
        self.0.inc(1);
    }

    fn end(&self) {
        self.0.finish_and_clear();
    }
}
