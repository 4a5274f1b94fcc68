//! The configuration file: what is served from it, who wins over it, how its errors are told.

use std::os::unix::fs::MetadataExt;

use nix::sys::signal::Signal;

use crate::support::python::default_python;
use crate::support::{Address, Connection, Forkhorn, fixture, wait_until};

#[test]
fn all_options_can_come_from_a_file_whose_paths_start_at_its_directory() {
    let forkhorn = Forkhorn::new();
    forkhorn
        .folder
        .script("site/cgi-bin/x.sh", "#!/bin/sh\nprintf 'Content-Type: a/b\\n\\n'; echo \"$FROM_FILE\"\n");
    forkhorn.folder.write("site/files/a.txt", "plain");
    let config = forkhorn.folder.write(
        "site/forkhorn.toml",
        "http = ['127.0.0.1:0', 'unix:site.sock']\n\
         cgi-env = { FROM_FILE = 'yes' }\n\
         [cgi]\n\
         '/cgi-bin' = 'cgi-bin'\n\
         [static]\n\
         '/files' = 'files'\n",
    );
    let elsewhere = forkhorn.folder.folder("elsewhere");
    let socket = forkhorn.folder.join("site/site.sock");
    let forkhorn = forkhorn.no_listener().directory(&elsewhere).arg("--config").arg(&config).start();
    let line = forkhorn.wait_for_log("listening on http 127.0.0.1:");
    let address = line.rsplit(' ').next().expect("an address").parse().expect("an address");
    for address in [crate::support::Address::Tcp(address), crate::support::Address::Unix(socket)] {
        assert_eq!(crate::support::http::get(&address, "/cgi-bin/x.sh").text(), "yes\n");
        assert_eq!(crate::support::http::get(&address, "/files/a.txt").text(), "plain");
    }
}

#[test]
fn the_command_line_wins_over_the_environment_and_the_environment_over_the_file() {
    let start = |threads: Option<&str>, args: &[&str]| {
        let mut forkhorn = Forkhorn::new();
        let config = forkhorn.folder.write("forkhorn.toml", "threads = 2\nenv = ['SET=file']\n");
        forkhorn = forkhorn.code(
            "import os\n\
             def application(environ, start_response):\n\
             \x20   start_response('200 OK', [])\n\
             \x20   return [f\"{environ['wsgi.multithread']} {os.environ['SET']}\".encode()]\n",
        );
        forkhorn = forkhorn.arg("--config").arg(config);
        forkhorn = args.iter().fold(forkhorn, |forkhorn, arg| forkhorn.arg(*arg));
        if let Some(threads) = threads {
            forkhorn = forkhorn.env("FORKHORN_THREADS", threads);
        }
        forkhorn.start().get("/").text()
    };
    assert_eq!(start(None, &[]), "True file");
    assert_eq!(start(Some("1"), &[]), "False file");
    assert_eq!(start(Some("1"), &["--threads", "3", "--env", "SET=line"]), "True line");
}

#[test]
fn variables_of_the_application_can_come_from_files() {
    let forkhorn = Forkhorn::new().code(
        "import os\n\
         def application(environ, start_response):\n\
         \x20   start_response('200 OK', [])\n\
         \x20   return [' '.join(os.environ[name] for name in ('A', 'B', 'C')).encode()]\n",
    );
    let one = forkhorn.folder.write("one.env", "# first\nA=one\nB='one'\nC=one\n");
    let two = forkhorn.folder.write("two.env", "B=two\nC=two\n");
    let forkhorn = forkhorn.arg("--env-file").arg(one).arg("--env-file").arg(two).args(["--env", "C=three"]);
    assert_eq!(forkhorn.start().get("/").text(), "one two three");
}

