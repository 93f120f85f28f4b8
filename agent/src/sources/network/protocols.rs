//! Counters of IP, ICMP, UDP and TCP: `/proc/net/{snmp,netstat}`, where a line of names is followed by a line of numbers,
//! and `/proc/net/snmp6`, one name and number a line.
//!
//! Which of the several hundred are recorded is written in the table of metrics.

use casefile_proto::sample::MetricSpec;

use super::super::spec::ByKey;
use crate::text::{self, BadLine, Fields, Unparsed, lines};

const PREFIX: &str = "node_netstat_";

/// `node_netstat_Tcp_RetransSegs` is `Tcp: RetransSegs`: looked up as `Tcp_RetransSegs`.
pub(super) fn key(name: &str) -> Option<String> {
    name.strip_prefix(PREFIX).filter(|key| !is6(key)).map(str::to_owned)
}

/// `node_netstat_Ip6_InReceives` is `Ip6InReceives`.
pub(super) fn key6(name: &str) -> Option<String> {
    name.strip_prefix(PREFIX).filter(|key| is6(key)).map(|key| key.replacen('_', "", 1))
}

fn is6(key: &str) -> bool {
    key.split('_').next().is_some_and(|protocol| protocol.ends_with('6'))
}

/// The longest `Protocol_Counter` that is looked up; the kernel's longest has 41 bytes.
const MAX_KEY: usize = 64;

/// Gives every recorded counter to `each`. A pair of lines that do not fit together is bad as a whole: a number under
/// the wrong name would be worse than none.
pub(super) fn parse(text: &[u8], keys: &ByKey, bad: &mut Unparsed, each: &mut dyn FnMut(&'static MetricSpec, i64)) {
    let mut all = lines(text);
    while let Some(names) = all.next() {
        let Some(names) = bad.keep(names) else { continue };
        let Some(values) = all.next() else {
            bad.add(BadLine { line: names, why: "no line of numbers after it" });
            break;
        };
        let Some(values) = bad.keep(values) else { continue };
        bad.keep(pair(names, values, keys, each));
    }
}

fn pair<'a>(
    names: &'a [u8],
    values: &'a [u8],
    keys: &ByKey,
    each: &mut dyn FnMut(&'static MetricSpec, i64),
) -> Result<(), BadLine<'a>> {
    let (mut name, mut value) = (Fields::of(names), Fields::of(values));
    let protocol = name.word()?;
    if value.word()? != protocol || !protocol.ends_with(b":") {
        return Err(value.bad("is not of the protocol of the line before"));
    }
    if name.clone().count() != value.clone().count() {
        return Err(value.bad("has another number of fields than the line of names"));
    }
    let protocol = &protocol[..protocol.len() - 1];
    let mut key = [0; MAX_KEY];
    for (name, field) in name.zip(value.clone()) {
        let Some(spec) = joined(&mut key, protocol, name).and_then(|key| keys.get(key)) else { continue };
        let number = text::signed(field).map_err(|why| value.bad(why))?;
        each(spec, number);
    }
    Ok(())
}

/// `protocol_name`, put together in `key`.
fn joined<'k>(key: &'k mut [u8; MAX_KEY], protocol: &[u8], name: &[u8]) -> Option<&'k [u8]> {
    let len = protocol.len() + 1 + name.len();
    let place = key.get_mut(..len)?;
    place[..protocol.len()].copy_from_slice(protocol);
    place[protocol.len()] = b'_';
    place[protocol.len() + 1..].copy_from_slice(name);
    Some(place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::metrics::METRICS;
    use super::*;

    fn all(text: &[u8]) -> (Vec<(&'static str, i64)>, Option<String>) {
        let (mut got, mut bad) = (Vec::new(), Unparsed::default());
        parse(text, &ByKey::new(&METRICS, key), &mut bad, &mut |metric, value| got.push((metric.name, value)));
        (got, bad.gap("x").map(|gap| gap.detail))
    }

    #[test]
    fn numbers_stand_under_their_names() {
        let text = b"Tcp: RtoMin MaxConn RetransSegs InErrs\nTcp: 200 -1 1973 4\nUdp: NoPorts Unheard\nUdp: 7 8\n";
        let expected =
            [("node_netstat_Tcp_RetransSegs", 1973), ("node_netstat_Tcp_InErrs", 4), ("node_netstat_Udp_NoPorts", 7)];
        assert_eq!(all(text), (expected.to_vec(), None));
    }

    #[test]
    fn a_line_of_numbers_that_does_not_fit_its_names_gives_nothing() {
        for text in [
            &b"Tcp: RetransSegs InErrs\nTcp: 1\n"[..],
            b"Tcp: RetransSegs\nUdp: 1\n",
            b"Tcp: RetransSegs\n",
            b"Tcp: RetransSegs\nTcp: x\n",
            b"Tcp: RetransSegs\nTcp: 1",
        ] {
            let (got, bad) = all(text);
            assert!(got.is_empty() && bad.is_some(), "{text:?}");
        }
    }

    #[test]
    fn counters_of_ipv6_are_found_under_their_joined_names() {
        let keys = ByKey::new(&METRICS, key6);
        let got: Vec<_> = keys.pairs(b"Ip6InOctets                     \t12\nIp6OutMcastPkts 9\n").collect();
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].map(|(m, v)| (m.name, v)), Ok(("node_netstat_Ip6_InOctets", 12)));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            all(&bytes);
            all(&[b"Tcp: RetransSegs InErrs\nTcp: ", &bytes[..], b"\n"].concat());
            ByKey::new(&METRICS, key6).pairs(&bytes).for_each(drop);
        }
    }
}
