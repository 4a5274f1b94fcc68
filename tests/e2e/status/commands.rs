//! `forkhorn status`, `reload` and `stop`.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::support::forkhorn::BINARY;
use crate::support::{Forkhorn, Running, wait_until};

struct Output {
    code: i32,
    out: String,
    err: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).env_remove("FORKHORN_CONTROL").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn run(arguments: &[&str]) -> Output {
    output(command(arguments).spawn().expect("forkhorn starts"))
}

#[track_caller]
fn output(child: std::process::Child) -> Output {
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Output {
        code: output.status.code().expect("no signal"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// A master with a control socket, and how commands name it.
fn start(forkhorn: Forkhorn) -> (Running, String) {
    let path = forkhorn.folder.join("control").display().to_string();
    (forkhorn.args(["--control", &path]).start(), path)
}

const APPLICATION: &str = "\
import os
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'%d' % os.getpid()]
";

#[test]
fn status_prints_a_table_for_people_and_json_for_programs() {
    let (forkhorn, control) = start(Forkhorn::new().wsgi("probe.py").workers(2));
    assert_eq!(forkhorn.get("/pid").status, 200);
    wait_until("it is counted", || run(&["status", "--control", &control]).out.contains("\n1 requests, "));
    let table = run(&["status", "--control", &control]);
    assert_eq!((table.code, table.err.as_str()), (0, ""));
    let first =
        format!("forkhorn {}, pid {}: serving, generation 0, up ", env!("CARGO_PKG_VERSION"), forkhorn.pid());
    assert!(table.out.starts_with(&first), "{}", table.out);
    for line in ["template", "worker 0", "worker 1"] {
        assert!(table.out.lines().any(|found| found.starts_with(line)), "{}", table.out);
    }
    let json = run(&["status", "--json", "--memory", "--control", &control]);
    let report: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((json.code, report["pid"].as_i64()), (0, Some(forkhorn.pid().into())));
    assert!(report["processes"][1]["memory"]["private_bytes"].is_number(), "{report:#}");
}

#[test]
fn the_control_socket_lies_beside_the_pid_file_for_its_owner_alone() {
    let forkhorn = Forkhorn::new();
    let pid_file = forkhorn.folder.join("forkhorn.pid").display().to_string();
    let mut forkhorn = forkhorn.wsgi("probe.py").args(["--pid-file", &pid_file]).start();
    let socket = format!("{pid_file}.sock");
    let mode = std::fs::metadata(&socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = run(&["status", "--pid-file", &pid_file]);
    assert!(status.code == 0 && status.out.contains("serving"), "{}", status.err);
    assert_eq!(run(&["stop", "--pid-file", &pid_file]).code, 0);
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
    assert!(!std::fs::exists(&socket).expect("looked up"), "the socket is left behind");
}

#[test]
fn reload_waits_until_the_new_generation_serves() {
    let (forkhorn, control) = start(Forkhorn::new().code(APPLICATION).workers(2));
    let before = forkhorn.get("/").text();
    for generation in 1..=2 {
        let reload = run(&["reload", "--control", &control]);
        assert_eq!((reload.code, reload.err.as_str()), (0, ""));
        assert_eq!(reload.out, format!("generation {generation} serves\n"));
        forkhorn.wait_for_log(&format!("generation {generation} serves"));
    }
    assert_ne!(forkhorn.get("/").text(), before);
    // Those who ask at the same time: one is answered by the reload that it begins, the others by the next one.
    let all: Vec<_> = (0..4)
        .map(|_| command(&["reload", "--control", &control]).spawn().expect("forkhorn starts"))
        .collect();
    for child in all {
        let reload = output(child);
        assert_eq!(reload.code, 0, "{}", reload.err);
    }
    assert!(forkhorn.server.log.count("reload: generation") <= 6);
}

#[test]
fn a_failed_reload_prints_the_traceback_and_the_old_code_goes_on() {
    let (forkhorn, control) = start(Forkhorn::new().code(APPLICATION));
    let before = forkhorn.get("/").text();
    forkhorn.folder.write("app.py", "import module_that_is_not_there\n");
    let reload = run(&["reload", "--control", &control]);
    assert_eq!((reload.code, reload.out.as_str()), (1, ""));
    for part in [
        "forkhorn: the reload has failed",
        "Traceback",
        "app.py",
        "No module named 'module_that_is_not_there'",
    ] {
        assert!(reload.err.contains(part), "{part}: {}", reload.err);
    }
    assert!(reload.err.lines().count() > 3, "a traceback has lines: {}", reload.err);
    assert_eq!(forkhorn.get("/").text(), before);
    let status = run(&["status", "--control", &control]).out;
    assert!(status.contains("the last reload has failed"), "{status}");
    forkhorn.folder.write("app.py", APPLICATION);
    assert_eq!(run(&["reload", "--control", &control]).code, 0);
    assert!(!run(&["status", "--control", &control]).out.contains("failed"));
}

#[test]
fn stop_waits_for_running_requests_and_for_the_end() {
    let (mut forkhorn, control) = start(Forkhorn::new().wsgi("probe.py"));
    let path = |name: &str| forkhorn.folder.join(name).display().to_string();
    let target = format!("/wait?at={}&until={}", path("at"), path("go"));
    let mut held = forkhorn.connect();
    held.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_until("the request runs", || !forkhorn.folder.read("at").is_empty());
    let late = run(&["stop", "--timeout", "0.2", "--control", &control]);
    assert!(late.code == 1 && late.err.contains("has not ended within 0.2 s"), "{}", late.err);
    forkhorn.folder.write("go", "");
    assert_eq!(held.read_response().status, 200);
    assert_eq!(forkhorn.wait_exit().code(), Some(0));
}

#[test]
fn stop_has_seen_the_master_end_and_fast_breaks_requests_off() {
    for fast in [false, true] {
        let (mut forkhorn, control) = start(Forkhorn::new().wsgi("probe.py"));
        let pid = forkhorn.pid();
        let path = |name: &str| forkhorn.folder.join(name).display().to_string();
        let target = format!("/wait?at={}&until={}", path("at"), path("never"));
        let mut held = forkhorn.connect();
        if fast {
            held.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            wait_until("the request runs", || !forkhorn.folder.read("at").is_empty());
        }
        let arguments: &[&str] = if fast { &["stop", "--fast", "--control"] } else { &["stop", "--control"] };
        let stop = run(&[arguments, &[control.as_str()]].concat());
        assert_eq!((stop.code, stop.out.as_str()), (0, "forkhorn has ended\n"), "{}", stop.err);
        // Not reaped yet, maybe: but it does not run.
        let state = crate::support::process::process(pid).map(|process| process.state);
        assert!(matches!(state, None | Some('Z' | 'X')), "{state:?}");
        assert_eq!(forkhorn.wait_exit().code(), Some(0));
        assert!(held.is_closed());
        let again = run(&["stop", "--control", &control]);
        assert!(again.code == 1 && again.err.contains("forkhorn does not run"), "{}", again.err);
    }
}

#[test]
fn whom_nobody_answers_is_told_why() {
    let folder = crate::support::Folder::new();
    let missing = folder.join("missing").display().to_string();
    for name in ["status", "reload", "stop"] {
        let output = run(&[name]);
        assert!(output.code == 2 && output.err.contains("--control"), "{name}: {}", output.err);
        let output = run(&[name, "--control", &missing]);
        let expected = format!("forkhorn: no answer from {missing}: there is no such socket");
        assert!(output.code == 1 && output.err.starts_with(&expected), "{name}: {}", output.err);
    }
    // Somebody listens, and says nothing.
    let path = folder.join("silent");
    let _silent = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let path = path.display().to_string();
    let output = run(&["status", "--timeout", "0.2", "--control", &path]);
    assert!(output.code == 1 && output.err.contains("none within 0.2 s"), "{}", output.err);
    // Nobody listens any more.
    let stale = folder.join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
    let output = run(&["reload", "--control", &stale.display().to_string()]);
    assert!(output.code == 1 && output.err.contains("nobody listens there"), "{}", output.err);
}

#[test]
fn another_user_can_not_give_orders() {
    if !nix::unistd::geteuid().is_root() {
        // Nobody else is at hand then; the mode of the socket is tested above.
        return;
    }
    let (forkhorn, control) = start(Forkhorn::new().wsgi("probe.py"));
    // Whatever the mode says: the master asks the kernel who it is.
    let everybody = |path: &str| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("root may");
    };
    let mut folder = std::path::Path::new(&control).parent();
    while let Some(path) = folder.filter(|path| path.components().count() > 2) {
        let mode = std::fs::metadata(path).expect("a folder").permissions().mode() | 0o755;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("root may");
        folder = path.parent();
    }
    let as_nobody = |arguments: &[&str]| {
        let mut all = vec!["--reuid=nobody", "--regid=nogroup", "--clear-groups", BINARY];
        all.extend(arguments);
        let mut command = Command::new("setpriv");
        command.args(all).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        output(command.spawn().expect("setpriv starts"))
    };
    let refused = as_nobody(&["stop", "--control", &control]);
    assert!(
        refused.code == 1 && refused.err.contains("only root, and the user who runs the master"),
        "{}",
        refused.err
    );
    everybody(&control);
    let refused = as_nobody(&["stop", "--control", &control]);
    assert!(refused.code == 1 && refused.err.contains("refuses this user"), "{}", refused.err);
    forkhorn.wait_for_log("the control socket refuses process * of user ");
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn a_reload_with_a_wrong_configuration_says_what_is_wrong() {
    let forkhorn = Forkhorn::new();
    let file = forkhorn.folder.write("forkhorn.toml", "timeout = 20\n").display().to_string();
    let (forkhorn, control) = start(forkhorn.code(APPLICATION).args(["--config", &file]));
    assert_eq!(run(&["reload", "--control", &control]).code, 0);
    forkhorn.folder.write("forkhorn.toml", "timeuot = 20\n");
    let reload = run(&["reload", "--timeout", "30", "--control", &control]);
    assert!(reload.code == 1 && reload.err.contains("'timeuot'"), "{}", reload.err);
    assert_eq!(forkhorn.get("/").status, 200);
}
