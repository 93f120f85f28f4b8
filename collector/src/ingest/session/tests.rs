//! The conversation, decided: without a clock, a disk or a network.

use std::sync::Arc;

use casefile_proto::connectivity::Ability;
use casefile_proto::coverage::SourceKind;
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::scope::Selection;
use casefile_proto::session::{ClockAnswer, Collectable};
use casefile_proto::time::WallTime;
use casefile_proto::units::{Bytes, Scale, Unit};
use proptest::prelude::*;

use super::*;

const BOOT: BootId = BootId::from_bytes([7; 16]);
const START: i64 = 1_795_405_450_000_000_000;

/// Both clocks so many seconds after some moment.
fn at(secs: u64) -> Stamp {
    let nanos = i64::try_from(secs).unwrap() * 1_000_000_000;
    Stamp { wall: WallTime::from_nanos(START + nanos), boot: BootTime::from_nanos(1_000_000_000 * (1000 + secs)) }
}

fn header() -> Header {
    let metric = MetricDef {
        name: "node_load1".to_owned(),
        help: String::new(),
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        scale: Scale::CENTI,
        labels: vec!["of".to_owned()],
    };
    let source = |name: &str| SourceDef {
        name: name.to_owned(),
        about: String::new(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 1_000_000_000,
        metrics: vec![metric.clone()],
    };
    Header {
        node: "node-1".parse().unwrap(),
        boot: BOOT,
        agent_version: "0.1.0".to_owned(),
        schema: Arc::new(Schema { sources: vec![source("load"), source("pressure")] }),
    }
}

fn frame(seq: u64) -> Frame {
    let series = SeriesId(1);
    let def = SeriesDef { metric: MetricIndex(0), labels: ["all".into()].into() };
    let sample = |source: u16, outcome: Outcome| Sample {
        source: SourceIndex(source),
        outcome,
        took_nanos: 1,
        defined: if seq == 1 { vec![(series, def.clone())] } else { Vec::new() },
        readings: if source == 0 { vec![Reading { series, value: i64::try_from(seq).unwrap() }] } else { Vec::new() },
    };
    let absent = Outcome::Absent { why: "no PSI".to_owned() };
    Frame {
        boot: BOOT,
        seq: FrameSeq(seq),
        at: at(seq),
        samples: vec![sample(0, Outcome::Complete), sample(1, absent)],
        events: Vec::new(),
    }
}

/// An agent: encodes frames of one run.
struct Agent {
    encoder: Encoder,
    made: u64,
}

impl Agent {
    fn new() -> Self {
        Self { encoder: Encoder::new(header()), made: 0 }
    }

    /// The frames `from..=to` as one batch; those before it are made and not sent, and it begins with a keyframe then.
    fn batch(&mut self, from: u64, to: u64) -> FrameBatch {
        let mut records = Vec::new();
        if from != self.made + 1 {
            self.encoder.restart();
        }
        while self.made < to {
            self.made += 1;
            let mut record = Vec::new();
            if self.made == from {
                records.clear();
            }
            self.encoder.frame(&frame(self.made), &mut record);
            if self.made < from {
                self.encoder.restart();
            }
            records.extend_from_slice(&record);
        }
        FrameBatch {
            first: FrameSeq(from),
            last: FrameSeq(to),
            records: records.into(),
            skipped: Vec::new(),
            ends: Ends::Here,
        }
    }
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: "node-1".parse().unwrap(),
        boot: BOOT,
        agent_version: "0.1.0".to_owned(),
        clock: at(0),
        recording_header: Encoder::new(header()).header().into(),
        last_seq: None,
        collectable: vec![Collectable { name: "pods".to_owned(), kind: SourceKind::Logs }],
        connectivity: Ability::On,
    }
}

fn session() -> Session {
    let config = SessionConfig {
        node: "node-1".parse().unwrap(),
        token: SessionToken([9; 16]),
        catch_up: Duration::from_secs(3600),
        probe_every: Duration::from_secs(4),
        redaction_key: RedactionKey([1; 32]),
    };
    Session::new(config, at(0))
}

