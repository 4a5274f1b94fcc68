//! One id for a request, in every line about it, with the application and with scripts.

use std::collections::BTreeSet;

use super::id_of;
use crate::support::fastcgi::Request;
use crate::support::{Forkhorn, Running};

const SCRIPT: &str =
    "#!/bin/sh\necho said-by-the-script >&2\nprintf 'Content-Type: text/plain\\n\\n%s' \"$UNIQUE_ID\"\n";

const OUTLIVED: &str = "#!/bin/sh\nexec sleep 1000\n";

fn with_script() -> Forkhorn {
    Forkhorn::new().wsgi("probe.py").both().script("id.sh", SCRIPT).script("slow.sh", OUTLIVED).cgi_folder()
}

/// The ids of the lines that match.
fn ids(forkhorn: &Running, pattern: &str) -> Vec<String> {
    let lines = forkhorn.server.log.lines();
    let matching = lines.iter().filter(|line| crate::support::log::matches(line, pattern));
    matching.map(|line| id_of(line).to_owned()).collect()
}

#[test]
fn every_request_of_every_worker_and_generation_has_its_own_id() {
    let forkhorn = with_script().workers(2).start();
    let mut seen: BTreeSet<String> = (0..20).map(|_| forkhorn.get("/cgi-bin/id.sh").text()).collect();
    forkhorn.signal(nix::sys::signal::Signal::SIGHUP);
    for slot in 0..2 {
        forkhorn.wait_for_log(&format!("worker {slot} generation 1 ready"));
    }
    seen.extend((0..20).map(|_| forkhorn.get("/cgi-bin/id.sh").text()));
    assert_eq!(seen.len(), 40, "{seen:?}");
    for id in seen {
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}

#[test]
fn all_lines_about_a_request_have_its_id() {
    let forkhorn = with_script().args(["--cgi-timeout", "0.3"]).start();
    assert_eq!(forkhorn.get("/fail").status, 500);
    assert_eq!(id_of(&forkhorn.wait_for_log("GET /fail: the application raised")).len(), 16);
    forkhorn.get("/log");
    forkhorn.wait_for_log("another line");
    let of_errors = [ids(&forkhorn, "one line"), ids(&forkhorn, "another line")].concat();
    assert!(of_errors.len() == 2 && of_errors[0] == of_errors[1], "{of_errors:?}");
    let id = forkhorn.get("/cgi-bin/id.sh").text();
    forkhorn.wait_for_log("said-by-the-script");
    assert_eq!(ids(&forkhorn, "said-by-the-script"), [id]);
    assert_eq!(forkhorn.get("/cgi-bin/slow.sh").status, 504);
    forkhorn.wait_for_log("slow.sh*over its 0.3 seconds");
    assert_eq!(forkhorn.get("/cgi-bin/missing").status, 404);
    assert_eq!(id_of(&forkhorn.wait_for_log("WARN*cgi-bin/missing")).len(), 16);
}

#[test]
fn the_report_of_a_request_over_its_time_has_its_id() {
    let code = "import time\ndef application(environ, start_response):\n    time.sleep(1000)\n";
    let mut forkhorn = Forkhorn::new()
        .code(code)
        .args(["--timeout", "0.2", "--graceful-timeout", "0.1", "--request-id-header", "X-Request-Id"])
        .start();
    assert_eq!(forkhorn.request("GET", "/stuck", &[("X-Request-Id", "the-one")], b"").status, 504);
    assert_eq!(id_of(&forkhorn.wait_for_log("GET /stuck: over --timeout")), "the-one");
    forkhorn.may_end();
}

#[test]
fn the_id_is_taken_from_the_named_field_and_from_no_other() {
    let forkhorn = with_script().args(["--request-id-header", "X-Request-Id"]).start();
    let get = |target: &str, field: &str| forkhorn.request("GET", target, &[("X-Request-Id", field)], b"");
    assert_eq!(get("/cgi-bin/id.sh", "Root=1-67:a_b").text(), "Root=1-67:a_b");
    get("/fail", "seen-in-front");
    assert_eq!(id_of(&forkhorn.wait_for_log("GET /fail: the application raised")), "seen-in-front");
    let environ = get("/environ", "seen-in-front").json();
    assert_eq!(environ["UNIQUE_ID"], "seen-in-front");
    // What could forge something is replaced, for the application too.
    for bad in ["a b", "a\"b", "x] forged", &"a".repeat(129), ""] {
        let environ = get("/environ", bad).json();
        let id = environ["UNIQUE_ID"].as_str().expect("a string");
        assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{bad}: {id}");
        assert_eq!(environ["HTTP_X_REQUEST_ID"], id, "{bad}");
    }
    let unnamed = with_script().start();
    let id = unnamed.request("GET", "/cgi-bin/id.sh", &[("X-Request-Id", "mine")], b"").text();
    assert_ne!(id, "mine");
}

#[test]
fn a_web_server_tells_the_id_as_a_parameter() {
    let forkhorn = with_script().start();
    let ask =
        |id: &str| forkhorn.fcgi(&Request::new("GET", "/cgi-bin/id.sh").param("UNIQUE_ID", id)).response();
    assert_eq!(ask("ZxYw@A-_").text(), "ZxYw@A-_");
    assert_eq!(ask("two words").text().len(), 16);
}

#[test]
fn a_name_that_is_no_field_is_a_usage_error() {
    for name in ["", "X Request", "X_Request_Id", "Host", "Content-Length"] {
        let (code, log) = Forkhorn::new().wsgi("probe.py").args(["--request-id-header", name]).run_to_exit();
        assert!(code == 2 && log.contains("--request-id-header"), "{name}: {code} {log}");
    }
}
