//! What must hold for every sequence of events, and the few sequences that a reader asks about.

use std::collections::BTreeSet;

use casefile_proto::item::Digest;
use proptest::prelude::*;

use super::*;

const SEC: u64 = 1_000_000_000;
const START: i64 = 1_700_000_000;

fn node(n: u8) -> NodeName {
    format!("node-{n}").parse().unwrap()
}

fn at(secs: u64) -> Stamp {
    Stamp {
        wall: WallTime::from_secs(START + i64::try_from(secs).unwrap()),
        boot: BootTime::from_nanos((1_000 + secs) * SEC),
    }
}

fn window(from: i64, until: i64) -> Window {
    Window::new(WallTime::from_secs(START + from), WallTime::from_secs(START + until)).unwrap()
}

fn opened(window: Window, nodes: u8, now: Stamp) -> Incident {
    let plan = Plan::new(window, now.wall, Duration::from_secs(30)).returning_within(Duration::from_secs(1_000));
    let members = (0..nodes).map(|n| (node(n), Member::new(RequestId(u64::from(n) + 1)))).collect();
    Incident::open(plan, members, now)
}

fn archive() -> SealedArchive {
    SealedArchive {
        file_name: "x.tar.gz".to_owned(),
        size: 1,
        sha256: Digest([0; 32]),
        sealed_at: WallTime::from_secs(START),
        whole: true,
        revision: 1,
        kept: None,
    }
}

/// Its nodes became this; the missing ones have other requests, by a hundred.
fn sealed(nodes: &[(u8, NodeState)]) -> IncidentEvent {
    let missing = nodes.iter().filter(|(_, state)| *state != NodeState::Answered);
    IncidentEvent::Sealed {
        archive: archive(),
        nodes: nodes.iter().map(|(n, state)| (node(*n), *state)).collect(),
        requests: missing.map(|(n, _)| (node(*n), RequestId(u64::from(*n) + 101))).collect(),
    }
}

/// As it is taken up by another collector; what its nodes were in its last archive is known from before.
fn restarted(incident: &Incident, now: Stamp) -> Incident {
    let members = incident.members().iter().map(|(n, m)| {
        let amending = incident.state() == IncidentState::Amending;
        // What the archive before was made of is gone; a node that has not come back has brought nothing since.
        let items = if amending && m.back_from.is_none() { 0 } else { m.items };
        let resumed = Member::resumed(m.request, m.kept_phase(), m.answer.clone(), items);
        let before = m.back_from.unwrap_or(m.phase);
        (n.clone(), if amending { Member::amending(before, resumed) } else { resumed })
    });
    let saved = Saved {
        state: incident.state(),
        members: members.collect(),
        archives: incident.archives().to_vec(),
        failure: incident.failure().map(str::to_owned),
    };
    Incident::resume(*incident.plan(), saved, now)
}

/// Two nodes, of which the second did not answer; sealed at 40.
fn without_one() -> Incident {
    let mut incident = opened(window(-60, -10), 2, at(0));
    incident.on(started(&[0]), at(0));
    incident.on(done(0), at(1));
    incident.on(IncidentEvent::Tick, at(40));
    let steps = incident.on(sealed(&[(0, NodeState::Answered), (1, NodeState::LastWords)]), at(41));
    assert_eq!(steps, [Step::Save, Step::Release]);
    incident
}

fn back(n: u8) -> IncidentEvent {
    IncidentEvent::Connected { node: node(n) }
}

fn said_again(n: u8, done: bool) -> IncidentEvent {
    let (node, request) = (node(n), RequestId(u64::from(n) + 101));
    if done {
        IncidentEvent::Done { node, request, answer: Answer::default() }
    } else {
        IncidentEvent::Item { node, request, source: "pods".to_owned(), gaps: 0 }
    }
}

