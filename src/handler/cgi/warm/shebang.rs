//! The first line of a script: which interpreter runs it, and whether a warm one can do the same.
//!
//! Read as the kernel reads it: `#!`, the interpreter, and what follows as one argument. What is not understood here is
//! left to the kernel, and runs the classic way.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use crate::config::WarmLanguage;

/// Linux reads so much of a file to find out how to run it.
const KERNEL_LINE_BYTES: u64 = 256;

/// How the first line has an interpreter started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub language: WarmLanguage,
    /// What is executed.
    pub path: CString,
    /// What its `argv` begins with.
    pub name: CString,
    /// The argument before the script's name.
    pub flag: Option<CString>,
}

/// The command of a script that a warm interpreter could run. `search` is the PATH that env(1) would look in.
pub(crate) fn read(script: &Path, search: &[u8]) -> Option<Command> {
    // Room for it all, so that it is read at once.
    let mut begin = Vec::with_capacity(2 * KERNEL_LINE_BYTES as usize);
    File::open(script).and_then(|file| file.take(KERNEL_LINE_BYTES).read_to_end(&mut begin)).ok()?;
    // A longer line is cut by some kernels and refused by others.
    let end = begin.iter().position(|&byte| byte == b'\n')?;
    parse(begin.get(..end)?, |name| find(name, search))
}

fn parse(line: &[u8], find: impl Fn(&[u8]) -> Option<PathBuf>) -> Option<Command> {
    let line = line.strip_prefix(b"#!")?;
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = trim(line);
    let (interpreter, argument) = match line.iter().position(is_blank) {
        Some(at) => (&line[..at], trim(&line[at..])),
        None => (line, &b""[..]),
    };
    if !interpreter.starts_with(b"/") {
        return None;
    }
    if !interpreter.ends_with(b"/env") {
        return command(interpreter, Path::new(OsStr::from_bytes(interpreter)), argument);
    }
    // `env NAME`, or `env -S NAME FLAG` without quotes, variables or assignments.
    let (name, flag) = match argument.strip_prefix(b"-S") {
        None if argument.iter().any(is_blank) => return None,
        None => (argument, &b""[..]),
        Some(words) => {
            let mut words = words.split(is_blank).filter(|word| !word.is_empty());
            let (name, flag) = (words.next()?, words.next().unwrap_or_default());
            if words.next().is_some() {
                return None;
            }
            (name, flag)
        }
    };
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._+/".contains(byte);
    if name.is_empty() || !name.iter().all(is_plain) || !flag.iter().all(is_plain) {
        return None;
    }
    command(name, &find(name)?, flag)
}

fn command(name: &[u8], path: &Path, flag: &[u8]) -> Option<Command> {
    let language = language(path.file_name()?.as_bytes())?;
    let honoured = match language {
        // Those that neither choose another program nor another mode of reading it.
        WarmLanguage::Python => flags(flag, b"uBOEsb"),
        WarmLanguage::Perl => flags(flag, b"wWX"),
    };
    if !honoured {
        return None;
    }
    Some(Command {
        language,
        path: CString::new(path.as_os_str().as_bytes()).ok()?,
        name: CString::new(name).ok()?,
        flag: (!flag.is_empty()).then(|| CString::new(flag)).transpose().ok()?,
    })
}

fn flags(argument: &[u8], known: &[u8]) -> bool {
    match argument.strip_prefix(b"-") {
        Some(letters) => !letters.is_empty() && letters.iter().all(|letter| known.contains(letter)),
        None => argument.is_empty(),
    }
}

/// `python`, `python3`, `python3.12`, `python3.14t`, `perl`, `perl5.36.0`: by the name, as the line gives it.
fn language(name: &[u8]) -> Option<WarmLanguage> {
    [(&b"python"[..], WarmLanguage::Python), (b"perl", WarmLanguage::Perl)].into_iter().find_map(
        |(begin, language)| {
            let version = name.strip_prefix(begin)?;
            let version = match version.strip_suffix(b"t") {
                Some(free_threaded @ [.., b'0'..=b'9']) if language == WarmLanguage::Python => free_threaded,
                _ => version,
            };
            version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.').then_some(language)
        },
    )
}

