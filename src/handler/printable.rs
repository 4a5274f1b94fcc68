//! Bytes from outside on their way to the log: nothing in them can forge a line or drive a terminal.

use std::fmt::Write;

/// The text of `bytes`: UTF-8 stays, control characters and other bytes are escaped (`\n`, `\x1b`, `\xff`). At most
/// `max_bytes` bytes are shown; how many more there were is said.
pub(crate) fn printable(bytes: &[u8], max_bytes: usize) -> String {
    let (shown, left) = match bytes.split_at_checked(max_bytes) {
        Some((shown, left)) => (shown, left.len()),
        None => (bytes, 0),
    };
    let mut text = String::with_capacity(shown.len());
    for chunk in shown.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\t' => text.push('\t'),
                _ if is_unsafe(character) => text.extend(character.escape_default()),
                _ => text.push(character),
            }
        }
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

/// Control characters; line and paragraph separators, and marks that reorder the text around them.
fn is_unsafe(character: char) -> bool {
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
}