fn asks(steps: &[Step]) -> Vec<NodeName> {
    steps.iter().filter_map(|s| if let Step::Ask { node, .. } = s { Some(node.clone()) } else { None }).collect()
}

fn started(nodes: &[u8]) -> IncidentEvent {
    IncidentEvent::Started { connected: nodes.iter().map(|n| node(*n)).collect() }
}

fn item(n: u8) -> IncidentEvent {
    IncidentEvent::Item { node: node(n), request: RequestId(u64::from(n) + 1), source: "pods".to_owned(), gaps: 0 }
}

fn done(n: u8) -> IncidentEvent {
    IncidentEvent::Done { node: node(n), request: RequestId(u64::from(n) + 1), answer: Answer::default() }
}

/// When each node of a fleet is asked, in milliseconds after the first, if it is only looked at when it says so.
fn asked_at(nodes: u64, patience: Duration) -> Vec<u64> {
    let name = |n: u64| -> NodeName { format!("node-{n:04}").parse().unwrap() };
    let begun = at(0);
    let plan = Plan::new(window(-60, -10), begun.wall, patience);
    let members = (0..nodes).map(|n| (name(n), Member::new(RequestId(n + 1)))).collect();
    let mut incident = Incident::open(plan, members, begun);
    let mut steps = incident.on(IncidentEvent::Started { connected: (0..nodes).map(name).collect() }, begun);
    let (mut times, mut now) = (Vec::new(), begun);
    while times.len() < usize::try_from(nodes).unwrap() {
        let asked = asks(&steps);
        assert!(!asked.is_empty() || times.is_empty(), "woken for nothing");
        times.extend(asked.iter().map(|_| (now.boot.nanos() - begun.boot.nanos()) / 1_000_000));
        let Some(wake) = incident.wakes_at().filter(|wake| *wake < incident.deadline()) else { break };
        let by = i64::try_from(wake.nanos() - now.boot.nanos()).unwrap();
        now = Stamp { wall: now.wall.offset(by), boot: wake };
        steps = incident.on(IncidentEvent::Tick, now);
    }
    times
}

#[test]
fn a_fleet_is_asked_in_waves_and_early_enough_for_everybody_to_answer() {
    assert_eq!(asked_at(10, Duration::from_secs(60)), [0; 10]);
    let times = asked_at(1_000, Duration::from_secs(60));
    assert_eq!(times.len(), 1_000);
    for wave in times.chunk_by(|a, b| a == b) {
        assert!(wave.len() <= WAVE, "{} nodes together", wave.len());
    }
    assert_eq!(times.last(), Some(&(1_000 / 64 * 250)));
    let hurried = asked_at(5_000, Duration::from_secs(10));
    assert!(hurried.len() == 5_000 && hurried.last().is_some_and(|last| *last <= 2_500), "{:?}", hurried.last());
}

#[test]
fn a_window_that_has_ended_is_asked_at_once_and_sealed_when_every_node_has_answered() {
    let mut incident = opened(window(-60, -10), 2, at(0));
    let steps = incident.on(started(&[0, 1]), at(0));
    assert_eq!(asks(&steps), [node(0), node(1)]);
    assert_eq!(steps[0], Step::Pin { node: node(0) }, "last words are pinned before anything else");
    assert_eq!(incident.on(done(0), at(1)), [Step::Save]);
    assert_eq!(incident.on(done(1), at(2)), [Step::Save, Step::Save, Step::Seal]);
    let ended = sealed(&[(0, NodeState::Answered), (1, NodeState::Answered)]);
    assert_eq!(incident.on(ended, at(3)), [Step::Save, Step::Release]);
    assert_eq!(incident.state(), IncidentState::Sealed);
}

