//! What changed in the window: a line of `changes.jsonl`.

use std::collections::BTreeMap;

use casefile_proto::time::WallTime;
use serde::Deserialize;
use serde_json::Value;

use super::called;

/// A change of an object.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Change {
    /// When the collector saw it.
    pub at: WallTime,
    /// The kind of the object.
    pub kind: String,
    /// Its namespace; `None`: it has none.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default)]
    pub uid: Option<String>,
    /// `added`, `modified`, `deleted`.
    pub change: String,
    /// Which fields.
    #[serde(default)]
    pub fields: Vec<String>,
    /// What they were.
    #[serde(default)]
    pub was: BTreeMap<String, Value>,
    /// What they are.
    #[serde(default)]
    pub is: BTreeMap<String, Value>,
    /// Its line in the entry, from 1.
    #[serde(skip)]
    pub line: u64,
    /// Where that begins, in bytes.
    #[serde(skip)]
    pub offset: u64,
    /// The line as it stands there, cut.
    #[serde(skip)]
    pub text: String,
}

/// The most fields that are named in a sentence.
const NAMED: usize = 3;

/// The longest value in a sentence.
const MAX_VALUE: usize = 120;

impl Change {
    /// `namespace/name`, or the name.
    pub fn called(&self) -> String {
        called(self.namespace.as_deref(), &self.name)
    }

    /// In a sentence: `Pod shop/api-1: status.phase from Running to Failed`.
    pub fn sentence(&self) -> String {
        let of = format!("{} {}", self.kind, self.called());
        if self.change != "modified" {
            return format!("{of} was {}", self.change);
        }
        let mut told: Vec<String> = self.fields.iter().take(NAMED).map(|field| self.field(field)).collect();
        if self.fields.len() > NAMED {
            told.push(format!("{} more fields", self.fields.len() - NAMED));
        }
        if told.is_empty() { format!("{of} was modified") } else { format!("{of}: {}", told.join(", ")) }
    }

    fn field(&self, field: &str) -> String {
        match (self.was.get(field), self.is.get(field)) {
            (Some(was), Some(is)) => format!("{field} from {} to {}", short(was), short(is)),
            (None, Some(is)) => format!("{field} is now {}", short(is)),
            (Some(was), None) => format!("{field} was {}", short(was)),
            (None, None) => format!("{field} changed"),
        }
    }

    /// The fields that say which image a container runs, with what they were and are.
    pub fn images(&self) -> impl Iterator<Item = (&str, String, String)> {
        self.is.iter().filter(|(field, _)| field.contains("image")).filter_map(|(field, is)| {
            let was = self.was.get(field)?;
            (was != is).then(|| (field.as_str(), short(was), short(is)))
        })
    }
}

/// A value as it is told.
fn short(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let cut = text.floor_char_boundary(MAX_VALUE);
    if cut < text.len() { format!("{}…", &text[..cut]) } else { text }
}
