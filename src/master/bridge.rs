//! Finds the bridge to Python, and has an interpreter load it.
//!
//! [`crate::cgi_program`] does it too, for a single request and without a master.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::unistd::User;

use crate::config::{Config, PythonConfig, StartupError};
use crate::master::spawn::ProcessCommand;

/// The name of the installed module, and the one that cargo gives it.
const FILE_NAMES: [&str; 2] = ["_forkhorn.abi3.so", "lib_forkhorn.so"];

/// What the interpreter is started with, for whoever lists processes: a line, not the whole of what [`boot`] gives.
const READ_BOOT: &str = "import os; exec(os.read(0, 9999))";

/// Tells the master why the bridge can't be loaded.
const TELL_MASTER: &str = r#"
import sys

def fail(report, advice):
    import json, os
    os.write(0, json.dumps({"LoadFailed": {
        "application": sys.argv[4], "report": report, "advice": advice}}).encode("ascii"))
    sys.exit(3)
"#;

/// What the interpreter runs after a definition of `fail`. It must be understood by interpreters that are too old, to
/// tell them so: hence neither f-strings nor annotations. Arguments: the file of the bridge or nothing, the two
/// directories where it was looked for, the applications.
const LOAD: &str = r#"
def bridge():
    path, beside, installed = sys.argv[1:4]
    if sys.version_info < (3, 10) or sys.implementation.name != "cpython":
        fail("%s is %s" % (sys.executable, sys.version.replace("\n", " ")),
             "forkhorn needs CPython 3.10 or newer: name another interpreter with --python or --virtualenv")
    # The working directory must not shadow the standard library here.
    first = sys.path[:1] if sys.path[:1] == [""] else []
    del sys.path[:len(first)]
    try:
        from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
        from importlib.util import module_from_spec
        if "t" in getattr(sys, "abiflags", ""):
            path = free_threaded("_forkhorn" + EXTENSION_SUFFIXES[0], beside, installed)
        if not path:
            import _forkhorn
            return _forkhorn
        loader = ExtensionFileLoader("_forkhorn", path)
        module = module_from_spec(ModuleSpec("_forkhorn", loader, origin=path))
        sys.modules["_forkhorn"] = module
        loader.exec_module(module)
        return module
    except ImportError as error:
        if path:
            fail(str(error), "the bridge of forkhorn, %s, can't be loaded by %s" % (path, sys.executable))
        fail("_forkhorn.abi3.so, which Python needs to run forkhorn's code, is missing (%s)" % error,
             "it is neither in %s nor in %s, nor one of the packages of %s: scripts/build makes it, copy it to one of the two"
             % (beside, installed, sys.executable))
    finally:
        sys.path[:0] = first

# The objects of these builds are laid out otherwise: the bridge of the others would not fail there, but crash, and the
# import system would take it all the same.
def free_threaded(name, beside, installed):
    import os
    if sys.version_info < (3, 14):
        fail("%s is a free-threaded build of Python %d.%d" % ((sys.executable,) + sys.version_info[:2]),
             "of these forkhorn needs 3.14 or newer: name another interpreter with --python or --virtualenv")
    for directory in [beside, installed] + sys.path:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            return path
    fail("%s is a free-threaded build, which needs a bridge of its own: %s is neither in %s nor in %s, nor one of its packages"
         % (sys.executable, name, beside, installed),
         "build it with scripts/build --python %s, or name another interpreter with --python or --virtualenv" % sys.executable)
"#;

const RUN: &str = "
sys.exit(bridge().main())
";

/// Python that loads the bridge, or else calls `fail(report, advice)`, which `fail` defines; then `run`.
pub(crate) fn boot(fail: &str, run: &str) -> String {
    [fail, LOAD, run].concat()
}

/// Where the bridge is, and all that an interpreter needs to be started with it.
#[derive(Debug, Clone)]
pub(crate) struct Bridge {
    /// That of the stable ABI; a free-threaded interpreter looks for its own itself. `None`: the interpreter looks among
    /// its packages.
    pub(crate) path: Option<PathBuf>,
    directories: [PathBuf; 2],
}

