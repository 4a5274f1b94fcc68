//! As in a container: process 1, another user than root, a file system that can't be written.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use crate::support::process::{ProcessEntry, family};
use crate::support::{Forkhorn, Running, wait_until};

const ANSWERS: &str = "import os, subprocess\n\
     def application(environ, start_response):\n\
     \x20   environ['wsgi.input'].read()\n\
     \x20   if environ['PATH_INFO'] == '/orphan':\n\
     \x20       # The child ends at once, the grandchild has to be reaped by process 1.\n\
     \x20       subprocess.run(['sh', '-c', '(sleep 0.05; exit 3) >/dev/null 2>&1 &'])\n\
     \x20   start_response('200 OK', [])\n\
     \x20   return [f'{os.getppid()} {os.getuid()}'.encode()]\n";

/// Where tests themselves run in a container, the kernel may grant no further namespaces: there is nothing to test with
/// then. Bare machines and virtual ones, CI's among them, grant them to root, and most to everybody.
fn namespaces_are_granted(arguments: &[&str]) -> bool {
    let mut unshare = std::process::Command::new("unshare");
    if !Uid::effective().is_root() {
        unshare.arg("--map-root-user");
    }
    let output =
        unshare.args(arguments).args(["sh", "-c", "mount -o remount,bind,ro /"]).output().expect("unshare");
    if !output.status.success() {
        eprintln!("no namespaces here: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

/// The master, below the program that has made the namespace and waits for it.
fn master(forkhorn: &Running) -> i32 {
    let is_master = |process: &ProcessEntry| process.name == "forkhorn" && process.parent == forkhorn.pid();
    family(forkhorn.pid()).iter().find(|process| is_master(process)).expect("a master").pid
}

/// A container's first process: nobody above reaps or signals for it. Not as root, where root is not needed.
fn as_process_1(forkhorn: Forkhorn) -> Forkhorn {
    match Uid::effective().is_root() {
        true => forkhorn.wrapper(["unshare", "--pid", "--fork", "--mount-proc"]),
        false => forkhorn.wrapper(["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]),
    }
}

#[test]
fn as_process_1_it_reaps_strangers_reloads_and_stops() {
    if !namespaces_are_granted(&["--pid", "--fork", "--mount-proc"]) {
        return;
    }
    let mut forkhorn = as_process_1(Forkhorn::new().code(ANSWERS)).start();
    let master = master(&forkhorn);
    let parent = forkhorn.get("/orphan").text();
    assert!(parent.starts_with("1 "), "the worker's parent is process 1: {parent}");
    for _ in 0..20 {
        assert_eq!(forkhorn.get("/orphan").status, 200);
    }
    let sleeps_or_dead = |process: &ProcessEntry| process.name == "sleep" || process.state == 'Z';
    wait_until("strangers are reaped", || !family(master).iter().any(sleeps_or_dead));
    assert_eq!(forkhorn.server.log.count("has ended"), 0, "nobody is told of them");
    let signal = |signal| kill(Pid::from_raw(master), signal).expect("sent");
    signal(Signal::SIGHUP);
    forkhorn.wait_for_log("generation 1 serves, generation 0 drains");
    signal(Signal::SIGUSR2);
    forkhorn.wait_for_log("USR2: no upgrade: process 1 can't be replaced");
    assert_eq!(forkhorn.get("/").status, 200);
    signal(Signal::SIGTERM);
    forkhorn.wait_for_log("graceful stop");
    assert!(forkhorn.wait_exit().success());
}

/// Everything below / is read-only here, /tmp included; and nobody is root who serves.
#[test]
fn another_user_serves_from_a_file_system_that_can_not_be_written() {
    if !namespaces_are_granted(&["--mount"]) {
        return;
    }
    let read_only = "mount -o remount,bind,ro / && for place in /tmp /var/tmp; do \
                     mount -o remount,bind,ro $place 2>/dev/null; done";
    let forkhorn = Forkhorn::new().code(ANSWERS);
    let forkhorn = match Uid::effective().is_root() {
        true => {
            let script = format!(
                "{read_only}; exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \"$@\""
            );
            // One that everybody can read.
            let forkhorn = forkhorn.python("/usr/bin/python3");
            forkhorn.wrapper(["unshare", "--mount", "sh", "-c", &script, "sh"])
        }
        // The mapped user is not root for the machine.
        false => {
            let script = format!("{read_only}; exec \"$@\"");
            forkhorn.wrapper(["unshare", "--map-root-user", "--mount", "sh", "-c", &script, "sh"])
        }
    };
    let forkhorn = forkhorn.args(["--spool-threshold", "1000"]).start();
    forkhorn.wait_for_log("can't be written, so that request bodies over 1000 bytes are answered 503");
    for _ in 0..3 {
        assert_eq!(forkhorn.get("/").status, 200);
        assert_eq!(forkhorn.request("POST", "/", &[], &[b'x'; 900]).status, 200);
        assert_eq!(forkhorn.request("POST", "/", &[], &[b'x'; 5000]).status, 503);
    }
    if Uid::effective().is_root() {
        assert!(forkhorn.get("/").text().ends_with(" 65534"));
    }
    assert!(std::fs::read_dir(forkhorn.folder.path()).expect("listed").count() <= 2, "nothing was written");
}
