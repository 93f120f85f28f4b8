//! A line of the kernel log that is recognised: by which signature, about which device and process, and what the driver adds.

use serde::Serialize;

use super::catalogue::{Signature, catalogue};
use super::explain::Subject;
use super::logged::{Author, Reader, message};
use super::pci::PciAddress;
use super::xid::{NvidiaKind, NvidiaLine, SwitchSeverity, nvidia_line};

/// A record of the kernel log that is recognised.
#[derive(Debug, Serialize)]
pub struct Record {
    /// By which signature.
    #[serde(serialize_with = "id")]
    pub signature: &'static Signature,
    /// What is to be explained.
    #[serde(skip)]
    pub subject: Subject,
    /// The device.
    pub pci: Option<PciAddress>,
    /// The number of an Xid or SXid.
    pub code: Option<u32>,
    /// The process in whose work it happened.
    pub pid: Option<u32>,
    /// Its name, which it chose itself.
    pub process: Option<String>,
    /// What the driver says besides, in our words.
    pub details: Vec<String>,
    /// Who wrote it.
    pub author: Author,
    /// The record's text.
    pub text: String,
}

fn id<S: serde::Serializer>(signature: &&'static Signature, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&signature.id)
}

/// Recognises the lines of a log one after the other.
#[derive(Debug, Default)]
pub struct Lines(Reader);

impl Lines {
    /// What a line is, if it is known.
    pub fn line(&mut self, line: &str) -> Option<Record> {
        let (text, author) = message(line);
        match self.0.line(line) {
            Some((found, author)) => of_driver(&found, text, author),
            None => of_pattern(text, author),
        }
    }
}

/// What the text of one record is, if it is known.
pub fn record(text: &str) -> Option<Record> {
    nvidia_line(text)
        .and_then(|line| of_driver(&line, text, Author::Unknown))
        .or_else(|| of_pattern(text, Author::Unknown))
}

fn of_driver(line: &NvidiaLine<'_>, text: &str, author: Author) -> Option<Record> {
    let signature = catalogue().signature(line)?;
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
        details: details(line),
        author,
        text: text.to_owned(),
    })
}

fn of_pattern(text: &str, author: Author) -> Option<Record> {
    let (signature, (process, pid)) = catalogue().signatures.iter().find_map(|s| Some((s, s.captures(text)?)))?;
    Some(Record {
        signature,
        subject: Subject::Signature(signature),
        pci: None,
        code: None,
        pid,
        process: process.map(str::to_owned),
        details: Vec::new(),
        author,
        text: text.to_owned(),
    })
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
