//! To which addresses no connection is made, whatever name leads there: the cloud's metadata, which hands out the node's
//! own credentials, and what is not an address of somebody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether addresses of this machine may be tested too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Only others: what listens on the loopback of a node or pod trusts whoever reaches it.
    #[default]
    Outside,
    /// Also this one.
    LoopbackToo,
}

/// Where clouds answer for their metadata beside link-local addresses: AWS over IPv6, Azure, Alibaba, Oracle.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Why this address is not connected to; `None`: it may be.
pub(super) fn refusal(address: IpAddr, reach: Reach) -> Option<&'static str> {
    let address = embedded(address).map_or(address.to_canonical(), IpAddr::V4);
    if METADATA.contains(&address) {
        return Some("is an address of cloud metadata");
    }
    let (link_local, broadcast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.is_broadcast()),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), false),
    };
    if link_local {
        return Some("is a link-local address");
    }
    // 0.0.0.0 leads to this machine as well: all of 0.0.0.0/8 is "this host on this network" (RFC 1122 §3.2.1.3).
    let this_host = address.is_unspecified() || matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0);
    if this_host || address.is_multicast() || broadcast {
        return Some("is no address of one machine");
    }
    (address.is_loopback() && reach == Reach::Outside).then_some("is an address of this machine itself")
}

/// The IPv4 address within one of IPv6 that a gateway would translate: NAT64 (RFC 6052 §2.1), 6to4 (RFC 3056 §2), and the
/// compatible form (RFC 4291 §2.5.5.1).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let bytes = v6.octets();
    let at = |n: usize| Ipv4Addr::new(bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]);
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        // Not :: and ::1, which are what they are.
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => Some(at(12)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_metadata_nor_this_machine_is_connected_to_in_whatever_form_it_comes() {
        for never in [
            "169.254.169.254",
            "169.254.0.1",
            "fe80::1",
            "febf::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::169.254.169.254",
            "fd00:ec2::254",
            "168.63.129.16",
            "100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            for reach in [Reach::Outside, Reach::LoopbackToo] {
                assert!(refusal(never.parse().unwrap(), reach).is_some(), "{never} {reach:?}");
            }
        }
        for own in ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            let own = own.parse().unwrap();
            assert!(refusal(own, Reach::Outside).is_some() && refusal(own, Reach::LoopbackToo).is_none(), "{own}");
        }
        for other in ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fd00::1", "2001:db8::1", "100.64.0.1", "169.253.1.1"] {
            assert_eq!(refusal(other.parse().unwrap(), Reach::Outside), None, "{other}");
        }
    }
}
