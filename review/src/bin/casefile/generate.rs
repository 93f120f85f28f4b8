//! Completions and man pages out of the same definitions that parse the command line.

use std::io;
use std::path::Path;

use crate::Ended;
use crate::named::called;
use anyhow::{Context, Result};

/// A completion script on standard output.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Ended> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut called().command(), called().name(), &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script).context(crate::output::STDOUT)?;
    Ok(Ended::Done)
}

/// `casefile.1`, `casefile-collect.1`, … in a directory.
pub(crate) fn man(dir: &Path) -> Result<Ended> {
    clap_mangen::generate_to(called().command(), dir)
        .with_context(|| format!("write man pages into {}", dir.display()))?;
    Ok(Ended::Done)
}
