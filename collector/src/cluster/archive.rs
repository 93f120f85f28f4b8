//! The cluster's part of an archive: objects as of the end of the window, in the layouts that `sbctl` and `omc` open, and what
//! changed in the window. What is taken is written once, beside what the nodes sent, before sealing begins: sealing again
//! takes the same bytes.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::rc::Rc;

use casefile_evidence::archive::chunk::{Chunk, Chunker, Pack, write_spooled};
use casefile_evidence::archive::layout::CLUSTER;
use casefile_proto::cluster::{ClusterCoverage, KindCoverage};
use casefile_proto::gap::{Gap, GapReason};
use casefile_proto::item::{Digest, EntryPath, safe_component};
use casefile_proto::time::Window;
use casefile_proto::units::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::changes;
use super::kinds::{KINDS, Kind};
use super::record::entry::Change;
use super::record::snapshot::{Changed, Pick, Snapshot, Taken};
use super::sanitise::restore;
use crate::incident::entries::{Body, Entry};
use crate::incident::recorded::Spooled;
use crate::spool::Content;

/// What is said of what was taken, in the directory that it was taken to. It is there when everything is.
const TAKEN: &str = "taken.json";

/// The most of that: a line for every file, and there is one for every node and namespace.
const MAX_TAKEN: u64 = 64 << 20;

/// The part of the budget that changes may have.
const CHANGES_SHARE: u64 = 4;

/// What was taken.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fixed {
    files: Vec<FixedFile>,
    /// What is there and what is missing.
    pub coverage: ClusterCoverage,
}

/// One entry of the archive.
#[derive(Debug, Serialize, Deserialize)]
struct FixedFile {
    path: EntryPath,
    /// Its content, as chunks. Several entries may have one.
    file: u32,
    size: u64,
    sha256: Digest,
}

impl Fixed {
    /// The entries of the archive.
    pub fn entries(&self, dir: &Path) -> Vec<Entry> {
        let entry = |fixed: &FixedFile| {
            let content = Content { size: fixed.size, sha256: fixed.sha256 };
            let body = Body::Chunks(Spooled { file: file_of(dir, fixed.file), content });
            Entry { path: fixed.path.clone(), body }
        };
        self.files.iter().map(entry).collect()
    }
}

fn file_of(dir: &Path, number: u32) -> std::path::PathBuf {
    dir.join(format!("{number}.chunks"))
}

/// What lies in this directory; `None`: nothing was taken yet.
pub fn taken(dir: &Path) -> io::Result<Option<Fixed>> {
    let file = match File::open(dir.join(TAKEN)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(MAX_TAKEN).read_to_end(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

/// Takes what a snapshot shows into this directory, which is made anew: of at most so many plain bytes. Blocks.
pub fn take(mut snapshot: Snapshot, budget: Bytes, dir: &Path) -> io::Result<Fixed> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(dir)?,
    }
    let mut taking = Taking { dir, files: Vec::new(), next: 0, left: budget.0 };
    let changes = taking.changes(&mut snapshot, budget.0 / CHANGES_SHARE)?;
    let mut rows = Vec::new();
    let kinds = std::mem::take(&mut snapshot.kinds);
    for kind in &kinds {
        rows.push(taking.kind(&mut snapshot, kind, &changes[kind.kind.position()])?);
    }
    taking.discovery(&kinds, snapshot.server.as_deref())?;
    let namespaces = snapshot.wanted().namespaces.iter().cloned().collect();
    let coverage = ClusterCoverage { asked: snapshot.window(), namespaces, kinds: rows, gaps: Vec::new() };
    let fixed = Fixed { files: taking.files, coverage };
    // One sync for all of the files: there may be thousands.
    let held = File::open(dir)?;
    rustix::fs::syncfs(&held)?;
    let text = serde_json::to_vec(&fixed)?;
    let new = dir.join("taken.new");
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(TAKEN))?;
    held.sync_all()?;
    Ok(fixed)
}

/// What an archive says of a cluster of which nothing could be taken.
pub fn nothing(window: Window, why: Gap) -> ClusterCoverage {
    ClusterCoverage { asked: window, namespaces: Vec::new(), kinds: Vec::new(), gaps: vec![why.over(window)] }
}

/// How many changes of a kind there were, and how many did not fit.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    changes: u64,
    left_out: u64,
}

/// One file of chunks while it is written.
struct Out {
    chunker: Chunker<Box<dyn FnMut(Chunk) -> io::Result<()>>>,
    file: Rc<RefCell<BufWriter<File>>>,
    number: u32,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunker.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Taking<'t> {
    dir: &'t Path,
    files: Vec<FixedFile>,
    next: u32,
    /// Plain bytes that may still be taken.
    left: u64,
}

