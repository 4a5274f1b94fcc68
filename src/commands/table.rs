//! What `forkhorn status` prints for people.

use std::fmt::Write as _;

use serde_json::Value;

/// A request's text in the table; `--json` has all of it.
const REQUEST_WIDTH: usize = 60;

/// The answer to `/status`, as text. What is missing in it is left out.
pub(super) fn of(status: &Value) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "forkhorn {}, pid {}: {}, generation {}, up {}",
        text(&status["version"]),
        text(&status["pid"]),
        text(&status["state"]),
        text(&status["generation"]),
        duration(&status["uptime_seconds"])
    );
    totals(&mut out, status);
    if let Some(error) = status["last_reload"]["error"].as_str() {
        let age = duration(&status["last_reload"]["age_seconds"]);
        let _ = writeln!(out, "the last reload has failed, {age} ago: {error}");
    }
    out.push('\n');
    let rows = status["processes"].as_array().into_iter().flatten().map(row);
    let header = ["", "gen", "pid", "state", "age", "memory", "conns", "requests", "now"].map(str::to_owned);
    columns(&mut out, std::iter::once(header).chain(rows).collect());
    out
}

fn totals(out: &mut String, status: &Value) {
    let totals = &status["totals"];
    let sum = |family: &str| -> u64 {
        let members = totals[family].as_object().into_iter().flatten();
        members.map(|(_, value)| sum_of(value)).fold(0, u64::saturating_add)
    };
    let (requests, rejected) = (sum("requests"), sum("rejected"));
    let errors = totals["responses"]["5xx"].as_u64().unwrap_or_default();
    let waited = totals["queue_seconds"]["sum_seconds"].as_f64().unwrap_or_default();
    let calls: u64 =
        totals["queue_seconds"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
    let mean = if calls > 0 { waited / calls as f64 * 1e3 } else { 0.0 };
    let _ = writeln!(
        out,
        "{requests} requests, {errors} answered 5xx, {rejected} refused, {mean:.1} ms in the queue on average"
    );
}

fn sum_of(value: &Value) -> u64 {
    match value {
        Value::Object(inner) => inner.values().map(sum_of).fold(0, u64::saturating_add),
        value => value.as_u64().unwrap_or_default(),
    }
}

fn row(process: &Value) -> [String; 9] {
    let name = match process["slot"].as_u64() {
        Some(slot) => format!("worker {slot}"),
        None => "template".to_owned(),
    };
    let counted = process.get("counters").map(|counters| sum_of(&counters["requests"]));
    let running = process["requests"].as_array().cloned().unwrap_or_default();
    let mut now = running.first().map(request).unwrap_or_default();
    if running.len() > 1 {
        let _ = write!(now, " and {} more", running.len() - 1);
    }
    [
        name,
        text(&process["generation"]),
        text(&process["pid"]),
        text(&process["state"]),
        duration(&process["age_seconds"]),
        process["resident_bytes"].as_u64().map_or_else(String::new, mebibytes),
        process.get("now").map_or_else(String::new, |now| text(&now["open_connections"])),
        counted.map_or_else(String::new, |count| count.to_string()),
        now,
    ]
}

fn request(request: &Value) -> String {
    let what = text(&request["request"]);
    let short: String = what.chars().take(REQUEST_WIDTH).collect();
    let mark = if short.len() < what.len() { "…" } else { "" };
    format!("{short}{mark} ({:.1} s)", request["age_seconds"].as_f64().unwrap_or_default())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

/// The two largest units.
fn duration(value: &Value) -> String {
    let seconds = value.as_f64().unwrap_or_default().max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
    }
}

fn columns(out: &mut String, rows: Vec<[String; 9]>) {
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_table_that_people_can_read() {
        let status = serde_json::json!({
            "version": "1.2", "pid": 7, "state": "serving", "generation": 3, "uptime_seconds": 90061.5,
            "last_reload": {"age_seconds": 65.0, "generation": null, "error": "no such module"},
            "totals": {
                "requests": {"http": {"wsgi": 3, "none": 1}}, "rejected": {"queue_full": 2},
                "responses": {"5xx": 1}, "queue_seconds": {"0.001": 2, "+Inf": 2, "sum_seconds": 0.5},
            },
            "processes": [
                {"slot": null, "generation": 3, "pid": 8, "state": "ready", "age_seconds": 3.0, "resident_bytes": 1048576},
                {"slot": 0, "generation": 3, "pid": null, "state": "busy", "age_seconds": 3600.0,
                 "now": {"open_connections": 5}, "counters": {"requests": {"http": {"wsgi": 3}}},
                 "requests": [{"request": "GET /", "age_seconds": 1.25}, {"request": "GET /b", "age_seconds": 1.0}]},
            ],
        });
        let expected = "\
forkhorn 1.2, pid 7: serving, generation 3, up 1d01h
4 requests, 1 answered 5xx, 2 refused, 125.0 ms in the queue on average
the last reload has failed, 1m05s ago: no such module

          gen  pid  state  age    memory   conns  requests  now
template  3    8    ready  3s     1.0 MiB
worker 0  3    -    busy   1h00m           5      3         GET / (1.2 s) and 1 more
";
        assert_eq!(of(&status), expected);
        // Whatever comes is printed without a panic.
        for odd in [serde_json::json!({}), serde_json::json!([1]), serde_json::json!({"processes": [1, {}]})]
        {
            of(&odd);
        }
    }
}
