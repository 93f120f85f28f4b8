//! Secrets and the values of configurations out of objects, before anything of them is kept: [`Sanitiser::body`] is all that
//! ever reaches the disk.
//!
//! What is nobody's evidence is dropped (`managedFields`, the configuration that was applied last); literal values of
//! environments and of Helm become hashes under a key of this collector, so that equal ones can be told and none can be
//! guessed; free text, annotations and command lines pass the rules that logs pass on the nodes.

use casefile_redact::{Redactor, Stream};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::kinds::Kind;

/// A longer annotation is kept as its length and hash: some tools keep whole objects in one.
const MAX_ANNOTATION: usize = 1 << 10;

/// The longest object that is kept whole. The largest that Kubernetes takes has about 1.5 MiB, nearly all of it annotations
/// and configuration that are hashes by then. Of a longer one is kept what it is called.
pub const MAX_BODY: usize = 384 << 10;

/// The longest name, namespace, uid or version of an object.
const MAX_NAME: usize = 253;

/// The longest text that passes the rules as a whole; what is longer is kept as its hash.
const MAX_TEXT: usize = 64 << 10;

/// What this program adds to objects, as annotations.
pub const CUT: &str = "casefile.dev/cut";

/// What an object says that it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// Its namespace; empty: none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which one of that name.
    pub uid: String,
    /// Its version, which means nothing but itself.
    pub version: String,
}

/// An object as it came, with what tells it from the version before.
#[derive(Debug)]
pub struct Raw {
    /// What it says that it is.
    pub head: Head,
    /// Of everything but its version and its heartbeats. Under a key, so that nothing can be guessed from it.
    pub digest: u64,
    /// Its heartbeats, in the order in which they stand in it: what changes every few seconds and says only that somebody
    /// is alive.
    pub pulse: Vec<String>,
    object: Value,
}

/// Why something is no object that can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoObject {
    /// It has no name.
    #[error("an object without a name")]
    NoName,
    /// A name is longer than the API allows, or holds what no name holds.
    #[error("an object with a name that cannot be one")]
    BadName,
    /// It has a namespace and should not, or the other way round.
    #[error("an object in another scope than its kind")]
    Scope,
}

/// Knows what must not be kept.
pub struct Sanitiser {
    salt: [u8; 32],
    redactor: Redactor,
}

impl Sanitiser {
    /// Hashes under `salt`, which must not change while what was hashed is compared; texts pass these rules.
    pub fn new(salt: [u8; 32], redactor: Redactor) -> Self {
        Self { salt, redactor }
    }

    /// Texts pass these rules from now on: the key for secrets was renewed.
    pub fn set_redactor(&mut self, redactor: Redactor) {
        self.redactor = redactor;
    }

    /// Reads what an object is.
    pub fn read(&self, kind: &Kind, mut object: Value) -> Result<Raw, NoObject> {
        let mut head = Head::default();
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).ok_or(NoObject::NoName)?;
        metadata.remove("managedFields");
        let text = |metadata: &Map<String, Value>, field: &str| {
            metadata.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        (head.name, head.namespace) = (text(metadata, "name"), text(metadata, "namespace"));
        (head.uid, head.version) = (text(metadata, "uid"), text(metadata, "resourceVersion"));
        metadata.remove("resourceVersion");
        if head.name.is_empty() {
            return Err(NoObject::NoName);
        }
        let odd = |text: &String| text.len() > MAX_NAME || text.contains('/') || text.chars().any(char::is_control);
        if [&head.name, &head.namespace, &head.uid, &head.version].into_iter().any(odd) {
            return Err(NoObject::BadName);
        }
        if head.namespace.is_empty() == kind.is_namespaced() {
            return Err(NoObject::Scope);
        }
        let mut pulse = Vec::new();
        for beat in beats(kind, &mut object) {
            pulse.push(beat.as_str().unwrap_or_default().chars().take(64).collect());
            *beat = Value::Null;
        }
        if let Some(fields) = object.as_object_mut() {
            fields.insert("apiVersion".to_owned(), kind.version.into());
            fields.insert("kind".to_owned(), kind.kind.into());
        }
        let digest = self.hash(&text_of(&object));
        Ok(Raw { head, digest, pulse, object })
    }

    /// The bytes of an object that are kept, and whether that is all of it.
    pub fn body(&self, kind: &Kind, raw: &mut Raw) -> (Vec<u8>, bool) {
        restore(kind, &mut raw.object, &raw.pulse);
        raw.object["metadata"]["resourceVersion"] = raw.head.version.clone().into();
        Cleaner { sanitiser: self, kind, stream: self.redactor.stream() }.value("", &mut raw.object);
        let body = text_of(&raw.object);
        if body.len() <= MAX_BODY {
            return (body, true);
        }
        let Head { namespace, name, uid, version } = &raw.head;
        let why = format!("{} bytes; {}", body.len(), self.token(&body));
        let mut metadata = serde_json::json!({
            "name": name, "namespace": namespace, "uid": uid, "resourceVersion": version,
            "creationTimestamp": raw.object["metadata"]["creationTimestamp"], "annotations": {CUT: why}
        });
        if !kind.is_namespaced()
            && let Some(fields) = metadata.as_object_mut()
        {
            fields.remove("namespace");
        }
        let stub = serde_json::json!({"apiVersion": kind.version, "kind": kind.kind, "metadata": metadata});
        (text_of(&stub), false)
    }

    /// What is known of an object before it is made clean: for choosing, never for keeping.
    pub fn peek<T>(raw: &Raw, look: impl FnOnce(&Value) -> T) -> T {
        look(&raw.object)
    }

    /// A text that may hold anything, such as the words of an API server, as it may be kept.
    pub fn text(&self, text: &str) -> String {
        masked(&mut self.redactor.stream(), text)
    }

