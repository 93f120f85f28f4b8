//! Signatures: records of the kernel log that are recognised, what they mean, and whose opinion that is.
//!
//! A signature is data: an id, by which record it is recognised, what else to look at, what it does not prove, and samples that are tests
//! (`packs/gpu.toml`). What the numbers of NVIDIA's driver mean is in `xid.toml` and `sxid.toml`, each with the day of its facts.
//!
//! How to add one: an entry in `packs/gpu.toml` with a line that it must recognise and one that it must not. A regular expression begins
//! with `^`: a text in which somebody quotes the record must not count.

pub mod catalogue;
pub mod explain;
pub mod logged;
pub mod page;
pub mod pci;
pub mod record;
#[cfg(test)]
mod samples;
pub mod xid;
