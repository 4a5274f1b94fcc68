//! Who answers: the mount whose prefix is the longest, or the script that the web server has named.

use std::borrow::Cow;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::path;
use crate::config::{Mount, MountTarget};

/// Who answers a request.
#[derive(Debug, Clone)]
pub enum Route {
    /// Index into [`Config::applications`](crate::config::Config::applications). SCRIPT_NAME is the mount's prefix,
    /// PATH_INFO the rest of the path.
    Application(usize),
    Cgi(CgiTarget),
    Static(StaticTarget),
}

/// A request that nobody answers, or a script's redirect that can't be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For the peer: 400, 404 or 502.
    pub status: u16,
    /// For the log.
    pub reason: Cow<'static, str>,
}

impl Refusal {
    pub fn new(status: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Refusal { status, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.status)
    }
}

impl std::error::Error for Refusal {}

/// Where to look for a CGI script.
///
/// `meta` has SCRIPT_NAME and PATH_INFO as the mount or the web server splits the path; the handler splits it again
/// where it finds the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgiTarget {
    /// Absolute, symbolic links resolved. Nothing outside is run.
    pub directory: PathBuf,
    /// The decoded URL path, which SCRIPT_NAME and PATH_INFO together must stay. It has no dot segments and no NUL;
    /// empty segments may occur, and name nothing.
    pub url_path: Vec<u8>,
    pub place: Place,
}

/// Which part of the request names the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The URL path from this byte on is the path below the directory.
    UrlPath { prefix_length: usize },
    /// SCRIPT_FILENAME of a web server, which lies in the directory by its name; freed of `proxy:`.
    Filename(Vec<u8>),
}

/// Plain files: PATH_INFO names one below the directory.
#[derive(Debug, Clone)]
pub struct StaticTarget {
    root: Arc<StaticRoot>,
}

#[derive(Debug)]
struct StaticRoot {
    directory: PathBuf,
    script_directories: Vec<PathBuf>,
}

impl StaticTarget {
    /// `script_directories` are those whose files must never be shown.
    pub fn new(directory: PathBuf, script_directories: Vec<PathBuf>) -> Self {
        StaticTarget { root: Arc::new(StaticRoot { directory, script_directories }) }
    }

    /// Absolute, symbolic links resolved.
    pub fn directory(&self) -> &Path {
        &self.root.directory
    }

    /// The directories of CGI scripts: their files are run, their source is never shown, also where a directory of
    /// plain files contains them.
    pub fn script_directories(&self) -> &[PathBuf] {
        &self.root.script_directories
    }
}

/// All mounts, the longest prefix first.
#[derive(Debug)]
pub(super) struct Mounts(Vec<MountPoint>);

#[derive(Debug)]
struct MountPoint {
    prefix: Vec<u8>,
    destination: Destination,
}

#[derive(Debug)]
enum Destination {
    Application(usize),
    Cgi(PathBuf),
    Static(StaticTarget),
}

impl Mounts {
    pub(super) fn new(mounts: &[Mount]) -> Self {
        let script_directories: Vec<PathBuf> = mounts
            .iter()
            .filter_map(|mount| match &mount.target {
                MountTarget::Cgi(directory) => Some(directory.clone()),
                _ => None,
            })
            .collect();
        let mut points: Vec<MountPoint> = mounts
            .iter()
            .map(|mount| MountPoint {
                prefix: mount.prefix.as_bytes().to_vec(),
                destination: match &mount.target {
                    MountTarget::Application(index) => Destination::Application(*index),
                    MountTarget::Cgi(directory) => Destination::Cgi(directory.clone()),
                    MountTarget::Static(directory) => {
                        Destination::Static(StaticTarget::new(directory.clone(), script_directories.clone()))
                    }
                },
            })
            .collect();
        points.sort_by_key(|point| std::cmp::Reverse(point.prefix.len()));
        Mounts(points)
    }

    /// The mount of a decoded path: its prefix, the offset in `path` at which PATH_INFO begins, and who answers.
    ///
    /// A prefix ends at the end of a segment: `/app` is the mount of `/app/x`, not of `/apple`. Several slashes in a
    /// row count as one here. Else `//cgi-bin/x` would reach a directory of plain files that contains the scripts.
    pub(super) fn find(&self, path: &[u8]) -> Option<(&[u8], usize, Route)> {
        self.0.iter().find_map(|point| {
            let offset = matched(&point.prefix, path)?;
            let route = match &point.destination {
                Destination::Application(index) => Route::Application(*index),
                Destination::Cgi(directory) => Route::Cgi(CgiTarget {
                    directory: directory.clone(),
                    url_path: [&point.prefix, &path[offset..]].concat(),
                    place: Place::UrlPath { prefix_length: point.prefix.len() },
                }),
                Destination::Static(target) => Route::Static(target.clone()),
            };
            Some((point.prefix.as_slice(), offset, route))
        })
    }

    /// The directory of scripts that a SCRIPT_FILENAME lies in. The handler checks the resolved file once more.
    pub(super) fn find_script(&self, script_filename: &[u8]) -> Option<(PathBuf, Place)> {
        let file = plain_file(script_filename)?;
        let directories = self.0.iter().filter_map(|point| match &point.destination {
            Destination::Cgi(directory) => Some(directory),
            _ => None,
        });
        let is_above = |directory: &&PathBuf| {
            let root = directory.as_os_str().as_bytes();
            // `/cgi` is no directory of `/cgi-old/x`, nor of itself.
            file.strip_prefix(root.strip_suffix(b"/").unwrap_or(root))
                .is_some_and(|below| below.len() > 1 && below.starts_with(b"/"))
        };
        let innermost = directories.filter(is_above).max_by_key(|directory| directory.as_os_str().len())?;
        Some((innermost.clone(), Place::Filename(file)))
    }
}

/// How many bytes of `path` are the prefix, if it begins with it.
fn matched(prefix: &[u8], path: &[u8]) -> Option<usize> {
    let is_end = |offset: usize| path.get(offset).is_none_or(|&byte| byte == b'/');
    if path.starts_with(prefix) && is_end(prefix.len()) {
        return Some(prefix.len());
    }
    let mut offset = 0;
    for &expected in prefix {
        if path.get(offset) != Some(&expected) {
            return None;
        }
        offset += 1;
        while expected == b'/' && path.get(offset) == Some(&b'/') {
            offset += 1;
        }
    }
    is_end(offset).then_some(offset)
}

/// A SCRIPT_FILENAME as the file's path, or `None` if it is none that can be compared.
///
/// Apache writes `proxy:fcgi://host:port/path`, or `proxy:fcgi://localhost//path` after SetHandler, with the path
/// percent-encoded; its GENERIC form leaves `//path`.
fn plain_file(script_filename: &[u8]) -> Option<Vec<u8>> {
    let mut file = Vec::new();
    match script_filename.strip_prefix(b"proxy:") {
        None => file.extend_from_slice(script_filename),
        Some(url) => {
            let scheme = url.windows(3).position(|window| window == b"://")?;
            let authority = &url[scheme + 3..];
            let path = authority.iter().position(|&byte| byte == b'/')?;
            path::percent_decode(&authority[path..], &mut file).ok()?;
        }
    }
    let slashes = file.iter().take_while(|&&byte| byte == b'/').count();
    file.drain(..slashes.saturating_sub(1));
    let mut segments = file.split(|&byte| byte == b'/');
    let is_plain = slashes > 0 && segments.all(|segment| segment != b"." && segment != b"..");
    is_plain.then_some(file)
}