#[test]
fn a_window_that_ends_in_the_future_waits_for_its_end_and_the_frames_in_flight() {
    let mut incident = opened(window(-60, 10), 1, at(0));
    assert_eq!(asks(&incident.on(started(&[0]), at(0))), []);
    assert_eq!(incident.wakes_at(), Some(BootTime::from_nanos(1_011 * SEC + SEC / 2)));
    assert_eq!(asks(&incident.on(IncidentEvent::Tick, at(11))), []);
    assert_eq!(asks(&incident.on(IncidentEvent::Tick, at(12))), [node(0)]);
}

#[test]
fn a_node_that_comes_back_while_gathering_is_asked_again_with_the_same_request() {
    let mut incident = opened(window(-60, -10), 1, at(0));
    incident.on(started(&[0]), at(0));
    incident.on(item(0), at(1));
    incident.on(IncidentEvent::Disconnected { node: node(0) }, at(2));
    assert_eq!(incident.members()[&node(0)].phase, NodePhase::Waiting);
    let again = incident.on(IncidentEvent::Connected { node: node(0) }, at(3));
    assert_eq!(again, [Step::Ask { node: node(0), request: RequestId(1) }]);
    assert_eq!(incident.members()[&node(0)].items, 1, "what arrived before stays");
}

#[test]
fn the_deadline_trims_and_never_discards() {
    let mut incident = opened(window(-60, -10), 3, at(0));
    incident.on(started(&[0, 1]), at(0));
    incident.on(done(0), at(1));
    incident.on(item(1), at(1));
    let steps = incident.on(IncidentEvent::Tick, at(30));
    let cancels: Vec<_> = steps.iter().filter(|s| matches!(s, Step::Cancel { .. })).collect();
    assert_eq!(cancels.len(), 2, "whoever has not answered is cancelled, so that its spool is at rest");
    assert_eq!(steps[2..], [Step::Save, Step::Seal]);
    let phases: Vec<_> = incident.members().values().map(|m| m.phase).collect();
    assert_eq!(phases, [NodePhase::Answered, NodePhase::Trimmed, NodePhase::LastWords]);
    assert_eq!(incident.members()[&node(1)].items, 1);
    assert_eq!(incident.on(item(1), at(31)), [], "what comes after the deadline changes nothing");
}

#[test]
fn a_node_that_could_not_be_asked_is_asked_again_after_a_moment() {
    let mut incident = opened(window(-60, -10), 1, at(0));
    incident.on(started(&[0]), at(0));
    assert_eq!(incident.on(IncidentEvent::NotAsked { node: node(0) }, at(0)), []);
    assert_eq!(incident.wakes_at(), Some(at(1).boot));
    assert_eq!(asks(&incident.on(IncidentEvent::Tick, at(1))), [node(0)]);
}

#[test]
fn a_wall_clock_that_is_set_back_does_not_move_the_deadline() {
    let mut incident = opened(window(-60, 10), 1, at(0));
    incident.on(started(&[]), at(0));
    let hour_back = |secs| Stamp { wall: at(secs).wall.before(Duration::from_secs(3600)), ..at(secs) };
    incident.on(IncidentEvent::Tick, hour_back(12));
    assert_eq!(incident.state(), IncidentState::Gathering);
    incident.on(IncidentEvent::Tick, hour_back(42));
    assert_eq!(incident.state(), IncidentState::Sealing);
}

#[test]
fn an_incident_that_failed_is_sealed_again_and_can_succeed() {
    let mut incident = opened(window(-60, -10), 1, at(0));
    incident.on(started(&[]), at(0));
    incident.on(IncidentEvent::Tick, at(40));
    incident.on(IncidentEvent::SealFailed { why: "the disk is full".to_owned() }, at(41));
    assert_eq!((incident.state(), incident.failure()), (IncidentState::Failed, Some("the disk is full")));
    let mut restarted = restarted(&incident, at(50));
    let steps = restarted.on(started(&[0]), at(50));
    assert_eq!(steps, [Step::Pin { node: node(0) }, Step::Save, Step::Seal]);
    restarted.on(sealed(&[(0, NodeState::Silent)]), at(51));
    assert_eq!((restarted.state(), restarted.failure()), (IncidentState::Sealed, None));
    assert_eq!(restarted.members()[&node(0)].phase, NodePhase::Silent, "the archive knows best what there was");
}

