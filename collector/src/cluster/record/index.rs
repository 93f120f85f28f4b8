//! What is kept in memory of each object: where its newest version lies, how it is told from the next, and what choosing needs.
//!
//! As small as it can be: a cluster has hundreds of thousands of objects, and this grows with them alone.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use casefile_proto::time::WallTime;

use super::contact::Contact;
use super::segment::Place;
use crate::cluster::meta::Meta;

/// The newest version of one object.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Where it lies.
    pub place: Place,
    /// When it was seen.
    pub at: WallTime,
    /// Which list it was in last.
    pub(super) mark: u32,
    /// Which one of its name.
    pub(super) uid: u64,
    /// Its version, and the one before: what comes back is not believed.
    pub(super) version: u64,
    pub(super) was: u64,
    /// Of what it says.
    pub(super) digest: u64,
    /// What choosing needs.
    pub meta: Option<Box<Meta>>,
    /// The heartbeats of what has some.
    pub beat: Option<Box<Beat>>,
}

/// The heartbeats of one object, as they were seen last.
#[derive(Debug, Clone)]
pub struct Beat {
    /// The times that it says; snapshots share them.
    pub pulse: Arc<[String]>,
    /// When they changed.
    pub at: WallTime,
    /// Whether it was written down that they do not change any more.
    pub stopped: bool,
}

/// The objects of one namespace, by name; snapshots share the names.
pub type Names = BTreeMap<Arc<str>, Slot>;

/// One kind.
#[derive(Debug, Default)]
pub struct Tracked {
    /// By namespace (empty: none) and name.
    pub objects: BTreeMap<Box<str>, Names>,
    /// How it is followed.
    pub contact: Contact,
    /// Which list is under way, or was the last.
    pub(super) mark: u32,
    /// Objects that could not be kept whole, or at all, since it was followed.
    pub cut: u64,
    /// The ones that went last, oldest first: none of them comes back, whatever a watch repeats.
    gone: VecDeque<Gone>,
}

/// One that was there and went.
#[derive(Debug)]
struct Gone {
    uid: u64,
    namespace: Arc<str>,
    name: Arc<str>,
    at: WallTime,
}

/// So many of those that went are known. What is repeated is what was said just before.
const MAX_GONE: usize = 1_024;

impl Tracked {
    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Slot> {
        self.objects.get(namespace)?.get(name)
    }

    pub(super) fn get_mut(&mut self, namespace: &str, name: &str) -> Option<&mut Slot> {
        self.objects.get_mut(namespace)?.get_mut(name)
    }

    pub(super) fn insert(&mut self, namespace: &str, name: &str, slot: Slot) {
        if !self.objects.contains_key(namespace) {
            self.objects.insert(namespace.into(), BTreeMap::new());
        }
        if let Some(names) = self.objects.get_mut(namespace) {
            names.insert(name.into(), slot);
        }
    }

    /// It went at this time, as far as is known.
    pub(super) fn went(&mut self, namespace: &str, name: &str, at: WallTime) {
        let Some(slot) = self.remove(namespace, name) else { return };
        self.gone.push_back(Gone { uid: slot.uid, namespace: namespace.into(), name: name.into(), at });
        if self.gone.len() > MAX_GONE {
            self.gone.pop_front();
        }
    }

    /// It is not known any more, whether it is there or not.
    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> Option<Slot> {
        let names = self.objects.get_mut(namespace)?;
        let slot = names.remove(name);
        if names.is_empty() {
            self.objects.remove(namespace);
        }
        slot
    }

    /// Whether this one was there and went. One without a uid cannot be told from others.
    pub(super) fn has_gone(&self, uid: &str) -> bool {
        let mark = mark_of(uid);
        !uid.is_empty() && self.gone.iter().any(|gone| gone.uid == mark)
    }

    /// This one is there, whatever was said of it: a list has it.
    pub(super) fn is_there(&mut self, uid: &str) {
        if self.has_gone(uid) {
            let uid = mark_of(uid);
            self.gone.retain(|gone| gone.uid != uid);
        }
    }

    /// When one of this name was seen to be gone that is not there now; `None`: it is there, or it never was, or that was long ago.
    pub fn gone_since(&self, namespace: &str, name: &str) -> Option<WallTime> {
        if self.get(namespace, name).is_some() {
            return None;
        }
        let mut all = self.gone.iter().rev();
        all.find(|gone| *gone.namespace == *namespace && *gone.name == *name).map(|gone| gone.at)
    }

    /// Every object, in order of namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Slot)> {
        self.objects.iter().flat_map(|(space, names)| names.iter().map(|(name, slot)| (&**space, &**name, slot)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.values().map(BTreeMap::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }
}

/// Texts that are compared for equality only.
pub(super) fn mark_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
