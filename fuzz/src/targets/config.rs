//! The configurations of agent and collector: right, or every problem is named without quoting the file.

use casefile_agent::config::Surroundings;

use crate::{Target, none};

pub(crate) const TARGET: Target =
    Target { name: "config", about: "The TOML configurations of agent and collector", run, seeds: none };

fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let around = Surroundings { node: None, hostname: Some("n-1".to_owned()) };
    match casefile_agent::config::Config::parse(&text, &around) {
        Ok(config) => {
            assert!(config.data_dir.is_absolute() && config.host_root.is_absolute());
            assert!(config.retention.bytes >= casefile_agent::config::MIN_RING);
        }
        Err(problems) => named(&problems),
    }
    if let Err(problems) = casefile_collector::config::Config::parse(&text) {
        named(&problems);
    }
}

/// At least one, and each in one line of bounded length.
fn named(problems: &[String]) {
    assert!(!problems.is_empty() && problems.iter().all(|p| !p.is_empty()));
}
