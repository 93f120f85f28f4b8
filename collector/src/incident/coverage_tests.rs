//! One table: what was expected and arrived, and what the coverage then must say.

use casefile_proto::item::Digest;
use casefile_proto::scope::Scope;
use proptest::prelude::*;

use super::*;

const WINDOW: (i64, i64) = (1_000, 1_060);

fn win(from: i64, until: i64) -> Window {
    Window::new(WallTime::from_secs(from), WallTime::from_secs(until)).unwrap()
}

fn asked() -> Window {
    win(WINDOW.0, WINDOW.1)
}

fn name() -> NodeName {
    "n1".parse().unwrap()
}

fn roster() -> Roster {
    let logs = Collectable { name: "pods".to_owned(), kind: SourceKind::Logs };
    let state = Collectable { name: "processes".to_owned(), kind: SourceKind::State };
    Roster { nodes: vec![Expected { node: name(), collectable: vec![logs, state] }], scope: Scope::default() }
}

fn row(source: &str, kind: SourceKind, items: u64) -> SourceCoverage {
    SourceCoverage { items, records: 10 * items, covered: vec![asked()], ..blank(source, kind, asked()) }
}

fn item(source: &str, kind: ItemKind, path: &str) -> Arrived {
    let tail =
        ItemTail { size: 100, sha256: Digest([1; 32]), records: 10, covered: Some(win(1_000, 1_030)), gaps: vec![] };
    let head = ItemHead {
        kind,
        path: path.parse().unwrap(),
        source: source.to_owned(),
        method: "read".to_owned(),
        times: None,
    };
    Arrived { head, tail: Some(tail), kept: 100, origin: Origin::Node }
}

fn everything() -> FromNode {
    FromNode {
        clock: Some(ClockOffset { ahead_nanos: 0, bound_nanos: 1_000_000 }),
        asked: asked(),
        answer: Some(Answer {
            sources: vec![
                row("cpu", SourceKind::Metrics, 0),
                row("pods", SourceKind::Logs, 1),
                row("processes", SourceKind::State, 1),
            ],
            gaps: vec![],
        }),
        ended: Ended::Connected,
        items: vec![
            item("recording", ItemKind::Recording, "recording/window.seg"),
            item("pods", ItemKind::Log, "logs/pods/a.log"),
            item("state", ItemKind::State, "state/processes.jsonl"),
        ],
        recorded: None,
    }
}

fn cut(frames: u64) -> Cut {
    Cut { frames, sources: vec![row("cpu", SourceKind::Metrics, 0)], gaps: vec![] }
}

fn of(from: FromNode) -> NodeCoverage {
    let got = Received { nodes: BTreeMap::from([(name(), from)]) };
    let mut coverage = coverage(&roster(), asked(), &got);
    assert_eq!(coverage.nodes.len(), 1);
    coverage.nodes.remove(0)
}

fn reasons(node: &NodeCoverage, source: &str) -> Vec<GapReason> {
    node.sources.iter().filter(|s| s.source == source).flat_map(|s| &s.gaps).map(|g| g.reason).collect()
}

#[test]
fn a_node_that_gave_everything_has_no_gap() {
    let node = of(everything());
    assert_eq!(node.state, NodeState::Answered);
    assert_eq!(node.sources.iter().map(|s| s.source.as_str()).collect::<Vec<_>>(), ["cpu", "pods", "processes"]);
    assert!(Coverage { window: asked(), nodes: vec![node], scope: Scope::default(), cluster: None }.is_whole());
}

#[test]
fn an_item_that_was_declared_and_did_not_arrive_is_a_gap_and_its_claims_are_not_repeated() {
    let mut from = everything();
    from.answer.as_mut().unwrap().sources[1].items = 3;
    let node = of(from);
    let pods = &node.sources[1];
    assert_eq!((pods.items, pods.records), (1, 10));
    assert_eq!(pods.covered, [win(1_000, 1_030)], "only what the item here covers");
    assert_eq!(pods.gaps.iter().map(|g| (g.reason, g.count)).collect::<Vec<_>>(), [(GapReason::SourceFailed, Some(2))]);
}

#[test]
fn a_reboot_is_told_with_what_the_kernel_left_of_it() {
    let mut from = everything();
    let answer = from.answer.as_mut().unwrap();
    answer.gaps.push(Gap::new(GapReason::NodeRebooted, "the node was rebooted").over(win(1_010, 1_040)));
    assert_eq!(of(from.clone()).gaps[0].detail, "the node was rebooted", "nobody was asked for the kernel's log");
    from.answer.as_mut().unwrap().sources.push(row("kernel", SourceKind::Logs, 0));
    assert_eq!(of(from.clone()).gaps[0].detail, "the node was rebooted; its kernel left no dump of the window");
    from.items.push(item("kernel", ItemKind::Log, "logs/pstore/dmesg-efi-1"));
    from.answer.as_mut().unwrap().sources[3].items = 1;
    let gap = of(from).gaps.remove(0);
    assert_eq!(gap.detail, "the node was rebooted; its kernel left logs/pstore/dmesg-efi-1");
    assert_eq!(gap.interval, Some(win(1_010, 1_040)));
}

