//! One resource is one incident: whatever is heard, in whatever order, whatever is lost, whenever the collector begins anew.

use std::collections::BTreeMap;

use casefile_proto::incident::{IncidentAsk, NodePhase, NodeProgress, SealedArchive, Severity, Trigger};
use casefile_proto::item::Digest;
use casefile_proto::time::{WallTime, Window};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const SEC: u64 = 1_000_000_000;

/// The API server, the index and the incidents, for a book to be wrong about.
#[derive(Default)]
struct World {
    secs: u64,
    version: u64,
    objects: BTreeMap<String, Value>,
    /// Every event since the beginning; a watch may bring old ones again.
    history: Vec<(String, Option<Value>)>,
    bound: BTreeMap<String, Bound>,
    gone: BTreeSet<String>,
    noted: Vec<String>,
    incidents: Vec<IncidentState>,
    /// How often an incident was opened for a uid.
    opened: BTreeMap<String, usize>,
    made: u64,
    writes: usize,
}

#[derive(Debug, Clone)]
enum Move {
    /// A resource of this name appears, unless there is one.
    Make(u8),
    /// Its specification is changed, against the rules.
    Edit(u8),
    Delete(u8),
    /// Somebody else writes into its status: nothing, or rubbish.
    Meddle(u8, bool),
    /// The watch tells an event, the newest or an older one.
    Hear(usize),
    List,
    Index,
    /// The incidents go one step on.
    Proceed,
    /// A node that was missing amends one.
    Amend(usize),
    Restart,
    Time(u64),
    /// So many actions are done; the API server answers so to each write: 0 does it, 1 does it and says nothing, 2 does not, 3 refuses.
    Work(u8, u8),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (0..3u8).prop_map(Move::Make),
        1 => (0..3u8).prop_map(Move::Edit),
        1 => (0..3u8).prop_map(Move::Delete),
        1 => (0..3u8, any::<bool>()).prop_map(|(name, rubbish)| Move::Meddle(name, rubbish)),
        6 => (0..9usize).prop_map(Move::Hear),
        2 => Just(Move::List),
        3 => Just(Move::Index),
        3 => Just(Move::Proceed),
        1 => (0..4usize).prop_map(Move::Amend),
        1 => Just(Move::Restart),
        4 => (0..70u64).prop_map(Move::Time),
        8 => (1..6u8, 0..4u8).prop_map(|(actions, answer)| Move::Work(actions, answer)),
    ];
    proptest::collection::vec(one, 0..80)
}

impl World {
    fn now(&self) -> Stamp {
        Stamp {
            wall: WallTime::from_secs(1_700_000_000 + i64::try_from(self.secs).unwrap()),
            boot: BootTime::from_nanos((1_000 + self.secs) * SEC),
        }
    }

    fn put(&mut self, uid: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(uid.to_owned(), object.clone());
        self.history.push((uid.to_owned(), Some(object)));
    }

    fn named(&self, name: u8) -> Option<(String, Value)> {
        let name = format!("c{name}");
        self.objects.iter().find(|(_, o)| o["metadata"]["name"] == *name).map(|(uid, o)| (uid.clone(), o.clone()))
    }

    fn view(&self, id: IncidentId) -> casefile_proto::incident::IncidentView {
        let state = self.incidents[usize::try_from(id.0).unwrap() - 1];
        let window = Window::new(WallTime::from_secs(0), WallTime::from_secs(60)).unwrap();
        let revision = self.bound.values().find(|b| b.incident == id).and_then(|b| b.revision);
        let archive = revision.map(|revision| SealedArchive {
            file_name: "x".to_owned(),
            size: 1,
            sha256: Digest([0; 32]),
            sealed_at: WallTime::from_secs(0),
            whole: false,
            revision,
            kept: None,
        });
        let ask = IncidentAsk {
            title: String::new(),
            reason: String::new(),
            requested_by: String::new(),
            severity: Severity::Sev3,
            trigger: Trigger::Resource,
            resource: None,
            runbook: None,
            window,
            nodes: vec![],
            scope: casefile_proto::scope::Scope::default(),
        };
        let node: casefile_proto::ids::NodeName = "n1".parse().unwrap();
        let nodes = vec![NodeProgress { node: node.clone(), phase: NodePhase::Answered, sources: vec![] }];
        let incident = IncidentSummary {
            id,
            ask,
            expected: vec![node],
            state,
            opened_at: WallTime::from_secs(0),
            deadline: WallTime::from_secs(0),
            archive,
            earlier: vec![],
            failure: None,
        };
        casefile_proto::incident::IncidentView { incident, nodes }
    }

