//! The incidents that an item opened, and what the collector has promised of each: that it was opened, and, once it was
//! announced as sealed, that its archive lies there with that size and digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_evidence::archive::layout;
use casefile_evidence::archive::reader::{Archive, Limits};
use casefile_evidence::archive::sign::AllowedSigners;
use casefile_evidence::archive::verify::SignatureState;
use casefile_evidence::recording::reader::Recording;
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::{IncidentState, SealedArchive};
use casefile_proto::item::{Digest, EntryPath};
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;
use sha2::Digest as _;
use tokio::time::timeout;

use crate::dial::{self, Door};
use crate::recorded::Recorded;

/// A question that is not answered within this is not answered.
const ANSWER: Duration = Duration::from_secs(5);

/// No recording of these archives is larger.
const RECORDING: Bytes = Bytes::mib(256);

/// What was opened and announced.
#[derive(Default)]
pub(crate) struct Incidents {
    opened: BTreeSet<IncidentId>,
    announced: BTreeMap<IncidentId, SealedArchive>,
    /// Further archives: of incidents that were opened though nobody got the answer, and of what amended one that was sealed.
    further: BTreeMap<String, (IncidentId, SealedArchive)>,
    /// Promises that were broken.
    pub(crate) faults: Vec<String>,
}

impl Incidents {
    /// How many were opened: the collector has answered.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.len() as u64
    }

    /// How many were announced as sealed.
    pub(crate) fn announced(&self) -> u64 {
        self.announced.len() as u64
    }

    /// Whether every one of them was announced as sealed.
    pub(crate) fn all_sealed(&self) -> bool {
        self.announced.len() == self.opened.len()
    }

    /// Opens one over this window. `None`: the collector did not answer, and nothing was promised.
    pub(crate) async fn open(
        &mut self,
        collector: &Door,
        window: Window,
        nodes: &[NodeName],
        patience: Duration,
    ) -> Option<IncidentId> {
        let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
        let mut client = dial::person(collector).await.ok()?;
        let opened = timeout(ANSWER, client.open(window, &names, patience)).await.ok()?.ok()?.id;
        self.opened.insert(opened);
        Some(opened)
    }

    /// Asks for all that were not announced yet. A collector that does not answer is asked again another time.
    pub(crate) async fn look(&mut self, collector: &Door) {
        let Ok(mut client) = dial::person(collector).await else { return };
        let waiting: Vec<_> = self.opened.iter().filter(|id| !self.announced.contains_key(id)).copied().collect();
        for id in waiting {
            let Ok(answer) = timeout(ANSWER, client.get(id)).await else { return };
            let incident = match answer {
                Ok(detail) => detail.incident,
                Err(error) => {
                    let lost = error.downcast_ref::<tonic::Status>().is_some_and(|s| s.code() == tonic::Code::NotFound);
                    if lost {
                        self.faults.push(format!("{id} was opened, and now it is not known"));
                        self.opened.remove(&id);
                        continue;
                    }
                    return;
                }
            };
            match (incident.state, incident.archive) {
                (IncidentState::Sealed, Some(archive)) => drop(self.announced.insert(id, archive)),
                (IncidentState::Sealed, None) => self.faults.push(format!("{id} is sealed and has no archive")),
                (IncidentState::Failed, _) => {
                    self.faults.push(format!("{id} failed: {}", incident.failure.unwrap_or_default()));
                    self.opened.remove(&id);
                }
                _ => {}
            }
        }
    }

    /// Whether the collector is done with all incidents that it has, asked for or not; what it sealed further is told too.
    pub(crate) async fn at_rest(&mut self, collector: &Door) -> bool {
        let Ok(mut client) = dial::person(collector).await else { return false };
        let Ok(Ok(all)) = timeout(ANSWER, client.list()).await else { return false };
        for incident in &all {
            let sealed = incident.earlier.iter().chain(&incident.archive);
            let known = self.announced.get(&incident.id).map(|archive| archive.file_name.clone());
            for archive in sealed.filter(|archive| Some(&archive.file_name) != known.as_ref()) {
                self.further.insert(archive.file_name.clone(), (incident.id, archive.clone()));
            }
        }
        all.iter().all(|incident| matches!(incident.state, IncidentState::Sealed | IncidentState::Failed))
    }

    /// Every archive that was told of.
    fn archives(&self) -> impl Iterator<Item = (IncidentId, &SealedArchive)> {
        let announced = self.announced.iter().map(|(id, archive)| (*id, archive));
        announced.chain(self.further.values().map(|(id, archive)| (*id, archive)))
    }

    /// How many archives there are besides the announced ones.
    pub(crate) fn further(&self) -> u64 {
        self.further.len() as u64
    }

    /// Each archive that was told of must lie there, to the byte.
    pub(crate) fn check_files(&mut self, archives: &Path) {
        let mut faults = Vec::new();
        for (id, archive) in self.archives() {
            match digest(&archives.join(&archive.file_name)) {
                Ok((size, sha256)) if (size, sha256) == (archive.size, archive.sha256) => {}
                Ok((size, _)) => {
                    faults.push(format!("{id} was announced with {} bytes, and now has {size}", archive.size));
                }
                Err(error) => faults.push(format!("{id} was announced, and its archive is gone: {error:#}")),
            }
        }
        self.faults.append(&mut faults);
    }

    /// Reads every archive: it must be intact and signed, and its recordings in order and without an undeclared hole. Gives
    /// what each item below a node's directory is.
    pub(crate) fn read(&mut self, archives: &Path, signers: &AllowedSigners) -> BTreeMap<(NodeName, String), Digest> {
        let (mut items, mut faults) = (BTreeMap::new(), Vec::new());
        for (id, sealed) in self.archives() {
            match read_one(&archives.join(&sealed.file_name), signers, &mut items) {
                Ok(found) => faults.extend(found.into_iter().map(|fault| format!("{id}: {fault}"))),
                Err(error) => faults.push(format!("{id}: its archive cannot be read: {error:#}")),
            }
        }
        self.faults.append(&mut faults);
        items
    }

    /// What was announced of one.
    pub(crate) fn archive(&self, id: IncidentId) -> Option<&SealedArchive> {
        self.announced.get(&id)
    }
}