/// A session that stands, whose last words end with this frame.
fn standing(have: Option<u64>) -> Session {
    let mut session = session();
    let actions = session.on(FromAgent::Hello(hello()), at(0));
    assert!(matches!(&actions[..], [Action::Open(node)] if node.as_str() == "node-1"), "{actions:?}");
    let last = have.map(|seq| Last { boot: BOOT, seq: FrameSeq(seq), at: at(seq) });
    let actions = session.opened(last, at(0));
    assert!(
        matches!(&actions[..], [Action::Send(ToAgent::Welcome(w)), Action::Send(ToAgent::Probe(_))]
            if w.have == have.map(FrameSeq) && w.window_batches == WINDOW_BATCHES),
        "{actions:?}"
    );
    session
}

fn refusal(actions: &[Action]) -> &Refusal {
    match actions {
        [Action::Close(refusal)] => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// What was appended, decoded as whoever reads the last words does it.
fn appended(actions: Vec<Action>, into: &mut Vec<Buffer>) -> FrameSeq {
    match <[Action; 1]>::try_from(actions) {
        Ok([Action::Append { records, up_to, .. }]) => {
            into.extend(records);
            up_to
        }
        other => panic!("not appended: {other:?}"),
    }
}

/// Frames as `Ok`, holes as `Err`.
fn read(records: &[Buffer]) -> Vec<Result<u64, Hole>> {
    let (bytes, mut decoder, mut out) = (records.concat(), Decoder::new(), Vec::new());
    let mut rest = &bytes[..];
    while let Some((decoded, taken)) = decoder.next(rest).unwrap() {
        match decoded {
            Decoded::Header(found) => assert_eq!(found, header()),
            Decoded::Frame(frame) => out.push(Ok(frame.seq.0)),
            Decoded::Hole(hole) => out.push(Err(hole)),
            Decoded::Block(_) => panic!("no blocks in a stream"),
        }
        rest = &rest[taken..];
    }
    out
}

#[test]
fn frames_are_appended_behind_a_header_and_acknowledged_when_they_are_synced() {
    let (mut session, mut agent, mut records) = (standing(None), Agent::new(), Vec::new());
    assert_eq!(appended(session.on(FromAgent::Frames(agent.batch(1, 3)), at(4)), &mut records), FrameSeq(3));
    assert_eq!(appended(session.on(FromAgent::Frames(agent.batch(4, 4)), at(5)), &mut records), FrameSeq(4));
    assert!(session.is_waiting());
    let acks = session.stored(FrameSeq(3));
    assert!(matches!(acks[..], [Action::Send(ToAgent::Ack(FrameSeq(3)))]));
    session.stored(FrameSeq(4));
    assert!(!session.is_waiting());
    assert_eq!(read(&records), [Ok(1), Ok(2), Ok(3), Ok(4)]);
    let facts = session.facts().unwrap();
    assert_eq!((facts.boot, facts.last_frame), (BOOT, Some(at(5))));
    assert_eq!(facts.troubles, ["pressure: absent"]);
}

#[test]
fn anything_before_hello_is_refused() {
    let progress = CollectionProgress { request: RequestId(1), source: "pods".to_owned(), records: 0, bytes: Bytes(0) };
    for message in [FromAgent::Frames(Agent::new().batch(1, 1)), FromAgent::Progress(progress)] {
        let mut session = session();
        assert!(matches!(refusal(&session.on(message, at(0))), Refusal::HelloFirst));
        // And nothing of it is taken afterwards.
        assert!(session.on(FromAgent::Hello(hello()), at(0)).is_empty());
    }
    assert!(matches!(refusal(&session().tick(at(6))), Refusal::HelloFirst));
    assert!(matches!(refusal(&standing(None).on(FromAgent::Hello(hello()), at(1))), Refusal::HelloTwice));
}

#[test]
fn a_hello_whose_header_is_of_somebody_else_or_garbage_is_refused() {
    let refused = |hello: Hello| session().on(FromAgent::Hello(hello), at(0));
    let other_node = Hello { node: "node-2".parse().unwrap(), ..hello() };
    assert!(matches!(refusal(&refused(other_node)), Refusal::OtherHeader));
    let other_boot = Hello { boot: BootId::from_bytes([8; 16]), ..hello() };
    assert!(matches!(refusal(&refused(other_boot)), Refusal::OtherHeader));
    let garbage = Hello { recording_header: Buffer::from_static(b"garbage"), ..hello() };
    assert!(matches!(refusal(&refused(garbage)), Refusal::Record(_)));
    let twice = [hello().recording_header, hello().recording_header].concat();
    assert!(matches!(refusal(&refused(Hello { recording_header: twice.into(), ..hello() })), Refusal::NoHeader));
    let frame = Hello { recording_header: Agent::new().batch(1, 1).records, ..hello() };
    assert!(matches!(refusal(&refused(frame)), Refusal::Record(_) | Refusal::NoHeader));
    let newer = Hello { protocol: 2, ..hello() };
    assert!(matches!(refusal(&refused(newer)), Refusal::Protocol { theirs: 2 }));
}

#[test]
fn frames_that_are_there_already_are_not_appended_again() {
    let (mut session, mut agent, mut records) = (standing(Some(4)), Agent::new(), Vec::new());
    let again = session.on(FromAgent::Frames(agent.batch(1, 4)), at(5));
    assert!(matches!(again[..], [Action::Send(ToAgent::Ack(FrameSeq(4)))]), "{again:?}");
    // What leans on frames that were dropped cannot be stored; beginning with a keyframe it can.
    let mut leaning = Agent::new();
    leaning.batch(1, 4);
    let refused = standing_after_duplicates().on(FromAgent::Frames(leaning.batch(5, 5)), at(6));
    assert!(matches!(refusal(&refused), Refusal::Record(_)));
    agent.encoder.restart();
    appended(session.on(FromAgent::Frames(agent.batch(5, 6)), at(6)), &mut records);
    assert_eq!(read(&records), [Ok(5), Ok(6)]);
}

fn standing_after_duplicates() -> Session {
    let mut session = standing(Some(4));
    session.on(FromAgent::Frames(Agent::new().batch(1, 4)), at(5));
    session
}

#[test]
fn a_batch_that_overlaps_what_is_there_is_refused() {
    let refused = standing(Some(4)).on(FromAgent::Frames(Agent::new().batch(3, 6)), at(7));
    assert!(matches!(refusal(&refused), Refusal::Overlap { wanted: FrameSeq(5), got: FrameSeq(3) }));
}

#[test]
fn what_an_agent_leaves_out_becomes_a_hole_with_its_reasons() {
    let (mut session, mut agent, mut records) = (standing(Some(4)), Agent::new(), Vec::new());
    let mut batch = agent.batch(8, 9);
    batch.skipped = vec![Gap::new(GapReason::CollectorAway, "old"), Gap::new(GapReason::RingOverwritten, "gone")];
    appended(session.on(FromAgent::Frames(batch), at(10)), &mut records);
    let read = read(&records);
    let between = Window::new(at(4).wall, at(8).wall).ok();
    let hole = |at: usize| read[at].clone().unwrap_err();
    assert_eq!(hole(0).seqs, Some((FrameSeq(5), FrameSeq(7))));
    assert_eq!((hole(0).gap.reason, hole(0).gap.interval), (GapReason::CollectorAway, between));
    assert_eq!((hole(1).seqs, hole(1).gap.reason), (None, GapReason::RingOverwritten));
    assert_eq!(read[2..], [Ok(8), Ok(9)]);
}

#[test]
fn what_is_left_out_without_a_word_is_declared_for_the_agent() {
    let (mut session, mut records) = (standing(None), Vec::new());
    appended(session.on(FromAgent::Frames(Agent::new().batch(5, 5)), at(6)), &mut records);
    let hole = read(&records)[0].clone().unwrap_err();
    assert_eq!((hole.seqs, hole.gap.reason), (Some((FrameSeq(1), FrameSeq(4))), GapReason::NotRecorded));
    assert!(hole.gap.detail.contains("without a word"));
}

#[test]
fn a_batch_that_is_not_what_it_says_is_refused() {
    let good = || Agent::new().batch(1, 3);
    let refused = |batch: FrameBatch| {
        let mut session = standing(None);
        let actions = session.on(FromAgent::Frames(batch), at(4));
        assert!(!session.is_waiting());
        actions
    };
    let longer = FrameBatch { last: FrameSeq(4), ..good() };
    assert!(matches!(refusal(&refused(longer)), Refusal::OtherFrame { .. }));
    let shorter = FrameBatch { last: FrameSeq(2), ..good() };
    assert!(matches!(refusal(&refused(shorter)), Refusal::OtherFrame { .. }));
    let shifted = FrameBatch { first: FrameSeq(2), last: FrameSeq(4), ..good() };
    assert!(matches!(refusal(&refused(shifted)), Refusal::OtherFrame { .. }));
    let cut = FrameBatch { records: good().records.slice(..good().records.len() - 1), ..good() };
    assert!(matches!(refusal(&refused(cut)), Refusal::Record(DecodeError::Torn)));
    let garbage = FrameBatch { records: Buffer::from_static(&[0xff; 100]), ..good() };
    assert!(matches!(refusal(&refused(garbage)), Refusal::Record(_)));
    let header = FrameBatch { records: hello().recording_header, ..good() };
    assert!(matches!(refusal(&refused(header)), Refusal::NoFrame));
}

#[test]
fn a_record_in_pieces_is_put_together_within_a_limit() {
    let (mut session, mut agent, mut records) = (standing(None), Agent::new(), Vec::new());
    let whole = agent.batch(1, 1);
    let middle = whole.records.len() / 2;
    let first = FrameBatch { records: whole.records.slice(..middle), ends: Ends::Later, ..whole.clone() };
    let second = FrameBatch { records: whole.records.slice(middle..), ..whole.clone() };
    assert!(session.on(FromAgent::Frames(first.clone()), at(2)).is_empty());
    assert_eq!(appended(session.on(FromAgent::Frames(second), at(2)), &mut records), FrameSeq(1));
    assert_eq!(read(&records), [Ok(1)]);

    let mut session = standing(None);
    session.on(FromAgent::Frames(first), at(2));
    assert!(matches!(refusal(&session.on(FromAgent::Frames(agent.batch(2, 2)), at(2))), Refusal::OtherFrame { .. }));

    let mut session = standing(None);
    let piece = FrameBatch { records: vec![0; 1 << 20].into(), ends: Ends::Later, ..whole };
    let refused = (0..10).map(|_| session.on(FromAgent::Frames(piece.clone()), at(2))).find(|a| !a.is_empty());
    assert!(matches!(refusal(&refused.unwrap()), Refusal::Record(_)));
}

#[test]
fn more_batches_than_the_window_are_refused() {
    let (mut session, mut agent) = (standing(None), Agent::new());
    for seq in 1..=u64::from(WINDOW_BATCHES) {
        assert!(session.has_room());
        assert_eq!(session.on(FromAgent::Frames(agent.batch(seq, seq)), at(seq)).len(), 1);
    }
    assert!(!session.has_room());
    let next = u64::from(WINDOW_BATCHES) + 1;
    assert!(matches!(refusal(&session.on(FromAgent::Frames(agent.batch(next, next)), at(next))), Refusal::Window));
}

#[test]
fn last_words_of_another_boot_do_not_count() {
    let mut session = session();
    session.on(FromAgent::Hello(hello()), at(0));
    let last = Last { boot: BootId::from_bytes([1; 16]), seq: FrameSeq(99), at: at(0) };
    let actions = session.opened(Some(last), at(0));
    assert!(matches!(&actions[0], Action::Send(ToAgent::Welcome(w)) if w.have.is_none()));
    appended(session.on(FromAgent::Frames(Agent::new().batch(1, 1)), at(2)), &mut Vec::new());
}

#[test]
fn probes_go_out_every_few_seconds_and_an_agent_that_answers_none_is_given_up() {
    let mut session = standing(None);
    let probed = |actions: &[Action]| matches!(actions, [Action::Send(ToAgent::Probe(_))]);
    assert!(session.tick(at(3)).is_empty());
    assert!(probed(&session.tick(at(4))));
    assert!(session.tick(at(5)).is_empty());
    assert!((6..60).map(|s| session.tick(at(s))).filter(|a| probed(a)).count() > 10);
    assert!(matches!(refusal(&session.tick(at(61))), Refusal::Silent));
}

#[test]
fn the_first_answers_are_followed_by_another_probe_at_once() {
    let mut session = session();
    session.on(FromAgent::Hello(hello()), at(0));
    let mut actions = session.opened(None, at(0));
    let mut probes = 0;
    while let Some(Action::Send(ToAgent::Probe(token))) = actions.pop() {
        probes += 1;
        actions = session.on(FromAgent::Clock(ClockAnswer { token, clock: at(10) }), at(0));
    }
    assert_eq!(probes, 8);
    let offset = session.offset(at(0).boot).unwrap();
    assert_eq!((offset.ahead_nanos, offset.bound_nanos), (10_000_000_000, 1));
}

#[test]
fn a_collection_is_asked_once_and_what_nobody_asked_for_is_nobodys() {
    let mut session = standing(None);
    let ask = CollectionAsk {
        request: RequestId(5),
        window: Window::new(at(0).wall, at(9).wall).unwrap(),
        budget: Bytes::mib(1),
        deadline: Duration::from_secs(9),
        sources: Vec::new(),
        select: Selection::default(),
        clock: None,
    };
    assert!(matches!(&session.ask(ask.clone())[..], [Action::Send(ToAgent::Collect(sent))] if *sent == ask));
    assert!(session.ask(ask.clone()).is_empty());
    let done = |request| {
        FromAgent::Done(CollectionDone { request: RequestId(request), sources: Vec::new(), gaps: Vec::new() })
    };
    assert!(session.on(done(6), at(1)).is_empty());
    assert!(matches!(&session.on(done(5), at(1))[..], [Action::Done(_)]));
    assert!(session.on(done(5), at(1)).is_empty(), "done is done once");
    assert!(session.cancel(RequestId(5)).is_empty());
    session.ask(ask);
    assert!(matches!(session.cancel(RequestId(5))[..], [Action::Send(ToAgent::Cancel(RequestId(5)))]));
}

proptest! {
    /// Whatever batches come, in whatever order: what is appended is contiguous or declared, and no frame is there twice.
    #[test]
    fn what_is_appended_has_no_undeclared_hole_and_no_frame_twice(
        have in prop::option::of(1u64..20),
        batches in prop::collection::vec((1u64..40, 0u64..4, any::<bool>()), 1..12),
    ) {
        let (mut session, mut records) = (standing(have), Vec::new());
        for (from, more, say) in batches {
            let mut batch = Agent::new().batch(from, from + more);
            if say {
                batch.skipped = vec![Gap::new(GapReason::CollectorAway, "")];
            }
            for action in session.on(FromAgent::Frames(batch), at(50)) {
                if let Action::Append { records: more, .. } = action {
                    records.extend(more);
                }
            }
            if let Some(last) = session.is_waiting().then_some(FrameSeq(from + more)) {
                session.stored(last);
            }
        }
        let mut next = have.map_or(1, |have| have + 1);
        if !records.is_empty() {
            for piece in read(&records) {
                match piece {
                    Ok(seq) => {
                        prop_assert_eq!(seq, next);
                        next += 1;
                    }
                    Err(hole) => {
                        if let Some((from, to)) = hole.seqs {
                            prop_assert_eq!(from.0, next);
                            next = to.0 + 1;
                        }
                    }
                }
            }
        }
    }

    /// Garbage ends a session and nothing else.
    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 1..300), at_byte in any::<prop::sample::Index>()) {
        let mut changed = Vec::from(Agent::new().batch(1, 3).records);
        let i = at_byte.index(changed.len());
        changed[i] ^= bytes[0].max(1);
        for records in [bytes, changed] {
            let batch = FrameBatch { records: records.into(), ..Agent::new().batch(1, 3) };
            let actions = standing(None).on(FromAgent::Frames(batch), at(4));
            prop_assert!(matches!(actions[..], [Action::Close(_)]));
        }
    }
}

