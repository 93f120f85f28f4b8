//! How everything in the exam reaches a collector, and what the programs are told to reach each other: the one place that
//! knows addresses, credentials and configuration files.
//!
//! One collector is under exam at a time. Whoever talks to it shows what its data directory gives: the owner's token, or a
//! certificate of its authority, as if the node had joined.

use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_identity::authority::Authority;
use casefile_identity::certificate::Certificate;
use casefile_identity::dial::{Address, Me, dial};
use casefile_identity::token::Token;
use casefile_proto::ids::NodeName;
use casefile_proto::session::MAX_MESSAGE;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use casefile_tests::client::Client;
use tonic::transport::Channel;

/// A connection that is not there within this is tried again.
const CONNECT: Duration = Duration::from_secs(5);

/// The data directory of the collector that is under exam.
static DATA: Mutex<Option<PathBuf>> = Mutex::new(None);

/// A client of the API, as a person has it.
pub(crate) async fn person(collector: SocketAddr) -> Result<Client> {
    let token = Token::load(&casefile_collector::data::owner_token_below(&data()?))?;
    let connecting = async { Client::connect(&address(collector)?, &token).await };
    tokio::time::timeout(CONNECT, connecting).await.context("connect in time")?
}

/// A connection as the agent of this node has it.
pub(crate) async fn node(via: SocketAddr, node: &NodeName) -> Result<AgentServiceClient<Channel>> {
    let me = Me::Agent(certificate(node)?);
    let channel = dial(&address(via)?, &me, |endpoint| endpoint).await.with_context(|| format!("connect as {node}"))?;
    Ok(AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
}

/// What an agent's configuration file says. Its certificate is put where it finds it.
pub(crate) fn agent_config(via: SocketAddr, node: &NodeName, data: &Path, host: &Path) -> Result<String> {
    private(data)?;
    certificate(node)?.save(&data.join(casefile_agent::data_dir::IDENTITY))?;
    let url = address(via)?.to_string();
    Ok(format!("collector = {url:?}\n{}", lone_agent_config(node, data, host)))
}

/// The same without a collector: it records and answers to nobody.
pub(crate) fn lone_agent_config(node: &NodeName, data: &Path, host: &Path) -> String {
    let node = node.as_str();
    format!("node = {node:?}\ndata_dir = {data:?}\nhost_root = {host:?}\nring_mib = 64\n")
}

/// What a collector's configuration file says. From now on it is this one that is under exam.
pub(crate) fn collector_config(listen: SocketAddr, data: &Path) -> String {
    *DATA.lock().unwrap_or_else(PoisonError::into_inner) = Some(data.to_owned());
    format!("listen = \"{listen}\"\ndata_dir = {data:?}\n")
}

/// The authority of the collector under exam; made if it was not started yet.
pub(crate) fn authority() -> Result<Authority> {
    let (data, now) = (data()?, casefile_tests::now());
    let keys = data.join("keys");
    private(&data)?;
    private(&keys)?;
    Ok(Authority::load_or_make(&keys, now)?)
}

/// A certificate for this node.
pub(crate) fn certificate(node: &NodeName) -> Result<Certificate> {
    Ok(authority()?.agent(node, casefile_tests::now(), Duration::from_hours(24))?)
}

/// The data directory of the collector under exam.
pub(crate) fn data() -> Result<PathBuf> {
    DATA.lock().unwrap_or_else(PoisonError::into_inner).clone().context("no collector is under exam")
}

/// A directory of our own.
fn private(dir: &Path) -> Result<()> {
    if !dir.is_dir() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).context("make a directory")?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).context("close a directory")?;
    }
    Ok(())
}

/// How a collector at this socket is addressed.
pub(crate) fn address(at: SocketAddr) -> Result<Address> {
    at.to_string().parse().map_err(|e| anyhow::anyhow!("{at}: {e}"))
}
