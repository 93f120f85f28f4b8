//! Signatures: records of logs that are recognised, what they mean, and whose opinion that is.
//!
//! A signature is data: an id, in which log and by which record it is recognised, what it means and what to do, how bad it is to whom,
//! what else to look at, what it does not prove, and samples that are tests. They are in `packs/`, a file for each subject; what the
//! numbers of NVIDIA's driver mean is in `xid.toml` and `sxid.toml`, each with the day of its facts. An operator's own pack is a file of
//! the same form (`casefile explain --pack FILE`).
//!
//! How to add one: an entry in the file of its subject, with a real line of each kernel that says it differently, and with a line that it
//! must not recognise. The head of `packs/memory.toml` says what can stand in an entry. A regular expression begins with `^`: a text in
//! which somebody quotes the record must not count.

pub mod catalogue;
pub mod explain;
pub mod logged;
pub mod names;
pub mod pack;
pub mod page;
pub mod pci;
mod recogniser;
pub mod record;
#[cfg(test)]
mod samples;
pub mod set;
pub mod signature;
pub mod xid;
