//! Neighbours on the link in the network namespace of pid 1: `/proc/1/net/arp`. IPv4 only: the kernel shows those of IPv6
//! over netlink alone, which reaches no other namespace than the agent's.

use std::io::Write;
use std::net::Ipv4Addr;

use serde::Serialize;

use super::rows::Rows;
use super::{StateSpec, Table};
use crate::host::Host;
use crate::lossy;
use crate::text::{BadLine, Fields};

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "neighbours",
    about: "IPv4 neighbours (ARP) in the network namespace of pid 1, from /proc/1/net/arp; the kernel has no file for those of IPv6",
    file: "state/neighbours.jsonl",
    write,
};

const MAX_ROWS: u64 = 65_536;

const FILE: &str = "proc/1/net/arp";

#[derive(Serialize)]
struct Row {
    address: Ipv4Addr,
    /// `00:00:00:00:00:00` while it is being asked for.
    hardware_address: String,
    /// `ARPHRD_*`: 1 is Ethernet.
    hardware_type: i64,
    /// `ATF_*`: 0 asked for and not answered, 2 known, 4 set by hand.
    flags: i64,
    interface: String,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    rows.each_line(host, FILE, &mut |rows, line| match parse(line) {
        Ok(Some(row)) => rows.row(&row),
        Ok(None) => Ok(()),
        Err(bad) => {
            rows.unparsed(FILE, bad.line, bad.why);
            Ok(())
        }
    })?;
    Ok(rows.end())
}

/// `IP address  HW type  Flags  HW address  Mask  Device`; the first line is the heading.
fn parse(line: &[u8]) -> Result<Option<Row>, BadLine<'_>> {
    if line.starts_with(b"IP address") {
        return Ok(None);
    }
    let mut fields = Fields::of(line);
    let address = std::str::from_utf8(fields.word()?).ok().and_then(|text| text.parse().ok());
    let address = address.ok_or(BadLine { line, why: "begins with no address" })?;
    let (hardware_type, flags) = (fields.hex()?, fields.hex()?);
    let hardware_address = lossy::capped(fields.word()?, 128);
    fields.word()?;
    let interface = lossy::capped(fields.word()?, 64);
    Ok(Some(Row { address, hardware_address, hardware_type, flags, interface }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_neighbour_is_an_address_on_both_sides() {
        let line = b"192.0.2.1        0x1         0x2         02:fc:00:00:00:05     *        eth0";
        let shown = serde_json::to_string(&parse(line).unwrap().unwrap()).unwrap();
        assert_eq!(
            shown,
            r#"{"address":"192.0.2.1","hardware_address":"02:fc:00:00:00:05","hardware_type":1,"flags":2,"interface":"eth0"}"#
        );
        assert!(parse(b"192.0.2.1 0x1").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
