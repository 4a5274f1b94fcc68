//! The configuration file: what is served from it, who wins over it, how its errors are told.

use crate::support::{Forkhorn, fixture};

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
