//! How everything in the exam reaches a collector, and what the programs are told to reach each other: the one place that
//! knows addresses, credentials and configuration files.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_proto::ids::NodeName;
use casefile_proto::session::MAX_MESSAGE;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use casefile_tests::client::Client;
use tonic::transport::{Channel, Endpoint};

/// A connection that is not there within this is tried again.
const CONNECT: Duration = Duration::from_secs(5);

/// A client of the API, as a person has it.
pub(crate) async fn person(collector: SocketAddr) -> Result<Client> {
    tokio::time::timeout(CONNECT, Client::connect(&url(collector))).await.context("connect in time")?
}

/// A connection as the agent of this node has it.
pub(crate) async fn node(via: SocketAddr, node: &NodeName) -> Result<AgentServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(url(via))?.connect_timeout(CONNECT).tcp_nodelay(true);
    let channel = endpoint.connect().await.with_context(|| format!("connect as {node}"))?;
    Ok(AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
}

/// What an agent's configuration file says.
pub(crate) fn agent_config(via: SocketAddr, node: &NodeName, data: &Path, host: &Path) -> String {
    let (url, node) = (url(via), node.as_str());
    format!("collector = {url:?}\nnode = {node:?}\ndata_dir = {data:?}\nhost_root = {host:?}\nring_mib = 64\n")
}

/// The same without a collector: it records and answers to nobody.
pub(crate) fn lone_agent_config(node: &NodeName, data: &Path, host: &Path) -> String {
    let node = node.as_str();
    format!("node = {node:?}\ndata_dir = {data:?}\nhost_root = {host:?}\nring_mib = 64\n")
}

/// What a collector's configuration file says.
pub(crate) fn collector_config(listen: SocketAddr, data: &Path) -> String {
    format!("listen = \"{listen}\"\ndata_dir = {data:?}\n")
}

fn url(at: SocketAddr) -> String {
    format!("http://{at}")
}
