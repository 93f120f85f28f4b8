//! Tests of connectivity from real agents, one of them a program in its sandbox, to servers on loopback: what is not listed is
//! refused, a node is told from a target, and what was found is evidence in the archive.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use casefile_agent::connectivity::{Allowed, Reach};
use casefile_collector::config::Config;
use casefile_identity::stranger::Strangers;
use casefile_proto::connectivity::steps::{Failure, Step, Trust};
use casefile_proto::connectivity::{Blame, ConnectivityTest, Judged, NodeOutcome, UntestedReason};
use casefile_proto::time::Window;
use casefile_tests::address::free_address;
use casefile_tests::host::FakeHost;
use casefile_tests::program::{Talking, command, run, said, stdout};
use casefile_tests::{Rig, now, stop, wait};
use rustix::process::Signal;
use serde_json::json;

/// A web server on a thread of its own; every answer by its number.
fn web(answer: impl Fn(usize) -> &'static str + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let asked = AtomicUsize::new(0);
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            // Whoever connects and says nothing only looks whether somebody is there.
            if stream.read(&mut request).unwrap_or(0) > 0 {
                let status = answer(asked.fetch_add(1, Ordering::Relaxed));
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    at
}

async fn casefile(args: &[&str]) -> Output {
    let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    tokio::task::spawn_blocking(move || run("casefile", &args.iter().map(String::as_str).collect::<Vec<_>>()))
        .await
        .unwrap()
}

/// Where a node failed, or why it was not tested.
type Saw = Result<Option<(Step, Failure)>, UntestedReason>;

/// What each node saw.
fn seen(test: &ConnectivityTest) -> Vec<(&str, Saw)> {
    let row = |outcome: &NodeOutcome| match outcome {
        NodeOutcome::Tested(steps) => Ok(steps.failed()),
        NodeOutcome::Untested(untested) => Err(untested.reason),
    };
    test.nodes.iter().map(|result| (result.node.as_str(), row(&result.outcome))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_from_a_target_and_what_was_found_is_in_the_archive() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let (good, odd) = (web(|_| "204 No Content"), web(|n| if n == 0 { "503 Busy" } else { "200 OK" }));
    let closed = free_address().unwrap();
    let list = format!(
        "targets = [{{name = \"web\", url = \"http://localhost:{}/healthz\"}}, {{name = \"orders\", url = \"http://{odd}\"}}, \
         {{name = \"db\", url = \"tcp://{closed}\"}}, {{name = \"own\", url = \"tls://{}\"}}]",
        good.port(),
        rig.listen()
    );
    let targets = Config::parse(&list).unwrap_or_else(|problems| panic!("{problems:?}")).targets;
    let began = now();
    let collector = rig.collector_with(|config| config.targets = targets).await.unwrap();
    let allowed = || Some(Allowed { reach: Reach::LoopbackToo, strangers: Strangers::unknown() });
    let mut agents = Vec::new();
    for node in ["n1", "n2"] {
        agents.push(rig.agent_with(node, host.root(), |config| config.connectivity = allowed()).unwrap());
    }
    agents.push(rig.agent("n4", host.root()).unwrap());
    // A program as a node runs it: its sandbox is as whole as this kernel lets it be.
    rig.enlist("n3").unwrap();
    let file = rig.agent_config("n3", host.root()).unwrap();
    let mut text = fs::read(&file).unwrap();
    text.extend(b"test_connectivity = true\nconnectivity_loopback = true\n");
    fs::write(&file, text).unwrap();
    let mut program = command("casefile-agent");
    let program = Talking::start(program.args(["run", "--config"]).arg(file), rig.path("said"));
    let mut client = rig.client().await.unwrap();
    for node in ["n1", "n2", "n3", "n4"] {
        client.recorded(node, Duration::ZERO).await;
    }

    let data = rig.path("collector");
    let data = data.to_str().unwrap();
    let test = async |target: &str| {
        let tested = casefile(&["test-connectivity", "--data", data, "--target", target, "-o", "json"]).await;
        let judged: Judged =
            serde_json::from_slice(&tested.stdout).unwrap_or_else(|e| panic!("{target}: {e}: {}", said(&tested)));
        (judged, tested.status.code())
    };
    let off = ("n4", Err(UntestedReason::SwitchedOff));

    // Not listed: nobody is asked, and it is written down.
    for target in ["http://169.254.169.254/", &format!("http://{good}/healthz"), "tcp://127.0.0.1:22"] {
        let refused = casefile(&["test-connectivity", "--data", data, "--target", target]).await;
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("is not among the targets of the collector: web, orders, db, own"));
    }
    // A part of the target answers with an error: the first that asks gets it.
    let (odd, code) = test("orders").await;
    assert_eq!((odd.verdict.blame, odd.verdict.step, code), (Blame::Target, Some(Step::Http), Some(3)));
    assert_eq!(odd.verdict.nodes.len(), 1, "{odd:?}");
    assert!(odd.verdict.sentence.contains("their way to it is good"), "{odd:?}");
    // All is well, as far as can be told.
    let (good, code) = test("web").await;
    assert_eq!(seen(&good.test), [("n1", Ok(None)), ("n2", Ok(None)), ("n3", Ok(None)), off], "{}", program.said());
    assert_eq!((good.verdict.blame, code), (Blame::Nobody, Some(5)));
    // Nobody listens: the target.
    let (down, code) = test("db").await;
    let refused = Ok(Some((Step::Connect, Failure::Refused)));
    assert_eq!(seen(&down.test), [("n1", refused), ("n2", refused), ("n3", refused), off], "{}", program.said());
    assert_eq!((down.verdict.blame, down.verdict.step, code), (Blame::Target, Some(Step::Connect), Some(3)));
    // A certificate of another name: the collector's own.
    let (own, code) = test("own").await;
    let wrong = Ok(Some((Step::Tls, Failure::Certificate)));
    assert_eq!(seen(&own.test), [("n1", wrong), ("n2", wrong), ("n3", wrong), off], "{}", program.said());
    assert_eq!((own.verdict.blame, code), (Blame::Target, Some(3)));
    let NodeOutcome::Tested(steps) = &own.test.nodes[2].outcome else { panic!("{own:?}") };
    let shown = steps.tls.as_ref().unwrap().shown.as_ref().unwrap();
    assert_eq!((shown.version.as_str(), shown.name_fits, shown.trust), ("TLSv1.3", false, Trust::NotChecked));
    assert_eq!(shown.alpn.as_deref(), Some("h2"));

    // An agent takes on so much and no more: then it says so, until it has rested.
    wait::until("a test that is too much", async || {
        let (judged, _) = test("db").await;
        seen(&judged.test).contains(&("n1", Err(UntestedReason::Busy))).then_some(())
    })
    .await;
    wait::until("a table of a test that is fine", async || {
        let fine = casefile(&["test-connectivity", "--data", data, "--target", "web", "--node", "n1"]).await;
        let text = stdout(&fine);
        (fine.status.code() == Some(0))
            .then(|| assert!(text.ends_with("\nWeb is reached by the one node that was tested.\n"), "{text}"))
    })
    .await;

    let window = Window::new(began, now()).unwrap();
    let opened = client.open(window, &["n1"], Duration::from_secs(50)).await.unwrap();
    let sealed = client.sealed(opened.id).await.unwrap();
    let path = rig.path("case.tar.gz");
    client.download(sealed.incident.id, &path).await.unwrap();
    let path = path.to_str().unwrap();
    let verified = casefile(&["verify", path]).await;
    assert!(matches!(verified.status.code(), Some(0)), "{}", said(&verified));
    let kept = casefile(&["test-connectivity", path, "-o", "json"]).await;
    assert_eq!(kept.status.code(), Some(3), "{}", said(&kept));
    let kept: Vec<Judged> = serde_json::from_slice(&kept.stdout).unwrap();
    assert_eq!(
        kept[..4].iter().map(|judged| &judged.test).collect::<Vec<_>>(),
        [&odd.test, &good.test, &down.test, &own.test]
    );
    assert_eq!(kept[3].verdict, own.verdict, "by the same rules it is the same");
    let of_one = casefile(&["test-connectivity", path, "--target", "own"]).await;
    let text = stdout(&of_one);
    assert!(text.contains("n4") && text.contains("CERTIFICATE (") && text.contains("The fault is with own"), "{text}");
    let none = casefile(&["test-connectivity", path, "--target", "other"]).await;
    assert_eq!(none.status.code(), Some(5), "{}", said(&none));
    let timeline = stdout(&casefile(&["timeline", path, "-o", "jsonl"]).await);
    let rows = timeline.lines().filter(|line| line.contains("\"timestamp_desc\":\"connectivity\"")).count();
    assert_eq!(rows, kept.len(), "{timeline}");
    let report = stdout(&casefile(&["cat", path, "data/report.html"]).await);
    assert!(report.contains("owner tested own (tls://"), "the report shows them");

    let log = stdout(&run("casefile-collector", &["audit", "--data", data, "--json"]));
    let denied: Vec<_> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["verb"] == "test-connectivity" && line["outcome"] == "denied")
        .collect();
    assert_eq!(denied.len(), 3, "{log}");
    assert!(denied.iter().all(|line| line["who"] == "owner" && line["times"] == json!(null)), "{denied:?}");

    let (status, told) = tokio::task::spawn_blocking(move || program.stop(Signal::TERM)).await.unwrap();
    assert!(status.success(), "{told}");
    for agent in agents {
        agent.stop().await;
    }
    stop(collector).await;
}
