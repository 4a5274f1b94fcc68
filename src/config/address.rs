//! Where a listener listens: `HOST:PORT`, `unix:/path`, `fd:N`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::StartupError;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A descriptor that forkhorn inherits.
    Fd(i32),
}

impl Address {
    /// `option` is the flag's name, for the error.
    pub fn parse(option: &str, text: &str) -> Result<Address, StartupError> {
        let wrong = |why: &str| StartupError::usage(format!("{option} {text}: {why}"));
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.contains('\0') {
                return Err(wrong("the path of the socket is missing"));
            }
            // sockaddr_un holds 108 bytes, the last of them a NUL (unix(7)).
            if path.len() > 107 {
                return Err(wrong("the path is longer than the 107 bytes that a Unix socket can have"));
            }
            return std::path::absolute(path).map(Address::Unix).map_err(|error| wrong(&error.to_string()));
        }
        if let Some(number) = text.strip_prefix("fd:") {
            return match number.parse() {
                Ok(fd @ 0..) => Ok(Address::Fd(fd)),
                _ => Err(wrong("the descriptor is not a number")),
            };
        }
        let hinted = |why: &str| match meant(text) {
            Some(meant) => wrong(&format!("{why}: is {meant} meant?")),
            None => wrong(why),
        };
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(hinted("expected HOST:PORT, unix:/path or fd:N"));
        };
        if port.parse::<u16>().is_err() {
            return Err(hinted("the port is not a number from 0 to 65535"));
        }
        let host = if host.is_empty() || host == "*" { "0.0.0.0" } else { host };
        let mut found = format!("{host}:{port}")
            .to_socket_addrs()
            .map_err(|error| hinted(&format!("the host can't be resolved: {error}")))?;
        found.next().map(Address::Tcp).ok_or_else(|| wrong("the host has no address"))
    }
}

/// What an address in a form of other programs would be here.
fn meant(text: &str) -> Option<String> {
    let plain = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    let meant = match plain {
        path if path.starts_with('/') => format!("unix:{path}"),
        port if port.parse::<u16>().is_ok() => format!("127.0.0.1:{port}"),
        host if !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            format!("{host}:8000")
        }
        other => other.to_owned(),
    };
    let (_, port) = meant.rsplit_once(':')?;
    (meant != text && (meant.starts_with("unix:") || port.parse::<u16>().is_ok())).then_some(meant)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        for (text, expected) in [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("[::1]:0", "[::1]:0"),
            (":80", "0.0.0.0:80"),
            ("*:80", "0.0.0.0:80"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("fd:0", "fd:0"),
        ] {
            assert_eq!(Address::parse("--http", text).expect(text).to_string(), expected);
        }
        for text in ["", "8000", "unix:", "fd:-1", "fd:x", "localhost:", "127.0.0.1:70000", "127.0.0.1:x"] {
            let error = Address::parse("--http", text).expect_err(text);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().starts_with(&format!("--http {text}: ")), "{error}");
        }
    }

    #[test]
    fn forms_of_other_programs_are_told_how_to_be_written() {
        for (text, meant) in [
            ("8000", "127.0.0.1:8000"),
            ("127.0.0.1", "127.0.0.1:8000"),
            ("/run/x.sock", "unix:/run/x.sock"),
            ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
            ("tcp://[::1]:9000", "[::1]:9000"),
        ] {
            let error = Address::parse("--http", text).err().map(|error| error.to_string());
            // Some of these could be names of hosts, and are looked up.
            let told = error.unwrap_or_default();
            assert!(told.ends_with(&format!("is {meant} meant?")), "{text}: {told}");
        }
        for text in ["", "localhost:", "localhost", "127.0.0.1:x"] {
            let told = Address::parse("--http", text).expect_err(text).to_string();
            assert!(!told.contains("meant"), "{told}");
        }
    }
}
