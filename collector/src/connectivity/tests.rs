//! Tests of fleets that answer, fall silent, go away, or say what was not asked.

use std::path::PathBuf;
use std::time::Duration;

use casefile_proto::connectivity::steps::{Connect, Resolve, Steps, Went};
use casefile_proto::ids::{IncidentId, RequestId};
use casefile_proto::node::{Link, NodeStatus};
use casefile_proto::session::CollectionAsk;
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;
use tokio::sync::oneshot;

use super::targets::Written;
use super::*;
use crate::incident::fleet::Wait;
use crate::incident::test_rig::clock;
use crate::ingest::AskError;
use crate::last_words::LastWordsError;

/// What a node does when it is asked.
enum Does {
    Says(NodeOutcome),
    Nothing,
    Leaves,
    Refuses(UntestedReason),
}

/// Nodes that do what they are told to.
struct Script {
    nodes: BTreeMap<NodeName, Does>,
    asked: Mutex<Vec<ConnectivityAsk>>,
    silent: Mutex<Vec<oneshot::Sender<NodeOutcome>>>,
}

impl Fleet for Script {
    fn nodes(&self) -> Vec<NodeStatus> {
        let status = |node: &NodeName| NodeStatus {
            node: node.clone(),
            link: Link::Connected,
            boot: None,
            agent_version: None,
            last_frame: None,
            clock: None,
            last_words: None,
            last_words_bytes: Bytes(0),
            troubles: vec![],
        };
        self.nodes.keys().map(status).collect()
    }

    fn test(&self, node: &NodeName, ask: ConnectivityAsk) -> Result<oneshot::Receiver<NodeOutcome>, UntestedReason> {
        self.asked.lock().unwrap().push(ask);
        let (tell, told) = oneshot::channel();
        match &self.nodes[node] {
            Does::Says(outcome) => tell.send(outcome.clone()).unwrap(),
            Does::Nothing => self.silent.lock().unwrap().push(tell),
            Does::Leaves => drop(tell),
            Does::Refuses(reason) => return Err(*reason),
        }
        Ok(told)
    }

    fn ask<'a>(&'a self, _: &'a NodeName, _: CollectionAsk, _: PathBuf) -> Wait<'a, Result<(), AskError>> {
        unreachable!("nothing is collected")
    }

    fn cancel<'a>(&'a self, _: &'a NodeName, _: RequestId) -> Wait<'a, ()> {
        unreachable!("nothing is collected")
    }

    fn pin<'a>(&'a self, _: &'a NodeName, _: IncidentId, _: WallTime) -> Wait<'a, Result<(), LastWordsError>> {
        unreachable!("nothing is collected")
    }

    fn unpin<'a>(&'a self, _: &'a NodeName, _: IncidentId) -> Wait<'a, Result<(), LastWordsError>> {
        unreachable!("nothing is collected")
    }

    fn last_words(&self, _: &NodeName) -> Option<PathBuf> {
        None
    }
}

fn reaches(has_connect: bool) -> NodeOutcome {
    let ok = || Went::Ok { took_nanos: 7, detail: String::new() };
    NodeOutcome::Tested(Box::new(Steps {
        resolve: Resolve { went: ok(), addresses: vec![] },
        connect: has_connect.then(|| Connect { went: ok(), address: None }),
        tls: None,
        http: None,
    }))
}

struct Bench {
    script: Arc<Script>,
    dir: tempfile::TempDir,
    connectivity: Connectivity,
}

