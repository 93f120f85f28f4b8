//! The cluster's flight recorder: a rolling log, on the collector's disk, of every version of every object that the watches
//! showed, each with the time at which it was seen; in memory only where the newest ones lie.
//!
//! [`log`] writes, rolls and reads back; [`intake`] takes what the API server sent; [`snapshot`] reads it as of a moment.
//! [`contact`] knows since when what is followed, [`index`] what is kept in memory, [`segment`] and [`entry`] how it lies on disk.

pub mod contact;
pub mod entry;
pub mod index;
pub mod intake;
pub mod log;
pub mod segment;
pub mod snapshot;

#[cfg(test)]
mod tests;
