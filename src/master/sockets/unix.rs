//! Unix sockets: a name in the file system that must be free, ours, and open to the right users from its first moment.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Gid, Uid, fchownat};
use socket2::{Domain, SockAddr, Socket, Type};

use super::backlog_of;
use crate::config::{Identity, StartupError};

/// The name of a socket that this process has made: removed on drop, if it still is that socket.
#[derive(Debug)]
pub(crate) struct OwnedPath {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl OwnedPath {
    /// What another process has made, and left to this one.
    pub(crate) fn adopt(path: &Path, identity: (u64, u64)) -> OwnedPath {
        OwnedPath { path: path.to_owned(), identity }
    }

    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// It is another process's from now on.
    pub(crate) fn release(mut self) {
        // No file has this identity.
        self.identity = (0, 0);
    }
}

impl Drop for OwnedPath {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if found.is_ok_and(|found| found == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on `path`, which nobody can reach before its mode and owner are set.
pub(crate) fn open(
    path: &Path,
    mode: u32,
    owner: Option<&Identity>,
    backlog: u32,
) -> Result<(OwnedFd, OwnedPath), StartupError> {
    let failed = |why: &str| StartupError::other(format!("cannot listen on unix:{}: {why}", path.display()));
    make_room(path).map_err(|why| failed(&why))?;
    let open = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let (handle, name) = own(path)?;
        hand_over(&handle, mode, owner)?;
        // Until now connections were refused.
        socket.listen(backlog_of(backlog))?;
        Ok((OwnedFd::from(socket), name))
    };
    open().map_err(|error: io::Error| {
        let hint = match error.raw_os_error() {
            Some(libc::ENOENT) => match path.parent() {
                Some(parent) => format!("its directory does not exist; run: mkdir -p {}", parent.display()),
                None => error.to_string(),
            },
            Some(libc::EACCES) => format!("forkhorn may not write to its directory ({error})"),
            Some(libc::EADDRINUSE) => "another process has just taken the name".to_owned(),
            _ => error.to_string(),
        };
        failed(&hint)
    })
}

/// A handle on the name that was just made, and what removes it.
fn own(path: &Path) -> io::Result<(File, OwnedPath)> {
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let found = handle.metadata()?;
    Ok((handle, OwnedPath { path: path.to_owned(), identity: (found.dev(), found.ino()) }))
}

/// Sets the mode, and the owner if one is given, by the handle: in a directory that others may write, the name could by
/// now be that of something else, which root must neither open nor give away.
fn hand_over(handle: &File, mode: u32, owner: Option<&Identity>) -> io::Result<()> {
    let found = handle.metadata()?;
    let is_ours = owner.is_none() || found.uid() == Uid::effective().as_raw();
    if !found.file_type().is_socket() || found.nlink() != 1 || !is_ours {
        return Err(io::Error::other("another process has replaced the socket while it was made"));
    }
    // fchmod(2) takes no such handle; its entry in /proc stands for the socket itself.
    let entry = format!("/proc/self/fd/{}", handle.as_raw_fd());
    fs::set_permissions(entry, Permissions::from_mode(mode))?;
    if let Some(owner) = owner {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fchownat(handle, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
    }
    Ok(())
}

/// Removes a socket that nobody listens on any more. Anything else that has the name is left alone: the error says what.
fn make_room(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err("forkhorn may not enter its directory, or one above it".into());
        }
        Err(error) => return Err(error.to_string()),
        Ok(found) => found,
    };
    if !found.file_type().is_socket() {
        let kind = if found.is_dir() { "directory" } else { "file" };
        return Err(format!(
            "there is a {kind} of that name which is not a socket: remove it, or name another path"
        ));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)
        .map_err(|error| error.to_string())?;
    match SockAddr::unix(path).and_then(|address| socket.connect(&address)) {
        Ok(()) => Err(match getsockopt(&socket, sockopt::PeerCredentials) {
            Ok(peer) if peer.pid() > 0 => format!("another process (pid {}) listens on it", peer.pid()),
            _ => "another process listens on it".into(),
        }),
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => {
            log::info!("unix:{} was left behind by a process that is gone: replaced", path.display());
            fs::remove_file(path).map_err(|error| format!("the stale socket can't be removed: {error}"))
        }
        // EAGAIN: its queue is full; EPROTOTYPE: it takes datagrams. Somebody is there in any case.
        Err(error) => Err(format!("another process seems to use it ({error})")),
    }
}
