//! The contracts at rest: recording segments and the archive, written, read and verified.
//!
//! Synchronous, no network, no logging: what was found is returned. `FORMAT.md` describes both formats for someone who
//! has only stock tools.

pub mod archive;
pub mod recording;
