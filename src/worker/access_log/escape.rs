//! Values of peers in a line: whatever they hold, they end neither the line nor their place in it.

use std::io::Write;

/// As Apache does it: quotation marks and backslashes with a backslash, what can't be printed as `\xhh`. A value that does
/// not stand between quotation marks holds no space either.
pub(super) fn text(out: &mut Vec<u8>, value: &[u8], quoted: bool) {
    if value.is_empty() {
        return out.push(b'-');
    }
    let stays = |byte: &u8| match byte {
        b'"' | b'\\' => false,
        b' ' => quoted,
        _ => byte.is_ascii_graphic(),
    };
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| !stays(byte)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            // Writing to memory does not fail.
            byte => drop(write!(out, "\\x{byte:02x}")),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_its_place() {
        for (value, between_quotes, bare) in [
            (b"".as_slice(), "-", "-"),
            (b"plain", "plain", "plain"),
            (b"a b", "a b", "a\\x20b"),
            (
                b"x\" 200\n\x1b[2Jy\\\xff",
                "x\\\" 200\\x0a\\x1b[2Jy\\\\\\xff",
                "x\\\"\\x20200\\x0a\\x1b[2Jy\\\\\\xff",
            ),
            ("é".as_bytes(), "\\xc3\\xa9", "\\xc3\\xa9"),
        ] {
            for (quoted, expected) in [(true, between_quotes), (false, bare)] {
                let mut out = Vec::new();
                text(&mut out, value, quoted);
                assert_eq!(String::from_utf8(out).expect("ASCII"), expected);
            }
        }
    }
}
