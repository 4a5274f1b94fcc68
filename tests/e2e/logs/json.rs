//! `--log-format json`: an object in each line, whoever has written what is in it.

use serde_json::Value;

use crate::support::{Forkhorn, Running};

const SCRIPT: &str = "#!/bin/sh\nprintf '{\"level\":\"error\"}\\n\\033[2J\\377 end\\n' >&2\nexit 3\n";

fn logging() -> Running {
    let forkhorn = Forkhorn::new().wsgi("probe.py").script("says.sh", SCRIPT).cgi_folder();
    forkhorn.args(["--log-format", "json"]).start()
}

/// The object of the first line that matches.
fn object(forkhorn: &Running, pattern: &str) -> Value {
    let line = forkhorn.wait_for_log(pattern);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn every_line_is_an_object_and_a_traceback_is_one_text() {
    let forkhorn = logging();
    let listening = object(&forkhorn, "listening on http");
    assert_eq!((&listening["process"], &listening["level"]), (&"master".into(), &"info".into()));
    assert_eq!(forkhorn.get("/fail").status, 500);
    let failure = object(&forkhorn, "the application raised");
    assert_eq!(failure["message"], "GET /fail: the application raised an exception");
    let traceback = failure["detail"].as_str().expect("a text");
    assert!(traceback.starts_with("Traceback (most recent call last):\n"), "{traceback}");
    assert!(traceback.ends_with("ValueError: the secret of this failure"), "{traceback}");
    assert_eq!((&failure["worker"], &failure["target"]), (&0.into(), &"application".into()));
    assert!(failure["pid"].is_u64() && failure["time"].as_str().is_some_and(|time| time.ends_with('Z')));
    let id = failure["request_id"].as_str().expect("a text");
    assert_eq!(id.len(), 16);
    assert_eq!(forkhorn.get("/cgi-bin/says.sh").status, 502);
    let said = object(&forkhorn, "says.sh*level");
    assert_eq!(said["level"], "warn");
    assert!(
        said["message"].as_str().is_some_and(|message| message.ends_with("{\"level\":\"error\"}")),
        "{said}"
    );
    forkhorn.wait_for_log("says.sh*exited with status 3");
    for line in forkhorn.server.log.lines() {
        let read = serde_json::from_str::<Value>(&line);
        assert!(read.is_ok_and(|object| object["time"].is_string()), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
}
