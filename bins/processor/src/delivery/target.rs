//! Where messages may go: public addresses by https, and what the operator allows beyond that.

use std::net::IpAddr;

use aion_types::AddressRange;
use aion_types::address::is_public;
use reqwest::Url;
use thiserror::Error;

/// Why a message does not go to an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The text is no address.
    #[error("it is not an address with a host")]
    Malformed,
    /// The scheme is not https, and http is not allowed.
    #[error("it is not https")]
    NotHttps,
    /// The address has a user or a password.
    #[error("it has a name or a password")]
    Credentials,
    /// The host is an address that is not public.
    #[error("its address is not public")]
    NotPublic,
    /// The host resolved to nothing that is public.
    #[error("its host does not resolve to a public address")]
    ResolvesElsewhere,
}

/// Whether http without TLS is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plain {
    /// It is not.
    #[default]
    Refused,
    /// It is.
    Allowed,
}

/// Where messages may go.
///
/// ```
/// use aion_processor_server::{Plain, TargetPolicy};
///
/// let policy = TargetPolicy::default();
/// assert!(policy.check_url("https://example.com/hook").is_ok());
/// assert!(policy.check_url("https://169.254.169.254/latest").is_err());
/// assert!(!policy.allows("::ffff:10.0.0.1".parse()?));
///
/// let inside = TargetPolicy::default().with_range("10.0.0.0/8".parse()?).with_plain(Plain::Allowed);
/// assert!(inside.check_url("http://10.1.2.3:8080/").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TargetPolicy {
    ranges: Vec<AddressRange>,
    plain: Plain,
}

impl TargetPolicy {
    /// Allows addresses of this range as well.
    #[must_use]
    pub fn with_range(mut self, range: AddressRange) -> Self {
        self.ranges.push(range);
        self
    }

    /// Sets whether http is allowed.
    #[must_use]
    pub fn with_plain(mut self, plain: Plain) -> Self {
        self.plain = plain;
        self
    }

    /// Whether a message may go to this address. An IPv4 address inside an IPv6 one is looked at as what it is.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.ranges.iter().any(|range| range.contains(address))
    }

    /// The address as it would be used, if nothing speaks against it before its host is resolved.
    ///
    /// # Errors
    /// [`TargetError`] says what does.
    pub fn check_url(&self, url: &str) -> Result<Url, TargetError> {
        let url = Url::parse(url).map_err(|_| TargetError::Malformed)?;
        match url.scheme() {
            "https" => {}
            "http" if self.plain == Plain::Allowed => {}
            "http" => return Err(TargetError::NotHttps),
            _ => return Err(TargetError::Malformed),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(TargetError::Malformed)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        match bare.parse() {
            Ok(address) if !self.allows(address) => Err(TargetError::NotPublic),
            _ => Ok(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_not_public_is_refused() {
        let refused = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.8.8.8 \
             168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 \
             198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.250 240.0.0.1 \
             255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 64:ff9b::10.0.0.1 \
             64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:db8::1 2002:a00:1::1 2002:7f00:1::1 3fff::1 5f00::1 \
             fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1";
        for text in refused.split_whitespace() {
            assert!(!TargetPolicy::default().allows(ip(text)), "{text}");
        }
    }

    #[test]
    fn what_is_public_is_allowed() {
        let allowed = "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.0 128.0.0.1 172.15.0.1 172.32.0.1 192.0.1.1 \
             198.17.0.1 198.20.0.1 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2001:4860:4860::8888 \
             2002:808:808::1 2606:4700::1111 2a00:1450:4001::1";
        for text in allowed.split_whitespace() {
            assert!(TargetPolicy::default().allows(ip(text)), "{text}");
        }
    }

    #[test]
    fn ranges_are_parsed_and_hold() {
        let range = |text: &str| text.parse::<AddressRange>();
        assert!(range("10.0.0.0/8").unwrap().contains(ip("10.255.0.1")));
        assert!(!range("10.0.0.0/8").unwrap().contains(ip("11.0.0.1")));
        assert!(range("127.0.0.1").unwrap().contains(ip("127.0.0.1")));
        assert!(!range("127.0.0.1").unwrap().contains(ip("127.0.0.2")));
        assert!(range("0.0.0.0/0").unwrap().contains(ip("1.2.3.4")));
        assert!(!range("0.0.0.0/0").unwrap().contains(ip("::1")));
        assert!(range("fd00::/8").unwrap().contains(ip("fdff::1")));
        assert!(range("::/0").unwrap().contains(ip("ff::1")));
        for bad in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/",
            "x/8",
            "10.0.0.0/-1",
        ] {
            assert!(range(bad).is_err(), "{bad}");
        }
        let inside = TargetPolicy::default().with_range(range("10.0.0.0/8").unwrap());
        assert!(inside.allows(ip("::ffff:10.0.0.1")) && !inside.allows(ip("192.168.0.1")));
    }

    /// However an address is written, it is looked at as what it is.
    #[test]
    fn addresses_in_disguise_are_recognised() {
        let policy = TargetPolicy::default().with_plain(Plain::Allowed);
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[0:0:0:0:0:0:0:1]",
            "１２７.0.0.1",
            "169.254.169.254",
        ] {
            let refused = policy.check_url(&format!("http://{host}/x"));
            assert_eq!(refused, Err(TargetError::NotPublic), "{host}");
        }
        let cases = [
            ("ftp://x.test", TargetError::Malformed),
            ("https://", TargetError::Malformed),
            ("https://u@x.test", TargetError::Credentials),
            ("nothing", TargetError::Malformed),
        ];
        for (url, wanted) in cases {
            assert_eq!(policy.check_url(url), Err(wanted), "{url}");
        }
        let strict = TargetPolicy::default().check_url("http://x.test");
        assert_eq!(strict, Err(TargetError::NotHttps));
    }

    proptest! {
        /// An IPv4 address is judged alike in every form that IPv6 has for it.
        #[test]
        fn forms_of_an_address_are_judged_alike(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let policy = TargetPolicy::default();
            let [a, b, c, d] = address.octets();
            let mapped = address.to_ipv6_mapped();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low);
            let sixto4 = Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1);
            for form in [mapped, nat64, sixto4] {
                prop_assert_eq!(policy.allows(form.into()), policy.allows(address.into()), "{}", form);
            }
        }
    }
}
