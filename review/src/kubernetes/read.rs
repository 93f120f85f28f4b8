//! Reads `data/cluster/`: lists of objects, one object at a time, within caps on bytes and objects, and the changes of the window.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use casefile_evidence::archive::layout;
use casefile_proto::item::EntryPath;
use casefile_proto::units::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{Application, Autoscaler, Change, Claim, Cluster, Event, Job, Kind, Node, Pod, Service, Slice, Workload};
use crate::casefile::{CaseFile, chain};
use crate::display::safe;
use crate::finding::Evidence;

/// Below it everything of the cluster lies.
pub(crate) const BELOW: &str = "data/cluster/";

/// The changes of the window.
pub(crate) const CHANGES: &str = "data/cluster/changes.jsonl";

/// The most that is read of lists: 150,000 pods of 6 KiB fit.
const MAX_BYTES: u64 = 1 << 30;

/// The most objects that are kept: 150,000 pods and their events fit.
const MAX_OBJECTS: usize = 400_000;

/// The largest object: etcd takes none beyond 1.5 MiB unless it was told otherwise.
const MAX_OBJECT: u64 = 4 << 20;

/// The most that is read of the changes, and the longest line of them.
const MAX_CHANGES: Bytes = Bytes::mib(64);
const MAX_LINE: u64 = 1 << 20;

/// What is named one by one of what could not be read.
const MAX_UNREAD: usize = 50;

impl Cluster {
    /// What the case file has of it.
    pub fn read(casefile: &mut CaseFile) -> Self {
        Self::read_of(casefile, &|_| true)
    }

    /// The same of these kinds alone: who wants the names of pods does not wait for everything else.
    pub fn read_of(casefile: &mut CaseFile, wanted: &dyn Fn(Kind) -> bool) -> Self {
        let mut cluster = Self::default();
        let all: Vec<(EntryPath, u64)> = casefile
            .entries
            .list()
            .iter()
            .filter(|entry| entry.path.as_str().starts_with(BELOW))
            .map(|entry| (entry.path.clone(), entry.size))
            .collect();
        cluster.present = !all.is_empty();
        let mut left = Left { bytes: MAX_BYTES, objects: MAX_OBJECTS };
        for (path, size) in all {
            let Some(kind) = kind_of(path.as_str()).filter(|kind| wanted(*kind)) else { continue };
            cluster.kinds.insert(kind);
            let why = if size > left.bytes {
                Some(format!("it has {}, and no more than {} of lists are read", Bytes(size), Bytes(MAX_BYTES)))
            } else {
                left.bytes -= size;
                list(casefile, &mut cluster, kind, &path, &mut left)
            };
            if let Some(why) = why {
                cluster.partly.insert(kind);
                cluster.tell(path.as_str(), &why);
            }
        }
        // Of a kind that has no object in any namespace there is no list, and yet it was looked at: the coverage says so. A gap
        // without an interval is of objects that are not here.
        let rows = casefile.coverage.cluster.iter().flat_map(|cluster| &cluster.kinds);
        let none = rows.filter(|row| row.objects == 0 && !row.covered.is_empty());
        let none = none.filter(|row| row.gaps.iter().all(|gap| gap.interval.is_some()));
        cluster.kinds.extend(none.filter_map(|row| Kind::of_plural(&row.kind)).filter(|kind| wanted(*kind)));
        if wanted(Kind::Event) {
            changes(casefile, &mut cluster);
        }
        cluster.index();
        cluster
    }

    fn tell(&mut self, what: &str, why: &str) {
        if self.unread.len() < MAX_UNREAD {
            self.unread.push((safe(what), safe(why)));
        }
    }
}

/// What it costs to look at the cluster, in bytes.
pub(crate) fn size(casefile: &CaseFile) -> u64 {
    let read = casefile
        .entries
        .list()
        .iter()
        .filter(|entry| kind_of(entry.path.as_str()).is_some() || entry.path.as_str() == CHANGES);
    read.map(|entry| entry.size).fold(0, u64::saturating_add)
}

struct Left {
    bytes: u64,
    objects: usize,
}

/// The kind of the objects in an entry: `data/cluster/cluster-resources/pods/shop.json`, `…/nodes.json`,
/// `…/custom-resources/applications.argoproj.io/argocd.json`.
fn kind_of(path: &str) -> Option<Kind> {
    let below = path.strip_prefix(BELOW)?;
    let below = below.strip_prefix("cluster-resources/").or_else(|| below.starts_with("custom-").then_some(below))?;
    let below = below.strip_prefix("custom-resources/").unwrap_or(below).strip_suffix(".json")?;
    let mut parts = below.split('/');
    let kind = Kind::of_directory(parts.next()?)?;
    // Deeper there is nothing of ours.
    (parts.count() <= 1).then_some(kind)
}

/// Reads a list; the answer is why it could not be read to its end.
fn list(
    casefile: &mut CaseFile,
    cluster: &mut Cluster,
    kind: Kind,
    path: &EntryPath,
    left: &mut Left,
) -> Option<String> {
    let read = match casefile.entries.entry(path) {
        Ok(read) => read,
        Err(error) => return Some(chain(&error)),
    };
    cluster.entries.push(path.clone());
    let since = Cell::new(0);
    let counted = Counted { read: BufReader::with_capacity(64 << 10, read), since: &since };
    let mut taking = Taking { cluster, kind, left, since: &since, number: 0, full: false, name: path.as_str() };
    let mut json = serde_json::Deserializer::from_reader(counted);
    let done = json.deserialize_any(Items(&mut taking)).and_then(|()| json.end());
    match done {
        _ if taking.full => Some(format!("only the first {MAX_OBJECTS} objects are looked at")),
        Ok(()) => None,
        Err(error) => Some(format!("object {}: {error}; what is behind it is not looked at", taking.number + 1)),
    }
}