#[test]
fn a_gap_that_is_there_no_more_was_closed_by_the_amendment() {
    let before =
        of(FromNode { answer: None, ended: Ended::Away, items: vec![], recorded: Some(cut(5)), ..everything() });
    let mut back = everything();
    back.answer.as_mut().unwrap().gaps.push(Gap::new(GapReason::NodeRebooted, "it was").over(win(1_010, 1_040)));
    let now = amended(&before, of(back), 2, WallTime::from_secs(9_000));
    let amendment = now.amended.as_ref().unwrap();
    assert_eq!((amendment.revision, amendment.sealed_at), (2, WallTime::from_secs(9_000)));
    let closed: Vec<_> = amendment.closed.iter().map(|c| (c.source.as_deref(), c.gap.reason)).collect();
    assert_eq!(closed, [(Some("pods"), GapReason::NodeSilent), (Some("processes"), GapReason::NodeSilent)]);
    assert_eq!(now.gaps.len(), 1, "what is missing still is no gap that was closed");
}

#[test]
fn a_gap_of_an_item_is_a_gap_of_its_row_once() {
    let mut from = everything();
    let gap = Gap::new(GapReason::RotatedAway, "a.log").over(win(1_000, 1_010));
    from.items[1].tail.as_mut().unwrap().gaps.push(gap.clone());
    from.answer.as_mut().unwrap().sources[1].gaps.push(gap);
    assert_eq!(reasons(&of(from), "pods"), [GapReason::RotatedAway]);
}

#[test]
fn a_source_that_a_node_forgot_to_tell_of_is_a_gap() {
    let mut from = everything();
    from.answer.as_mut().unwrap().sources.pop();
    from.items.pop();
    assert_eq!(reasons(&of(from), "processes"), [GapReason::SourceFailed]);
}

#[test]
fn a_node_cut_short_by_the_deadline_keeps_what_came_and_says_what_did_not() {
    let mut from = FromNode { answer: None, recorded: Some(cut(60)), ..everything() };
    from.items.pop();
    from.items[1].tail = None;
    from.items[1].kept = 40;
    let node = of(from);
    assert_eq!(node.state, NodeState::Trimmed);
    assert_eq!(reasons(&node, "cpu"), []);
    assert_eq!(reasons(&node, "pods"), [GapReason::TimedOut, GapReason::TimedOut]);
    assert!(node.sources[1].gaps[0].detail.contains("logs/pods/a.log is cut short after 40 bytes"));
    assert_eq!((node.sources[1].items, node.sources[1].cost.bytes), (1, 40));
    assert_eq!(reasons(&node, "processes"), [GapReason::TimedOut]);
}

#[test]
fn a_node_that_is_gone_has_its_last_words_and_is_silent_about_the_rest() {
    let mut gone = FromNode { answer: None, ended: Ended::Away, recorded: Some(cut(60)), ..everything() };
    gone.items.truncate(1);
    gone.items[0].origin = Origin::LastWords;
    let node = of(gone);
    assert_eq!(node.state, NodeState::LastWords);
    assert_eq!(reasons(&node, "cpu"), []);
    assert_eq!(reasons(&node, "pods"), [GapReason::NodeSilent]);
    assert_eq!(reasons(&node, "processes"), [GapReason::NodeSilent]);
}

#[test]
fn a_node_whose_last_words_do_not_reach_the_window_is_silent() {
    let gone = FromNode { answer: None, ended: Ended::Away, items: vec![], recorded: Some(cut(0)), ..everything() };
    let node = of(gone);
    assert_eq!(node.state, NodeState::Silent);
    assert_eq!(node.gaps.iter().map(|g| g.reason).collect::<Vec<_>>(), [GapReason::NodeSilent]);
}

