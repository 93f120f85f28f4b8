//! State at collection time: tables read natively, one JSON object a line, one file each below `state/`.
//!
//! How to add one: write `state/<name>.rs` with a `SPEC`, add it to [`ALL`]; `tests/state.rs` then runs it over every
//! fixture host by itself.
//!
//! Rows hold what the kernel says, in its own numbers; a key that is not there is not known, and never zero. Texts that
//! somebody else chose (names, paths, mount options) are JSON strings: control characters escaped as JSON does, bytes that
//! are no UTF-8 as `\xNN`, see [`crate::lossy`]. Environments and command lines are not collected: both may hold secrets.

mod address;
mod cgroups;
mod gpu;
mod interfaces;
mod limits;
mod modules;
mod mounts;
mod neighbours;
mod processes;
mod routes;
mod rows;
mod sockets;
mod sysctl;

use std::io::Write;

use casefile_proto::gap::Gap;

use crate::host::Host;

/// One table.
pub struct StateSpec {
    /// `processes`, `sockets`, ….
    pub name: &'static str,
    /// What it reads, one sentence; becomes the item's `method`.
    pub about: &'static str,
    /// Its path below the node: `state/processes.jsonl`.
    pub file: &'static str,
    /// Writes the rows, one JSON object a line; stops at the first write error.
    pub write: fn(&Host, &mut dyn Write) -> std::io::Result<Table>,
}

/// What was written.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// Rows.
    pub rows: u64,
    /// What is missing.
    pub gaps: Vec<Gap>,
}

/// Every table, cheap ones first.
pub const ALL: &[StateSpec] = &[
    limits::SPEC,
    sysctl::SPEC,
    modules::SPEC,
    interfaces::SPEC,
    routes::SPEC,
    neighbours::SPEC,
    mounts::SPEC,
    cgroups::SPEC,
    processes::SPEC,
    sockets::SPEC,
    gpu::GPUS,
    gpu::PROCESSES,
    gpu::REPORT,
];
