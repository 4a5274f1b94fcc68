//! Where a test works: a folder of its own, readable for the users that servers drop to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

#[derive(Debug)]
pub struct Folder {
    directory: TempDir,
}

impl Folder {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("forkhorn-").tempdir().expect("a temporary folder");
        set_mode(directory.path(), 0o755);
        Folder { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file, and makes the folders on its way.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("folders");
        fs::write(&path, content).expect("a file");
        path
    }

    /// Writes an executable file.
    pub fn script(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.write(name, content);
        set_mode(&path, 0o755);
        path
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).expect("folders");
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.join(name)).unwrap_or_default()
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions of a file of ours");
}

/// The folder of the project.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file below `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    project().join("tests/fixtures").join(name)
}

/// Copies a folder and what is in it, with its permissions, links as links.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            copy_tree(&entry.path(), &target);
        } else if kind.is_symlink() {
            let destination = fs::read_link(entry.path()).expect("a link");
            std::os::unix::fs::symlink(destination, target).expect("a link");
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