#[test]
fn an_error_in_the_file_ends_with_2_and_names_the_line() {
    for (text, told) in [
        ("\nworker = 3", "forkhorn.toml:2: there is no option 'worker': did you mean 'workers'?"),
        ("app = 'a:b'\ntimeout = 'x'", "forkhorn.toml:2: 'timeout': expected a number, found the text \"x\""),
        ("http = 'nonsense'", "forkhorn.toml:1: --http nonsense: expected HOST:PORT"),
        ("[cgi]\n'/x' = 'not-there'", "forkhorn.toml:1: --cgi "),
        ("= 3", "forkhorn.toml:1: "),
    ] {
        let forkhorn = Forkhorn::new().no_listener();
        let config = forkhorn.folder.write("forkhorn.toml", text);
        let files = fixture("wsgi");
        let (code, log) =
            forkhorn.arg("--config").arg(config).mount_path("--static", "/s", &files).run_to_exit();
        assert_eq!(code, 2, "{log}");
        assert!(log.contains(told), "{log}");
    }
}

/// Answers with the number that the configuration has set.
const SHOWS_NUMBER: &str = "import os\n\
     def application(environ, start_response):\n\
     \x20   start_response('200 OK', [])\n\
     \x20   return [os.environ['NUMBER'].encode()]\n";

#[test]
fn a_reload_reads_the_file_and_the_environment_files_anew() {
    let forkhorn = Forkhorn::new().code(SHOWS_NUMBER);
    let config = forkhorn.folder.write("forkhorn.toml", "env-file = 'site.env'");
    forkhorn.folder.write("site.env", "NUMBER=1");
    let forkhorn = forkhorn.arg("--config").arg(&config).start();
    assert_eq!(forkhorn.get("/").text(), "1");
    forkhorn.folder.write("site.env", "NUMBER=2");
    forkhorn.signal(Signal::SIGHUP);
    wait_until("the new value", || forkhorn.get("/").text() == "2");
    forkhorn.folder.write("forkhorn.toml", "env-file = 'site.env'\nenv = ['NUMBER=3']");
    forkhorn.signal(Signal::SIGHUP);
    wait_until("the new option", || forkhorn.get("/").text() == "3");
}

#[test]
fn a_broken_file_is_refused_at_a_reload_and_the_old_configuration_goes_on() {
    let forkhorn = Forkhorn::new().code(SHOWS_NUMBER);
    let good = "env = ['NUMBER=1']";
    let config = forkhorn.folder.write("forkhorn.toml", good);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let taken = format!("http = '{}'", taken.local_addr().expect("bound"));
    let forkhorn = forkhorn.arg("--config").arg(&config).start();
    let pids = || forkhorn.family().iter().map(|process| process.pid).collect::<Vec<_>>();
    let old = pids();
    for (count, (broken, told)) in (1..).zip([
        ("workers = 'many'", "forkhorn.toml:1: invalid value 'many'"),
        ("nonsense", "forkhorn.toml:1: "),
        ("virtualenv = 'not-there'", "forkhorn.toml:1: --virtualenv "),
        (&taken, "another process listens there"),
    ]) {
        // The command line names a listener: only another key than `http` in the file counts.
        let broken = broken.replace("http = ", "fastcgi = ");
        forkhorn.folder.write("forkhorn.toml", format!("{broken}\n{good}"));
        forkhorn.signal(Signal::SIGHUP);
        let line = forkhorn.server.log.wait_for_nth("reload refused, generation 0 goes on serving: ", count);
        assert!(line.contains(told), "{line}");
        assert_eq!(forkhorn.get("/").text(), "1");
    }
    std::fs::remove_file(&config).expect("removed");
    forkhorn.signal(Signal::SIGHUP);
    forkhorn.wait_for_log("reload refused*forkhorn.toml: No such file");
    assert_eq!(pids(), old, "no process was started");
    forkhorn.folder.write("forkhorn.toml", "env = ['NUMBER=2']");
    forkhorn.signal(Signal::SIGHUP);
    wait_until("the good file", || forkhorn.get("/").text() == "2");
}

