//! Every file of `tests/fixtures/http1`: the bytes of one connection in `NAME.http`, its transcript in `NAME.expect`.
//! Lines of a transcript that begin with `#` explain; the last line tells the state of the connection after the bytes.

use std::fs;
use std::path::{Path, PathBuf};

use super::transcript;
use crate::protocol::Limits;

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/http1").join(folder);
    let files = fs::read_dir(&folder).expect("the folder of fixtures");
    let mut found: Vec<PathBuf> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "http"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no fixture in {}", folder.display());
    found
}

fn check(path: &Path) -> String {
    let bytes = fs::read(path).expect("a fixture");
    let expected = fs::read_to_string(path.with_extension("expect")).expect("its .expect");
    let lines = expected.lines().filter(|line| !line.starts_with('#'));
    let expected: String = lines.flat_map(|line| [line, "\n"]).collect();
    let limits = Limits { max_body_bytes: 1000, ..Limits::default() };
    let found = transcript(&bytes, &limits);
    assert_eq!(found, expected, "{}", path.display());
    found
}

#[test]
fn valid_fixtures_give_their_requests() {
    for path in fixtures("valid") {
        let found = check(&path);
        assert!(!found.contains("reject "), "{} is refused", path.display());
    }
}

#[test]
fn invalid_fixtures_are_refused_and_nothing_after_them_runs() {
    for path in fixtures("invalid") {
        let found = check(&path);
        let (_, after) =
            found.split_once("reject ").unwrap_or_else(|| panic!("{} is served", path.display()));
        assert!(!after.contains("\nrequest "), "{}: a request follows", path.display());
        assert!(found.ends_with("close\n"), "{}: the connection stays open", path.display());
    }
}
