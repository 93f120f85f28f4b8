//! The collector and an API server: what it says is told, what it sends has a size and comes in time, what ends is said.

use std::time::Duration;

use casefile_collector::Collector;
use casefile_collector::cluster::config::{Access, ClusterConfig};
use casefile_collector::cluster::{Api, ApiError};
use casefile_tests::apiserver::ApiServer;
use casefile_tests::{Rig, SOON};
use serde_json::json;

async fn rig() -> (Rig, ApiServer, Collector) {
    let (rig, server) = (Rig::new().unwrap(), ApiServer::start().await.unwrap());
    let kubeconfig = rig.path("kubeconfig");
    server.kubeconfig(&kubeconfig).unwrap();
    let access = Access::Kubeconfig(kubeconfig);
    let collector = rig.collector_with(|config| config.cluster = Some(ClusterConfig::new(access))).await.unwrap();
    (rig, server, collector)
}

fn api(collector: &Collector) -> Api {
    collector.cluster().unwrap().api().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_answers_is_bounded_in_size_and_time_and_told_as_what_it_is() {
    let (_rig, server, collector) = rig().await;
    let api = api(&collector);
    server.put("nodes", json!({"metadata": {"name": "n1", "annotations": {"big": "x".repeat(1 << 20)}}}));
    let nodes = "/api/v1/nodes?limit=10";
    assert!(api.get(nodes, 2 << 20, SOON).await.unwrap().len() > 1 << 20);
    assert!(matches!(api.get(nodes, 1 << 20, SOON).await, Err(ApiError::TooLarge(_))));
    assert!(api.get("/api/v1/nodes/n2", 1 << 20, SOON).await.unwrap_err().is_not_found());
    assert!(api.get("/apis/argoproj.io/v1alpha1/applications", 1, SOON).await.unwrap_err().is_not_found());
    server.set_mood(|mood| mood.failing = vec![("nodes".to_owned(), 403)]);
    let error = api.get(nodes, 1 << 20, SOON).await.unwrap_err();
    assert!(error.is_forbidden() && error.to_string().contains("told to answer 403"), "{error}");
    server.set_mood(|mood| (mood.failing, mood.delay) = (vec![], SOON));
    let moment = Duration::from_millis(50);
    assert!(matches!(api.get(nodes, 1 << 20, moment).await, Err(ApiError::Late(_))));
    server.set_mood(|mood| (mood.down, mood.delay) = (true, Duration::ZERO));
    assert!(matches!(api.get(nodes, 1 << 20, SOON).await, Err(ApiError::Away(_))));
    casefile_tests::stop(collector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_that_runs_a_program_and_one_that_is_not_there_end_the_start_with_the_reason() {
    let rig = Rig::new().unwrap();
    let path = rig.path("kubeconfig");
    let access = || ClusterConfig::new(Access::Kubeconfig(path.clone()));
    let said = || async {
        let Err(error) = rig.collector_with(|config| config.cluster = Some(access())).await else {
            panic!("it started")
        };
        format!("{error:#}")
    };
    assert!(said().await.contains("find the API server"));
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"exec": {"command": "true", "apiVersion": "client.authentication.k8s.io/v1"}}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
    std::fs::write(&path, config.to_string()).unwrap();
    assert!(said().await.contains("runs a program"), "{}", said().await);
}
