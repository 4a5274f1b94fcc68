//! The interpreters of this machine: every CPython from 3.10 on, and the virtual environment of the tests.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::folder::project;
use super::forkhorn::BINARY;

/// The oldest version that forkhorn serves.
const OLDEST: (u32, u32) = (3, 10);

#[derive(Debug, Clone)]
pub struct Interpreter {
    /// As it is to be started.
    pub path: PathBuf,
    /// `3.12.1`
    pub version: String,
    /// `sys.executable` and `sys.prefix`, as the interpreter itself says.
    pub executable: String,
    pub prefix: String,
    /// The name of the bridge that a free-threaded build needs.
    pub own_bridge: Option<String>,
}

impl Interpreter {
    /// Free-threaded builds need a bridge each: those that `scripts/build --python` has been run for can be served.
    fn has_bridge(&self) -> bool {
        self.own_bridge.as_ref().is_none_or(|name| Path::new(BINARY).with_file_name(name).exists())
    }
}

/// The virtual environment that `scripts/test` makes, with Django, Flask and legacy-cgi in it.
pub fn venv() -> PathBuf {
    let venv = std::env::var_os("FORKHORN_TEST_VENV").map_or_else(|| project().join(".venv"), PathBuf::from);
    assert!(
        venv.join("bin/python3").exists(),
        "there is no virtual environment at {}: run scripts/test, or name one in FORKHORN_TEST_VENV",
        venv.display()
    );
    venv
}

/// python3 of PATH, and of the places where interpreters usually are; each once. Of free-threaded builds, those that there
/// is a bridge for.
pub fn interpreters() -> Vec<Interpreter> {
    let mut found = BTreeMap::new();
    for path in candidates() {
        if let Some(interpreter) = ask(&path).filter(Interpreter::has_bridge) {
            // Links and launchers lead to one interpreter: its own word tells them apart.
            found.entry(interpreter.executable.clone()).or_insert(interpreter);
        }
    }
    assert!(!found.is_empty(), "there is no CPython {}.{} or newer", OLDEST.0, OLDEST.1);
    found.into_values().collect()
}

/// python3 of PATH, asked once for its real path: a launcher in PATH would cost every test its own start. Another one if
/// that is missing or too old.
pub fn default_python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let found = ask(Path::new("python3")).or_else(|| interpreters().into_iter().next());
        found.expect("a CPython").executable.into()
    })
}

/// PATH for those who look for python3 by themselves: that of the tests, if its python3 will do.
pub fn search_path() -> &'static OsStr {
    static SEARCH_PATH: OnceLock<OsString> = OnceLock::new();
    SEARCH_PATH.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if ask(Path::new("python3")).is_some() {
            return path;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python3");
        std::fs::create_dir_all(&folder).expect("a folder");
        let link = folder.join("python3");
        // Of an earlier run.
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(default_python(), link).expect("a link");
        let all = std::iter::once(folder).chain(std::env::split_paths(&path));
        std::env::join_paths(all).expect("a PATH")
    })
}

/// What an interpreter says about itself; `None` if it does not start, is too old, or is no CPython.
pub fn ask(path: &Path) -> Option<Interpreter> {
    let question = "import os, platform, sys; from importlib.machinery import EXTENSION_SUFFIXES; \
                    own = '_forkhorn' + EXTENSION_SUFFIXES[0] if 't' in getattr(sys, 'abiflags', '') else ''; \
                    print(platform.python_implementation(), platform.python_version(), \
                    os.path.realpath(sys.executable), sys.prefix, own, sep='\\n')";
    let output = Command::new(path).args(["-I", "-c", question]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut lines = text.lines().map(str::to_owned);
    let (implementation, version, executable, prefix, own_bridge) =
        (lines.next()?, lines.next()?, lines.next()?, lines.next()?, lines.next()?);
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let number = (numbers.next()??, numbers.next()??);
    (implementation == "CPython" && number >= OLDEST).then(|| Interpreter {
        path: path.to_owned(),
        version,
        executable,
        prefix,
        own_bridge: Some(own_bridge).filter(|name| !name.is_empty()),
    })
}

/// CPython of versions that run scripts, but no applications: 2.7, and 3.6 to 3.9. There may be none.
pub fn older_interpreters() -> Vec<PathBuf> {
    let names: Vec<String> =
        ["2.7", "3.6", "3.7", "3.8", "3.9"].map(|version| format!("python{version}")).into();
    let mut found: Vec<PathBuf> = existing(&names)
        .into_iter()
        .filter(|path| {
            Command::new(path).args(["-c", "import platform"]).status().is_ok_and(|it| it.success())
        })
        .filter_map(|path| path.canonicalize().ok())
        // A launcher has another name.
        .filter(|path| path.file_name().is_some_and(|name| names.iter().any(|known| name == known.as_str())))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn candidates() -> Vec<PathBuf> {
    let versions = OLDEST.1..=OLDEST.1 + 10;
    let names = versions.flat_map(|minor| ["t", ""].map(|abi| format!("python3.{minor}{abi}")));
    existing(&names.chain(["python3".to_owned()]).collect::<Vec<_>>())
}

/// The programs of these names, where interpreters usually are.
fn existing(names: &[String]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(["/usr/bin", "/usr/local/bin"].map(PathBuf::from));
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        for (versions, bin) in [(".pyenv/versions", "bin"), (".local/share/uv/python", "bin")] {
            let entries = std::fs::read_dir(home.join(versions)).into_iter().flatten().flatten();
            folders.extend(entries.map(|entry| entry.path().join(bin)));
        }
    }
    folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)))
        .filter(|path| path.exists())
        .collect()
}
