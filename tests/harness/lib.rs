//! A real collector and real agents in one process, over fixture hosts, for tests that watch behaviour.
//!
//! Here: putting them together. Waiting is in [`wait`], the programs as a user starts them in [`program`], the audit of
//! a recording in [`audit`]. Nothing here fakes what it stands for: agents speak gRPC over loopback to the collector.

#![expect(clippy::expect_used, reason = "in a test everything that fails ends the test")]

pub mod address;
pub mod apiserver;
pub mod audit;
pub mod client;
pub mod disk;
pub mod fleet;
pub mod host;
pub mod hostile_case;
pub mod payloads;
pub mod program;
pub mod proxy;
pub mod scrape;
pub mod secrets;
pub mod wait;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use casefile_agent::config::GpuConfig;
use casefile_agent::logs::LogConfig;
use casefile_agent::redaction::Masking;
use casefile_agent::sandbox::plan::Wanted;
use casefile_agent::uplink::Collector as Membership;
use casefile_agent::uplink::identity::Join;
use casefile_agent::uplink::in_cluster::InCluster;
use casefile_agent::{Agent, Setup};
use casefile_collector::Collector;
use casefile_collector::config::PortTaken;
use casefile_evidence::recording::segment::Retention;
use casefile_identity::authority::Authority;
use casefile_identity::token::Token;
use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;

use client::Client;

/// How long something that will happen is waited for: far longer than it takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// How long a stopping program may take.
const GRACE: Duration = Duration::from_secs(10);

/// A directory that goes away, with everything that one test needs in it.
pub struct Rig {
    dir: tempfile::TempDir,
    listen: SocketAddr,
}

impl Rig {
    /// An empty one, with an address that a collector can be restarted on.
    pub fn new() -> Result<Self> {
        Ok(Self { dir: tempfile::tempdir().context("make a directory")?, listen: address::free_address()? })
    }

    /// A path below it.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    /// Where its collector listens.
    pub fn url(&self) -> String {
        format!("https://{}", self.listen)
    }

    /// Where its collector listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Starts the collector; again after it was stopped, on what it had.
    pub async fn collector(&self) -> Result<Collector> {
        self.collector_with(|_| {}).await
    }

    /// The same, with something set differently.
    pub async fn collector_with(
        &self,
        change: impl FnOnce(&mut casefile_collector::config::Config),
    ) -> Result<Collector> {
        let mut config = casefile_collector::config::Config::new(self.path("collector"));
        config.listen = self.listen;
        config.port_taken = PortTaken::Refuse;
        config.probe_every = Duration::from_millis(200);
        config.observe = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        // Dozens of these run side by side, and some tests read all that they have written.
        config.reserve = Some(Bytes::mib(1));
        change(&mut config);
        Collector::start(config).await.context("start the collector")
    }

    /// Starts an agent over a host root; again after it was stopped, on what it had. Ticks ten times a second.
    pub fn agent(&self, node: &str, host: &Path) -> Result<Agent> {
        self.start(node, host, GpuConfig::default(), Duration::from_millis(100), self.membership(node)?)
    }

    /// The same, dialling its collector at this address.
    pub fn agent_through(&self, node: &str, host: &Path, address: SocketAddr) -> Result<Agent> {
        let member = Membership { address: format!("https://{address}").parse()?, ..self.membership(node)? };
        self.start(node, host, GpuConfig::default(), Duration::from_millis(100), member)
    }

    /// The same, with this as the library through which it reads GPUs; ticks once a second, as it does for people: a source
    /// that takes a second is late by one tick then, not by ten.
    pub fn agent_with_gpus(&self, node: &str, host: &Path, library: &Path) -> Result<Agent> {
        // The child is a program of its own, also where the agent runs in a test.
        let gpu = GpuConfig {
            library: Some(library.to_owned()),
            program: Some(program::binary("casefile-agent")),
            ..GpuConfig::default()
        };
        self.start(node, host, gpu, Duration::from_secs(1), self.membership(node)?)
    }

