//! Management records (FastCGI 1.0 §4): what the web server may ask about the application as a whole.

use super::params;

/// FCGI_GET_VALUES asks for a few short names; longer records are refused.
pub(super) const LONGEST_QUESTION: u16 = 1024;

/// What the daemon as a whole can do, for FCGI_GET_VALUES (§4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// FCGI_MAX_CONNS: connections that are accepted at once, over all workers.
    pub max_connections: u32,
    /// FCGI_MAX_REQS: requests that are accepted at once, over all connections.
    pub max_requests: u32,
}

/// The content of FCGI_GET_VALUES_RESULT for a question: each known name that was asked for, once, in the order of the
/// specification. What is not known is left out, as §4.1 wants; a question that is cut off is answered as far as it goes.
pub(super) fn answer(question: &[u8], capabilities: Option<Capabilities>) -> Vec<u8> {
    let known = [
        (&b"FCGI_MAX_CONNS"[..], capabilities.map(|known| known.max_connections)),
        (b"FCGI_MAX_REQS", capabilities.map(|known| known.max_requests)),
        (b"FCGI_MPXS_CONNS", Some(1)),
    ];
    let mut result = Vec::new();
    for (name, value) in known {
        let is_asked = params::pairs(question).any(|pair| pair.is_ok_and(|(asked, _)| asked == name));
        if let (true, Some(value)) = (is_asked, value) {
            params::encode_pair(&mut result, name, value.to_string().as_bytes());
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(names: &[&[u8]], capabilities: Option<Capabilities>) -> Vec<(String, String)> {
        let mut question = Vec::new();
        for name in names {
            params::encode_pair(&mut question, name, b"");
        }
        let result = answer(&question, capabilities);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
        params::pairs(&result).map(|pair| pair.expect("valid")).map(|(n, v)| (text(n), text(v))).collect()
    }

    #[test]
    fn only_known_names_that_were_asked_for_are_answered() {
        let capabilities = Some(Capabilities { max_connections: 4096, max_requests: 64 });
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let all: &[&[u8]] = &[b"FCGI_MPXS_CONNS", b"FCGI_MAX_REQS", b"FCGI_MAX_CONNS"];
        assert_eq!(
            ask(all, capabilities),
            [pair("FCGI_MAX_CONNS", "4096"), pair("FCGI_MAX_REQS", "64"), pair("FCGI_MPXS_CONNS", "1")]
        );
        assert_eq!(ask(all, None), [pair("FCGI_MPXS_CONNS", "1")]);
        assert_eq!(
            ask(&[b"FCGI_MAX_REQS", b"FCGI_MAX_REQS", b"X"], capabilities),
            [pair("FCGI_MAX_REQS", "64")]
        );
        assert_eq!(ask(&[b"fcgi_max_reqs", b""], capabilities), []);
        assert_eq!(ask(&[], capabilities), []);
    }

    #[test]
    fn a_question_that_is_cut_off_is_answered_as_far_as_it_goes() {
        let result = answer(b"\x0f\x00FCGI_MPXS_CONNS\x7f\x7fFCGI", None);
        assert_eq!(result, b"\x0f\x01FCGI_MPXS_CONNS1");
    }
}
