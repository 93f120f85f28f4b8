//! A test as a table for people: a row a node, a column a step, faults first, and whose fault it is below.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use casefile_evidence::archive::connectivity::KeptTest;
use casefile_proto::connectivity::steps::{Certificate, Step, Steps, Trust, Went};
use casefile_proto::connectivity::{NodeOutcome, NodeResult, Verdict};
use comfy_table::{Table, presets};

use super::verdict::nodes;
use crate::display::safe;

/// Certificates that are listed; the rest is counted.
const MAX_CERTIFICATES: usize = 4;

/// The whole text of one test.
pub fn matrix(kept: &KeptTest, verdict: &Verdict) -> String {
    let test = &kept.test;
    let mut text = format!(
        "{}  {}\ntested {} from {} for {}\n\n",
        safe(&test.name),
        safe(&test.target.to_string()),
        test.at,
        nodes(test.nodes.len()),
        safe(&test.asked_by)
    );
    let steps = test.target.scheme().steps();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let heads = steps.iter().map(|step| step.name().to_owned());
    table.set_header(std::iter::once("NODE".to_owned()).chain(heads).chain(std::iter::once("WHAT".to_owned())));
    let mut rows: Vec<&NodeResult> = test.nodes.iter().collect();
    rows.sort_by_key(|row| (rank(&row.outcome), &row.node));
    for row in rows {
        let cells = match &row.outcome {
            NodeOutcome::Tested(tested) => {
                let cells = steps.iter().map(|step| cell(tested, *step));
                cells.chain(std::iter::once(what(tested))).collect::<Vec<_>>()
            }
            NodeOutcome::Untested(untested) => {
                let more = if untested.detail.is_empty() { String::new() } else { format!(": {}", untested.detail) };
                let why = safe(&format!("not tested: {}{more}", untested.reason.words()));
                steps.iter().map(|_| "-".to_owned()).chain(std::iter::once(why)).collect()
            }
        };
        table.add_row(std::iter::once(safe(row.node.as_str())).chain(cells));
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.lines().for_each(|line| {
        text.push_str(line.trim_end());
        text.push('\n');
    });
    if kept.missing > 0 {
        let _infallible = writeln!(
            text,
            "\nOf {} more that took part the case file has no result",
            nodes(kept.missing.try_into().unwrap_or(usize::MAX))
        );
    }
    certificates(kept, &mut text);
    let _infallible = writeln!(text, "\n{}", capital(&safe(&verdict.sentence)));
    for remark in &verdict.remarks {
        let _infallible = writeln!(text, "Also: {}", safe(remark));
    }
    text
}

/// Faults, then what is not known, then what is good.
fn rank(outcome: &NodeOutcome) -> u8 {
    match outcome {
        NodeOutcome::Tested(steps) if steps.failed().is_some() => 0,
        NodeOutcome::Untested(_) => 1,
        NodeOutcome::Tested(_) => 2,
    }
}

fn cell(steps: &Steps, step: Step) -> String {
    match steps.of(step) {
        None | Some(Went::NotReached) => "-".to_owned(),
        Some(Went::Ok { took_nanos, .. }) => time(*took_nanos),
        Some(Went::Failed { failure, took_nanos, .. }) => {
            format!("{} ({})", failure.words().to_uppercase(), time(*took_nanos))
        }
    }
}

/// What failed, in the words of the node; or where it went and what it was answered.
fn what(steps: &Steps) -> String {
    if let Some((step, _)) = steps.failed() {
        return safe(steps.of(step).map_or("", Went::detail));
    }
    let mut said = Vec::new();
    match steps.connect.as_ref().and_then(|connect| connect.address) {
        Some(address) => said.push(address.to_string()),
        None => said.extend(steps.resolve.addresses.iter().map(ToString::to_string)),
    }
    if let Some(shown) = steps.tls.as_ref().and_then(|tls| tls.shown.as_ref()) {
        said.push(shown.version.clone());
        said.extend(shown.alpn.clone());
    }
    said.extend(steps.http.as_ref().and_then(|http| http.answered).map(|answered| answered.status.to_string()));
    // What went wrong before it went well.
    said.extend(
        steps.connect.iter().map(|connect| connect.went.detail().to_owned()).filter(|detail| !detail.is_empty()),
    );
    safe(&said.join(" "))
}

fn time(nanos: u64) -> String {
    match nanos {
        0..10_000 => "<0.01 ms".to_owned(),
        10_000..1_000_000 => format!("0.{:02} ms", nanos / 10_000),
        1_000_000..1_000_000_000 => format!("{}.{} ms", nanos / 1_000_000, nanos / 100_000 % 10),
        _ => format!("{}.{} s", nanos / 1_000_000_000, nanos / 100_000_000 % 10),
    }
}

/// The servers' own certificates, each once, with what is known of whether they can be trusted.
fn certificates(kept: &KeptTest, text: &mut String) {
    let mut shown: BTreeMap<_, (&Certificate, BTreeMap<&str, usize>)> = BTreeMap::new();
    for row in &kept.test.nodes {
        let NodeOutcome::Tested(steps) = &row.outcome else { continue };
        let Some(tls) = steps.tls.as_ref().and_then(|tls| tls.shown.as_ref()) else { continue };
        if let Some(own) = tls.certificates.first() {
            let (_, trusts) = shown.entry(own.sha256).or_insert((own, BTreeMap::new()));
            *trusts.entry(words(tls.trust)).or_default() += 1;
        }
    }
    for (n, (own, trusts)) in shown.values().enumerate() {
        let before = if n == 0 { "\n" } else { "" };
        if n == MAX_CERTIFICATES {
            let _infallible = writeln!(text, "and {} certificates more", shown.len() - n);
            return;
        }
        let trusts: Vec<_> = trusts.iter().map(|(word, count)| format!("{word} on {}", nodes(*count))).collect();
        let _infallible = writeln!(
            text,
            "{before}Certificate: {}, by {}, until {}; {}",
            safe(&own.subject),
            safe(&own.issuer),
            own.not_after,
            trusts.join(", ")
        );
    }
}

const fn words(trust: Trust) -> &'static str {
    match trust {
        Trust::NotChecked => "not checked against any root",
        Trust::Trusted => "trusted (by the roots that the agent was given)",
        Trust::NotTrusted => "NOT trusted",
    }
}

