//! `casefile-agent sandbox-check`: enters the sandbox as `run` does, tries what it forbids and what it must leave, and prints
//! how each try ended.
//!
//! What is tried is in `tries`. The process that is inside is a child, started by one that stays outside: that one prepares
//! what the tries are made on, clears it away, and notices when the child is killed instead of refused.

mod raw;
mod scene;
mod tries;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use serde::{Deserialize, Serialize};

use super::standing::{Piece, Standing, State};
use crate::args::{Form, SandboxCheck};
use crate::config::{Config, ConfigError, Surroundings};
use crate::details::Details;
use scene::Scene;

/// Something is allowed that should not be, or does not work.
const FOUND: u8 = 3;

/// A piece of the sandbox is missing.
const LACKING: u8 = 4;

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ended", content = "how", rename_all = "kebab-case")]
enum Ended {
    /// By what.
    Refused(String),
    /// How one can tell.
    Allowed(String),
    /// Why this machine has nothing to try it on.
    NotApplicable(String),
}

/// What is wanted of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Wanted {
    /// By this piece.
    Refused(Piece),
    /// The recorder needs it.
    Allowed,
}

/// One line of the table.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// What was tried.
    what: String,
    wanted: Wanted,
    #[serde(flatten)]
    ended: Ended,
}

impl Row {
    /// In one word; `None`: as it should be.
    fn wrong(&self) -> Option<&'static str> {
        match (self.wanted, &self.ended) {
            (Wanted::Refused(_), Ended::Allowed(_)) => Some("ALLOWED"),
            (Wanted::Allowed, Ended::Refused(_)) => Some("BROKEN"),
            _ => None,
        }
    }

    fn word(&self) -> &'static str {
        self.wrong().unwrap_or(match self.ended {
            Ended::Refused(_) => "refused",
            Ended::Allowed(_) => "works",
            Ended::NotApplicable(_) => "not applicable",
        })
    }

    fn how(&self) -> &str {
        match &self.ended {
            Ended::Refused(how) | Ended::Allowed(how) | Ended::NotApplicable(how) => how,
        }
    }
}

/// A piece of the sandbox and how it is.
#[derive(Debug, Serialize, Deserialize)]
struct Stands {
    piece: Piece,
    #[serde(flatten)]
    state: State,
}

/// All that came of it.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    pieces: Vec<Stands>,
    tries: Vec<Row>,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `run` would not start either.
    #[error("enter the sandbox")]
    Enter(#[from] super::EnterError),
    /// A file, a process or a pipe.
    #[error("{doing}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// What came of it.
        #[source]
        source: std::io::Error,
    },
    /// It was killed, or did not get as far as to try anything.
    #[error("the process that was inside ended before it had tried everything: {0}")]
    Ended(std::process::ExitStatus),
    /// What was handed over between the two processes is no report.
    #[error("hand the report over")]
    Report(#[from] serde_json::Error),
}

/// For `map_err`.
fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> CheckError {
    move |source| CheckError::Io { doing, source }
}

/// Does what the verb says, and gives the exit code.
///
/// Errors: the configuration or the data directory cannot be used; the process that was inside ended before its time.
pub fn run(args: &SandboxCheck) -> Result<ExitCode, CheckError> {
    // Its problems are told once, and not by way of a child.
    let config = config(args.config.as_deref())?;
    if let Some(scene) = &args.inside {
        return inside(&config, &Scene::prepared(scene).map_err(failed("read what was prepared"))?);
    }
    let report = from_outside(args.config.as_deref())?;
    let text = match args.output {
        Form::Table => report.table(),
        Form::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed("write to standard output")(error)),
        _ => Ok(ExitCode::from(report.verdict())),
    }
}

