//! What a file may say, and how what it may not say is refused.

use clap::CommandFactory;

use super::*;
use crate::cli::Cli;

fn serve() -> Command {
    let mut command = Cli::command();
    command.build();
    command.find_subcommand("serve").expect("serve").clone()
}

/// The words that the command line would have for it.
fn read_text_as_file(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("site.toml");
    std::fs::write(&path, text).expect("written");
    let place = format!("{}/", dir.path().display());
    let file = ConfigFile::read(&path, &serve()).map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        error.to_string().replace(&place, "")
    })?;
    let told = |value: &OsString| value.to_str().expect("text").replace(&place, "HERE/");
    Ok(file.entries.iter().map(|entry| (entry.id.clone(), entry.values.iter().map(told).collect())).collect())
}

#[test]
fn every_kind_of_value_becomes_the_words_of_the_command_line() {
    for (text, id, expected) in [
        ("app = 'shop.wsgi:app'", "app", &["shop.wsgi:app"][..]),
        ("app = 'shop/wsgi.py:app'", "app", &["HERE/shop/wsgi.py:app"]),
        ("app = '/srv/wsgi.py'", "app", &["/srv/wsgi.py"]),
        ("workers = 4", "workers", &["4"]),
        ("workers = 0x10", "workers", &["16"]),
        ("max-body = 1_000_000", "max_body", &["1000000"]),
        ("timeout = 1.5", "timeout", &["1.5"]),
        ("timeout = 30", "timeout", &["30"]),
        ("preload = 'never'", "preload", &["never"]),
        ("cgi-pass-authorization = true", "cgi_pass_authorization", &["true"]),
        ("http = ['127.0.0.1:80', 'unix:run/a.sock']", "http", &["127.0.0.1:80", "unix:HERE/run/a.sock"]),
        ("http = ':80'", "http", &[":80"]),
        ("http = []", "http", &[]),
        ("fastcgi = ['unix:/run/a.sock', 'fd:0']", "fastcgi", &["unix:/run/a.sock", "fd:0"]),
        ("cgi = ['/cgi-bin=scripts']", "cgi", &["/cgi-bin=HERE/scripts"]),
        ("[cgi]\n'/cgi-bin' = 'scripts'", "cgi", &["/cgi-bin=HERE/scripts"]),
        ("[static]\n'/a' = '/srv/a'\n'/b' = 'b'", "static_files", &["/a=/srv/a", "/b=HERE/b"]),
        ("mount = ['/api=api:app', '/x=x.py']", "mount", &["/api=api:app", "/x=HERE/x.py"]),
        ("env = { A = '1', B = 'x=y' }", "env", &["A=1", "B=x=y"]),
        ("env = ['A=b/c']", "env", &["A=b/c"]),
        ("python = 'python3.12'", "python", &["python3.12"]),
        ("python = 'venv/bin/python'", "python", &["HERE/venv/bin/python"]),
        ("virtualenv = 'venv'", "virtualenv", &["HERE/venv"]),
        ("access-log = '-'", "access_log", &["-"]),
        ("access-log = 'log'", "access_log", &["HERE/log"]),
        ("umask = '027'", "umask", &["027"]),
    ] {
        let expected: Vec<String> = expected.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(read_text_as_file(text), Ok(vec![(id.to_owned(), expected)]), "{text}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    for (text, expected) in [
        ("\n\nworkes = 4", "site.toml:3: there is no option 'workes': did you mean 'workers'?"),
        ("max_body = 4", "site.toml:1: there is no option 'max_body': did you mean 'max-body'?"),
        ("--timeout = 4", "site.toml:1: there is no option '--timeout': did you mean 'timeout'?"),
        ("zzzz = 4", "site.toml:1: there is no option 'zzzz'"),
        ("config = 'x'", "site.toml:1: 'config' is for the command line only"),
        ("threads = '4'", "site.toml:1: 'threads': expected a number, found the text \"4\""),
        ("workers = true", "site.toml:1: 'workers': expected a number, or a text in quotes, found true"),
        ("umask = 22", "site.toml:1: 'umask': expected a text in quotes, found the number 22"),
        ("timeout = true", "site.toml:1: 'timeout': expected a number, found true"),
        (
            "cgi-pass-authorization = 1",
            "site.toml:1: 'cgi-pass-authorization': expected true or false, found the number 1",
        ),
        ("app = 2001-02-03", "site.toml:1: 'app': expected a text in quotes, found the time 2001-02-03"),
        ("workers = [1, 2]", "site.toml:1: 'workers' takes one value, not a list"),
        ("http = [['a']]", "site.toml:1: 'http': expected a text in quotes, found a list"),
        (
            "[limits]\nmax-body = 1",
            "site.toml:1: there are no sections: options stand side by side, without [limits]",
        ),
        (
            "bind = ':80'",
            "site.toml:1: there is no option 'bind': bind of Gunicorn is here: --http ADDR, or --fastcgi ADDR behind \
             a web server",
        ),
        (
            "[cgi]\n'/cgi-bin' = 'x'\n\nworkers = 4",
            "site.toml:4: 'workers' stands below [cgi], and is no URL prefix: if it is an option, write it above [cgi]",
        ),
        ("[env]\nA = 'b'\nB = 4", "site.toml:3: 'env.B': expected a text in quotes, found the number 4"),
        (
            "[http]\na = 'b'",
            "site.toml:1: 'http' is not a section: options stand side by side, without [http]",
        ),
        ("app = \"a\\u0000b\"", "site.toml:1: 'app': the text holds a NUL"),
        ("threads = 0", "site.toml:1: invalid value '0' for '--threads <COUNT>': expected 1 or more"),
        (
            "threads = -3",
            "site.toml:1: invalid value '-3' for '--threads <COUNT>': expected a whole number such as 30, without a unit",
        ),
        (
            "preload = 'maybe'",
            "site.toml:1: invalid value 'maybe' for '--preload <WHEN>' [possible values: auto, always, never]",
        ),
    ] {
        assert_eq!(read_text_as_file(text).expect_err(text), expected);
    }
    for text in ["workers = ", "a\nb", "workers = 1\nworkers = 2", "\u{feff}\0", "a = \"\\x\""] {
        let error = read_text_as_file(text).expect_err(text);
        assert!(error.starts_with("site.toml:"), "{error}");
    }
}

#[test]
fn a_file_that_can_not_be_read_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let long = dir.path().join("long.toml");
    std::fs::write(&long, " ".repeat(MAX_BYTES as usize + 1)).expect("written");
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"\xff").expect("written");
    for path in [&dir.path().join("missing"), dir.path(), &long, &binary] {
        let error = ConfigFile::read(path, &serve()).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("--config {}: ", path.display())), "{error}");
    }
}

/// Options that are added later are tried too: each can stand in a file under its long name.
#[test]
fn every_option_of_the_command_line_is_one_of_the_file() {
    for option in serve().get_arguments().filter(|option| !option.is_hide_set()) {
        let key = option.get_long().unwrap_or_else(|| option.get_id().as_str());
        if NOT_HERE.contains(&key) {
            continue;
        }
        let possible = option.get_possible_values().first().map(|value| format!("'{}'", value.get_name()));
        let value = match expected(option) {
            Expected::Switch => "true".to_owned(),
            Expected::Number | Expected::NumberOrText => "1".to_owned(),
            Expected::Text => possible.unwrap_or_else(|| "'a=b'".to_owned()),
        };
        // One that has a syntax of its own may refuse the value, but not the key.
        if let Err(error) = read_text_as_file(&format!("{key} = {value}")) {
            assert!(error.contains("invalid value"), "{key}: {error}");
        }
    }
}
