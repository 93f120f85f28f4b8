//! Redaction: any record, whole or cut, and any file of rules.

use std::sync::{Arc, LazyLock};

use casefile_redact::{Key, MAX_GROWTH, Pseudonyms, Redactor, RuleSet};

use crate::input::Input;
use crate::{Target, none};

pub(crate) const TARGET: Target =
    Target { name: "redact", about: "Records of a log being masked, and files of rules", run, seeds: none };

static RULES: LazyLock<Arc<RuleSet>> = LazyLock::new(|| Arc::new(RuleSet::builtin()));

fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 4 {
        // A file of rules is taken or named as wrong.
        0 => {
            let text = String::from_utf8_lossy(input.rest).into_owned();
            if let Err(problems) = RuleSet::with(&[("fuzz".to_owned(), text)]) {
                assert!(!problems.is_empty());
            }
        }
        how => {
            let pseudonyms = Pseudonyms { addresses: how == 2, hosts: how == 2, users: how == 2 };
            let redactor = Redactor::new(Arc::clone(&RULES), Key::new([7; 32]), pseudonyms);
            let mut stream = redactor.stream();
            for record in input.rest.split_inclusive(|b| *b == b'\n') {
                let whole = how != 3;
                let out = stream.record(record, whole).to_vec();
                assert!(out.len() <= 2 * record.len() + 2 * MAX_GROWTH, "{} of {}", out.len(), record.len());
                assert_eq!(record.ends_with(b"\n"), out.ends_with(b"\n"), "a line stays a line");
            }
        }
    }
}