    fn hash(&self, bytes: &[u8]) -> u64 {
        let digest = Sha256::new().chain_update(self.salt).chain_update(bytes).finalize();
        u64::from_be_bytes(digest[..8].try_into().unwrap_or_default())
    }

    fn token(&self, bytes: &[u8]) -> String {
        format!("[hash:{:016x}]", self.hash(bytes))
    }
}

/// An object as bytes, keys in order.
fn text_of(object: &Value) -> Vec<u8> {
    // Keys are texts and no number is odd: a parsed document can always be written.
    serde_json::to_vec(object).unwrap_or_default()
}

/// The heartbeats of an object, in order.
fn beats<'o>(kind: &Kind, object: &'o mut Value) -> Vec<&'o mut Value> {
    match kind.plural {
        "leases" => object.pointer_mut("/spec/renewTime").into_iter().collect(),
        "nodes" => {
            let conditions = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
            let each = conditions.into_iter().flatten();
            each.filter_map(|condition| condition.get_mut("lastHeartbeatTime")).collect()
        }
        _ => Vec::new(),
    }
}

/// Puts heartbeats where they stood.
pub fn restore(kind: &Kind, object: &mut Value, pulse: &[String]) {
    for (beat, at) in beats(kind, object).into_iter().zip(pulse) {
        *beat = at.clone().into();
    }
}

/// Pairs of name and value below these are no environment: what they say is needed, and no secret.
const PLAIN_PAIRS: &[&str] = &["sysctls", "options"];

/// Makes one object clean.
struct Cleaner<'s> {
    sanitiser: &'s Sanitiser,
    kind: &'s Kind,
    stream: Stream,
}

impl Cleaner<'_> {
    fn value(&mut self, key: &str, value: &mut Value) {
        match value {
            Value::Object(fields) => self.fields(key, fields),
            Value::Array(all) => all.iter_mut().for_each(|one| self.value(key, one)),
            _ => {}
        }
    }

    fn fields(&mut self, key: &str, fields: &mut Map<String, Value>) {
        fields.remove("managedFields");
        let is_pair = fields.get("name").is_some_and(Value::is_string) && !PLAIN_PAIRS.contains(&key);
        let is_helm = self.kind.plural == "applications";
        for (name, value) in fields.iter_mut() {
            match name.as_str() {
                "value" if is_pair && value.is_string() => self.hash(value),
                "values" | "valuesObject" | "patch" if is_helm => self.hash(value),
                "data" | "stringData" | "binaryData" if value.is_object() => {
                    value.as_object_mut().into_iter().flatten().for_each(|(_, value)| self.hash(value));
                }
                "annotations" => value.as_object_mut().into_iter().for_each(|all| self.annotations(all)),
                "volumeAttributes" | "parameters" | "options" if value.is_object() => {
                    value.as_object_mut().into_iter().flatten().for_each(|(name, value)| self.pair(name, value));
                }
                "command" | "args" => self.arguments(value),
                "message" | "note" => self.text(value),
                _ => self.value(name, value),
            }
        }
    }

    /// A value becomes its hash; an empty one stays: that it is empty is no secret.
    fn hash(&self, value: &mut Value) {
        let hash = match &*value {
            Value::Null => return,
            Value::String(text) if text.is_empty() => return,
            Value::String(text) => self.sanitiser.token(text.as_bytes()),
            other => self.sanitiser.token(&text_of(other)),
        };
        *value = hash.into();
    }

    fn text(&mut self, value: &mut Value) {
        let Value::String(text) = value else { return self.value("", value) };
        if text.len() > MAX_TEXT {
            self.hash(value);
        } else {
            *text = masked(&mut self.stream, text);
        }
    }

    fn annotations(&mut self, all: &mut Map<String, Value>) {
        all.retain(|name, _| !name.contains("last-applied"));
        for (name, value) in all.iter_mut() {
            let len = value.as_str().map_or(0, str::len);
            if len > MAX_ANNOTATION {
                let hash = value.as_str().map(|text| self.sanitiser.token(text.as_bytes())).unwrap_or_default();
                *value = format!("[cut: {len} bytes; {hash}]").into();
            } else {
                self.pair(name, value);
            }
        }
    }

    /// A value with the name that it has: a telling name makes it a secret.
    fn pair(&mut self, name: &str, value: &mut Value) {
        let Value::String(text) = value else { return self.value(name, value) };
        let last = name.rsplit('/').next().unwrap_or(name);
        let before = format!("{last}=");
        let whole = format!("{before}{text}");
        match masked(&mut self.stream, &whole).strip_prefix(&before) {
            Some(rest) => *text = rest.to_owned(),
            None => self.hash(value),
        }
    }

    /// The words of a command: an option and the word behind it are looked at together.
    fn arguments(&mut self, value: &mut Value) {
        let Value::Array(words) = value else { return self.value("", value) };
        let mut option = None;
        for word in words {
            let Value::String(text) = word else { continue };
            if let Some(option) = option.take() {
                let before = format!("{option} ");
                let whole = format!("{before}{text}");
                if let Some(rest) = masked(&mut self.stream, &whole).strip_prefix(&before)
                    && rest != text
                {
                    *text = rest.to_owned();
                    continue;
                }
            }
            self.text(word);
            option = word.as_str().filter(|w| w.starts_with('-') && !w.contains('=')).map(ToOwned::to_owned);
        }
    }
}

fn masked(stream: &mut Stream, text: &str) -> String {
    String::from_utf8_lossy(stream.record(text.as_bytes(), true)).into_owned()
}

#[cfg(test)]
#[path = "sanitise_tests.rs"]
mod tests;