    fn make_a_move(&mut self, book: &mut Book, one: Move) {
        let boot = self.now().boot;
        match one {
            Move::Make(name) => {
                if self.named(name).is_none() {
                    self.made += 1;
                    let uid = format!("u-{}", self.made);
                    let metadata = json!({"name": format!("c{name}"), "namespace": "shop", "uid": uid, "generation": 1,
                        "creationTimestamp": "2026-11-23T03:14:00Z"});
                    self.put(&uid, json!({"metadata": metadata, "spec": {"window": {"since": "30m"}}}));
                }
            }
            Move::Edit(name) => {
                if let Some((uid, mut object)) = self.named(name) {
                    object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_u64().unwrap() + 1);
                    self.put(&uid, object);
                }
            }
            Move::Delete(name) => {
                if let Some((uid, _)) = self.named(name) {
                    self.objects.remove(&uid);
                    self.history.push((uid, None));
                }
            }
            Move::Meddle(name, rubbish) => {
                if let Some((uid, mut object)) = self.named(name) {
                    let odd = json!({"conditions": [{"type": 7}, "x"], "archive": [], "nodes": {"more": 1}});
                    object["status"] = if rubbish { odd } else { Value::Null };
                    self.put(&uid, object);
                }
            }
            Move::Hear(back) => {
                let told = self.history.iter().rev().nth(back).or(self.history.last());
                match told {
                    Some((_, Some(object))) => book.set(Collection::read(object.clone()).unwrap(), boot),
                    Some((uid, None)) => book.deleted(uid),
                    None => {}
                }
            }
            Move::List => {
                book.listed(self.objects.values().map(|o| Collection::read(o.clone()).unwrap()).collect(), boot);
            }
            Move::Index => {
                let all = self.bound.values().filter(|b| !self.gone.contains(&b.resource.uid)).cloned();
                book.bound(all.collect(), boot);
            }
            Move::Proceed => {
                use IncidentState::{Amending, Failed, Gathering, Open, Sealed, Sealing};
                for (n, state) in self.incidents.iter_mut().enumerate() {
                    *state = match *state {
                        Open => Gathering,
                        Gathering | Amending | Failed => Sealing,
                        Sealing | Sealed => Sealed,
                    };
                    for bound in self.bound.values_mut().filter(|b| b.incident.0 == n as u64 + 1) {
                        if *state == Sealed && bound.state == Sealing {
                            bound.revision = Some(bound.revision.unwrap_or(0) + 1);
                        }
                        bound.state = *state;
                    }
                }
            }
            Move::Amend(n) => {
                if let Some(state) = self.incidents.get_mut(n).filter(|state| **state == IncidentState::Sealed) {
                    *state = IncidentState::Amending;
                    for bound in self.bound.values_mut().filter(|b| b.incident.0 == n as u64 + 1) {
                        bound.state = *state;
                    }
                }
            }
            Move::Restart => *book = Book::default(),
            Move::Time(secs) => self.secs += secs,
            Move::Work(actions, answer) => {
                for _ in 0..actions {
                    let Some(action) = book.next(self.now()) else { break };
                    self.act(book, action, answer);
                }
            }
        }
    }

    fn act(&mut self, book: &mut Book, action: Action, answer: u8) {
        let now = self.now();
        match action {
            Action::Look { uid, incident } => {
                let followed = book.followed(&uid).unwrap();
                let seen = Seen::of(&self.view(incident), followed, None);
                book.looked(&uid, Some(seen), now.boot);
            }
            Action::Open { uid, ask } => {
                // As gathering does it: the index has the last word.
                if let Some(bound) = self.bound.get(&uid) {
                    assert!(!self.objects.contains_key(&uid), "only one that is gone is asked for twice");
                    let summary = self.view(bound.incident).incident;
                    return book.opened(&uid, Ok(summary), now.boot);
                }
                *self.opened.entry(uid.clone()).or_default() += 1;
                self.incidents.push(IncidentState::Open);
                let incident = IncidentId(self.incidents.len() as u64);
                let resource = ask.ask.resource.clone().unwrap();
                let bound = Bound { resource, incident, state: IncidentState::Open, revision: None };
                self.bound.insert(uid.clone(), bound);
                if answer == 1 {
                    // The collector dies between opening it and knowing that it did.
                    *book = Book::default();
                } else {
                    book.opened(&uid, Ok(self.view(incident).incident), now.boot);
                }
            }
            Action::Write { resource, version, patch } => {
                self.writes += 1;
                let known = self.objects.get(&resource.uid).cloned();
                let wrote = match known {
                    None => Wrote::NotThere,
                    Some(_) if answer == 2 => Wrote::Away(None),
                    Some(_) if answer == 3 => Wrote::Unwanted,
                    Some(object) if object["metadata"]["resourceVersion"] != version => Wrote::Conflict,
                    Some(mut object) => {
                        merge(&mut object["status"], &patch);
                        self.put(&resource.uid, object);
                        let kept = Collection::read(self.objects[&resource.uid].clone()).unwrap();
                        if answer == 1 { Wrote::Away(None) } else { Wrote::Done(Some(Box::new(kept))) }
                    }
                };
                book.wrote(&resource, wrote, now);
            }
            Action::Fetch { resource } => {
                let there = self.objects.values().find(|o| {
                    o["metadata"]["name"] == resource.name && o["metadata"]["namespace"] == resource.namespace
                });
                let wrote = match there {
                    None => Wrote::NotThere,
                    Some(_) if answer == 2 => Wrote::Away(Some(Duration::from_secs(3))),
                    Some(object) => Wrote::Done(Collection::read(object.clone()).map(Box::new)),
                };
                book.fetched(&resource, wrote, now);
            }
            Action::Gone { resource, .. } => {
                let noted = answer != 2;
                if noted {
                    self.gone.insert(resource.uid.clone());
                    self.noted.push(resource.uid.clone());
                }
                book.noted(&resource.uid, noted, now.boot);
            }
        }
    }

    /// Everything answers, and enough time passes: the end of it.
    fn settle(&mut self, book: &mut Book) {
        for _ in 0..8 {
            self.make_a_move(book, Move::List);
            self.make_a_move(book, Move::Index);
            self.make_a_move(book, Move::Proceed);
            for _ in 0..12 {
                self.secs += 61;
                self.make_a_move(book, Move::Work(200, 0));
            }
        }
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
            value => merge(&mut target[name], value),
        }
    }
}

