//! Network: links that went, packets that were lost, tables and queues that are full, segments that had to be sent again.

use std::time::Duration;

use super::CheckSpec;
use super::facts::{Need, NodeFacts};
use super::spans::{above, longest, smoothed};
use super::threshold::{MINUTE, lasting, over, percent, ratio, share, steps};
use crate::finding::{Confidence, Finding, Severity};
use crate::seriesset::OneSeries;

/// The checks of this file.
pub const CHECKS: &[CheckSpec] = &[
    CheckSpec {
        id: "net.link",
        title: "An interface lost its link",
        needs: &[Need::Readings("network")],
        metrics: &["node_network_carrier_changes_total", "node_network_up"],
        examine: link,
    },
    CheckSpec {
        id: "net.errors",
        title: "An interface has errors",
        needs: &[Need::Readings("network")],
        metrics: &["node_network_receive_errs_total", "node_network_transmit_errs_total"],
        examine: errors,
    },
    CheckSpec {
        id: "net.dropped",
        title: "Packets are dropped because the machine does not keep up",
        needs: &[Need::Readings("network")],
        metrics: &["node_softnet_dropped_total"],
        examine: dropped,
    },
    CheckSpec {
        id: "net.conntrack",
        title: "The table of connections is nearly full",
        needs: &[Need::Readings("network")],
        metrics: &["node_nf_conntrack_entries", "node_nf_conntrack_entries_limit"],
        examine: conntrack,
    },
    CheckSpec {
        id: "net.retransmits",
        title: "Many TCP segments have to be sent again",
        needs: &[Need::Readings("network")],
        metrics: &["node_netstat_Tcp_RetransSegs", "node_netstat_Tcp_OutSegs"],
        examine: retransmits,
    },
    CheckSpec {
        id: "net.listen",
        title: "Connections are refused because a program does not accept them in time",
        needs: &[Need::Readings("network")],
        metrics: &["node_netstat_TcpExt_ListenDrops", "node_netstat_TcpExt_ListenOverflows"],
        examine: listen,
    },
    CheckSpec {
        id: "net.neighbours",
        title: "The table of neighbours was full",
        needs: &[Need::Readings("network")],
        metrics: &["casefile_neighbour_table_full_total"],
        examine: |facts| {
            grew(
                facts,
                "net.neighbours",
                "casefile_neighbour_table_full_total",
                1.0,
                Severity::Error,
                "the table of neighbours (ARP, NDP) was full, times",
            )
        },
    },
];

/// Errors a second over a minute that no healthy link has.
const ERRORS: f64 = 1.0;

/// What node-mixin warns of, and nearly full.
const TRACKED: (f64, f64) = (0.75, 0.95);

/// One of twenty segments, at a hundred and more a second: below that a single slow peer is enough.
const AGAIN: f64 = 0.05;
const SEGMENTS: f64 = 100.0;

/// Interfaces of pods come and go with them, and their links with both.
fn of_pods(device: &str) -> bool {
    [
        "veth",
        "cali",
        "lxc",
        "cilium",
        "flannel",
        "cni",
        "docker",
        "br-",
        "tunl",
        "vxlan",
        "lo",
        "eni",
        "gke",
        "dummy",
        "nodelocaldns",
        "kube-",
    ]
    .iter()
    .any(|prefix| device.starts_with(prefix))
}

/// A finding where a counter grew by at least so much.
fn grew(
    facts: &NodeFacts<'_>,
    kind: &str,
    metric: &str,
    at_least: f64,
    severity: Severity,
    what: &str,
) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let grown = facts.set.grown(series).filter(|grown| *grown >= at_least)?;
        let (first, last) = steps(facts, series)?;
        let labels: Vec<_> = series.named().map(|(_, value)| value).collect();
        let subject = labels.join(" ");
        let about = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
        let text = format!("{about}{what}: {grown:.0}");
        let mut finding = facts.finding(kind, severity, Confidence::Medium, text.clone());
        (finding.first, finding.last) = (Some(first), Some(last));
        finding.subject = Some(subject).filter(|s| !s.is_empty());
        finding.evidence = vec![facts.series(series, first, last, grown, text)];
        Some(finding)
    };
    facts.set.of(metric).filter_map(one).collect()
}

