//! What `deploy/` gives against the programs: configurations are accepted, ports and paths meet, probes are answered, and
//! every figure that an alert or a panel asks for is there. [`pods`] and [`rights`] hold the list of privileges; [`cluster`] what
//! the programs do with them.

mod cluster;
mod manifests;
mod pods;
mod rights;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use casefile_agent::uplink::identity::Join;
use casefile_collector::archives::config::StoreConfig;
use casefile_collector::cluster::authority::PIN;
use casefile_collector::cluster::config::{Access, ClusterConfig};
use casefile_proto::time::Window;
use casefile_tests::apiserver::ApiServer;
use casefile_tests::scrape::{self, Metrics};
use casefile_tests::{Rig, host::FakeHost, now, stop, wait};
use regex::Regex;
use serde_json::{Value, json};

use manifests::{ALL, file, items, name, of_kind, one, rendered, text};

/// The text of a configuration in a ConfigMap of the same name as its program.
fn configuration(objects: &[Value], program: &str) -> String {
    let key = format!("{}.toml", program.strip_prefix("casefile-").unwrap());
    text(&one(objects, "ConfigMap", program)["data"][&key]).to_owned()
}

/// The configuration of an agent on a node, with the files beside it as they are mounted.
fn agent_of(objects: &[Value]) -> casefile_agent::config::Config {
    let mounted = tempfile::tempdir().unwrap();
    for (name, content) in one(objects, "ConfigMap", "casefile-agent")["data"].as_object().unwrap() {
        std::fs::write(mounted.path().join(name), text(content)).unwrap();
    }
    let around = casefile_agent::config::Surroundings { node: Some("n1".to_owned()), hostname: None };
    let here = format!("\"{}/", mounted.path().display());
    let config = configuration(objects, "casefile-agent").replace("\"/etc/casefile/", &here);
    casefile_agent::config::Config::parse(&config, &around).unwrap_or_else(|e| panic!("{e:?}"))
}

/// The configuration of the collector.
fn collector_of(objects: &[Value]) -> casefile_collector::config::Config {
    let config = configuration(objects, "casefile-collector");
    casefile_collector::config::Config::parse(&config).unwrap_or_else(|e| panic!("{e:?}"))
}

/// Where a program's container has something mounted.
fn mounted(container: &Value) -> Vec<&Path> {
    items(&container["volumeMounts"]).iter().map(|mount| Path::new(text(&mount["mountPath"]))).collect()
}

/// The number of a port of a container, by its name.
fn port(container: &Value, name: &str) -> u64 {
    let found = items(&container["ports"]).iter().find(|port| port["name"] == name);
    found.and_then(|port| port["containerPort"].as_u64()).unwrap_or_else(|| panic!("no port {name}"))
}

#[test]
fn the_configurations_are_accepted_by_the_programs_and_what_they_name_is_mounted() {
    for way in ALL {
        let objects = rendered(way);
        let agent = agent_of(&objects);
        assert_eq!(agent.host_root, Path::new("/host"), "{way}");
        let of_agent = &one(&objects, "DaemonSet", "casefile-agent")["spec"]["template"]["spec"]["containers"][0];
        assert!(mounted(of_agent).contains(&agent.data_dir.as_path()), "{way}");
        let Join::Cluster(files) = &agent.collector.as_ref().unwrap().join else { panic!("{way}: asks for a token") };
        for (file, name) in [(&files.token, "token"), (&files.pin, PIN)] {
            assert!(mounted(of_agent).contains(&file.parent().unwrap()), "{way}: {}", file.display());
            assert_eq!(file.file_name().unwrap(), name, "{way}: as the volume has it");
        }
        // A file that is mounted by itself stays what it was when the pod began.
        let mounts = items(&of_agent["volumeMounts"]);
        assert!(mounts.iter().all(|mount| mount.get("subPath").is_none()), "{way}");

        let collector = collector_of(&objects);
        let of_collector =
            &one(&objects, "StatefulSet", "casefile-collector")["spec"]["template"]["spec"]["containers"][0];
        let mounts = mounted(of_collector);
        assert!(mounts.contains(&collector.data_dir.parent().unwrap()), "{way}");
        assert!(mounts.contains(&collector.metrics_token.as_deref().unwrap().parent().unwrap()), "{way}");
        assert!(!collector.http_plain, "{way}: tokens cross the cluster's network");
        let cluster = collector.cluster.as_ref().unwrap();
        assert_eq!(cluster.access, Access::Pod, "{way}: the account with the rights");
        let agents: Vec<_> = cluster.agents.iter().map(ToString::to_string).collect();
        assert_eq!(agents, ["casefile/casefile-agent"], "{way}: see the_collector_alone_has_rights for whose pods");
        if way != "chart-with-other-values" {
            assert_eq!(*cluster, ClusterConfig::new(Access::Pod), "{way}: what it is without a word");
        }

        // One number each, from the program's configuration over the container and the Service to the policies.
        let listens = [
            ("grpc", collector.listen.port()),
            ("http", collector.http.unwrap().port()),
            ("observe", collector.observe.unwrap().port()),
        ];
        for (name, number) in listens {
            assert_eq!(port(of_collector, name), u64::from(number), "{way}: {name}");
        }
        let service = &one(&objects, "Service", "casefile-collector")["spec"]["ports"];
        let offered: Vec<_> = items(service).iter().map(|port| (&port["targetPort"], &port["port"])).collect();
        assert_eq!(offered, [(&json!("grpc"), &json!(7443)), (&json!("http"), &json!(7070))], "{way}");
        let address = agent.collector.unwrap().address.to_string();
        assert_eq!(address.trim_end_matches('/'), "https://casefile-collector.casefile.svc:7443", "{way}");
        assert!(collector.http_names.contains(&"casefile-collector.casefile.svc".to_owned()), "{way}");
        let ingress = &one(&objects, "NetworkPolicy", "casefile-collector")["spec"]["ingress"];
        for rule in items(ingress) {
            let number = rule["ports"][0]["port"].as_u64();
            assert!([Some(7443), Some(7070)].contains(&number), "{way}: {rule}");
        }
    }
}

