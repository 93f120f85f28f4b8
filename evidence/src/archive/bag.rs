//! The tag files that make an archive a bag (RFC 8493): `bagit.txt` and `bag-info.txt`, and the names of all tag files.
//!
//! The manifests are `manifest`'s, the text for people is `readme`'s.

use super::{Title, one_line};

/// Says that it is a bag.
pub(crate) const BAGIT: &str = "bagit.txt";
/// For people.
pub(crate) const README: &str = "README.txt";
/// Whose bag it is and how much is in it.
pub(crate) const BAG_INFO: &str = "bag-info.txt";
/// Digests of the payload.
pub(crate) const MANIFEST: &str = "manifest-sha256.txt";
/// Digests of the tag files before it.
pub(crate) const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";
/// The signature of the tag manifest.
pub(crate) const SIGNATURE: &str = "tagmanifest-sha256.txt.sig";

/// What the tag manifest must list: every tag file but itself, its signature and the index.
pub(crate) const TAGGED: [&str; 4] = [BAGIT, README, BAG_INFO, MANIFEST];

/// The whole of `bagit.txt`.
pub(crate) const BAGIT_TEXT: &str = "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n";

/// What `Payload-Oxum` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Oxum {
    pub(crate) octets: u64,
    pub(crate) streams: u64,
}

const OXUM: &str = "Payload-Oxum: ";
const SIGNING_KEY: &str = "Casefile-Signing-Key: ";
const UNSIGNED: &str = "none";

/// `bag-info.txt`; `fingerprint` of the key that signs, if one does.
pub(crate) fn info(title: &Title, oxum: Oxum, fingerprint: Option<&str>) -> String {
    let ask = &title.ask;
    let id = title.incident.map_or_else(|| title.name(), |id| id.to_string());
    let date = title.sealed_at.to_seconds_text();
    format!(
        "External-Identifier: {id}\n\
         External-Description: {}\n\
         Bagging-Date: {}\n\
         Bag-Software-Agent: {}\n\
         {OXUM}{}.{}\n\
         Casefile-Format: 1\n\
         Casefile-Window: {} {}\n\
         Casefile-Sealed-At: {}\n\
         {SIGNING_KEY}{}\n",
        one_line(&ask.title),
        date.split('T').next().unwrap_or_default(),
        one_line(&title.sealed_by),
        oxum.octets,
        oxum.streams,
        ask.window.from(),
        ask.window.until(),
        title.sealed_at,
        fingerprint.unwrap_or(UNSIGNED),
    ) + &amends(title)
}

/// The lines of an archive that amends another one.
fn amends(title: &Title) -> String {
    title.amends.as_ref().map_or_else(String::new, |before| {
        let (name, sha256) = (one_line(&before.file_name), before.sha256);
        format!("Casefile-Revision: {}\nCasefile-Amends: {name} {sha256}\n", title.revision())
    })
}

/// What a `bag-info.txt` says of the payload, if it does.
pub(crate) fn oxum(info: &str) -> Option<Oxum> {
    let (octets, streams) = value(info, OXUM)?.split_once('.')?;
    Some(Oxum { octets: octets.parse().ok()?, streams: streams.parse().ok()? })
}

/// The fingerprint of the key that should have signed, if a `bag-info.txt` names one.
pub(crate) fn signing_key(info: &str) -> Option<&str> {
    value(info, SIGNING_KEY).filter(|v| *v != UNSIGNED)
}

fn value<'a>(info: &'a str, label: &str) -> Option<&'a str> {
    info.lines().find_map(|l| l.strip_prefix(label))
}
