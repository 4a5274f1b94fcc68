//! Whom workers and scripts run as. These tests need root; elsewhere they check that forkhorn says so.

use crate::support::process::status_line;
use crate::support::{Forkhorn, Running, wait_until};

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

const ID_SCRIPT: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; id -u; id -g; id -G\n";

fn of_user(name: &str) -> (String, String) {
    let user = nix::unistd::User::from_name(name).expect("the user database").expect("a user");
    (user.uid.to_string(), user.gid.to_string())
}

/// Every process but the master has this identity, whole: real, effective, saved and for file systems.
#[track_caller]
fn all_are(forkhorn: &Running, uid: &str, gid: &str, groups: &[&str]) {
    for process in forkhorn.family() {
        assert_eq!(status_line(process.pid, "Uid"), [uid; 4], "{process:?}");
        assert_eq!(status_line(process.pid, "Gid"), [gid; 4], "{process:?}");
        assert_eq!(status_line(process.pid, "Groups"), groups, "{process:?}");
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            assert_eq!(status_line(process.pid, set), ["0000000000000000"], "{set} of {process:?}");
        }
    }
}

#[test]
fn a_user_is_become_with_all_groups_and_for_good() {
    let start = |options: &[&str]| {
        let forkhorn =
            Forkhorn::new().wsgi("probe.py").python_by_itself().script("id.sh", ID_SCRIPT).cgi_folder();
        // The user must be able to read the interpreter: the system's can be read by all.
        let forkhorn = forkhorn.python("/usr/bin/python3").workers(2);
        options.iter().fold(forkhorn, |forkhorn, option| forkhorn.arg(*option))
    };
    if !is_root() {
        let (code, log) = start(&["--user", "nobody"]).run_to_exit();
        assert!([1, 2].contains(&code) && log.contains("root"), "{code} {log}");
        return;
    }
    let (uid, gid) = of_user("nobody");
    let (_, other_gid) = of_user("daemon");
    for (options, gid) in [
        (&["--user", "nobody"][..], gid.as_str()),
        (&["--user", "nobody", "--group", "daemon"], other_gid.as_str()),
        (&["--user", uid.as_str()], gid.as_str()),
    ] {
        let forkhorn = start(options).start();
        let facts = forkhorn.get("/facts").json();
        let number: u64 = uid.parse().expect("a number");
        assert_eq!(facts["uid"], serde_json::json!([number, number, number]));
        all_are(&forkhorn, &uid, gid, &[gid]);
        assert_eq!(forkhorn.get("/cgi-bin/id.sh").text(), format!("{uid}\n{gid}\n{gid}\n"));
        // The master stays who it is, and can go on replacing workers.
        assert_eq!(status_line(forkhorn.pid(), "Uid"), ["0"; 4]);
        let worker = super::worker_pid(&forkhorn);
        crate::support::process::send_signal(worker, nix::sys::signal::Signal::SIGKILL);
        wait_until("it is replaced", || forkhorn.server.log.count("worker * generation 0 ready") >= 3);
        all_are(&forkhorn, &uid, gid, &[gid]);
    }
}

#[test]
fn a_privileged_port_and_socket_are_opened_before_the_privileges_go() {
    if !is_root() {
        return;
    }
    let forkhorn = Forkhorn::new().wsgi("probe.py").python("/usr/bin/python3").args(["--user", "nobody"]);
    let socket = forkhorn.folder.join("x.sock");
    let forkhorn = forkhorn.http(&format!("unix:{}", socket.display())).start();
    assert_eq!(forkhorn.get("/pid").status, 200);
}

#[test]
fn unknown_users_and_groups_are_errors_at_the_start() {
    for (options, name) in
        [(["--user", "no-such-user"], "no-such-user"), (["--group", "no-such-group"], "no-such-group")]
    {
        let (code, log) = Forkhorn::new().wsgi("probe.py").args(options).run_to_exit();
        assert!([1, 2].contains(&code), "{code}: {log}");
        assert!(log.contains(if is_root() { name } else { "root" }), "{log}");
    }
}

#[test]
fn an_application_that_the_user_can_not_read_is_an_error_at_the_start() {
    if !is_root() {
        return;
    }
    let forkhorn = Forkhorn::new().python("/usr/bin/python3").args(["--user", "nobody"]);
    let path = forkhorn.folder.write("app.py", "def application(e, s): s('200 OK', []); return []\n");
    crate::support::folder::set_mode(&path, 0o600);
    let (code, log) = forkhorn.app(&path).run_to_exit();
    assert!([1, 3].contains(&code), "{code}: {log}");
    assert!(log.contains("app.py") && log.contains("nobody"), "{log}");
}

#[test]
fn the_mask_of_new_files_is_the_one_that_is_named() {
    let forkhorn = Forkhorn::new().wsgi("probe.py").args(["--umask", "027"]);
    let forkhorn = forkhorn
        .script("umask.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\n'; umask\n")
        .cgi_folder()
        .start();
    assert_eq!(forkhorn.get("/facts").json()["umask"], "0027");
    assert_eq!(forkhorn.get("/cgi-bin/umask.sh").text().trim(), "0027");
}

#[test]
fn workers_of_another_user_can_not_be_traced_or_dumped() {
    if !is_root() {
        return;
    }
    let forkhorn =
        Forkhorn::new().wsgi("probe.py").python("/usr/bin/python3").args(["--user", "nobody"]).start();
    let worker = super::worker_pid(&forkhorn);
    // As CVE-2018-10545: a process of the same user must not read the memory of one that was started by root.
    let as_user = std::process::Command::new("setpriv")
        .args([
            "--reuid",
            "nobody",
            "--regid",
            "nogroup",
            "--clear-groups",
            "head",
            "-c",
            "1",
            &format!("/proc/{worker}/mem"),
        ])
        .output()
        .expect("setpriv is installed");
    let said = String::from_utf8_lossy(&as_user.stderr).into_owned();
    assert!(said.contains("Permission denied"), "{said}");
}
