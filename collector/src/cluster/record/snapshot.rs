//! The log as of a moment, and what changed in the window before it. Made in an instant under the log's lock; read without it,
//! out of files that stay readable when the log lets them go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use casefile_proto::gap::Gap;
use casefile_proto::time::{WallTime, Window};

use super::entry::{Change, Head, VersionHead};
use super::log::Log;
use super::segment::{Blocks, Opened, Place, Reader, record, records};
use crate::cluster::kinds::{KINDS, Kind};

/// Where one object lies, as of a moment.
#[derive(Debug, Clone)]
pub struct Pick {
    place: Place,
    /// Heartbeats that came after the version was written; `None`: none did.
    pub pulse: Option<Arc<[String]>>,
}

/// Objects by namespace (empty: none), in order of name. There may be hundreds of thousands: names are the log's own.
pub type Picks = BTreeMap<Box<str>, Vec<(Arc<str>, Pick)>>;

/// One kind.
#[derive(Debug)]
pub struct Taken {
    /// Which.
    pub kind: &'static Kind,
    /// As of the window's end, as far as nothing happened since; [`Snapshot::scan`] makes it whole.
    pub objects: Picks,
    /// When it was followed.
    pub covered: Vec<Window>,
    /// When it was not.
    pub gaps: Vec<Gap>,
    /// Objects that were shown and could not be kept whole, or at all, since it is followed.
    pub cut: u64,
}

/// A change, as [`Snapshot::scan`] finds it.
pub struct Changed<'c> {
    /// Of which kind.
    pub kind: &'static Kind,
    /// What happened.
    pub head: &'c VersionHead<'c>,
    /// The object, afterwards; of one that was deleted, as it was at last.
    pub body: &'c [u8],
    /// The object before; `None`: there was none, or it is not known.
    pub before: Option<&'c [u8]>,
}

/// The log as of the end of a window.
pub struct Snapshot {
    window: Window,
    files: Vec<(u32, WallTime, Opened)>,
    /// The block that was not written yet: where it would begin, and what is in it.
    tail: (Place, Arc<Vec<u8>>),
    /// Every kind, in the order of [`KINDS`].
    pub kinds: Vec<Taken>,
    /// What the API server says of itself.
    pub server: Option<String>,
    wanted: Wanted,
    reader: Reader,
}

/// Which namespaces are wanted. Objects without one always are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// These, and no other; empty: all.
    pub namespaces: BTreeSet<String>,
}

/// Where events about nodes lie.
const NODE_EVENTS: &str = "default";

impl Wanted {
    /// Whether objects of a kind in a namespace are wanted: leases of nodes and events about nodes belong to the cluster, wherever they lie.
    pub fn wants(&self, kind: &Kind, namespace: &str) -> bool {
        self.namespaces.is_empty()
            || namespace.is_empty()
            || self.namespaces.contains(namespace)
            || kind.plural == "leases"
            || (kind.plural == "events" && namespace == NODE_EVENTS)
    }

