//! The log itself: versions are written one after the other, files roll, the oldest goes, a restart reads it back.
//!
//! Two rules make every file worth reading without those before it: a version that is superseded is written once more beside the one that supersedes
//! it when it lies in an older file, and what is the newest of its object when a file goes is carried into the file that is
//! written. So the state of every moment since the oldest file began, and each change since then, is in the log.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use casefile_evidence::archive::chunk::MAX_PLAIN;
use casefile_evidence::directory;
use casefile_proto::gap::GapReason;
use casefile_proto::time::WallTime;
use casefile_proto::units::Bytes;
use casefile_redact::Redactor;

use super::entry::{Change, FollowedHead, GapHead, Head, HeadRef, VersionHead};
use super::index::{Beat, Slot, Tracked, mark_of};
use super::segment::{BLOCK, Blocks, Place, Reader, Segment, put, record, records};
use crate::cluster::kinds::{KINDS, Kind};
use crate::cluster::meta::{Meta, Shared};
use crate::cluster::sanitise::{Raw, Sanitiser, restore};

/// How many files the log has about, so that so much of it goes at a time.
const SEGMENTS: u64 = 32;

/// The smallest and the largest of them.
const SEGMENT: std::ops::RangeInclusive<u64> = 32 << 10..=16 << 20;

/// How long the log may hold, and how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes on disk.
    pub bytes: Bytes,
    /// The oldest of it.
    pub age: Duration,
}

/// What became of a version that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is news.
    New,
    /// It was known.
    Same,
    /// It is older than what is known: whoever shows it does not keep the order.
    Backwards,
}

/// One file of the log, as it is remembered.
#[derive(Debug)]
struct Kept {
    segment: Segment,
    /// When it was begun.
    first: WallTime,
}

/// The log.
pub struct Log {
    dir: PathBuf,
    limits: Limits,
    pub(super) sanitiser: Sanitiser,
    segments: BTreeMap<u32, Kept>,
    /// The block that is not written yet; it belongs at the end of the newest file.
    pending: Vec<u8>,
    /// One for each of [`KINDS`].
    pub(super) kinds: Vec<Tracked>,
    pub(super) shared: Shared,
    reader: Reader,
    /// Why nothing can be written at the moment.
    failing: Option<String>,
    /// What the API server said of itself.
    pub(super) server: Option<String>,
}

