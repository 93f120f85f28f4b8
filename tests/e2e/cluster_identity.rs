//! Agents in a cluster: whoever has the token that kubelet gives a pod is let in as the node of that pod, nobody else is, and an
//! API server that is away keeps out whoever is new and disturbs nobody else.

use std::path::PathBuf;
use std::time::Duration;

use casefile_agent::uplink::in_cluster::InCluster;
use casefile_collector::Collector;
use casefile_collector::cluster::config::{Access, ClusterConfig};
use casefile_identity::certificate::{Certificate, CertificateError};
use casefile_identity::dial::{Me, dial};
use casefile_proto::identity::{Credential, MAX_FOREIGN_TOKEN};
use casefile_proto::node::Link;
use casefile_tests::apiserver::ApiServer;
use casefile_tests::host::FakeHost;
use casefile_tests::program::{Talking, command, run, said, stdout};
use casefile_tests::{Rig, SOON, now, stop, wait};
use rustix::process::Signal;
use serde_json::json;
use tonic::{Code, Status};

const AUDIENCE: &str = "casefile-collector";
const AGENT: (&str, &str) = ("casefile", "casefile-agent");
const REVIEWS: &str = "tokenreviews";

/// A collector in a cluster with an API server.
struct Cluster {
    rig: Rig,
    server: ApiServer,
    host: FakeHost,
}

impl Cluster {
    async fn start() -> (Self, Collector) {
        let cluster = Self::new().await;
        let collector = cluster.collector().await;
        (cluster, collector)
    }

    async fn new() -> Self {
        let (rig, server) = (Rig::new().unwrap(), ApiServer::start().await.unwrap());
        server.kubeconfig(&rig.path("kubeconfig")).unwrap();
        server.put("configmaps", json!({"metadata": {"namespace": "casefile", "name": "casefile-authority"}}));
        let host = FakeHost::new(rig.path("host")).unwrap();
        std::fs::create_dir_all(rig.path("mounted")).unwrap();
        Self { rig, server, host }
    }

    async fn collector(&self) -> Collector {
        let access = Access::Kubeconfig(self.rig.path("kubeconfig"));
        self.rig.collector_with(|config| config.cluster = Some(ClusterConfig::new(access))).await.unwrap()
    }

    /// A token of the agent's pod on this node, as the API server knows it.
    fn token(&self, token: &str, node: &str, uid: &str) {
        let pod = format!("casefile-agent-{node}");
        self.server.reviews(|r| r.pod_token(token, AGENT, &pod, Some((node, uid)), AUDIENCE));
    }

    /// Where an agent looks for its token and its collector's pin.
    fn files(&self, node: &str) -> InCluster {
        let file = |name: &str| self.rig.path(&format!("mounted/{name}-{node}"));
        InCluster { token: file("token"), pin: file("pin") }
    }

    /// What kubelet does: the token, and the config map once it has a pin, become files.
    fn mount(&self, node: &str, token: &str) -> InCluster {
        let files = self.files(node);
        std::fs::write(&files.token, token).unwrap();
        std::fs::write(&files.pin, self.rig.authority().unwrap().pin().to_string()).unwrap();
        files
    }

    /// The configuration of an agent that is a program of its own.
    fn config(&self, node: &str) -> PathBuf {
        let path = self.rig.agent_config(node, self.host.root()).unwrap();
        let InCluster { token, pin } = self.files(node);
        let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
        let more = format!("service_account_token = {token:?}\ncollector_pin_file = {pin:?}\n");
        std::fs::write(&path, text + &more).unwrap();
        path
    }

    fn agent(&self, node: &str) -> Talking {
        let mut program = command("casefile-agent");
        Talking::start(program.arg("run").arg("--config").arg(self.config(node)), self.rig.path(&format!("{node}.err")))
    }

