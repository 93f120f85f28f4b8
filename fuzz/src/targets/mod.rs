//! The targets, one a file.

pub(crate) mod archive;
pub(crate) mod config;
pub(crate) mod cri;
pub(crate) mod globs;
pub(crate) mod gzip;
pub(crate) mod http;
pub(crate) mod journal;
pub(crate) mod kmsg;
pub(crate) mod lines;
pub(crate) mod names;
pub(crate) mod pods;
pub(crate) mod proc;
pub(crate) mod proto;
pub(crate) mod recording;
pub(crate) mod redact;
pub(crate) mod signatures;
pub(crate) mod text;
