//! A request of `--warm-up`: a path, or a URL whose host and scheme it is to have.

use serde::{Deserialize, Serialize};

use super::StartupError;

/// What an application is asked for before anybody else can ask it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUp {
    /// For the log.
    pub given: String,
    /// `http` or `https`. `None`: that of `--url-scheme`.
    pub scheme: Option<String>,
    /// The value of Host.
    pub host: String,
    /// Path and query. Begins with a slash.
    pub target: String,
}

const DEFAULT_HOST: &str = "localhost";

impl WarmUp {
    /// Whether the path can be decoded, and who answers, is the gateway's to say.
    ///
    /// # Errors
    /// It is neither a path nor a URL.
    pub fn parse(given: &str) -> Result<WarmUp, StartupError> {
        let wrong = |why: &str| Err(StartupError::usage(format!("--warm-up {given}: {why}")));
        if given.contains(|character: char| !character.is_ascii_graphic() || character == '#') {
            return wrong("write it as in a request, percent-encoded and without a fragment");
        }
        let split = given.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
        let (scheme, host, target) = match split {
            Some((scheme, rest)) => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (host, target) = rest.split_at(end);
                (Some(scheme.to_owned()), host, target)
            }
            None if given.starts_with('/') => (None, DEFAULT_HOST, given),
            None => return wrong("expected a path that begins with a slash, or http://HOST/PATH"),
        };
        if host.is_empty() || host.contains('@') {
            return wrong("expected a host after http://");
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(WarmUp {
            given: given.to_owned(),
            scheme,
            host: host.to_owned(),
            target: format!("{slash}{target}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_or_a_url_says_what_to_ask_for() {
        for (given, scheme, host, target) in [
            ("/", None, "localhost", "/"),
            ("/a/b?c=%20", None, "localhost", "/a/b?c=%20"),
            ("http://shop.example/x", Some("http"), "shop.example", "/x"),
            ("https://shop.example:8443/x?y", Some("https"), "shop.example:8443", "/x?y"),
            ("http://[::1]:80", Some("http"), "[::1]:80", "/"),
            ("http://shop.example?q", Some("http"), "shop.example", "/?q"),
        ] {
            let warm_up = WarmUp::parse(given).expect(given);
            assert_eq!(warm_up.scheme.as_deref(), scheme, "{given}");
            assert_eq!((warm_up.host.as_str(), warm_up.target.as_str()), (host, target), "{given}");
            assert_eq!(warm_up.given, given);
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for given in [
            "",
            "x",
            "x/y",
            "ftp://host/",
            "http://",
            "http:///x",
            "http://a@b/",
            "/a b",
            "/a#b",
            "/\u{e4}",
            "/a\r\nb",
        ] {
            let error = WarmUp::parse(given).expect_err(given);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().starts_with("--warm-up "), "{error}");
        }
    }
}
