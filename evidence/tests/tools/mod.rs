//! Stock tools in tests: found, run, or skipped with a stated reason.
//!
//! A test that needs `tar` must pass where there is none, and must not pass silently. So it asks [`tool`], which writes
//! the reason past the test harness's capture to stderr; with `CASEFILE_ALLOW_NO_SKIP=1`, as in CI, it fails instead.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Set to `1` where every tool must be there.
const NO_SKIP: &str = "CASEFILE_ALLOW_NO_SKIP";

/// A tool that is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool(&'static str);

/// The tool, if running it with these arguments succeeds; `None` after saying that this test is skipped, and why.
pub(crate) fn tool(name: &'static str, probe: &[&str]) -> Option<Tool> {
    let probed = command(name).args(probe).stdin(Stdio::null()).output();
    let why = match probed {
        Ok(output) if output.status.success() => return Some(Tool(name)),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or("nothing").to_owned();
            format!("`{name} {}` does not work here: {said}", probe.join(" "))
        }
        Err(e) => format!("there is no {name} here: {e}"),
    };
    assert!(std::env::var_os(NO_SKIP).is_none_or(|v| v != "1"), "{why}, and {NO_SKIP}=1 allows no skip");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not eprintln!, which the harness swallows when the test passes.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED {test}: {why}").unwrap();
    None
}

impl Tool {
    /// Runs it in this directory and fails the test when it fails; gives what it wrote.
    pub(crate) fn run(self, dir: &Path, args: &[&str]) -> Output {
        let output = self.try_run(dir, args);
        assert!(
            output.status.success(),
            "{} {args:?}: {}\n{}{}",
            self.0,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Runs it in this directory.
    pub(crate) fn try_run(self, dir: &Path, args: &[&str]) -> Output {
        command(self.0).args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "tests ask the tools that a stranger would use")]
fn command(name: &str) -> Command {
    Command::new(name)
}
