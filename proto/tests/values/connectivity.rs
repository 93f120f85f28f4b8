//! Targets, steps and verdicts, within their limits.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use casefile_proto::connectivity::steps::{
    Answered, Certificate, Connect, Failure, Http, Resolve, Shown, Step, Steps, Tls, Trust, Went,
};
use casefile_proto::connectivity::target::Target;
use casefile_proto::connectivity::{
    Ability, Blame, ConnectivityAnswer, ConnectivityAsk, ConnectivityTest, Judged, ListedTarget, NodeOutcome,
    NodeResult, TargetList, TestAsk, TestId, Untested, UntestedReason, Verdict,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{digest, name, node, quantity, text, wall};

pub(crate) fn ability() -> impl Strategy<Value = Ability> {
    select(&[Ability::Unknown, Ability::Off, Ability::On][..])
}

fn target() -> impl Strategy<Value = Target> {
    let url = prop_oneof![
        "dns://[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,3}",
        "(tcp|tls)://[a-z0-9]{1,9}:[1-9][0-9]{0,3}",
        "(http|https)://\\[::[1-9]\\]:[1-9][0-9]{0,3}/[a-z?=%]{0,9}",
    ];
    url.prop_map(|url| url.parse().unwrap())
}

pub(crate) fn target_list() -> impl Strategy<Value = TargetList> {
    let listed = ("[a-z0-9._-]{1,63}", target()).prop_map(|(name, target)| ListedTarget { name, target });
    vec(listed, 0..4).prop_map(|targets| TargetList { targets })
}

fn deadline() -> impl Strategy<Value = Duration> {
    (1..=10_000_000_000_u64).prop_map(Duration::from_nanos)
}

pub(crate) fn ask() -> impl Strategy<Value = ConnectivityAsk> {
    (any::<u64>(), target(), deadline()).prop_map(|(test, target, deadline)| ConnectivityAsk {
        test: TestId(test),
        target,
        deadline,
    })
}

fn ok() -> impl Strategy<Value = Went> {
    (quantity(), text()).prop_map(|(took_nanos, detail)| Went::Ok { took_nanos, detail })
}

fn failed() -> impl Strategy<Value = Went> {
    (select(&Failure::ALL[..]), quantity(), text()).prop_map(|(failure, took_nanos, detail)| Went::Failed {
        failure,
        took_nanos,
        detail,
    })
}

fn shown() -> impl Strategy<Value = Shown> {
    let certificate =
        (text(), text(), wall(), wall(), digest()).prop_map(|(subject, issuer, not_before, not_after, sha256)| {
            Certificate { subject, issuer, not_before, not_after, sha256 }
        });
    (name(), option::of(name()), vec(certificate, 0..3), any::<bool>(), select(&Trust::ALL[..])).prop_map(
        |(version, alpn, certificates, name_fits, trust)| Shown {
            version: version.chars().take(8).collect(),
            alpn: alpn.map(|alpn| alpn.chars().take(16).collect()),
            certificates,
            name_fits,
            trust,
        },
    )
}

/// Of a target with all steps, of which `good` go well, the next fails, and the others are not reached.
fn steps() -> impl Strategy<Value = Steps> {
    let answered = (100..1_000_u16, option::of(wall()), wall()).prop_map(|(status, server_time, node_time)| Answered {
        status,
        server_time,
        node_time,
    });
    let found = (
        vec(any::<IpAddr>(), 0..4),
        option::of((any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)),
        option::of(shown()),
        option::of(answered),
    );
    (0..=4_usize, vec(ok(), 4), failed(), found).prop_map(|(good, ok, failed, found)| {
        let (addresses, address, shown, answered) = found;
        let mut went = (0..4).map(|at| match at.cmp(&good) {
            std::cmp::Ordering::Less => ok[at].clone(),
            std::cmp::Ordering::Equal => failed.clone(),
            std::cmp::Ordering::Greater => Went::NotReached,
        });
        Steps {
            resolve: Resolve { went: went.next().unwrap(), addresses },
            connect: Some(Connect { went: went.next().unwrap(), address }),
            tls: Some(Tls { went: went.next().unwrap(), shown }),
            http: Some(Http { went: went.next().unwrap(), answered }),
        }
    })
}

fn outcome() -> impl Strategy<Value = NodeOutcome> {
    let untested = (select(&UntestedReason::ALL[..]), text()).prop_map(|(reason, detail)| Untested { reason, detail });
    prop_oneof![
        steps().prop_map(|steps| NodeOutcome::Tested(Box::new(steps))),
        untested.prop_map(NodeOutcome::Untested)
    ]
}

pub(crate) fn answer() -> impl Strategy<Value = ConnectivityAnswer> {
    (any::<u64>(), outcome()).prop_map(|(test, outcome)| ConnectivityAnswer { test: TestId(test), outcome })
}

pub(crate) fn test_ask() -> impl Strategy<Value = TestAsk> {
    (name(), vec(node(), 0..3), option::of(deadline())).prop_map(|(target, nodes, deadline)| TestAsk {
        target,
        nodes,
        deadline,
    })
}

pub(crate) fn judged() -> impl Strategy<Value = Judged> {
    let row = (node(), outcome()).prop_map(|(node, outcome)| NodeResult { node, outcome });
    let test = (wall(), "[a-z]{1,9}", target(), text(), vec(row, 0..4))
        .prop_map(|(at, name, target, asked_by, nodes)| ConnectivityTest { at, name, target, asked_by, nodes });
    let said = (select(&Blame::ALL[..]), option::of(select(&Step::ALL[..])), vec(node(), 0..3));
    let verdict = (said, text(), vec(text(), 0..3)).prop_map(|((blame, step, nodes), sentence, remarks)| Verdict {
        blame,
        step,
        nodes,
        sentence,
        remarks,
    });
    (test, verdict).prop_map(|(test, verdict)| Judged { test, verdict })
}
