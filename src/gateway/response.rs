//! What every response has to obey, whoever made it: how much body it may have, and what an error looks like.

use bytes::Bytes;

use crate::protocol::{ResponseHead, default_reason};

/// Holds a response's body to what its head announces (RFC 9110 §6.4.1, §8.6), for scripts and applications alike.
#[derive(Debug, Clone)]
pub struct BodyGuard {
    /// Still to come, if the head announces a length and a body may be sent.
    left: Option<u64>,
    has_body: bool,
    is_excess_told: bool,
}

/// What may be sent of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// So many bytes from the start of the block; the rest must not be sent.
    pub bytes: u64,
    /// This block is the first that goes over the announced length: log it.
    pub exceeds: bool,
}

/// How a body has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    Complete,
    /// So many bytes of the announced length are missing: the connection must be broken.
    Short(u64),
}

impl BodyGuard {
    /// Call it when the head is complete and before it is sent. Sets `head.has_body`; takes Content-Length from a 1xx
    /// or 204, which must not have one. A HEAD or 304 keeps it: it tells what a GET would get.
    pub fn new(is_head: bool, head: &mut ResponseHead) -> Self {
        let status = head.status;
        if matches!(status, 100..=199 | 204) {
            head.content_length = None;
        }
        head.has_body = !is_head && !matches!(status, 100..=199 | 204 | 304);
        BodyGuard {
            left: head.content_length.filter(|_| head.has_body),
            has_body: head.has_body,
            is_excess_told: false,
        }
    }

    /// How much of the next block, `length` bytes long, may be sent. The body of a response that has none (HEAD, 204,
    /// 304) is dropped without a complaint: the application could not know.
    pub fn admit(&mut self, length: u64) -> Admitted {
        if !self.has_body {
            return Admitted { bytes: 0, exceeds: false };
        }
        let Some(left) = &mut self.left else { return Admitted { bytes: length, exceeds: false } };
        let bytes = length.min(*left);
        *left -= bytes;
        let exceeds = bytes < length && !self.is_excess_told;
        self.is_excess_told |= exceeds;
        Admitted { bytes, exceeds }
    }

    /// Nothing more may be sent: the announced length is reached, or there is no body at all.
    pub fn is_full(&self) -> bool {
        !self.has_body || self.left == Some(0)
    }

    /// The body has no further block.
    pub fn end(&self) -> BodyEnd {
        match self.left {
            None | Some(0) => BodyEnd::Complete,
            Some(missing) => BodyEnd::Short(missing),
        }
    }
}

/// Makes `head` an error response and returns its body: a small page without any detail. The caller adds what the
/// status needs: Allow for 405, Retry-After for 503.
pub fn error_page(status: u16, head: &mut ResponseHead) -> Bytes {
    let reason = default_reason(status);
    head.start(status, reason.as_bytes());
    let title = format!("{status} {reason}");
    let title = title.trim_end();
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n\
         <body><h1>{title}</h1></body></html>\n"
    );
    // Valid by their form.
    let _ = head.push(b"Content-Type", b"text/html; charset=utf-8");
    head.content_length = Some(page.len() as u64);
    Bytes::from(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(is_head: bool, status: u16, length: Option<u64>) -> (BodyGuard, ResponseHead) {
        let mut head = ResponseHead::new(status);
        head.content_length = length;
        (BodyGuard::new(is_head, &mut head), head)
    }

    #[test]
    fn a_body_is_cut_at_its_announced_length_and_that_is_told_once() {
        let (mut guard, _) = guard(false, 200, Some(5));
        assert_eq!(guard.admit(3), Admitted { bytes: 3, exceeds: false });
        assert_eq!((guard.end(), guard.is_full()), (BodyEnd::Short(2), false));
        assert_eq!(guard.admit(3), Admitted { bytes: 2, exceeds: true });
        assert_eq!(guard.admit(1), Admitted { bytes: 0, exceeds: false });
        assert_eq!(guard.admit(0), Admitted { bytes: 0, exceeds: false });
        assert_eq!((guard.end(), guard.is_full()), (BodyEnd::Complete, true));
    }

    #[test]
    fn a_body_without_an_announced_length_is_complete_when_it_ends() {
        let (mut guard, head) = guard(false, 200, None);
        assert!(head.has_body);
        assert_eq!(guard.admit(u64::MAX), Admitted { bytes: u64::MAX, exceeds: false });
        assert_eq!(guard.admit(1), Admitted { bytes: 1, exceeds: false });
        assert_eq!((guard.end(), guard.is_full()), (BodyEnd::Complete, false));
    }

    #[test]
    fn responses_without_a_body_send_none_and_are_complete() {
        for (is_head, status, kept) in [
            (true, 200, Some(9)),
            (true, 404, Some(9)),
            (false, 304, Some(9)),
            (false, 204, None),
            (false, 100, None),
            (false, 103, None),
        ] {
            let (mut guard, head) = guard(is_head, status, Some(9));
            assert_eq!((head.has_body, head.content_length), (false, kept), "{is_head} {status}");
            assert_eq!(guard.admit(20), Admitted { bytes: 0, exceeds: false });
            assert_eq!((guard.end(), guard.is_full()), (BodyEnd::Complete, true));
        }
    }

    #[test]
    fn error_pages_tell_the_status_and_nothing_else() {
        let mut head = ResponseHead::new(200);
        head.push(b"Set-Cookie", b"secret").expect("valid");
        for (status, title) in [(404, "<h1>404 Not Found</h1>"), (799, "<h1>799</h1>")] {
            let page = error_page(status, &mut head);
            let text = std::str::from_utf8(&page).expect("UTF-8");
            assert!(text.contains(title), "{text}");
            assert_eq!(head.lines(), b"Content-Type: text/html; charset=utf-8\r\n");
            assert_eq!((head.status, head.content_length), (status, Some(page.len() as u64)));
        }
    }
}
