//! The search for the end of a head or a trailer section, line by line, in time linear to its bytes however they come.

use std::ops::Range;

use memchr::memchr;

use crate::protocol::ProtocolError;

/// How far a section has been searched. Positions count from the section's first byte.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// No LF that has not been seen lies before it.
    searched: usize,
    line_start: usize,
}

impl Lines {
    /// The next complete line, without its CRLF. `section` begins where it began in the calls before.
    ///
    /// `Ok(None)`: the line's end has not come yet. Errors: `too_long` when the line's LF lies, or must lie, at or after
    /// `limit`; 400 for an LF without CR before it (RFC 9112 §2.2).
    pub fn next(
        &mut self,
        section: &[u8],
        limit: usize,
        too_long: ProtocolError,
    ) -> Result<Option<Range<usize>>, ProtocolError> {
        let visible = &section[..section.len().min(limit)];
        let Some(found) = visible.get(self.searched..).and_then(|rest| memchr(b'\n', rest)) else {
            if section.len() >= limit {
                return Err(too_long);
            }
            self.searched = section.len();
            return Ok(None);
        };
        let newline = self.searched + found;
        let line = self.line_start..newline.saturating_sub(1);
        if newline == self.line_start || section[line.end] != b'\r' {
            return Err(ProtocolError::new(400, "a line ends in LF without CR"));
        }
        self.searched = newline + 1;
        self.line_start = newline + 1;
        Ok(Some(line))
    }

    /// [`next`](Self::next) has seen no byte.
    pub fn is_new(&self) -> bool {
        self.searched == 0
    }

    /// Length of the lines so far, their CRLFs included.
    pub fn length(&self) -> usize {
        self.line_start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LONG: ProtocolError = ProtocolError::new(431, "too long");

    fn lines(section: &[u8], limit: usize, step: usize) -> Result<Vec<(usize, usize)>, ProtocolError> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        let mut come = 0;
        while come < section.len() {
            come = section.len().min(come + step);
            while let Some(line) = lines.next(&section[..come], limit, TOO_LONG)? {
                found.push((line.start, line.end));
                if line.is_empty() {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    #[test]
    fn lines_and_limits_do_not_depend_on_the_split() {
        for (section, limit, expected) in [
            (b"a\r\nbc\r\n\r\n".as_slice(), 100, Ok(vec![(0, 1), (3, 5), (7, 7)])),
            (b"a\r\nbc\r\n\r\n", 9, Ok(vec![(0, 1), (3, 5), (7, 7)])),
            (b"a\r\nbc\r\n\r\n", 8, Err(431)),
            (b"a\r\nb", 4, Err(431)),
            (b"a\r\nb", 5, Ok(vec![(0, 1)])),
            (b"\r\n", 2, Ok(vec![(0, 0)])),
            (b"\n", 2, Err(400)),
            (b"a\n", 2, Err(400)),
            (b"a\r\n\n", 100, Err(400)),
            (b"a\r\nb\n", 5, Err(400)),
            (b"abcd\n", 4, Err(431)),
        ] {
            for step in 1..=section.len() {
                let found = lines(section, limit, step).map_err(|error| error.status());
                assert_eq!(found, expected, "{:?} in steps of {step}", section.escape_ascii().to_string());
            }
        }
    }
}
