//! IP addresses under a keyed permutation that keeps prefixes: two addresses share as many leading bits after it as before.
//!
//! Each bit is turned or not by what the key says about the bits before it, as Crypto-PAn does (Xu et al., ICNP 2002).
//! Here one digest for each octet answers for all 255 nodes of that octet's tree. What an address is known by without any
//! key stays: the octets that make it private, and all of one that is special.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::super::key::Keyed;

/// The longest address as text.
const MAX_TEXT: usize = 45;

/// Gives every address of a text that has a pseudonym, with it.
pub(super) fn each(text: &[u8], keyed: &Keyed, found: &mut dyn FnMut(Range<usize>, String)) {
    let mut at = 0;
    while at < text.len() {
        let run =
            text[at..].iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'_')).count();
        if run == 0 {
            at += 1;
            continue;
        }
        let word = &text[at..at + run];
        if let Some((range, name)) = one(word, keyed) {
            found(at + range.start..at + range.end, name);
        } else {
            // `peer:10.0.0.1:80`, `10.0.0.1:80`: an address of the older kind among other parts.
            let mut begin = 0;
            for part in word.split(|b| *b == b':') {
                if let Some(address) = text_of(part).and_then(|p| p.parse::<Ipv4Addr>().ok())
                    && let Some(renamed) = v4(address, keyed)
                {
                    found(at + begin..at + begin + part.len(), renamed.to_string());
                }
                begin += part.len() + 1;
            }
        }
        at += run;
    }
}

/// The address that a word is, but for a sign at its end.
fn one(word: &[u8], keyed: &Keyed) -> Option<(Range<usize>, String)> {
    let end = word.len() - word.iter().rev().take(1).filter(|b| matches!(b, b'.' | b':')).count();
    let word = text_of(&word[..end])?;
    if let Ok(address) = word.parse::<Ipv4Addr>() {
        return Some((0..end, v4(address, keyed)?.to_string()));
    }
    // Without a digit it is rather a path in a program: `fade::bad`.
    let address = word.parse::<Ipv6Addr>().ok().filter(|_| word.bytes().any(|b| b.is_ascii_digit()))?;
    Some((0..end, v6(address, keyed)?.to_string()))
}

fn text_of(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok().filter(|w| (2..=MAX_TEXT).contains(&w.len()))
}

/// `None`: it stays as it is.
fn v4(address: Ipv4Addr, keyed: &Keyed) -> Option<Ipv4Addr> {
    let from = address.octets();
    let special = matches!(from, [0 | 127 | 224..=255, ..] | [169, 254, ..]);
    if special {
        return None;
    }
    let mut to = [0; 4];
    for (n, octet) in from.iter().enumerate() {
        // Octets that say of what kind the address is. The others are permuted among themselves, so that no address becomes
        // one of another kind.
        let stays = |o: u8| {
            matches!(
                (n, from[0], o),
                (0, _, 0 | 10 | 100 | 127 | 169 | 172 | 192 | 224..=255)
                    | (1, 172, 16..=31)
                    | (1, 100, 64..=127)
                    | (1, 169, 254)
                    | (1, 192, 168)
            )
        };
        to[n] = *octet;
        if !stays(*octet) {
            let tree = keyed.digest(b"address of version 4", &from[..n]);
            to[n] = permute(&tree, *octet, 0);
            while stays(to[n]) {
                to[n] = permute(&tree, to[n], 0);
            }
        }
    }
    Some(to.into())
}

fn v6(address: Ipv6Addr, keyed: &Keyed) -> Option<Ipv6Addr> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return Some(v4(mapped, keyed)?.to_ipv6_mapped());
    }
    let from = address.octets();
    if address.is_loopback() || address.is_unspecified() || matches!(from, [0xff, ..] | [0xfe, 0x80..=0xbf, ..]) {
        return None;
    }
    let mut to = [0; 16];
    for (n, octet) in from.iter().enumerate() {
        let tree = keyed.digest(b"address of version 6", &from[..n]);
        to[n] = match (n, octet) {
            (0, 0xe0..) => *octet,
            // The first three bits say of what kind it is.
            (0, _) => permute(&tree, *octet, 3),
            _ => permute(&tree, *octet, 0),
        };
    }
    Some(to.into())
}

