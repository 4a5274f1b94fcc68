//! Scripts that could not be run, before somebody asks for them: the permission is missing, or the interpreter.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
/// `search` is the PATH that scripts get.
pub(super) fn look(directory: &Path, search: &OsStr) -> Found {
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
                Ok(_) if entry.path().is_file() => one(&entry.path(), search, &mut found),
                _ => {}
            }
        }
    }
    found
}

fn one(path: &Path, search: &OsStr, found: &mut Found) {
    let may_run = fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o111 != 0);
    let shown = path.display();
    let wrong = match (First::of(path), may_run) {
        (First::Line(_), false) => format!("it begins with #!, but may not be run; run: chmod +x {shown}"),
        // Data beside the scripts.
        (_, false) => return,
        (First::Line(line), true) if line.ends_with(b"\r") => {
            format!("its first line ends in CR LF, as Windows editors write; run: sed -i 's/\\r$//' {shown}")
        }
        (First::Line(line), true) => match missing(&line, search) {
            Some(wrong) => wrong,
            None => return found.scripts += 1,
        },
        (First::ByteOrderMark, true) => {
            "a byte order mark (EF BB BF) stands before #!; save it as UTF-8 without one".to_owned()
        }
        (First::Text, true) if is_named_as_script(path) => {
            "it does not begin with #! and the path of its interpreter, such as #!/usr/bin/env python3"
                .to_owned()
        }
        (First::Text | First::Program, true) => return found.scripts += 1,
    };
    found.wrong.push(format!("{shown}: {wrong}"));
}

/// What the kernel sees of a file first.
enum First {
    /// The line behind `#!`.
    Line(Vec<u8>),
    ByteOrderMark,
    /// Neither, or nothing at all.
    Text,
    Program,
}

impl First {
    fn of(path: &Path) -> First {
        let mut begin = Vec::new();
        if File::open(path).and_then(|file| file.take(LINE_BYTES).read_to_end(&mut begin)).is_err() {
            return First::Program;
        }
        match begin.as_slice() {
            [b'#', b'!', line @ ..] => {
                First::Line(line.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec())
            }
            [0xef, 0xbb, 0xbf, b'#', b'!', ..] => First::ByteOrderMark,
            text if text.iter().all(|byte| *byte >= b' ' || b"\t\r\n".contains(byte)) => First::Text,
            _ => First::Program,
        }
    }
}

/// Where a program is missing that the line names: the interpreter, or the one that env(1) is to find.
fn missing(line: &[u8], search: &OsStr) -> Option<String> {
    let mut words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    let interpreter = Path::new(OsStr::from_bytes(words.next()?));
    if !interpreter.is_file() {
        return Some(format!("there is no interpreter {}", interpreter.display()));
    }
    if interpreter.file_name() != Some(OsStr::new("env")) {
        return None;
    }
    let name = OsStr::from_bytes(words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='))?);
    match std::env::split_paths(search).any(|directory| directory.join(name).is_file()) {
        true => None,
        false => Some(format!(
            "there is no {} in the PATH of scripts, {} (--cgi-env PATH=… sets another)",
            name.display(),
            search.display()
        )),
    }
}

/// By the names that people give to scripts: not every file that may be run is meant to be.
fn is_named_as_script(path: &Path) -> bool {
    let suffix = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    ["cgi", "py", "pl", "sh", "rb", "php", "lua", "tcl"].contains(&suffix)
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
        write("env.py", "#!/usr/bin/env -S sh -e\n", 0o755);
        write("misspelt.py", "#!/usr/bin/env pyhton3\n", 0o755);
        write("mark.py", "\u{feff}#!/bin/sh\n", 0o755);
        write("bare.py", "print()\n", 0o755);
        write("empty.cgi", "", 0o755);
        write("README", "text that may be run", 0o755);
        std::os::unix::fs::symlink(".", dir.path().join("round")).expect("linked");
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).expect("linked");
        let found = look(dir.path(), OsStr::new("/usr/bin:/bin"));
        assert_eq!(found.scripts, 4, "{:?}", found.wrong);
        assert_eq!(found.wrong.len(), 7, "{:?}", found.wrong);
        for words in [
            "closed.sh: it begins with #!",
            "windows.sh: its first line",
            "lost.py: there is no interpreter /not/there/python",
            "misspelt.py: there is no pyhton3 in the PATH of scripts, /usr/bin:/bin",
            "mark.py: a byte order mark",
            "bare.py: it does not begin with #!",
            "empty.cgi: it does not begin with #!",
        ] {
            assert!(found.wrong.iter().any(|line| line.contains(words)), "{words}: {:?}", found.wrong);
        }
    }
}
