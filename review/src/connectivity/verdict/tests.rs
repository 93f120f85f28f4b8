//! Tests out of a few letters for each node: who is to blame, in which words.

use std::net::SocketAddr;

use casefile_proto::connectivity::steps::{Answered, Certificate, Connect, Http, Resolve, Shown, Tls, Trust, Went};
use casefile_proto::connectivity::{NodeResult, Untested, UntestedReason};
use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;

use super::*;
use crate::connectivity::{Outcome, outcome};
use casefile_evidence::archive::connectivity::KeptTest;

const MS: u64 = 1_000_000;

/// All four steps, each of which takes a millisecond, up to one that fails.
fn steps(fails: Option<(Step, Failure)>, peer: &str) -> Steps {
    let mut over = false;
    let mut went = |step| {
        if over {
            return Went::NotReached;
        }
        match fails {
            Some((at, failure)) if at == step => {
                over = true;
                Went::Failed { failure, took_nanos: MS, detail: String::new() }
            }
            _ => Went::Ok { took_nanos: MS, detail: String::new() },
        }
    };
    let peer: SocketAddr = format!("{peer}:443").parse().unwrap();
    let resolve = Resolve { went: went(Step::Resolve), addresses: vec![peer.ip()] };
    let connect = went(Step::Connect);
    let address = (connect != Went::NotReached).then_some(peer);
    Steps {
        resolve,
        connect: Some(Connect { went: connect, address }),
        tls: Some(Tls { went: went(Step::Tls), shown: None }),
        http: Some(Http { went: went(Step::Http), answered: None }),
    }
}

fn tested(steps: Steps) -> NodeOutcome {
    NodeOutcome::Tested(Box::new(steps))
}

fn ok() -> NodeOutcome {
    tested(steps(None, "10.0.0.1"))
}

fn fails(step: Step, failure: Failure) -> NodeOutcome {
    tested(steps(Some((step, failure)), "10.0.0.1"))
}

fn unsure(reason: UntestedReason) -> NodeOutcome {
    NodeOutcome::Untested(Untested { reason, detail: String::new() })
}

fn test(outcomes: Vec<NodeOutcome>) -> ConnectivityTest {
    let nodes = outcomes
        .into_iter()
        .enumerate()
        .map(|(n, outcome)| NodeResult { node: format!("n{n}").parse().unwrap(), outcome });
    ConnectivityTest {
        at: "2026-11-23T03:00:00Z".parse().unwrap(),
        name: "api".to_owned(),
        target: "https://api.shop.svc/healthz".parse().unwrap(),
        asked_by: "kim".to_owned(),
        nodes: nodes.collect(),
    }
}

/// Whose fault, at which step, of how many nodes, and how a command would end.
fn of(outcomes: Vec<NodeOutcome>) -> (Blame, Option<Step>, usize, Outcome, String) {
    let test = test(outcomes);
    let verdict = judge(&test, 0);
    let ended = outcome(&KeptTest { test, missing: 0, line: 1 });
    (verdict.blame, verdict.step, verdict.nodes.len(), ended, verdict.sentence)
}

fn many(count: usize, outcome: &NodeOutcome) -> Vec<NodeOutcome> {
    vec![outcome.clone(); count]
}

#[test]
fn all_good_is_nobodys_fault_and_those_who_could_not_test_are_named() {
    assert_eq!(of(many(3, &ok())), (Blame::Nobody, None, 0, Outcome::Fine, "api is reached by all 3 nodes".to_owned()));
    let mut some = many(2, &ok());
    some.push(unsure(UntestedReason::TooOld));
    let (blame, _, _, ended, sentence) = of(some);
    assert_eq!((blame, ended), (Blame::Nobody, Outcome::Unsure));
    assert_eq!(sentence, "api is reached by both nodes; 1 node could not be tested (n2)");
}

#[test]
fn a_failure_that_all_share_is_the_targets() {
    for (step, failure, word) in [
        (Step::Resolve, Failure::NoName, "name service that all share"),
        (Step::Connect, Failure::Refused, "nobody listens there"),
        (Step::Connect, Failure::TimedOut, "a network policy of the agents' own"),
        (Step::Tls, Failure::Certificate, "TLS fails"),
        (Step::Http, Failure::HttpStatus, "HTTP fails"),
    ] {
        let (blame, at, nodes, ended, sentence) = of(many(4, &fails(step, failure)));
        assert_eq!((blame, at, nodes, ended), (Blame::Target, Some(step), 4, Outcome::Fault), "{sentence}");
        assert!(sentence.contains(word), "{sentence}");
    }
}

