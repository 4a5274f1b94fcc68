//! What the log calls a running script, and the request that it answers: `run` and `stderr` begin their lines with it.

use std::os::unix::ffi::OsStrExt;

use super::Script;
use crate::gateway::{KnownName, MetaVariables};
use crate::printable::printable;

const MAX_PART_BYTES: usize = 256;

/// File and process.
pub(super) fn name(script: &Script, process: Option<i32>) -> String {
    let name = printable(script.name().as_os_str().as_bytes(), MAX_PART_BYTES);
    match process {
        Some(process) => format!("{name}[{process}]"),
        None => name,
    }
}

/// What the lines of a script begin with, and the id of the request that it answers.
#[derive(Debug, Clone, Default)]
pub(super) struct Label {
    script: String,
    request: String,
    pub id: String,
}

impl Label {
    pub fn new(script: &str, meta: &MetaVariables) -> Self {
        let shown = |name| printable(meta.known(name).unwrap_or_default(), MAX_PART_BYTES);
        let (method, name, info) =
            (shown(KnownName::RequestMethod), shown(KnownName::ScriptName), shown(KnownName::PathInfo));
        Label {
            script: script.to_owned(),
            request: format!("{method} {name}{info}"),
            id: shown(KnownName::UniqueId),
        }
    }

    pub fn rename(&mut self, script: &str) {
        script.clone_into(&mut self.script);
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.script, self.request)
    }
}
