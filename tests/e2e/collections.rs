//! Resources of the kind `Collection`: applied, they become a case file and say so; edited, deleted, unheard of or repeated,
//! they are one incident all the same.

use std::time::Duration;

use casefile_agent::Agent;
use casefile_collector::Collector;
use casefile_collector::cluster::config::{Access, ClusterConfig};
use casefile_proto::incident::{IncidentState, Trigger};
use casefile_review::casefile::CaseFile;
use casefile_tests::apiserver::ApiServer;
use casefile_tests::program::{run, stdout};
use casefile_tests::{Rig, host::FakeHost, scrape, stop, wait};
use serde_json::{Value, json};

const KIND: (&str, &str, &str) = ("casefile.dev/v1alpha1", "collections", "Collection");

/// An API server with the kind, a collector that follows it, and a node of which something is recorded.
struct Scene {
    rig: Rig,
    server: ApiServer,
    _host: FakeHost,
    agent: Agent,
}

impl Scene {
    async fn begin() -> (Self, Collector) {
        let (rig, server) = (Rig::new().unwrap(), ApiServer::start().await.unwrap());
        server.serve(KIND.0, KIND.1, KIND.2);
        server.kubeconfig(&rig.path("kubeconfig")).unwrap();
        let host = FakeHost::new(rig.path("host")).unwrap();
        let agent = rig.agent("n1", host.root()).unwrap();
        let scene = Self { rig, server, _host: host, agent };
        let collector = scene.collector().await;
        scene.rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
        (scene, collector)
    }

    async fn collector(&self) -> Collector {
        let access = Access::Kubeconfig(self.rig.path("kubeconfig"));
        self.rig.collector_with(|config| config.cluster = Some(ClusterConfig::new(access))).await.unwrap()
    }

    fn apply(&self, name: &str, spec: Value) {
        self.server.put("collections", json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}));
    }

    fn get(&self, name: &str) -> Value {
        self.server.object("collections", "shop", name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// Waits until a condition of it has this status, as `kubectl wait` does; the whole object.
    async fn until(&self, name: &str, kind: &str, status: &str) -> Value {
        wait::until(&format!("{kind}={status} of {name}"), async || {
            let object = self.get(name);
            (condition(&object, kind)["status"] == status).then_some(object)
        })
        .await
    }

    /// Every incident of the collector, newest first.
    async fn incidents(&self) -> Vec<casefile_proto::incident::IncidentSummary> {
        self.rig.client().await.unwrap().list().await.unwrap()
    }

    fn audited(&self) -> String {
        let data = self.rig.path("collector");
        stdout(&run("casefile-collector", &["audit", "--data", data.to_str().unwrap()]))
    }

    async fn end(self, collector: Collector) {
        self.agent.stop().await;
        stop(collector).await;
    }
}

fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    conditions.and_then(|all| all.iter().find(|c| c["type"] == kind)).cloned().unwrap_or_default()
}

fn window() -> Value {
    json!({"window": {"since": "30s"}, "severity": "sev2", "reason": "slow checkout"})
}