    /// Asks for a certificate as whoever has this token.
    async fn enrol(&self, token: &str) -> Result<Certificate, Status> {
        let pin = self.rig.authority().unwrap().pin();
        let channel = dial(&self.rig.url().parse().unwrap(), &Me::Nobody(pin), |e| e).await.unwrap();
        match Certificate::enrol(channel, pin, Credential::ServiceAccount(token.to_owned())).await {
            Ok(certificate) => Ok(certificate),
            Err(CertificateError::Refused(status)) => Err(*status),
            Err(other) => panic!("{other}"),
        }
    }

    /// How often the API server was asked about a token since it was last counted.
    fn reviews(&self) -> usize {
        self.server.asked().iter().filter(|asked| asked.path.contains(REVIEWS)).count()
    }

    fn audit(&self) -> String {
        let log = run("casefile-collector", &["audit", "--data", self.rig.path("collector").to_str().unwrap()]);
        assert!(log.status.success(), "{}", said(&log));
        stdout(&log)
    }

    async fn link(&self, node: &str) -> Option<Link> {
        let mut client = self.rig.client().await.unwrap();
        client.nodes().await.unwrap().iter().find(|n| n.node.as_str() == node).map(|n| n.link)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_joins_with_the_token_of_its_pod_as_soon_as_its_files_are_there_and_streams() {
    let (cluster, collector) = Cluster::start().await;
    let before =
        json!({"metadata": {"namespace": "casefile", "name": "casefile-authority"}, "data": {"other": "stays"}});
    let mut agent = cluster.agent("n1");
    agent.until_it_says("there is no token of the service account in");
    cluster.token("a-token-of-n1", "n1", "uid-1");
    let files = cluster.files("n1");
    std::fs::write(&files.token, "a-token-of-n1\n").unwrap();
    agent.until_it_says("does not say yet which collector to trust");
    let told = || async {
        let map = cluster.server.object("configmaps", "casefile", "casefile-authority")?;
        map["data"]["pin"].as_str().map(str::to_owned)
    };
    let pin = wait::until("the pin in the config map", told).await;
    assert_eq!(pin, cluster.rig.authority().unwrap().pin().to_string());
    std::fs::write(&files.pin, pin).unwrap();
    agent.until_it_says("joined node=n1");
    agent.until_it_says("session stands");
    cluster.rig.client().await.unwrap().recorded("n1", Duration::from_secs(1)).await;
    assert_eq!(cluster.reviews(), 1);

    // Whoever starts again has what it kept, and asks nobody.
    let (ended, heard) = agent.stop(Signal::TERM);
    assert!(ended.success() && !heard.contains("a-token-of-n1"), "{heard}");
    let mut again = cluster.agent("n1");
    again.until_it_says("session stands");
    assert!(!again.said().contains("joined") && cluster.reviews() == 0, "{}", again.said());

    // One that was revoked, and one that has ended while the node was off: it comes back by itself.
    let data = cluster.rig.path("collector").to_str().unwrap().to_owned();
    assert!(run("casefile-collector", &["node", "revoke", "n1", "--data", &data]).status.success());
    again.until_it_says("joined node=n1");
    again.stop(Signal::TERM);
    let kept = cluster.rig.path("agent-n1/identity.json");
    let authority = cluster.rig.authority().unwrap();
    let old =
        authority.agent(&"n1".parse().unwrap(), now().before(Duration::from_hours(200)), Duration::from_hours(24));
    old.unwrap().save(&kept).unwrap();
    let mut late = cluster.agent("n1");
    late.until_it_says("joined node=n1");
    late.until_it_says("session stands");
    late.stop(Signal::TERM);

    let audit = cluster.audit();
    assert!(
        audit.contains("node n1") && audit.contains("service account casefile/casefile-agent, pod casefile-agent-n1")
    );
    assert!(!audit.contains("a-token-of-n1"), "{audit}");

    // A collector that starts again finds its pin there, and writes nothing; one that finds nothing leaves what else there is.
    stop(collector).await;
    cluster.server.asked();
    let collector = cluster.collector().await;
    let looked =
        || async { cluster.server.asked().into_iter().find(|asked| asked.path.contains("casefile-authority")) };
    assert_eq!(wait::until("a look at the config map", looked).await.method, "GET");
    stop(collector).await;
    cluster.server.put("configmaps", before);
    let collector = cluster.collector().await;
    wait::until("the pin in the config map", told).await;
    let map = cluster.server.object("configmaps", "casefile", "casefile-authority").unwrap();
    assert_eq!(map["data"]["other"], "stays");
    let patches = cluster.server.asked().iter().filter(|asked| asked.method == "PATCH").count();
    assert_eq!(patches, 1, "and nothing was written when it stood there already");
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pin_is_written_as_soon_as_there_is_an_api_server_and_a_config_map() {
    let cluster = Cluster::new().await;
    let (server, map) = (&cluster.server, "casefile-authority");
    server.set_mood(|mood| mood.down = true);
    server.delete("configmaps", "casefile", map);
    let collector = cluster.collector().await;
    server.set_mood(|mood| mood.down = false);
    let looked = || async { server.asked().into_iter().find(|asked| asked.path.contains(map)) };
    wait::until("a look at the config map", looked).await;
    let other = json!({"pin": "0".repeat(64)});
    server.put("configmaps", json!({"metadata": {"namespace": "casefile", "name": map}, "data": other}));
    let pin = cluster.rig.authority().unwrap().pin().to_string();
    let told = || async { (server.object("configmaps", "casefile", map)?["data"]["pin"] == *pin).then_some(()) };
    wait::until("the pin in the config map", told).await;
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_an_agents_is_refused_and_a_stranger_does_not_learn_why() {
    let (cluster, collector) = Cluster::start().await;
    cluster.server.reviews(|r| {
        r.pod_token("expired", AGENT, "p", Some(("n1", "u")), AUDIENCE);
        r.forget("expired");
        r.pod_token("other-audience", AGENT, "p", Some(("n1", "u")), "vault");
        r.pod_token("other-account", ("casefile", "default"), "p", Some(("n1", "u")), AUDIENCE);
        r.pod_token("other-namespace", ("shop", "casefile-agent"), "p", Some(("n1", "u")), AUDIENCE);
        let user = json!({"username": "system:serviceaccount:casefile:casefile-agent", "extra": {}});
        r.token("by-hand", user, &[AUDIENCE]);
        r.token("person", json!({"username": "kim"}), &[AUDIENCE]);
        r.pod_token("gone", AGENT, "no-such-pod", None, AUDIENCE);
    });
    let bad = [
        ("expired", "not taken by the cluster"),
        ("never-was-one", "not taken by the cluster"),
        ("other-audience", "not taken by the cluster"),
        ("other-account", "of another user"),
        ("other-namespace", "of another user"),
        ("person", "of another user"),
        ("by-hand", "bound to no pod"),
        ("gone", "of a pod that is not there"),
    ];
    let mut told = Vec::new();
    for (token, _) in bad {
        let status = cluster.enrol(token).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{token}: {status}");
        told.push(status.message().to_owned());
    }
    told.dedup();
    assert_eq!(told.len(), 1, "all are told the same: {told:?}");
    cluster.reviews();
    assert_eq!(cluster.enrol("expired").await.unwrap_err().message(), told[0]);
    let long = cluster.enrol(&"x".repeat(MAX_FOREIGN_TOKEN + 1)).await.unwrap_err();
    assert_eq!(long.code(), Code::InvalidArgument);
    assert_eq!(cluster.reviews(), 0, "neither what was refused a moment ago nor what is too long is sent anywhere");
    let audit = cluster.audit();
    for (token, why) in bad {
        assert!(audit.contains(&format!("service account token: {why}")) && !audit.contains(token), "{token}: {audit}");
    }
    stop(collector).await;

    // Without a cluster there is nobody to ask.
    let alone = cluster.rig.collector().await.unwrap();
    let status = cluster.enrol("never-was-one").await.unwrap_err();
    assert!(status.code() == Code::Unauthenticated && status.message().contains("no [cluster]"), "{status}");
    stop(alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_answer_plainly_lets_nobody_in_and_is_asked_again() {
    let (cluster, collector) = Cluster::start().await;
    cluster.token("good", "n1", "uid-1");
    let server = &cluster.server;
    let user = json!({"username": "system:serviceaccount:casefile:casefile-agent"});
    let yes = json!({"kind": "TokenReview", "status": {"authenticated": true, "user": user}});
    let instead = |text: &str| vec![(REVIEWS.to_owned(), text.to_owned())];
    for (what, status, failing) in [("fails", Code::Unavailable, 500), ("forbids", Code::Unavailable, 403)] {
        server.set_mood(|mood| mood.failing = vec![(REVIEWS.to_owned(), failing)]);
        let refused = cluster.enrol("good").await.unwrap_err();
        assert_eq!(refused.code(), status, "{what}: {refused}");
        assert!(refused.message().contains("API server does not say"), "{refused}");
    }
    for garbage in
        ["<html>login</html>", "{}", "null", "{\"kind\":\"Status\"}", "{\"kind\":\"TokenReview\",\"status\":[]}"]
    {
        server.set_mood(|mood| (mood.failing, mood.instead) = (vec![], instead(garbage)));
        assert_eq!(cluster.enrol("good").await.unwrap_err().code(), Code::Unavailable, "{garbage}");
    }
    server.set_mood(|mood| (mood.instead, mood.delay) = (vec![], SOON));
    assert_eq!(cluster.enrol("good").await.unwrap_err().code(), Code::Unavailable, "slow");
    server.set_mood(|mood| (mood.delay, mood.down) = (Duration::ZERO, true));
    assert_eq!(cluster.enrol("good").await.unwrap_err().code(), Code::Unavailable, "down");
    server.set_mood(|mood| mood.down = false);
    // None of that was remembered, and none was held against whoever asked.
    for _ in 0..40 {
        assert_eq!(cluster.enrol("good").await.unwrap().node().as_str(), "n1");
    }
    // A server that does not know audiences says yes to a token for anybody.
    server.set_mood(|mood| mood.instead = instead(&yes.to_string()));
    assert_eq!(cluster.enrol("for-others").await.unwrap_err().code(), Code::Unauthenticated);
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_down_sessions_live_and_new_agents_wait_until_it_is_back() {
    let (cluster, collector) = Cluster::start().await;
    cluster.token("token-1", "n1", "uid-1");
    cluster.token("token-2", "n2", "uid-2");
    let one = cluster.rig.agent_in_cluster("n1", cluster.host.root(), cluster.mount("n1", "token-1")).unwrap();
    let client = cluster.rig.client().await.unwrap();
    let held = client.recorded("n1", Duration::from_millis(500)).await.last_words.unwrap();
    cluster.server.set_mood(|mood| mood.down = true);
    cluster.mount("n2", "token-2");
    let mut two = cluster.agent("n2");
    two.until_it_says("API server does not say who this is");
    let more = held.duration() + Duration::from_secs(2);
    client.recorded("n1", more).await;
    assert_eq!((cluster.link("n1").await, cluster.link("n2").await), (Some(Link::Connected), None));
    assert!(cluster.rig.ring("n2").exists(), "it records meanwhile");
    cluster.server.set_mood(|mood| mood.down = false);
    two.until_it_says("joined node=n2");
    client.recorded("n2", Duration::from_millis(500)).await;
    two.stop(Signal::TERM);
    one.stop().await;
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_an_older_cluster_the_pod_says_on_which_node_it_is_and_another_pod_of_the_name_does_not() {
    let (cluster, collector) = Cluster::start().await;
    let pod = |uid: &str, node: &str, account: &str| {
        json!({"metadata": {"namespace": "casefile", "name": "agent-x", "uid": uid},
            "spec": {"nodeName": node, "serviceAccountName": account}})
    };
    let server = &cluster.server;
    server.reviews(|r| r.pod_token("old", AGENT, "agent-x", None, AUDIENCE));
    server.put("pods", pod("uid-of-agent-x", "n7", "casefile-agent"));
    assert_eq!(cluster.enrol("old").await.unwrap().node().as_str(), "n7");
    for (token, lying) in [
        ("lie-1", pod("another-uid", "n7", "casefile-agent")),
        ("lie-2", pod("uid-of-agent-x", "", "casefile-agent")),
        ("lie-3", pod("uid-of-agent-x", "n7", "default")),
    ] {
        server.reviews(|r| r.pod_token(token, AGENT, "agent-x", None, AUDIENCE));
        server.put("pods", lying);
        assert_eq!(cluster.enrol(token).await.unwrap_err().code(), Code::Unauthenticated, "{token}");
    }
    assert!(cluster.audit().contains("of a pod that is another one now"));
    server.set_mood(|mood| mood.failing = vec![("/pods/".to_owned(), 500)]);
    assert_eq!(cluster.enrol("old").await.unwrap_err().code(), Code::Unavailable);
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_made_anew_under_its_name_takes_the_place_of_the_one_before() {
    let (cluster, collector) = Cluster::start().await;
    cluster.token("token-of-old", "n1", "uid-old");
    cluster.token("token-of-new", "n1", "uid-new");
    let mut old = cluster.agent("n1");
    cluster.mount("n1", "token-of-old");
    old.until_it_says("session stands");
    // The pod of the old machine is gone, and so is its token; the machine still runs.
    cluster.server.reviews(|r| r.forget("token-of-old"));
    cluster.enrol("token-of-new").await.unwrap();
    old.until_it_says("the certificate of node n1 was revoked");
    old.until_it_says("does not prove an agent of this collector");
    cluster.enrol("token-of-new").await.unwrap();
    let audit = cluster.audit();
    let noticed = "another node of this name, uid-new, is in the place of uid-old";
    assert_eq!(audit.matches(noticed).count(), 1, "{audit}");
    old.stop(Signal::TERM);
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_whose_data_was_lost_is_believed_when_the_cluster_names_its_new_authority_and_not_before() {
    let (cluster, collector) = Cluster::start().await;
    cluster.token("token-1", "n1", "uid-1");
    let lost = Rig::new().unwrap();
    let before = lost.authority().unwrap();
    let kept = before.agent(&"n1".parse().unwrap(), now(), Duration::from_hours(24)).unwrap();
    lost.enlist("n1").unwrap();
    std::fs::create_dir_all(cluster.rig.path("agent-n1")).unwrap();
    let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    std::fs::set_permissions(cluster.rig.path("agent-n1"), private).unwrap();
    kept.save(&cluster.rig.path("agent-n1/identity.json")).unwrap();
    let files = cluster.mount("n1", "token-1");
    std::fs::write(&files.pin, before.pin().to_string()).unwrap();
    let mut agent = cluster.agent("n1");
    agent.until_it_says("has another authority than the one that");
    assert_eq!(cluster.reviews(), 0, "a token is shown to nobody who is not known");
    std::fs::write(&files.pin, cluster.rig.authority().unwrap().pin().to_string()).unwrap();
    agent.until_it_says("the cluster names another authority");
    agent.until_it_says("session stands");
    agent.stop(Signal::TERM);
    stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_garbage_tokens_is_no_flood_of_reviews() {
    let (cluster, collector) = Cluster::start().await;
    let begun = std::time::Instant::now();
    cluster.server.set_mood(|mood| mood.delay = Duration::from_millis(20));
    let pin = cluster.rig.authority().unwrap().pin();
    let channel = dial(&cluster.rig.url().parse().unwrap(), &Me::Nobody(pin), |e| e).await.unwrap();
    let mut flood = tokio::task::JoinSet::new();
    for n in 0..600 {
        let channel = channel.clone();
        flood.spawn(async move {
            // The same few again and again, and others.
            let token = format!("garbage-{}", if n % 2 == 0 { n % 8 } else { n });
            Certificate::enrol(channel, pin, Credential::ServiceAccount(token)).await.map(drop).unwrap_err().to_string()
        });
    }
    let answers = flood.join_all().await;
    let reviews = cluster.reviews();
    // Sixteen, and one more a second.
    let most = 17 + usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!((1..=most).contains(&reviews), "{reviews} reviews of 600 tokens, {most} may be");
    assert!(answers.iter().any(|text| text.contains("too many tokens")), "{:?}", answers.first());
    stop(collector).await;
}