/// The last so long.
pub(crate) fn the_last(back: Duration) -> Result<Window> {
    let now = casefile_tests::now();
    Ok(Window::new(now.before(back), now)?)
}

fn digest(path: &Path) -> Result<(u64, Digest)> {
    let (mut file, mut sha256, mut size) = (File::open(path)?, sha2::Sha256::new(), 0);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, Digest(sha256.finalize().into()))),
            n => {
                sha256.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}

fn read_one(
    path: &Path,
    signers: &AllowedSigners,
    items: &mut BTreeMap<(NodeName, String), Digest>,
) -> Result<Vec<String>> {
    let mut archive = Archive::open(path, Limits::default())?;
    let verified = archive.verify(signers);
    let mut faults: Vec<String> = verified.problems.iter().map(|p| format!("{:?}: {}", p.entry, p.what)).collect();
    if !matches!(verified.signature, SignatureState::Good { .. }) {
        faults.push(format!("its signature is {:?}", verified.signature));
    }
    let paths: Vec<EntryPath> = archive.entries().iter().map(|entry| entry.path.clone()).collect();
    for path in paths {
        let Some((node, item)) = layout::split_node_item(&path) else { continue };
        let bytes = archive.read(&path, RECORDING)?;
        if path.as_str().ends_with(".seg") {
            let recorded = Recorded::of(
                &mut Recording::from_segment(&mut bytes.as_slice(), RECORDING).context("open a recording")?,
                &mut |_| Ok(()),
            )?;
            faults.extend(recorded.faults.into_iter().map(|fault| format!("{path}: {fault}")));
        }
        items.insert((node, item.to_string()), Digest(sha2::Sha256::digest(&bytes).into()));
    }
    Ok(faults)
}
