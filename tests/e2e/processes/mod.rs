//! Master, template and workers: who is started when, who is told what, who may run as whom.

mod check;
mod configuration;
mod containers;
mod deaths;
mod faults;
mod identity;
mod listeners;
mod load;
mod pool;
mod recycle;
mod reload;
mod startup;
mod stop;
mod systemd;
mod upgrade;
mod workers;

use crate::support::{Response, Running};

/// The process id in an answer of `probe.py`'s `/pid`.
#[track_caller]
fn pid_of(response: &Response) -> i32 {
    response.json()["pid"].as_i64().expect("a pid") as i32
}

/// Which worker answers.
#[track_caller]
fn worker_pid(forkhorn: &Running) -> i32 {
    pid_of(&forkhorn.get("/pid"))
}

/// A target of `probe.py` that answers when the file `go` is there, and tells by the file `at` that it runs.
fn wait_target(forkhorn: &Running) -> String {
    format!(
        "/wait?at={}&until={}",
        forkhorn.folder.join("at").display(),
        forkhorn.folder.join("go").display()
    )
}
