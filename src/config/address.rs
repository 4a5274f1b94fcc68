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
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(wrong("expected HOST:PORT, unix:/path or fd:N"));
        };
        if port.parse::<u16>().is_err() {
            return Err(wrong("the port is not a number from 0 to 65535"));
        }
        let host = if host.is_empty() || host == "*" { "0.0.0.0" } else { host };
        let mut found = format!("{host}:{port}")
            .to_socket_addrs()
            .map_err(|error| wrong(&format!("the host can't be resolved: {error}")))?;
        found.next().map(Address::Tcp).ok_or_else(|| wrong("the host has no address"))
    }
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
}