#[test]
fn the_key_for_secrets_is_in_the_welcome_and_told_again_only_when_it_changes() {
    let mut session = session();
    session.on(FromAgent::Hello(hello()), at(0));
    // Before the welcome there is nobody to tell: it says the newest.
    assert!(session.redact_with(RedactionKey([2; 32])).is_empty());
    let actions = session.opened(None, at(0));
    assert!(
        matches!(&actions[0], Action::Send(ToAgent::Welcome(w)) if w.redaction_key == Some(RedactionKey([2; 32]))),
        "{actions:?}"
    );
    assert!(session.redact_with(RedactionKey([2; 32])).is_empty());
    let actions = session.redact_with(RedactionKey([3; 32]));
    assert!(
        matches!(&actions[..], [Action::Send(ToAgent::Redact(key))] if *key == RedactionKey([3; 32])),
        "{actions:?}"
    );
}

#[test]
fn a_session_that_is_not_read_stands_however_long_and_its_silence_counts_from_when_it_is_read_again() {
    let mut session = standing(None);
    session.take(Taking::No(crate::space::Why::Space), at(1));
    assert!(!session.has_room());
    let probes: usize = (2..600).map(|secs| session.tick(at(secs)).len()).sum();
    assert!((15..25).contains(&probes), "the agent hears of us, and its answers do not pile up: {probes}");
    session.take(Taking::Yes, at(600));
    assert!(session.has_room() && !matches!(&session.tick(at(659))[..], [Action::Close(_)]));
    assert!(matches!(refusal(&session.tick(at(661))), Refusal::Silent));
}

