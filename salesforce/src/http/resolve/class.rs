//! What kind of network an IP address belongs to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A kind of address that a host of the public internet does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Where a cloud tells a machine its own credentials.
    Metadata,
    /// `0.0.0.0/8`, `::`: this machine.
    Unspecified,
    /// `127.0.0.0/8`, `::1`
    Loopback,
    /// `169.254.0.0/16`, `fe80::/10`
    LinkLocal,
    /// RFC 1918, `fc00::/7` and the retired `fec0::/10`
    Private,
    /// `100.64.0.0/10`, behind a provider's address translation
    Shared,
    /// `224.0.0.0/4`, `ff00::/8` and broadcast
    Multicast,
    /// What RFC 6890 and its successors keep for documentation, benchmarks and protocols; nothing answers there.
    Reserved,
}

/// The metadata services of AWS (EC2, ECS, EKS; the second in IPv6), Google Cloud and Azure (the first, too), Alibaba, Oracle.
const METADATA: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

impl Class {
    /// The class of an address; `None` for one of the public internet. An IPv6 address that leads to an IPv4 address has
    /// the class of that.
    pub(super) fn of(address: IpAddr) -> Option<Self> {
        if METADATA.contains(&address) {
            return Some(Self::Metadata);
        }
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => match translated(address) {
                Some(inner) => Self::of(IpAddr::V4(inner)),
                None => Self::of_v6(address).or_else(|| Self::of(IpAddr::V4(isatap(address)?))),
            },
        }
    }

    fn of_v4(address: Ipv4Addr) -> Option<Self> {
        Some(match address.octets() {
            [0, ..] => Self::Unspecified,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Self::Private,
            [100, 64..=127, ..] => Self::Shared,
            [224..=239, ..] | [255, 255, 255, 255] => Self::Multicast,
            [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => {
                Self::Reserved
            }
            [240..=255, ..] => Self::Reserved,
            _ => return None,
        })
    }

    fn of_v6(address: Ipv6Addr) -> Option<Self> {
        Some(match address.segments() {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Self::Private,
            [0xff00..=0xffff, ..] => Self::Multicast,
            // Only 2000::/3 is given out; of it, 2001::/23 is for protocols, and two blocks are for documentation.
            [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Self::Reserved,
            [0x2000..=0x3fff, ..] => return None,
            _ => Self::Reserved,
        })
    }
}

/// The IPv4 address that an IPv6 address stands for: v4-mapped, v4-compatible, v4-translated (RFC 2765), NAT64 (RFC 6052
/// with the well-known prefix and RFC 8215), 6to4, Teredo. Their prefixes say nothing else of where they lead.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(join(high, low)),
        // The client's address, inverted.
        [0x2001, 0, _, _, _, _, high, low] => Some(join(!high, !low)),
        _ => None,
    }
}

/// The IPv4 address behind an ISATAP router of any prefix (RFC 5214).
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(join(high, low)),
        _ => None,
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low))
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "a cloud's metadata",
            Self::Unspecified => "an unspecified",
            Self::Loopback => "a loopback",
            Self::LinkLocal => "a link-local",
            Self::Private => "a private",
            Self::Shared => "a shared (100.64.0.0/10)",
            Self::Multicast => "a multicast",
            Self::Reserved => "a reserved",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(address: &str) -> Option<Class> {
        Class::of(address.parse().unwrap())
    }

    #[test]
    fn the_public_internet_has_no_class() {
        for address in [
            "96.43.144.26",
            "13.108.0.1",
            "1.1.1.1",
            "172.15.0.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "2606:4700::1",
            "2a00::1",
        ] {
            assert_eq!(class(address), None, "{address}");
        }
    }

    #[test]
    fn each_class_is_found_in_each_form_in_which_it_is_written() {
        let forms: [fn(Ipv4Addr) -> String; 9] = [
            |v4| v4.to_string(),
            |v4| format!("::ffff:{v4}"),
            |v4| format!("::{v4}"),
            |v4| format!("::ffff:0:{v4}"),
            |v4| format!("64:ff9b::{v4}"),
            |v4| format!("64:ff9b:1::{v4}"),
            |v4| format!("2002:{:x}:{:x}::1", v4.to_bits() >> 16, v4.to_bits() & 0xffff),
            |v4| format!("2001:0:4136:e378:8000:63bf:{:x}:{:x}", !v4.to_bits() >> 16, !v4.to_bits() & 0xffff),
            |v4| format!("2606:4700::5efe:{v4}"),
        ];
        let mut cases = 0;
        for (address, expected) in [
            ("169.254.169.254", Class::Metadata),
            ("169.254.170.2", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("127.0.0.1", Class::Loopback),
            ("127.255.255.254", Class::Loopback),
            ("169.254.0.1", Class::LinkLocal),
            ("10.0.0.1", Class::Private),
            ("172.16.0.1", Class::Private),
            ("172.31.255.255", Class::Private),
            ("192.168.255.1", Class::Private),
            ("100.64.0.1", Class::Shared),
            ("100.127.255.255", Class::Shared),
            ("0.1.2.3", Class::Unspecified),
            ("224.0.0.1", Class::Multicast),
            ("255.255.255.255", Class::Multicast),
            ("203.0.113.7", Class::Reserved),
            ("240.0.0.1", Class::Reserved),
        ] {
            let v4: Ipv4Addr = address.parse().unwrap();
            for form in forms {
                let text = form(v4);
                assert_eq!(class(&text), Some(expected), "{text}");
                cases += 1;
            }
        }
        assert!(cases >= 150, "{cases}");
        for (address, expected) in [
            ("::", Class::Unspecified),
            ("::1", Class::Loopback),
            ("fe80::1", Class::LinkLocal),
            ("fe80::5efe:8.8.8.8", Class::LinkLocal),
            ("febf::1", Class::LinkLocal),
            ("fc00::1", Class::Private),
            ("fdff::1", Class::Private),
            ("fec0::1", Class::Private),
            ("ff02::1", Class::Multicast),
            ("fd00:ec2::254", Class::Metadata),
            ("fd00:ec2::23", Class::Metadata),
            ("2001:db8::1", Class::Reserved),
            ("100::1", Class::Reserved),
            ("5f00::1", Class::Reserved),
        ] {
            assert_eq!(class(address), Some(expected), "{address}");
        }
    }
}
