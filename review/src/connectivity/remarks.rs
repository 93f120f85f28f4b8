//! What else a test shows: nodes that are slow at a step, clocks that are wrong, certificates that end soon or that only some were
//! shown.

use std::collections::BTreeMap;
use std::time::Duration;

use casefile_proto::connectivity::steps::{Certificate, Step};
use casefile_proto::connectivity::{ConnectivityTest, MAX_REMARKS};
use casefile_proto::ids::NodeName;
use casefile_proto::item::Digest;

use super::verdict::{Seen, named};

/// Below so many there is nothing to compare with.
const ENOUGH: usize = 4;

/// A node sticks out when a step takes it so many times as long as it takes half of them.
const TIMES: u64 = 5;

/// And so much longer: what is below is noise.
const LONGER: u64 = 50_000_000;

/// A `Date` knows whole seconds, and the way takes a while: a clock that is off by less is not noticed.
const CLOCK: Duration = Duration::from_secs(3);

/// A certificate that ends sooner is worth a word.
const ENDS_SOON: Duration = Duration::from_hours(14 * 24);

/// A sentence each.
pub(super) fn remarks(test: &ConnectivityTest, seen: &[Seen<'_>]) -> Vec<String> {
    let mut all = slow(seen);
    all.extend(clocks(seen));
    all.extend(certificates(test, seen));
    all.truncate(MAX_REMARKS);
    all
}

/// Nodes that take much longer for a step that goes well.
fn slow(seen: &[Seen<'_>]) -> Vec<String> {
    let mut all = Vec::new();
    for step in Step::ALL {
        let took = |seen: &Seen<'_>| seen.steps.of(step).filter(|went| went.is_ok()).and_then(|went| went.took_nanos());
        let mut times: Vec<u64> = seen.iter().filter_map(took).collect();
        if times.len() < ENOUGH {
            continue;
        }
        times.sort_unstable();
        let median = times[(times.len() - 1) / 2];
        let most = median.saturating_mul(TIMES).max(median.saturating_add(LONGER));
        let mut slow: Vec<(&Seen<'_>, u64)> =
            seen.iter().filter_map(|seen| Some((seen, took(seen)?))).filter(|(_, took)| *took > most).collect();
        slow.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        if let Some((_, worst)) = slow.first() {
            let nodes: Vec<&NodeName> = slow.iter().map(|(seen, _)| seen.node).collect();
            all.push(format!(
                "{} is slow on {}: up to {}, and half of the nodes take {} or less",
                step.name(),
                named(&nodes),
                millis(*worst),
                millis(median)
            ));
        }
    }
    all
}

/// Clocks that differ from the server's: all of them by the same, or some.
fn clocks(seen: &[Seen<'_>]) -> Vec<String> {
    let limit = i64::try_from(CLOCK.as_nanos()).unwrap_or(i64::MAX);
    let ahead: Vec<(&NodeName, i64)> = seen
        .iter()
        .filter_map(|seen| {
            let answered = seen.steps.http.as_ref()?.answered?;
            Some((seen.node, answered.node_time.nanos_since(answered.server_time?)))
        })
        .collect();
    let off: Vec<_> = ahead.iter().filter(|(_, nanos)| nanos.unsigned_abs() > limit.unsigned_abs()).collect();
    let (Some((_, least)), Some((_, most))) =
        (off.iter().min_by_key(|(_, nanos)| *nanos), off.iter().max_by_key(|(_, nanos)| *nanos))
    else {
        return Vec::new();
    };
    if off.len() == ahead.len() && ahead.len() >= 2 && most.saturating_sub(*least) <= limit {
        let by = seconds(*least);
        return vec![format!("the clock of the target is wrong, or those of all nodes: they differ by {by}")];
    }
    let told = |(node, nanos): &&(&NodeName, i64)| {
        let side = if *nanos > 0 { "ahead of" } else { "behind" };
        format!("the clock of {node} is {} {side} that of the target", seconds(*nanos))
    };
    off.iter().map(told).collect()
}

/// The server's own certificates: what ends soon, and what only some were shown.
fn certificates(test: &ConnectivityTest, seen: &[Seen<'_>]) -> Vec<String> {
    let mut shown: BTreeMap<Digest, (&Certificate, Vec<&NodeName>)> = BTreeMap::new();
    for seen in seen {
        let tls = seen.steps.tls.as_ref().and_then(|tls| tls.shown.as_ref());
        if let Some(own) = tls.and_then(|shown| shown.certificates.first()) {
            shown.entry(own.sha256).or_insert((own, Vec::new())).1.push(seen.node);
        }
    }
    let mut all = Vec::new();
    if shown.len() > 1 {
        let mut groups: Vec<_> = shown.values().map(|(own, nodes)| (nodes.len(), *own, nodes)).collect();
        groups.sort_by_key(|(count, own, _)| (*count, own.sha256));
        if let Some((_, own, nodes)) = groups.first() {
            all.push(format!(
                "not all were shown the same certificate: {} got one of {} by {}",
                named(nodes),
                subject(&own.subject),
                subject(&own.issuer)
            ));
        }
    }
    for (own, _) in shown.values() {
        let left = own.not_after.nanos_since(test.at);
        if left > 0 && u128::from(left.unsigned_abs()) < ENDS_SOON.as_nanos() {
            let days = left / 86_400_000_000_000;
            let when = if days == 0 { "within a day".to_owned() } else { format!("in {days} days") };
            all.push(format!("the certificate of {} ends {when}, at {}", subject(&own.subject), own.not_after));
        }
    }
    all
}

fn subject(name: &str) -> &str {
    if name.is_empty() { "nobody" } else { name }
}

fn millis(nanos: u64) -> String {
    format!("{}.{} ms", nanos / 1_000_000, nanos / 100_000 % 10)
}

fn seconds(nanos: i64) -> String {
    let secs = nanos.unsigned_abs() / 1_000_000_000;
    match secs {
        0..600 => format!("{secs} s"),
        600..172_800 => format!("{} min", secs / 60),
        _ => format!("{} days", secs / 86_400),
    }
}
