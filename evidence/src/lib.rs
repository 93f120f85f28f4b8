//! The contracts at rest: recording segments, the archive and the times of its logs, written, read and verified.
//!
//! Synchronous, no network, no logging: what was found is returned. `FORMAT.md` describes both formats for someone who
//! has only stock tools.

pub mod archive;
pub mod directory;
pub mod logtime;
pub mod recording;
