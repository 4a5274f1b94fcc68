//! USR2: another binary takes over, and no request notices; or it does not, and nobody notices either.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::systemd::Manager;
use super::worker_pid;
use crate::support::fastcgi::Request;
use crate::support::folder::set_mode;
use crate::support::forkhorn::{BINARY, require_bridge};
use crate::support::http::request_bytes;
use crate::support::process::{process, processes};
use crate::support::python::default_python;
use crate::support::{Address, Connection, Forkhorn, Running, fixture, wait_until};

/// A forkhorn in a folder of its own, whose binary a test can replace; `install` in the command line is that folder.
struct Installed {
    forkhorn: Running,
    /// Whoever is the master at the end.
    last: Option<i32>,
}

impl Installed {
    fn start(more: &str) -> Installed {
        Installed::start_with(Forkhorn::new(), more)
    }

    fn start_with(forkhorn: Forkhorn, more: &str) -> Installed {
        require_bridge();
        let folder = forkhorn.folder.path().to_owned();
        let binary = folder.join("forkhorn");
        std::fs::copy(BINARY, &binary).expect("copied");
        let bridge = PathBuf::from(BINARY).with_file_name("lib_forkhorn.so");
        std::os::unix::fs::symlink(bridge, folder.join("lib_forkhorn.so")).expect("linked");
        let line = format!(
            "{} serve {} --python {} --pid-file {}/pid {}",
            binary.display(),
            fixture("wsgi/probe.py").display(),
            default_python().display(),
            folder.display(),
            more.replace("FOLDER", &folder.display().to_string()),
        );
        Installed { forkhorn: forkhorn.command_line(&line).start(), last: None }
    }

    /// Puts a shell script in the place of the binary.
    fn replace_by_script(&self, script: &str) {
        self.replace(|path| std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("written"));
    }

    fn replace(&self, write: impl FnOnce(&std::path::Path)) {
        let new = self.forkhorn.folder.join("new");
        write(&new);
        set_mode(&new, 0o755);
        std::fs::rename(&new, self.forkhorn.folder.join("forkhorn")).expect("renamed");
    }

    fn pid_in_file(&self) -> i32 {
        self.forkhorn.folder.read("pid").trim().parse().unwrap_or(0)
    }

    /// USR2, and waits until the new master has taken over and the old one is gone.
    #[track_caller]
    fn upgrade(&mut self) -> i32 {
        let old = self.last.unwrap_or(self.forkhorn.pid());
        kill(Pid::from_raw(old), Signal::SIGUSR2).expect("sent");
        wait_until("another master has the pid file", || ![0, old].contains(&self.pid_in_file()));
        let new = self.pid_in_file();
        self.last = Some(new);
        self.forkhorn.wait_for_log(&format!("upgrade: this master, process {new}, has taken over"));
        if old == self.forkhorn.pid() {
            assert!(self.forkhorn.wait_exit().success(), "the old master ends well");
        }
        wait_until("the old master is gone", || process(old).is_none());
        new
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // The tests' own child is the first master; the last one is stopped here.
        if let Some(last) = self.last {
            let _ = kill(Pid::from_raw(last), Signal::SIGTERM);
            wait_until("the last master is gone", || process(last).is_none());
        }
    }
}

#[test]
fn a_new_binary_takes_over_and_no_request_fails() {
    let mut installed =
        Installed::start("--http 127.0.0.1:0 --fastcgi 127.0.0.1:0 --http unix:FOLDER/x.sock");
    let inode = |installed: &Installed| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(installed.forkhorn.folder.join("x.sock")).expect("the socket").ino()
    };
    let socket = inode(&installed);
    let stop = AtomicBool::new(false);
    let addresses: Vec<Address> = installed.forkhorn.all_http().to_vec();
    let fastcgi = installed.forkhorn.fastcgi().clone();
    let answered: usize = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let (stop, addresses, fastcgi) = (&stop, &addresses, &fastcgi);
                scope.spawn(move || client(number, stop, addresses, fastcgi))
            })
            .collect();
        for _ in 0..2 {
            installed.upgrade();
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("no request fails")).sum()
    });
    assert!(answered > 20, "{answered}");
    assert_eq!(inode(&installed), socket, "the socket is the same");
    assert_eq!(installed.forkhorn.server.log.count("INFO *listening on "), 3, "nothing was opened again");
    let old_pid_file = installed.forkhorn.folder.join("pid.oldbin");
    assert!(!old_pid_file.exists(), "no old master is left");
    let socket = installed.forkhorn.folder.join("x.sock");
    let pid_file = installed.forkhorn.folder.join("pid");
    let last = installed.last.take().expect("a master");
    kill(Pid::from_raw(last), Signal::SIGTERM).expect("sent");
    wait_until("the last master is gone", || process(last).is_none());
    assert!(!socket.exists() && !pid_file.exists(), "the last one leaves nothing behind");
}

