//! Internet addresses as `/proc/net` writes them: hexadecimal words in the machine's own byte order, and a port in
//! ordinary order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address of 8 digits (IPv4, one word) or 32 (IPv6, four words), each word in the byte order of the machine.
pub(super) fn in_words(digits: &[u8]) -> Option<IpAddr> {
    let word = |from: usize| {
        let text = std::str::from_utf8(digits.get(from..from + 8)?).ok()?;
        // `from_str_radix` allows a sign.
        let all_digits = text.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(text, 16).ok().filter(|_| all_digits).map(u32::to_ne_bytes)
    };
    match digits.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0u8; 16];
            for (i, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(8 * i)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// An IPv6 address of 32 digits in ordinary order, as the IPv6 files have it.
pub(super) fn in_order(digits: &[u8]) -> Option<Ipv6Addr> {
    let text =
        std::str::from_utf8(digits).ok().filter(|t| t.len() == 32 && t.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u128::from_str_radix(text, 16).ok().map(Ipv6Addr::from)
}

/// `ADDRESS:PORT`.
pub(super) fn with_port(field: &[u8]) -> Option<SocketAddr> {
    let colon = field.iter().rposition(|b| *b == b':')?;
    let port = crate::text::hex(&field[colon + 1..]).ok()?;
    Some(SocketAddr::new(in_words(&field[..colon])?, u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn addresses_are_those_that_the_tools_print() {
        assert_eq!(with_port(b"0100007F:B089").unwrap().to_string(), "127.0.0.1:45193");
        assert_eq!(with_port(b"0000000000000000FFFF00000100007F:0016").unwrap().to_string(), "[::ffff:127.0.0.1]:22");
        assert_eq!(in_words(b"000080FE00000000FF005E02B1FE0002"), Some("fe80::25e:ff:200:feb1".parse().unwrap()));
        assert_eq!(in_order(b"fe800000000000000000000000000001"), Some("fe80::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_address_is_none() {
        for bad in [&b""[..], b":", b"0100007F", b"0100007F:", b"0100007F:10000", b"+100007F:0001", b"01:01", b"\xff"] {
            assert_eq!(with_port(bad), None, "{bad:?}");
        }
        assert_eq!(in_order(b"+e800000000000000000000000000001"), None);
    }

    proptest! {
        #[test]
        fn every_address_is_read_back(address: u128, port: u16) {
            let address = Ipv6Addr::from(address);
            let words: String =
                address.octets().chunks(4).map(|c| format!("{:08X}", u32::from_ne_bytes(c.try_into().unwrap()))).collect();
            let expected = SocketAddr::new(IpAddr::V6(address), port);
            prop_assert_eq!(with_port(format!("{words}:{port:04X}").as_bytes()), Some(expected));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = (with_port(&bytes), in_order(&bytes), in_words(&bytes));
        }
    }
}
