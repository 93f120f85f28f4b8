//! What a node's GPUs were doing at an instant, out of the recording of its `gpu` source, and what happened to them up to then.
//!
//! [`recorded`] reads a recording and keeps what is known at the instant; [`view`] is what comes of it; [`table`] shows it to a person. A value
//! that was not read is none, never zero; a GPU that does not answer keeps what was known of it, with the time of which it is.

pub mod events;
pub mod pods;
pub mod recorded;
pub mod table;
pub mod view;
pub mod words;

/// The source's name.
pub const SOURCE: &str = "gpu";
