//! One synthetic incident of twelve nodes: thirty minutes, four planted causes, sealed through the writers that seal real
//! ones. Nothing in it happened anywhere, and the archive says so.
//!
//! The same bytes each time: no clock, no random numbers of the system. What happens when is in [`story`]; which machines
//! there are in `fleet`; `machine` makes recordings of it, `logs` and `state` the rest of a node, `cluster` what Kubernetes says of it,
//! `seal` the archive.

mod board;
mod cluster;
mod error;
mod fleet;
mod logs;
mod machine;
mod node;
mod random;
mod schema;
mod seal;
mod state;
pub mod story;

use std::path::{Path, PathBuf};

pub use error::DemoError;
pub use story::{PLANTED, Planted};

/// Writes the archive into a directory that is there, under its own name, and says where it is. A file of this name is
/// written anew.
///
/// # Errors
/// What could not be written; or that this crate names what the agent's sources or the formats do not have, which its tests
/// rule out.
pub fn write(dir: &Path) -> Result<PathBuf, DemoError> {
    let (name, bytes) = seal::sealed()?;
    let path = dir.join(name);
    std::fs::write(&path, bytes).map_err(|source| DemoError::Write { path: path.clone(), source })?;
    Ok(path)
}
