//! From the decoded URL path to a script: the first regular file on the way down from the script directory.
//!
//! What is checked is what is run: a file is opened (O_PATH), looked at through that descriptor, and run by the path that
//! the kernel names for the descriptor, free of symbolic links. What remains is a change of that very path, by somebody
//! who may write to the script directory or one above it, between the check and execve(2): he decides what the scripts
//! are anyway.

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::super::HandlerError;
use crate::gateway::{CgiTarget, KnownName, MetaVariables, Place};
use crate::printable::printable;

/// A script that may be run.
#[derive(Debug, Clone)]
pub struct Script {
    /// As the URL named it, symbolic links kept: SCRIPT_FILENAME, and argv.
    name: CString,
    /// The file itself.
    path: CString,
    directory: CString,
    nph: bool,
    version: FileVersion,
}

/// By which a change of a file is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileVersion {
    /// Nanoseconds since 1970.
    modified: i128,
    bytes: i64,
    inode: u64,
}

impl FileVersion {
    #[cfg(test)]
    pub fn from_parts(modified: i128, bytes: i64, inode: u64) -> Self {
        FileVersion { modified, bytes, inode }
    }
}

impl std::fmt::Display for FileVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.modified, self.bytes, self.inode)
    }
}

impl Script {
    /// The file, symbolic links resolved.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.path.as_bytes()))
    }

    /// Its path as the URL named it.
    pub fn name(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.name.as_bytes()))
    }

    /// It writes the whole HTTP response itself (RFC 3875 §5): its name begins with `nph-`.
    pub fn is_nph(&self) -> bool {
        self.nph
    }

    pub(super) fn exec_path(&self) -> &CString {
        &self.path
    }

    /// The file's, when it was found.
    pub(super) fn version(&self) -> FileVersion {
        self.version
    }

    pub(super) fn argv0(&self) -> &CString {
        &self.name
    }

    /// Working directory (RFC 3875 §7.2): where the name lies, not where a symbolic link leads.
    pub(super) fn directory(&self) -> &CString {
        &self.directory
    }
}

/// Finds the script and splits the path at it: sets SCRIPT_NAME, PATH_INFO, SCRIPT_FILENAME and PATH_TRANSLATED, whatever
/// the web server said about them. SCRIPT_NAME and PATH_INFO together are the decoded URL path.
///
/// # Errors
/// 404: there is no such file, or a name on the way begins with a dot. 403: it is a directory, not executable, or lies
/// outside. The text names the resolved path.
pub fn locate(
    target: &CgiTarget,
    meta: &mut MetaVariables,
    document_root: Option<&Path>,
) -> Result<Script, HandlerError> {
    let path = match &target.place {
        Place::UrlPath { prefix_length } => target.url_path.get(*prefix_length..).unwrap_or_default(),
        Place::Filename(file) => below(&target.directory, file)
            .ok_or_else(|| outside(Path::new(OsStr::from_bytes(file)), &target.directory))?,
    };
    let found = walk(&target.directory, path)?;
    let resolved = resolve(&found)?;
    if !resolved.starts_with(&target.directory) {
        return Err(outside(&resolved, &target.directory));
    }
    if !found.is_executable {
        let shown = shown(&resolved);
        return Err(HandlerError::new(403, format!("script {shown}: not executable; run: chmod +x {shown}")));
    }
    let (_, extra) = path.split_at(found.length);
    let path_info_length = match target.place {
        Place::UrlPath { .. } => extra.len(),
        Place::Filename(_) => named_path_info(&target.url_path, extra, meta),
    };
    set_variables(meta, target, path_info_length, &found.path, document_root);
    script(found.path, resolved, found.version)
}

struct Found {
    path: PathBuf,
    descriptor: OwnedFd,
    /// Bytes of the walked path up to the script's end.
    length: usize,
    is_executable: bool,
    version: FileVersion,
}

/// Goes down from `directory` until a file is met.
fn walk(directory: &Path, path: &[u8]) -> Result<Found, HandlerError> {
    let mut at = directory.to_path_buf();
    let mut length = 0;
    for segment in path.split_inclusive(|&byte| byte == b'/') {
        let name = segment.strip_suffix(b"/").unwrap_or(segment);
        let is_last = name.len() == segment.len();
        if !name.is_empty() {
            // `.` and `..` among them; the gateway has removed those, but this is where it would matter.
            if name.starts_with(b".") || name.contains(&0) {
                return Err(HandlerError::new(
                    404,
                    format!(
                        "no script {}: names that begin with a dot are not served",
                        shown(&at.join(OsStr::from_bytes(name)))
                    ),
                ));
            }
            at.push(OsStr::from_bytes(name));
            let descriptor = open(&at, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|error| unreachable_file(&at, error))?;
            let stat = fstat(&descriptor).map_err(|error| unreachable_file(&at, error))?;
            match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
                SFlag::S_IFDIR => {}
                SFlag::S_IFREG => {
                    let is_executable = stat.st_mode & 0o111 != 0;
                    let version = FileVersion {
                        modified: i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
                        bytes: stat.st_size,
                        inode: stat.st_ino,
                    };
                    let length = length + name.len();
                    return Ok(Found { path: at, descriptor, length, is_executable, version });
                }
                _ => {
                    return Err(HandlerError::new(403, format!("script {}: not a regular file", shown(&at))));
                }
            }
        }
        if is_last {
            break;
        }
        length += segment.len();
    }
    Err(HandlerError::new(403, format!("script {}: a directory; name a script in it", shown(&at))))
}