fn find(name: &[u8], search: &[u8]) -> Option<PathBuf> {
    if name.contains(&b'/') {
        return name.starts_with(b"/").then(|| PathBuf::from(OsStr::from_bytes(name)));
    }
    search
        .split(|&byte| byte == b':')
        .filter(|directory| directory.starts_with(b"/"))
        .map(|directory| Path::new(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name)))
        .find(|file| file.is_file() && may_execute(file))
}

/// As execve(2) would find it, a file system that is mounted noexec included.
pub(crate) fn may_execute(path: &Path) -> bool {
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
}

fn trim(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(begin, |at| at + 1);
    &bytes[begin..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_name_an_interpreter_or_are_left_to_the_kernel() {
        for (line, expected) in [
            ("#!/usr/bin/python3", Some("python /usr/bin/python3 /usr/bin/python3 ")),
            ("#! /usr/bin/python3.12 -u ", Some("python /usr/bin/python3.12 /usr/bin/python3.12 -u")),
            ("#!/opt/python3.14t", Some("python /opt/python3.14t /opt/python3.14t ")),
            ("#!/opt/python3.t", None),
            ("#!/opt/pythont", None),
            ("#!/opt/perl5t", None),
            ("#!/usr/bin/perl -w", Some("perl /usr/bin/perl /usr/bin/perl -w")),
            ("#!/opt/perl5.36.0", Some("perl /opt/perl5.36.0 /opt/perl5.36.0 ")),
            ("#!/usr/bin/env python3", Some("python /found/python3 python3 ")),
            ("#!/usr/bin/env -S python3 -u", Some("python /found/python3 python3 -u")),
            ("#!/usr/bin/env\tperl", Some("perl /found/perl perl ")),
            ("#!/usr/bin/env python3 -u", None),
            ("#!/usr/bin/env -S PYTHONPATH=/x python3", None),
            ("#!/usr/bin/env -S python3 -u -B", None),
            ("#!/usr/bin/env -i", None),
            ("#!/usr/bin/env", None),
            ("#!/usr/bin/python3 -u -B", None),
            ("#!/usr/bin/python3 -c", None),
            ("#!/usr/bin/python3 -i", None),
            ("#!/usr/bin/python3 -", None),
            ("#!/usr/bin/python3 script", None),
            ("#!/usr/bin/perl -T", None),
            ("#!/usr/bin/perl -wT", None),
            ("#!/usr/bin/perl -n", None),
            ("#!/usr/bin/perl --", None),
            ("#!/usr/bin/python3\r", None),
            ("#!/usr/bin/pythonista", None),
            ("#!/bin/sh", None),
            ("#!perl", None),
            ("#!", None),
            ("print 1", None),
            ("", None),
        ] {
            let found =
                parse(line.as_bytes(), |name| Some(Path::new("/found").join(OsStr::from_bytes(name))));
            let shown = found.map(|command| {
                let text = |text: &CString| text.to_string_lossy().into_owned();
                let flag = command.flag.as_ref().map(text).unwrap_or_default();
                format!("{} {} {} {flag}", command.language.name(), text(&command.path), text(&command.name))
            });
            assert_eq!(shown.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn names_are_looked_up_in_the_absolute_directories_of_path() {
        assert_eq!(find(b"sh", b"relative::/nonexistent:/bin:/usr/bin"), Some("/bin/sh".into()));
        assert_eq!(find(b"sh", b"bin:."), None);
        assert_eq!(find(b"bin/sh", b"/"), None);
        assert_eq!(find(b"/bin/sh", b""), Some("/bin/sh".into()));
    }
}