/// Clients on kept connections, HTTP and FastCGI, and now and then a fresh one.
fn client(number: usize, stop: &AtomicBool, http: &[Address], fastcgi: &Address) -> usize {
    let mut answered = 0;
    let open = || Connection::open(&http[number % http.len()]);
    let peer = || crate::support::fastcgi::Peer::open(fastcgi);
    let (mut connection, mut kept) = (open(), peer());
    while !stop.load(Ordering::Relaxed) {
        if answered % 50 == 49 {
            (connection, kept) = (open(), peer());
        }
        if number % 2 == 1 {
            let answer = kept.request(&Request::new("GET", "/pid").keep());
            assert!(answer.complete && answer.response().status == 200, "{answer:?}");
        } else {
            let response = connection.get("/pid");
            assert!(response.complete && response.status == 200, "{response:?}");
        }
        answered += 1;
    }
    answered
}

#[test]
fn a_running_request_is_finished_by_the_old_workers() {
    let mut installed = Installed::start("--http 127.0.0.1:0");
    let target = super::wait_target(&installed.forkhorn);
    let old_worker = worker_pid(&installed.forkhorn);
    let old = installed.forkhorn.pid();
    let mut running = installed.forkhorn.connect();
    running.send(request_bytes("GET", &target, &[], b""));
    wait_until("the request runs", || installed.forkhorn.folder.join("at").exists());
    installed.forkhorn.signal(Signal::SIGUSR2);
    wait_until("another master has the pid file", || ![0, old].contains(&installed.pid_in_file()));
    let new = installed.pid_in_file();
    installed.last = Some(new);
    let draining = installed.forkhorn.folder.join("pid.oldbin");
    wait_until("the old one has another", || draining.exists());
    assert_eq!(installed.forkhorn.folder.read("pid.oldbin").trim(), old.to_string());
    wait_until("new workers answer", || worker_pid(&installed.forkhorn) != old_worker);
    installed.forkhorn.folder.write("go", "");
    assert_eq!(running.read_response().status, 200);
    assert!(installed.forkhorn.wait_exit().success());
    assert!(!draining.exists());
}

#[test]
fn a_binary_that_does_not_come_up_changes_nothing() {
    let mut installed = Installed::start("--http 127.0.0.1:0");
    let pid = worker_pid(&installed.forkhorn);
    for (script, told) in [
        ("exit 7", "upgrade failed, this master goes on: the new master exited with status 7"),
        ("kill -SEGV $$", "upgrade failed, this master goes on: the new master was killed by signal 11"),
        (
            "exec FORKHORN serve not_there:app --http 127.0.0.1:0",
            "upgrade failed, this master goes on: the new master exited with status 3",
        ),
    ] {
        installed.replace_by_script(&script.replace("FORKHORN", BINARY));
        installed.forkhorn.signal(Signal::SIGUSR2);
        installed.forkhorn.wait_for_log(told);
        assert_eq!(worker_pid(&installed.forkhorn), pid, "the same worker answers");
    }
    std::fs::remove_file(installed.forkhorn.folder.join("forkhorn")).expect("removed");
    installed.forkhorn.signal(Signal::SIGUSR2);
    installed.forkhorn.wait_for_log("USR2: upgrade failed, *forkhorn can't be started: ");
    assert_eq!(installed.pid_in_file(), installed.forkhorn.pid());
    // And afterwards a good one gets in.
    installed.replace(|path| assert!(std::fs::copy(BINARY, path).expect("copied") > 0));
    installed.upgrade();
    assert_ne!(worker_pid(&installed.forkhorn), pid);
}