/// Turns the bits of an octet, but for the first `kept`, by the tree of its possible beginnings.
fn permute(tree: &[u8; 32], octet: u8, kept: u32) -> u8 {
    (kept..8).fold(octet, |to, bit| {
        let before = u16::from(octet) >> (8 - bit);
        let node = usize::from((1_u16 << bit) - 1 + before);
        let turn = tree[node / 8] >> (node % 8) & 1;
        to ^ (turn << (7 - bit))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::{any, proptest};

    use super::super::super::key::Key;
    use super::*;

    fn keyed() -> Keyed {
        Keyed::new(&Key::new([5; 32]))
    }

    fn renamed(text: &str) -> Vec<String> {
        let mut all = vec![];
        each(text.as_bytes(), &keyed(), &mut |range, name| all.push(format!("{}>{name}", &text[range])));
        all
    }

    proptest! {
        #[test]
        fn addresses_share_the_same_prefix_before_and_after(a in any::<u32>(), b in any::<u32>(), shared in 8_u32..32) {
            // The first octet is permuted as a whole, so prefixes count from there on.
            let b = (a & !(u32::MAX >> shared)) | (b & (u32::MAX >> shared));
            if let (Some(x), Some(y)) = (v4(a.into(), &keyed()), v4(b.into(), &keyed())) {
                let (before, after) = ((a ^ b).leading_zeros(), (u32::from(x) ^ u32::from(y)).leading_zeros());
                let second = before < 16 && matches!(a >> 24, 100 | 169 | 172 | 192);
                assert!(before == after || second, "{before} {after}");
            }
        }

        #[test]
        fn so_do_those_of_version_6(a in any::<u128>(), b in any::<u128>(), shared in 0_u32..128) {
            let b = (a & !(u128::MAX >> shared)) | (b & (u128::MAX >> shared));
            if let (Some(x), Some(y)) = (v6(a.into(), &keyed()), v6(b.into(), &keyed())) {
                let (x, y) = (u128::from(x), u128::from(y));
                if a >> 125 != 7 { assert_eq!((a ^ b).leading_zeros(), (x ^ y).leading_zeros()) }
            }
        }
    }

    #[test]
    fn no_two_addresses_become_one() {
        let all: HashSet<_> =
            (0..=u16::MAX).filter_map(|n| v4((0xac00_0000 | u32::from(n) << 8).into(), &keyed())).collect();
        assert_eq!(all.len(), 1 << 16);
    }

    #[test]
    fn what_is_private_stays_private_and_what_is_special_stays() {
        for text in ["10.1.2.3", "192.168.1.1", "172.20.0.1", "100.64.0.9"] {
            let address = v4(text.parse().unwrap(), &keyed()).unwrap();
            let octets = address.octets();
            assert_eq!(octets[0], text.parse::<Ipv4Addr>().unwrap().octets()[0]);
            assert!(address.is_private() || octets[0] == 100, "{address}");
        }
        for text in ["127.0.0.1", "0.0.0.0", "255.255.255.0", "169.254.169.254", "::1", "fe80::1", "::", "224.0.0.1"] {
            assert_eq!(renamed(text), [""; 0], "{text}");
        }
        assert!(!v4("8.8.8.8".parse().unwrap(), &keyed()).unwrap().is_private());
    }

    #[test]
    fn addresses_are_found_among_other_things() {
        assert_eq!(renamed("dial tcp 10.1.2.3:80: from [2001:db8::1]:443, 10.1.2.3.").len(), 3);
        assert_eq!(renamed("at 12:34:56 v1.2.3 fade::bad 1.2.3.4.5 x10.1.2.3").len(), 0);
    }
}
