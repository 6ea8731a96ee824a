//! Network addresses: which of them are public, and ranges of those that are not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::{Error, Result};

/// A range of addresses, such as `10.0.0.0/8` or `fd00::/8`; a single one without a slash.
///
/// ```
/// use aion_types::AddressRange;
/// let range: AddressRange = "10.0.0.0/8".parse()?;
/// assert!(range.contains("10.255.0.1".parse().unwrap()));
/// assert!(!range.contains("11.0.0.1".parse().unwrap()));
/// # Ok::<(), aion_types::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    network: IpAddr,
    bits: u8,
}

impl AddressRange {
    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same_bits(network.to_bits().into(), address.to_bits().into(), 32 - self.bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                same_bits(network.to_bits(), address.to_bits(), 128 - self.bits)
            }
            _ => false,
        }
    }
}

/// Whether two numbers are the same but for so many of their last bits.
fn same_bits(one: u128, other: u128, free: u8) -> bool {
    (one ^ other).checked_shr(free.into()).unwrap_or(0) == 0
}

impl FromStr for AddressRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::AddressRange {
            text: text.to_owned(),
        };
        let (network, bits) = match text.split_once('/') {
            Some((network, bits)) => (network, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = network.trim().parse().map_err(|_| bad())?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => bits.trim().parse().map_err(|_| bad())?,
            None => most,
        };
        if bits > most {
            return Err(bad());
        }
        Ok(Self { network, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

/// Whether everybody on the internet means the same host by it. An IPv4 address inside an IPv6 one is looked at as what
/// it is.
///
/// ```
/// use aion_types::address::is_public;
/// assert!(is_public("1.1.1.1".parse()?));
/// assert!(!is_public("::ffff:169.254.169.254".parse()?));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
///
/// # Sources
/// The IANA registries of special-purpose addresses (RFC 6890) for IPv4 and IPv6.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    // The host agent of one large cloud has a public address on every machine there.
    const AGENT: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    let special = matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    );
    !special && address != AGENT
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // An IPv4 address by way of NAT64 or 6to4.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => is_public_v4(v4(high, low)),
        // Documentation, Teredo, benchmarks, ORCHID and what else is special below 2001::/23.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}
