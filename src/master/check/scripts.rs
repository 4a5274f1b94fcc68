//! Scripts that could not be run, before somebody asks for them: the permission is missing, or the interpreter.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// As many files and directories are looked at.
const MOST: usize = 10_000;

/// Longest first line that the kernel looks at (execve(2)).
const LINE_BYTES: u64 = 256;

#[derive(Debug, Default)]
pub(super) struct Found {
    /// Files that can be run.
    pub(super) scripts: usize,
    /// A line for each that is meant to be run, and can't be.
    pub(super) wrong: Vec<String>,
}

/// Looks at all files below a directory. Links to directories are not followed: they may lead out, or round.
pub(super) fn look(directory: &Path) -> Found {
    let mut found = Found::default();
    let mut left = vec![directory.to_owned()];
    let mut seen = 0;
    while let Some(directory) = left.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                found.wrong.push(format!("{}: {error}", directory.display()));
                continue;
            }
        };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MOST {
                found
                    .wrong
                    .push(format!("{}: more than {MOST} files, not all looked at", directory.display()));
                return found;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                Ok(_) if entry.path().is_file() => one(&entry.path(), &mut found),
                _ => {}
            }
        }
    }
    found
}

fn one(path: &Path, found: &mut Found) {
    let may_run = fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o111 != 0);
    let interpreter = interpreter(path);
    let wrong = match (&interpreter, may_run) {
        // Data beside the scripts.
        (None, false) => return,
        (Some(_), false) => Some("it begins with #!, but may not be run (chmod +x)".to_owned()),
        (Some(interpreter), true) if interpreter.as_os_str().as_bytes().ends_with(b"\r") => {
            Some("its first line ends with a carriage return: save it with Unix line ends".to_owned())
        }
        (Some(interpreter), true) if !interpreter.is_file() => {
            Some(format!("there is no interpreter {}", interpreter.display()))
        }
        _ => None,
    };
    match wrong {
        None => found.scripts += 1,
        Some(why) => found.wrong.push(format!("{}: {why}", path.display())),
    }
}

/// The program of the `#!` line.
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    File::open(path).ok()?.take(LINE_BYTES).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let word = line.split(|byte| b" \t".contains(byte)).find(|word| !word.is_empty())?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_that_can_not_be_run_are_named_and_data_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        };
        write("good.sh", "#! /bin/sh -e\n", 0o755);
        write("inner/binary", "\x7fELF", 0o755);
        write("data.txt", "text", 0o644);
        write("closed.sh", "#!/bin/sh\n", 0o644);
        write("inner/windows.sh", "#!/bin/sh\r\n", 0o755);
        write("lost.py", "#!/not/there/python\n", 0o755);
        std::os::unix::fs::symlink(".", dir.path().join("round")).expect("linked");
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).expect("linked");
        let found = look(dir.path());
        assert_eq!(found.scripts, 2);
        assert_eq!(found.wrong.len(), 3, "{:?}", found.wrong);
        for words in ["closed.sh: it begins with #!", "windows.sh: its first line", "lost.py: there is no"] {
            assert!(found.wrong.iter().any(|line| line.contains(words)), "{words}: {:?}", found.wrong);
        }
    }
}
