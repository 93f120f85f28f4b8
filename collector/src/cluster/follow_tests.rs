//! The machine that follows one kind, step by step; and against a server that fails in every way, with the real log behind it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;
use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cluster::kinds::Kind;
use crate::cluster::record::intake::Told;
use crate::cluster::record::log::{Limits, Log};
use crate::cluster::sanitise::Sanitiser;

fn at(secs: u64) -> BootTime {
    BootTime::from_nanos(secs * 1_000_000_000)
}

fn page(version: &str, next: Option<&str>) -> Message {
    Message::Page { version: version.to_owned(), next: next.map(ToOwned::to_owned) }
}

/// What is done next, and how long is waited for it, if that is a wait.
fn waited(actions: &[Action]) -> Duration {
    match actions.last() {
        Some(Action::Wait(long)) => *long,
        other => panic!("{other:?}"),
    }
}

fn watching(follow: &mut Follow, since: u64) {
    follow.start();
    follow.on(page("7", None), at(since));
    assert_eq!(follow.on(Message::Opened, at(since)), [Action::Read]);
}

#[test]
fn a_list_is_read_in_pages_and_then_watched_from_the_version_of_its_first() {
    let mut follow = Follow::new(1);
    assert_eq!(follow.start(), [Action::List { limit: PAGE, token: None }]);
    let next = |token: &str| [Action::List { limit: PAGE, token: Some(token.to_owned()) }];
    assert_eq!(follow.on(page("7", Some("a")), at(0)), next("a"));
    assert_eq!(follow.on(page("9", Some("b")), at(0)), next("b"));
    assert_eq!(follow.on(page("9", None), at(0)), [Action::Listed, Action::Watch("7".to_owned())]);
    assert_eq!(follow.on(Message::Opened, at(0)), [Action::Read]);
    let news = Message::Version("8".to_owned(), Applied::New);
    assert_eq!(follow.on(news, at(1)), [Action::Resumed, Action::Read]);
    assert_eq!(follow.on(Message::Bookmark("30".to_owned()), at(2)), [Action::Read]);
    // What comes twice may bear an old version, from which nothing is resumed.
    assert_eq!(follow.on(Message::Version("8".to_owned(), Applied::Same), at(3)), [Action::Read]);
    assert_eq!(follow.on(Message::Ended, at(60)), [Action::Watch("30".to_owned())]);
}

#[test]
fn a_page_that_leads_to_itself_is_not_asked_for_for_ever() {
    let mut follow = Follow::new(1);
    follow.start();
    follow.on(page("7", Some("a")), at(0));
    let actions = follow.on(page("7", Some("a")), at(0));
    assert!(matches!(&actions[0], Action::Lost(GapReason::ParseFailed, _)), "{actions:?}");
    assert!(waited(&actions) >= FIRST_WAIT);
    assert_eq!(follow.on(Message::Elapsed, at(2)), [Action::List { limit: PAGE, token: None }]);
}

#[test]
fn what_somebody_may_install_is_asked_for_as_often_as_was_said() {
    let minute = Duration::from_secs(60);
    // A server that has just started forbids everything; that something was never there is believed at once.
    for (failure, not_believed) in [(Failure::Absent, 0), (Failure::Forbidden("no".to_owned()), MAX_NO)] {
        let mut follow = Follow::new(1).asking_rarely(minute);
        follow.start();
        for n in 0..9 + not_believed {
            let waits = waited(&follow.on(Message::Failed(failure.clone()), at(u64::from(n) * 100)));
            let is_rare = waits >= minute && waits <= minute * 3 / 2;
            assert_eq!(is_rare, n >= not_believed, "{waits:?}");
            follow.on(Message::Elapsed, at(u64::from(n) * 100 + 90));
        }
    }
}