impl Bridge {
    /// Looks beside the running binary, then in `../lib/forkhorn`.
    pub(crate) fn find() -> Bridge {
        // As it was the first time: once the file has been replaced, the kernel has no name for the running binary.
        static BINARY: OnceLock<PathBuf> = OnceLock::new();
        let binary = BINARY.get_or_init(|| {
            // Resolved: a symbolic link in /usr/local/bin leads to the place of installation.
            std::env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default()
        });
        Bridge::find_from(binary.parent().unwrap_or(Path::new("/")))
    }

    fn find_from(directory: &Path) -> Bridge {
        let installed = directory.parent().unwrap_or(Path::new("/")).join("lib/forkhorn");
        let directories = [directory.to_owned(), installed];
        let mut places =
            directories.iter().flat_map(|directory| FILE_NAMES.iter().map(|name| directory.join(name)));
        Bridge { path: places.find(|path| path.is_file()), directories }
    }

    /// What [`boot`] expects in `sys.argv`.
    pub(crate) fn arguments(&self, config: &Config) -> [OsString; 4] {
        let path = self.path.clone().unwrap_or_default();
        let [beside, installed] = self.directories.clone().map(PathBuf::into_os_string);
        let applications: Vec<_> = config.applications.iter().map(|app| app.given.as_str()).collect();
        [path.into_os_string(), beside, installed, applications.join(", ").into()]
    }

    /// An interpreter that becomes a template or a worker.
    pub(crate) fn command(&self, config: &Config, python: &PythonConfig) -> ProcessCommand {
        ProcessCommand {
            program: python.interpreter.clone(),
            // An interpreter finds its virtual environment by its own path.
            name: None,
            arguments: [["-c".into(), READ_BOOT.into()].as_slice(), &self.arguments(config)].concat(),
            boot: Some(boot(TELL_MASTER, RUN)),
            environment: home_of(config).into_iter().chain(python.env.iter().cloned()).collect(),
            directory: python.chdir.clone(),
            identity: config.processes.identity.clone(),
        }
    }
}

/// The interpreter looks for packages and caches in the home directory: that of root would be the wrong one.
fn home_of(config: &Config) -> Vec<(OsString, OsString)> {
    let name = config.processes.identity.as_ref().and_then(|identity| identity.user_name.as_deref());
    let Some(user) = name.and_then(|name| User::from_name(name).ok().flatten()) else { return Vec::new() };
    vec![
        ("HOME".into(), user.dir.into_os_string()),
        ("USER".into(), user.name.clone().into()),
        ("LOGNAME".into(), user.name.into()),
    ]
}

/// A worker without Python: this very binary, even if its file has been replaced since.
pub(crate) fn without_python() -> ProcessCommand {
    ProcessCommand {
        program: "/proc/self/exe".into(),
        // With room for the title that it gives itself.
        name: Some("forkhorn                                                "),
        arguments: vec!["worker".into()],
        boot: None,
        environment: Vec::new(),
        directory: None,
        // It drops privileges itself: others may not be allowed to run the binary.
        identity: None,
    }
}

/// The command that starts templates and workers.
pub(crate) fn command(config: &Config) -> Result<ProcessCommand, StartupError> {
    match &config.python {
        None => Ok(without_python()),
        Some(python) => {
            let bridge = Bridge::find();
            super::preflight::check_python(config, python, &bridge)?;
            Ok(bridge.command(config, python))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_an_interpreter_reads_first_is_read_whole() {
        assert!(boot(TELL_MASTER, RUN).len() < 9999, "{READ_BOOT}");
    }

    #[test]
    fn the_bridge_is_found_beside_the_binary_and_in_the_library_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("bin");
        let lib = dir.path().join("lib/forkhorn");
        fs::create_dir_all(&bin).and_then(|()| fs::create_dir_all(&lib)).expect("directories");
        assert_eq!(Bridge::find_from(&bin).path, None);
        for file in ["lib/forkhorn/_forkhorn.abi3.so", "bin/lib_forkhorn.so", "bin/_forkhorn.abi3.so"] {
            let file = dir.path().join(file);
            fs::write(&file, "").expect("written");
            assert_eq!(Bridge::find_from(&bin).path, Some(file));
        }
    }
}
