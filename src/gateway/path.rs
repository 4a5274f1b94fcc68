//! The decoded URL path: percent-decoded once, then dot segments removed, never the other way round and never twice.
//!
//! The rules, the same for every handler and both protocols:
//!
//! - `%XX` is decoded, `%2F` to a slash too (as PEP 3333 servers do; REQUEST_URI keeps the difference). What follows a
//!   `%` must be two hexadecimal digits. `%00` is refused: no file name and no environment variable can hold it.
//! - `.` and `..` are removed (RFC 3986 §5.2.4) after the decoding, so that `%2e%2e%2f` is no different. A path that
//!   climbs above the root is refused. A doubly encoded `%252e` becomes the three characters `%2e`, and stays that.
//! - Empty segments (`//`) stay, but do not change which mount is chosen ([`Mounts`](super::route::Mounts)).

/// Why a path is refused.
pub(super) type PathError = &'static str;

/// Appends the decoded form of `raw`, an absolute path without its query.
pub(super) fn decode(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let start = out.len();
    percent_decode(raw, out)?;
    remove_dot_segments(out, start)
}

/// Appends `script_name` and `path_info`, which a web server has decoded.
pub(super) fn join(script_name: &[u8], path_info: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let start = out.len();
    out.extend_from_slice(script_name);
    out.extend_from_slice(path_info);
    remove_dot_segments(out, start)
}

/// Appends `raw` with each `%XX` replaced by its byte.
pub(super) fn percent_decode(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let (plain, encoded) = rest.split_at(at);
        out.extend_from_slice(plain);
        let byte = match encoded {
            [_, high, low, ..] => hex_digit(*high).zip(hex_digit(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match byte {
            None => return Err("the path holds a % without two hexadecimal digits"),
            Some(0) => return Err("the path holds a NUL"),
            Some(byte) => out.push(byte),
        }
        rest = &encoded[3..];
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Works on the part of `path` from `start`, in place.
fn remove_dot_segments(path: &mut Vec<u8>, start: usize) -> Result<(), PathError> {
    if path.get(start) != Some(&b'/') {
        return Err("the path does not begin with a slash");
    }
    if !path[start..].windows(2).any(|pair| pair == b"/.") {
        return Ok(());
    }
    let (mut read, mut written, end) = (start, start, path.len());
    // `read` is at the slash before a segment; `written` never overtakes it.
    while read < end {
        let length = path[read + 1..end].iter().position(|&byte| byte == b'/');
        let next = length.map_or(end, |length| read + 1 + length);
        match &path[read + 1..next] {
            b"." => {}
            b".." => match path[start..written].iter().rposition(|&byte| byte == b'/') {
                Some(slash) => written = start + slash,
                None => return Err("the path climbs above the root"),
            },
            _ => {
                path.copy_within(read..next, written);
                written += next - read;
                read = next;
                continue;
            }
        }
        // A dot segment at the end names a directory.
        if next == end {
            path[written] = b'/';
            written += 1;
        }
        read = next;
    }
    path.truncate(written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(raw: &[u8]) -> Result<Vec<u8>, PathError> {
        let mut out = b"before".to_vec();
        decode(raw, &mut out)?;
        assert_eq!(out[..6], *b"before");
        Ok(out.split_off(6))
    }

    #[test]
    fn paths_are_decoded_once_and_then_freed_of_dot_segments() {
        for (raw, expected) in [
            (b"/".as_slice(), b"/".as_slice()),
            (b"/a%20b", b"/a b"),
            (b"/a%2Fb%2fc", b"/a/b/c"),
            (b"/caf%C3%A9", b"/caf\xc3\xa9"),
            (b"/caf\xe9", b"/caf\xe9"),
            (b"/a%0ab", b"/a\nb"),
            (b"/a%3fb=c", b"/a?b=c"),
            (b"/a//b", b"/a//b"),
            (b"//a", b"//a"),
            (b"/a/", b"/a/"),
            (b"/a/./b", b"/a/b"),
            (b"/a/b/../c", b"/a/c"),
            (b"/a/b/..", b"/a/"),
            (b"/a/..", b"/"),
            (b"/a/.", b"/a/"),
            (b"/.", b"/"),
            (b"/a/.%2e/b", b"/b"),
            (b"/a/%2E%2E%2Fb", b"/b"),
            (b"/a/..%2f..%2fa/../..%2f", b"climbs"),
            (b"/a//../b", b"/a/b"),
            (b"/a/%252e%252e/b", b"/a/%2e%2e/b"),
            (b"/a/%%32%65%%32%65/b", b"two hex"),
            (b"/a/..;/b", b"/a/..;/b"),
            (b"/a/...", b"/a/..."),
            (b"/.hidden/..x", b"/.hidden/..x"),
            (b"/..", b"climbs"),
            (b"/../etc", b"climbs"),
            (b"/a/../../etc", b"climbs"),
            (b"/%2e%2e/etc", b"climbs"),
            (b"/..%2fetc", b"climbs"),
            (b"/a%00.pl", b"NUL"),
            (b"/a%", b"two hex"),
            (b"/a%4", b"two hex"),
            (b"/a%zz", b"two hex"),
            (b"/a%+1", b"two hex"),
            (b"a", b"begin"),
            (b"", b"begin"),
        ] {
            match decoded(raw) {
                Ok(path) => assert_eq!(path, expected, "{}", raw.escape_ascii()),
                Err(why) => {
                    let expected = std::str::from_utf8(expected).expect("ASCII");
                    assert!(why.contains(expected), "{}: {why}", raw.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn what_is_decoded_holds_no_dot_segment() {
        let pieces: [&[u8]; 7] = [b"/", b".", b"..", b"a", b"%2e", b"%2f", b"%"];
        for choice in 0..7_usize.pow(6) {
            let mut raw = vec![b'/'];
            (0..6).for_each(|place| raw.extend_from_slice(pieces[choice / 7_usize.pow(place) % 7]));
            if let Ok(path) = decoded(&raw) {
                assert!(path.starts_with(b"/"), "{}", raw.escape_ascii());
                let mut segments = path.split(|&byte| byte == b'/');
                assert!(
                    segments.all(|segment| segment != b"." && segment != b".."),
                    "{}",
                    raw.escape_ascii()
                );
            }
        }
    }
}
