//! Names of hosts in one form only, and patterns for them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;
/// Ports of a pattern that names none.
const WEB_PORTS: [u16; 2] = [80, 443];

/// A host as it is compared and resolved: a name in lower case without a dot at its end, or an address.
///
/// Names are ASCII (an international one is written as `xn--...`). What a resolver could understand as
/// something else than it looks like is refused: NUL and other strange characters, empty labels, and
/// addresses in any notation but the usual one.
///
/// ```
/// use aion_machine::Host;
/// assert_eq!(Host::parse("Example.COM.")?.to_string(), "example.com");
/// assert_eq!(Host::parse("[::1]")?.to_string(), "[::1]");
/// for odd in ["evil.example\0.example.com", "0x7f.1", "127.1", "2130706433", "bücher.example", "a..b", "[fe80::1%1]"] {
///     assert!(Host::parse(odd).is_err());
/// }
/// # Ok::<(), aion_machine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name to be resolved.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// Brings a text into the one form.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not a host, or not plainly one.
    pub fn parse(text: &str) -> Result<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').unwrap_or_default();
            let address: Ipv6Addr = inner
                .parse()
                .map_err(|_| bad("an address in brackets is not one"))?;
            return Ok(Self::Address(address.into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.len() > MAX_NAME_BYTES {
            return Err(bad("the name of a host is too long"));
        }
        name.split('.').try_for_each(check_label)?;
        if !ends_in_a_number(&name) {
            return Ok(Self::Name(name));
        }
        let address: Ipv4Addr = name
            .parse()
            .map_err(|_| bad("an address is not in the notation 192.0.2.1"))?;
        Ok(Self::Address(address.into()))
    }
}

fn bad(reason: &str) -> Error {
    Error::invalid(reason)
}

fn check_label(label: &str) -> Result<()> {
    if label.is_empty() || label.len() > MAX_LABEL_BYTES {
        return Err(bad("a part of the name of a host is empty or too long"));
    }
    if !label
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    {
        return Err(bad("the name of a host has a character that none has"));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(bad("a part of the name of a host begins or ends with a hyphen"));
    }
    Ok(())
}

/// Whether some resolver would take it for an address.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    last.bytes().all(|b| b.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Which hosts a pattern means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Which {
    /// This one.
    One(Host),
    /// All whose name ends in a dot and this.
    Below(String),
    /// All that have a public address.
    Any,
}

/// Which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Ports {
    Web,
    One(u16),
    Any,
}

/// What may be reached: `example.com` (ports 80 and 443), `*.example.com` (what is below it), `*` (every name),
/// each with `:PORT` for one port or `:*` for all.
///
/// ```
/// use aion_machine::{Host, HostPattern};
/// let below: HostPattern = "*.example.com".parse()?;
/// assert!(below.matches(&Host::parse("cdn.example.com")?, 443));
/// assert!(!below.matches(&Host::parse("example.com")?, 443));
/// assert!(!below.matches(&Host::parse("notexample.com")?, 443));
/// assert!(!below.matches(&Host::parse("cdn.example.com")?, 22));
/// # Ok::<(), aion_machine::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    which: Which,
    ports: Ports,
}

