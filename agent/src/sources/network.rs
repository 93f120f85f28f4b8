//! What passes through the network of the machine: interfaces and their links, protocol counters, sockets, packet
//! backlogs of the CPUs, connection tracking and neighbours, all from the network namespace of process 1.
//!
//! The agent itself may live in another namespace: nothing is read from `/proc/net` or, where the two differ, from
//! `/proc/sys/net`. The texts of the files are in the modules below, each with what it is parsed into.

mod link;
mod metrics;
mod netdev;
mod protocols;
mod sockets;
mod tables;

use std::time::Duration;

use casefile_proto::gap::{Gap, GapReason};

use super::kept::{Found, Kept, glance, unreadable};
use super::spec::ByKey;
use super::{Measurement, Opened, Source, SourceError, SourceSpec};
use crate::host::Host;
use crate::text::{self, Unparsed};
use link::Links;
use metrics::METRICS;

/// The source.
pub static SPEC: SourceSpec = SourceSpec {
    name: "network",
    about: "interfaces, links, protocol counters, sockets, softnet, connection tracking and neighbours of process 1's network namespace, from /proc/1/net and /sys/class/net",
    every: Duration::from_secs(1),
    // The speed of a link is asked for under a lock of the kernel that a busy network configuration holds for long.
    deadline: Duration::from_secs(3),
    metrics: &METRICS,
    open,
};

/// Interfaces: about 130 bytes a line. Process 1 of a large machine sees some thousands.
const MAX_NETDEV: usize = 4 << 20;
/// Protocol counters and sockets in use: a few KiB.
const MAX_COUNTERS: usize = 64 << 10;
/// One line for each CPU.
const MAX_PER_CPU: usize = 2 << 20;
/// One line for each neighbour, about 80 bytes: `gc_thresh3` is 1,024 by default, and 10,000 have been seen.
const MAX_ARP: usize = 4 << 20;
/// One number.
const MAX_NUMBER: usize = 64;
/// What costs more or changes seldom is read at every tenth measurement, not all at the same one.
const SLOW: u32 = 10;
const LINKS_AT: u32 = 0;
const NEIGHBOURS_AT: u32 = 2;
/// States of sockets at every sixtieth: the kernel walks the whole table of connections, empty or not, for each of the
/// two files, and that table has up to half a million places: 3 ms each on a machine with 24 GiB, as much as a hundred
/// readings of all the rest.
const STATES: u32 = 60;
const STATES_AT: u32 = 5;

fn open(host: &Host) -> Result<Opened, SourceError> {
    let net = |file: &str, cap| Kept::new(format!("proc/1/net/{file}"), cap);
    let whole = |file: &str| Kept::whole(format!("proc/1/net/{file}"), MAX_COUNTERS);
    Ok(Opened::Ready(Box::new(Network {
        dev: net("dev", MAX_NETDEV),
        snmp: whole("snmp"),
        netstat: whole("netstat"),
        snmp6: whole("snmp6"),
        sockstat: whole("sockstat"),
        sockstat6: whole("sockstat6"),
        softnet: net("softnet_stat", MAX_PER_CPU),
        conntrack: net("stat/nf_conntrack", MAX_PER_CPU),
        conntrack_count: Kept::whole("proc/sys/net/netfilter/nf_conntrack_count", MAX_NUMBER),
        neighbours: [("ipv4", net("stat/arp_cache", MAX_PER_CPU)), ("ipv6", net("stat/ndisc_cache", MAX_PER_CPU))],
        arp: net("arp", MAX_ARP),
        counters: ByKey::new(&METRICS, protocols::key),
        counters6: ByKey::new(&METRICS, protocols::key6),
        socket_keys: ByKey::new(&METRICS, sockets::key),
        same_namespace: sees_process_1(host),
        links: Links::default(),
        cpu_names: Vec::new(),
        in_use: sockets::InUse::default(),
        tick: 0,
        buf: Vec::new(),
        host: host.clone(),
    })))
}

