//! Plain files below a directory, for the first run and for development.
//!
//! What is served is a regular file that the kernel itself has found below the directory: openat2(2) resolves the path
//! and refuses to leave, whatever symbolic links say. Names that begin with a dot are not served, nor is any file of a
//! script directory.

use std::fs::{self, File, Metadata};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;

use crate::gateway::{KnownName, MetaVariables, StaticTarget, error_page};
use crate::protocol::{ResponseHead, default_reason};

/// The body that goes with the head that [`answer`] has made.
#[derive(Debug)]
pub enum StaticBody {
    None,
    Bytes(Bytes),
    /// `length` bytes from `offset`.
    File {
        file: Arc<File>,
        offset: u64,
        length: u64,
    },
}

/// Answers with the file that PATH_INFO names below the target's directory: GET and HEAD, conditional by ETag and
/// Last-Modified, one range. `head` is begun anew, errors included.
pub fn answer(target: &StaticTarget, meta: &MetaVariables, head: &mut ResponseHead) -> StaticBody {
    let method = meta.known(KnownName::RequestMethod).unwrap_or_default();
    if !matches!(method, b"GET" | b"HEAD") {
        return refused(Refused { status: 405, field: Some((b"Allow", b"GET, HEAD".to_vec())) }, head);
    }
    match find(target, meta) {
        Ok(found) => found.send(meta, method == b"HEAD", head),
        Err(refusal) => refused(refusal, head),
    }
}

/// An answer that is no file.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    status: u16,
    field: Option<(&'static [u8], Vec<u8>)>,
}

impl From<u16> for Refused {
    fn from(status: u16) -> Self {
        Refused { status, field: None }
    }
}

fn refused(refusal: Refused, head: &mut ResponseHead) -> StaticBody {
    let page = error_page(refusal.status, head);
    if let Some((name, value)) = refusal.field
        && head.push(name, &value).is_err()
    {
        return refused(Refused::from(404), head);
    }
    StaticBody::Bytes(page)
}

#[derive(Debug)]
struct Found {
    file: File,
    length: u64,
    /// `None` if it can't be written as an HTTP date.
    modified: Option<SystemTime>,
    etag: String,
    content_type: &'static str,
}

/// The file that is asked for, or `index.html` of the directory.
fn find(target: &StaticTarget, meta: &MetaVariables) -> Result<Found, Refused> {
    let path = meta.known(KnownName::PathInfo).unwrap_or_default();
    let mut relative = relative(path)?;
    let directory =
        open(target.directory(), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|error| unreachable(target.directory(), error))?;
    let mut found = open_below(&directory, target, &relative)?;
    if found.1.is_dir() {
        if !path.ends_with(b"/") {
            return Err(Refused { status: 301, field: Some((b"Location", with_slash(meta))) });
        }
        relative.push("index.html");
        found = open_below(&directory, target, &relative)?;
    } else if path.ends_with(b"/") {
        return Err(404.into());
    }
    let (file, metadata) = found;
    match metadata.is_file() {
        true => Ok(Found::new(file, &metadata, &relative)),
        false => Err(404.into()),
    }
}

/// The decoded path as a relative one. Empty segments name nothing, hidden names are not there.
fn relative(path: &[u8]) -> Result<PathBuf, Refused> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let mut relative = PathBuf::new();
    for segment in path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()) {
        // `.` and `..` among them: the gateway has removed those, but this is where it would matter.
        if segment.starts_with(b".") || segment.contains(&0) {
            return Err(404.into());
        }
        relative.push(OsStr::from_bytes(segment));
    }
    Ok(relative)
}