#[test]
fn a_few_that_fail_where_others_do_not_are_those_nodes() {
    let mut some = many(5, &ok());
    some.push(fails(Step::Connect, Failure::TimedOut));
    let (blame, step, nodes, ended, sentence) = of(some.clone());
    assert_eq!((blame, step, nodes, ended), (Blame::Nodes, Some(Step::Connect), 1, Outcome::Fault));
    assert_eq!(sentence, "the fault is with n5: TCP failed: timed out, and 5 others reach api");
    // At different steps they are still those nodes.
    some.push(fails(Step::Tls, Failure::Certificate));
    let (blame, step, nodes, _, sentence) = of(some);
    assert_eq!((blame, step, nodes), (Blame::Nodes, None, 2), "{sentence}");
    assert!(sentence.contains("n5, n6") && sentence.contains("TLS certificate on 1"), "{sentence}");
}

#[test]
fn names_that_only_some_resolve_are_their_resolvers_however_many_they_are() {
    for bad in [1, 4] {
        let mut some = many(bad, &fails(Step::Resolve, Failure::NameServer));
        some.extend(many(2, &ok()));
        let (blame, step, nodes, _, sentence) = of(some);
        assert_eq!((blame, step, nodes), (Blame::Resolvers, Some(Step::Resolve), bad), "{sentence}");
        assert!(sentence.starts_with("the name resolution of n0"), "{sentence}");
    }
    let (_, _, _, _, sentence) = of(vec![fails(Step::Resolve, Failure::NoName), ok()]);
    assert_eq!(sentence, "the name resolution of n0: DNS failed: no such name, and another node reaches api");
}

#[test]
fn what_fits_both_is_not_told() {
    let (blame, _, nodes, ended, sentence) = of(vec![fails(Step::Connect, Failure::TimedOut)]);
    assert_eq!((blame, nodes, ended), (Blame::Undecided, 1, Outcome::Fault));
    assert!(sentence.contains("n0 alone was tested, and TCP failed: timed out"), "{sentence}");
    let half = [many(2, &ok()), many(2, &fails(Step::Connect, Failure::TimedOut))].concat();
    let (blame, _, _, _, sentence) = of(half);
    assert_eq!(blame, Blame::Undecided);
    assert!(sentence.contains("2 of 4 nodes do not reach api and 2 do"), "{sentence}");
    let mixed = vec![fails(Step::Connect, Failure::TimedOut), fails(Step::Resolve, Failure::NameServer)];
    let (blame, step, _, _, sentence) = of(mixed);
    assert_eq!((blame, step), (Blame::Undecided, None));
    assert!(
        sentence.contains("not all fail at the same step (DNS name server failed on 1, TCP timed out on 1)"),
        "{sentence}"
    );
}

#[test]
fn nodes_that_do_not_test_are_no_failures() {
    let none = vec![unsure(UntestedReason::SwitchedOff), fails(Step::Connect, Failure::NotAllowed)];
    let (blame, _, nodes, ended, sentence) = of(none);
    assert_eq!((blame, nodes, ended), (Blame::Undecided, 0, Outcome::Unsure));
    assert_eq!(sentence, "nobody can tell: no node could test api");
    let mut some = many(2, &ok());
    some.push(fails(Step::Connect, Failure::NotAllowed));
    let (blame, _, _, ended, sentence) = of(some);
    assert_eq!((blame, ended), (Blame::Nobody, Outcome::Unsure), "{sentence}");
    let whole = test(many(2, &ok()));
    assert!(judge(&whole, 3).sentence.ends_with("; 3 nodes could not be tested"));
    assert_eq!(outcome(&KeptTest { test: whole, missing: 3, line: 1 }), Outcome::Unsure);
}

#[test]
fn a_node_that_the_target_answered_is_not_to_blame() {
    let mut some = many(3, &ok());
    some.push(fails(Step::Http, Failure::HttpStatus));
    let (blame, step, nodes, _, sentence) = of(some);
    assert_eq!((blame, step, nodes), (Blame::Target, Some(Step::Http), 1), "{sentence}");
    assert!(sentence.contains("their way to it is good"), "{sentence}");
    // All that fail went to one address, to which no other went.
    let other = tested(steps(Some((Step::Connect, Failure::Refused)), "10.0.0.2"));
    let some = [many(3, &ok()), many(2, &other)].concat();
    let (blame, _, nodes, _, sentence) = of(some);
    assert_eq!((blame, nodes), (Blame::Target, 2));
    assert!(sentence.starts_with("the fault is with 10.0.0.2:443, a part of api: 2 nodes went there"), "{sentence}");
    // One alone proves nothing of the address.
    let some = [many(3, &ok()), many(1, &other)].concat();
    assert_eq!(of(some).0, Blame::Nodes);
}

