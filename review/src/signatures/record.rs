//! A line of a log that is recognised: by which signature, what it is about, and what the driver adds.

use std::collections::BTreeMap;

use regex::{Captures, Regex};
use serde::Serialize;

use super::catalogue::catalogue;
use super::explain::Subject;
use super::logged::{Author, Reader, Stream, Written, written};
use super::pci::PciAddress;
use super::set::Signatures;
use super::signature::Signature;
use super::xid::{NvidiaKind, NvidiaLine, SwitchSeverity, nvidia_line};

/// A record that is recognised. Texts are the node's: escape them before showing.
#[derive(Debug, Serialize)]
pub struct Record<'c> {
    /// By which signature.
    #[serde(serialize_with = "id")]
    pub signature: &'c Signature,
    /// What is to be explained.
    #[serde(skip)]
    pub subject: Subject<'c>,
    /// The device.
    pub pci: Option<PciAddress>,
    /// The number of an Xid or SXid.
    pub code: Option<u32>,
    /// The process in whose work it happened.
    pub pid: Option<u32>,
    /// Its name, which it chose itself.
    pub process: Option<String>,
    /// What else the record names, by the names that the signature gives it: `dev`, `cpu`, `cgroup`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
    /// What the driver says besides, in our words.
    pub details: Vec<String>,
    /// In which log the line says that it stands: `kernel`, `journal:kubelet.service`; `None`: it does not say.
    pub log: Option<String>,
    /// Who wrote it.
    pub author: Author,
    /// The record's text.
    pub text: String,
}

fn id<S: serde::Serializer>(signature: &&Signature, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&signature.id)
}

/// Recognises the lines of a log one after the other.
#[derive(Debug)]
pub struct Lines<'c> {
    signatures: &'c Signatures,
    reader: Reader,
}

/// By what is built in.
impl Default for Lines<'static> {
    fn default() -> Self {
        Self::new(&catalogue().signatures)
    }
}

impl<'c> Lines<'c> {
    /// By these signatures.
    pub fn new(signatures: &'c Signatures) -> Self {
        Self { signatures, reader: Reader::default() }
    }

    /// What a line is, if it is known.
    pub fn line(&mut self, line: &str) -> Option<Record<'c>> {
        self.record(written(line))
    }

    /// What a record is of which it is known what it says, who wrote it and where, if it is known.
    pub fn record(&mut self, written: Written<'_>) -> Option<Record<'c>> {
        let of_driver = match written.stream {
            Stream::Kernel | Stream::Unknown => self.reader.record(written.text),
            Stream::Journal(_) | Stream::Kubernetes => None,
        };
        match of_driver {
            Some(found) => by_driver(self.signatures, &found, &written),
            None => by_pattern(self.signatures, &written),
        }
    }
}

/// What the text of one record of this stream is, if it is known.
pub(super) fn of_text<'c>(signatures: &'c Signatures, text: &str, stream: Stream<'_>) -> Option<Record<'c>> {
    let written = Written { text, author: Author::Unknown, stream };
    let elsewhere = matches!(stream, Stream::Journal(_) | Stream::Kubernetes);
    let of_driver = if elsewhere { None } else { nvidia_line(text) };
    of_driver.and_then(|line| by_driver(signatures, &line, &written)).or_else(|| by_pattern(signatures, &written))
}

fn by_driver<'c>(signatures: &'c Signatures, line: &NvidiaLine<'_>, written: &Written<'_>) -> Option<Record<'c>> {
    let signature = signatures.of_driver(line)?;
    let subject = match (&line.kind, line.code()) {
        (NvidiaKind::SXid { code, .. }, _) => Subject::SXid(*code),
        (_, Some(code)) => Subject::Xid(code),
        (_, None) => Subject::Signature(signature),
    };
    Some(Record {
        signature,
        subject,
        pci: line.pci.clone(),
        code: line.code(),
        pid: line.pid,
        process: line.process.map(str::to_owned),
        parts: BTreeMap::new(),
        details: details(line),
        log: written.stream.name(),
        author: written.author,
        text: written.text.to_owned(),
    })
}