fn open_below(
    directory: &OwnedFd,
    target: &StaticTarget,
    relative: &Path,
) -> Result<(File, Metadata), Refused> {
    let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let descriptor = match open_beneath(directory, path) {
        // A kernel before 5.6, or a sandbox that does not know the call.
        Err(Errno::ENOSYS | Errno::EPERM) => open_without_links(directory, path),
        other => other,
    };
    let shown = target.directory().join(relative);
    let file = File::from(descriptor.map_err(|error| unreachable(&shown, error))?);
    let metadata = file.metadata().map_err(|error| failed(&shown, &error))?;
    if !target.script_directories().is_empty() {
        let resolved = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
            .or_else(|_| fs::canonicalize(&shown))
            .map_err(|error| failed(&shown, &error))?;
        if target.script_directories().iter().any(|scripts| resolved.starts_with(scripts)) {
            log::debug!(target: "static", "{}: the source of a script is not served", shown.display());
            return Err(404.into());
        }
    }
    Ok((file, metadata))
}

/// A FIFO must not block; nothing else is opened that would.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

fn open_beneath(directory: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(directory, path, OpenHow::new().flags(READ).resolve(resolve))
}

/// One name at a time, symbolic links refused.
fn open_without_links(directory: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let mut parent = directory.try_clone().map_err(|_| Errno::EMFILE)?;
    let mut names = path.iter().peekable();
    while let Some(name) = names.next() {
        let flags = match names.peek() {
            Some(_) => OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            None => READ,
        };
        parent = openat(&parent, name, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
    }
    Ok(parent)
}

fn unreachable(path: &Path, error: Errno) -> Refused {
    match error {
        // ELOOP and EXDEV: a symbolic link that leads out, or in circles.
        Errno::ENOENT | Errno::ENOTDIR | Errno::ENAMETOOLONG | Errno::ELOOP | Errno::EXDEV | Errno::ENXIO => {
            404.into()
        }
        Errno::EACCES => 403.into(),
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => {
            log::warn!(target: "static", "{}: {}", path.display(), error.desc());
            Refused { status: 503, field: Some((b"Retry-After", b"1".to_vec())) }
        }
        error => failed(path, &error.into()),
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Refused {
    log::warn!(target: "static", "{}: {error}", path.display());
    500.into()
}

/// The request's own URL with a slash behind the path.
fn with_slash(meta: &MetaVariables) -> Vec<u8> {
    let value = |name| meta.known(name).unwrap_or_default();
    let path = [value(KnownName::ScriptName), value(KnownName::PathInfo)].concat();
    let first = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    // Exactly one slash in front: `//host/` would be another site's URL.
    let mut location = b"/".to_vec();
    encode(&path[first..], b"/-._~!$&'()*+,;=:@", &mut location);
    location.push(b'/');
    let query = value(KnownName::QueryString);
    if !query.is_empty() {
        location.push(b'?');
        encode(query, b"/-._~!$&'()*+,;=:@%?", &mut location);
    }
    location
}

/// Percent-encodes everything but letters, digits and `plain`.
fn encode(bytes: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            true => out.push(byte),
            false => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

impl Found {
    fn new(file: File, metadata: &Metadata, path: &Path) -> Self {
        let modified = metadata.modified().ok();
        let age = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let nanoseconds = age.map_or(0, |age| age.as_nanos());
        Found {
            file,
            length: metadata.len(),
            // HTTP dates have whole seconds and four digits for the year.
            modified: age
                .filter(|age| age.as_secs() < YEAR_10000)
                .map(|age| UNIX_EPOCH + Duration::from_secs(age.as_secs())),
            etag: format!("\"{nanoseconds:x}-{:x}\"", metadata.len()),
            content_type: content_type(path),
        }
    }

    fn send(self, meta: &MetaVariables, is_head: bool, head: &mut ResponseHead) -> StaticBody {
        let part = match self.is_not_modified(meta) {
            true => None,
            false => Some(self.range(meta, is_head)),
        };
        let (status, offset, length) = match part {
            None => (304, 0, 0),
            Some(Part::Whole) => (200, 0, self.length),
            Some(Part::Range { first, last }) => (206, first, last - first + 1),
            Some(Part::Unsatisfiable) => {
                let field = (b"Content-Range".as_slice(), format!("bytes */{}", self.length).into_bytes());
                return refused(Refused { status: 416, field: Some(field) }, head);
            }
        };
        head.start(status, default_reason(status).as_bytes());
        let modified = self.modified.map(httpdate::fmt_http_date);
        let range = (status == 206)
            .then(|| format!("bytes {offset}-{}/{}", offset + length.saturating_sub(1), self.length));
        for (name, value) in [
            ("ETag", Some(self.etag.as_str())),
            ("Last-Modified", modified.as_deref()),
            ("Content-Type", Some(self.content_type).filter(|_| status != 304)),
            ("Accept-Ranges", Some("bytes").filter(|_| status != 304)),
            ("X-Content-Type-Options", Some("nosniff").filter(|_| status != 304)),
            ("Content-Range", range.as_deref()),
        ] {
            if let Some(value) = value {
                // Valid by their form.
                let _ = head.push(name.as_bytes(), value.as_bytes());
            }
        }
        if status != 304 {
            head.content_length = Some(length);
        }
        match is_head || length == 0 {
            true => StaticBody::None,
            false => StaticBody::File { file: Arc::new(self.file), offset, length },
        }
    }

    /// RFC 9110 §13.2.2: If-None-Match, and only without one If-Modified-Since.
    fn is_not_modified(&self, meta: &MetaVariables) -> bool {
        if let Some(tags) = meta.known(KnownName::HttpIfNoneMatch) {
            let mut tags = tags.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            return tags
                .any(|tag| tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes());
        }
        let since = meta.known(KnownName::HttpIfModifiedSince).and_then(date);
        since.zip(self.modified).is_some_and(|(since, modified)| modified <= since)
    }

    /// RFC 9110 §14.2: GET only, and with an If-Range only if that still holds. Several ranges, and what is no range of
    /// bytes, are ignored, as the section allows.
    fn range(&self, meta: &MetaVariables, is_head: bool) -> Part {
        let Some(ranges) = meta.known(KnownName::HttpRange).filter(|_| !is_head) else { return Part::Whole };
        let holds = meta.known(KnownName::HttpIfRange).is_none_or(|condition| {
            condition == self.etag.as_bytes()
                || self.modified.is_some_and(|modified| date(condition) == Some(modified))
        });
        if holds { parse_range(ranges, self.length) } else { Part::Whole }
    }
}

/// The first second that an HTTP date can't tell.
const YEAR_10000: u64 = 253_402_300_800;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    /// `last` is included, and lies in the file.
    Range {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
}

fn parse_range(ranges: &[u8], length: u64) -> Part {
    let Some((unit, range)) = ranges.split_at_checked(6) else { return Part::Whole };
    let range = range.trim_ascii();
    let Some(dash) = range.iter().position(|&byte| byte == b'-') else { return Part::Whole };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return Part::Whole;
    }
    let number = crate::protocol::parse_content_length;
    let (first, last) = match (&range[..dash], &range[dash + 1..]) {
        ([], suffix) => match number(suffix) {
            None => return Part::Whole,
            Some(0) => return Part::Unsatisfiable,
            Some(suffix) => (length.saturating_sub(suffix), u64::MAX),
        },
        (first, []) => match number(first) {
            None => return Part::Whole,
            Some(first) => (first, u64::MAX),
        },
        (first, last) => match number(first).zip(number(last)) {
            Some((first, last)) if first <= last => (first, last),
            _ => return Part::Whole,
        },
    };
    match first < length {
        true => Part::Range { first, last: last.min(length - 1) },
        false => Part::Unsatisfiable,
    }
}

fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim()).ok()
}

fn content_type(path: &Path) -> &'static str {
    let extension = path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase);
    match extension.as_deref().unwrap_or_default() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" | "log" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "text/xml; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/vnd.microsoft.icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "otf" => "font/otf",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
#[path = "static_files_tests.rs"]
mod tests;