/// A window that ends some time from now, so that the incident stays open for that long.
fn ending_in(seconds: u64) -> Value {
    let now = casefile_tests::now();
    let (from, until) = (now.before(Duration::from_secs(5)), now.after(Duration::from_secs(seconds)));
    json!({"window": {"from": from.to_string(), "until": until.to_string()}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_applied_becomes_a_case_file_whose_digest_it_tells() {
    let (scene, collector) = Scene::begin().await;
    scene.apply("slow", window());
    let object = scene.until("slow", "Succeeded", "True").await;
    assert_eq!(condition(&object, "Accepted")["status"], "True", "{object:#}");
    let (status, archive) = (&object["status"], &object["status"]["archive"]);
    let file = scene.rig.path("collector").join("archives").join(archive["fileName"].as_str().unwrap());
    let bytes = std::fs::read(&file).unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(&bytes);
    assert_eq!(archive["sha256"], digest.iter().map(|b| format!("{b:02x}")).collect::<String>());
    assert_eq!((&archive["bytes"], &archive["revision"]), (&json!(bytes.len()), &json!(1)));
    assert_eq!((&status["nodes"]["summary"], &status["observedGeneration"]), (&json!("1/1"), &json!(1)));
    assert!(status["window"]["summary"].as_str().unwrap().ends_with("Z+30s"), "{status:#}");
    assert!(status["findings"]["fatal"].is_u64(), "{status:#}");

    let incidents = scene.incidents().await;
    let [incident] = &incidents[..] else { panic!("{incidents:#?}") };
    assert_eq!(status["incident"], incident.id.to_string());
    wait::until("the figure of it", async || {
        let all = tokio::task::block_in_place(|| scrape::metrics(collector.observed_at().unwrap()));
        (all.of("casefile_collections{phase=\"sealed\"}") == 1.0).then_some(())
    })
    .await;
    let casefile = CaseFile::open(&file).unwrap();
    let resource = casefile.incident.resource.clone().unwrap();
    assert_eq!(resource.uid, object["metadata"]["uid"].as_str().unwrap());
    assert_eq!((resource.to_string().as_str(), casefile.incident.trigger), ("shop/slow", Trigger::Resource));
    assert_eq!(casefile.incident.requested_by, "collection shop/slow");
    assert_eq!(
        (casefile.incident.reason.as_str(), incident.ask.severity.to_string().as_str()),
        ("slow checkout", "SEV2")
    );
    let audited = scene.audited();
    let lines: Vec<_> = audited.lines().filter(|line| line.contains("open-incident")).collect();
    assert!(lines.len() == 1 && lines[0].contains("collection shop/slow"), "{audited}");
    scene.end(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_one_is_told_everything_that_is_wrong_and_one_that_is_refused_why_until_it_is_edited() {
    let (scene, collector) = Scene::begin().await;
    scene.apply("wrong", json!({"window": {"since": "soon"}, "deadline": "x", "service": "api"}));
    let object = scene.until("wrong", "Accepted", "False").await;
    assert_eq!(condition(&object, "Accepted")["reason"], "Invalid");
    for what in ["spec.window.since", "spec.deadline", "spec.service: this collector does not know it"] {
        assert!(condition(&object, "Accepted")["message"].as_str().unwrap().contains(what), "{object:#}");
    }
    scene.apply("typo", json!({"window": {"since": "30s"}, "nodes": ["n2"]}));
    let object = scene.until("typo", "Accepted", "False").await;
    assert_eq!(condition(&object, "Succeeded")["reason"], "Refused");
    assert!(condition(&object, "Accepted")["message"].as_str().unwrap().contains("n2: no such node"), "{object:#}");
    assert!(scene.incidents().await.is_empty());
    scene.server.edit("collections", "shop", "typo", |object| object["spec"]["nodes"] = json!(["n1"]));
    let object = scene.until("typo", "Succeeded", "True").await;
    assert_eq!(object["status"]["observedGeneration"], 2);
    assert_eq!(scene.incidents().await.len(), 1);
    scene.end(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_edited_while_it_runs_is_said_not_to_be_followed_and_what_is_deleted_runs_on() {
    let (scene, collector) = Scene::begin().await;
    scene.apply("edited", ending_in(4));
    scene.apply("deleted", json!({"severity": "sev1", "window": ending_in(4)["window"]}));
    scene.until("edited", "Accepted", "True").await;
    let deleted = scene.until("deleted", "Accepted", "True").await;
    let running = deleted["status"]["incident"].as_str().unwrap().to_owned();
    // Against the rules: whoever may do anything to the cluster's storage, or an older definition.
    scene.server.edit("collections", "shop", "edited", |object| object["spec"]["window"] = json!({"since": "2h"}));
    scene.server.delete("collections", "shop", "deleted");
    let object = scene.until("edited", "Followed", "False").await;
    assert_eq!(object["status"]["observedGeneration"], 2);
    assert_eq!(condition(&object, "Followed")["observedGeneration"], 2);
    let object = scene.until("edited", "Succeeded", "True").await;
    assert_eq!(condition(&object, "Succeeded")["observedGeneration"], 1, "it is not of what is asked now: {object:#}");
    let sealed = wait::until("the deleted one's incident", async || {
        let all = scene.incidents().await;
        all.into_iter().find(|i| i.id.to_string() == running && i.state == IncidentState::Sealed)
    })
    .await;
    assert!(sealed.archive.is_some());
    assert_eq!(scene.incidents().await.len(), 2);
    let line =
        |text: &str| text.contains("delete-resource") && text.contains(&running) && text.contains("shop/deleted");
    wait::until("the audit of the deletion", async || scene.audited().lines().any(line).then_some(())).await;
    // Another one of its name is another one.
    scene.apply("deleted", window());
    let object = scene.until("deleted", "Succeeded", "True").await;
    assert_ne!(object["status"]["incident"], running);
    scene.end(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_goes_down_holds_up_nothing_and_is_told_afterwards() {
    let (scene, collector) = Scene::begin().await;
    scene.apply("slow", ending_in(3));
    scene.until("slow", "Accepted", "True").await;
    scene.server.set_mood(|mood| mood.down = true);
    let sealed = async || scene.incidents().await.into_iter().find(|i| i.state == IncidentState::Sealed);
    wait::until("a sealed incident meanwhile", sealed).await;
    assert_ne!(condition(&scene.get("slow"), "Succeeded")["status"], "True");
    scene.server.set_mood(|mood| mood.down = false);
    scene.until("slow", "Succeeded", "True").await;
    assert_eq!(scene.incidents().await.len(), 1);
    scene.end(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_begins_anew_takes_up_every_collection_and_opens_none_twice() {
    let (scene, collector) = Scene::begin().await;
    scene.apply("going", ending_in(8));
    scene.apply("done", window());
    scene.until("done", "Succeeded", "True").await;
    scene.until("going", "Accepted", "True").await;
    stop(collector).await;
    // What it had written is lost; one is deleted and one made while nobody looks.
    for name in ["going", "done"] {
        scene.server.edit("collections", "shop", name, |object| object["status"] = Value::Null);
    }
    scene.apply("new", window());
    let done = scene.get("done");
    scene.server.delete("collections", "shop", "done");
    let collector = scene.collector().await;
    scene.until("going", "Succeeded", "True").await;
    scene.until("new", "Succeeded", "True").await;
    let incidents = scene.incidents().await;
    let uids: std::collections::BTreeSet<_> = incidents.iter().map(|i| i.ask.resource.clone().unwrap().uid).collect();
    assert_eq!((incidents.len(), uids.len()), (3, 3), "{incidents:#?}");
    assert!(uids.contains(done["metadata"]["uid"].as_str().unwrap()));
    let line = |text: &str| text.contains("delete-resource") && text.contains("shop/done");
    wait::until("the audit of the deletion", async || scene.audited().lines().any(line).then_some(())).await;
    scene.end(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_end_are_repeated_or_are_gone_and_writes_that_collide_change_nothing() {
    let (scene, collector) = Scene::begin().await;
    scene.server.set_mood(|mood| (mood.twice, mood.page) = (true, 2));
    // Three who ask for one thing are answered by one incident.
    let shared = ending_in(3);
    for n in 1..=3 {
        scene.apply(&format!("early-{n}"), json!({"window": shared["window"], "severity": format!("sev{n}")}));
    }
    let mut named = std::collections::BTreeSet::new();
    for n in 1..=3 {
        let object = scene.until(&format!("early-{n}"), "Succeeded", "True").await;
        named.insert(object["status"]["incident"].to_string());
    }
    assert_eq!(named.len(), 1, "{named:?}");
    // The version that it stands at is gone, and so is every watch: it lists anew, in pages.
    scene.server.asked();
    scene.apply("between", ending_in(3));
    scene.server.compact();
    scene.server.end_watches();
    scene.until("between", "Accepted", "True").await;
    // Somebody else writes into it all the time.
    for n in 0..20 {
        scene.server.edit("collections", "shop", "between", |object| {
            object["metadata"]["labels"] = json!({"n": n.to_string()});
        });
        tokio::task::yield_now().await;
    }
    scene.until("between", "Succeeded", "True").await;
    assert_eq!(scene.incidents().await.len(), 2);
    // The recorder of the cluster asks as well, for other kinds.
    let mut asked = scene.server.asked();
    asked.retain(|a| a.path.contains("/collections"));
    let watches = asked.iter().filter(|a| a.query.contains("watch=")).count();
    assert!(watches < 12, "{watches} watches are a storm");
    assert!(
        asked
            .iter()
            .filter(|a| a.method == "GET" && !a.query.contains("watch="))
            .all(|a| a.query.contains("limit=") || a.path.ends_with("/between"))
    );
    scene.end(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_there_is_looked_for_again_and_one_that_may_not_be_read_is_told_as_a_figure() {
    let (rig, server) = (Rig::new().unwrap(), ApiServer::start().await.unwrap());
    server.kubeconfig(&rig.path("kubeconfig")).unwrap();
    let access = Access::Kubeconfig(rig.path("kubeconfig"));
    let soon = Duration::from_millis(200);
    let said = ClusterConfig { missing_kind: soon, ..ClusterConfig::new(access) };
    let collector = rig.collector_with(|config| config.cluster = Some(said)).await.unwrap();
    let figure = async |state: &str| {
        let series = format!("casefile_collections_watch{{state=\"{state}\"}}");
        let at = collector.observed_at().unwrap();
        let stands = || tokio::task::block_in_place(|| scrape::metrics(at)).get(&series) == Some(1.0);
        wait::until(&series, async || stands().then_some(())).await;
    };
    figure("missing").await;
    server.serve(KIND.0, KIND.1, KIND.2);
    figure("following").await;
    server.set_mood(|mood| mood.failing = vec![("collections".to_owned(), 403)]);
    server.end_watches();
    figure("forbidden").await;
    // No node is known: that is no reason to give it up.
    server.set_mood(|mood| mood.failing = vec![]);
    server.put(
        "collections",
        json!({"metadata": {"name": "early", "namespace": "shop"}, "spec": {"window": {"since": "30s"}}}),
    );
    wait::until("a collection that waits for nodes", async || {
        let object = server.object("collections", "shop", "early")?;
        (condition(&object, "Succeeded")["reason"] == "Waiting").then_some(())
    })
    .await;
    let host = FakeHost::new(rig.path("host")).unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    wait::until("a collection of a node that came", async || {
        let object = server.object("collections", "shop", "early")?;
        (condition(&object, "Succeeded")["status"] == "True").then_some(())
    })
    .await;
    agent.stop().await;
    stop(collector).await;
}