#[test]
fn what_the_values_of_the_chart_say_stands_in_the_configurations() {
    let objects = rendered("chart-with-other-values");
    let agent = agent_of(&objects);
    assert_eq!(agent.retention.bytes.0 >> 20, 1024);
    assert!(agent.logs.files.iter().any(|family| family.glob == "var/log/app/*.log"), "{:?}", agent.logs);
    let collector = collector_of(&objects);
    assert_eq!(collector.last_words.age.as_secs(), 12 * 3600);
    assert_eq!(collector.targets.find("api").unwrap().target.to_string(), "https://api.shop.svc:443/healthz?deep=1");
    let cluster = collector.cluster.unwrap();
    assert!(!cluster.collections);
    assert_eq!(cluster.user_audiences, ["casefile-people", "https://idp.example/"]);
    assert_eq!((cluster.record.keep.0 >> 20, cluster.record.age.as_secs()), (2048, 72 * 3600));
    assert_eq!(collector.http_names, ["casefile-collector.casefile.svc", "casefile.example"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manifests_probe_is_answered_by_the_collector() {
    let objects = rendered("base");
    let container = &one(&objects, "StatefulSet", "casefile-collector")["spec"]["template"]["spec"]["containers"][0];
    let rig = Rig::new().unwrap();
    let collector = rig.collector().await.unwrap();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["port"], "observe", "{probe}");
        let answer = scrape::get(collector.observed_at().unwrap(), text(&get["path"]), "").unwrap();
        assert_eq!(answer.status, 200, "{probe}: {answer:?}");
    }
    stop(collector).await;
}

/// Every expression that an alert or a panel asks, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let objects = rendered("monitoring");
    let mut all = Vec::new();
    for group in items(&one(&objects, "PrometheusRule", "casefile")["spec"]["groups"]) {
        for rule in items(&group["rules"]) {
            all.push((text(&rule["alert"]).to_owned(), text(&rule["expr"]).to_owned()));
        }
    }
    let board = text(&one(&objects, "ConfigMap", "casefile-dashboard")["data"]["dashboard.json"]);
    let board: Value = serde_json::from_str(board).unwrap();
    for panel in items(&board["panels"]) {
        for target in items(&panel["targets"]) {
            all.push((text(&panel["title"]).to_owned(), text(&target["expr"]).to_owned()));
        }
    }
    all
}

