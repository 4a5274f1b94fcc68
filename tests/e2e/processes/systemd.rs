//! What systemd is told, heard by a socket of the test's own, and the unit files, read by systemd itself.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::folder::project;
use crate::support::forkhorn::BINARY;
use crate::support::{Folder, Forkhorn, wait_until};

/// The service manager's end.
pub(super) struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    pub(super) fn new(folder: &Folder) -> (Manager, String) {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
        (Manager { socket, heard: Vec::new() }, path.display().to_string())
    }

    /// Waits until a line that begins so has come, and forgets all up to it.
    #[track_caller]
    pub(super) fn wait_for(&mut self, line: &str) -> String {
        let mut found = None;
        wait_until(line, || {
            self.listen();
            found = self.heard.iter().position(|heard| heard.starts_with(line));
            found.is_some()
        });
        self.heard.drain(..=found.expect("found")).next_back().expect("found")
    }

    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.extend(text.lines().map(str::to_owned));
        }
    }
}

const SHOWS_VARIABLES: &str = "import os\n\
     def application(environ, start_response):\n\
     \x20   start_response('200 OK', [])\n\
     \x20   found = [name for name in os.environ if name.startswith(('NOTIFY', 'WATCHDOG'))]\n\
     \x20   return [repr(found).encode()]\n";

#[test]
fn systemd_is_told_of_the_start_of_reloads_and_of_the_stop() {
    let forkhorn = Forkhorn::new().code(SHOWS_VARIABLES);
    let (mut manager, path) = Manager::new(&forkhorn.folder);
    let mut forkhorn = forkhorn.env("NOTIFY_SOCKET", &path).start();
    manager.wait_for("READY=1");
    manager.wait_for("STATUS=generation 0 serves, 1 of 1 workers ready");
    assert_eq!(forkhorn.get("/").text(), "[]", "the application is no part of this");
    forkhorn.signal(Signal::SIGHUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("MONOTONIC_USEC=");
    manager.wait_for("READY=1");
    wait_until("the new generation serves", || forkhorn.server.log.contains("worker 0 generation 1 ready"));
    forkhorn.folder.write("app.py", "broken(");
    forkhorn.signal(Signal::SIGHUP);
    manager.wait_for("RELOADING=1");
    manager.wait_for("READY=1");
    manager.wait_for("STATUS=generation 1 serves, 1 of 1 workers ready; the last reload failed: ");
    forkhorn.folder.write("app.py", SHOWS_VARIABLES);
    forkhorn.signal(Signal::SIGHUP);
    manager.wait_for("STATUS=generation 2 serves, 1 of 1 workers ready");
    forkhorn.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1");
    manager.wait_for("EXTEND_TIMEOUT_USEC=41000000");
    assert!(forkhorn.wait_exit().success());
}

#[test]
fn systemd_is_not_told_ready_before_a_worker_is() {
    let forkhorn = Forkhorn::new().code(
        "import os, time\n\
         while not os.path.exists(os.environ['GO']): time.sleep(0.002)\n\
         def application(environ, start_response):\n\
         \x20   start_response('200 OK', [])\n\
         \x20   return [b'']\n",
    );
    let (mut manager, path) = Manager::new(&forkhorn.folder);
    let go = forkhorn.folder.join("go");
    let forkhorn = forkhorn.env("NOTIFY_SOCKET", &path).env("GO", &go).launch();
    manager.wait_for("STATUS=starting: 0 of 1 workers ready");
    manager.listen();
    assert!(!manager.heard.iter().any(|line| line == "READY=1"), "{:?}", manager.heard);
    forkhorn.folder.write("go", "");
    manager.wait_for("READY=1");
}

#[test]
fn the_watchdog_is_fed_while_it_is_ours() {
    let forkhorn = Forkhorn::new().code(SHOWS_VARIABLES);
    let (mut manager, path) = Manager::new(&forkhorn.folder);
    let forkhorn = forkhorn.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "60000").start();
    // Until then it is fed in any case.
    manager.wait_for("READY=1");
    for _ in 0..4 {
        manager.wait_for("WATCHDOG=1");
    }
    assert_eq!(forkhorn.get("/").text(), "[]");
    drop(forkhorn);
    let forkhorn = Forkhorn::new().code(SHOWS_VARIABLES);
    let (mut manager, path) = Manager::new(&forkhorn.folder);
    let forkhorn =
        forkhorn.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000").env("WATCHDOG_PID", "1").start();
    manager.wait_for("READY=1");
    assert_eq!(forkhorn.get("/").status, 200);
    manager.listen();
    assert!(!manager.heard.iter().any(|line| line == "WATCHDOG=1"), "{:?}", manager.heard);
}

/// systemd reads the units that the examples offer, with the binary under test in the place of the installed one.
#[test]
fn systemd_accepts_the_unit_files_of_the_examples() {
    let analyze = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze").args(arguments).output().expect("systemd-analyze");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let (_, version) = analyze(&["--version"]);
    let version: u32 = version.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect(&version);
    let folder = Folder::new();
    let units = ["forkhorn.service", "forkhorn.socket"].map(|name| {
        let text = std::fs::read_to_string(project().join("examples/systemd").join(name)).expect(name);
        let mut text = text.replace("/usr/local/bin/forkhorn", BINARY);
        if version < 253 {
            // As the unit says itself.
            text = text.replace("Type=notify-reload", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID");
        }
        folder.write(name, text).display().to_string()
    });
    let (accepted, told) = analyze(&["verify", "--man=no", &units[0], &units[1]]);
    assert!(accepted && told.is_empty(), "{told}");
}