#[test]
fn a_reload_opens_new_listeners_closes_old_ones_and_keeps_the_others() {
    let forkhorn = Forkhorn::new().wsgi("probe.py");
    let path = |name: &str| forkhorn.folder.join(name);
    let (stays, goes, comes) = (path("stays.sock"), path("goes.sock"), path("comes.sock"));
    let config =
        forkhorn.folder.write("forkhorn.toml", "http = ['127.0.0.1:0', 'unix:stays.sock', 'unix:goes.sock']");
    let forkhorn = forkhorn.no_listener().arg("--config").arg(&config).start();
    let line = forkhorn.wait_for_log("listening on http 127.0.0.1:");
    let tcp = Address::Tcp(line.rsplit(' ').next().expect("an address").parse().expect("an address"));
    let inode = std::fs::metadata(&stays).expect("a socket").ino();
    let mut kept = Connection::open(&Address::Unix(stays.clone()));
    assert_eq!(kept.get("/pid").status, 200);
    forkhorn.folder.write(
        "forkhorn.toml",
        "http = ['unix:comes.sock', '127.0.0.1:0', 'unix:stays.sock']\nfastcgi = ['127.0.0.1:0']",
    );
    forkhorn.signal(Signal::SIGHUP);
    forkhorn.wait_for_log("worker 0 generation 1 ready");
    for address in [&Address::Unix(comes), &Address::Unix(stays.clone()), &tcp] {
        assert_eq!(crate::support::http::get(address, "/pid").status, 200, "{address:?}");
    }
    wait_until("the listener that is not named any more is gone", || !goes.exists());
    assert_eq!(std::fs::metadata(&stays).expect("a socket").ino(), inode, "it was not opened again");
    assert_eq!(kept.get("/pid").status, 200, "a kept connection goes on");
    let line = forkhorn.wait_for_log("listening on fastcgi 127.0.0.1:");
    let fastcgi = Address::Tcp(line.rsplit(' ').next().expect("an address").parse().expect("an address"));
    let request = crate::support::fastcgi::Request::new("GET", "/pid");
    assert_eq!(crate::support::fastcgi::request(&fastcgi, &request).response().status, 200);
}

#[test]
fn what_can_not_change_while_it_runs_is_said() {
    let forkhorn = Forkhorn::new().code(SHOWS_NUMBER);
    let config = forkhorn.folder.write("forkhorn.toml", "env = ['NUMBER=1']\npid-file = 'one.pid'");
    let forkhorn = forkhorn.arg("--config").arg(&config).start();
    let pid = forkhorn.folder.read("one.pid");
    forkhorn.folder.write("forkhorn.toml", "env = ['NUMBER=2']\npid-file = 'two.pid'\numask = '077'");
    forkhorn.signal(Signal::SIGHUP);
    forkhorn.wait_for_log("reload: --pid-file can't change while forkhorn runs");
    forkhorn.wait_for_log("reload: --umask can't change while forkhorn runs");
    wait_until("the rest has changed", || forkhorn.get("/").text() == "2");
    assert_eq!(forkhorn.folder.read("one.pid"), pid);
    assert!(!forkhorn.folder.join("two.pid").exists());
}

#[test]
fn the_number_of_workers_changes_with_the_file() {
    let forkhorn = Forkhorn::new().wsgi("probe.py");
    let config = forkhorn.folder.write("forkhorn.toml", "http = '127.0.0.1:0'\nworkers = 1");
    let line = format!("forkhorn serve --config {} --python ", config.display());
    let app = fixture("wsgi/probe.py");
    let line = line + &default_python().display().to_string() + " " + &app.display().to_string();
    let forkhorn = forkhorn.plain_command_line(&line).start();
    forkhorn.folder.write("forkhorn.toml", "http = '127.0.0.1:0'\nworkers = 3");
    forkhorn.signal(Signal::SIGHUP);
    for slot in 0..3 {
        forkhorn.wait_for_log(&format!("worker {slot} generation 1 ready"));
    }
}