#[test]
fn a_page_that_is_too_large_is_halved_down_to_one_object_which_is_passed_over() {
    let mut follow = Follow::new(1);
    follow.start();
    let mut limits = vec![];
    let last = loop {
        match &follow.on(Message::Failed(Failure::TooLarge), at(0))[..] {
            [Action::List { limit, token: None }] => limits.push(*limit),
            other => break other.to_vec(),
        }
    };
    assert_eq!(limits, [250, 125, 62, 31, 15, 7, 3, 1]);
    assert_eq!(last, [Action::TooLarge, Action::PassOver { token: None }]);
    // The next ones may be as small as any.
    let two = [Action::List { limit: 2, token: Some("b".to_owned()) }];
    assert_eq!(follow.on(page("7", Some("b")), at(0)), two);
    let four = [Action::List { limit: 4, token: Some("c".to_owned()) }];
    assert_eq!(follow.on(page("7", Some("c")), at(0)), four);
    // Half of what did not fit is not doubled again.
    let half = [Action::List { limit: 2, token: Some("c".to_owned()) }];
    assert_eq!(follow.on(Message::Failed(Failure::TooLarge), at(0)), half);
    let same = [Action::List { limit: 2, token: Some("d".to_owned()) }];
    assert_eq!(follow.on(page("7", Some("d")), at(0)), same);
}

#[test]
fn waits_grow_to_half_a_minute_and_a_good_watch_makes_the_next_one_short_again() {
    let mut follow = Follow::new(77);
    watching(&mut follow, 0);
    let mut waits = vec![];
    let mut actions = follow.on(Message::Failed(Failure::Gone), at(1));
    for _ in 0..10 {
        waits.push(waited(&actions));
        assert!(matches!(follow.on(Message::Elapsed, at(1))[..], [Action::List { .. }]));
        actions = follow.on(Message::Failed(Failure::Away("down".to_owned())), at(1));
    }
    for (n, wait) in waits.iter().enumerate() {
        let base = Duration::from_secs([1, 2, 4, 8, 16, 30, 30, 30, 30, 30][n]);
        assert!((base..=base * 3 / 2).contains(wait), "{n}: {wait:?}");
    }
    let spread: std::collections::BTreeSet<_> = waits[6..].iter().collect();
    assert!(spread.len() > 2, "no two come back at once: {spread:?}");
    follow.on(Message::Elapsed, at(1));
    follow.on(page("9", None), at(100));
    follow.on(Message::Opened, at(100));
    assert!(waited(&follow.on(Message::Failed(Failure::Away(String::new())), at(131))) < Duration::from_secs(2));
}

#[test]
fn a_watch_that_ends_at_once_is_not_asked_for_at_once() {
    let mut follow = Follow::new(5);
    watching(&mut follow, 0);
    assert!(waited(&follow.on(Message::Ended, at(1))) >= Duration::from_secs(1));
    assert_eq!(follow.on(Message::Elapsed, at(3)), [Action::Watch("7".to_owned())]);
}

#[test]
fn what_may_not_be_asked_is_asked_rarely_and_a_busy_server_says_when() {
    let mut follow = Follow::new(5);
    follow.start();
    for n in 0..MAX_NO {
        let actions = follow.on(Message::Failed(Failure::Forbidden("no".to_owned())), at(0));
        assert_eq!(actions[0], Action::Lost(GapReason::PermissionDenied, "no".to_owned()));
        assert!(waited(&actions) < 2 * LONGEST_WAIT, "{n}: it may be one that has just started");
        follow.on(Message::Elapsed, at(0));
    }
    assert!(waited(&follow.on(Message::Failed(Failure::Forbidden("no".to_owned())), at(0))) >= RARELY);
    let mut follow = Follow::new(5);
    follow.start();
    let actions = follow.on(Message::Failed(Failure::Absent), at(400));
    assert!(matches!(&actions[0], Action::Lost(GapReason::SourceAbsent, _)) && waited(&actions) >= RARELY);
    follow.on(Message::Elapsed, at(800));
    let actions = follow.on(Message::Failed(Failure::Busy(Some(Duration::from_secs(40)))), at(800));
    assert!(waited(&actions) >= Duration::from_secs(40));
}

