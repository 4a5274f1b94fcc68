//! `/metrics`, read by the parser of prometheus_client.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use super::pages::status_address;
use crate::support::fastcgi;
use crate::support::http::get;
use crate::support::process::send_signal;
use crate::support::python::venv;
use crate::support::{Address, Forkhorn, wait_until};

/// Prints each sample as `type name{labels} value`, or fails.
const PARSER: &str = r#"
import json, sys
from prometheus_client.parser import text_string_to_metric_families
out = []
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation and family.type != "unknown", family
    for sample in family.samples:
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        out.append([family.type, f"{sample.name}{{{labels}}}" if labels else sample.name, sample.value])
json.dump(out, sys.stdout)
"#;

/// Value by name and labels, and the type of its metric.
type Samples = BTreeMap<String, (String, f64)>;

#[track_caller]
fn scrape(status: &Address) -> Samples {
    let response = get(status, "/metrics");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let mut parser = Command::new(venv().join("bin/python"))
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let text = response.body.clone();
    let mut stdin = parser.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, &text).expect("taken");
    drop(stdin);
    let output = parser.wait_with_output().expect("it ends");
    assert!(output.status.success(), "not the format of Prometheus:\n{}", String::from_utf8_lossy(&text));
    let samples: Vec<(String, String, f64)> = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut found = Samples::new();
    for (kind, name, value) in samples {
        assert!(found.insert(name.clone(), (kind, value)).is_none(), "{name} stands there twice");
    }
    found
}

#[track_caller]
fn value(samples: &Samples, name: &str) -> f64 {
    samples.get(name).unwrap_or_else(|| panic!("there is no {name}")).1
}

#[test]
fn a_real_parser_reads_the_metrics_and_they_count_what_was_asked() {
    let forkhorn =
        Forkhorn::new().wsgi("probe.py").workers(2).both().args(["--status", "127.0.0.1:0"]).start();
    let status = status_address(&forkhorn);
    let before = scrape(&status);
    for _ in 0..5 {
        assert_eq!(forkhorn.get("/pid").status, 200);
    }
    assert_eq!(forkhorn.fcgi(&fastcgi::Request::new("GET", "/pid")).response().status, 200);
    wait_until("all is counted", || {
        value(&scrape(&status), "forkhorn_requests_total{handler=wsgi,protocol=fastcgi}") == 1.0
    });
    let samples = scrape(&status);
    for (name, expected) in [
        ("forkhorn_requests_total{handler=wsgi,protocol=http}", 5.0),
        ("forkhorn_responses_total{class=2xx}", 6.0),
        ("forkhorn_queue_seconds_count", 6.0),
        ("forkhorn_queue_seconds_bucket{le=+Inf}", 6.0),
        ("forkhorn_application_seconds_count", 6.0),
        ("forkhorn_connections_total{protocol=fastcgi}", 1.0),
        ("forkhorn_workers{state=idle}", 2.0),
        ("forkhorn_worker_starts_total", 2.0),
        ("forkhorn_workers_wanted", 2.0),
        ("forkhorn_busy_threads", 0.0),
        ("forkhorn_generation", 0.0),
    ] {
        assert_eq!(value(&samples, name), expected, "{name}");
    }
    assert!(value(&samples, "forkhorn_bytes_total{direction=out}") > 500.0);
    assert!(value(&samples, "forkhorn_application_seconds_sum") > 0.0);
    let version = format!("forkhorn_build_info{{version={}}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&samples, &version), 1.0);
    assert!(samples.keys().any(|name| name.starts_with("forkhorn_worker_resident_bytes{pid=")));
    assert_eq!(
        before.keys().filter(|name| !name.contains("pid=")).collect::<Vec<_>>(),
        samples.keys().filter(|name| !name.contains("pid=")).collect::<Vec<_>>(),
        "every series is there from the first scrape on"
    );
}

#[test]
fn counters_do_not_go_back_when_workers_are_killed_or_replaced() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--status", "127.0.0.1:0"]).start();
    let status = status_address(&forkhorn);
    let mut last = scrape(&status);
    for round in 1..=3 {
        let pid = forkhorn.get("/pid").json()["pid"].as_i64().expect("a pid") as i32;
        wait_until("it is counted", || {
            let count = value(&scrape(&status), "forkhorn_requests_total{handler=wsgi,protocol=http}");
            count == f64::from(round)
        });
        if round == 2 {
            forkhorn.signal(Signal::SIGHUP);
        } else {
            send_signal(pid, Signal::SIGKILL);
        }
        wait_until("it has been replaced", || {
            let report = get(&status, "/status").json();
            let all = report["processes"].as_array().expect("processes").clone();
            let workers: Vec<_> = all.iter().filter(|process| !process["slot"].is_null()).collect();
            workers.len() == 1 && workers[0]["pid"] != pid && workers[0]["state"] == "idle"
        });
        let now = scrape(&status);
        for (name, (kind, value)) in
            last.iter().filter(|(_, (kind, _))| kind == "counter" || kind == "histogram")
        {
            let later = now.get(name).unwrap_or_else(|| panic!("{name} is gone")).1;
            assert!(later >= *value, "{kind} {name} was {value} and is {later}");
        }
        assert_eq!(value(&now, "forkhorn_requests_total{handler=wsgi,protocol=http}"), f64::from(round));
        last = now;
    }
    assert_eq!(value(&last, "forkhorn_worker_ends_total{how=killed}"), 2.0);
    assert_eq!(value(&last, "forkhorn_worker_ends_total{how=left}"), 1.0);
    assert_eq!(value(&last, "forkhorn_reloads_total{result=ok}"), 1.0);
    assert_eq!(value(&last, "forkhorn_generation"), 1.0);
}

#[test]
fn what_is_refused_is_counted_by_its_reason() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--max-body", "10", "--timeout", "0.3"]);
    let forkhorn = forkhorn.args(["--status", "127.0.0.1:0", "--max-uri", "1000"]).start();
    let status = status_address(&forkhorn);
    assert_eq!(forkhorn.request("POST", "/echo", &[], &[b'x'; 11]).status, 413);
    assert_eq!(forkhorn.get(&format!("/{}", "x".repeat(2000))).status, 414);
    let path = |name: &str| forkhorn.folder.join(name).display().to_string();
    assert_eq!(forkhorn.get(&format!("/wait?at={}&until={}", path("at"), path("never"))).status, 504);
    forkhorn.folder.write("never", "");
    wait_until("all is counted", || {
        let samples = scrape(&status);
        let reasons = ["body_too_large", "target_too_long", "timeout"];
        reasons
            .iter()
            .all(|reason| value(&samples, &format!("forkhorn_rejected_total{{reason={reason}}}")) >= 1.0)
            && value(&samples, "forkhorn_responses_total{class=4xx}") == 2.0
            && value(&samples, "forkhorn_responses_total{class=5xx}") == 1.0
    });
}
