//! Routes in the network namespace of pid 1: `/proc/1/net/route` (IPv4) and `ipv6_route`.
//!
//! The kernel shows the main table only for IPv4 (policy routing and local routes need netlink), all tables for IPv6.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr};

use serde::Serialize;

use super::address::{in_order, in_words};
use super::rows::Rows;
use super::{StateSpec, Table};
use crate::host::Host;
use crate::lossy;
use crate::text::{BadLine, Fields};

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "routes",
    about: "routes in the network namespace of pid 1: the main IPv4 table and all IPv6 tables, from /proc/1/net/{route,ipv6_route}",
    file: "state/routes.jsonl",
    write,
};

/// A node with a full routing table would have a million; what matters there is in the first.
const MAX_ROWS: u64 = 65_536;

const V4: &str = "proc/1/net/route";
const V6: &str = "proc/1/net/ipv6_route";

#[derive(Serialize)]
struct Row {
    destination: IpAddr,
    prefix: u32,
    /// Absent where the destination is on the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    /// Only for packets from here; IPv6, and only where it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Ipv6Addr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_prefix: Option<u32>,
    interface: String,
    metric: i64,
    /// `RTF_*` of linux/route.h as the kernel has them: 1 up, 2 by a gateway, 4 to one host, 0x200 rejected.
    flags: i64,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    for (file, parse) in [(V4, v4 as fn(&[u8]) -> Result<Option<Row>, BadLine<'_>>), (V6, v6)] {
        rows.each_line(host, file, &mut |rows, line| match parse(line) {
            Ok(Some(row)) => rows.row(&row),
            Ok(None) => Ok(()),
            Err(bad) => {
                rows.unparsed(file, bad.line, bad.why);
                Ok(())
            }
        })?;
    }
    Ok(rows.end())
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT`; the first line is the heading.
fn v4(line: &[u8]) -> Result<Option<Row>, BadLine<'_>> {
    let mut fields = Fields::of(line);
    let interface = fields.word()?;
    if interface == b"Iface" {
        return Ok(None);
    }
    let address = |fields: &mut Fields<'_>| fields.word().ok().and_then(in_words);
    let bad = BadLine { line, why: "an address is none" };
    let destination = address(&mut fields).ok_or(bad)?;
    let gateway = address(&mut fields).ok_or(bad)?;
    let flags = fields.hex()?;
    let (_, _, metric) = (fields.number()?, fields.number()?, fields.number()?);
    let Some(IpAddr::V4(mask)) = address(&mut fields) else { return Err(BadLine { line, why: "the mask is none" }) };
    Ok(Some(Row {
        destination,
        prefix: u32::from(mask).leading_ones(),
        gateway: Some(gateway).filter(|g| !g.is_unspecified()),
        source: None,
        source_prefix: None,
        interface: lossy::capped(interface, 64),
        metric,
        flags,
    }))
}

/// Destination, its prefix, source, its prefix, next hop, metric, references, use, flags, interface; all hexadecimal.
fn v6(line: &[u8]) -> Result<Option<Row>, BadLine<'_>> {
    let mut fields = Fields::of(line);
    let bad = BadLine { line, why: "an address is none" };
    let address = |fields: &mut Fields<'_>| fields.word().ok().and_then(in_order).ok_or(bad);
    let prefix = |fields: &mut Fields<'_>| {
        fields.hex().ok().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 128).ok_or(bad)
    };
    let (destination, to) = (address(&mut fields)?, prefix(&mut fields)?);
    let (source, from) = (address(&mut fields)?, prefix(&mut fields)?);
    let gateway = address(&mut fields)?;
    let metric = fields.hex()?;
    let (_, _, flags) = (fields.hex()?, fields.hex()?, fields.hex()?);
    let interface = lossy::capped(fields.word()?, 64);
    Ok(Some(Row {
        destination: IpAddr::V6(destination),
        prefix: to,
        gateway: Some(IpAddr::V6(gateway)).filter(|g| !g.is_unspecified()),
        source: Some(source).filter(|_| from > 0),
        source_prefix: Some(from).filter(|n| *n > 0),
        interface,
        metric,
        flags,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(row: Result<Option<Row>, BadLine<'_>>) -> String {
        serde_json::to_string(&row.unwrap().unwrap()).unwrap()
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_default_route_has_a_gateway_and_a_link_route_has_none() {
        assert_eq!(
            shown(v4(b"eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0   ")),
            r#"{"destination":"0.0.0.0","prefix":0,"gateway":"192.0.2.1","interface":"eth0","metric":100,"flags":3}"#
        );
        assert_eq!(
            shown(v4(b"cni0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0")),
            r#"{"destination":"10.244.0.0","prefix":24,"interface":"cni0","metric":0,"flags":1}"#
        );
        assert!(v4(b"Iface\tDestination\tGateway").unwrap().is_none());
    }

    #[test]
    fn an_ipv6_route_is_read_in_ordinary_byte_order() {
        let line = b"00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0";
        assert_eq!(
            shown(v6(line)),
            r#"{"destination":"::","prefix":0,"gateway":"fd00::1","interface":"eth0","metric":1024,"flags":3}"#
        );
        assert!(v6(&line[..60]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = (v4(&bytes), v6(&bytes));
        }
    }
}