fn remarks_of(change: impl Fn(usize, &mut Steps)) -> Vec<String> {
    let nodes = (0..5).map(|n| {
        let mut steps = steps(None, "10.0.0.1");
        change(n, &mut steps);
        tested(steps)
    });
    judge(&test(nodes.collect()), 0).remarks
}

#[test]
fn slow_nodes_are_named_and_noise_is_not() {
    let resolve = |steps: &mut Steps, took_nanos| {
        steps.resolve.went = Went::Ok { took_nanos, detail: String::new() };
    };
    let slow = remarks_of(|n, steps| resolve(steps, if n == 3 { 900 * MS } else { 2 * MS }));
    assert_eq!(slow, ["DNS is slow on n3: up to 900.0 ms, and half of the nodes take 2.0 ms or less"]);
    assert_eq!(remarks_of(|n, steps| resolve(steps, if n == 3 { 40 * MS } else { 2 * MS })), [""; 0]);
    assert_eq!(remarks_of(|n, steps| resolve(steps, if n == 3 { 900 * MS } else { 300 * MS })), [""; 0]);
}

#[test]
fn clocks_that_are_wrong_are_told_from_a_target_whose_clock_is() {
    let server: WallTime = "2026-11-23T03:00:00Z".parse().unwrap();
    let at = |steps: &mut Steps, ahead: i64| {
        steps.http.as_mut().unwrap().answered =
            Some(Answered { status: 200, server_time: Some(server), node_time: server.offset(ahead * 1_000_000_000) });
    };
    assert_eq!(
        remarks_of(|n, steps| at(steps, if n == 1 { 95 } else { 1 })),
        ["the clock of n1 is 95 s ahead of that of the target"]
    );
    assert_eq!(
        remarks_of(|_, steps| at(steps, -700)),
        ["the clock of the target is wrong, or those of all nodes: they differ by 11 min"]
    );
    assert_eq!(remarks_of(|_, steps| at(steps, 2)), [""; 0]);
}

#[test]
fn certificates_that_end_soon_and_those_that_only_some_were_shown_are_told() {
    let shown = |steps: &mut Steps, number: u8, until: &str| {
        let own = Certificate {
            subject: "CN=api".to_owned(),
            issuer: format!("CN=authority {number}"),
            not_before: WallTime::MIN,
            not_after: until.parse().unwrap(),
            sha256: Digest([number; 32]),
        };
        steps.tls.as_mut().unwrap().shown = Some(Shown {
            version: "TLSv1.3".to_owned(),
            alpn: None,
            certificates: vec![own],
            name_fits: true,
            trust: Trust::NotChecked,
        });
    };
    assert_eq!(
        remarks_of(|_, steps| shown(steps, 1, "2026-11-30T04:00:00Z")),
        ["the certificate of CN=api ends in 7 days, at 2026-11-30T04:00:00Z"]
    );
    assert_eq!(
        remarks_of(|n, steps| shown(steps, u8::from(n == 2), "2028-01-01T00:00:00Z")),
        ["not all were shown the same certificate: n2 got one of CN=api by CN=authority 1"]
    );
}

proptest::proptest! {
    /// Whatever was seen, the verdict names a node only where it was seen, and a fault only where somebody failed.
    #[test]
    fn a_verdict_rests_on_what_was_seen(kinds in proptest::collection::vec(0..8_usize, 0..30)) {
        let outcomes = kinds.iter().map(|kind| match kind {
            0..=2 => ok(),
            3 => fails(Step::Resolve, Failure::NoName),
            4 => fails(Step::Connect, Failure::TimedOut),
            5 => fails(Step::Http, Failure::HttpStatus),
            6 => fails(Step::Connect, Failure::NotAllowed),
            _ => unsure(UntestedReason::NoAnswer),
        });
        let test = test(outcomes.collect());
        let verdict = judge(&test, 0);
        let failing: Vec<_> = (0..).zip(&kinds).filter(|(_, kind)| (3..=5).contains(*kind)).map(|(n, _)| n).collect();
        let blamed: Vec<usize> = verdict.nodes.iter().map(|n| n.as_str()[1..].parse().unwrap()).collect();
        proptest::prop_assert_eq!(&blamed, &failing);
        proptest::prop_assert!(verdict.sentence.len() < 1_000);
        let fault = matches!(verdict.blame, Blame::Target | Blame::Nodes | Blame::Resolvers);
        proptest::prop_assert!(!fault || !failing.is_empty());
        proptest::prop_assert_eq!(verdict.blame == Blame::Nobody, failing.is_empty() && kinds.iter().any(|k| *k <= 2));
    }
}
