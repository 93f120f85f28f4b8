//! Nodes that were no part of the cluster any more when a window began: an autoscaler takes machines away, and what is kept of them
//! stays for hours. Nobody waits for those, and that they say nothing is no gap.

use std::collections::BTreeMap;

use casefile_proto::ids::NodeName;
use casefile_proto::node::{Link, NodeStatus};
use casefile_proto::time::WallTime;

/// The nodes but those that have departed: `gone` says when the cluster was seen to have a node no more.
///
/// A node that says something, or has said anything since the window began, is there whatever the cluster says; and so is one that
/// the cluster never had.
pub(super) fn rest(status: &[NodeStatus], gone: &BTreeMap<NodeName, WallTime>, from: WallTime) -> Vec<NodeName> {
    let (departed, rest): (Vec<_>, Vec<_>) = status.iter().partition(|node| {
        node.link == Link::Away && !has_spoken_since(node, from) && gone.get(&node.node).is_some_and(|at| *at < from)
    });
    if !departed.is_empty() {
        let nodes: Vec<_> = departed.iter().map(|node| node.node.as_str()).collect();
        tracing::info!(?nodes, "these are not asked: they left the cluster before the window began");
    }
    rest.into_iter().map(|node| node.node.clone()).collect()
}

fn has_spoken_since(node: &NodeStatus, from: WallTime) -> bool {
    let ahead = node.clock.map_or(0, |clock| clock.ahead_nanos);
    let kept = node.last_words.map(|held| held.until().offset(ahead.saturating_neg()));
    // Both ends are on the collector's clock now.
    kept.max(node.last_frame).is_some_and(|last| last >= from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use casefile_proto::time::Window;
    use casefile_proto::units::Bytes;

    fn at(secs: i64) -> WallTime {
        WallTime::from_secs(secs)
    }

    fn node(name: &str, link: Link, until: i64) -> NodeStatus {
        NodeStatus {
            node: name.parse().unwrap(),
            link,
            boot: None,
            agent_version: None,
            last_frame: None,
            clock: None,
            last_words: Some(Window::new(at(0), at(until)).unwrap()),
            last_words_bytes: Bytes(1),
            troubles: Vec::new(),
        }
    }

    #[test]
    fn who_left_the_cluster_before_the_window_is_left_out_and_nobody_else() {
        let status = [
            node("left", Link::Away, 100),
            node("left-in-the-window", Link::Away, 100),
            node("left-and-still-speaks", Link::Connected, 100),
            node("left-and-spoke-in-it", Link::Away, 201),
            node("never-in-the-cluster", Link::Away, 100),
            NodeStatus { last_frame: Some(at(250)), ..node("heard-in-it", Link::Away, 100) },
        ];
        let gone = |(name, secs): (&str, i64)| (name.parse().unwrap(), at(secs));
        let gone: BTreeMap<NodeName, _> = [
            ("left", 110),
            ("left-in-the-window", 200),
            ("left-and-still-speaks", 110),
            ("left-and-spoke-in-it", 110),
            ("heard-in-it", 110),
        ]
        .map(gone)
        .into();
        let rest = rest(&status, &gone, at(200));
        let names: Vec<_> = rest.iter().map(NodeName::as_str).collect();
        let expected = [
            "left-in-the-window",
            "left-and-still-speaks",
            "left-and-spoke-in-it",
            "never-in-the-cluster",
            "heard-in-it",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_clock_that_is_wrong_takes_no_node_out() {
        use casefile_proto::time::ClockOffset;
        // It is five minutes behind: what it said last at its 100 was said at 400.
        let behind = ClockOffset { ahead_nanos: -300_000_000_000, bound_nanos: 1_000 };
        let status = [NodeStatus { clock: Some(behind), ..node("behind", Link::Away, 100) }];
        let gone = [("behind".parse().unwrap(), at(110))].into();
        assert_eq!(rest(&status, &gone, at(200)).len(), 1);
        assert_eq!(rest(&status, &gone, at(401)).len(), 0);
    }
}