impl HostPattern {
    /// Whether it means this host and port.
    pub fn matches(&self, host: &Host, port: u16) -> bool {
        let which = match (&self.which, host) {
            (Which::Any, Host::Name(_)) => true,
            (Which::One(one), host) => one == host,
            (Which::Below(parent), Host::Name(name)) => {
                let rest = name.strip_suffix(parent.as_str());
                rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            _ => false,
        };
        let ports = match self.ports {
            Ports::Web => WEB_PORTS.contains(&port),
            Ports::One(one) => one == port,
            Ports::Any => true,
        };
        which && ports
    }
}

impl FromStr for HostPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (host, port) = split_port(text);
        let ports = match port {
            None => Ports::Web,
            Some("*") => Ports::Any,
            Some(port) => Ports::One(parse_port(port)?),
        };
        let which = match (host, host.strip_prefix("*.")) {
            ("*", _) => Which::Any,
            (_, Some(parent)) => match Host::parse(parent)? {
                Host::Name(name) => Which::Below(name),
                Host::Address(_) => return Err(bad("there is nothing below an address")),
            },
            _ => Which::One(Host::parse(host)?),
        };
        Ok(Self { which, ports })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::One(host) => write!(f, "{host}")?,
            Which::Below(parent) => write!(f, "*.{parent}")?,
            Which::Any => f.write_str("*")?,
        }
        match self.ports {
            Ports::Web => Ok(()),
            Ports::One(port) => write!(f, ":{port}"),
            Ports::Any => f.write_str(":*"),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

/// The host and what follows its colon; the colons of an address in brackets are its own.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// A port in decimal digits and nothing else; not 0.
pub(super) fn parse_port(text: &str) -> Result<u16> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let port = digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|port| *port > 0);
    port.ok_or_else(|| bad("a port is not a number from 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn odd_notations_are_refused() {
        let label = "a".repeat(64);
        let long = format!("{}.example", ["a"; 130].join("."));
        for text in [
            "",
            ".",
            "..",
            "a.",
            "a..b",
            ".a",
            "-a.b",
            "a-.b",
            "a b",
            "a\tb",
            "a\0",
            "a%00b",
            "a@b",
            "a/b",
            "a:b",
            "a?b",
            "0",
            "127.1",
            "127.0.0",
            "127.0.0.01",
            "0177.0.0.1",
            "0x7f000001",
            "a.0x1",
            "1.2.3.4.5",
            "256.1.1.1",
            "１.1.1.1",
            "[::1",
            "::1",
            "[]",
            "[127.0.0.1]",
            "[::1%lo]",
            "[v1.a]",
            "a.b..",
            &label,
            &long,
        ] {
            let one_dot = text == "a."; // a dot at the end is the name itself
            assert_eq!(Host::parse(text).is_ok(), one_dot, "{text:?}");
        }
        for text in [
            "a",
            "a.b-c_d.example",
            "xn--bcher-kva.example",
            "1.2.3.4",
            "4.example",
            "0x7f.example",
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn patterns_mean_what_they_say() {
        let matches = |pattern: &str, host: &str, port| {
            let pattern: HostPattern = pattern.parse().unwrap();
            assert_eq!(pattern.to_string().parse::<HostPattern>().unwrap(), pattern);
            pattern.matches(&Host::parse(host).unwrap(), port)
        };
        assert!(matches("Example.com", "EXAMPLE.com.", 443));
        assert!(!matches("example.com", "www.example.com", 443));
        assert!(!matches("example.com", "example.com", 8080));
        assert!(matches("example.com:8080", "example.com", 8080));
        assert!(!matches("example.com:8080", "example.com", 443));
        assert!(matches("example.com:*", "example.com", 1));
        assert!(matches("*.a.b", "x.y.a.b", 80));
        assert!(!matches("*.a.b", "xa.b", 80));
        assert!(matches("*", "example.com", 443));
        assert!(!matches("*", "10.0.0.1", 443));
        assert!(matches("10.0.0.1:*", "10.0.0.1", 22));
        assert!(matches("[::1]:22", "[0:0::1]", 22));
        for bad in [
            "",
            "*.",
            "*.1.2.3.4",
            "**",
            "a*b",
            "a:0",
            "a:70000",
            "a:+1",
            "a:",
            "*.*.a",
            "http://a",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }

    proptest! {
        /// The one form of a host is its own one form, and nothing makes the parser panic.
        #[test]
        fn the_form_is_a_fixed_point(text in "\\PC{0,40}|[a-zA-Z0-9.\\[\\]:_-]{0,40}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_string()).unwrap(), host);
            }
        }
    }
}