    /// Whether this very object is wanted: of the namespace in which events about nodes lie, no other event.
    pub fn wants_object(&self, kind: &Kind, namespace: &str, body: &[u8]) -> bool {
        if self.namespaces.is_empty() || kind.plural != "events" || self.namespaces.contains(namespace) {
            return true;
        }
        let event: Result<About, _> = serde_json::from_slice(body);
        event.is_ok_and(|event| event.involved_object.kind == "Node")
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct About {
    involved_object: Involved,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Involved {
    kind: String,
}

impl Log {
    /// The namespaces in which a pod of one of these names is; empty: in none, or no pod is named.
    pub fn namespaces_of_pods(&self, names: &[String]) -> BTreeSet<String> {
        let pods = Kind::named("pods").map(|kind| &self.tracked(kind).objects);
        let spaces = pods.into_iter().flatten();
        let with = spaces.filter(|(_, pods)| names.iter().any(|name| pods.contains_key(name.as_str())));
        with.map(|(namespace, _)| namespace.to_string()).collect()
    }

    /// The log as of the end of this window, as far as it is now.
    pub fn snapshot(&self, window: Window, wanted: Wanted, now: WallTime) -> Snapshot {
        let begin = self.begin();
        let kinds = KINDS.iter().map(|kind| {
            let tracked = self.tracked(kind);
            let (covered, gaps) = tracked.contact.covered(window, begin, now);
            let mut objects = Picks::new();
            let spaces = tracked.objects.iter().filter(|(namespace, _)| wanted.wants(kind, namespace));
            for (namespace, names) in spaces {
                let then = names.iter().filter(|(_, slot)| slot.at < window.until());
                let picks = then.map(|(name, slot)| {
                    let pulse = slot.beat.as_ref().map(|beat| Arc::clone(&beat.pulse));
                    (Arc::clone(name), Pick { place: slot.place, pulse })
                });
                objects.insert(namespace.clone(), picks.collect());
            }
            Taken { kind, objects, covered, gaps, cut: tracked.cut }
        });
        let kinds = kinds.collect();
        let files: Vec<_> = self.files().map(|(number, first, opened)| (number, first, opened.clone())).collect();
        let tail = (self.pending_place(), Arc::new(self.pending().to_vec()));
        Snapshot { window, files, tail, kinds, server: self.server.clone(), wanted, reader: Reader::new() }
    }
}

impl Snapshot {
    /// The window.
    pub const fn window(&self) -> Window {
        self.window
    }

    /// Which namespaces it is narrowed to.
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Reads what happened since the window began: gives out each change in it, in order of time, and makes the objects those of the
    /// window's end. Call it once, before objects are read.
    pub fn scan(&mut self, mut each: impl FnMut(Changed<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut after = BTreeSet::new();
        let nexts = self.files.iter().skip(1).map(|(_, first, _)| Some(*first)).chain([None]);
        let since = self.window.from();
        let files = self.files.iter().zip(nexts).filter(|(_, next)| next.is_none_or(|next| next > since));
        let files: Vec<_> = files.map(|((number, _, opened), _)| (*number, opened.clone())).collect();
        for (number, opened) in files {
            let Some(mut blocks) = Blocks::new(&opened)? else { continue };
            while let Some((block, plain)) = blocks.next() {
                let here = Place { segment: number, block, at: 0 };
                self.scan_block(here, plain, &mut after, &mut each)?;
            }
        }
        let (here, tail) = (self.tail.0, Arc::clone(&self.tail.1));
        self.scan_block(here, &tail, &mut after, &mut each)?;
        for names in self.kinds.iter_mut().flat_map(|taken| taken.objects.values_mut()) {
            // What was kept last of a name counts.
            names.sort_by(|(a, _), (b, _)| a.cmp(b));
            names.dedup_by(|later, kept| {
                later.0 == kept.0 && {
                    std::mem::swap(later, kept);
                    true
                }
            });
        }
        Ok(())
    }

    fn scan_block(
        &mut self,
        here: Place,
        plain: &[u8],
        after: &mut BTreeSet<(usize, String, String)>,
        each: &mut impl FnMut(Changed<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        for (at, head, body) in records(plain) {
            let Head::Version(head) = head else { continue };
            let Some(kind) = Kind::named(&head.kind) else { continue };
            if head.again || head.at < self.window.from() || !self.wanted.wants(kind, &head.namespace) {
                continue;
            }
            let place = Place { at, ..here };
            let before = head.before(place);
            let objects = &mut self.kinds[kind.position()].objects;
            if head.at >= self.window.until() {
                let key = (kind.position(), head.namespace.to_string(), head.name.to_string());
                // What stood before the first change after the window is what there was at its end.
                if after.insert(key)
                    && let Some(place) = before
                {
                    keep(objects, &head, Pick { place, pulse: None });
                }
                continue;
            }
            if head.change == Change::Deleted && kind.plural == "events" {
                // That the cluster forgets events after an hour is no reason for us to.
                keep(objects, &head, Pick { place, pulse: None });
                continue;
            }
            if head.change == Change::Found || !self.wanted.wants_object(kind, &head.namespace, body) {
                continue;
            }
            let kept = match before {
                Some(before) if before.block == here.block => version(plain, before.at).map(Bytes::Here),
                Some(before) => self.block(before).ok().map(|block| Bytes::There(block, before.at)),
                None => None,
            };
            let before = match &kept {
                Some(Bytes::Here(bytes)) => Some(*bytes),
                Some(Bytes::There(block, at)) => version(block, *at),
                None => None,
            };
            each(Changed { kind, head: &head, body, before })?;
        }
        Ok(())
    }

    /// The bytes of an object. An error when they cannot be read.
    pub fn read(&mut self, pick: &Pick) -> io::Result<Vec<u8>> {
        let block = self.block(pick.place)?;
        let body = version(&block, pick.place.at).ok_or(io::ErrorKind::InvalidData)?;
        Ok(body.to_vec())
    }

    fn block(&mut self, place: Place) -> io::Result<Arc<Vec<u8>>> {
        if (place.segment, place.block) == (self.tail.0.segment, self.tail.0.block) {
            return Ok(Arc::clone(&self.tail.1));
        }
        let file = self.files.iter().find(|(number, ..)| *number == place.segment).ok_or(io::ErrorKind::NotFound)?;
        self.reader.block(&file.2, place)
    }
}

enum Bytes<'b> {
    Here(&'b [u8]),
    There(Arc<Vec<u8>>, u32),
}

fn version(block: &[u8], at: u32) -> Option<&[u8]> {
    match record(block, at)? {
        (Head::Version(_), body, _) => Some(body),
        _ => None,
    }
}

fn keep(objects: &mut Picks, head: &VersionHead<'_>, pick: Pick) {
    objects.entry(head.namespace.as_ref().into()).or_default().push((head.name.as_ref().into(), pick));
}