proptest! {
    // Each is a whole life with its end; 2,000 were run once.
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn one_resource_is_one_incident_and_in_the_end_its_status_says_so(moves in moves()) {
        let (mut world, mut book) = (World::default(), Book::default());
        for one in moves {
            world.make_a_move(&mut book, one);
            prop_assert!(world.opened.values().all(|times| *times == 1), "{:?}", world.opened);
        }
        world.settle(&mut book);
        prop_assert!(world.opened.values().all(|times| *times == 1), "{:?}", world.opened);
        for (uid, object) in &world.objects {
            let bound = world.bound.get(uid);
            prop_assert!(bound.is_some(), "nobody opened {}", object);
            let (status, generation) = (&object["status"], &object["metadata"]["generation"]);
            let bound = bound.unwrap();
            prop_assert_eq!(&status["incident"], &json!(bound.incident.to_string()));
            prop_assert_eq!(&status["archive"]["revision"], &json!(bound.revision));
            prop_assert_eq!(&status["observedGeneration"], generation);
            let found = |kind: &str| status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).cloned();
            prop_assert_eq!(&found("Succeeded").unwrap()["status"], "True");
            prop_assert_eq!(found("Followed").is_some(), *generation != json!(bound.resource.generation));
        }
        let gone: Vec<_> = world.bound.keys().filter(|uid| !world.objects.contains_key(*uid)).cloned().collect();
        prop_assert!(gone.iter().all(|uid| world.gone.contains(uid)), "that {:?} were deleted is noted: {:?}", gone, world.noted);
        // And then it is quiet: nothing is written for ever.
        let writes = world.writes;
        world.settle(&mut book);
        prop_assert_eq!(world.writes, writes);
    }
}