impl Taking<'_> {
    fn begin(&mut self) -> io::Result<Out> {
        let number = self.next;
        self.next += 1;
        let file = Rc::new(RefCell::new(BufWriter::new(File::create(file_of(self.dir, number))?)));
        let to = Rc::clone(&file);
        let each: Box<dyn FnMut(Chunk) -> io::Result<()>> =
            Box::new(move |chunk| write_spooled(&chunk, &mut *to.borrow_mut()));
        Ok(Out { chunker: Chunker::new(Pack::Deflate, each), file, number })
    }

    /// A file is whole: it is each of these entries.
    fn end(&mut self, out: Out, paths: &[String]) -> io::Result<()> {
        let Out { chunker, file, number } = out;
        let (size, sha256) = chunker.finish()?;
        file.borrow_mut().flush()?;
        for path in paths {
            let path = format!("{CLUSTER}{path}").parse().map_err(io::Error::other)?;
            self.files.push(FixedFile { path, file: number, size, sha256 });
        }
        Ok(())
    }

    /// `changes.jsonl`, and whole objects that were deleted in the window: those are in no list as of its end.
    fn changes(&mut self, snapshot: &mut Snapshot, budget: u64) -> io::Result<Vec<Counted>> {
        let (mut changes, mut deleted) = (self.begin()?, self.begin()?);
        let (mut left, mut counted) = (budget, vec![Counted::default(); KINDS.len()]);
        snapshot.scan(|changed: Changed<'_>| {
            let Some(line) = changes::line(&changed)? else { return Ok(()) };
            let count = &mut counted[changed.kind.position()];
            count.changes += 1;
            let gone = (changed.head.change == Change::Deleted).then_some(changed.body);
            let size = (line.len() + gone.map_or(0, <[u8]>::len)) as u64;
            if size > left {
                count.left_out += 1;
                return Ok(());
            }
            left -= size;
            changes.write_all(&line)?;
            if let Some(body) = gone {
                let at = changed.head.at;
                write!(deleted, "{{\"at\":\"{at}\",\"kind\":\"{}\",\"object\":", changed.kind.kind)?;
                deleted.write_all(body)?;
                deleted.write_all(b"}\n")?;
            }
            Ok(())
        })?;
        self.end(changes, &["changes.jsonl".to_owned()])?;
        self.end(deleted, &["deleted.jsonl".to_owned()])?;
        self.left = self.left.saturating_sub(budget - left);
        Ok(counted)
    }

    fn kind(&mut self, snapshot: &mut Snapshot, taken: &Taken, changes: &Counted) -> io::Result<KindCoverage> {
        let kind = taken.kind;
        let (mut objects, mut left_out, mut unread) = (0, 0, 0);
        if !kind.is_namespaced() {
            // An empty list, too, says something, but of a kind that was never listed nothing is known.
            if !taken.covered.is_empty() || !taken.objects.is_empty() {
                let mut list = List::begin(self.begin()?, kind)?;
                for (name, pick) in taken.objects.values().flatten() {
                    let Some(body) = self.object(snapshot, kind, pick, &mut left_out, &mut unread) else { continue };
                    list.add(&body)?;
                    objects += 1;
                    let mut single = self.begin()?;
                    single.write_all(&body)?;
                    single.write_all(b"\n")?;
                    let name = safe_component(name);
                    let path = match kind.plural {
                        "namespaces" => format!("namespaces/{name}/{name}.yaml"),
                        plural => format!("cluster-scoped-resources/{}/{plural}/{name}.yaml", kind.group()),
                    };
                    self.end(single, &[path])?;
                }
                let out = list.end()?;
                self.end(out, &[format!("cluster-resources/{}.json", kind.file)])?;
            }
        } else {
            for (namespace, names) in &taken.objects {
                let mut list = None;
                for (_, pick) in names {
                    let Some(body) = self.object(snapshot, kind, pick, &mut left_out, &mut unread) else { continue };
                    if !snapshot.wanted().wants_object(kind, namespace, &body) {
                        continue;
                    }
                    if list.is_none() {
                        list = Some(List::begin(self.begin()?, kind)?);
                    }
                    if let Some(list) = &mut list {
                        list.add(&body)?;
                        objects += 1;
                    }
                }
                if let Some(list) = list {
                    let out = list.end()?;
                    let name = safe_component(namespace);
                    let (file, group, plural) = (kind.file, kind.group(), kind.plural);
                    let paths = [
                        format!("cluster-resources/{file}/{name}.json"),
                        format!("namespaces/{name}/{group}/{plural}.yaml"),
                    ];
                    self.end(out, &paths)?;
                }
            }
        }
        let mut gaps = taken.gaps.clone();
        let mut missing = |reason, count: u64, detail: &str| {
            gaps.extend((count > 0).then(|| Gap::new(reason, detail).counting(count)));
        };
        missing(GapReason::Budget, left_out, "objects that no longer fitted into the budget of the cluster");
        missing(GapReason::Budget, changes.left_out, "changes that no longer fitted into the budget of the cluster");
        missing(GapReason::SourceFailed, unread, "objects that could not be read from the record of the cluster");
        missing(GapReason::Budget, taken.cut, "objects that were too large to be kept whole, or could not be kept");
        let (covered, changes) = (taken.covered.clone(), changes.changes);
        Ok(KindCoverage { kind: kind.plural.to_owned(), covered, objects, changes, gaps })
    }

    /// One object, as it is kept, with its heartbeats; `None`: it is counted.
    fn object(
        &mut self,
        snapshot: &mut Snapshot,
        kind: &Kind,
        pick: &Pick,
        left_out: &mut u64,
        unread: &mut u64,
    ) -> Option<Vec<u8>> {
        let Ok(mut body) = snapshot.read(pick) else {
            *unread += 1;
            return None;
        };
        if let Some(pulse) = &pick.pulse
            && let Ok(mut object) = serde_json::from_slice::<Value>(&body)
        {
            restore(kind, &mut object, pulse);
            body = serde_json::to_vec(&object).unwrap_or(body);
        }
        let Some(left) = self.left.checked_sub(body.len() as u64) else {
            *left_out += 1;
            return None;
        };
        self.left = left;
        Some(body)
    }

    /// What tells a client which kinds there are, and what the server is: without it `sbctl` answers nothing at all
    /// (`pkg/api/server.go`, `getAPIV1` and `getAPIs`; `pkg/sbctl/support-bundle.go`, `FindClusterData`).
    fn discovery(&mut self, kinds: &[Taken], server: Option<&str>) -> io::Result<()> {
        let known: Vec<_> =
            kinds.iter().filter(|k| !k.covered.is_empty() || !k.objects.is_empty()).map(|k| k.kind).collect();
        let mut versions: Vec<_> = known.iter().map(|kind| kind.version).collect();
        versions.sort_unstable();
        versions.dedup();
        let resources = versions.iter().map(|version| {
            let here = known.iter().filter(|kind| kind.version == *version);
            let here = here.map(|kind| {
                let mut one = json!({"name": kind.plural, "singularName": kind.kind.to_lowercase(), "kind": kind.kind,
                    "namespaced": kind.is_namespaced(), "verbs": ["get", "list"]});
                // As the API has it: none is not there.
                if !kind.called.short.is_empty() {
                    one["shortNames"] = json!(kind.called.short);
                }
                if kind.called.of_all {
                    one["categories"] = json!(["all"]);
                }
                one
            });
            json!({"kind": "APIResourceList", "groupVersion": version, "resources": here.collect::<Vec<_>>()})
        });
        let resources = resources.collect();
        let groups = versions.iter().filter_map(|version| version.split_once('/')).map(|(group, version)| {
            let one = json!({"groupVersion": format!("{group}/{version}"), "version": version});
            json!({"name": group, "versions": [one], "preferredVersion": one})
        });
        let groups = groups.collect();
        let mut files =
            vec![("cluster-resources/resources.json", resources), ("cluster-resources/groups.json", groups)];
        // What is not known is not there: nobody said which server it was.
        if let Some(info) = server.and_then(|text| serde_json::from_str::<Value>(text).ok()) {
            let text = info["gitVersion"].as_str().unwrap_or_default().to_owned();
            files.push(("cluster-info/cluster_version.json", json!({"info": info, "string": text})));
        }
        for (path, value) in files {
            let mut out = self.begin()?;
            serde_json::to_writer_pretty(&mut out, &value)?;
            out.write_all(b"\n")?;
            self.end(out, &[path.to_owned()])?;
        }
        Ok(())
    }
}

/// A list of objects as the API gives it, an object a line: as JSON for one reader, which is YAML for the other.
struct List {
    out: Out,
    is_empty: bool,
}

impl List {
    fn begin(mut out: Out, kind: &Kind) -> io::Result<Self> {
        write!(
            out,
            "{{\"apiVersion\":\"{}\",\"kind\":\"{}List\",\"metadata\":{{}},\"items\":[",
            kind.version, kind.kind
        )?;
        Ok(Self { out, is_empty: true })
    }

    fn add(&mut self, body: &[u8]) -> io::Result<()> {
        self.out.write_all(if self.is_empty { b"\n" } else { b",\n" })?;
        self.is_empty = false;
        self.out.write_all(body)
    }

    fn end(mut self) -> io::Result<Out> {
        self.out.write_all(b"\n]}\n")?;
        Ok(self.out)
    }
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