/// The first letter large, and a full stop.
fn capital(sentence: &str) -> String {
    let mut letters = sentence.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(std::iter::once('.')).collect()
}

#[cfg(test)]
mod tests {
    use casefile_proto::connectivity::steps::{Connect, Failure, Resolve};
    use casefile_proto::connectivity::{ConnectivityTest, Untested, UntestedReason};

    use super::*;
    use crate::connectivity::judge;

    #[test]
    fn faults_stand_first_and_what_was_not_read_is_a_dash() {
        let ok = |took_nanos| Went::Ok { took_nanos, detail: String::new() };
        let tested = |resolve, connect| {
            let address = matches!(connect, Went::Ok { .. }).then(|| "10.0.0.1:80".parse().unwrap());
            NodeOutcome::Tested(Box::new(Steps {
                resolve: Resolve { went: resolve, addresses: vec!["10.0.0.1".parse().unwrap()] },
                connect: Some(Connect { went: connect, address }),
                tls: None,
                http: None,
            }))
        };
        let late = Went::Failed {
            failure: Failure::TimedOut,
            took_nanos: 5_000_000_000,
            detail: "10.0.0.1:80: \u{1b}[2Jtimed out".to_owned(),
        };
        let no_name = Went::Failed {
            failure: Failure::NoName,
            took_nanos: 2_400_000,
            detail: "Name or service not known".into(),
        };
        let untested = NodeOutcome::Untested(Untested { reason: UntestedReason::SwitchedOff, detail: String::new() });
        let outcomes = [
            ("a", tested(ok(450_000), ok(1_200_000))),
            ("b", untested),
            ("c", tested(no_name, Went::NotReached)),
            ("d", tested(ok(2_000_000), late)),
            ("e", tested(ok(2_000_000), ok(1_000_000))),
            ("f", tested(ok(2_000_000), ok(1_000_000))),
        ];
        let nodes = outcomes.map(|(node, outcome)| NodeResult { node: node.parse().unwrap(), outcome });
        let test = ConnectivityTest {
            at: "2026-11-23T03:00:00Z".parse().unwrap(),
            name: "db".to_owned(),
            target: "tcp://db.shop.svc:80".parse().unwrap(),
            asked_by: "kim".to_owned(),
            nodes: nodes.into(),
        };
        let verdict = judge(&test, 1);
        let text = matrix(&KeptTest { test, missing: 1, line: 1 }, &verdict);
        let wanted = "\
db  tcp://db.shop.svc:80
tested 2026-11-23T03:00:00Z from 6 nodes for kim

NODE  DNS                    TCP               WHAT
c     NO SUCH NAME (2.4 ms)  -                 Name or service not known
d     2.0 ms                 TIMED OUT (5.0 s)  10.0.0.1:80: \\u{1b}[2Jtimed out
b     -                      -                 not tested: its agent's configuration has no test_connectivity = true
a     0.45 ms                1.2 ms            10.0.0.1:80
e     2.0 ms                 1.0 ms            10.0.0.1:80
f     2.0 ms                 1.0 ms            10.0.0.1:80

Of 1 node more that took part the case file has no result

The fault is with c, d: DNS no such name on 1, TCP timed out on 1, and 3 others reach db; 2 nodes could not be tested (b).
";
        let squeezed = |text: &str| {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect::<Vec<_>>()
        };
        assert_eq!(squeezed(&text), squeezed(wanted));
        assert!(!text.contains('\u{1b}') && text.lines().all(|line| line == line.trim_end()));
    }
}
