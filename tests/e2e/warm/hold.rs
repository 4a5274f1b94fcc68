//! What holds for classic scripts holds for copies of a warm interpreter: limits, users, answers under load and reload.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use super::life::{ask, others, parent, perl_script, python_script, warm_parent};
use crate::support::http::request_bytes;
use crate::support::process::{descriptor_count, process};
use crate::support::{Forkhorn, Running, wait_until};

const LANGUAGES: [&str; 2] = ["python", "perl"];

/// forkhorn with these scripts and the one that tells its parent, in one language.
fn serve(language: &str, scripts: &[(&str, String)], options: &[&str]) -> Running {
    let forkhorn = Forkhorn::new().script("parent", parent(language));
    let forkhorn = scripts.iter().fold(forkhorn, |forkhorn, (name, text)| forkhorn.script(name, text));
    let forkhorn = forkhorn.cgi_folder().args(["--warm", language]);
    options.iter().fold(forkhorn, |forkhorn, option| forkhorn.arg(*option)).start()
}

/// The processor time is limited by the worker, once it has heard that the script runs: waited for.
fn tell_limits(language: &str) -> String {
    match language {
        "python" => python_script(
            "import re\nlimits = ''\nwhile not re.search('cpu time +7', limits): limits = open('/proc/self/limits').read()\n\
             print('Nice', os.getpriority(0, 0))\nprint(limits)",
        ),
        _ => perl_script(
            "my $limits = ''; while ($limits !~ /cpu time +7/) { local (@ARGV, $/) = '/proc/self/limits'; $limits = <> }\n\
             print 'Nice ', getpriority(0, 0), qq(\\n), $limits;",
        ),
    }
}

/// Soft and hard limits, by the names that the kernel gives them.
fn limits(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let (name, rest) = line.split_at_checked(26)?;
        Some((name.trim().to_owned(), rest.split_whitespace().take(2).collect::<Vec<_>>().join(" ")))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn each_limit_is_set_for_copies_as_it_is_for_classic_scripts() {
    let options = [
        ("--cgi-limit-memory", "512"),
        ("--cgi-limit-cpu", "7"),
        ("--cgi-limit-processes", "1000"),
        ("--cgi-limit-files", "30"),
        ("--cgi-limit-file-size", "3"),
        ("--cgi-nice", "4"),
    ];
    let words: Vec<&str> = options.iter().flat_map(|(name, value)| [*name, *value]).collect();
    for language in LANGUAGES {
        let forkhorn = serve(language, &[("tell", tell_limits(language))], &words);
        let classic = forkhorn.get("/cgi-bin/tell").text();
        warm_parent(&forkhorn, "parent");
        let warm = forkhorn.get("/cgi-bin/tell").text();
        forkhorn.wait_for_log("tell*runs in a copy of a warm interpreter");
        assert_eq!(limits(&classic), limits(&warm), "{language}");
        assert_eq!(classic.lines().next(), warm.lines().next(), "{language}: how nice it is");
        assert_eq!(limits(&warm)["Max file size"], "3145728 3145728", "{language}");
    }
}

#[test]
fn a_copy_that_reaches_a_limit_is_502_and_the_interpreter_goes_on() {
    // Language, script, option, value, what the log says.
    let cases = [
        ("perl", "my $x = 'x' x (400 << 20);", "--cgi-limit-memory", "100", "Out of memory"),
        ("python", "x = bytearray(400 << 20)", "--cgi-limit-memory", "200", "MemoryError"),
        (
            "perl",
            "open my $f, '+>', undef or die $!; for (1 .. 1000) { syswrite $f, 'x' x 4096 or die $! }",
            "--cgi-limit-file-size",
            "1",
            "SIGXFSZ",
        ),
        (
            "perl",
            "my @f; for (1 .. 40) { open $f[$_], '<', '/dev/null' or die $! }",
            "--cgi-limit-files",
            "20",
            "Too many open files",
        ),
        (
            "python",
            "f = [open('/dev/null') for _ in range(40)]",
            "--cgi-limit-files",
            "20",
            "Too many open files",
        ),
    ];
    for (language, lines, option, value, said) in cases {
        // Without a header: what it does before it fails is not yet an answer.
        let script = match language {
            "python" => python_script("").replace("print('Content-Type: text/plain\\n')", lines),
            _ => format!("#!/usr/bin/perl\n{lines}\n"),
        };
        let forkhorn = serve(language, &[("greedy", script)], &[option, value]);
        let warm = warm_parent(&forkhorn, "parent");
        assert_eq!(forkhorn.get("/cgi-bin/greedy").status, 502, "{language} {option}");
        forkhorn.wait_for_log("greedy*runs in a copy of a warm interpreter");
        forkhorn.wait_for_log(said);
        assert_eq!(ask(&forkhorn, "parent"), warm.to_string(), "{language} {option}");
    }
}

#[test]
fn no_request_fails_when_warm_interpreters_are_killed_under_load() {
    for language in LANGUAGES {
        let forkhorn = serve(language, &[], &["--warm-spares", "1"]);
        warm_parent(&forkhorn, "parent");
        let killed = thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..15 {
                            ask(&forkhorn, "parent");
                        }
                    })
                })
                .collect();
            let mut killed = 0;
            while clients.iter().any(|client| !client.is_finished()) {
                for entry in others(&forkhorn) {
                    // Those that have said that they serve: neither a script nor one that starts.
                    if forkhorn.log().iter().any(|line| line.contains(&format!("pid {};", entry.pid))) {
                        killed += i32::from(kill(Pid::from_raw(entry.pid), Signal::SIGKILL).is_ok());
                    }
                }
                thread::yield_now();
            }
            killed
        });
        assert!(killed > 0, "{language}");
        warm_parent(&forkhorn, "parent");
    }
}

