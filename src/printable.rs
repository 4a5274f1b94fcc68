//! What others have written, on its way to the log or to a terminal: nothing in it can forge a line or give an order.

use std::fmt::Write as _;
use std::io::Write as _;

/// The text of `bytes`: UTF-8 stays, control characters and other bytes are escaped (`\n`, `\x1b`, `\xff`). At most
/// `max_bytes` bytes are shown; how many more there were is said.
pub fn printable(bytes: &[u8], max_bytes: usize) -> String {
    let (shown, left) = match bytes.split_at_checked(max_bytes) {
        Some((shown, left)) => (shown, left.len()),
        None => (bytes, 0),
    };
    let mut text = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        push_printable(&mut text, chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String can't fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    if left > 0 {
        let _ = write!(text, "… ({left} more bytes)");
    }
    text
}

/// Appends `line` with what is unsafe in it escaped, but for the tab.
pub fn push_printable(text: &mut String, line: &str) {
    for character in line.chars() {
        match is_unsafe(character) && character != '\t' {
            true => text.extend(character.escape_default()),
            false => text.push(character),
        }
    }
}

/// A string of JSON (RFC 8259 §7), which is UTF-8. A byte that is none of UTF-8 becomes the four characters `\xhh`; control
/// characters, and those that reorder the text around them, are escaped, so that the line may be shown on a terminal.
pub fn push_json(out: &mut Vec<u8>, value: &[u8]) {
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

/// Control characters; line and paragraph separators, and marks that reorder the text around them.
pub fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printable_breaks_a_log_line() {
        for (bytes, text) in [
            (b"plain text".as_slice(), "plain text"),
            ("größe ✓".as_bytes(), "größe ✓"),
            (b"a\nb\r\tc\0", "a\\nb\\r\tc\\u{0}"),
            (b"\x1b[31mred", "\\u{1b}[31mred"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("\u{202e}txt.exe".as_bytes(), "\\u{202e}txt.exe"),
            ("\u{85}next".as_bytes(), "\\u{85}next"),
        ] {
            assert_eq!(printable(bytes, 100), text);
        }
        assert_eq!(printable(b"0123456789", 4), "0123… (6 more bytes)");
        assert_eq!(printable("aé".as_bytes(), 2), "a\\xc3… (1 more bytes)");
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
            push_json(&mut out, value);
            assert!(!out.iter().any(|byte| byte.is_ascii_control()));
            let read: String = serde_json::from_slice(&out).expect("a string of JSON");
            assert_eq!(read, meant);
        }
    }
}
