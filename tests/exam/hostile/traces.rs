//! What is left of the attacks: in the last words, among the nodes, in the archives, in the data directory, in the audit log.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use casefile_collector::audit;
use casefile_evidence::archive::layout;
use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::units::Bytes;
use casefile_proto::wire::v1;
use casefile_proto::wire::v1::incident_service_client::IncidentServiceClient;

use super::FLEET;
use super::case::Site;
use crate::frames;
use crate::recorded::Recorded;
use crate::report::Findings;
use crate::world::World;

/// Incidents that attackers answered are sealed within this.
const SEALED: Duration = Duration::from_secs(120);

/// No item of these archives is larger.
const ITEM: Bytes = Bytes::mib(64);

/// Looks everywhere. The collector is stopped.
pub(super) async fn judge(mut world: World, site: &Site, frames_of_each: u64, findings: &mut Findings) -> Result<()> {
    let nodes = dial_nodes(&world).await?;
    let sealed = all_sealed(site).await?;
    world.collector.stop()?;
    let expected = site.expected();
    let honest: BTreeSet<String> = (0..FLEET).map(casefile_tests::fleet::name).collect();
    let mut strangers = 0u64;
    for node in &nodes {
        // Those that had a session of their own are known; nobody else may be.
        let ours =
            honest.contains(node.as_str()) || node.as_str().starts_with("bad-") || node.as_str().starts_with("victim-");
        if !ours {
            strangers += 1;
            findings.fault(format!("{node} is among the nodes"));
        }
    }
    findings.figure("nodes that nobody is", strangers);
    let mut held = 0u64;
    for entry in std::fs::read_dir(world.door.data.join("last-words")).context("list the last words")? {
        let path = entry?.path();
        let mut wrong = Vec::new();
        let recorded = Recorded::checked(&path, &mut |frame| {
            if frame.boot != casefile_tests::fleet::BOOT
                && let Err(what) = frames::check(frame)
            {
                wrong.push(what);
            }
            Ok(())
        })?;
        let Some(node) = recorded.node.clone() else { continue };
        for fault in wrong.into_iter().chain(recorded.faults.iter().cloned()) {
            findings.fault(format!("the last words of {node}: {fault}"));
        }
        held += recorded.frames.len() as u64;
        let (boot, last) = match expected.frames.get(&node) {
            Some(expected) => *expected,
            None if honest.contains(node.as_str()) => (casefile_tests::fleet::BOOT, frames_of_each),
            None => (BootId::from_bytes([0; 16]), 0),
        };
        let good: BTreeSet<(BootId, FrameSeq)> = (1..=last).map(|seq| (boot, FrameSeq(seq))).collect();
        let found: BTreeSet<(BootId, FrameSeq)> = recorded.frames.keys().copied().collect();
        for (boot, seq) in found.difference(&good).take(3) {
            findings.fault(format!(
                "the last words of {node} hold frame {seq} of boot {boot}, which nobody sent in good faith"
            ));
        }
        for (boot, seq) in good.difference(&found).take(3) {
            findings.fault(format!("the last words of {node} lack frame {seq} of boot {boot}, which was acknowledged"));
        }
    }
    findings.figure("frames at the collector", held);
    findings.figure("incidents that attackers answered, sealed", sealed);
    archives(&world.door.data.join("archives"), findings)?;
    paths(&world.door.data, findings)?;
    let mut told = BTreeSet::new();
    let log = casefile_collector::data::audit_below(&world.door.data);
    let chain = audit::read(&log, |line| {
        told.insert((line.entry.who.clone(), line.entry.verb.word()));
    });
    chain.context("the audit log does not hold together")?;
    findings.figure("kinds of lines that the audit log must have", expected.audited.len());
    for (who, verb) in expected.audited.difference(&told) {
        findings.fault(format!("the audit log says nothing of {verb} by {who}"));
    }
    Ok(())
}

async fn dial_nodes(world: &World) -> Result<Vec<NodeName>> {
    let nodes = crate::dial::person(&world.door).await?.nodes().await?;
    Ok(nodes.into_iter().map(|status| status.node).collect())
}

/// Waits until no incident is open any more; says how many there are.
async fn all_sealed(site: &Site) -> Result<usize> {
    let deadline = Instant::now() + SEALED;
    let mut client = IncidentServiceClient::new(site.as_owner().await?);
    loop {
        let listed = client
            .list_incidents(v1::ListIncidentsRequest { page_size: 1_000, ..v1::ListIncidentsRequest::default() })
            .await?
            .into_inner()
            .incidents;
        let open = listed
            .iter()
            .filter(|incident| !matches!(incident.state(), v1::IncidentState::Sealed | v1::IncidentState::Failed))
            .count();
        if open == 0 {
            return Ok(listed.len());
        }
        if Instant::now() > deadline {
            bail!("{open} incidents were not sealed in {} s", SEALED.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// No archive may hold an item that was uploaded by an attacker as a whole one.
fn archives(dir: &Path, findings: &mut Findings) -> Result<()> {
    let mut read = 0u64;
    for entry in std::fs::read_dir(dir).context("list the archives")? {
        let path = entry?.path();
        if !path.to_string_lossy().ends_with(".tar.gz") {
            continue;
        }
        let mut archive = Archive::open(&path, Limits::default())?;
        read += 1;
        let paths: Vec<_> = archive.entries().iter().map(|entry| entry.path.clone()).collect();
        for item in paths {
            if layout::split_node_item(&item).is_none() {
                continue;
            }
            let bytes = archive.read(&item, ITEM)?;
            if bytes.windows(HOSTILE.len()).any(|window| window == HOSTILE)
                && !item.as_str().ends_with("logs/files/hostile.log")
            {
                findings.fault(format!("{}: {item} holds what an attacker uploaded", path.display()));
            }
        }
    }
    findings.figure("archives read", read);
    Ok(())
}

/// What attackers upload begins so.
const HOSTILE: &[u8] = b"hostile content";

/// Nothing may lie in the data directory, or beside it, by a name that came over the wire.
fn paths(data: &Path, findings: &mut Findings) -> Result<()> {
    let mut waiting = vec![data.parent().unwrap_or(data).to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if ["passwd", "hostile", "another.log", "etc"].iter().any(|word| name.contains(word)) {
                findings.fault(format!("{} lies there", entry.path().display()));
            }
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}
