//! FCGI_WEB_SERVER_ADDRS: which web servers may connect (FastCGI 1.0 §3.2).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The addresses of web servers that may connect; from every other one a connection must be closed at once (§3.2).
///
/// A comma-separated list as the specification has it, with IPv6 addresses besides. Addresses are compared whole.
/// `::ffff:192.0.2.1` and `192.0.2.1` are the same: a socket that takes both families reports the first for the second.
///
/// ```
/// use forkhorn::protocol::fastcgi::WebServerAddrs;
///
/// let allowed: WebServerAddrs = "199.170.183.28, 2001:db8::1".parse()?;
/// assert!(allowed.allows("199.170.183.28".parse().unwrap()));
/// assert!(!allowed.allows("199.170.183.29".parse().unwrap()));
/// # Ok::<(), forkhorn::protocol::fastcgi::InvalidWebServerAddr>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebServerAddrs {
    /// Canonical: never an IPv4 address mapped to IPv6.
    addresses: Vec<IpAddr>,
}

impl WebServerAddrs {
    pub fn allows(&self, peer: IpAddr) -> bool {
        self.addresses.contains(&peer.to_canonical())
    }
}

impl FromStr for WebServerAddrs {
    type Err = InvalidWebServerAddr;

    /// White space around an item is ignored; an empty item, and so an empty list, is an error.
    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let parse = |item: &str| match item.trim().parse::<IpAddr>() {
            Ok(address) => Ok(address.to_canonical()),
            Err(_) => Err(InvalidWebServerAddr { item: item.trim().to_owned() }),
        };
        Ok(WebServerAddrs { addresses: list.split(',').map(parse).collect::<Result<_, _>>()? })
    }
}

/// An item of the list that is no IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidWebServerAddr {
    item: String,
}

impl fmt::Display for InvalidWebServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FCGI_WEB_SERVER_ADDRS: '{}' is not an IPv4 or IPv6 address", self.item.escape_default())
    }
}

impl std::error::Error for InvalidWebServerAddr {}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_listed_addresses_are_allowed() {
        let list: WebServerAddrs =
            "192.0.2.1,2001:db8::1, ::ffff:198.51.100.7 ,::1".parse().expect("a list of addresses");
        for (peer, allowed) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("198.51.100.7", true),
            ("::ffff:198.51.100.7", true),
            ("2001:db8::1", true),
            ("2001:0db8:0:0:0:0:0:1", true),
            ("::1", true),
            ("192.0.2.2", false),
            ("127.0.0.1", false),
            ("0.0.0.1", false),
            ("::192.0.2.1", false),
            ("2001:db8::", false),
            ("::", false),
        ] {
            assert_eq!(list.allows(ip(peer)), allowed, "{peer}");
        }
    }

    #[test]
    fn an_address_that_differs_in_one_bit_is_not_allowed() {
        let listed = Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 3, 4, 5, 6);
        let list: WebServerAddrs = listed.to_string().parse().expect("an address");
        assert!(list.allows(listed.into()));
        for bit in 0..128 {
            let other = Ipv6Addr::from(u128::from(listed) ^ (1 << bit));
            assert!(!list.allows(other.into()), "bit {bit}");
        }
        let listed = Ipv4Addr::new(192, 0, 2, 77);
        let list: WebServerAddrs = listed.to_string().parse().expect("an address");
        for bit in 0..32 {
            let other = Ipv4Addr::from(u32::from(listed) ^ (1 << bit));
            assert!(!list.allows(other.into()), "bit {bit}");
            assert!(!list.allows(other.to_ipv6_mapped().into()), "bit {bit}, mapped");
        }
    }

    #[test]
    fn the_error_names_the_item_that_is_no_address() {
        for (list, item) in [
            ("", ""),
            ("192.0.2.1,", ""),
            ("192.0.2.1,,::1", ""),
            ("192.0.2.1;192.0.2.2", "192.0.2.1;192.0.2.2"),
            ("localhost", "localhost"),
            ("192.0.2.1,192.0.2.256", "192.0.2.256"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("[::1]", "[::1]"),
        ] {
            let error = list.parse::<WebServerAddrs>().expect_err(list);
            assert_eq!(error.item, item);
            assert!(error.to_string().contains(&format!("'{item}'")), "{error}");
        }
    }
}
