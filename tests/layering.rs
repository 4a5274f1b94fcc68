//! Who may import whom, where unsafe code may stand, how long a file may be: read from the sources themselves.

use std::fs;
use std::path::{Path, PathBuf};

/// A module at the top of the library, and the other ones that it may use. A module that is not named here may use all.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("protocol", &[]),
    ("cli", &[]),
    ("config", &["cli", "protocol"]),
    ("gateway", &["protocol", "config"]),
    ("handler", &["protocol", "gateway", "config", "cli", "sys", "printable"]),
    ("printable", &[]),
    ("sys", &["config", "process"]),
];

/// A module, and the ones that it must not use.
const MUST_NOT_USE: [(&str, &[&str]); 2] = [("master", &["handler"]), ("worker", &["master"])];

/// Files that forbid unsafe code for themselves and for the modules below them.
const FORBID_UNSAFE: [&str; 4] = ["src/protocol/mod.rs", "src/gateway/mod.rs", "src/cli.rs", "src/config.rs"];

const MAX_LINES: usize = 600;

struct Source {
    /// From the project's folder.
    path: PathBuf,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// `src/protocol/fastcgi/record.rs` is `protocol`, `fastcgi`, `record`.
    fn module(&self) -> Vec<String> {
        let path = self.path.strip_prefix("src").expect("a file of the library").with_extension("");
        let mut parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        parts.pop_if(|last| ["mod", "lib", "main"].contains(&last.as_str()));
        parts
    }

    /// The code without comments, literals and the tests at the end of the file.
    fn code(&self) -> String {
        let text = self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        without_comments_and_literals(text)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                found.push(Source { path: path.strip_prefix(root()).expect("below").to_owned(), text });
            }
        }
    }
    assert!(!found.is_empty(), "{folder} holds no source");
    found
}

fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string_hashes(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
        } else if first == '"' {
            string_length(rest)
        } else if first == '\'' {
            character_length(rest)
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// `r#"` and its like; the number of `#`.
fn raw_string_hashes(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_length(text: &str) -> usize {
    let mut escaped = true;
    for (at, character) in text.char_indices() {
        match character {
            '"' if !escaped => return at + 1,
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

/// The length of a character literal, or 1 for the quote of a lifetime.
fn character_length(text: &str) -> usize {
    let inner = &text[1..];
    if inner.starts_with('\\') {
        return inner[2..].find('\'').map_or(text.len(), |end| end + 4);
    }
    match inner.chars().next() {
        Some(character) if inner[character.len_utf8()..].starts_with('\'') => character.len_utf8() + 2,
        _ => 1,
    }
}

/// The modules at the top of the library that a file names, by `crate::`, `forkhorn::` or a chain of `super::`.
fn used_modules(source: &Source) -> Vec<String> {
    let code = source.code();
    let mut used = Vec::new();
    for prefix in ["crate::", "forkhorn::"] {
        for (at, _) in code.match_indices(prefix) {
            let is_whole_word =
                !code[..at].ends_with(|before: char| before.is_alphanumeric() || "_$".contains(before));
            if is_whole_word {
                used.extend(first_names(&code[at + prefix.len()..]));
            }
        }
    }
    let module = source.module();
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let rest = &code[at..];
        let after = rest.trim_start_matches("super::");
        let steps = (rest.len() - after.len()) / "super::".len();
        match module.len().saturating_sub(steps) {
            0 => used.extend(first_names(after)),
            _ => used.push(module[0].clone()),
        }
    }
    used
}

/// The names that a path can begin with: one, or those of a group.
fn first_names(path: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|character| character.is_alphanumeric() || *character == '_')
            .collect()
    };
    let Some(group) = path.strip_prefix('{') else { return vec![identifier(path)] };
    let mut depth = 0;
    let mut names = vec![identifier(group)];
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(identifier(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The top of the library, as its file names say.
fn layers(sources: &[Source]) -> Vec<String> {
    let mut layers: Vec<String> =
        sources.iter().filter_map(|source| source.module().into_iter().next()).collect();
    layers.sort();
    layers.dedup();
    layers
}

#[test]
fn each_layer_uses_only_the_layers_that_it_may_use() {
    let sources = sources("src");
    let layers = layers(&sources);
    let mut breaches = Vec::new();
    for source in &sources {
        let Some(layer) = source.module().into_iter().next() else { continue };
        for used in used_modules(source) {
            let foreign = used != layer && layers.contains(&used);
            let may =
                MAY_USE.iter().find(|(name, _)| *name == layer).is_none_or(|(_, may)| may.contains(&&*used));
            let must_not = MUST_NOT_USE.iter().any(|(name, not)| *name == layer && not.contains(&&*used));
            if foreign && (!may || must_not) {
                breaches.push(format!("{} uses {used}", source.name()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn python_is_known_to_the_bridge_alone() {
    for source in sources("src") {
        assert!(!source.code().contains("pyo3"), "{} names pyo3", source.name());
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(!manifest.contains("pyo3"), "the library depends on pyo3");
}

#[test]
fn unsafe_code_stands_only_where_it_is_announced() {
    for name in FORBID_UNSAFE {
        let text = fs::read_to_string(root().join(name)).expect(name);
        assert!(text.contains("#![forbid(unsafe_code)]"), "{name} does not forbid unsafe code");
    }
    for source in sources("src").into_iter().chain(sources("python/src")) {
        let code = source.code();
        let words = code.split(|character: char| !(character.is_alphanumeric() || character == '_'));
        let has_unsafe = words.into_iter().any(|word| word == "unsafe");
        let corner = source.path.starts_with("src/sys") || source.path.starts_with("python/src");
        assert!(!has_unsafe || corner, "{} holds unsafe code", source.name());
    }
}

#[test]
fn files_are_short_enough_to_be_read() {
    for folder in ["src", "python/src", "tests"] {
        for source in sources(folder) {
            let lines = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines().count();
            // Tests that have grown longer than their code lie beside it, in tables of any length.
            let is_tests = folder != "tests" && source.name().contains("tests");
            assert!(is_tests || lines <= MAX_LINES, "{} has {lines} lines", source.name());
            assert!(!source.path.ends_with("utils.rs"), "{} has no subject", source.name());
            assert!(
                is_tests || source.text.starts_with("//!"),
                "{} does not begin with its job",
                source.name()
            );
        }
    }
}

#[test]
fn names_are_found_in_every_form_of_a_path() {
    for (path, text, expected) in [
        ("src/gateway/route.rs", "use crate::master::Slot;", "master"),
        ("src/gateway/route.rs", "use crate::{config::{A, B}, handler};", "config handler"),
        ("src/gateway/route.rs", "use super::request::Request;", "gateway"),
        ("src/gateway/route.rs", "use super::super::worker::Worker;", "worker"),
        ("src/gateway/mod.rs", "fn f() { super::sys::fork() }", "sys"),
        (
            "src/gateway/route.rs",
            "// crate::master\nlet s = \"crate::sys\"; let c = '\"'; crate::cli::run()",
            "cli",
        ),
        ("src/gateway/route.rs", "macro!($crate::x); let r = r#\"crate::y \" \"#;", ""),
        ("src/gateway/route.rs", "fn f<'a>(x: &'a str) { crate::process::x(b'\\'') }", "process"),
        ("src/gateway/route.rs", "#[cfg(test)]\nmod tests { use crate::master; }", ""),
    ] {
        let source = Source { path: path.into(), text: text.to_owned() };
        assert_eq!(used_modules(&source).join(" "), expected, "{text}");
    }
}
