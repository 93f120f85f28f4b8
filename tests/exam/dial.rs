//! How everything in the exam reaches a collector, and what the programs are told to reach each other: the one place that
//! knows addresses, credentials and configuration files.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_evidence::directory;
use casefile_identity::authority::Authority;
use casefile_identity::dial::{Address, Me, dial};
use casefile_identity::token::Token;
use casefile_proto::ids::NodeName;
use casefile_proto::session::MAX_MESSAGE;
use casefile_proto::wire::v1::agent_service_client::AgentServiceClient;
use casefile_tests::client::Client;
use tonic::transport::Channel;

/// A connection that is not there within this is tried again.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a certificate counts: longer than any item.
const LIFE: Duration = Duration::from_hours(24);

/// A collector, as its owner reaches it and lets others in.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Its data directory.
    pub(crate) data: PathBuf,
}

/// What a node shows, and the way it takes to the collector.
#[derive(Debug, Clone)]
pub(crate) struct Ticket {
    /// Whose it is.
    pub(crate) node: NodeName,
    to: Address,
    me: Me,
}

impl Door {
    /// Makes the data directory with its authority, so that certificates can be given out before the collector runs.
    pub(crate) fn new(listen: SocketAddr, data: PathBuf) -> Result<Self> {
        directory::make(&data.join("keys")).with_context(|| format!("make {}", data.display()))?;
        let door = Self { listen, data };
        door.authority()?;
        Ok(door)
    }

    /// What signs certificates for it.
    pub(crate) fn authority(&self) -> Result<Authority> {
        Authority::load_or_make(&self.data.join("keys"), casefile_tests::now()).context("the collector's authority")
    }

    /// How it is addressed.
    pub(crate) fn address(&self) -> Result<Address> {
        Ok(address(self.listen).parse()?)
    }

    /// For a node that we play, by way of this address.
    pub(crate) fn ticket(&self, node: NodeName, via: SocketAddr) -> Result<Ticket> {
        let me = Me::Agent(self.authority()?.agent(&node, casefile_tests::now(), LIFE)?);
        Ok(Ticket { node, to: address(via).parse()?, me })
    }

    /// Lets an agent in that is a program of its own: its certificate lies in its data directory, as if it had joined.
    pub(crate) fn enlist(&self, node: &NodeName, data: &Path) -> Result<()> {
        std::fs::create_dir_all(data).with_context(|| format!("make {}", data.display()))?;
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700))?;
        let certificate = self.authority()?.agent(node, casefile_tests::now(), LIFE)?;
        Ok(certificate.save(&data.join(casefile_agent::data_dir::IDENTITY))?)
    }
}

/// A client of the API, as the owner of the collector has it.
pub(crate) async fn person(door: &Door) -> Result<Client> {
    let token = Token::load(&casefile_collector::data::owner_token_below(&door.data))?;
    tokio::time::timeout(CONNECT, Client::connect(&address(door.listen).parse()?, &token)).await.context("in time")?
}

/// A connection as the agent of a node has it.
pub(crate) async fn node(ticket: &Ticket) -> Result<AgentServiceClient<Channel>> {
    let channel = tokio::time::timeout(CONNECT, dial(&ticket.to, &ticket.me, |endpoint| endpoint));
    let channel = channel.await.context("in time")?.with_context(|| format!("connect as {}", ticket.node))?;
    Ok(AgentServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
}

/// What an agent's configuration file says.
pub(crate) fn agent_config(via: SocketAddr, node: &NodeName, data: &Path, host: &Path) -> String {
    format!("collector = {:?}\n{}", address(via), lone_agent_config(node, data, host))
}

/// The same without a collector: it records and answers to nobody.
pub(crate) fn lone_agent_config(node: &NodeName, data: &Path, host: &Path) -> String {
    let node = node.as_str();
    format!("node = {node:?}\ndata_dir = {data:?}\nhost_root = {host:?}\nring_mib = 64\n")
}

/// What a collector's configuration file says.
pub(crate) fn collector_config(door: &Door) -> String {
    format!("listen = \"{}\"\ndata_dir = {:?}\n", door.listen, door.data)
}

fn address(at: SocketAddr) -> String {
    format!("https://{at}")
}