#[test]
fn what_was_not_asked_is_not_missing_and_the_coverage_says_what_was() {
    let only = |names: &[&str]| Scope { sources: names.iter().map(|n| (*n).to_owned()).collect(), ..Scope::default() };
    let pods_only = Roster { scope: only(&["pods"]), ..roster() };
    let mut from = everything();
    from.answer.as_mut().unwrap().sources.retain(|row| row.source == "pods");
    from.items.retain(|item| item.head.source == "pods");
    let told = coverage(&pods_only, asked(), &Received { nodes: BTreeMap::from([(name(), from)]) });
    assert!(told.is_whole(), "{told:?}");
    assert_eq!(told.scope, only(&["pods"]));
    let rows = |coverage: &Coverage| coverage.nodes[0].sources.iter().map(|s| s.source.clone()).collect::<Vec<_>>();
    assert_eq!(rows(&told), ["pods"]);
    let silent = coverage(&Roster { scope: only(&["state"]), ..roster() }, asked(), &Received::default());
    assert_eq!(rows(&silent), ["processes"]);

    let collectable = &roster().nodes[0].collectable;
    let asks = |names: &[&str]| asks_recording(&only(names), collectable);
    assert!(asks(&[]) && asks(&["recording"]) && asks(&["pods", "cpu"]));
    assert!(!asks(&["pods", "state", "processes"]));
}

#[test]
fn a_node_that_was_never_known_is_silent_with_a_gap() {
    let roster = Roster { nodes: vec![Expected { node: name(), collectable: vec![] }], scope: Scope::default() };
    let node = &coverage(&roster, asked(), &Received::default()).nodes[0];
    assert_eq!((node.state, node.sources.len()), (NodeState::Silent, 0));
    assert_eq!(node.gaps[0].reason, GapReason::NodeSilent);
    assert_eq!(node.gaps[0].interval, None, "all of the window");
}

#[test]
fn a_recording_that_did_not_arrive_is_not_claimed() {
    let mut from = everything();
    from.items.remove(0);
    from.answer.as_mut().unwrap().sources.push(row("memory", SourceKind::Metrics, 0));
    let mut ours = cut(30);
    ours.sources[0].covered = vec![win(1_030, 1_060)];
    from.recorded = Some(ours);
    let node = of(from);
    let covered = |s: &str| node.sources.iter().find(|r| r.source == s).unwrap().covered.clone();
    assert_eq!(covered("cpu"), [win(1_030, 1_060)], "what we read, not what the node said");
    assert_eq!(covered("memory"), []);
    assert_eq!(reasons(&node, "memory"), [GapReason::TimedOut]);
}

#[test]
fn a_clock_that_was_never_measured_or_is_known_badly_is_said() {
    let node_gaps = |clock| of(FromNode { clock, ..everything() }).gaps;
    assert_eq!(node_gaps(None).len(), 1);
    assert_eq!(node_gaps(None)[0].reason, GapReason::ClockUncertain);
    let bad = node_gaps(Some(ClockOffset { ahead_nanos: 0, bound_nanos: 2_000_000_000 }));
    assert_eq!(bad.iter().map(|g| g.interval).collect::<Vec<_>>(), [Some(win(998, 1_002)), Some(win(1_058, 1_062))]);
    assert_eq!(node_gaps(Some(ClockOffset { ahead_nanos: 9, bound_nanos: 500_000_000 })), []);
}

#[test]
fn very_many_gaps_are_counted_rather_than_listed() {
    let mut from = everything();
    let gap = |i: usize| Gap::new(GapReason::PermissionDenied, format!("file {i}"));
    from.answer.as_mut().unwrap().sources[1].gaps = (0..1_000).map(gap).collect();
    let node = of(from);
    assert_eq!(node.sources[1].gaps.len(), MAX_GAPS);
    assert_eq!(node.sources[1].gaps[MAX_GAPS - 1].count, Some(1_000 - 255));
}

#[test]
fn two_cuts_of_one_recording_add_up() {
    let mut early = cut(30);
    early.sources[0].covered = vec![win(1_000, 1_030)];
    early.sources[0].outcomes.complete = 30;
    let mut late = cut(20);
    late.sources[0].covered = vec![win(1_040, 1_060)];
    late.sources[0].outcomes.complete = 20;
    late.sources.push(row("disk", SourceKind::Metrics, 0));
    let both = joined(early, late);
    assert_eq!((both.frames, both.sources.len()), (50, 2));
    assert_eq!(both.sources[0].outcomes.complete, 50);
    assert_eq!(both.sources[0].covered, [win(1_000, 1_030), win(1_040, 1_060)]);
}

proptest! {
    #[test]
    fn merged_intervals_cover_the_same_seconds_inside_the_window(
        spans in prop::collection::vec((990i64..1_070, 1i64..30), 0..12)
    ) {
        let windows: Vec<_> = spans.iter().map(|(from, len)| win(*from, from + len)).collect();
        let out = merged(windows.clone(), asked());
        for second in 980..1_110 {
            let at = WallTime::from_secs(second);
            let inside = asked().contains(at) && windows.iter().any(|w| w.contains(at));
            prop_assert_eq!(out.iter().filter(|w| w.contains(at)).count(), usize::from(inside));
        }
        prop_assert!(out.windows(2).all(|w| w[0].until() < w[1].from()));
    }
}
