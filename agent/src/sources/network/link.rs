//! The state of links, from `/sys/class/net`: only of interfaces that lead out of the machine or hold others together
//! (cards, bonds, bridges, VLANs, tunnels), not of the hundreds of virtual ends that pods have.

use std::collections::BTreeMap;

use casefile_proto::sample::MetricSpec;

use super::super::Measurement;
use super::super::kept::glance;
use super::super::spec::named;
use super::metrics::METRICS;
use crate::host::Host;
use crate::text::{self, BadLine, Unparsed, lines};

/// What is one number, by the name of its file.
const NUMBERS: [(&str, &MetricSpec); 6] = [
    ("carrier", named(&METRICS, "node_network_carrier")),
    ("carrier_changes", named(&METRICS, "node_network_carrier_changes_total")),
    ("carrier_up_count", named(&METRICS, "node_network_carrier_up_changes_total")),
    ("carrier_down_count", named(&METRICS, "node_network_carrier_down_changes_total")),
    ("speed", named(&METRICS, "node_network_speed_bytes")),
    ("mtu", named(&METRICS, "node_network_mtu_bytes")),
];
const UP: &MetricSpec = named(&METRICS, "node_network_up");
const INFO: &MetricSpec = named(&METRICS, "node_network_info");

/// Each of these files is one short line; `uevent` has three.
const MAX_FILE: usize = 4096;

/// The interfaces that are known, and whether their links are looked at. Which kind an interface is, is asked once.
#[derive(Debug, Default)]
pub(super) struct Links {
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    seen: bool,
    /// `None` until it was looked at.
    watched: Option<bool>,
}

impl Links {
    /// A new list of interfaces begins.
    pub(super) fn begin(&mut self) {
        self.known.retain(|_, known| std::mem::take(&mut known.seen));
    }

    /// The list has this one.
    pub(super) fn saw(&mut self, device: &str) {
        match self.known.get_mut(device) {
            Some(known) => known.seen = true,
            None => {
                self.known.insert(device.to_owned(), Known { seen: true, watched: None });
            }
        }
    }

    /// Reads the state of those that are watched. An interface that went meanwhile, or that `/sys` does not show, has
    /// no readings: `/proc/1/net/dev` already says which there are.
    pub(super) fn measure(&mut self, host: &Host, buf: &mut Vec<u8>, out: &mut Measurement) {
        for (device, known) in &mut self.known {
            // The name comes from a file: it must not lead elsewhere.
            if device.contains('/') || device == "." || device == ".." {
                continue;
            }
            let base = format!("sys/class/net/{device}");
            known.watched = known.watched.or_else(|| leads_out(host, &base, buf, out));
            if known.watched == Some(true) {
                state(host, &base, device, buf, out);
            }
        }
    }
}

/// A card has a device behind it; what the kernel makes up says of itself which kind it is, a pod's end does not.
/// `None` where it could not be found out: it is asked again.
fn leads_out(host: &Host, base: &str, buf: &mut Vec<u8>, out: &mut Measurement) -> Option<bool> {
    if host.link(format!("{base}/device")).is_ok() {
        return Some(true);
    }
    let path = format!("{base}/uevent");
    let Some(text) = glance(host, &path, MAX_FILE, buf, out) else { return Some(false) };
    let mut bad = Unparsed::default();
    let kinds = lines(text).filter_map(|line| bad.keep(line)).filter(|line| line.starts_with(b"DEVTYPE=")).count();
    let gap = bad.gap(&path);
    let whole = gap.is_none();
    gap.into_iter().for_each(|gap| out.gap(gap));
    (whole || kinds > 0).then_some(kinds > 0)
}

fn state(host: &Host, base: &str, device: &str, buf: &mut Vec<u8>, out: &mut Measurement) {
    for (file, metric) in NUMBERS {
        let path = format!("{base}/{file}");
        let Some(text) = glance(host, &path, MAX_FILE, buf, out) else { continue };
        let mut bad = Unparsed::default();
        match bad.keep(text::single_number(text)) {
            // -1 is the speed of a link that has none.
            Some(value) if value >= 0 => out.reading(metric, &[device], value),
            _ => {}
        }
        bad.gap(&path).into_iter().for_each(|gap| out.gap(gap));
    }
    let mut word = |file: &str, out: &mut Measurement| {
        let path = format!("{base}/{file}");
        let text = glance(host, &path, MAX_FILE, buf, out)?;
        let mut bad = Unparsed::default();
        let word = text::single(text).and_then(|line| match text::name(line.trim_ascii()) {
            Some(word) => Ok(word.to_owned()),
            None if line.is_empty() => Ok(String::new()),
            None => Err(BadLine { line, why: "not a word" }),
        });
        let word = bad.keep(word);
        bad.gap(&path).into_iter().for_each(|gap| out.gap(gap));
        word
    };
    let Some(operstate) = word("operstate", out) else { return };
    let address = word("address", out).unwrap_or_default();
    let duplex = word("duplex", out).unwrap_or_default();
    out.reading(UP, &[device], i64::from(operstate == "up"));
    out.reading(INFO, &[device, &address, &duplex, &operstate], 1);
}