#[test]
fn sealing_that_failed_is_tried_again_by_itself_ever_more_rarely() {
    let mut incident = opened(window(-60, -10), 1, at(0));
    incident.on(started(&[]), at(0));
    assert_eq!(incident.on(IncidentEvent::Tick, at(40)).last(), Some(&Step::Seal));
    let mut now = 40;
    let mut waits = Vec::new();
    for _ in 0..9 {
        incident.on(IncidentEvent::SealFailed { why: "the disk is full".to_owned() }, at(now));
        let again = incident.wakes_at().unwrap();
        assert_eq!(incident.on(IncidentEvent::Tick, at(now + 1)), [], "not at once");
        waits.push(again.since(at(now).boot).as_secs());
        now += waits.last().unwrap();
        assert_eq!(incident.on(IncidentEvent::Tick, at(now)), [Step::Save, Step::Seal]);
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(incident.wakes_at(), None, "while it is being sealed nothing is to be done");
}

#[test]
fn a_restart_while_gathering_goes_on_and_keeps_what_was_answered() {
    let mut incident = opened(window(-60, -10), 2, at(0));
    incident.on(started(&[0, 1]), at(0));
    incident.on(done(0), at(1));
    let mut restarted = restarted(&incident, at(10));
    assert_eq!(asks(&restarted.on(started(&[0, 1]), at(10))), [node(1)], "who has answered is not asked again");
    assert_eq!(restarted.wakes_at(), Some(at(30).boot), "the deadline is the one of before");
}

#[test]
fn a_node_that_comes_back_after_sealing_is_asked_in_another_name_and_amends_the_incident() {
    let mut incident = without_one();
    assert_eq!(incident.on(back(0), at(50)), [], "who has answered is not asked again");
    let steps = incident.on(back(1), at(60));
    assert_eq!(steps, [Step::Save, Step::Ask { node: node(1), request: RequestId(101 + 1) }]);
    assert_eq!(incident.state(), IncidentState::Amending);
    assert_eq!(incident.on(done(1), at(61)), [], "what it says in the old name counts no more");
    assert_eq!(incident.on(said_again(1, false), at(61)), []);
    assert_eq!(incident.on(said_again(1, true), at(62)), [Step::Save, Step::Save, Step::Seal]);
    let steps = incident.on(sealed(&[(0, NodeState::Answered), (1, NodeState::Answered)]), at(63));
    assert_eq!(steps, [Step::Save, Step::Release]);
    assert_eq!((incident.state(), incident.archives().len(), incident.is_over()), (IncidentState::Sealed, 2, true));
}

#[test]
fn nodes_that_come_back_within_a_little_time_are_one_revision() {
    let mut incident = opened(window(-60, -10), 3, at(0));
    incident.on(started(&[]), at(0));
    incident.on(IncidentEvent::Tick, at(40));
    incident.on(sealed(&[(0, NodeState::Silent), (1, NodeState::LastWords), (2, NodeState::Silent)]), at(41));
    incident.on(back(0), at(100));
    assert!(!incident.on(said_again(0, true), at(101)).contains(&Step::Seal), "another one may be on its way");
    assert_eq!(asks(&incident.on(back(1), at(110))), [node(1)]);
    incident.on(said_again(1, true), at(111));
    assert_eq!(incident.wakes_at(), Some(at(130).boot));
    assert!(incident.on(IncidentEvent::Tick, at(130)).contains(&Step::Seal), "the third is not waited for for ever");
    incident.on(sealed(&[(0, NodeState::Answered), (1, NodeState::Answered), (2, NodeState::Silent)]), at(131));
    assert!(!incident.is_over());
    assert_eq!(asks(&incident.on(back(2), at(500))), [node(2)]);
}

#[test]
fn a_node_that_comes_back_and_gives_nothing_makes_no_revision_and_may_come_again() {
    let mut incident = without_one();
    incident.on(back(1), at(60));
    let steps = incident.on(IncidentEvent::Tick, at(180));
    assert_eq!(steps, [Step::Cancel { node: node(1), request: RequestId(102) }, Step::Save]);
    assert_eq!((incident.state(), incident.archives().len()), (IncidentState::Sealed, 1));
    assert_eq!(incident.members()[&node(1)].phase, NodePhase::LastWords);
    assert_eq!(asks(&incident.on(back(1), at(185))), [node(1)]);
    incident.on(said_again(1, false), at(186));
    assert!(incident.on(IncidentEvent::Tick, at(305)).contains(&Step::Seal), "what came of it is not lost");
    assert_eq!(incident.members()[&node(1)].phase, NodePhase::Trimmed);
}

#[test]
fn a_sealed_incident_waits_for_its_nodes_until_its_time_is_up() {
    let mut incident = without_one();
    assert_eq!(incident.wakes_at(), Some(at(1_030).boot), "the deadline, and a thousand seconds");
    assert_eq!(incident.on(IncidentEvent::Tick, at(1_030)), [Step::Save]);
    assert!(incident.is_over());
    assert_eq!(incident.on(back(1), at(1_031)), []);
}

#[test]
fn a_restart_while_amending_goes_on_and_keeps_what_came() {
    let mut incident = opened(window(-60, -10), 3, at(0));
    incident.on(started(&[]), at(0));
    incident.on(IncidentEvent::Tick, at(40));
    incident.on(sealed(&[(0, NodeState::Silent), (1, NodeState::LastWords), (2, NodeState::Silent)]), at(41));
    incident.on(back(0), at(100));
    incident.on(back(1), at(100));
    incident.on(said_again(0, true), at(101));
    incident.on(said_again(1, false), at(101));
    let mut again = restarted(&incident, at(105));
    assert_eq!(again.state(), IncidentState::Amending);
    assert_eq!(asks(&again.on(started(&[0, 1]), at(105))), [node(1)], "and not who has answered");
    let steps = again.on(IncidentEvent::Tick, at(225));
    assert_eq!(steps[0], Step::Cancel { node: node(1), request: RequestId(102) });
    assert_eq!(steps[1..], [Step::Save, Step::Seal]);
    let mut sealing = restarted(&again, at(230));
    assert_eq!(sealing.on(started(&[]), at(230)), [Step::Seal], "last words are in the archive before");
    let mut announced = restarted(&without_one(), at(45));
    assert_eq!(announced.on(started(&[]), at(45)), [Step::Release], "what it was made of may still be there");
}

#[test]
fn an_amendment_that_can_never_be_sealed_leaves_the_archive_before() {
    let mut incident = without_one();
    incident.on(back(1), at(1_020));
    assert!(incident.on(said_again(1, true), at(1_021)).contains(&Step::Seal));
    let steps = incident.on(IncidentEvent::SealFailed { why: "no".to_owned() }, at(1_040));
    assert_eq!(steps, [Step::Save, Step::Release]);
    assert_eq!((incident.state(), incident.archives().len(), incident.is_over()), (IncidentState::Sealed, 1, true));
}

/// What the world may do to an incident of three nodes; times are seconds that pass first.
#[derive(Debug, Clone)]
enum Act {
    Event(IncidentEvent),
    StepWall(i64),
    Restart,
}

fn any_node() -> impl Strategy<Value = (NodeName, RequestId)> {
    // Also a node that is not expected, and a request that is not this incident's.
    (0u8..4, prop_oneof![5 => Just(0u64), 4 => Just(100u64), 1 => Just(70u64)])
        .prop_map(|(n, off)| (node(n), RequestId(u64::from(n) + 1 + off)))
}

fn any_sealed() -> impl Strategy<Value = IncidentEvent> {
    prop::collection::vec(prop::sample::select(&NodeState::ALL[..]), 3)
        .prop_map(|states| sealed(&(0u8..).zip(states).collect::<Vec<_>>()))
}

fn any_act() -> impl Strategy<Value = Act> {
    let event = prop_oneof![
        Just(IncidentEvent::Tick),
        any_node().prop_map(|(node, _)| IncidentEvent::Connected { node }),
        any_node().prop_map(|(node, _)| IncidentEvent::Disconnected { node }),
        any_node().prop_map(|(node, _)| IncidentEvent::NotAsked { node }),
        (any_node(), 0u64..9).prop_map(|((node, request), records)| IncidentEvent::Progress {
            node,
            request,
            source: "kernel".to_owned(),
            records,
            bytes: records,
        }),
        any_node().prop_map(|(node, request)| IncidentEvent::Item {
            node,
            request,
            source: "pods".to_owned(),
            gaps: 1
        }),
        any_node().prop_map(|(node, request)| IncidentEvent::Done { node, request, answer: Answer::default() }),
        any_sealed(),
        any_sealed(),
        Just(IncidentEvent::SealFailed { why: "no".to_owned() }),
    ];
    prop_oneof![
        18 => event.prop_map(Act::Event),
        1 => (-7200i64..7200).prop_map(Act::StepWall),
        1 => Just(Act::Restart),
    ]
}

/// What the thin layer around the machine would know.
#[derive(Default)]
struct World {
    connected: BTreeSet<NodeName>,
    outstanding: bool,
    arrived: BTreeMap<NodeName, u64>,
}

impl World {
    fn feed(&mut self, incident: &mut Incident, event: IncidentEvent, clock: Stamp) -> Result<(), TestCaseError> {
        let before = incident.state();
        let (deadline, was_over) = (incident.plan().deadline(), incident.is_over());
        match &event {
            IncidentEvent::Connected { node } => drop(self.connected.insert(node.clone())),
            IncidentEvent::Disconnected { node } => drop(self.connected.remove(node)),
            IncidentEvent::Item { node, request, .. } if gathers(before) => {
                let wanted = |m: &&Member| m.request == *request && !is_settled(m.phase);
                if incident.members().get(node).filter(wanted).is_some() {
                    *self.arrived.entry(node.clone()).or_default() += 1;
                }
            }
            IncidentEvent::Sealed { .. } | IncidentEvent::SealFailed { .. } => self.outstanding = false,
            _ => {}
        }
        let answered: Vec<_> = answered(incident);
        let archives = incident.archives().len();
        let items_before = self.arrived.values().sum::<u64>();
        let ends_sealing = matches!(event, IncidentEvent::Sealed { .. }) && before == IncidentState::Sealing;
        let steps = incident.on(event, clock);
        if ends_sealing {
            // It is in the archive; what comes from now on is for the next.
            prop_assert_eq!(incident.archives().len(), archives + 1);
            self.arrived.clear();
        } else {
            prop_assert_eq!(incident.archives().len(), archives, "an archive is never taken back");
        }
        if before == IncidentState::Amending && incident.state() == IncidentState::Sealed {
            prop_assert_eq!(items_before, 0, "what came was not sealed");
        }
        let mut cancelled = false;
        for step in &steps {
            match step {
                Step::Ask { node, request } => {
                    prop_assert!(self.connected.contains(node), "asked a node that has no session");
                    prop_assert!(!cancelled && !self.outstanding, "asked after the end of gathering");
                    prop_assert_eq!(*request, incident.members()[node].request);
                }
                Step::Cancel { .. } => cancelled = true,
                Step::Seal => {
                    prop_assert!(!self.outstanding, "sealed twice at once");
                    self.outstanding = true;
                }
                Step::Release => {
                    prop_assert_eq!(incident.state(), IncidentState::Sealed);
                    prop_assert!(self.arrived.is_empty() || incident.is_over(), "let go of what is in no archive");
                }
                Step::Pin { .. } | Step::Save => {}
            }
        }
        // Nothing that arrived is forgotten, and nobody who answered becomes less than that.
        for (node, n) in &self.arrived {
            prop_assert_eq!(incident.members()[node].items, *n);
        }
        prop_assert!(answered.iter().all(|node| incident.members()[node].answer.is_some()));
        if was_over {
            prop_assert!(steps.is_empty() && incident.is_over());
        }
        prop_assert_eq!(incident.plan().deadline(), deadline);
        Ok(())
    }
}

fn gathers(state: IncidentState) -> bool {
    matches!(state, IncidentState::Open | IncidentState::Gathering | IncidentState::Amending)
}

fn answered(incident: &Incident) -> Vec<NodeName> {
    incident.members().iter().filter(|(_, m)| m.answer.is_some()).map(|(n, _)| n.clone()).collect()
}

#[test]
fn a_node_that_was_trimmed_is_still_missing_when_a_collector_restarts_while_another_one_is_asked_again() {
    let mut incident = opened(window(-60, -10), 2, at(0));
    incident.on(started(&[0]), at(0));
    incident
        .on(IncidentEvent::Item { node: node(0), request: RequestId(1), source: "pods".to_owned(), gaps: 0 }, at(1));
    incident.on(IncidentEvent::Tick, at(40));
    incident.on(sealed(&[(0, NodeState::Trimmed), (1, NodeState::Silent)]), at(41));
    incident.on(IncidentEvent::Connected { node: node(1) }, at(42));
    let again = restarted(&incident, at(43));
    assert!(again.awaits(&node(0)) && again.awaits(&node(1)), "neither has brought anything since");
}

proptest! {
    #[test]
    fn every_sequence_of_events_ends_with_an_archive_and_loses_nothing_that_came(
        until in -100i64..100,
        acts in prop::collection::vec((0u64..8, any_act()), 0..60),
        fails in any::<bool>(),
    ) {
        let mut clock = at(0);
        let mut incident = opened(window(-200, until), 3, clock);
        let mut world = World::default();
        world.feed(&mut incident, started(&[]), clock)?;
        for (wait, act) in acts {
            clock.boot = BootTime::from_nanos(clock.boot.nanos() + wait * SEC);
            clock.wall = clock.wall.after(Duration::from_secs(wait));
            match act {
                Act::Event(event) => world.feed(&mut incident, event, clock)?,
                Act::StepWall(by) => clock.wall = clock.wall.offset(by * 1_000_000_000),
                Act::Restart if !incident.is_over() => {
                    incident = restarted(&incident, clock);
                    world.connected.clear();
                    world.outstanding = false;
                    world.feed(&mut incident, started(&[]), clock)?;
                }
                Act::Restart => {}
            }
        }
        // However the wall clock was stepped and however often it was restarted: no later than the whole of the plan.
        let plan = *incident.plan();
        let most = wait(plan.over_at(), plan.opened_at);
        let mut ends = 0;
        while !incident.is_over() {
            ends += 1;
            prop_assert!(ends < 9, "{:?}", incident.state());
            clock.boot = BootTime::from_nanos(clock.boot.nanos() + most);
            world.feed(&mut incident, IncidentEvent::Tick, clock)?;
            if incident.state() == IncidentState::Sealing {
                // Without an archive it is tried again for as long as it takes.
                let end = if fails && (ends < 3 || !incident.archives().is_empty()) {
                    IncidentEvent::SealFailed { why: "no".to_owned() }
                } else {
                    sealed(&[])
                };
                world.feed(&mut incident, end, clock)?;
            }
        }
        prop_assert!(!incident.archives().is_empty());
        prop_assert!(incident.members().values().all(|m| is_settled(m.phase)));
    }
}