    /// The same, of a cluster: it joins with the token of its pod and the pin of the collector, which are in these files.
    pub fn agent_in_cluster(&self, node: &str, host: &Path, files: InCluster) -> Result<Agent> {
        let member = Membership { address: self.url().parse()?, join: Join::Cluster(files) };
        self.start(node, host, GpuConfig::default(), Duration::from_millis(100), member)
    }

    /// The same, with something set differently.
    pub fn agent_with(
        &self,
        node: &str,
        host: &Path,
        change: impl FnOnce(&mut casefile_agent::config::Config),
    ) -> Result<Agent> {
        let mut config = self.config_of(node, host, GpuConfig::default(), self.membership(node)?)?;
        change(&mut config);
        let every = Duration::from_millis(100);
        Agent::start(&config, Setup { every, ..Setup::default() }).context("start the agent")
    }

    fn start(&self, node: &str, host: &Path, gpu: GpuConfig, every: Duration, member: Membership) -> Result<Agent> {
        let config = self.config_of(node, host, gpu, member)?;
        Agent::start(&config, Setup { every, ..Setup::default() }).context("start the agent")
    }

    fn config_of(
        &self,
        node: &str,
        host: &Path,
        gpu: GpuConfig,
        member: Membership,
    ) -> Result<casefile_agent::config::Config> {
        Ok(casefile_agent::config::Config {
            collector: Some(member),
            node: node.parse().context("a node name")?,
            data_dir: self.path(&format!("agent-{node}")),
            host_root: host.to_owned(),
            retention: Retention { bytes: Bytes::mib(64), age: Duration::from_secs(3600) },
            leave_free: None,
            cpu_percent: 100.0,
            connectivity: None,
            logs: LogConfig::builtin(),
            masking: Masking::default(),
            gpu,
            sandbox: Wanted::Off,
        })
    }

    /// Writes the configuration of an agent that is run as a program; where it lies.
    pub fn agent_config(&self, node: &str, host: &Path) -> Result<PathBuf> {
        let (path, data) = (self.path(&format!("{node}.toml")), self.path(&format!("agent-{node}")));
        let text =
            format!("collector = {:?}\nnode = {node:?}\ndata_dir = {data:?}\nhost_root = {host:?}\n", self.url());
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// The agent's ring.
    pub fn ring(&self, node: &str) -> PathBuf {
        self.path(&format!("agent-{node}/ring"))
    }

    /// A client of the collector.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(&self.url().parse()?, &self.owner()?).await
    }

    /// The token of whoever owns the collector's data directory. It is there once the collector was started.
    pub fn owner(&self) -> Result<Token> {
        Ok(Token::load(&casefile_collector::data::owner_token_below(&self.path("collector")))?)
    }

    /// The authority of the collector; made if the collector was not started yet.
    pub fn authority(&self) -> Result<Authority> {
        let keys = self.path("collector").join("keys");
        std::fs::create_dir_all(&keys).context("make the directory of keys")?;
        std::fs::set_permissions(self.path("collector"), std::fs::Permissions::from_mode(0o700))?;
        Authority::load_or_make(&keys, now()).context("the collector's authority")
    }

    /// Puts a certificate where the agent of this node, a program of its own, finds it, as if it had joined.
    pub fn enlist(&self, node: &str) -> Result<()> {
        let dir = self.path(&format!("agent-{node}"));
        std::fs::create_dir_all(&dir).context("make the agent's directory")?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        let certificate = self.authority()?.agent(&node.parse()?, now(), Duration::from_hours(24))?;
        Ok(certificate.save(&dir.join(casefile_agent::data_dir::IDENTITY))?)
    }

    /// Where the collector is, and a certificate for a node as if it had joined.
    pub fn membership(&self, node: &str) -> Result<Membership> {
        let certificate = self.authority()?.agent(&node.parse()?, now(), Duration::from_hours(24))?;
        Ok(Membership { address: self.url().parse()?, join: Join::Given(Box::new(certificate)) })
    }
}

/// Stops a collector.
pub async fn stop(collector: Collector) {
    collector.stop(GRACE).await;
}

/// This machine's wall clock.
pub fn now() -> WallTime {
    WallTime::from_secs(0).after(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