/// The kernel's path for the file behind the descriptor; where /proc is missing, the C library's idea of it.
fn resolve(found: &Found) -> Result<PathBuf, HandlerError> {
    fs::read_link(format!("/proc/self/fd/{}", found.descriptor.as_raw_fd()))
        .or_else(|_| fs::canonicalize(&found.path))
        .map_err(|error| {
            HandlerError::new(502, format!("script {}: can't be resolved: {error}", shown(&found.path)))
        })
}

/// The rest of `file` below `directory`, compared by whole components: `/srv/cgi` is no prefix of `/srv/cgi_old/x`.
fn below<'a>(directory: &Path, file: &'a [u8]) -> Option<&'a [u8]> {
    let directory = directory.as_os_str().as_bytes();
    let rest = file.strip_prefix(directory)?;
    (directory.ends_with(b"/") || rest.starts_with(b"/")).then_some(rest)
}

/// Where PATH_INFO begins, if the web server has chosen the file: behind the file in SCRIPT_FILENAME, else what it calls
/// PATH_INFO, else behind what it calls SCRIPT_NAME. Each only if it agrees with the URL path.
fn named_path_info(url_path: &[u8], extra: &[u8], meta: &MetaVariables) -> usize {
    let ends_with = |info: &&[u8]| info.starts_with(b"/") && url_path.ends_with(info);
    if let Some(info) = Some(extra).filter(ends_with) {
        return info.len();
    }
    if let Some(info) = meta.known(KnownName::PathInfo).filter(ends_with) {
        return info.len();
    }
    let script_name = meta.known(KnownName::ScriptName).filter(|name| !name.is_empty());
    let after = script_name.and_then(|name| url_path.strip_prefix(name));
    after.filter(|info| info.starts_with(b"/")).map_or(0, <[u8]>::len)
}

fn set_variables(
    meta: &mut MetaVariables,
    target: &CgiTarget,
    path_info_length: usize,
    file: &Path,
    document_root: Option<&Path>,
) {
    let (script_name, path_info) = target.url_path.split_at(target.url_path.len() - path_info_length);
    let root = meta.known(KnownName::DocumentRoot).filter(|root| !root.is_empty());
    let root = root.or(document_root.map(|root| root.as_os_str().as_bytes()));
    let translated = root.and_then(|root| translate(root, path_info));
    meta.set(b"SCRIPT_NAME", script_name);
    meta.set(b"SCRIPT_FILENAME", file.as_os_str().as_bytes());
    set_or_remove(meta, b"PATH_INFO", Some(path_info).filter(|info| !info.is_empty()));
    set_or_remove(meta, b"PATH_TRANSLATED", translated.as_deref());
}

/// RFC 3875 §4.1.6: PATH_INFO as if it were a URL path of its own. Not for `..`, which would lead out of the root.
fn translate(root: &[u8], path_info: &[u8]) -> Option<Vec<u8>> {
    if path_info.is_empty() || path_info.split(|&byte| byte == b'/').any(|name| name == b"..") {
        return None;
    }
    Some([root.strip_suffix(b"/").unwrap_or(root), path_info].concat())
}

fn set_or_remove(meta: &mut MetaVariables, name: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => meta.set(name, value),
        None => meta.remove(name),
    }
}

fn script(name: PathBuf, path: PathBuf, version: FileVersion) -> Result<Script, HandlerError> {
    let nph = name.file_name().is_some_and(|file| file.as_bytes().starts_with(b"nph-"));
    let directory = name.parent().unwrap_or(Path::new("/")).to_path_buf();
    let strings = [name, path, directory].map(|path| CString::new(OsString::from(path).into_vec()));
    match strings {
        [Ok(name), Ok(path), Ok(directory)] => Ok(Script { name, path, directory, nph, version }),
        _ => Err(HandlerError::new(404, "no script has a NUL in its path")),
    }
}

fn unreachable_file(path: &Path, error: Errno) -> HandlerError {
    let shown = shown(path);
    match error {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG => {
            HandlerError::new(404, format!("no script {shown}"))
        }
        Errno::EACCES => HandlerError::new(
            403,
            format!(
                "script {shown}: a directory above it may not be searched by the user of the workers; chmod +x it"
            ),
        ),
        Errno::ELOOP => HandlerError::new(403, format!("script {shown}: its symbolic links form a loop")),
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => HandlerError::unavailable(error.into()),
        _ => HandlerError::new(502, format!("script {shown}: {}", error.desc())),
    }
}

fn outside(resolved: &Path, directory: &Path) -> HandlerError {
    HandlerError::new(
        403,
        format!(
            "script {}: outside its script directory {}; move it there, or name its own directory with --cgi",
            shown(resolved),
            shown(directory)
        ),
    )
}

fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes(), SHOWN_PATH_BYTES)
}

const SHOWN_PATH_BYTES: usize = 1024;

#[cfg(test)]
#[path = "locate_tests.rs"]
mod tests;
