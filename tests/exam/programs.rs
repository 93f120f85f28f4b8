//! The programs under exam: built beside this one, in the same profile, before the first item.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

/// The packages whose programs are tried.
const PACKAGES: [&str; 3] = ["casefile-agent", "casefile-collector", "casefile-review"];

/// Builds them where cargo started us, so that what is tried is never an older build; elsewhere they must be there.
pub(crate) fn build() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else { return Ok(()) };
    let own = std::env::current_exe().context("find this program")?;
    let profile = own.parent().and_then(|dir| dir.file_name()).context("find the profile of this program")?;
    #[expect(clippy::disallowed_methods, reason = "cargo, which builds what is tried")]
    let mut command = std::process::Command::new(cargo);
    command.args(["build", "--quiet", "--bins"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    if profile != "debug" {
        command.arg("--profile").arg(profile);
    }
    let built = command.stdin(Stdio::null()).stdout(Stdio::null()).status().context("start cargo")?;
    ensure!(built.success(), "the programs under exam could not be built");
    Ok(())
}
