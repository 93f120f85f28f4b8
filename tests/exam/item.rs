//! What an item of the exam is, and the list of all of them.

use anyhow::Result;

use crate::report::Findings;
use crate::{
    collection, damage, dead_node, fleet, fleet_wide, floods, hostile, kills, power, restart, simulation, system_calls,
    truncated,
};

/// Every item, in the order in which the exam runs them.
///
/// To add one: a file of its name with an `ITEM` and what it does, a line here, and a section in `README.md`.
pub(crate) const ALL: &[Item] = &[
    damage::ITEM,
    truncated::ITEM,
    simulation::ITEM,
    kills::ITEM,
    dead_node::ITEM,
    restart::ITEM,
    power::ITEM,
    system_calls::ITEM,
    fleet::ITEM,
    fleet::BENDING,
    fleet_wide::ITEM,
    collection::ITEM,
    hostile::ITEM,
    floods::ITEM,
];

/// How much of the exam is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// All items in a few minutes: part of every check of the repository.
    Short,
    /// What the promises are made on: hours.
    Full,
}

/// One item.
pub(crate) struct Item {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it proves, one sentence.
    pub(crate) proves: &'static str,
    /// What `times` counts.
    pub(crate) counts: &'static str,
    /// How many times in the short tier.
    pub(crate) short: u64,
    /// How many times in the full tier.
    pub(crate) full: u64,
    /// What the machine must have; without it the item is skipped, and that is said.
    pub(crate) needs: &'static [Need],
    /// Does it.
    pub(crate) run: fn(&Ask) -> Result<Findings>,
}

impl Item {
    /// How many times in this tier.
    pub(crate) const fn times(&self, tier: Tier) -> u64 {
        match tier {
            Tier::Short => self.short,
            Tier::Full => self.full,
        }
    }

    /// The item of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|item| item.name == name)
    }
}

/// What an item is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// How many times.
    pub(crate) times: u64,
    /// What is decided at random is decided by it.
    pub(crate) seed: u64,
    /// Whose machine it is.
    pub(crate) machine: Whose,
}

/// Whose machine the exam runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Nothing else runs: what takes too long, or too much of a CPU, is a fault.
    Ours,
    /// Other things run too: that is told, and not judged.
    Shared,
}

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A stock tool.
    Tool(&'static str),
    /// File systems may be mounted.
    Root,
    /// File systems of user space.
    Fuse,
}

impl Need {
    /// What is missing; `None`: it is there.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Tool(name) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let there = std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
                (!there).then(|| format!("{name} is not installed"))
            }
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "only root may mount".to_owned()),
            Self::Fuse => {
                let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
                opened.err().map(|error| format!("/dev/fuse cannot be opened: {error}"))
            }
        }
    }

    /// The word for it in lists.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Tool(name) => name,
            Self::Root => "root",
            Self::Fuse => "/dev/fuse",
        }
    }
}
