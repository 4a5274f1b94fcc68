//! What needs no process; the causes that execve(2) itself finds are in `cgi::tests`.

use super::super::{CgiTarget, Place, locate};
use super::*;
use crate::gateway::MetaVariables;

/// A script, found in the usual way.
fn script(directory: &Path, name: &str) -> Script {
    let target = CgiTarget {
        directory: directory.to_path_buf(),
        url_path: format!("/{name}").into_bytes(),
        place: Place::UrlPath { prefix_length: 0 },
    };
    locate(&target, &mut MetaVariables::default(), None).expect("it is there")
}

#[test]
fn every_errno_has_a_status_and_a_cause() {
    let script = script(Path::new("/usr/bin"), "env");
    for (errno, status, cause) in [
        (Errno::E2BIG, 502, "--max-head"),
        (Errno::ETXTBSY, 503, "writing to it"),
        (Errno::EAGAIN, 503, "ulimit -u"),
        (Errno::ENOMEM, 503, "no memory"),
        (Errno::EMFILE, 503, "ulimit -n"),
        (Errno::ENFILE, 503, "fs.file-max"),
        (Errno::ELOOP, 502, "chain"),
        (Errno::EIO, 502, "I/O error"),
        (Errno::ENOENT, 502, "loader or C library"),
        (Errno::EACCES, 403, "AppArmor, SELinux"),
        (Errno::EPERM, 403, "AppArmor, SELinux"),
    ] {
        let error = spawn_failure(&script, &io::Error::from_raw_os_error(errno as i32));
        assert_eq!(error.status(), status, "{error}");
        assert!(error.to_string().contains(cause), "{error}");
        assert!(error.to_string().starts_with("script /"), "{error}");
    }
}

#[test]
fn file_system_without_execution_is_told_from_the_others() {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is there");
    let mut options = std::collections::HashMap::new();
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        // The last one mounted on a directory hides the others.
        if let (Some(directory), Some(listed)) = (words.next(), words.nth(1)) {
            options.insert(directory, listed.split(',').any(|option| option == "noexec"));
        }
    }
    assert_eq!(options.get("/"), Some(&false));
    for (directory, expected) in options {
        if statvfs(Path::new(directory)).is_ok() {
            assert_eq!(is_noexec(Path::new(directory)), expected, "{directory}");
        }
    }
}

#[test]
fn hints_are_given_only_where_they_fit() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let root = directory.path().canonicalize().expect("it exists");
    for (name, text) in [("crlf", "#!/usr/bin/env sh\r\n"), ("lf", "#!/usr/bin/env sh\n")] {
        let file = root.join(name);
        fs::write(&file, text).expect("can be written");
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    }
    let (crlf, lf) = (script(&root, "crlf"), script(&root, "lf"));
    for (script, exit, stderr, expected) in [
        (&crlf, Exit::Status(127), b"env: 'sh\\r': No such file".as_slice(), "ends in CR LF"),
        (&crlf, Exit::Status(126), b"", "ends in CR LF"),
        (&crlf, Exit::Status(1), b"", ""),
        (&lf, Exit::Status(127), b"sh: 1: nonsense: not found\n", ""),
        (
            &lf,
            Exit::Status(127),
            b"/usr/bin/env: 'sh': No such file or directory\n",
            "the PATH that scripts get",
        ),
        (&lf, Exit::Status(1), b"ModuleNotFoundError: No module named 'cgi'\n", "legacy-cgi"),
        (&lf, Exit::Status(1), b"ModuleNotFoundError: No module named 'cgitb'\n", "legacy-cgi"),
        (&lf, Exit::Status(1), b"ModuleNotFoundError: No module named 'cgicc'\n", ""),
    ] {
        let hint = hint(script, Some(exit), stderr, &ScriptLimits::default()).unwrap_or_default();
        assert!(hint.contains(expected) && hint.is_empty() == expected.is_empty(), "{hint}, not {expected}");
    }
}

#[test]
fn a_limit_that_was_reached_is_named_if_it_was_set() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let root = directory.path().canonicalize().expect("it exists");
    fs::write(root.join("x"), "#!/bin/sh\n").expect("can be written");
    fs::set_permissions(root.join("x"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let script = script(&root, "x");
    let all = ScriptLimits {
        memory_bytes: Some(1),
        cpu_seconds: Some(1),
        processes: Some(1),
        files: Some(1),
        file_bytes: Some(1),
        nice: 0,
    };
    for (exit, stderr, option) in [
        (Exit::Signal(libc::SIGXCPU), b"".as_slice(), "--cgi-limit-cpu"),
        (Exit::Signal(libc::SIGXFSZ), b"", "--cgi-limit-file-size"),
        (Exit::Status(1), b"Out of memory in perl", "--cgi-limit-memory"),
        (Exit::Status(1), b"MemoryError", "--cgi-limit-memory"),
        (Exit::Status(2), b"sh: 1: Cannot fork", "--cgi-limit-processes"),
        (Exit::Status(1), b"OSError: [Errno 24] Too many open files", "--cgi-limit-files"),
        (Exit::Status(1), b"something else", ""),
    ] {
        let named = hint(&script, Some(exit), stderr, &all).unwrap_or_default();
        assert!(named.contains(option) && named.is_empty() == option.is_empty(), "{named}, not {option}");
        if let Exit::Status(_) = exit {
            assert_eq!(hint(&script, Some(exit), stderr, &ScriptLimits::default()), None);
        }
    }
}
