//! One incident on its way from the index and the spool to a sealed archive in the index: the job around [`super::seal`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Instant;

use casefile_evidence::archive::sign::SigningKey;
use casefile_evidence::archive::{Amends, Title};
use casefile_proto::coverage::Coverage;
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::ids::NodeName;
use casefile_proto::incident::{IncidentState, SealedArchive};
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;

use super::coverage::Ended;
use super::fleet::Fleet;
use super::machine::settled_as;
use super::seal::{ClusterPart, SealJob, SealNode, SealedIncident, seal};
use crate::chain::chain;
use crate::cluster::archive;
use crate::cluster::recorder::Recorder;
use crate::data::DataDir;
use crate::space::{Space, is_for_want_of_room};
use crate::stats::{Stage, Stats};
use crate::store::{Asked, Record, Requests, Store, StoreError};

/// Who seals, as archives say it.
pub const SEALED_BY: &str = concat!("casefile-collector ", env!("CARGO_PKG_VERSION"));

/// Below an incident's spool; nodes have numbers from 1, so it is no node's.
const SCRATCH: &str = "sealing";

/// The same, for what is taken of the cluster.
const CLUSTER: &str = "cluster";

/// The name by which evidence of the cluster is asked for, or not.
const CLUSTER_SOURCE: &str = "cluster";

/// What one job works with.
pub struct Sealing {
    /// The incident.
    pub record: Record,
    /// The window on each node's clock.
    pub asked: BTreeMap<NodeName, Asked>,
    /// Nodes that have a session now.
    pub connected: BTreeSet<NodeName>,
    /// What the archive says when it was sealed.
    pub sealed_at: WallTime,
    /// Says where last words lie.
    pub fleet: Arc<dyn Fleet>,
    /// The index.
    pub store: Arc<dyn Store>,
    /// Where spools and archives lie.
    pub data: Arc<DataDir>,
    /// Signs.
    pub key: Arc<SigningKey>,
    /// Counts how long it took.
    pub stats: Arc<Stats>,
    /// The disk, which may be full.
    pub space: Space,
    /// What the cluster showed; `None`: the nodes belong to none.
    pub cluster: Option<Recorder>,
    /// The most of it, before compression.
    pub cluster_budget: Bytes,
}

/// Seals, and writes into the index that it is sealed: only then is it said. An error is a text for people.
pub async fn run(sealing: Sealing) -> Result<(SealedArchive, Coverage, Requests), String> {
    let spool = sealing.data.spool(sealing.record.id);
    let done = tokio::task::spawn_blocking(move || seal_and_save(sealing)).await;
    let kept = |why: String| {
        format!("{why}. What was gathered is kept in {}; sealing is tried again at the next start", spool.display())
    };
    match done {
        Ok(sealed) => sealed.map_err(kept),
        Err(panicked) => Err(kept(format!("sealing ended in a defect of ours ({panicked})"))),
    }
}

fn seal_and_save(sealing: Sealing) -> Result<(SealedArchive, Coverage, Requests), String> {
    let (began, space) = (Instant::now(), &sealing.space);
    let job = job(&sealing).map_err(|e| chain(&e))?;
    let sealed = with_reserve(space, || seal(&job)).map_err(|e| chain(&e))?;
    let SealedIncident { archive, coverage, reread } = sealed;
    let mut record = sealing.record;
    record.state = IncidentState::Sealed;
    record.failure = None;
    record.earlier.extend(record.archive.replace(archive.clone()));
    for node in &coverage.nodes {
        if let Some(member) = record.members.get_mut(&node.node) {
            member.phase = settled_as(node.state);
        }
    }
    let requests = with_reserve(space, || sealing.store.save_sealed(&record, &coverage)).map_err(|e| chain(&e))?;
    sealing.stats.stages.of(Stage::Sealing).took(began.elapsed());
    sealing.stats.stages.of(Stage::Reread).took(reread);
    Ok((archive, coverage, requests))
}

/// Does something that may be done again; once more when the disk was full and something was kept for that.
fn with_reserve<T, E: std::error::Error + 'static>(
    space: &Space,
    mut finish: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    match finish() {
        Err(error) if is_for_want_of_room(&error) && space.give_up_reserve() > Bytes(0) => finish(),
        done => done,
    }
}

fn job(sealing: &Sealing) -> Result<SealJob, StoreError> {
    let record = &sealing.record;
    let amends = record.archive.as_ref().map(|before| Amends {
        revision: before.revision,
        file_name: before.file_name.clone(),
        sha256: before.sha256,
    });
    let coverage = sealing.store.coverage(record.id)?;
    let mut nodes = Vec::new();
    for (name, member) in &record.members {
        let whole = Asked { window: record.ask.window, clock: None };
        nodes.push(SealNode {
            node: name.clone(),
            collectable: sealing.store.collectable(name)?,
            spool: sealing.data.spool_of(record.id, member.number),
            answer: member.answer.clone(),
            asked: sealing.asked.get(name).copied().unwrap_or(whole),
            ended: if sealing.connected.contains(name) { Ended::Connected } else { Ended::Away },
            last_words: sealing.fleet.last_words(name),
        });
    }
    Ok(SealJob {
        title: Title {
            ask: record.ask.clone(),
            incident: Some(record.id),
            sealed_at: sealing.sealed_at,
            sealed_by: SEALED_BY.to_owned(),
            amends,
        },
        nodes,
        archives: sealing.data.archives(),
        connectivity: sealing.data.connectivity(),
        scratch: sealing.data.spool(record.id).join(SCRATCH),
        key: Arc::clone(&sealing.key),
        before: record.archive.clone().zip(coverage),
        cluster: cluster(sealing),
    })
}

/// What is taken of the cluster: once, and then it is what it is, however often it is tried to seal. That nothing could be
/// taken holds nothing up.
fn cluster(sealing: &Sealing) -> Option<ClusterPart> {
    let record = &sealing.record;
    let dir = sealing.data.spool(record.id).join(CLUSTER);
    let recorder = sealing.cluster.as_ref()?;
    if record.archive.is_some() || !record.ask.scope.wants(&[CLUSTER_SOURCE]) {
        // An archive that is amended has it already.
        return None;
    }
    let window = record.ask.window;
    let taken = match archive::taken(&dir) {
        Ok(None) => with_reserve(&sealing.space, || {
            let snapshot = recorder.snapshot(window, &record.ask.scope.select);
            let snapshot = snapshot.ok_or_else(|| io::Error::other("it is not open yet, or could not be opened"))?;
            archive::take(snapshot, sealing.cluster_budget, &dir)
        }),
        Ok(Some(fixed)) => Ok(fixed),
        Err(error) => Err(error),
    };
    Some(match taken {
        Ok(fixed) => ClusterPart { coverage: fixed.coverage.clone(), fixed: Some((fixed, dir)) },
        Err(error) => {
            let why = chain(&error);
            tracing::warn!(incident = %record.id, error = why, "nothing could be taken of the record of the cluster");
            none_of(window, Gap::new(GapReason::SourceFailed, format!("the record of the cluster: {why}")))
        }
    })
}

fn none_of(window: Window, why: Gap) -> ClusterPart {
    ClusterPart { coverage: archive::nothing(window, why), fixed: None }
}