fn link(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let device = series.label("device").filter(|device| !of_pods(device))?;
        let grown = facts.set.grown(series).filter(|grown| *grown >= 1.0)?;
        let (first, last) = steps(facts, series)?;
        let up = facts.set.one("node_network_up", &[("device", device)]);
        let down_now = up.and_then(|up| up.values.last()).is_some_and(|value| value.value == 0.0);
        let (severity, state) =
            if down_now { (Severity::Error, "down at the end") } else { (Severity::Warning, "up at the end") };
        let text = format!("the link of {device} changed {grown:.0} times, {state}");
        let mut finding = facts.finding("net.link", severity, Confidence::High, text.clone());
        (finding.first, finding.last) = (Some(first), Some(last));
        finding.subject = Some(device.to_owned());
        finding.evidence = vec![facts.series(series, first, last, grown, text)];
        Some(finding)
    };
    facts.set.of("node_network_carrier_changes_total").filter_map(one).collect()
}

fn errors(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let one = |series: &OneSeries| {
        let device = series.label("device").filter(|device| !of_pods(device))?;
        let values = smoothed(&facts.timed(&facts.set.rates(series)), MINUTE);
        let span = longest(above(&values, ERRORS, MINUTE / 2))?;
        let way = if series.metric.name.contains("receive") { "received" } else { "sent" };
        let text =
            format!("{device} had up to {:.0} errors a second in what it {way}, for {}", span.peak, lasting(&span));
        let mut finding = over(facts, "net.errors", Severity::Warning, series, span, text);
        finding.subject = Some(device.to_owned());
        Some(finding)
    };
    let both = ["node_network_receive_errs_total", "node_network_transmit_errs_total"];
    both.iter().flat_map(|metric| facts.set.of(metric)).filter_map(one).collect()
}

fn dropped(facts: &NodeFacts<'_>) -> Vec<Finding> {
    grew(
        facts,
        "net.dropped",
        "node_softnet_dropped_total",
        10.0,
        Severity::Warning,
        "packets were dropped because a CPU's queue was full",
    )
}

fn conntrack(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let of = |name| facts.set.of(name).next();
    let (Some(entries), Some(limit)) = (of("node_nf_conntrack_entries"), of("node_nf_conntrack_entries_limit")) else {
        return Vec::new();
    };
    let values = share(facts, entries, limit);
    for (level, severity) in [(TRACKED.1, Severity::Error), (TRACKED.0, Severity::Warning)] {
        if let Some(span) = longest(above(&values, level, Duration::from_secs(10))) {
            let text = format!("the table of connections was {} full, for {}", percent(span.peak), lasting(&span));
            return vec![over(facts, "net.conntrack", severity, entries, span, text)];
        }
    }
    Vec::new()
}

fn retransmits(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let of = |name| facts.set.of(name).next();
    let (Some(again), Some(sent)) = (of("node_netstat_Tcp_RetransSegs"), of("node_netstat_Tcp_OutSegs")) else {
        return Vec::new();
    };
    let values = smoothed(&ratio(facts, again, sent, SEGMENTS), MINUTE);
    let Some(span) = longest(above(&values, AGAIN, MINUTE)) else { return Vec::new() };
    let text = format!(
        "{} of the TCP segments of the worst minute had to be sent again, for {}",
        percent(span.peak),
        lasting(&span)
    );
    vec![over(facts, "net.retransmits", Severity::Warning, again, span, text)]
}

fn listen(facts: &NodeFacts<'_>) -> Vec<Finding> {
    let mut found = grew(
        facts,
        "net.listen",
        "node_netstat_TcpExt_ListenOverflows",
        1.0,
        Severity::Warning,
        "connections refused because the queue of a listener was full",
    );
    if found.is_empty() {
        found = grew(
            facts,
            "net.listen",
            "node_netstat_TcpExt_ListenDrops",
            1.0,
            Severity::Warning,
            "connections dropped at a listener",
        );
    }
    found
}
