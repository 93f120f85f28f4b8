//! What the API server sent, taken into the log: pages of lists and lines of watches, an object at a time.

use std::fmt;
use std::io;

use casefile_proto::time::WallTime;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::log::{Applied, Log};
use crate::cluster::kinds::Kind;
use crate::cluster::sanitise::CUT;

/// What a page of a list said beside its objects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The version of the whole list.
    pub version: String,
    /// What to ask for the next page with; `None`: this was the last.
    pub next: Option<String>,
}

/// What a line of a watch said.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// An object is at this version.
    Version(String, Applied),
    /// Nothing happened up to this version.
    Bookmark(String),
    /// It cannot be told; the `Status`.
    Error(Value),
    /// It is nothing that a watch says.
    Garbage(String),
}

/// Why something was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It is no list.
    #[error("it is no list of objects: {0}")]
    Malformed(String),
    /// It cannot be written.
    #[error("the log of the cluster cannot be written")]
    Unwritten(#[from] io::Error),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    object: Value,
}

impl Page {
    /// Reads a page of a list and gives out its objects, one at a time: a page of them at once would be many times its own
    /// size. An error says what is wrong with it, and objects may have been given out before that was seen.
    pub fn read(bytes: &[u8], mut each: impl FnMut(Value)) -> Result<Self, String> {
        let mut from = serde_json::Deserializer::from_slice(bytes);
        let meta = Envelope { each: &mut each }.deserialize(&mut from).and_then(|meta| from.end().map(|()| meta));
        let meta = meta.map_err(|e| e.to_string())?;
        if meta.resource_version.is_empty() {
            return Err("it has no version".to_owned());
        }
        Ok(Self { version: meta.resource_version, next: meta.next.filter(|next| !next.is_empty()) })
    }
}

impl Log {
    /// Takes a page.
    pub fn page(&mut self, kind: &'static Kind, bytes: &[u8], is_first: bool, at: WallTime) -> Result<Page, NotTaken> {
        self.pages(kind, bytes, is_first, at, |_| {})
    }

    /// Takes the metadata of what is too large to be asked for: that it is there, and what it is called.
    pub fn passed(
        &mut self,
        kind: &'static Kind,
        bytes: &[u8],
        is_first: bool,
        at: WallTime,
    ) -> Result<Page, NotTaken> {
        self.pages(kind, bytes, is_first, at, |object| {
            if object["metadata"].is_object() {
                object["metadata"]["annotations"] = serde_json::json!({CUT: "larger than what is asked for at once"});
            }
        })
    }

    fn pages(
        &mut self,
        kind: &'static Kind,
        bytes: &[u8],
        is_first: bool,
        at: WallTime,
        change: impl Fn(&mut Value),
    ) -> Result<Page, NotTaken> {
        if is_first {
            self.begin_list(kind);
        }
        let mut failed = None;
        let page = Page::read(bytes, |mut object| {
            if failed.is_none() {
                change(&mut object);
                failed = self.object(kind, object, at).err();
            }
        });
        match failed {
            Some(error) => Err(NotTaken::Unwritten(error)),
            None => page.map_err(NotTaken::Malformed),
        }
    }

    fn object(&mut self, kind: &'static Kind, object: Value, at: WallTime) -> io::Result<()> {
        match self.sanitiser.read(kind, object) {
            Ok(raw) => {
                self.kinds[kind.position()].is_there(&raw.head.uid);
                self.shown(kind, raw, at).map(drop)
            }
            Err(error) => {
                tracing::debug!(kind = kind.plural, %error, "passed over in a list");
                self.kinds[kind.position()].cut += 1;
                Ok(())
            }
        }
    }

    /// An object is too large to be asked for.
    pub fn passed_over(&mut self, kind: &'static Kind) {
        self.kinds[kind.position()].cut += 1;
    }

    /// Takes a line of a watch.
    pub fn line(&mut self, kind: &'static Kind, bytes: &[u8], at: WallTime) -> Result<Told, NotTaken> {
        let line: Line = match serde_json::from_slice(bytes) {
            Ok(line) => line,
            Err(error) => return Ok(Told::Garbage(error.to_string())),
        };
        let told = match line.kind.as_str() {
            "ERROR" => return Ok(Told::Error(line.object)),
            "BOOKMARK" => match line.object["metadata"]["resourceVersion"].as_str() {
                Some(version) if !version.is_empty() => Told::Bookmark(version.to_owned()),
                _ => return Ok(Told::Garbage("a bookmark without a version".to_owned())),
            },
            "ADDED" | "MODIFIED" | "DELETED" => {
                let raw = match self.sanitiser.read(kind, line.object) {
                    Ok(raw) if raw.head.version.is_empty() => {
                        return Ok(Told::Garbage("an object without a version".to_owned()));
                    }
                    Ok(raw) => raw,
                    Err(error) => return Ok(Told::Garbage(error.to_string())),
                };
                let version = raw.head.version.clone();
                let applied = match line.kind.as_str() {
                    "DELETED" => self.deleted(kind, raw, at)?,
                    _ if self.kinds[kind.position()].has_gone(&raw.head.uid) => Applied::Backwards,
                    _ => self.shown(kind, raw, at)?,
                };
                Told::Version(version, applied)
            }
            other => return Ok(Told::Garbage(format!("{:?}", other.chars().take(32).collect::<String>()))),
        };
        self.kinds[kind.position()].contact.heard(at);
        Ok(told)
    }
}

/// A list, whose objects are given out one by one.
struct Envelope<'e, F> {
    each: &'e mut F,
}

impl<'de, F: FnMut(Value)> DeserializeSeed<'de> for Envelope<'_, F> {
    type Value = ListMeta;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<ListMeta, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Value)> Visitor<'de> for Envelope<'_, F> {
    type Value = ListMeta;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ListMeta, A::Error> {
        let mut meta = ListMeta::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "metadata" => meta = map.next_value()?,
                "items" => map.next_value_seed(Items { each: &mut *self.each })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(meta)
    }
}

struct Items<'e, F> {
    each: &'e mut F,
}

impl<'de, F: FnMut(Value)> DeserializeSeed<'de> for Items<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Value)> Visitor<'de> for Items<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects")
    }

    /// Some lists say `null` where there is nothing.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<(), A::Error> {
        while let Some(object) = all.next_element()? {
            (self.each)(object);
        }
        Ok(())
    }
}
