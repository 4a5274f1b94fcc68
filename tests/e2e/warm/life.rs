//! Warm interpreters: started when they are needed, replaced when they have to be, never in the way of a request.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::http::request_bytes;
use crate::support::process::{ProcessEntry, process};
use crate::support::{Forkhorn, Running, python, wait_until};

const HEAD: &str = "import os, sys\nprint('Content-Type: text/plain\\n')\n";

pub(super) fn python_script(lines: &str) -> String {
    format!("#!{}\n{HEAD}{lines}", python::default_python().display())
}

pub(super) fn perl_script(lines: &str) -> String {
    format!("#!/usr/bin/perl\nprint \"Content-Type: text/plain\\n\\n\";\n{lines}")
}

/// Says which process is its parent.
pub(super) fn parent(language: &str) -> String {
    match language {
        "python" => python_script("print(os.getppid())"),
        _ => perl_script("print getppid(), qq(\\n);"),
    }
}

#[track_caller]
pub(super) fn ask(forkhorn: &Running, name: &str) -> String {
    let response = forkhorn.get(&format!("/cgi-bin/{name}"));
    assert!(response.status == 200 && response.complete, "{}", response.text());
    response.text().trim().to_owned()
}

/// Asks until the answer comes from a copy of a warm interpreter; gives that interpreter's pid.
#[track_caller]
pub(super) fn warm_parent(forkhorn: &Running, name: &str) -> i32 {
    let is_warm = |pid: i32| forkhorn.log().iter().any(|line| line.contains(&format!("pid {pid};")));
    let mut found = 0;
    wait_until("a warm interpreter serves", || {
        found = ask(forkhorn, name).parse().expect("a pid");
        is_warm(found)
    });
    found
}

/// The processes below the master that are none of forkhorn's own.
pub(super) fn others(forkhorn: &Running) -> Vec<ProcessEntry> {
    forkhorn.family().into_iter().filter(|process| !process.name.starts_with("forkhorn")).collect()
}

#[test]
fn a_warm_interpreter_that_was_killed_is_replaced_and_no_request_fails() {
    for language in ["python", "perl"] {
        let forkhorn = Forkhorn::new()
            .script("parent", parent(language))
            .cgi_folder()
            .args(["--warm", language])
            .start();
        let first = warm_parent(&forkhorn, "parent");
        kill(Pid::from_raw(first), Signal::SIGKILL).expect("it runs");
        for _ in 0..10 {
            ask(&forkhorn, "parent");
        }
        assert_ne!(warm_parent(&forkhorn, "parent"), first);
    }
}

#[test]
fn a_request_whose_interpreter_dies_before_its_script_runs_is_run_the_classic_way() {
    let script = python_script("print(os.getppid(), open('runs', 'a').write('x'))");
    let forkhorn = Forkhorn::new()
        .script("parent", parent("python"))
        .script("once", script)
        .cgi_folder()
        .args(["--warm", "python"])
        .start();
    let warm = Pid::from_raw(warm_parent(&forkhorn, "parent"));
    kill(warm, Signal::SIGSTOP).expect("it runs");
    let mut connection = forkhorn.connect();
    connection.send(request_bytes("GET", "/cgi-bin/once", &[], b""));
    wait_until("the worker has handed the request over", || {
        let waiting = fs::read_to_string(format!("/proc/{warm}/stat")).unwrap_or_default();
        waiting.contains(" T ") && others(&forkhorn).len() == 1
    });
    kill(warm, Signal::SIGKILL).expect("it is there");
    let response = connection.read_response();
    assert_eq!(response.status, 200);
    assert_ne!(response.text().split(' ').next(), Some(warm.to_string().as_str()));
    assert_eq!(forkhorn.folder.read("cgi-bin/runs"), "x", "it has run once");
}

#[test]
fn a_warm_interpreter_that_does_not_answer_is_given_up() {
    let forkhorn =
        Forkhorn::new().script("parent", parent("perl")).cgi_folder().args(["--warm", "perl"]).start();
    let warm = warm_parent(&forkhorn, "parent");
    kill(Pid::from_raw(warm), Signal::SIGSTOP).expect("it runs");
    assert_ne!(ask(&forkhorn, "parent"), warm.to_string());
    wait_until("it is gone", || process(warm).is_none());
}

#[test]
fn a_warm_interpreter_is_replaced_after_so_many_requests() {
    for language in ["python", "perl"] {
        let forkhorn = Forkhorn::new()
            .script("parent", parent(language))
            .cgi_folder()
            .args(["--warm", language, "--warm-max-forks", "3", "--warm-no-learning"])
            .start();
        let first = warm_parent(&forkhorn, "parent");
        wait_until("another one serves", || warm_parent(&forkhorn, "parent") != first);
        wait_until("the first is gone", || process(first).is_none());
    }
}

