//! Values of peers in a line: whatever they hold, they end neither the line nor their place in it.

use std::io::Write;

use crate::printable::is_unsafe;

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

/// A string of JSON (RFC 8259 §7), which is UTF-8. A byte that is none of UTF-8 becomes the four characters `\xhh`; control
/// characters, and those that reorder the text around them, are escaped, so that the line may be shown on a terminal.
pub(super) fn json(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    for chunk in value.utf8_chunks() {
        json_text(out, chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "\\\\x{byte:02x}");
        }
    }
    out.push(b'"');
}

fn json_text(out: &mut Vec<u8>, text: &str) {
    let stays = |character: char| !matches!(character, '"' | '\\') && !is_unsafe(character);
    let mut rest = text;
    while let Some((at, character)) = rest.char_indices().find(|(_, character)| !stays(*character)) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            _ => {
                // All of them lie in the first plane.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
        }
        rest = &rest[at + character.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
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

    #[test]
    fn json_is_json_whatever_a_value_holds() {
        for (value, meant) in [
            (b"".as_slice(), ""),
            (b"plain", "plain"),
            ("é ✓ \u{1f98c}".as_bytes(), "é ✓ \u{1f98c}"),
            (b"a\"b\\c\n\t\0\x7f", "a\"b\\c\n\t\0\x7f"),
            ("\u{2028}\u{202e}\u{85}".as_bytes(), "\u{2028}\u{202e}\u{85}"),
            (b"\xff\xc3", "\\xff\\xc3"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ] {
            let mut out = Vec::new();
            json(&mut out, value);
            assert!(!out.iter().any(|byte| byte.is_ascii_control()));
            let read: String = serde_json::from_slice(&out).expect("a string of JSON");
            assert_eq!(read, meant);
        }
    }
}
