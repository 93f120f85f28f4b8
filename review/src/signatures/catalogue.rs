//! The catalogues that are built in: Xid and SXid codes, and the signatures of `packs/`.
//!
//! They are constants of ours, read once. The tests hold them to what is said at their heads.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::set::Signatures;
use super::xid::NvidiaKind;

/// How bad a thing is in somebody's opinion, to see where opinions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// Nothing is asked.
    Info,
    /// A program is concerned, or something that may get worse: the device and the machine can be used.
    Warning,
    /// People are asked to look.
    Error,
    /// The device or the machine cannot be used as it is.
    Fatal,
}

/// Where a fact or an opinion comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Who says so.
    pub who: String,
    /// As of when.
    pub as_of: String,
    /// Where it was read.
    pub source: String,
}

/// What one of NVIDIA's words for an action means.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// NVIDIA's word: `RESET_GPU`.
    pub word: String,
    /// Our reading of how bad a thing is that asks for it.
    pub weight: Weight,
    /// What is to be done.
    pub text: String,
}

/// One Xid code.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XidEntry {
    /// The code.
    pub code: u32,
    /// NVIDIA's name.
    pub mnemonic: String,
    /// What it means.
    pub meaning: String,
    /// NVIDIA's word for what to do at once.
    pub now: Option<String>,
    /// NVIDIA's word for what to do then.
    pub then: Option<String>,
    /// What a reader should know besides.
    pub note: Option<String>,
    /// The driver's own name, where it is another one than the catalogue's.
    pub driver_name: Option<String>,
    /// The key in `sources` of what is not from the catalogue.
    pub source: Option<String>,
}

/// A code that newer GPUs do not use.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnusedXid {
    /// The code.
    pub code: u32,
    /// NVIDIA's name.
    pub mnemonic: String,
    /// What it meant on older GPUs, where NVIDIA said so.
    pub before: Option<String>,
}

/// What somebody other than NVIDIA says of some codes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opinion {
    /// Who.
    pub who: String,
    /// As of when.
    pub as_of: String,
    /// Where it was read.
    pub source: String,
    /// Under which name they report it; `{}` is the code.
    pub alias: Option<String>,
    /// How bad it is to them.
    pub weight: Weight,
    /// What they say and do.
    pub says: String,
    /// Of these codes.
    #[serde(default)]
    pub codes: Vec<u32>,
    /// Of all codes for which NVIDIA's word is one of these.
    #[serde(default)]
    pub actions: Vec<String>,
    /// Of every code that no other opinion of theirs is about.
    #[serde(default)]
    pub otherwise: bool,
}

/// `xid.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XidCatalogue {
    /// As of when NVIDIA's catalogue is.
    pub as_of: String,
    /// Where it was read.
    pub source: String,
    /// Where something comes from that is not in it: `driver`, `older`.
    pub sources: BTreeMap<String, Source>,
    /// What NVIDIA's words mean.
    pub actions: Vec<Action>,
    /// What others say.
    pub opinions: Vec<Opinion>,
    /// The codes, in order.
    pub xid: Vec<XidEntry>,
    /// The codes that are not used any more, in order.
    pub unused: Vec<UnusedXid>,
}

impl XidCatalogue {
    /// A code that is in use.
    pub fn entry(&self, code: u32) -> Option<&XidEntry> {
        self.xid.iter().find(|x| x.code == code)
    }

    /// A code that is not in use any more.
    pub fn unused(&self, code: u32) -> Option<&UnusedXid> {
        self.unused.iter().find(|x| x.code == code)
    }

    /// What a word of NVIDIA's means.
    pub fn action(&self, word: &str) -> Option<&Action> {
        self.actions.iter().find(|a| a.word == word)
    }

    /// What others say of a code for which this is NVIDIA's word, in the order of the file.
    pub fn opinions<'a>(&'a self, code: u32, now: Option<&'a str>) -> impl Iterator<Item = &'a Opinion> {
        self.opinions.iter().filter(move |o| {
            let about = o.codes.contains(&code) || o.actions.iter().any(|word| now == Some(word));
            about || (o.otherwise && !self.opinions.iter().any(|p| p.who == o.who && p.codes.contains(&code)))
        })
    }

    /// From the lowest to the highest code that is known, with gaps in between.
    pub fn range(&self) -> RangeInclusive<u32> {
        let codes = || self.xid.iter().map(|x| x.code).chain(self.unused.iter().map(|x| x.code));
        codes().min().unwrap_or(0)..=codes().max().unwrap_or(0)
    }
}

/// What SXid codes of a class have in common.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SXidClass {
    /// Our reading of how bad it is.
    pub weight: Weight,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub now: String,
    /// What is affected.
    pub impact: String,
}

/// One SXid code.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SXidEntry {
    /// The code.
    pub code: u32,
    /// What the driver calls it.
    pub name: String,
    /// The key of its class.
    pub class: String,
    /// What it means, where that is not what the class says.
    pub meaning: Option<String>,
    /// What to do, likewise.
    pub now: Option<String>,
    /// What is affected, likewise.
    pub impact: Option<String>,
}

/// `sxid.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SXidCatalogue {
    /// As of when.
    pub as_of: String,
    /// Where it was read.
    pub source: String,
    /// What codes have in common.
    pub classes: BTreeMap<String, SXidClass>,
    /// The codes.
    pub sxid: Vec<SXidEntry>,
}

impl SXidCatalogue {
    /// A code, with its class.
    pub fn entry(&self, code: u32) -> Option<(&SXidEntry, &SXidClass)> {
        let entry = self.sxid.iter().find(|x| x.code == code)?;
        Some((entry, self.classes.get(&entry.class)?))
    }

    /// From the lowest to the highest code that is known, with gaps in between.
    pub fn range(&self) -> RangeInclusive<u32> {
        let codes = || self.sxid.iter().map(|x| x.code);
        codes().min().unwrap_or(0)..=codes().max().unwrap_or(0)
    }
}

/// Everything that is built in.
#[derive(Debug)]
pub struct Catalogue {
    /// Xid codes.
    pub xid: XidCatalogue,
    /// SXid codes.
    pub sxid: SXidCatalogue,
    /// Signatures.
    pub signatures: Signatures,
}

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "constants, read by every test of this module")]
    built_in().expect("the built-in catalogues are sound")
});

fn built_in() -> Result<Catalogue, Vec<String>> {
    let wrong = |e: toml::de::Error| vec![e.to_string()];
    Ok(Catalogue {
        xid: toml::from_str(include_str!("xid.toml")).map_err(wrong)?,
        sxid: toml::from_str(include_str!("sxid.toml")).map_err(wrong)?,
        signatures: Signatures::built_in()?,
    })
}

/// Everything that is built in.
pub fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

impl Catalogue {
    /// What a code of the driver is called: the catalogue's name of an Xid, the driver's words for an SXid.
    pub fn name(&self, kind: &NvidiaKind<'_>) -> Option<&str> {
        match kind {
            NvidiaKind::Xid { code, .. } => self.xid_name(*code),
            NvidiaKind::FallenOffBus => self.xid_name(super::xid::FALLEN_OFF_BUS),
            NvidiaKind::SXid { code, .. } => self.sxid.entry(*code).map(|(entry, _)| entry.name.as_str()),
            NvidiaKind::ApiMismatch { .. } => None,
        }
    }

    /// The catalogue's name of an Xid.
    pub fn xid_name(&self, code: u32) -> Option<&str> {
        let used = self.xid.entry(code).map(|x| x.mnemonic.as_str());
        used.or_else(|| self.xid.unused(code).map(|x| x.mnemonic.as_str()))
    }
}
