//! The first of the two commands that a newcomer types.

use std::process::Command;

use crate::support::forkhorn::{BINARY, require_bridge};
use crate::support::project;

/// `scripts/demo` builds in release mode, which takes longer than all these tests; its check is run here with the
/// binary under test and the very options that stand in it.
#[test]
fn the_demonstration_serves_all_its_pages() {
    require_bridge();
    let script = std::fs::read_to_string(project().join("scripts/demo")).expect("scripts/demo");
    let options = script.split("forkhorn\" serve").nth(1).and_then(|rest| rest.split("\n)").next());
    let options = options.expect("the command in scripts/demo").split_whitespace();
    let output = Command::new(project().join("scripts/demo-check"))
        .args([BINARY, "serve"])
        .args(options)
        .env_remove("VIRTUAL_ENV")
        .output()
        .expect("scripts/demo-check");
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).join("\n");
    assert!(output.status.success(), "{text}");
}
