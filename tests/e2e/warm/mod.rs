//! Warm CGI: scripts that are run by copies of an interpreter, and are not to notice it.

mod fidelity;
mod hold;
mod isolation;
mod learning;
mod life;
mod spares;

use std::fs;
use std::path::Path;

use crate::support::folder::{copy_tree, set_mode};
use crate::support::{Folder, Forkhorn, Running, fixture, python};

/// The scripts of `tests/fixtures/cgi/warm`, with the interpreters of this machine in their first lines.
pub struct Scripts {
    pub folder: Folder,
}

impl Scripts {
    pub fn new() -> Scripts {
        Scripts::with_python(python::default_python())
    }

    pub fn with_python(python: &Path) -> Scripts {
        let folder = Folder::new();
        copy_tree(&fixture("cgi/warm"), &folder.join("cgi-bin"));
        name_interpreters(&folder.join("cgi-bin"), python.to_str().expect("a path"));
        Scripts { folder }
    }

    /// forkhorn with these scripts, over FastCGI: standard error comes with the answer.
    pub fn serve(&self, options: &[&str]) -> Running {
        let forkhorn = Forkhorn::new().both().args(["--stderr", "fastcgi"]);
        let forkhorn = options.iter().fold(forkhorn, |forkhorn, option| forkhorn.arg(*option));
        forkhorn.mount_path("--cgi", "/cgi-bin", &self.folder.join("cgi-bin")).start()
    }
}

fn name_interpreters(folder: &Path, python: &str) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            name_interpreters(&path, python);
            continue;
        }
        let content = fs::read(&path).expect("a file");
        for (word, interpreter) in [("#!PYTHON", python), ("#!PERL", "/usr/bin/perl")] {
            if let Some(rest) = content.strip_prefix(word.as_bytes()) {
                fs::write(&path, [b"#!", interpreter.as_bytes(), rest].concat()).expect("written");
                set_mode(&path, 0o755);
            }
        }
    }
}