/// Names of series in a text, and with each the labels that are asked to be something, as they stand: `state="sealed"`.
fn asked(expression: &str) -> Vec<(String, Vec<String>)> {
    let series = Regex::new(r"\b((?:casefile|process)_[a-z0-9_]+)(?:\{([^}]*)\})?").unwrap();
    let label = Regex::new(r#"([a-z_]+)="([^"]*)""#).unwrap();
    let given = ["namespace", "pod", "job"];
    series
        .captures_iter(expression)
        .map(|hit| {
            let labels = hit.get(2).map_or("", |labels| labels.as_str());
            let labels = label.captures_iter(labels).filter(|hit| !given.contains(&&hit[1]));
            (hit[1].to_owned(), labels.map(|hit| hit[0].to_owned()).collect())
        })
        .collect()
}

/// Whether a scrape has a series of this name with these labels.
fn is_there(all: &Metrics, series: &str, labels: &[String]) -> bool {
    all.get(series).is_some() && labels.is_empty()
        || all.family(series).any(|(has, _)| labels.iter().all(|label| has.contains(label.as_str())))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_that_an_alert_or_a_panel_asks_for_is_exported() {
    let rig = Rig::new().unwrap();
    let host = FakeHost::new(rig.path("host")).unwrap();
    let server = ApiServer::start().await.unwrap();
    server.kubeconfig(&rig.path("kubeconfig")).unwrap();
    let said = ClusterConfig::new(Access::Kubeconfig(rig.path("kubeconfig")));
    // With an archive store without a key to it, so that something waits to be copied.
    let store = StoreConfig {
        bucket: "evidence".to_owned(),
        prefix: String::new(),
        endpoint: Some("https://127.0.0.1:1".to_owned()),
        region: "us-east-1".to_owned(),
        credentials: Some(rig.path("credentials")),
        ca: None,
        plain: false,
    };
    let with = rig.collector_with(|config| (config.cluster, config.archive_store) = (Some(said), Some(store)));
    let collector = with.await.unwrap();
    let agent = rig.agent("n1", host.root()).unwrap();
    let mut client = rig.client().await.unwrap();
    client.recorded("n1", Duration::from_secs(1)).await;
    let window = Window::new(now().before(Duration::from_secs(1)), now()).unwrap();
    let id = client.open(window, &["n1"], Duration::from_secs(30)).await.unwrap().id;
    client.sealed(id).await.unwrap();
    let at = collector.observed_at().unwrap();
    let all = wait::until("figures of the cluster, and an archive that waits", async || {
        let all = tokio::task::block_in_place(|| scrape::metrics(at));
        let waits = all.get("casefile_archives_uncopied") == Some(1.0);
        (waits && all.get("casefile_cluster_record_bytes").is_some()).then_some(all)
    })
    .await;
    let mut names = BTreeSet::new();
    for (place, expression) in expressions() {
        let asked = asked(&expression);
        assert!(!asked.is_empty() || expression.contains("up{"), "{place} asks for none of our figures: {expression}");
        for (series, labels) in asked {
            assert!(is_there(&all, &series, &labels), "{place}: {series} {labels:?} is not exported");
            names.insert(series);
        }
    }
    assert!(names.len() > 15, "{names:?}");
    assert!(!is_there(&all, "casefile_incidents", &["state=\"lost\"".to_owned()]), "a wrong label is seen");
    agent.stop().await;
    stop(collector).await;
}

#[test]
fn prometheus_is_led_to_the_figures_and_shows_the_token_that_the_collector_knows() {
    for way in ["monitoring", "everything", "chart-with-other-values"] {
        let objects = rendered(way);
        let monitor = one(&objects, "ServiceMonitor", "casefile-collector");
        let wanted = &monitor["spec"]["selector"]["matchLabels"];
        let selects = |service: &Value| {
            let labels = &service["metadata"]["labels"];
            wanted.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value)
        };
        let selected: Vec<_> = of_kind(&objects, "Service").into_iter().filter(|service| selects(service)).collect();
        assert_eq!(selected.iter().map(|service| name(service)).collect::<Vec<_>>(), ["casefile-collector-metrics"]);
        assert_eq!(selected[0]["spec"]["publishNotReadyAddresses"], true, "{way}: figures matter most then");
        let endpoint = &monitor["spec"]["endpoints"][0];
        assert_eq!((&endpoint["port"], &endpoint["path"]), (&json!("observe"), &json!("/metrics")), "{way}");
        let secret = json!({"name": "casefile-metrics", "key": "token"});
        assert_eq!(endpoint["authorization"], json!({"type": "Bearer", "credentials": secret}), "{way}");
        let config = configuration(&objects, "casefile-collector");
        let token = casefile_collector::config::Config::parse(&config).unwrap().metrics_token.unwrap();
        assert_eq!(token.file_name().unwrap(), "token", "{way}: the key in the Secret is the file's name");
        let alerts = text(&one(&objects, "PrometheusRule", "casefile")["spec"]["groups"][0]["rules"][0]["expr"]);
        assert!(alerts.contains("job=\"casefile-collector-metrics\""), "{way}: a job has the name of its Service");
    }
}

#[test]
fn the_images_hold_the_programs_that_the_manifests_start() {
    let objects = rendered("base");
    for (program, what) in [("casefile-agent", "DaemonSet"), ("casefile-collector", "StatefulSet")] {
        let container = &one(&objects, what, program)["spec"]["template"]["spec"]["containers"][0];
        let image = text(&container["image"]);
        assert_eq!(image, format!("{program}:{}", env!("CARGO_PKG_VERSION")));
        let file = file(&format!("Containerfile.{}", program.strip_prefix("casefile-").unwrap()));
        let built: Vec<_> =
            file.lines().filter(|line| line.starts_with("RUN cargo build --release --locked ")).collect();
        assert!(built.len() == 1 && built[0].contains(&format!("--bin {program}")), "{file}");
        assert!(file.contains(&format!("ENTRYPOINT [\"/usr/bin/{program}\"]")), "{file}");
        assert!(file.lines().any(|line| line == "USER 65532:65532"), "{file}: nobody is root by himself");
        let bases: Vec<_> = file.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
        for base in &bases {
            let tag = base.split(' ').next().unwrap().rsplit_once(':').map(|(_, tag)| tag);
            assert!(tag.is_some_and(|tag| tag != "latest"), "{base} may be another one tomorrow");
        }
        assert!(bases.len() == 2 && bases[1].contains("/cc-debian12:"), "{bases:?}: glibc, and little else");
        if program == "casefile-collector" {
            assert!(built[0].contains("--bin casefile "), "people use the command with kubectl exec: {}", built[0]);
        }
    }
    let ignored = file("../.dockerignore");
    assert!(ignored.lines().any(|line| line == "target"), "gigabytes of builds would go to the builder");
}
