//! Verifying the bag: manifests against content, tag manifest against tag files, signature against tag manifest.
//!
//! Pure: what was read goes in, problems come out. A tag file that could not be read is a problem already, and nothing is
//! concluded from it.

use std::collections::HashMap;

use casefile_proto::item::{Digest, EntryPath};

use super::{Content, Contents, Problems, SignatureState, is_tag};
use crate::archive::bag::{self, Oxum};
use crate::archive::manifest;
use crate::archive::sign::{self, AllowedSigners, Checked};

/// Checks everything that the tag files say.
pub(super) fn check(contents: &Contents, signers: &AllowedSigners, problems: &mut Problems) -> SignatureState {
    for name in bag::TAGGED.into_iter().chain([bag::TAG_MANIFEST]) {
        if contents.complete && contents.find(name).is_none() {
            problems.of(name, "it is missing");
        }
    }
    for stranger in contents.entries.iter().filter(|e| is_tag(&e.path) && !is_known(&e.path)) {
        problems.of(stranger.path.as_str(), "no such file belongs outside of data/, and nothing vouches for it");
    }
    if whole(contents, bag::BAGIT).is_some_and(|text| text != bag::BAGIT_TEXT.as_bytes()) {
        problems.of(bag::BAGIT, "it does not say that this is a bag");
    }
    let payload: Vec<&Content> = contents.payload().collect();
    compare(bag::MANIFEST, &payload, contents, problems);
    let tagged: Vec<&Content> = contents.entries.iter().filter(|e| bag::TAGGED.contains(&e.path.as_str())).collect();
    compare(bag::TAG_MANIFEST, &tagged, contents, problems);
    let info = whole(contents, bag::BAG_INFO).map(String::from_utf8_lossy);
    if let Some(info) = &info {
        check_oxum(info, &payload, contents.complete, problems);
    }
    signature(contents, info.as_deref().and_then(bag::signing_key), signers, problems)
}

fn is_known(path: &EntryPath) -> bool {
    bag::TAGGED.contains(&path.as_str()) || [bag::TAG_MANIFEST, bag::SIGNATURE].contains(&path.as_str())
}

/// The text of a tag file that was read whole.
fn whole<'a>(contents: &'a Contents, name: &str) -> Option<&'a [u8]> {
    contents.find(name).filter(|c| c.sha256.is_some()).map(|c| c.text.as_slice())
}

/// The lines of one manifest against the files that it should list: all of them, and no others.
fn compare(name: &str, files: &[&Content], contents: &Contents, problems: &mut Problems) {
    let Some(text) = whole(contents, name) else { return };
    let lines = match manifest::parse(text) {
        Ok(lines) => lines,
        Err(why) => return problems.of(name, why),
    };
    let mut listed: HashMap<&EntryPath, Digest> = HashMap::with_capacity(lines.len());
    for (path, digest) in &lines {
        if listed.insert(path, *digest).is_some() {
            problems.of(name, format!("it lists {path} twice"));
        }
    }
    for file in files {
        match (listed.remove(&file.path), file.sha256) {
            (None, _) => problems.of(file.path.as_str(), format!("{name} does not list it")),
            (Some(said), Some(found)) if said != found => {
                problems.of(file.path.as_str(), format!("its content has the digest {found}, and {name} says {said}"));
            }
            (Some(_), _) => {}
        }
    }
    let mut missing: Vec<&EntryPath> = listed.into_keys().collect();
    missing.sort();
    for path in missing {
        problems.of(path.as_str(), format!("{name} lists it, and it is missing"));
    }
}

fn check_oxum(info: &str, payload: &[&Content], complete: bool, problems: &mut Problems) {
    let found = Oxum { octets: payload.iter().map(|c| c.size).sum(), streams: payload.len() as u64 };
    match bag::oxum(info) {
        None => problems.of(bag::BAG_INFO, "it does not say how much payload there is"),
        Some(said) if complete && said != found => problems.of(
            bag::BAG_INFO,
            format!(
                "it says {} bytes in {} files, and there are {} in {}",
                said.octets, said.streams, found.octets, found.streams
            ),
        ),
        Some(_) => {}
    }
}

/// `expected`: the key that `bag-info.txt` names. Whoever strips a signature must change that too, and then the digests.
fn signature(
    contents: &Contents,
    expected: Option<&str>,
    signers: &AllowedSigners,
    problems: &mut Problems,
) -> SignatureState {
    let broken = |why: &str| SignatureState::Broken { why: why.to_owned() };
    let Some(signature) = contents.find(bag::SIGNATURE) else {
        if !contents.complete {
            return broken("the file ends or is damaged before it");
        }
        if let Some(key) = expected {
            problems.of(bag::SIGNATURE, format!("it is missing, and {} names the key {key}", bag::BAG_INFO));
            return broken("it was taken away");
        }
        return SignatureState::Unsigned;
    };
    if signature.sha256.is_none() {
        return broken("it is damaged");
    }
    let Some(signed) = whole(contents, bag::TAG_MANIFEST) else { return broken("what it signs is damaged or missing") };
    let fingerprint = match sign::check(&signature.text, signed, signers) {
        Checked::Broken(why) => {
            problems.of(bag::SIGNATURE, why.clone());
            return SignatureState::Broken { why };
        }
        Checked::Good(ref fingerprint) | Checked::Unknown(ref fingerprint)
            if Some(fingerprint.as_str()) != expected =>
        {
            problems.of(
                bag::SIGNATURE,
                format!("it was made by {fingerprint}, and {} names {}", bag::BAG_INFO, expected.unwrap_or("no key")),
            );
            return broken("another key made it than the archive names");
        }
        Checked::Good(fingerprint) => return SignatureState::Good { fingerprint },
        Checked::Unknown(fingerprint) => fingerprint,
    };
    SignatureState::UnknownKey { fingerprint }
}