#[test]
fn only_an_agent_that_tests_connectivity_is_asked_to() {
    use casefile_proto::connectivity::{ConnectivityAnswer, NodeOutcome, TestId, Untested, UntestedReason};
    let ask = || ConnectivityAsk {
        test: TestId(7),
        target: "tcp://api:80".parse().unwrap(),
        deadline: Duration::from_secs(1),
    };
    let mut able = standing(None);
    let actions = able.test(ask());
    assert!(matches!(&actions[..], [Action::Send(ToAgent::TestConnectivity(sent))] if *sent == ask()), "{actions:?}");
    let outcome = NodeOutcome::Untested(Untested { reason: UntestedReason::Busy, detail: String::new() });
    let answer = ConnectivityAnswer { test: TestId(7), outcome };
    let actions = able.on(FromAgent::Connectivity(answer.clone()), at(1));
    assert!(matches!(&actions[..], [Action::Tested(told)] if *told == answer), "{actions:?}");
    assert_eq!(able.facts().unwrap().connectivity, Ability::On);
    for ability in [Ability::Off, Ability::Unknown] {
        let mut session = session();
        assert!(session.test(ask()).is_empty(), "nothing was said yet");
        session.on(FromAgent::Hello(Hello { connectivity: ability, ..hello() }), at(0));
        session.opened(None, at(0));
        assert!(session.test(ask()).is_empty(), "{ability:?}");
    }
}
