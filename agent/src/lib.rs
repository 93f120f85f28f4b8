//! The agent: reads one node, keeps a ring on its disk, streams to the collector, cuts windows on request.

pub mod args;
pub mod calls;
pub mod cgroups;
pub mod clock;
pub mod collect;
pub mod config;
pub mod connectivity;
pub mod data_dir;
pub mod details;
pub mod extract;
mod frame;
pub mod host;
pub mod journal;
pub mod kmsg;
pub mod logs;
pub mod lossy;
pub mod pci;
pub mod pid;
pub mod ready;
pub mod redaction;
pub mod refusals;
mod ring;
mod room;
mod runner;
pub mod sandbox;
pub mod sources;
pub mod state;
pub mod stats;
pub mod text;
pub mod uplink;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::segment::StoreError;
use casefile_proto::ids::{BootId, FrameSeq};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest, Sha256};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::collect::Context;
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError};
use crate::details::Details;
use crate::frame::{Recorder, Stop};
use crate::host::{Host, HostError};
use crate::redaction::Redaction;
use crate::ring::disk::{OnDisk, Share};
use crate::ring::{Keep, Open, Ring};
use crate::runner::Runner;
use crate::runner::lane::chain;
use crate::sandbox::standing::Standing;
use crate::sources::SourceSpec;
use crate::sources::gpu::latest::Access;
use crate::stats::Stats;
use crate::uplink::Uplink;
use crate::uplink::live::Live;

/// The version that hellos, headers and archives name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long an orderly stop waits for the recorder: a tick that has begun, and the disk.
const STOP_PATIENCE: Duration = Duration::from_secs(6);

/// How long it waits for the uplink to hand over what is in flight.
const UPLINK_PATIENCE: Duration = Duration::from_secs(4);

/// Files that may be open: three for each of some hundred processes that are read at 1 Hz, and the cgroups. Soft limits
/// are 1,024 by custom, for programs that use select(2).
const OPEN_FILES: u64 = 16_384;

