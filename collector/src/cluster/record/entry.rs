//! What a record of the cluster's log says beside the object that it holds: its head, a line of JSON.

use casefile_proto::gap::GapReason;
use casefile_proto::time::WallTime;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

use super::segment::Place;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was there when its kind was listed for the first time: nobody knows since when it has been so.
    Found,
    /// It is new.
    Added,
    /// It is another one than before.
    Modified,
    /// It is gone. The record holds it as it was at last.
    Deleted,
}

/// One version of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionHead<'h> {
    /// The kind, as paths say it.
    pub kind: Cow<'h, str>,
    /// When it was seen.
    pub at: WallTime,
    /// It happened after this and until `at`; left out: at `at`, as far as the API server can be believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<WallTime>,
    /// What happened.
    pub change: Change,
    /// Empty: none.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub namespace: Cow<'h, str>,
    /// Its name.
    pub name: Cow<'h, str>,
    /// Which one of that name.
    pub uid: Cow<'h, str>,
    /// Its version.
    pub version: Cow<'h, str>,
    /// Of what it says.
    pub digest: u64,
    /// The version before, in the same file; left out: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<(u32, u32)>,
    /// Whether it was written before, and is written once more because the file that it was in goes, or because the next
    /// version is to have it beside it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub again: bool,
}

/// A time in which a kind was not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapHead {
    /// The kind.
    pub kind: String,
    /// Since when.
    pub from: WallTime,
    /// Until when.
    pub until: WallTime,
    /// Why.
    pub reason: GapReason,
    /// What exactly.
    pub detail: String,
}

/// How far each kind is followed; said from time to time, so that the next start knows where it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedHead {
    /// When this was written. Each file of the log begins with such a record.
    pub at: WallTime,
    /// Since when each is followed, and when it was heard of last.
    pub kinds: BTreeMap<String, (WallTime, WallTime)>,
    /// What the API server says of itself, as it came: JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// The head of a record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Head {
    /// A version; its body is the object.
    Version(VersionHead<'static>),
    /// A time in which a kind was not followed.
    Gap(GapHead),
    /// How far each is followed.
    Followed(FollowedHead),
}

/// The same, to be written.
#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum HeadRef<'h> {
    /// A version.
    Version(&'h VersionHead<'h>),
    /// A time in which a kind was not followed.
    Gap(&'h GapHead),
    /// How far each is followed.
    Followed(&'h FollowedHead),
}

impl VersionHead<'_> {
    /// Where the version before lies, when this one lies here.
    pub fn before(&self, here: Place) -> Option<Place> {
        self.before.map(|(block, at)| Place { segment: here.segment, block, at })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
