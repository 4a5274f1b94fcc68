//! The file that says which process is the master.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::config::StartupError;

/// Removed when it is dropped, if it is still ours.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl PidFile {
    /// Writes the file in one step: nobody ever reads half a number.
    ///
    /// # Errors
    /// Another process that lives is named in it; or it can't be written.
    pub(crate) fn create(path: &Path) -> Result<PidFile, StartupError> {
        if let Some(pid) = living_other(path) {
            return Err(StartupError::other(format!(
                "--pid-file {}: it names process {pid}, which is running: is forkhorn started twice? If that process \
                 is another program, remove the file",
                path.display()
            )));
        }
        let identity = write(path).map_err(|error| failed(path, &error))?;
        Ok(PidFile { path: path.to_owned(), identity })
    }
}

impl PidFile {
    /// Puts this process's id in the place of the old master's.
    pub(crate) fn take_over(path: &Path) -> Result<PidFile, StartupError> {
        let identity = write(path).map_err(|error| failed(path, &error))?;
        Ok(PidFile { path: path.to_owned(), identity })
    }

    /// The file is another process's; ours is `FILE.oldbin` as long as this process still drains.
    pub(crate) fn rename_for_leaving(mut self) -> Option<PidFile> {
        // No file has this identity: the drop leaves it alone.
        self.identity = (0, 0);
        let mut name = self.path.clone().into_os_string();
        name.push(".oldbin");
        PidFile::take_over(Path::new(&name)).inspect_err(|error| log::warn!("{error}")).ok()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if found.is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> StartupError {
    // Of a file beside it, whose name is nobody's concern.
    let why = match error.kind() {
        io::ErrorKind::NotFound => "its directory does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "forkhorn may not write to its directory".to_owned(),
        _ => error.to_string(),
    };
    StartupError::other(format!("--pid-file {}: {why}", path.display()))
}

fn write(path: &Path) -> io::Result<(u64, u64)> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    // A name that nobody can foresee, created exclusively, then renamed over whatever is there.
    let mut file = tempfile::Builder::new().prefix(".forkhorn-").tempfile_in(directory)?;
    writeln!(file, "{}", std::process::id())?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    let identity = file.as_file().metadata().map(|found| (found.dev(), found.ino()))?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(identity)
}

/// The process that an older file names, if it runs and is not this one.
fn living_other(path: &Path) -> Option<i32> {
    let text = fs::read_to_string(path).ok()?;
    let pid: i32 = text.trim().parse().ok().filter(|pid| *pid > 0)?;
    // After a restart of a container the old master had our number.
    if u32::try_from(pid) == Ok(std::process::id()) {
        return None;
    }
    // EPERM: it runs as another user.
    matches!(kill(Pid::from_raw(pid), None), Ok(()) | Err(Errno::EPERM)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_file_holds_our_pid_and_is_removed_at_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("forkhorn.pid");
        let file = PidFile::create(&path).expect("created");
        assert_eq!(fs::read_to_string(&path).expect("read"), format!("{}\n", std::process::id()));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o644);
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }

    #[test]
    fn the_file_of_a_running_process_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("forkhorn.pid");
        let parent = std::os::unix::process::parent_id();
        fs::write(&path, parent.to_string()).expect("written");
        let error = PidFile::create(&path).expect_err("refused");
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains(&format!("process {parent}")), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("read"), parent.to_string());
    }

    #[test]
    fn a_file_that_can_not_be_written_is_told_with_its_option() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("missing/forkhorn.pid");
        let error = PidFile::create(&path).expect_err("refused").to_string();
        assert_eq!(error, format!("--pid-file {}: its directory does not exist", path.display()));
    }

    #[test]
    fn a_stale_file_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("forkhorn.pid");
        let mut ended = Command::new("true").spawn().expect("true starts");
        ended.wait().expect("true ends");
        for stale in [ended.id().to_string(), "0".into(), "-1".into(), "no number".into(), String::new()] {
            fs::write(&path, &stale).expect("written");
            let file = PidFile::create(&path).expect(&stale);
            assert_eq!(fs::read_to_string(&path).expect("read"), format!("{}\n", std::process::id()));
            drop(file);
        }
    }

    #[test]
    fn a_file_that_another_process_has_put_there_since_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("forkhorn.pid");
        let file = PidFile::create(&path).expect("created");
        fs::write(dir.path().join("new"), "1").expect("written");
        fs::rename(dir.path().join("new"), &path).expect("renamed");
        drop(file);
        assert_eq!(fs::read_to_string(&path).expect("still there"), "1");
    }
}
