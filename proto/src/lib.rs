//! The contract on the wire, and the words of the domain as types.
//!
//! What lives here: the `.proto` files of package `casefile.v1`, the code generated from them ([`wire`]), the domain
//! types that everything else speaks ([`ids`], [`time`], [`sample`], [`event`], [`gap`], [`coverage`], …) and the
//! conversions between the two ([`convert`]). What does not: I/O, a runtime, a format at rest (that is `casefile-evidence`).
//!
//! Wire types stop at [`convert`]: nothing behind it should see a generated struct.

pub mod cluster;
#[cfg(feature = "grpc")]
mod codec;
pub mod connectivity;
pub mod convert;
pub mod coverage;
pub mod event;
pub mod gap;
pub mod identity;
pub mod ids;
pub mod incident;
pub mod item;
pub mod node;
pub mod sample;
pub mod scope;
pub mod session;
pub mod time;
pub mod units;
pub mod wire;
