//! The pages agree with the tree: links lead somewhere, and the list of unsafe code is complete.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below a folder that end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

#[test]
fn links_of_the_pages_lead_to_files_and_headings() {
    let mut pages = files(&root().join("docs"), ".md");
    pages.extend(["README.md", "CHANGELOG.md", "examples/README.md"].map(|page| root().join(page)));
    let mut links = 0;
    for page in &pages {
        for target in targets(&read(page)) {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let file = match file {
                "" => page.clone(),
                file => page.parent().expect("a folder").join(file),
            };
            assert!(file.exists(), "{}: {target} leads nowhere", page.display());
            if !heading.is_empty() {
                let anchors = anchors(&read(&file));
                assert!(anchors.contains(heading), "{}: {target} is no heading", page.display());
            }
        }
    }
    assert!(links > 20, "{links} links were found");
}

/// What stands in the round brackets of links.
fn targets(text: &str) -> Vec<String> {
    let joined = text.replace('\n', " ");
    let pieces = joined.split("](").skip(1).filter_map(|piece| piece.split_once(')'));
    pieces.map(|(target, _)| target.to_owned()).collect()
}

/// Headings in the form in which links name them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let plain = headings.map(|heading| heading.trim_start_matches('#').trim().to_lowercase());
    plain
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn the_list_of_unsafe_code_is_complete() {
    let page = read(&root().join("docs/architecture.md"));
    let section =
        page.split("\n## ").find(|section| section.starts_with("Unsafe code")).expect("the section");
    let listed: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .map(|(file, _)| file.to_owned())
        .collect();
    let sources =
        files(&root().join("src"), ".rs").into_iter().chain(files(&root().join("python/src"), ".rs"));
    let found: BTreeSet<String> = sources
        .filter(|path| has_unsafe(&read(path)))
        .map(|path| path.strip_prefix(root()).expect("below").display().to_string())
        .collect();
    assert_eq!(listed, found, "docs/architecture.md and the files with unsafe code");
}

/// Blocks, functions and implementations, outside of comments.
fn has_unsafe(text: &str) -> bool {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).any(|word| word == "unsafe")
}

#[test]
fn options_of_other_servers_are_on_their_page_as_the_command_line_tells_them() {
    let page = read(&root().join("docs/coming-from.md"));
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .collect();
    let words = |text: &str| -> BTreeSet<String> {
        let ends = |letter: char| !letter.is_alphanumeric() && letter != '-' && letter != '_';
        text.split(ends).map(str::to_owned).collect()
    };
    for option in forkhorn::cli::peers::OPTIONS {
        let ours: BTreeSet<String> =
            words(option.here).into_iter().filter(|word| word.starts_with("--")).collect();
        for name in option.names {
            let told = rows.iter().filter(|(theirs, _)| words(theirs).contains(*name));
            let told: Vec<BTreeSet<String>> = told.map(|(_, here)| words(here)).collect();
            assert!(!told.is_empty(), "{name} of {} is on no row", option.peer);
            assert!(
                ours.is_empty() || told.iter().any(|told| ours.intersection(told).next().is_some()),
                "{name}: the page says {told:?}, the command line {ours:?}"
            );
        }
    }
}