/// Counts the bytes since the last object began, and ends where one is too large.
struct Counted<'c, R> {
    read: R,
    since: &'c Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.read.read(buffer)?;
        self.since.set(self.since.get().saturating_add(n as u64));
        if self.since.get() > MAX_OBJECT {
            return Err(io::Error::other(format!("it is larger than {}", Bytes(MAX_OBJECT))));
        }
        Ok(n)
    }
}

/// What happens to each object.
struct Taking<'t> {
    cluster: &'t mut Cluster,
    kind: Kind,
    left: &'t mut Left,
    since: &'t Cell<u64>,
    number: usize,
    full: bool,
    name: &'t str,
}

impl Taking<'_> {
    fn object(&mut self, object: &Value) {
        self.number += 1;
        self.since.set(0);
        if self.left.objects == 0 {
            self.full = true;
            return;
        }
        self.left.objects -= 1;
        let cluster = &mut *self.cluster;
        let entry = cluster.entries.len().saturating_sub(1);
        let taken = match self.kind {
            Kind::Pod => Pod::of(object, entry).map(|one| cluster.pods.push(one)),
            Kind::Node => Node::of(object, entry).map(|one| cluster.nodes.push(one)),
            Kind::Event => Event::of(object, entry).map(|one| cluster.events.push(one)),
            Kind::Deployment | Kind::ReplicaSet | Kind::StatefulSet | Kind::DaemonSet => {
                Workload::of(self.kind, object, entry).map(|one| cluster.workloads.push(one))
            }
            Kind::Job => Job::of(object, entry).map(|one| cluster.jobs.push(one)),
            Kind::Service => Service::of(object, entry).map(|one| cluster.services.push(one)),
            Kind::EndpointSlice => Slice::of(object, entry).map(|one| cluster.slices.push(one)),
            Kind::PersistentVolumeClaim => Claim::of(object, entry).map(|one| cluster.claims.push(one)),
            Kind::HorizontalPodAutoscaler => Autoscaler::of(object, entry).map(|one| cluster.autoscalers.push(one)),
            Kind::Application => Application::of(object, entry).map(|one| cluster.applications.push(one)),
        };
        if taken.is_none() {
            let why = format!("object {} has no name, or is no {}", self.number, self.kind.name());
            self.cluster.partly.insert(self.kind);
            self.cluster.tell(self.name, &why);
        }
    }
}

/// A list object with `items`, or a plain array.
struct Items<'a, 't>(&'a mut Taking<'t>);

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_list = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                is_list = true;
                map.next_value_seed(Seq(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            self.0.since.set(0);
        }
        // Nothing read is not the same as nothing there.
        if is_list { Ok(()) } else { Err(A::Error::custom("this is no list of objects")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(object) = seq.next_element::<Value>()? {
            self.0.object(&object);
        }
        Ok(())
    }

    /// `"items": null` is an empty list.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

struct Seq<'a, 't>(&'a mut Taking<'t>);

impl<'de> DeserializeSeed<'de> for Seq<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(Items(self.0))
    }
}

/// Reads the changes; a line that is none is named, and the rest is taken.
fn changes(casefile: &mut CaseFile, cluster: &mut Cluster) {
    let path = layout::path(CHANGES);
    if casefile.entries.find(&path).is_none() {
        return;
    }
    cluster.has_changes = true;
    let mut read = match casefile.entries.entry(&path) {
        Ok(read) => BufReader::new(read.take(MAX_CHANGES.0)),
        Err(error) => return cluster.tell(CHANGES, &chain(&error)),
    };
    let mut unread: BTreeMap<u64, String> = BTreeMap::new();
    let (mut line, mut number, mut offset) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        match (&mut read).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) if offset >= MAX_CHANGES.0 => {
                unread.insert(u64::MAX, format!("only the first {MAX_CHANGES} are looked at"));
                break;
            }
            Ok(0) => break,
            Ok(n) => {
                number += 1;
                let begins = offset;
                offset += n as u64;
                match serde_json::from_slice::<Change>(&line) {
                    Ok(mut change) => {
                        (change.line, change.offset) = (number, begins);
                        let text = String::from_utf8_lossy(&line);
                        let text = text.trim_end_matches('\n');
                        text[..text.floor_char_boundary(Evidence::MAX_TEXT)].clone_into(&mut change.text);
                        cluster.changes.push(change);
                    }
                    Err(error) => _ = unread.insert(number, format!("line {number}: {error}")),
                }
                if unread.len() >= MAX_UNREAD || cluster.changes.len() >= MAX_OBJECTS {
                    unread.insert(u64::MAX, "what is behind it is not looked at".to_owned());
                    break;
                }
            }
            Err(error) => {
                unread.insert(u64::MAX, error.to_string());
                break;
            }
        }
    }
    drop(read);
    unread.into_values().for_each(|why| cluster.tell(CHANGES, &why));
    cluster.changes.sort_by_key(|change| (change.at, change.line));
}