fn config(file: Option<&Path>) -> Result<Config, ConfigError> {
    let around = Surroundings::of_process();
    match file {
        Some(file) => Config::load(file, &around),
        None => {
            let path = "the default configuration".into();
            Config::parse("", &around).map_err(|problems| ConfigError { path, problems })
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "not a command of the host: this very program, once more")]
fn from_outside(config: Option<&Path>) -> Result<Report, CheckError> {
    let scene = Scene::prepare().map_err(failed("prepare what the tries are made on"))?;
    let mut command = std::process::Command::new("/proc/self/exe");
    command.args(["sandbox-check", "--inside"]).arg(scene.dir()).stdin(Stdio::null()).stderr(Stdio::inherit());
    if let Some(file) = config {
        command.arg("--config").arg(file);
    }
    let output = command.output().map_err(failed("start the process that goes inside"))?;
    if !output.status.success() {
        return Err(CheckError::Ended(output.status));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the child does: the report goes to its standard output.
fn inside(config: &Config, scene: &Scene) -> Result<ExitCode, CheckError> {
    let (details, standing) = match super::enter_as_recorder(config) {
        Ok(entered) => entered,
        // `run` would end here; the table says what is missing.
        Err(super::EnterError::NotWhole(standing)) => (Details::default(), *standing),
        Err(error) => return Err(error.into()),
    };
    let tries = tries::all(&tries::Inside { config, scene, details: &details });
    let text = serde_json::to_vec(&Report { pieces: pieces(&standing), tries })?;
    std::io::stdout().write_all(&text).map_err(failed("hand the report over"))?;
    Ok(ExitCode::SUCCESS)
}

fn pieces(standing: &Standing) -> Vec<Stands> {
    standing.pieces().map(|(piece, state)| Stands { piece, state: state.clone() }).collect()
}

impl Report {
    fn lacks(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece.state, State::Partly(_) | State::Missing(_)))
    }

    /// Whether this came of a piece that is missing: that is told by the piece.
    fn is_explained(&self, row: &Row) -> bool {
        let Wanted::Refused(by) = row.wanted else { return false };
        self.pieces.iter().any(|p| p.piece == by && matches!(p.state, State::Partly(_) | State::Missing(_)))
    }

    fn verdict(&self) -> u8 {
        let mut wrong = self.tries.iter().filter(|row| row.wrong().is_some());
        if wrong.any(|row| !self.is_explained(row)) {
            FOUND
        } else if self.lacks() {
            LACKING
        } else {
            0
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: [&str; 3]| {
            let [what, word, how] = cells;
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", format!("{what:<58}  {word:<14}  {how}").trim_end());
        };
        line(["PIECE", "STATE", "WHY"]);
        for Stands { piece, state } in &self.pieces {
            line([piece.name(), state.word(), state.why()]);
        }
        line(["", "", ""]);
        line(["TRIED", "ENDED", "HOW"]);
        for row in &self.tries {
            line([&row.what, row.word(), row.how()]);
        }
        let count = |word| self.tries.iter().filter(|row| row.word() == word).count();
        let _ = writeln!(
            text,
            "\n{} refused, {} allowed; {} work, {} broken; {} not applicable here",
            count("refused"),
            count("ALLOWED"),
            count("works"),
            count("BROKEN"),
            count("not applicable")
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(files: State, rows: &[(Wanted, Ended)]) -> Report {
        let tries =
            rows.iter().map(|(wanted, ended)| Row { what: "x".to_owned(), wanted: *wanted, ended: ended.clone() });
        Report { pieces: vec![Stands { piece: Piece::Files, state: files }], tries: tries.collect() }
    }

    #[test]
    fn the_code_says_the_worst_of_what_was_found() {
        let (refused, allowed) = (Ended::Refused("EPERM".to_owned()), Ended::Allowed(String::new()));
        let by_files = Wanted::Refused(Piece::Files);
        let missing = || State::Missing("an old kernel".to_owned());
        let fine = [(by_files, refused.clone()), (Wanted::Allowed, allowed.clone())];
        assert_eq!(report(State::Stands, &fine).verdict(), 0);
        assert_eq!(report(missing(), &fine).verdict(), LACKING);
        let open = [(by_files, allowed.clone())];
        assert_eq!((report(State::Stands, &open).verdict(), report(missing(), &open).verdict()), (FOUND, LACKING));
        let by_calls = [(Wanted::Refused(Piece::Calls), allowed)];
        assert_eq!(report(missing(), &by_calls).verdict(), FOUND, "another piece than the one that is missing");
        assert_eq!(report(State::Stands, &[(Wanted::Allowed, refused)]).verdict(), FOUND);
    }

    #[test]
    fn a_report_that_was_handed_over_says_the_same() {
        let before = report(State::Partly("w".to_owned()), &[(Wanted::Allowed, Ended::NotApplicable("n".to_owned()))]);
        let text = serde_json::to_string(&before).unwrap();
        let after: Report = serde_json::from_str(&text).unwrap();
        assert_eq!((before.table(), after.verdict()), (after.table(), LACKING));
        assert!(before.table().contains("not applicable"), "{}", before.table());
    }
}
