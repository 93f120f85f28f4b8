//! How the lines of a log bear their times: the forms in which times are written, and where in a line they stand.
//!
//! The agent finds out both for a log and cuts it by them; review reads the same lines with the same code. Pure: no file
//! is opened here.

pub mod stamp;
pub mod style;
pub mod times;
pub mod zone;
