//! What can be asked, and the form of an answer.

use super::Access;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Look(Page),
    Order(Order),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// Some worker answers requests.
    Health,
    /// The same, and forkhorn is not about to end.
    Ready,
    /// Everything, as JSON.
    Status {
        /// Also what takes the kernel time to find out: memory that processes share.
        with_memory: bool,
    },
    /// The Prometheus text format.
    Metrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Reload,
    Stop { fast: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) allow: Option<&'static str>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A line of text.
    pub(crate) fn text(status: u16, line: &str) -> Self {
        Answer {
            status,
            content_type: "text/plain; charset=utf-8",
            allow: None,
            body: format!("{line}\n").into_bytes(),
        }
    }

    pub(crate) fn json(status: u16, value: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec(value);
        match body {
            Ok(body) => Answer { status, content_type: "application/json", allow: None, body },
            Err(error) => Answer::text(500, &error.to_string()),
        }
    }

    /// The type that Prometheus asks for: `text/plain; version=0.0.4`.
    pub(crate) fn metrics(text: String) -> Self {
        Answer {
            status: 200,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            allow: None,
            body: text.into_bytes(),
        }
    }

    fn not_allowed(allow: &'static str) -> Self {
        Answer { allow: Some(allow), ..Answer::text(405, "another method is needed here") }
    }
}

/// `Err`: the answer to a request that asks for nothing there is.
pub(super) fn question(method: &[u8], target: &[u8], access: Access) -> Result<Question, Answer> {
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &b""[..]),
    };
    let page = match path {
        b"/health" => Some(Page::Health),
        b"/ready" => Some(Page::Ready),
        b"/status" => Some(Page::Status { with_memory: query == b"memory" }),
        b"/metrics" => Some(Page::Metrics),
        _ => None,
    };
    let order = match path {
        b"/reload" => Some(Order::Reload),
        b"/stop" => Some(Order::Stop { fast: query == b"fast" }),
        _ => None,
    };
    match (page, order, access, method) {
        (Some(page), ..) if matches!(method, b"GET" | b"HEAD") => Ok(Question::Look(page)),
        (Some(_), ..) => Err(Answer::not_allowed("GET, HEAD")),
        (None, Some(order), Access::Command, b"POST") => Ok(Question::Order(order)),
        (None, Some(_), Access::Command, _) => Err(Answer::not_allowed("POST")),
        _ => Err(Answer::text(404, "there is /health, /ready, /status and /metrics")),
    }
}
