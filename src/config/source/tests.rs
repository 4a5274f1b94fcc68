//! Who wins: the command line, the environment, the file, the default.

use super::*;

fn source(dir: &tempfile::TempDir, text: &str, arguments: &[&str]) -> Source {
    let path = dir.path().join("site.toml");
    std::fs::write(&path, text).expect("written");
    let words = ["forkhorn", "serve", "--config"].map(OsString::from).into_iter().chain([path.into()]);
    Source::new(words.chain(arguments.iter().map(OsString::from)))
}

fn serve(text: &str, arguments: &[&str]) -> Serve {
    let dir = tempfile::tempdir().expect("a directory");
    let options = source(&dir, text, arguments).read().expect("options");
    match options.into_command().0 {
        Command::Serve(serve) => *serve,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_command_line_wins_over_the_file_and_the_file_over_the_default() {
    let text = "timeout = 7\nhttp = ['127.0.0.1:1', '127.0.0.1:2']\ncgi-pass-authorization = true";
    let given = serve(text, &[]);
    assert_eq!((given.processes.timeout, given.processes.graceful_timeout), (7.0, 30.0));
    assert_eq!(given.listeners.http, ["127.0.0.1:1", "127.0.0.1:2"]);
    assert!(given.cgi.cgi_pass_authorization);
    let given = serve(text, &["--timeout", "8", "--http", "127.0.0.1:3"]);
    assert_eq!(given.processes.timeout, 8.0);
    assert_eq!(given.listeners.http, ["127.0.0.1:3"]);
    assert!(!serve("cgi-pass-authorization = false", &[]).cgi.cgi_pass_authorization);
    assert_eq!(serve("app = 'a:b'", &[]).app.as_deref(), Some("a:b"));
    assert_eq!(serve("app = 'a:b'", &["c:d"]).app.as_deref(), Some("c:d"));
}

#[test]
fn an_error_that_is_found_later_names_the_line_too() {
    let dir = tempfile::tempdir().expect("a directory");
    for (text, arguments, expected) in [
        ("\nhttp = 'nonsense'\nstatic = '/=/'", &[][..], "site.toml:2: --http nonsense: "),
        ("[cgi]\n'/x' = '/not/there'", &[], "site.toml:1: --cgi /not/there: "),
        ("app = 'a-b:c'", &[], "site.toml:1: application 'a-b:c': "),
        ("timeout = -1\nstatic = '/=/'", &[], "site.toml:1: --timeout -1: "),
        ("workers = 2\nstatic = '/=/'", &["--timeout=-1"], "--timeout -1: "),
    ] {
        let error = source(&dir, text, arguments).resolve().expect_err(text);
        let told = error.to_string().replace(&format!("{}/", dir.path().display()), "");
        assert!(told.starts_with(expected), "{told}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn the_file_is_read_anew_each_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let static_files = format!("static = ['/={}']\n", dir.path().display());
    let source = source(&dir, &static_files, &[]);
    assert_eq!(source.resolve().expect("a configuration").limits.max_queue, 1024);
    std::fs::write(dir.path().join("site.toml"), static_files + "max-queue = 7").expect("written");
    assert_eq!(source.resolve().expect("a configuration").limits.max_queue, 7);
    std::fs::write(dir.path().join("site.toml"), "max-queue = 'x'").expect("written");
    assert!(source.resolve().is_err());
}