fn by_pattern<'c>(signatures: &'c Signatures, written: &Written<'_>) -> Option<Record<'c>> {
    let (signature, regex, found) = signatures.of_text(written.text, written.stream)?;
    let mut parts = named(regex, &found);
    // What is no address or no number stays a text.
    let pci = parts.get("pci").and_then(|pci| PciAddress::parse(pci));
    let pid = parts.get("pid").and_then(|pid| pid.parse().ok());
    if pci.is_some() {
        parts.remove("pci");
    }
    if pid.is_some() {
        parts.remove("pid");
    }
    Some(Record {
        signature,
        subject: Subject::Signature(signature),
        pci,
        code: None,
        pid,
        process: parts.remove("process"),
        parts,
        details: Vec::new(),
        log: written.stream.name(),
        author: written.author,
        text: written.text.to_owned(),
    })
}

/// What the groups of an expression found, by name.
fn named(regex: &Regex, found: &Captures<'_>) -> BTreeMap<String, String> {
    let groups = regex.capture_names().flatten();
    groups.filter_map(|name| Some((name.to_owned(), found.name(name)?.as_str().to_owned()))).collect()
}

impl Record<'_> {
    /// All parts by name, as samples write them.
    pub(super) fn named(&self) -> BTreeMap<String, String> {
        let mut all = self.parts.clone();
        let own = [
            ("pci", self.pci.as_ref().map(ToString::to_string)),
            ("code", self.code.map(|code| code.to_string())),
            ("pid", self.pid.map(|pid| pid.to_string())),
            ("process", self.process.clone()),
        ];
        all.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        all
    }
}

/// What the driver says besides number, device and process.
fn details(line: &NvidiaLine<'_>) -> Vec<String> {
    let mut all = Vec::new();
    match &line.kind {
        NvidiaKind::Xid { nvlink: Some(l), .. } => all.push(format!(
            "the driver calls it {}; {}; unit {}, information {:#010x} (subcode {}), error status {:#010x}",
            if l.fatal { "fatal" } else { "not fatal" },
            l.link.map_or_else(|| "all links".to_owned(), |n| format!("link {n}")),
            l.unit,
            l.info,
            l.subcode,
            l.status,
        )),
        NvidiaKind::SXid { severity, link, continues, .. } => {
            match severity {
                Some(SwitchSeverity::Fatal) => all.push("the driver calls it fatal".to_owned()),
                Some(SwitchSeverity::NonFatal) => all.push("the driver calls it not fatal".to_owned()),
                None => {}
            }
            all.extend(link.map(|n| format!("link {n}")));
            all.extend(continues.then(|| "a further record of one SXid: no event of its own".to_owned()));
        }
        NvidiaKind::ApiMismatch { client: Some(client), driver: Some(driver) } => {
            all.push(format!("the library is {client}, the kernel module {driver}"));
        }
        _ => {}
    }
    all.extend(line.gpu_instance.map(|n| format!("GPU instance {n}")));
    all.extend(line.compute_instance.map(|n| format!("compute instance {n}")));
    all.extend(line.recovery_action().map(|action| format!("the driver asks for: {action}")));
    all.extend(line.previous_xid().map(|code| format!("the driver names its cause: Xid {code}")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Option<Record<'static>> {
        of_text(&catalogue().signatures, text, Stream::Unknown)
    }

    #[test]
    fn what_the_driver_asks_for_stands_beside_the_line() {
        let line =
            "NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)";
        assert_eq!(record(line).unwrap().details, ["the driver asks for: Drain and Reset"]);
        let line = "NVRM: Xid (PCI:0009:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 01 (0x021425c6 0x00000000)";
        let details = record(line).unwrap().details;
        assert_eq!(
            details,
            [
                "the driver calls it fatal; link 1; unit NETIR_LINK_EVT, information 0x021425c6 (subcode 33), error status 0x00000000"
            ]
        );
    }
}