/// What a real one says in its first seconds: it refuses connections, knows no roles, knows no kinds of others, and has forgotten
/// every version of before.
#[test]
fn a_server_that_was_started_anew_is_followed_again_within_seconds_however_long_it_was_away() {
    let mut follow = Follow::new(5);
    watching(&mut follow, 0);
    let mut actions = follow.on(Message::Ended, at(100));
    // Up to a wait.
    for _ in 0..21 {
        actions = match &actions[..] {
            [Action::Watch(_)] => follow.on(Message::Failed(Failure::Away("refused".to_owned())), at(100)),
            _ => follow.on(Message::Elapsed, at(100)),
        };
    }
    for failure in [Failure::Forbidden("no role".to_owned()), Failure::Forbidden("no role".to_owned())] {
        assert_eq!(follow.on(Message::Elapsed, at(500)), [Action::Watch("7".to_owned())], "nothing is missed yet");
        assert!(waited(&follow.on(Message::Failed(failure), at(500))) <= LONGEST_WAIT * 3 / 2);
    }
    assert_eq!(follow.on(Message::Elapsed, at(501)), [Action::Watch("7".to_owned())]);
    assert!(waited(&follow.on(Message::Failed(Failure::Gone), at(501))) <= FIRST_WAIT * 3 / 2, "it answers");
    let list = [Action::List { limit: PAGE, token: None }];
    assert_eq!(follow.on(Message::Elapsed, at(502)), list);
    // One that was there may be unknown to it for a moment; and a version that is gone again and again is no hurry.
    assert!(waited(&follow.on(Message::Failed(Failure::Absent), at(502))) < RARELY);
    assert_eq!(follow.on(Message::Elapsed, at(504)), list);
    follow.on(page("9", None), at(504));
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        longest = longest.max(waited(&follow.on(Message::Failed(Failure::Gone), at(504))));
        follow.on(Message::Elapsed, at(504));
        follow.on(page("9", None), at(504));
    }
    assert!(longest >= LONGEST_WAIT);
}

#[test]
fn what_goes_backwards_is_listed_again_and_garbage_is_after_the_third_time() {
    let mut follow = Follow::new(5);
    watching(&mut follow, 0);
    let actions = follow.on(Message::Version("3".to_owned(), Applied::Backwards), at(1));
    assert!(matches!(&actions[0], Action::Lost(GapReason::ParseFailed, _)));
    assert!(matches!(follow.on(Message::Elapsed, at(9))[..], [Action::List { .. }]));
    let mut follow = Follow::new(5);
    watching(&mut follow, 0);
    for n in 1..=3 {
        follow.on(Message::Garbage("x".to_owned()), at(1));
        let then = follow.on(Message::Elapsed, at(1));
        match &then[..] {
            [Action::Watch(version)] => assert!(n < 3 && version == "7"),
            [Action::List { .. }] => assert_eq!(n, 3),
            other => panic!("{other:?}"),
        }
        follow.on(Message::Opened, at(1));
    }
}

#[test]
fn what_could_not_be_kept_is_shown_again() {
    let mut follow = Follow::new(5);
    watching(&mut follow, 0);
    let actions = follow.on(Message::Unwritten("the disk is full".to_owned()), at(1));
    assert!(matches!(&actions[0], Action::Lost(GapReason::NotRecorded, why) if why.contains("full")));
    assert!(matches!(follow.on(Message::Elapsed, at(9))[..], [Action::List { .. }]));
}

/// A server that fails in the ways of [`Fault`], and otherwise is right.
#[derive(Default)]
struct Server {
    version: u64,
    compacted: u64,
    objects: BTreeMap<String, Value>,
    history: Vec<(u64, &'static str, Value)>,
}

#[derive(Debug, Clone)]
enum Fault {
    /// Nothing is wrong.
    None,
    /// An object is written, or deleted.
    Write(u8),
    Delete(u8),
    /// Old versions are forgotten.
    Compact,
    /// What is asked or read next fails in this way.
    Fail(Failure),
    /// The line comes twice, is garbage, or is an old one.
    Twice,
    Garbage,
    Old,
    End,
}

impl Server {
    fn write(&mut self, name: u8) {
        self.version += 1;
        let name = format!("p{}", name % 12);
        let kind = if self.objects.contains_key(&name) { "MODIFIED" } else { "ADDED" };
        let uid =
            self.objects.get(&name).map_or(json!(format!("uid-{}", self.version)), |o| o["metadata"]["uid"].clone());
        let metadata =
            json!({"name": name, "namespace": "shop", "uid": uid, "resourceVersion": self.version.to_string()});
        let object = json!({"metadata": metadata, "status": {"n": self.version}});
        self.objects.insert(name, object.clone());
        self.history.push((self.version, kind, object));
    }

    fn delete(&mut self, name: u8) {
        let Some(mut object) = self.objects.remove(&format!("p{}", name % 12)) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push((self.version, "DELETED", object));
    }

