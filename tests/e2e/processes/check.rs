//! `forkhorn check`: the exit code and the words that `serve` would have, without serving.

use crate::support::folder::set_mode;
use crate::support::forkhorn::{require_bridge, run};
use crate::support::process::processes;
use crate::support::python::default_python;
use crate::support::{Folder, fixture};

fn check(arguments: &[&str]) -> (i32, String, String) {
    require_bridge();
    let python = default_python().display().to_string();
    run(&[&["check"], arguments, &["--python", &python]].concat())
}

#[test]
fn what_would_come_up_is_well() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let taken = taken.local_addr().expect("bound").to_string();
    let folder = Folder::new();
    let socket = format!("unix:{}/x.sock", folder.path().display());
    folder.script("cgi/x.sh", "#!/bin/sh\n");
    let cgi = format!("/c={}/cgi", folder.path().display());
    let app = fixture("wsgi/hello.py").display().to_string();
    let (code, told, errors) =
        check(&[&app, "--http", &taken, "--http", "127.0.0.1:0", "--fastcgi", &socket, "--cgi", &cgi]);
    assert_eq!((code, errors.as_str()), (0, ""), "{told}");
    for line in [
        "the options are right",
        &format!("{taken} is "),
        "127.0.0.1:0 is free",
        "x.sock can be made",
        "1 script in ",
        "the application can be loaded",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!folder.join("x.sock").exists(), "nothing stays");
}

#[test]
fn what_would_not_come_up_is_named_with_the_exit_code_of_serve() {
    let folder = Folder::new();
    let app = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let broken = app("broken.py", "import not_there\n");
    let ends = app("ends.py", "import os\nos._exit(9)\n");
    let hangs = app("hangs.py", "import time\ntime.sleep(600)\n");
    let good = fixture("wsgi/hello.py").display().to_string();
    let config = app("site.toml", "worker = 1");
    set_mode(&folder.write("cgi/x.sh", "#!/bin/sh\n"), 0o644);
    let cgi = format!("/c={}/cgi", folder.path().display());
    for (arguments, expected, word) in [
        (&["--http", "nonsense", &good][..], 2, "nonsense"),
        (&["--config", &config, &good], 2, "site.toml:1: there is no option 'worker'"),
        (&[&broken], 3, "No module named 'not_there'"),
        (&[&ends], 3, "the interpreter exited with status 9 while it loaded"),
        (&[&hangs, "--upgrade-timeout", "0.5"], 3, "it has not been loaded after 0.5 s"),
        (&[&good, "--http", "unix:/not/there/x.sock"], 1, "cannot listen on unix:/not/there/x.sock"),
        (&["--cgi", &cgi], 1, "x.sh: it begins with #!, but may not be run"),
    ] {
        let (code, _, errors) = check(arguments);
        assert_eq!(code, expected, "{arguments:?}: {errors}");
        assert!(errors.contains(word), "{word}: {errors}");
    }
    let own = std::process::id() as i32;
    let python = |entry: &crate::support::process::ProcessEntry| {
        std::fs::read_to_string(format!("/proc/{}/cmdline", entry.pid))
            .is_ok_and(|line| line.contains(&hangs))
    };
    assert!(!processes().iter().any(|entry| entry.pid != own && python(entry)), "nothing stays");
}

#[test]
fn an_application_that_can_not_be_copied_is_well_too() {
    let app = fixture("wsgi/unsafe_to_copy.py").display().to_string();
    let (code, told, errors) = check(&[&app]);
    assert_eq!(code, 0, "{errors}");
    assert!(told.contains("the application can be loaded"), "{told}");
}
