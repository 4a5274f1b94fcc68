//! What others have written, on its way to the log or to a terminal: nothing in it can forge a line or give an order.

use std::fmt::Write;

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
}
