//! The generated code of package `casefile.v1`; with the feature `grpc` the client and server stubs too.
//!
//! Documented in the `.proto` files. Nothing behind [`crate::convert`] should use these types.
#![allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, reason = "generated")]
#![allow(
    clippy::allow_attributes,
    clippy::wildcard_imports,
    clippy::uninlined_format_args,
    clippy::large_futures,
    reason = "generated"
)]

/// Package `casefile.v1`.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/casefile.v1.rs"));
}

/// Every method of every service, as it is called on the wire: `/casefile.v1.NodeService/ListNodes`.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));