/// A book with one resource that is bound to nothing, and its object.
fn begun() -> (World, Book) {
    let (mut world, mut book) = (World::default(), Book::default());
    world.make_a_move(&mut book, Move::Make(0));
    world.make_a_move(&mut book, Move::List);
    (world, book)
}

#[test]
fn nothing_is_opened_before_the_index_has_said_what_is_open() {
    let (mut world, mut book) = begun();
    assert_eq!((book.next(world.now()), book.wakes_at()), (None, None));
    world.make_a_move(&mut book, Move::Index);
    assert!(matches!(book.next(world.now()), Some(Action::Open { .. })));
}

#[test]
fn what_is_refused_for_now_is_asked_later_and_later_and_what_is_refused_for_good_when_it_is_edited() {
    let (mut world, mut book) = begun();
    world.make_a_move(&mut book, Move::Index);
    let mut asked = Vec::new();
    for again in [true, true, true, false] {
        let uid = loop {
            match book.next(world.now()) {
                Some(Action::Open { uid, .. }) => break uid,
                Some(other) => world.act(&mut book, other, 0),
                None => world.secs += 1,
            }
        };
        asked.push(world.secs);
        book.opened(&uid, Err(Known::Refused { why: "w".to_owned(), again }), world.now().boot);
    }
    let waits: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits, [1, 1, 2]);
    for _ in 0..100 {
        while let Some(action) = book.next(world.now()) {
            assert!(!matches!(action, Action::Open { .. }), "it was refused for good");
            world.act(&mut book, action, 0);
        }
        world.secs += 10;
    }
    world.make_a_move(&mut book, Move::Edit(0));
    world.make_a_move(&mut book, Move::Hear(0));
    assert!(matches!(book.next(world.now()), Some(Action::Open { .. })));
}

#[test]
fn figures_alone_are_written_seldom_and_what_is_not_kept_more_and_more_seldom() {
    let (mut world, mut book) = begun();
    world.make_a_move(&mut book, Move::Index);
    world.make_a_move(&mut book, Move::Work(2, 0));
    // A server that takes the status and forgets it.
    let mut written = Vec::new();
    for _ in 0..600 {
        world.secs += 1;
        while let Some(action) = book.next(world.now()) {
            if let Action::Write { resource, .. } = action {
                written.push(world.secs);
                let mut kept = world.objects[&resource.uid].clone();
                kept["status"] = Value::Null;
                book.wrote(&resource, Wrote::Done(Collection::read(kept).map(Box::new)), world.now());
            } else {
                world.act(&mut book, action, 0);
            }
        }
    }
    let waits: Vec<_> = written.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits.len() < 20 && waits.last() == Some(&60), "{waits:?}");
}

#[test]
fn more_resources_than_there_is_room_for_are_left_out_until_there_is() {
    let (world, mut book) = (World::default(), Book::default());
    let named = |n: usize| {
        let metadata =
            json!({"name": format!("c{n}"), "namespace": "a", "uid": format!("u{n}"), "resourceVersion": "1"});
        Collection::read(json!({"metadata": metadata, "spec": {"window": {"since": "1m"}}})).unwrap()
    };
    let now = world.now().boot;
    book.listed((0..MAX_RESOURCES + 3).map(named).collect(), now);
    assert_eq!(book.left_out(), 3);
    book.deleted("u0");
    book.set(named(MAX_RESOURCES + 2), now);
    assert_eq!(book.left_out(), 2);
}