/// What only embedding changes: tests and the collector's `local`. The default is what `casefile-agent run` does.
#[derive(Clone)]
pub struct Setup {
    /// Time between two ticks. Sources with a slower cadence are measured as many ticks apart as they would be at 1 s.
    pub every: Duration,
    /// The sources.
    pub sources: &'static [&'static SourceSpec],
    /// The node's clocks.
    pub clock: Clock,
    /// Who reads details of processes.
    pub details: Details,
    /// The sandbox that this process has gone into, which the recording tells; `None`: there is no word of one.
    pub sandbox: Option<Standing>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(1),
            sources: sources::ALL,
            clock: clock::system(),
            details: Details::default(),
            sandbox: None,
        }
    }
}

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The host root cannot be opened.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// Another agent writes this ring.
    #[error("another agent runs here")]
    Running(#[source] StoreError),
    /// There is neither a ring nor a collector to record to, and waiting does not change that.
    #[error(
        "nothing would be recorded: the ring cannot be written and no collector is configured; \
         give data_dir a directory that this user can write"
    )]
    Nowhere(#[source] StoreError),
    /// A thread could not be started.
    #[error("start the {name} thread")]
    Thread {
        /// Which.
        name: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There are no random numbers to be had: nothing can be masked, and so nothing is recorded.
    #[error("make a key to mask secrets with")]
    Key(#[source] std::io::Error),
    /// A collector is configured, and there is no tokio runtime for the uplink.
    #[error("start the uplink")]
    NoRuntime(#[from] tokio::runtime::TryCurrentError),
}

/// An agent that runs: a recorder with its ring on threads of their own, and, where a collector is configured, the
/// uplink as a task on the tokio runtime that it was started in.
pub struct Agent {
    header: Header,
    context: Arc<Context>,
    stats: Arc<Stats>,
    live: Live,
    recorder: Recording,
    uplink: Option<Running>,
}

/// The recorder's thread: asked to stop when this is dropped; `ended` closes when it has.
struct Recording {
    stop: Arc<Stop>,
    ended: watch::Receiver<()>,
}

impl Recording {
    async fn has_ended(&mut self) {
        // The sender says nothing; it is dropped at the thread's end, also at that of a panic.
        while self.ended.changed().await.is_ok() {}
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// The uplink's task, and how it is asked to stop.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Starts recording. Where `config.collector` is set this must be called within a tokio runtime.
    pub fn start(config: &Config, setup: Setup) -> Result<Self, StartError> {
        // Found out first: nothing is left half started.
        let runtime = config.collector.as_ref().map(|_| tokio::runtime::Handle::try_current()).transpose()?;
        raise_file_limit();
        let stats = Arc::new(Stats::new(setup.sources).in_sandbox(setup.sandbox.clone()));
        stats.has_collector.store(config.collector.is_some(), Ordering::Relaxed);
        let data = DataDir::open(&config.data_dir)?;
        let gpu = Access::new(&config.gpu, Some(data.gpus.clone()));
        let host = Host::with(&config.host_root, Arc::clone(&stats), gpu, setup.details.clone())?;
        let redaction = Redaction::open(config.masking.clone(), data.redaction_key.clone()).map_err(StartError::Key)?;
        let redaction = Arc::new(redaction);
        let header = Header {
            node: config.node.clone(),
            boot: boot_id(&host),
            agent_version: VERSION.to_owned(),
            schema: Arc::new(frame::schema(setup.sources, setup.every)),
        };
        let share = Share { retention: config.retention, leave: config.leave_free };
        let (kept, last) = match OnDisk::open(&data.ring, share, &stats) {
            Ok(store) => {
                let last = store.last().filter(|last| last.boot == header.boot).map(|last| last.seq);
                (Some(Box::new(store) as Box<dyn Keep>), Some(last))
            }
            Err(locked @ StoreError::Locked { .. }) => return Err(StartError::Running(locked)),
            Err(error) if config.collector.is_none() && !may_pass(&error) => return Err(StartError::Nowhere(error)),
            Err(error) => {
                tracing::error!(error = chain(&error), "the ring cannot be opened: frames go to the live stream only");
                (None, None)
            }
        };
        stats.boot_was_recorded.store(matches!(last, Some(Some(_))), Ordering::Relaxed);
        let next = match last {
            Some(last) => last.map_or(FrameSeq::FIRST, FrameSeq::next),
            None => beyond_this_boot(&setup),
        };
        let (dir, counted) = (data.ring.clone(), Arc::clone(&stats));
        let open: Open = Box::new(move || Ok(Box::new(OnDisk::open_again(&dir, share, &counted)?) as Box<dyn Keep>));
        let thread = |name| move |source| StartError::Thread { name, source };
        let ring = Ring::start(&header, kept, open, last.flatten(), setup.every, &stats).map_err(thread("ring"))?;
        let live = Live::new(header.clone(), last.flatten());
        let recorder = Recorder {
            header: header.clone(),
            runner: Runner::new(&host, setup.sources, setup.every, config.cpu_percent / 100.0),
            ring,
            live: live.clone(),
            clock: Arc::clone(&setup.clock),
            every: setup.every,
            next,
            stats: Arc::clone(&stats),
            redaction: Arc::clone(&redaction),
        };
        let stop = Arc::new(Stop::default());
        let (running, ended) = watch::channel(());
        let stopped = Arc::clone(&stop);
        let run = move || {
            let _running = running;
            recorder.run(&stopped);
        };
        std::thread::Builder::new()
            .name("recorder".to_owned())
            .stack_size(frame::STACK)
            .spawn(run)
            .map_err(thread("recorder"))?;
        let context = Arc::new(Context {
            host,
            node: config.node.clone(),
            boot: header.boot,
            clock: Arc::clone(&setup.clock),
            ring_dir: Some(data.ring.clone()),
            sources: setup.sources.iter().map(|s| s.name).collect(),
            logs: config.logs.clone(),
            redaction,
            left_behind: collect::LeftBehind::default(),
        });
        let uplink = runtime.zip(config.collector.clone()).map(|(runtime, collector)| {
            let uplink = Uplink {
                collector,
                identity_file: data.identity,
                live: live.clone(),
                ring_dir: data.ring,
                context: Arc::clone(&context),
                spool_dir: data.spool,
                leave_free: config.leave_free,
                clock: setup.clock,
                collectable: collect::collectable(),
                connectivity: config.connectivity.clone(),
            };
            let (stop, stopped) = oneshot::channel::<()>();
            let told = async move {
                // An agent that was dropped without a word stops its uplink as well.
                let _ = stopped.await;
            };
            Running { stop, task: runtime.spawn(uplink::run(uplink, told)) }
        });
        Ok(Self { header, context, stats, live, recorder: Recording { stop, ended }, uplink })
    }

    /// The node, its boot and its schema.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What a collection on this agent works with.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// What it knows about itself.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The newest frame of this run.
    pub fn last(&self) -> Option<FrameSeq> {
        self.live.last()
    }

    /// Ends when the recorder does without having been asked to: a bug, after which nothing is recorded any more. Safe
    /// to drop and to call again.
    pub async fn failed(&mut self) {
        self.recorder.has_ended().await;
    }

    /// Stops: no more ticks, the last frame written and synced, the uplink asked to stop and awaited for a few seconds.
    pub async fn stop(mut self) {
        self.recorder.stop.stop();
        if tokio::time::timeout(STOP_PATIENCE, self.recorder.has_ended()).await.is_err() {
            tracing::error!("the recorder did not stop in time: the last frames may be lost");
        }
        if let Some(Running { stop, mut task }) = self.uplink {
            // When the task has ended by itself, awaiting it says why.
            let _ = stop.send(());
            match tokio::time::timeout(UPLINK_PATIENCE, &mut task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the uplink ended by itself"),
                Err(_) => {
                    tracing::warn!("the uplink did not stop in time: what was in flight is sent again by the next run");
                    task.abort();
                }
            }
        }
        tracing::info!(frames = self.stats.frames.get(), lost = self.stats.ring_frames_lost.get(), "recorder stopped");
    }
}

/// Whether what keeps the ring from being opened may go by itself, as a full disk does: then it is tried again.
fn may_pass(error: &StoreError) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    !matches!(error, StoreError::Io { source, .. } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
}

/// A number that no frame of this boot can have had: there cannot have been more of them than ticks since it began.
/// Where the ring cannot say which was the last, the numbers in between are left out, and that shows.
fn beyond_this_boot(setup: &Setup) -> FrameSeq {
    let every = u64::try_from(setup.every.as_nanos()).unwrap_or(u64::MAX).max(1);
    FrameSeq((setup.clock)().boot.nanos() / every + 1)
}

/// The boot that the host root is of. A tree that does not say (a fixture) gets an id of its own, always the same.
fn boot_id(host: &Host) -> BootId {
    boot_id_of(host).unwrap_or_else(|| {
        let digest = Sha256::digest(host.root().as_os_str().as_encoded_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        BootId::from_bytes(id)
    })
}

fn boot_id_of(host: &Host) -> Option<BootId> {
    let mut text = Vec::new();
    host.read(Path::new("proc/sys/kernel/random/boot_id"), &mut text, 64).ok()?;
    str::from_utf8(&text).ok()?.parse().ok()
}

fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(OPEN_FILES, |most| most.min(OPEN_FILES));
    if current.is_some_and(|now| now < wanted) {
        // Where it may not be raised, sources say which file they could not open.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}
