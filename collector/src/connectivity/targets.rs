//! The list of targets: what the configuration allows to be tested, by name. Nothing else ever is.

use std::collections::BTreeSet;

use casefile_proto::connectivity::target::Target;
use casefile_proto::connectivity::{ListedTarget, MAX_TARGET_NAME, MAX_TARGETS};
use serde::Deserialize;

/// Targets that a refusal names.
const MAX_NAMED: usize = 20;

/// Characters of what was asked that a refusal repeats.
const MAX_REPEATED: usize = 100;

/// One target as the configuration has it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    name: String,
    url: String,
}

/// The list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Targets(Vec<ListedTarget>);

impl Targets {
    /// Checks what was written; or everything that is wrong with it.
    ///
    /// # Errors
    /// When anything is.
    pub fn new(written: Vec<Written>) -> Result<Self, Vec<String>> {
        let (mut all, mut problems) = (Vec::new(), Vec::new());
        let (mut names, mut urls) = (BTreeSet::new(), BTreeSet::new());
        if written.len() > MAX_TARGETS {
            problems.push(format!("targets: are more than {MAX_TARGETS}"));
        }
        for (n, Written { name, url }) in written.into_iter().enumerate() {
            let mut wrong = |why: &str| problems.push(format!("targets {}: {why}", n + 1));
            let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
            if !(1..=MAX_TARGET_NAME).contains(&name.len()) || !name.bytes().all(byte) {
                wrong("name: has 1 to 63 letters, digits, '-', '_' and '.'");
            }
            if !names.insert(name.clone()) {
                wrong("name: is there twice");
            }
            match url.parse::<Target>() {
                Err(why) => wrong(&format!("url: {why}")),
                Ok(target) if !urls.insert(target.clone()) => wrong("url: is there twice"),
                Ok(target) => all.push(ListedTarget { name, target }),
            }
        }
        if problems.is_empty() { Ok(Self(all)) } else { Err(problems) }
    }

    /// All of them, in the order of the configuration.
    pub fn all(&self) -> &[ListedTarget] {
        &self.0
    }

    /// The target of this name or, to the letter of what it means, of this URL.
    pub fn find(&self, asked: &str) -> Option<&ListedTarget> {
        let target = asked.parse::<Target>().ok();
        self.0.iter().find(|listed| listed.name == asked || target.as_ref() == Some(&listed.target))
    }

    /// Why this is not tested, and what could be.
    pub fn refusal(&self, asked: &str) -> String {
        let asked: String = asked.chars().take(MAX_REPEATED).collect();
        let names: Vec<_> = self.0.iter().take(MAX_NAMED).map(|listed| listed.name.as_str()).collect();
        let more = self.0.len().saturating_sub(MAX_NAMED);
        match (names.as_slice(), more) {
            ([], _) => format!("{asked:?} is not tested: the collector's configuration lists no targets"),
            (names, 0) => format!("{asked:?} is not among the targets of the collector: {}", names.join(", ")),
            (names, more) => {
                format!("{asked:?} is not among the targets of the collector: {} and {more} more", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(all: &[(&str, &str)]) -> Result<Targets, Vec<String>> {
        Targets::new(all.iter().map(|(name, url)| Written { name: (*name).into(), url: (*url).into() }).collect())
    }

    #[test]
    fn a_target_is_found_by_its_name_or_its_url_and_by_nothing_that_is_only_like_it() {
        let list = written(&[("api", "https://api.shop.svc/healthz"), ("db", "tcp://db.shop.svc:5432")]).unwrap();
        for asked in ["api", "https://api.shop.svc/healthz", "https://API.shop.svc:443/healthz"] {
            assert_eq!(list.find(asked).map(|listed| listed.name.as_str()), Some("api"), "{asked}");
        }
        for asked in [
            "",
            "API",
            "api ",
            "ap",
            "api.shop.svc",
            "https://api.shop.svc/",
            "https://api.shop.svc/healthz?x",
            "https://api.shop.svc:8443/healthz",
            "http://api.shop.svc/healthz",
            "https://api.shop.svc.:443/healthz",
            "tcp://169.254.169.254:80",
        ] {
            assert_eq!(list.find(asked), None, "{asked}");
        }
        assert_eq!(list.refusal("x\u{1b}[2J"), "\"x\\u{1b}[2J\" is not among the targets of the collector: api, db");
        assert!(list.refusal(&"y".repeat(10_000)).len() < 300);
        assert!(Targets::default().refusal("x").contains("lists no targets"));
    }

    #[test]
    fn every_problem_of_a_list_is_named() {
        let problems = written(&[
            ("api", "https://api/"),
            ("api", "tcp://api"),
            ("a b", "dns://x"),
            ("", "ftp://x"),
            ("b", "https://api:443"),
        ])
        .unwrap_err();
        assert_eq!(
            problems,
            [
                "targets 2: name: is there twice",
                "targets 2: url: needs a port: HOST:PORT",
                "targets 3: name: has 1 to 63 letters, digits, '-', '_' and '.'",
                "targets 4: name: has 1 to 63 letters, digits, '-', '_' and '.'",
                "targets 4: url: begins with none of dns://, tcp://, tls://, http://, https://",
                "targets 5: url: is there twice",
            ]
        );
        let many: Vec<_> = (0..300).map(|n| Written { name: format!("t{n}"), url: format!("dns://t{n}") }).collect();
        assert_eq!(Targets::new(many).unwrap_err(), ["targets: are more than 256"]);
    }
}
