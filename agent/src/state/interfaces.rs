//! Network interfaces and addresses in the network namespace of pid 1: `/proc/1/net/dev` names the interfaces,
//! `/sys/class/net` describes them, `if_inet6` and `fib_trie` have the addresses.
//!
//! Counters are in the recording (source `network`).

use std::io::Write;
use std::net::IpAddr;

use serde::Serialize;

use super::address::in_order;
use super::rows::{Rows, optional};
use super::{StateSpec, Table};
use crate::host::Host;
use crate::lossy;
use crate::text::{BadLine, Fields};

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "interfaces",
    about: "network interfaces and addresses in the network namespace of pid 1, from /proc/1/net/{dev,if_inet6,fib_trie} and /sys/class/net",
    file: "state/interfaces.jsonl",
    write,
};

/// Interfaces and addresses; a node has two for each pod and some.
const MAX_ROWS: u64 = 16_384;

const DEV: &str = "proc/1/net/dev";
const V6: &str = "proc/1/net/if_inet6";
const TRIE: &str = "proc/1/net/fib_trie";

/// One interface. What `/sys/class/net` does not say is absent: it shows the namespace in which it was mounted, which in
/// a container without the host's `/sys` is another one.
#[derive(Serialize)]
struct Interface {
    interface: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hardware_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu_bytes: Option<i64>,
    /// `up`, `down`, `unknown`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    /// `IFF_*` in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<String>,
    /// `ARPHRD_*`: 1 is Ethernet, 772 loopback.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier_changes: Option<i64>,
    /// Absent where the driver does not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_megabits: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duplex: Option<String>,
    /// The index of what it is bound to: the other end of a veth pair, the interface below a VLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    link_index: Option<i64>,
    /// The bridge or bond that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<String>,
}

/// One address.
#[derive(Serialize)]
struct Address {
    address: IpAddr,
    /// IPv6 only: the kernel's file of IPv4 addresses has them without.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<i64>,
    /// IPv6 only, as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    /// IPv6 only: 0 global, 0x10 host, 0x20 link.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<i64>,
    /// IPv6 only, `IFA_F_*`: 0x08 the address is a duplicate, 0x20 deprecated, 0x40 not yet checked, 0x80 permanent.
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<i64>,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, MAX_ROWS);
    rows.each_line(host, DEV, &mut |rows, line| {
        // Two lines of heading have no colon.
        let Some(colon) = line.iter().position(|b| *b == b':') else { return Ok(()) };
        let interface = describe(host, line[..colon].trim_ascii(), rows);
        rows.row(&interface)
    })?;
    rows.each_line(host, V6, &mut |rows, line| match v6(line) {
        Ok(row) => rows.row(&row),
        Err(bad) => {
            rows.unparsed(V6, bad.line, bad.why);
            Ok(())
        }
    })?;
    let mut trie = Trie::default();
    rows.each_line(host, TRIE, &mut |rows, line| match trie.line(line) {
        Some(address) => rows.row(&address),
        None => Ok(()),
    })?;
    Ok(rows.end())
}

fn describe(host: &Host, name: &[u8], rows: &mut Rows<'_>) -> Interface {
    let interface = lossy::capped(name, 64);
    let mut buf = Vec::new();
    // An interface's name has no slash and is no `..`: the kernel refuses both.
    let mut text = |what: &str| optional(host, &format!("sys/class/net/{interface}/{what}"), &mut buf, rows);
    let hardware_address = text("address").filter(|a| !a.is_empty());
    let (state, flags, duplex) = (text("operstate"), text("flags"), text("duplex"));
    let mut number = |what: &str| text(what).and_then(|n| n.parse::<i64>().ok());
    let (index, mtu_bytes, kind, carrier) = (number("ifindex"), number("mtu"), number("type"), number("carrier"));
    let (carrier_changes, link_index) = (number("carrier_changes"), number("iflink"));
    let speed_megabits = number("speed").filter(|n| *n >= 0);
    let master = host.link(format!("sys/class/net/{interface}/master")).ok();
    let master = master.and_then(|to| Some(lossy::capped(to.file_name()?.as_encoded_bytes(), 64)));
    Interface {
        interface,
        index,
        hardware_address,
        mtu_bytes,
        state,
        flags,
        kind,
        carrier,
        carrier_changes,
        speed_megabits,
        duplex,
        link_index,
        master,
    }
}

/// Address, interface number, prefix, scope, flags, interface; all numbers hexadecimal.
fn v6(line: &[u8]) -> Result<Address, BadLine<'_>> {
    let mut fields = Fields::of(line);
    let address = in_order(fields.word()?).ok_or(BadLine { line, why: "begins with no address" })?;
    let (_, prefix, scope, flags) = (fields.hex()?, fields.hex()?, fields.hex()?, fields.hex()?);
    let interface = lossy::capped(fields.word()?, 64);
    Ok(Address {
        address: IpAddr::V6(address),
        prefix: Some(prefix),
        interface: Some(interface),
        scope: Some(scope),
        flags: Some(flags),
    })
}

/// Reads the local table of `fib_trie`: `|-- ADDRESS` and, below it, `/32 host LOCAL` for an address of the machine's own.
#[derive(Debug, Default)]
struct Trie {
    is_local: bool,
    address: Option<IpAddr>,
}

impl Trie {
    fn line(&mut self, line: &[u8]) -> Option<Address> {
        if !line.starts_with(b" ") {
            self.is_local = line == b"Local:";
            return None;
        }
        let mut words = Fields::of(line);
        match words.next()? {
            b"|--" => {
                self.address = words.next().and_then(|w| std::str::from_utf8(w).ok()).and_then(|w| w.parse().ok());
                None
            }
            b"/32" if self.is_local && words.next() == Some(b"host") && words.next() == Some(b"LOCAL") => {
                let address = self.address.take()?;
                Some(Address { address, prefix: None, interface: None, scope: None, flags: None })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_machines_own_addresses_are_those_of_the_local_table() {
        let text = b"Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.2\n        /32 host LOCAL\nLocal:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 127.0.0.0\n        /8 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n     |-- 192.0.2.2\n        /32 host LOCAL\n";
        let mut trie = Trie::default();
        let found: Vec<_> =
            text.split(|b| *b == b'\n').filter_map(|l| Some(trie.line(l)?.address.to_string())).collect();
        assert_eq!(found, ["127.0.0.1", "192.0.2.2"]);
    }

    #[test]
    fn an_ipv6_address_comes_with_its_interface() {
        let row = v6(b"fe8000000000000000fc00fffe000001 04 40 20 80     eth0").unwrap();
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"address":"fe80::fc:ff:fe00:1","prefix":64,"interface":"eth0","scope":32,"flags":128}"#
        );
        assert!(v6(b"fe80 04 40 20 80 eth0").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let mut trie = Trie::default();
            for line in &lines {
                let _ = (v6(line), trie.line(line));
            }
        }
    }
}