#[test]
fn a_warm_interpreter_is_replaced_when_its_file_changes() {
    let forkhorn = Forkhorn::new();
    let link = forkhorn.folder.join("perl");
    std::os::unix::fs::symlink("/usr/bin/perl", &link).expect("a link");
    let script = parent("perl").replace("/usr/bin/perl", &link.display().to_string());
    let forkhorn = forkhorn.script("parent", script).cgi_folder().args(["--warm", "perl"]).start();
    let first = warm_parent(&forkhorn, "parent");
    fs::remove_file(&link).expect("ours");
    fs::copy("/usr/bin/perl", &link).expect("a copy");
    wait_until("another one serves", || warm_parent(&forkhorn, "parent") != first);
    forkhorn.wait_for_log("the interpreter's file has changed");
}

#[test]
fn a_script_that_changes_is_seen_to_at_once() {
    for (language, script) in [("python", python_script("print(1)")), ("perl", perl_script("print 1;"))] {
        let forkhorn = Forkhorn::new()
            .script("x", &script)
            .script("parent", parent(language))
            .cgi_folder()
            .args(["--warm", language])
            .start();
        let path = forkhorn.folder.join("cgi-bin/x");
        let set_time = |seconds: u64| {
            let time = SystemTime::now() - Duration::from_secs(seconds);
            File::options().write(true).open(&path).and_then(|file| file.set_modified(time)).expect("set");
        };
        // Old enough to be kept in its compiled form.
        set_time(1000);
        warm_parent(&forkhorn, "parent");
        for _ in 0..4 {
            assert_eq!(ask(&forkhorn, "x"), "1");
        }
        fs::write(&path, script.replace("print(1)", "print(2)").replace("print 1", "print 2")).expect("ours");
        assert_eq!(ask(&forkhorn, "x"), "2", "of the same size, but of another time");
    }
}

#[test]
fn what_one_request_does_is_not_seen_by_the_next() {
    let python = python_script(
        "import builtins, random\nprint(getattr(builtins, 'left', None), os.environ.get('LEFT'), os.getcwd(), sys.argv)\n\
         builtins.left = os.environ['LEFT'] = 'left'; sys.argv.append('left'); os.umask(0); os.chdir('/')\n\
         print(os.getpid() == os.getpgrp(), sorted(os.listdir('/proc/self/fd')))\nprint(random.random())",
    );
    let perl = perl_script(
        "print join('|', $main::left // '-', $ENV{LEFT} // '-', @ARGV, $? , $!+0, $/, umask), \"\\n\";\n\
         $main::left = $ENV{LEFT} = 'left'; @ARGV = ('left'); $? = 256; umask 0; chdir '/'; undef $/;\n\
         print rand, \"\\n\"; system 'exit 3'; $! = 5;",
    );
    for (language, warm, script) in [("python", "python", python), ("perl", "perl:Chance", perl)] {
        for spares in ["0", "2"] {
            let forkhorn = Forkhorn::new()
                .script("x", &script)
                .script("parent", parent(language))
                .cgi_folder()
                .args(["--warm", warm, "--warm-spares", spares]);
            // Random numbers have begun before the interpreter is copied.
            forkhorn.folder.write("cgi-bin/Chance.pm", "package Chance; our $first = rand; 1;\n");
            let modules = format!("PERL5LIB={}", forkhorn.folder.join("cgi-bin").display());
            let forkhorn = forkhorn.args(["--cgi-env", &modules]).start();
            let classic = ask(&forkhorn, "x");
            warm_parent(&forkhorn, "parent");
            let answers: Vec<String> = (0..4).map(|_| ask(&forkhorn, "x")).collect();
            for answer in &answers {
                let but_the_number = |text: &str| text.rsplit_once('\n').unwrap_or_default().0.to_owned();
                assert_eq!(but_the_number(answer), but_the_number(&classic), "{language} {answers:?}");
                assert!(!answer.contains("left"), "{answers:?}");
            }
            let numbers: std::collections::BTreeSet<_> = answers.iter().collect();
            assert_eq!(numbers.len(), answers.len(), "random numbers repeat: {answers:?}");
        }
    }
}

#[test]
fn a_script_that_looks_through_its_interpreter_finds_nothing_of_another_request() {
    let looking = python_script(
        "secret, seen, found = 'brought by ' + 'another', {id(globals()): 0}, []\n\
         def look(value):\n\
         \x20   if id(value) in seen or len(seen) > 100000: return\n\
         \x20   seen[id(value)] = value\n\
         \x20   if isinstance(value, (bytes, bytearray)):\n\
         \x20       if secret.encode() in bytes(value): found.append(value)\n\
         \x20   elif isinstance(value, str):\n\
         \x20       if secret in value: found.append(value)\n\
         \x20   elif isinstance(value, dict): look(list(value.items()))\n\
         \x20   elif isinstance(value, (list, tuple, set)):\n\
         \x20       for item in list(value): look(item)\n\
         \x20   elif type(value).__module__ == '_forkhorn_warm' or isinstance(value, type): look(dict(vars(value)))\n\
         frame = sys._getframe().f_back\n\
         while frame:\n\
         \x20   look(frame.f_locals), look(frame.f_globals)\n\
         \x20   frame = frame.f_back\n\
         print(len(seen) > 100, found)",
    );
    for spares in ["0", "2"] {
        let forkhorn = Forkhorn::new()
            .script("looking", &looking)
            .script("parent", parent("python"))
            .cgi_folder()
            .args(["--warm", "python", "--warm-spares", spares, "--warm-no-learning"])
            .start();
        warm_parent(&forkhorn, "parent");
        for _ in 0..4 {
            let mut connection = forkhorn.connect();
            let padding = "x".repeat(3000);
            let fields = [("X-Padding", padding.as_str()), ("X-Secret", "brought by another")];
            connection.send(request_bytes("GET", "/cgi-bin/parent", &fields, b""));
            assert_eq!(connection.read_response().status, 200);
            assert_eq!(ask(&forkhorn, "looking"), "True []");
        }
    }
}