#[test]
fn more_requests_at_once_than_there_are_spares_are_all_answered() {
    for language in LANGUAGES {
        let forkhorn = serve(language, &[], &["--warm-spares", "1"]);
        let warm = warm_parent(&forkhorn, "parent");
        let mut connections: Vec<_> = (0..12).map(|_| forkhorn.connect()).collect();
        for connection in &mut connections {
            connection.send(request_bytes("GET", "/cgi-bin/parent", &[], b""));
        }
        for connection in &mut connections {
            let response = connection.read_response();
            assert!(response.status == 200 && response.complete, "{language}");
            assert_eq!(response.text().trim(), warm.to_string(), "{language}");
        }
    }
}

#[test]
fn a_warm_script_ends_its_answer_while_forkhorn_reloads() {
    for language in LANGUAGES {
        let lines = match language {
            "python" => python_script(
                "import time\nopen('runs', 'w').close()\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('end')",
            ),
            _ => perl_script(
                "open my $f, '>', 'runs'; select undef, undef, undef, 0.01 until -e 'go'; print qq(end\\n);",
            ),
        };
        let forkhorn = serve(language, &[("slow", lines)], &[]);
        let first = warm_parent(&forkhorn, "parent");
        let mut connection = forkhorn.connect();
        connection.send(request_bytes("GET", "/cgi-bin/slow", &[], b""));
        wait_until("it runs", || forkhorn.folder.join("cgi-bin/runs").exists());
        forkhorn.wait_for_log("slow*runs in a copy of a warm interpreter");
        forkhorn.signal(Signal::SIGHUP);
        wait_until("the new worker's interpreter serves", || warm_parent(&forkhorn, "parent") != first);
        fs::write(forkhorn.folder.join("cgi-bin/go"), "").expect("ours");
        let response = connection.read_response();
        assert_eq!((response.status, response.text().trim()), (200, "end"), "{language}");
        wait_until("the old one is gone", || process(first).is_none());
    }
}

#[test]
fn a_script_that_is_deleted_while_its_copy_is_waited_for_is_an_error_and_no_more() {
    for language in LANGUAGES {
        let forkhorn = serve(language, &[("x", parent(language))], &[]);
        let warm = warm_parent(&forkhorn, "parent");
        kill(Pid::from_raw(warm), Signal::SIGSTOP).expect("it runs");
        let worker = process(warm).expect("it is there").parent;
        let before = descriptor_count(worker);
        let mut connection = forkhorn.connect();
        connection.send(request_bytes("GET", "/cgi-bin/x", &[], b""));
        wait_until("the worker has made its pipes", || descriptor_count(worker) >= before + 3);
        fs::remove_file(forkhorn.folder.join("cgi-bin/x")).expect("ours");
        kill(Pid::from_raw(warm), Signal::SIGCONT).expect("it runs");
        let status = connection.read_response().status;
        assert!(status == 502 || status == 404, "{language}: {status}");
        assert_eq!(forkhorn.get("/cgi-bin/x").status, 404, "{language}");
        assert_eq!(ask(&forkhorn, "parent"), warm.to_string(), "{language}");
    }
}

#[test]
fn copies_run_as_the_user_that_scripts_run_as() {
    if !geteuid().is_root() {
        return;
    }
    let nobody = User::from_name("nobody").expect("the user database").expect("a user");
    let script = perl_script("print join(' ', $<, $>, (split ' ', $()[0], getppid), qq(\\n);");
    let forkhorn = serve("perl", &[("who", script)], &["--user", "nobody"]);
    let warm = warm_parent(&forkhorn, "parent");
    assert_eq!(ask(&forkhorn, "who"), format!("{0} {0} {1} {warm}", nobody.uid, nobody.gid));
}