impl Log {
    /// Opens the log below this directory, and reads back what an earlier collector has left there. What is no log is
    /// removed: nobody else writes there.
    pub fn open(dir: &Path, limits: Limits, sanitiser: Sanitiser, now: WallTime) -> io::Result<Self> {
        directory::make(dir)?;
        let mut numbers: Vec<u32> = std::fs::read_dir(dir)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(SUFFIX)?.parse().ok())
            .collect();
        numbers.sort_unstable();
        let mut log = Self {
            dir: dir.to_owned(),
            limits,
            sanitiser,
            segments: BTreeMap::new(),
            pending: Vec::new(),
            kinds: KINDS.iter().map(|_| Tracked::default()).collect(),
            shared: Shared::default(),
            reader: Reader::new(),
            failing: None,
            server: None,
        };
        for number in numbers {
            log.read_back(number)?;
        }
        log.roll(now)?;
        log.shared.sweep();
        Ok(log)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}{SUFFIX}"))
    }

    fn read_back(&mut self, number: u32) -> io::Result<()> {
        let (path, mut first) = (self.path(number), None);
        let opened = Segment::open(&path, |block, plain| {
            for (at, head, body) in records(plain) {
                let place = Place { segment: number, block, at };
                match head {
                    Head::Version(head) => self.remember(&head, place, body),
                    Head::Gap(gap) => {
                        if let Some(kind) = Kind::named(&gap.kind) {
                            self.kinds[kind.position()].contact.remembered(gap);
                        }
                    }
                    Head::Followed(followed) => {
                        first.get_or_insert(followed.at);
                        self.server = followed.server.or(self.server.take());
                        for (plural, (since, heard)) in followed.kinds {
                            if let Some(kind) = Kind::named(&plural) {
                                self.kinds[kind.position()].contact.restored(since, heard);
                            }
                        }
                    }
                }
            }
        })?;
        match (opened, first) {
            (Some(segment), Some(first)) => {
                self.segments.insert(number, Kept { segment, first });
            }
            // It was torn before it held anything.
            _ => std::fs::remove_file(&path)?,
        }
        Ok(())
    }

    fn remember(&mut self, head: &VersionHead<'_>, place: Place, body: &[u8]) {
        let Some(kind) = Kind::named(&head.kind) else { return };
        let tracked = &mut self.kinds[kind.position()];
        if head.change == Change::Deleted {
            return tracked.went(&head.namespace, &head.name, head.at);
        }
        let meta = serde_json::from_slice(body).ok().and_then(|object| Meta::of(kind, &object, &mut self.shared));
        let version = mark_of(&head.version);
        let slot = Slot {
            place,
            at: head.at,
            mark: 0,
            uid: mark_of(&head.uid),
            version,
            was: version,
            digest: head.digest,
            meta: meta.map(Box::new),
            beat: None,
        };
        tracked.insert(&head.namespace, &head.name, slot);
    }

    /// When the oldest file begins: since then every moment can be told.
    pub fn begin(&self) -> WallTime {
        self.segments.first_key_value().map_or(WallTime::MAX, |(_, kept)| kept.first)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|kept| kept.segment.len()).sum()
    }

    /// Why nothing can be written at the moment.
    pub fn failing(&self) -> Option<&str> {
        self.failing.as_deref()
    }

    /// What is known of a kind.
    pub fn tracked(&self, kind: &Kind) -> &Tracked {
        &self.kinds[kind.position()]
    }

    /// The files, for whoever reads on without the log; everything is in them.
    pub(super) fn files(&self) -> impl Iterator<Item = (u32, WallTime, &super::segment::Opened)> {
        self.segments.iter().map(|(number, kept)| (*number, kept.first, kept.segment.opened()))
    }

    /// What is not written yet, and where it will be.
    pub(super) fn pending(&self) -> &[u8] {
        &self.pending
    }

    pub(super) fn pending_place(&self) -> Place {
        let newest = self.segments.last_key_value();
        let (segment, block) = newest.map_or((0, 0), |(number, kept)| (*number, kept.segment.len()));
        Place { segment, block: u32::try_from(block).unwrap_or(u32::MAX), at: 0 }
    }

    /// A kind is listed as a whole from here on.
    pub(super) fn begin_list(&mut self, kind: &Kind) {
        let tracked = &mut self.kinds[kind.position()];
        tracked.mark = tracked.mark.wrapping_add(1).max(1);
    }

    /// A kind was listed as a whole: what was in no page of it is gone.
    pub fn end_list(&mut self, kind: &'static Kind, at: WallTime) -> io::Result<()> {
        let tracked = &self.kinds[kind.position()];
        let mark = tracked.mark;
        let since = tracked.contact.lost_since();
        let gone = tracked.iter().filter(|(_, _, slot)| slot.mark != mark);
        let gone: Vec<_> = gone.map(|(namespace, name, _)| (namespace.to_owned(), name.to_owned())).collect();
        for (namespace, name) in gone {
            self.vanished(kind, &namespace, &name, at, since)?;
        }
        let gap = self.kinds[kind.position()].contact.listed(kind.plural, at);
        self.write_gap(gap)
    }

    /// A watch of a kind ended as watches do: up to now nothing was missed.
    pub fn heard(&mut self, kind: &Kind, at: WallTime) {
        self.kinds[kind.position()].contact.heard(at);
    }

    /// A kind is followed from where it was lost.
    pub fn resumed(&mut self, kind: &Kind, at: WallTime) -> io::Result<()> {
        let gap = self.kinds[kind.position()].contact.resumed(kind.plural, at);
        self.write_gap(gap)
    }

    /// A kind is not followed any more.
    pub fn lost(&mut self, kind: &Kind, at: WallTime, reason: GapReason, detail: &str) {
        let detail = self.sanitiser.text(detail);
        self.kinds[kind.position()].contact.lost(at, reason, detail);
    }

    fn write_gap(&mut self, gap: Option<GapHead>) -> io::Result<()> {
        let Some(gap) = gap else { return Ok(()) };
        self.room(0, gap.until)?;
        self.put(&HeadRef::Gap(&gap), &[]).map(drop)
    }

    /// An object was shown as it is now, in a list or by a watch.
    pub(super) fn shown(&mut self, kind: &'static Kind, mut raw: Raw, at: WallTime) -> io::Result<Applied> {
        let tracked = &mut self.kinds[kind.position()];
        let (mark, is_new) = (tracked.mark, tracked.contact.is_new());
        let since = tracked.contact.lost_since();
        let (uid, version) = (mark_of(&raw.head.uid), mark_of(&raw.head.version));
        let mut change = if is_new { Change::Found } else { Change::Added };
        if let Some(slot) = tracked.get_mut(&raw.head.namespace, &raw.head.name) {
            if slot.version == version && slot.uid == uid {
                slot.mark = mark;
                return Ok(Applied::Same);
            }
            if slot.was == version && slot.uid == uid {
                return Ok(Applied::Backwards);
            }
            if slot.uid != uid {
                let Raw { head, .. } = &raw;
                let (namespace, name) = (head.namespace.clone(), head.name.clone());
                self.vanished(kind, &namespace, &name, at, since)?;
            } else if slot.digest == raw.digest {
                (slot.was, slot.version, slot.mark) = (slot.version, version, mark);
                let resumed = beaten(&mut slot.beat, std::mem::take(&mut raw.pulse), at);
                if !resumed {
                    return Ok(Applied::New);
                }
                raw.pulse = slot.beat.as_ref().map(|beat| beat.pulse.to_vec()).unwrap_or_default();
                change = Change::Modified;
            } else {
                change = Change::Modified;
            }
        }
        let meta = Sanitiser::peek(&raw, |object| Meta::of(kind, object, &mut self.shared)).map(Box::new);
        let (body, whole) = self.sanitiser.body(kind, &mut raw);
        let head = VersionHead {
            kind: kind.plural.into(),
            at,
            since,
            change,
            namespace: raw.head.namespace.as_str().into(),
            name: raw.head.name.as_str().into(),
            uid: raw.head.uid.as_str().into(),
            version: raw.head.version.as_str().into(),
            digest: raw.digest,
            before: None,
            again: false,
        };
        let place = self.version(kind, head, &body)?;
        let tracked = &mut self.kinds[kind.position()];
        tracked.cut += u64::from(!whole);
        let was = tracked.get(&raw.head.namespace, &raw.head.name).map_or(version, |slot| slot.version);
        let beat = (!raw.pulse.is_empty()).then(|| Box::new(Beat { pulse: raw.pulse.into(), at, stopped: false }));
        let slot = Slot { place, at, mark, uid, version, was, digest: raw.digest, meta, beat };
        tracked.insert(&raw.head.namespace, &raw.head.name, slot);
        Ok(Applied::New)
    }

    /// A watch said that an object was deleted; it shows it as it was at last.
    pub(super) fn deleted(&mut self, kind: &'static Kind, mut raw: Raw, at: WallTime) -> io::Result<Applied> {
        let (namespace, name) = (raw.head.namespace.clone(), raw.head.name.clone());
        let Some(slot) = self.kinds[kind.position()].get(&namespace, &name) else { return Ok(Applied::Same) };
        if slot.uid != mark_of(&raw.head.uid) {
            // One of the same name that went before this one came.
            return Ok(Applied::Backwards);
        }
        let (body, _) = self.sanitiser.body(kind, &mut raw);
        let head = VersionHead {
            kind: kind.plural.into(),
            at,
            since: None,
            change: Change::Deleted,
            namespace: namespace.as_str().into(),
            name: name.as_str().into(),
            uid: raw.head.uid.as_str().into(),
            version: raw.head.version.as_str().into(),
            digest: raw.digest,
            before: None,
            again: false,
        };
        self.version(kind, head, &body)?;
        self.kinds[kind.position()].went(&namespace, &name, at);
        Ok(Applied::New)
    }

    /// An object is not there any more, and nobody showed it as it was at last: what is known stands for that.
    fn vanished(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        at: WallTime,
        since: Option<WallTime>,
    ) -> io::Result<()> {
        let Some(slot) = self.kinds[kind.position()].get(namespace, name).cloned() else { return Ok(()) };
        if let Some((head, body)) = self.read(slot.place)? {
            let (before, again) = (None, false);
            self.version(kind, VersionHead { at, since, change: Change::Deleted, before, again, ..head }, &body)?;
        }
        self.kinds[kind.position()].went(namespace, name, at);
        Ok(())
    }

    /// What does not renew its lease any more is written down as that: renewals themselves are not versions.
    fn sweep_leases(&mut self, at: WallTime) -> io::Result<()> {
        let Some(kind) = Kind::named("leases") else { return Ok(()) };
        let tracked = &self.kinds[kind.position()];
        // What was heard of nobody says nothing of anybody.
        let Some((_, heard)) = tracked.contact.followed() else { return Ok(()) };
        let silent = |slot: &Slot| {
            slot.beat.as_ref().is_some_and(|beat| !beat.stopped && heard >= beat.at.after(RENEWED_WITHIN))
        };
        let stopped = tracked.iter().filter(|(_, _, slot)| silent(slot));
        let stopped: Vec<_> = stopped.map(|(namespace, name, _)| (namespace.to_owned(), name.to_owned())).collect();
        for (namespace, name) in stopped {
            let Some(slot) = self.kinds[kind.position()].get(&namespace, &name).cloned() else { continue };
            let (Some((head, body)), Some(beat)) = (self.read(slot.place)?, &slot.beat) else { continue };
            let Ok(mut object) = serde_json::from_slice(&body) else { continue };
            restore(kind, &mut object, &beat.pulse);
            let (since, change) = (Some(beat.at), Change::Modified);
            let head = VersionHead { at, since, change, before: None, again: false, ..head };
            let place = self.version(kind, head, &serde_json::to_vec(&object)?)?;
            if let Some(slot) = self.kinds[kind.position()].get_mut(&namespace, &name) {
                (slot.place, slot.at) = (place, at);
                if let Some(beat) = &mut slot.beat {
                    beat.stopped = true;
                }
            }
        }
        Ok(())
    }

    /// Writes a version down, with the one before beside it.
    fn version(&mut self, kind: &Kind, head: VersionHead<'_>, body: &[u8]) -> io::Result<Place> {
        let known = self.kinds[kind.position()].get(&head.namespace, &head.name).map(|slot| slot.place);
        // The room for both, so that they lie in one file.
        let before = known.map(|place| self.read(place)).transpose()?.flatten();
        self.room(body.len() + before.as_ref().map_or(0, |(_, body)| body.len()), head.at)?;
        let mut beside = known.filter(|place| place.segment == self.current());
        if let (None, Some((before, body))) = (beside, before) {
            let again = VersionHead { before: None, again: true, ..before };
            beside = Some(self.put(&HeadRef::Version(&again), &body)?);
        }
        let before = beside.map(|place| (place.block, place.at));
        self.put(&HeadRef::Version(&VersionHead { before, ..head }), body)
    }

    /// The record of a version.
    pub(super) fn read(&mut self, place: Place) -> io::Result<Option<(VersionHead<'static>, Vec<u8>)>> {
        let found = |block: &[u8]| match record(block, place.at) {
            Some((Head::Version(head), body, _)) => Some((head, body.to_vec())),
            _ => None,
        };
        let Some(kept) = self.segments.get(&place.segment) else { return Ok(None) };
        if u64::from(place.block) == kept.segment.len() {
            return Ok(found(&self.pending));
        }
        Ok(found(&self.reader.block(kept.segment.opened(), place)?))
    }

    fn current(&self) -> u32 {
        self.segments.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Makes sure that so many bytes of bodies fit into one block of the newest file. Fails when nothing can be written.
    fn room(&mut self, bytes: usize, at: WallTime) -> io::Result<()> {
        if self.pending.len() + bytes + HEADS > MAX_PLAIN {
            self.flush()?;
        }
        let most = (self.limits.bytes.0 / SEGMENTS).clamp(*SEGMENT.start(), *SEGMENT.end());
        let full = self.segments.last_key_value().is_none_or(|(_, kept)| kept.segment.len() >= most);
        if full {
            self.flush()?;
            self.roll(at)?;
        }
        Ok(())
    }

    /// Adds a record to the block that is not written yet; writes it when it is full.
    fn put(&mut self, head: &HeadRef<'_>, body: &[u8]) -> io::Result<Place> {
        let newest = self.segments.last_key_value().ok_or(io::ErrorKind::NotFound)?;
        let block = u32::try_from(newest.1.segment.len()).map_err(io::Error::other)?;
        let segment = *newest.0;
        let at = put(&mut self.pending, head, body)?;
        if self.pending.len() >= BLOCK {
            // What is not written stays in memory and is tried again; the next record is not taken until then.
            let _ = self.flush();
        }
        Ok(Place { segment, block, at })
    }

    /// Writes what is not written yet. After an error it still is not, and it is tried again.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let Some(mut newest) = self.segments.last_entry() else { return Ok(()) };
        match newest.get_mut().segment.append(&self.pending) {
            Ok(()) => {
                self.pending.clear();
                self.failing = None;
                Ok(())
            }
            Err(error) => {
                self.failing = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Begins a new file.
    fn roll(&mut self, at: WallTime) -> io::Result<()> {
        let number = self.current() + 1;
        let segment = Segment::create(&self.path(number)).inspect_err(|e| self.failing = Some(e.to_string()))?;
        self.segments.insert(number, Kept { segment, first: at });
        self.put_followed(at)
    }

    /// Texts pass these rules from now on: the key for secrets was renewed.
    pub fn set_redactor(&mut self, redactor: Redactor) {
        self.sanitiser.set_redactor(redactor);
    }

    /// What the API server says of itself, in JSON.
    pub fn set_server(&mut self, text: String, at: WallTime) -> io::Result<()> {
        if self.server.as_ref() == Some(&text) {
            return Ok(());
        }
        self.server = Some(text);
        self.note(at)
    }

    /// Writes down how far each kind is followed, for the next start.
    pub fn note(&mut self, at: WallTime) -> io::Result<()> {
        self.room(0, at)?;
        self.put_followed(at)
    }

    /// Looks at what has stopped renewing its lease, and forgets what no object has any more.
    pub fn sweep(&mut self, at: WallTime) -> io::Result<()> {
        self.shared.sweep();
        self.sweep_leases(at)
    }

    fn put_followed(&mut self, at: WallTime) -> io::Result<()> {
        let kinds = KINDS.iter().zip(&self.kinds);
        let kinds = kinds.filter_map(|(kind, tracked)| Some((kind.plural.to_owned(), tracked.contact.followed()?)));
        let followed = FollowedHead { at, kinds: kinds.collect(), server: self.server.clone() };
        self.put(&HeadRef::Followed(&followed), &[]).map(drop)
    }

    /// Lets the oldest files go when there is too much, or when they are too old.
    pub fn retain(&mut self, now: WallTime) -> io::Result<()> {
        let (turns, limit) = (self.segments.len(), self.limits.bytes.0);
        let mut carry = true;
        for turn in 0.. {
            let mut firsts = self.segments.values().map(|kept| kept.first);
            let (Some(_), Some(second)) = (firsts.next(), firsts.next()) else { return Ok(()) };
            let (bytes, old) = (self.bytes(), second < now.before(self.limits.age));
            if bytes <= limit && !old {
                return Ok(());
            }
            if turn >= turns && carry {
                // Everything was carried once, and it is still too much: what is alive does not fit. The oldest is not kept.
                carry = false;
                tracing::warn!(
                    bytes,
                    limit,
                    "the objects of the cluster do not fit into cluster.keep_mib; the oldest are not kept"
                );
            }
            if !carry && bytes <= limit / 4 * 3 {
                return Ok(());
            }
            self.drop_oldest(carry, now)?;
        }
        Ok(())
    }

    fn drop_oldest(&mut self, carry: bool, now: WallTime) -> io::Result<()> {
        let Some((number, kept)) = self.segments.first_key_value() else { return Ok(()) };
        let number = *number;
        let opened = kept.segment.opened().clone();
        let Some(mut blocks) = Blocks::new(&opened)? else { return Ok(()) };
        while let Some((block, plain)) = blocks.next() {
            for (at, head, body) in records(plain) {
                let Head::Version(head) = head else { continue };
                let Some(kind) = Kind::named(&head.kind) else { continue };
                let place = Place { segment: number, block, at };
                let newest = self.kinds[kind.position()].get(&head.namespace, &head.name);
                if newest.is_none_or(|slot| slot.place != place) {
                    continue;
                }
                if !carry {
                    let tracked = &mut self.kinds[kind.position()];
                    let _ = tracked.remove(&head.namespace, &head.name);
                    tracked.cut += 1;
                    continue;
                }
                self.room(body.len(), now)?;
                let again = VersionHead { before: None, again: true, ..head };
                let place = self.put(&HeadRef::Version(&again), body)?;
                if let Some(slot) = self.kinds[kind.position()].get_mut(&again.namespace, &again.name) {
                    slot.place = place;
                }
            }
        }
        // Only what lies on the disk again may go from it.
        self.flush()?;
        if let Some(kept) = self.segments.remove(&number) {
            kept.segment.remove()?;
        }
        Ok(())
    }
}

/// Room in a block for the heads of two records and what they say of the cluster.
const HEADS: usize = 16 << 10;

/// A node whose lease was not renewed for this long has missed it: kubelet renews every 10 s, and a lease counts for 40 s.
pub(super) const RENEWED_WITHIN: Duration = Duration::from_secs(40);

/// What a file of the log is called after its number.
const SUFFIX: &str = ".clog";

/// Takes note of heartbeats. Whether they had stopped and this is the first since.
fn beaten(beat: &mut Option<Box<Beat>>, pulse: Vec<String>, at: WallTime) -> bool {
    if pulse.is_empty() {
        return false;
    }
    let Some(known) = beat else {
        *beat = Some(Box::new(Beat { pulse: pulse.into(), at, stopped: false }));
        return false;
    };
    if *known.pulse == *pulse {
        return false;
    }
    let had_stopped = std::mem::take(&mut known.stopped);
    (known.pulse, known.at) = (pulse.into(), at);
    had_stopped
}