fn bench(nodes: Vec<(&str, Does)>) -> Bench {
    let nodes = nodes.into_iter().map(|(node, does)| (node.parse().unwrap(), does)).collect();
    let script = Arc::new(Script { nodes, asked: Mutex::default(), silent: Mutex::default() });
    let dir = tempfile::tempdir().unwrap();
    let written: Vec<Written> = serde_json::from_str(r#"[{"name": "api", "url": "tcp://api.shop.svc:80"}]"#).unwrap();
    let targets = Targets::new(written).unwrap();
    let kept = Kept::open(&dir.path().join("kept.jsonl")).unwrap();
    let connectivity = Connectivity::new(targets, Arc::clone(&script) as _, kept, clock(Arc::default()));
    Bench { script, dir, connectivity }
}

fn ask(target: &str, nodes: &[&str], deadline: Option<Duration>) -> TestAsk {
    TestAsk { target: target.to_owned(), nodes: nodes.iter().map(|n| n.parse().unwrap()).collect(), deadline }
}

impl Bench {
    async fn test(&self, ask: TestAsk) -> ConnectivityTest {
        let made = self.connectivity.test(self.connectivity.plan(ask).unwrap(), "kim".to_owned()).await.unwrap();
        assert_eq!(made.not_kept, None);
        made.test
    }

    fn kept(&self) -> String {
        let all = Window::new(WallTime::MIN, WallTime::MAX).unwrap();
        String::from_utf8(kept::within(&self.dir.path().join("kept.jsonl"), all).unwrap()).unwrap()
    }
}

#[tokio::test]
async fn only_what_is_listed_is_asked_and_of_nodes_that_are_known() {
    let bench = bench(vec![("a", Does::Says(reaches(true)))]);
    let refused = |target: &str, nodes: &[&str]| bench.connectivity.plan(ask(target, nodes, None)).unwrap_err();
    for target in ["tcp://169.254.169.254:80", "tcp://api.shop.svc:81", "http://api.shop.svc:80/", "other"] {
        assert!(matches!(refused(target, &[]), NotBegun::Unlisted(why) if why.ends_with(": api")), "{target}");
    }
    assert_eq!(refused("api", &["a", "b", "c"]), NotBegun::NoNode("b, c".to_owned()));
    assert_eq!(self::bench(vec![]).connectivity.plan(ask("api", &[], None)).unwrap_err(), NotBegun::NoNodes);
    assert!(bench.script.asked.lock().unwrap().is_empty() && bench.kept().is_empty(), "nobody was asked");
    let planned = bench.connectivity.plan(ask("tcp://API.shop.svc:80", &["a", "a"], None)).unwrap();
    assert_eq!(planned.told(), "api tcp://api.shop.svc:80 from 1 nodes");
}

#[tokio::test]
async fn every_node_has_its_row_whatever_it_does_and_all_is_kept() {
    let bench = bench(vec![
        ("a", Does::Says(reaches(true))),
        ("b", Does::Nothing),
        ("c", Does::Leaves),
        ("d", Does::Refuses(UntestedReason::SwitchedOff)),
        // It leaves out the step that matters.
        ("e", Does::Says(reaches(false))),
    ]);
    let test = bench.test(ask("api", &[], Some(Duration::from_millis(3)))).await;
    let rows: Vec<_> = test
        .nodes
        .iter()
        .map(|row| match &row.outcome {
            NodeOutcome::Tested(_) => (row.node.as_str(), None),
            NodeOutcome::Untested(untested) => (row.node.as_str(), Some(untested.reason)),
        })
        .collect();
    assert_eq!(
        rows,
        [
            ("a", None),
            ("b", Some(UntestedReason::NoAnswer)),
            ("c", Some(UntestedReason::Disconnected)),
            ("d", Some(UntestedReason::SwitchedOff)),
            ("e", Some(UntestedReason::NoAnswer)),
        ]
    );
    let asked = bench.script.asked.lock().unwrap();
    assert!(asked.len() == 5 && asked.iter().all(|ask| ask.test == asked[0].test));
    assert!(asked.iter().all(|ask| ask.deadline == Duration::from_millis(3) && ask.target == test.target));
    let kept = bench.kept();
    assert_eq!(kept.lines().count(), 5);
    assert!(kept.lines().all(|line| line.contains("\"of\":5") && line.contains("\"asked_by\":\"kim\"")), "{kept}");
}

#[tokio::test]
async fn no_two_tests_have_the_same_time_and_there_are_only_so_many_at_once() {
    let bench = bench(vec![("a", Does::Says(reaches(true)))]);
    let first = bench.test(ask("api", &[], None)).await;
    let second = bench.test(ask("api", &[], None)).await;
    assert!(second.at > first.at);
    let bench = self::bench(vec![("a", Does::Nothing)]);
    let planned = bench.connectivity.plan(ask("api", &[], None)).unwrap();
    let begin = || Box::pin(bench.connectivity.test(planned.clone(), "kim".to_owned()));
    let mut running: Vec<_> = (0..AT_A_TIME).map(|_| begin()).collect();
    for test in &mut running {
        assert!(tokio::time::timeout(Duration::from_millis(1), test).await.is_err());
    }
    assert_eq!(begin().await.unwrap_err(), NotBegun::TooMany);
    // Whoever asked goes, and what was found is kept all the same.
    drop(running);
    let waiting: Vec<_> = std::mem::take(&mut *bench.script.silent.lock().unwrap());
    waiting.into_iter().for_each(|tell| tell.send(reaches(true)).unwrap());
    while bench.kept().lines().count() < AT_A_TIME {
        tokio::task::yield_now().await;
    }
}