/// Whether the agent is in the network namespace of process 1, as far as it can tell: then what is not below
/// `/proc/PID/net` (`/proc/sys/net`) is of the machine too.
///
/// Every namespace has files of its own behind `/proc/PID/net`, so their inode tells it. `/proc/PID/ns/net` would too,
/// but may be read only by who may trace the process.
pub(super) fn sees_process_1(host: &Host) -> bool {
    let inode = |process: &str| {
        let dir = host.dir(format!("proc/{process}/net/stat")).ok()?;
        let stat = rustix::fs::fstat(&dir).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    let ours = inode("self");
    ours.is_some() && ours == inode("1")
}

struct Network {
    host: Host,
    dev: Kept,
    snmp: Kept,
    netstat: Kept,
    snmp6: Kept,
    sockstat: Kept,
    sockstat6: Kept,
    softnet: Kept,
    conntrack: Kept,
    conntrack_count: Kept,
    neighbours: [(&'static str, Kept); 2],
    arp: Kept,
    counters: ByKey,
    counters6: ByKey,
    socket_keys: ByKey,
    /// Whether `/proc/sys/net`, which shows the reader's namespace, shows that of process 1.
    same_namespace: bool,
    links: Links,
    /// The names of CPUs, by number: labels of softnet.
    cpu_names: Vec<String>,
    in_use: sockets::InUse,
    tick: u32,
    buf: Vec<u8>,
}

impl Source for Network {
    fn measure(&mut self, out: &mut Measurement) -> Result<(), SourceError> {
        let phase = self.tick % SLOW;
        let first = self.tick == 0;
        let states = first || self.tick % STATES == STATES_AT;
        self.tick = self.tick.wrapping_add(1);
        // The interfaces come first: if even they cannot be read, process 1 is hidden and one gap says it for all.
        if !self.interfaces(out) {
            return Ok(());
        }
        self.protocols(out);
        self.sockets(out);
        self.softnet(out);
        self.conntrack(phase == NEIGHBOURS_AT || first, out);
        if phase == LINKS_AT {
            self.links.measure(&self.host, &mut self.buf, out);
        }
        if phase == NEIGHBOURS_AT || first {
            self.neighbours(out);
        }
        if states {
            sockets::states(&self.host, self.in_use, out);
        }
        Ok(())
    }
}

impl Network {
    /// `false` if nothing of process 1 can be read.
    fn interfaces(&mut self, out: &mut Measurement) -> bool {
        let text = match self.dev.read(&self.host, &mut self.buf) {
            Ok(Found::Read) => &self.buf,
            Ok(Found::Missing) => {
                let hidden = self.host.read("proc/1/stat", &mut self.buf, MAX_COUNTERS).is_err();
                let gap = if hidden {
                    Gap::new(GapReason::PermissionDenied, "/proc/1 is hidden from the agent (hidepid)")
                } else {
                    Gap::new(GapReason::SourceAbsent, "/proc/1/net/dev is not there")
                };
                out.gap(gap);
                return false;
            }
            Err(error) => {
                out.gap(unreadable(&error));
                return false;
            }
        };
        let mut bad = Unparsed::default();
        self.links.begin();
        let mut any = false;
        for line in netdev::parse(text).filter_map(|line| bad.keep(line)) {
            any = true;
            netdev::emit(&line, out);
            self.links.saw(line.device);
        }
        if !any {
            bad.lacks("interface, not even lo");
        }
        bad.gap(self.dev.path()).into_iter().for_each(|gap| out.gap(gap));
        true
    }

    fn protocols(&mut self, out: &mut Measurement) {
        for kept in [&mut self.snmp, &mut self.netstat] {
            let Some(text) = kept.read_expected(&self.host, &mut self.buf, out) else { continue };
            let mut bad = Unparsed::default();
            protocols::parse(text, &self.counters, &mut bad, &mut |metric, value| out.reading(metric, &[], value));
            bad.gap(kept.path()).into_iter().for_each(|gap| out.gap(gap));
        }
        // A kernel booted with ipv6.disable=1 has no such file.
        if let Some(text) = self.snmp6.read_if_there(&self.host, &mut self.buf, out) {
            let mut bad = Unparsed::default();
            for (metric, value) in self.counters6.pairs(text).filter_map(|entry| bad.keep(entry)) {
                out.reading(metric, &[], value);
            }
            bad.gap(self.snmp6.path()).into_iter().for_each(|gap| out.gap(gap));
        }
    }

    fn sockets(&mut self, out: &mut Measurement) {
        self.in_use = sockets::InUse::default();
        if let Some(text) = self.sockstat.read_expected(&self.host, &mut self.buf, out) {
            sockets::counts(text, &self.socket_keys, self.sockstat.path(), &mut self.in_use, out);
        }
        if let Some(text) = self.sockstat6.read_if_there(&self.host, &mut self.buf, out) {
            sockets::counts(text, &self.socket_keys, self.sockstat6.path(), &mut self.in_use, out);
        }
    }

    fn softnet(&mut self, out: &mut Measurement) {
        let Some(text) = self.softnet.read_expected(&self.host, &mut self.buf, out) else { return };
        let mut bad = Unparsed::default();
        for (position, line) in tables::parse_softnet(text).enumerate() {
            let Some(line) = bad.keep(line) else { continue };
            let cpu = line.cpu.and_then(|cpu| usize::try_from(cpu).ok()).unwrap_or(position);
            // Linux cannot be built for more CPUs; a number beyond that is damage.
            if cpu >= 8192 {
                bad.lacks("CPU of this number");
                continue;
            }
            while self.cpu_names.len() <= cpu {
                self.cpu_names.push(self.cpu_names.len().to_string());
            }
            for (metric, value) in tables::SOFTNET.iter().zip(line.columns) {
                value.iter().for_each(|value| out.reading(metric, &[&self.cpu_names[cpu]], *value));
            }
        }
        bad.gap(self.softnet.path()).into_iter().for_each(|gap| out.gap(gap));
    }

    /// Missing files mean that nothing tracks connections: no gap.
    fn conntrack(&mut self, with_limit: bool, out: &mut Measurement) {
        let mut found = false;
        if let Some(text) = self.conntrack.read_if_there(&self.host, &mut self.buf, out) {
            let mut bad = Unparsed::default();
            let sums = tables::parse_per_cpu(text, tables::CONNTRACK.map(|(column, _)| column), &mut bad);
            for ((_, metric), value) in tables::CONNTRACK.iter().zip(sums) {
                value.iter().for_each(|value| out.reading(metric, &[], *value));
            }
            bad.gap(self.conntrack.path()).into_iter().for_each(|gap| out.gap(gap));
            found = sums[0].is_some();
        }
        // Kernels without CONFIG_NF_CONNTRACK_PROCFS say the number of entries here only.
        if !found
            && self.same_namespace
            && let Some(text) = self.conntrack_count.read_if_there(&self.host, &mut self.buf, out)
        {
            let mut bad = Unparsed::default();
            if let Some(entries) = bad.keep(text::single_number(text)) {
                out.reading(metrics::CONNTRACK_ENTRIES, &[], entries);
                found = true;
            }
            bad.gap(self.conntrack_count.path()).into_iter().for_each(|gap| out.gap(gap));
        }
        if found && with_limit {
            // One limit for all namespaces.
            let path = "proc/sys/net/netfilter/nf_conntrack_max";
            if let Some(text) = glance(&self.host, path, MAX_NUMBER, &mut self.buf, out) {
                let mut bad = Unparsed::default();
                if let Some(limit) = bad.keep(text::single_number(text)) {
                    out.reading(metrics::CONNTRACK_LIMIT, &[], limit);
                }
                bad.gap(path).into_iter().for_each(|gap| out.gap(gap));
            }
        }
    }

    fn neighbours(&mut self, out: &mut Measurement) {
        if let Some(text) = self.arp.read_if_there(&self.host, &mut self.buf, out) {
            let mut bad = Unparsed::default();
            for (device, entries) in tables::parse_arp(text, &mut bad) {
                out.reading(metrics::ARP_ENTRIES, &[device], entries);
            }
            bad.gap(self.arp.path()).into_iter().for_each(|gap| out.gap(gap));
        }
        for (family, kept) in &mut self.neighbours {
            let Some(text) = kept.read_if_there(&self.host, &mut self.buf, out) else { continue };
            let mut bad = Unparsed::default();
            let sums = tables::parse_per_cpu(text, tables::NEIGHBOURS.map(|(column, _)| column), &mut bad);
            for ((_, metric), value) in tables::NEIGHBOURS.iter().zip(sums) {
                value.iter().for_each(|value| out.reading(metric, &[family], *value));
            }
            bad.gap(kept.path()).into_iter().for_each(|gap| out.gap(gap));
        }
    }
}