    fn page(&self, limit: u32, token: Option<&str>) -> Result<Value, Failure> {
        let (version, behind) = match token.map(|t| t.split_once('|').unwrap()) {
            None => (self.version, ""),
            Some((version, behind)) => (version.parse().unwrap(), behind),
        };
        if version < self.compacted {
            return Err(Failure::Gone);
        }
        // As the real one, a list is of one version however many pages it has.
        let mut then = self.objects.clone();
        for (_, kind, object) in self.history.iter().rev().take_while(|(of, ..)| *of > version) {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let before = self.history.iter().rev().find(|(of, _, o)| *of <= version && o["metadata"]["name"] == *name);
            match before {
                Some((_, "ADDED" | "MODIFIED", object)) => drop(then.insert(name, object.clone())),
                _ => drop(then.remove(&name)),
            }
            let _ = kind;
        }
        let rest: Vec<_> = then.iter().filter(|(name, _)| name.as_str() > behind).collect();
        let items: Vec<_> = rest.iter().take(limit as usize).map(|(_, object)| (*object).clone()).collect();
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if rest.len() > items.len() {
            metadata["continue"] = json!(format!("{version}|{}", rest[items.len() - 1].0));
        }
        Ok(json!({"metadata": metadata, "items": items}))
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    let failure = prop_oneof![
        Just(Failure::Gone),
        Just(Failure::TooLarge),
        Just(Failure::Busy(None)),
        Just(Failure::Away("reset".to_owned())),
        Just(Failure::Late("slow".to_owned())),
        Just(Failure::Malformed("html".to_owned())),
        Just(Failure::Forbidden("rbac".to_owned())),
    ];
    prop_oneof![
        4 => Just(Fault::None),
        6 => any::<u8>().prop_map(Fault::Write),
        3 => any::<u8>().prop_map(Fault::Delete),
        1 => Just(Fault::Compact),
        2 => failure.prop_map(Fault::Fail),
        1 => Just(Fault::Twice),
        1 => Just(Fault::Garbage),
        1 => Just(Fault::Old),
        1 => Just(Fault::End),
    ]
}

fn log(dir: &std::path::Path) -> Log {
    let redactor = Redactor::new(Arc::new(RuleSet::builtin()), Key::new([7; 32]), Pseudonyms::default());
    let limits = Limits { bytes: Bytes::mib(64), age: Duration::from_hours(1) };
    Log::open(dir, limits, Sanitiser::new([1; 32], redactor), WallTime::from_secs(0)).unwrap()
}

/// Runs the machine against the server through these faults, and then until nothing is left to be said.
fn run(faults: Vec<Fault>, server: &mut Server, log: &mut Log) -> usize {
    let kind = Kind::named("pods").unwrap();
    let (mut follow, mut now, mut requests) = (Follow::new(3), 0u64, 0);
    let (mut faults, mut sent, mut old) = (VecDeque::from(faults), None::<u64>, Vec::new());
    let mut actions = follow.start();
    for _ in 0..5_000 {
        let mut message = Message::Elapsed;
        let wall = WallTime::from_secs(i64::try_from(now).unwrap());
        for action in std::mem::take(&mut actions) {
            let fault = match action {
                Action::List { .. } | Action::Watch(_) | Action::Read | Action::PassOver { .. } => {
                    faults.pop_front().unwrap_or(Fault::None)
                }
                _ => Fault::None,
            };
            match &fault {
                Fault::Write(name) => server.write(*name),
                Fault::Delete(name) => server.delete(*name),
                Fault::Compact => server.compacted = server.version,
                _ => {}
            }
            message = match (action, fault) {
                (Action::List { .. } | Action::Watch(_) | Action::Read, Fault::Fail(failure)) => {
                    // A server that says that something is too large goes on saying so only of lists.
                    Message::Failed(failure)
                }
                (Action::List { limit, token }, _) => {
                    requests += 1;
                    match server.page(limit, token.as_deref()) {
                        Ok(list) => {
                            let page = log.page(kind, list.to_string().as_bytes(), token.is_none(), wall).unwrap();
                            Message::Page { version: page.version, next: page.next }
                        }
                        Err(failure) => Message::Failed(failure),
                    }
                }
                (Action::PassOver { token }, _) => {
                    requests += 1;
                    match server.page(1, token.as_deref()) {
                        Ok(mut list) => {
                            for item in list["items"].as_array_mut().unwrap() {
                                item.as_object_mut().unwrap().remove("status");
                            }
                            let page = log.passed(kind, list.to_string().as_bytes(), token.is_none(), wall).unwrap();
                            Message::Page { version: page.version, next: page.next }
                        }
                        Err(failure) => Message::Failed(failure),
                    }
                }
                (Action::Listed, _) => {
                    log.end_list(kind, wall).unwrap();
                    Message::Elapsed
                }
                (Action::Watch(version), _) => {
                    requests += 1;
                    sent = Some(version.parse().unwrap());
                    Message::Opened
                }
                (Action::Read, Fault::End) => Message::Ended,
                (Action::Read, Fault::Garbage) => Message::Garbage("<html>".to_owned()),
                (Action::Read, fault) => {
                    let from = sent.unwrap();
                    if from < server.compacted {
                        Message::Failed(Failure::Gone)
                    } else {
                        let next = server.history.iter().find(|(version, ..)| *version > from).cloned();
                        let repeated = matches!(fault, Fault::Old).then(|| old.last().cloned()).flatten();
                        let is_old = repeated.is_some();
                        match repeated.or(next) {
                            None if faults.is_empty() => return requests,
                            None => Message::Quiet,
                            Some((version, kind_of, object)) => {
                                let line = json!({"type": kind_of, "object": object}).to_string();
                                if matches!(fault, Fault::Twice) {
                                    log.line(kind, line.as_bytes(), wall).unwrap();
                                }
                                if !is_old {
                                    sent = Some(version);
                                }
                                old.push((version, kind_of, object));
                                match log.line(kind, line.as_bytes(), wall).unwrap() {
                                    Told::Version(version, applied) => Message::Version(version, applied),
                                    other => panic!("{other:?}"),
                                }
                            }
                        }
                    }
                }
                (Action::Resumed, _) => {
                    log.resumed(kind, wall).unwrap();
                    Message::Elapsed
                }
                (Action::TooLarge, _) => {
                    log.passed_over(kind);
                    Message::Elapsed
                }
                (Action::Lost(reason, why), _) => {
                    log.lost(kind, wall, reason, &why);
                    Message::Elapsed
                }
                (Action::Wait(long), _) => {
                    now += long.as_secs().max(1);
                    Message::Elapsed
                }
            };
        }
        actions = follow.on(message, at(now));
    }
    panic!("it never comes to rest");
}

fn known(log: &Log) -> BTreeMap<String, ()> {
    let pods = log.tracked(Kind::named("pods").unwrap());
    pods.iter().map(|(_, name, _)| (name.to_owned(), ())).collect()
}

/// Through these faults what is known in the end is what the server has, and so is what a restart reads back.
fn ends_right(faults: Vec<Fault>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, mut ours) = (Server::default(), log(dir.path()));
    for name in 0..5 {
        server.write(name);
    }
    let hurried = faults
        .iter()
        .filter(|f| matches!(f, Fault::Fail(_) | Fault::Garbage | Fault::Old | Fault::End | Fault::Compact))
        .count();
    let requests = run(faults, &mut server, &mut ours);
    let expected: BTreeMap<_, _> = server.objects.keys().map(|name| (name.clone(), ())).collect();
    prop_assert_eq!(known(&ours), expected.clone());
    // What went wrong is answered by so many questions, and no more.
    prop_assert!(requests <= 12 * (hurried + 1), "{} requests after {} faults", requests, hurried);
    ours.flush().unwrap();
    drop(ours);
    let again = log(dir.path());
    prop_assert_eq!(known(&again), expected);
    Ok(())
}

#[test]
fn one_that_a_list_finds_gone_does_not_come_back_by_an_old_line() {
    let (write, delete) = (Fault::Write(90), Fault::Delete(210));
    let faults = vec![Fault::None, write, delete, Fault::Compact, Fault::None, Fault::None, Fault::Old];
    ends_right(faults).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever fails in between: what is known in the end is what the server has, and so is what a restart reads back.
    #[test]
    fn any_interleaving_of_faults_ends_in_the_state_of_the_server(faults in prop::collection::vec(fault(), 0..80)) {
        ends_right(faults)?;
    }
}