#[test]
fn a_binary_that_takes_too_long_is_ended() {
    let installed = Installed::start("--http 127.0.0.1:0 --upgrade-timeout 0.2");
    let pid = worker_pid(&installed.forkhorn);
    installed.replace_by_script("exec sleep 600");
    installed.forkhorn.signal(Signal::SIGUSR2);
    installed
        .forkhorn
        .wait_for_log("upgrade failed, this master goes on: the new master is not ready (--upgrade-timeout)");
    let master = installed.forkhorn.pid();
    let sleeps = || processes().iter().any(|process| process.session == master && process.name == "sleep");
    wait_until("it is gone", || !sleeps());
    assert_eq!(worker_pid(&installed.forkhorn), pid, "the same worker answers");
}

#[test]
fn a_reload_works_after_the_binary_was_replaced() {
    let installed = Installed::start("--http 127.0.0.1:0");
    installed.replace(|path| assert!(std::fs::copy(BINARY, path).expect("copied") > 0));
    installed.forkhorn.signal(Signal::SIGHUP);
    installed.forkhorn.wait_for_log("generation 1 serves, generation 0 drains");
}

#[test]
fn a_master_that_is_stopped_takes_the_one_that_loads_with_it() {
    let mut installed = Installed::start("--http 127.0.0.1:0");
    installed.replace_by_script("trap 'exit 0' INT; touch $(dirname $0)/runs; while :; do sleep 0.01; done");
    installed.forkhorn.signal(Signal::SIGUSR2);
    wait_until("it runs", || installed.forkhorn.folder.join("runs").exists());
    installed.forkhorn.signal(Signal::SIGUSR2);
    installed.forkhorn.wait_for_log("USR2: no upgrade: one is under way");
    installed.forkhorn.signal(Signal::SIGHUP);
    installed.forkhorn.wait_for_log("no reload: another master is about to take over");
    installed.forkhorn.signal(Signal::SIGTERM);
    assert!(installed.forkhorn.wait_exit().success());
    let session = installed.forkhorn.pid();
    wait_until("nothing is left", || !processes().iter().any(|process| process.session == session));
}

#[test]
fn sockets_that_were_passed_at_the_start_are_passed_on() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = Address::Tcp(listener.local_addr().expect("bound"));
    let forkhorn = Forkhorn::new().no_listener().stdin(std::os::fd::OwnedFd::from(listener));
    let mut installed = Installed::start_with(forkhorn, "--http fd:0");
    let mut kept = Connection::open(&address);
    assert_eq!(kept.get("/pid").status, 200);
    installed.upgrade();
    assert_eq!(kept.get("/pid").status, 200);
    assert_eq!(crate::support::http::get(&address, "/pid").status, 200);
}

#[test]
fn systemd_is_told_which_process_is_the_main_one_now() {
    let forkhorn = Forkhorn::new();
    let (mut manager, path) = Manager::new(&forkhorn.folder);
    let forkhorn = forkhorn.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let mut installed = Installed::start_with(forkhorn, "--http 127.0.0.1:0");
    manager.wait_for("READY=1");
    let new = installed.upgrade();
    manager.wait_for(&format!("MAINPID={new}"));
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    let last = installed.last.take().expect("a master");
    kill(Pid::from_raw(last), Signal::SIGTERM).expect("sent");
    manager.wait_for("STOPPING=1");
    wait_until("the last master is gone", || process(last).is_none());
}

#[test]
fn a_variable_that_no_master_has_set_is_refused() {
    for value in ["", "x", "0", "99"] {
        let (code, log) = Forkhorn::new().wsgi("probe.py").env("FORKHORN_UPGRADE", value).run_to_exit();
        assert_eq!(code, 1, "{log}");
        assert!(log.contains("FORKHORN_UPGRADE is set in the environment, but "), "{log}");
    }
}

#[test]
fn who_asks_how_forkhorn_is_asks_the_new_master() {
    let mut installed = Installed::start("--http 127.0.0.1:0 --status unix:FOLDER/status.sock");
    let status = Address::Unix(installed.forkhorn.folder.join("status.sock"));
    let pid_of_master = || crate::support::http::get(&status, "/status").json()["pid"].clone();
    assert_eq!(pid_of_master(), installed.forkhorn.pid());
    let new = installed.upgrade();
    assert_eq!(pid_of_master(), new);
    // And so do orders.
    let reload = std::process::Command::new(crate::support::forkhorn::BINARY)
        .args(["reload", "--pid-file"])
        .arg(installed.forkhorn.folder.join("pid"))
        .output()
        .expect("forkhorn starts");
    assert!(reload.status.success(), "{reload:?}");
}
