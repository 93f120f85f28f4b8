//! Lines of the kernel log as `casefile explain` reads them, and the NVIDIA driver's records among them.

use casefile_review::signatures::explain::explain;
use casefile_review::signatures::logged::message;
use casefile_review::signatures::page::{record_text, text};
use casefile_review::signatures::pci::PciAddress;
use casefile_review::signatures::record::Lines;
use casefile_review::signatures::xid::nvidia_line;

use crate::{Target, none};

pub(crate) const TARGET: Target = Target {
    name: "signatures",
    about: "Lines of a kernel log, the NVIDIA driver's among them, and what is known of them",
    run,
    seeds: none,
};

fn run(bytes: &[u8]) {
    let all = String::from_utf8_lossy(bytes);
    let mut lines = Lines::default();
    for line in all.split_inclusive('\n') {
        let (says, _) = message(line);
        assert!(line.trim_end_matches(['\n', '\r']).ends_with(says));
        if let Some(found) = nvidia_line(says) {
            assert!(says.starts_with("NVRM:") || says.starts_with("nvidia-nvswitch"), "{says}");
            assert!(says.contains(found.rest) && found.process.is_none_or(|name| says.contains(name)));
            if let Some(pci) = &found.pci {
                assert!(says.contains(pci.written()));
                assert_eq!(PciAddress::parse(&pci.to_string()).as_ref(), Some(pci), "{pci}");
            }
        }
        if let Some(record) = lines.line(line) {
            let shown = record_text(&record) + &explain(record.subject).map(|e| text(&e)).unwrap_or_default();
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
        }
    }
    // The record of several lines is one text.
    let _any = nvidia_line(&all);
}
