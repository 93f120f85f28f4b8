//! Writes the case files of `tests/page/hostile`: `hostile.tar.gz`, `harmless.tar.gz` (sealed with what our checks say), and the same
//! two with documents that somebody forged.

use std::path::PathBuf;

use anyhow::{Context, Result};
use casefile_tests::hostile_case::{Case, Words};

fn main() -> Result<()> {
    let dir = PathBuf::from(std::env::args_os().nth(1).context("where to?")?);
    for (name, words) in [("hostile", Words::Hostile), ("harmless", Words::Harmless)] {
        let case = Case::new(words)?;
        case.clone().reviewed()?.write(&dir, &format!("{name}.tar.gz"))?;
        case.forged()?.write(&dir, &format!("{name}-forged.tar.gz"))?;
    }
    Ok(())
}