#[test]
fn spare_children_take_requests_and_are_made_anew() {
    for language in ["python", "perl"] {
        let forkhorn = Forkhorn::new()
            .script("parent", parent(language))
            .cgi_folder()
            .args(["--warm", language, "--warm-spares", "3", "--warm-no-learning"])
            .start();
        let warm = warm_parent(&forkhorn, "parent");
        for _ in 0..20 {
            assert_eq!(ask(&forkhorn, "parent"), warm.to_string());
        }
        // The warm interpreter, and those that wait.
        wait_until("three wait", || others(&forkhorn).len() == 4);
    }
}

#[test]
fn a_warm_script_over_its_time_is_ended_with_its_whole_group() {
    for (language, script) in [
        ("python", python_script("sys.stdout.flush()\nos.system('sleep 1000 & sleep 1001')")),
        (
            "perl",
            perl_script("$| = 1; $SIG{TERM} = 'IGNORE'; system 'sleep 1000 & sleep 1001'; sleep 1 while 1;"),
        ),
    ] {
        let forkhorn = Forkhorn::new()
            .script("x", &script)
            .script("parent", parent(language))
            .cgi_folder()
            .args(["--warm", language, "--cgi-timeout", "0.5"])
            .start();
        let warm = warm_parent(&forkhorn, "parent");
        let response = forkhorn.get("/cgi-bin/x");
        assert!(!response.complete || response.status == 504);
        forkhorn.wait_for_log("x[*over its 0.5 seconds");
        wait_until("only the warm interpreter is left", || {
            let others = others(&forkhorn);
            others.len() == 1 && others[0].pid == warm
        });
        assert_eq!(ask(&forkhorn, "parent"), warm.to_string(), "and it serves");
    }
}

#[test]
fn a_warm_script_ends_when_its_client_has_gone() {
    let script = python_script("sys.stdout.flush()\nos.system('sleep 1000')");
    let forkhorn = Forkhorn::new()
        .script("x", script)
        .script("parent", parent("python"))
        .cgi_folder()
        .args(["--warm", "python"])
        .start();
    warm_parent(&forkhorn, "parent");
    let mut connection = forkhorn.connect();
    connection.send(request_bytes("GET", "/cgi-bin/x", &[], b""));
    wait_until("it runs", || others(&forkhorn).iter().any(|process| process.name == "sleep"));
    drop(connection);
    wait_until("only the warm interpreter is left", || others(&forkhorn).len() == 1);
}

#[test]
fn other_flags_and_interpreters_run_the_classic_way() {
    let taint = "#!/usr/bin/perl -T\nprint \"Content-Type: text/plain\\n\\n${^TAINT} \", getppid();\n";
    let forkhorn = Forkhorn::new()
        .script("taint", taint)
        .script("parent", parent("perl"))
        .script("shell", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; echo $PPID")
        .script("other", parent("python"))
        .cgi_folder()
        .args(["--warm", "/usr/bin/perl"])
        .start();
    warm_parent(&forkhorn, "parent");
    let worker = forkhorn
        .family()
        .into_iter()
        .find(|process| process.pid != forkhorn.pid() && process.name == "forkhorn-w0");
    let worker = worker.expect("a worker").pid;
    for _ in 0..2 {
        assert_eq!(ask(&forkhorn, "taint"), format!("1 {worker}"));
        assert_eq!(ask(&forkhorn, "shell"), worker.to_string());
        assert_eq!(ask(&forkhorn, "other"), worker.to_string());
    }
}

#[test]
fn warm_interpreters_end_with_their_worker() {
    let mut forkhorn = Forkhorn::new()
        .script("perl", parent("perl"))
        .script("python", parent("python"))
        .cgi_folder()
        .args(["--warm", "perl,python", "--warm-spares", "2"])
        .start();
    let interpreters = [warm_parent(&forkhorn, "perl"), warm_parent(&forkhorn, "python")];
    let worker = forkhorn
        .family()
        .into_iter()
        .find(|process| process.pid != forkhorn.pid() && process.name == "forkhorn-w0");
    kill(Pid::from_raw(worker.expect("a worker").pid), Signal::SIGKILL).expect("it runs");
    for pid in interpreters {
        wait_until("it is gone", || process(pid).is_none());
    }
    warm_parent(&forkhorn, "perl");
    forkhorn.may_end();
}
