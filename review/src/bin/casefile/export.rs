//! `casefile export`: a case file in the forms of other tools, whole or not at all: what is half written has another name.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use casefile_review::display::safe;
use casefile_review::export::{self, Ask, Exported, Form, Shape};
use serde::Serialize;

use crate::args::ExportArgs;
use crate::output::{self, STDOUT, talk};
use crate::{Ended, source};

/// Damaged entries that are named; more would not be read.
const MAX_DAMAGED: usize = 8;

/// What was written, as JSON.
#[derive(Serialize)]
struct Done<'a> {
    form: &'static str,
    path: &'a Path,
    #[serde(flatten)]
    exported: &'a Exported,
}

/// Exports.
pub(crate) fn run(args: &ExportArgs) -> Result<Ended> {
    let mut casefile = source::open(&args.source)?;
    let ask = Ask {
        nodes: args.nodes.clone(),
        metrics: args.metrics.clone(),
        range: source::range(
            args.around.as_deref(),
            args.since.as_deref(),
            args.until.as_deref(),
            casefile.incident.window.until(),
        )?,
        max_points: args.max_points,
    };
    for node in &ask.nodes {
        if casefile.node(node).is_none() {
            bail!("the case file knows no node {} (casefile show {} lists them)", node.as_str(), args.source.file);
        }
    }
    let place = Place::of(args)?;
    let temporary = tempfile::Builder::new()
        .prefix(".casefile-export-")
        .tempdir_in(place.parent())
        .with_context(|| format!("make a directory in {}", place.parent().display()))?;
    let exported = export::export(&mut casefile, args.to, &ask, temporary.path())?;
    let whole = casefile.entries.indexed() && !casefile.entries.truncated() && exported.damaged.is_empty();
    let path = place.take(temporary, args.to)?;
    if let Some(path) = &path {
        let done = Done { form: args.to.name, path, exported: &exported };
        output::one(args.output.format, &done, || text(args.to, path, &exported))?;
    }
    say(&exported);
    if !whole && exported.damaged.is_empty() {
        talk!(
            "the case file is damaged or ends early: what lies behind that is not exported (casefile verify says more)"
        );
    }
    Ok(if whole { Ended::Done } else { Ended::Damage })
}

fn text(form: &Form, path: &Path, exported: &Exported) -> String {
    let shown = safe(&path.display().to_string());
    let files = exported.files.iter().map(|file| match form.shape {
        Shape::Directory => format!("{:>12}  {shown}/{}\n", file.rows, safe(&file.file)),
        Shape::File(_) => format!("{:>12}  {shown}\n", file.rows),
    });
    files.chain([format!("next: {}\n", form.then.replace("PATH", &shown))]).collect()
}

fn say(exported: &Exported) {
    for what in &exported.left_out {
        talk!("not exported: {}", safe(what));
    }
    for (entry, why) in exported.damaged.iter().take(MAX_DAMAGED) {
        talk!("damaged: {}: {}", safe(entry), safe(why));
    }
    if exported.damaged.len() > MAX_DAMAGED {
        talk!("damaged: {} more entries", exported.damaged.len() - MAX_DAMAGED);
    }
}

/// Where an export goes.
enum Place {
    Stdout,
    Path(PathBuf),
}

impl Place {
    fn of(args: &ExportArgs) -> Result<Self> {
        if args.into.as_deref() == Some(Path::new("-")) {
            if args.to.shape == Shape::Directory {
                bail!("{} makes several files: --into names a directory", args.to.name);
            }
            return Ok(Self::Stdout);
        }
        let path = match (&args.into, args.to.shape) {
            (Some(path), Shape::File(name)) if path.is_dir() => path.join(name),
            (Some(path), _) => path.clone(),
            (None, shape) => PathBuf::from(default_name(Path::new(&args.source.file.to_string()), args.to.name, shape)),
        };
        // An empty directory is taken over: whoever made it wants it there.
        let empty = || path.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        if path.symlink_metadata().is_ok() && !(args.to.shape == Shape::Directory && empty()) {
            bail!("{} is there already, and nothing is overwritten", path.display());
        }
        Ok(Self::Path(path))
    }

    /// Where the export is made, so that it can be moved at once into its place.
    fn parent(&self) -> PathBuf {
        match self {
            Self::Stdout => std::env::temp_dir(),
            Self::Path(path) => match path.parent() {
                Some(parent) if parent != Path::new("") => parent.to_owned(),
                _ => PathBuf::from("."),
            },
        }
    }

    /// Moves what was written to where it belongs. `None`: to standard output.
    fn take(self, temporary: tempfile::TempDir, form: &Form) -> Result<Option<PathBuf>> {
        match (self, form.shape) {
            (Self::Path(path), Shape::Directory) => {
                std::fs::rename(temporary.path(), &path).with_context(|| format!("make {}", path.display()))?;
                // It has moved: there is nothing to be removed any more.
                let _moved = temporary.keep();
                Ok(Some(path))
            }
            (Self::Path(path), Shape::File(name)) => {
                // A link and not a rename: a rename would take the place of what came there meanwhile.
                let written = temporary.path().join(name);
                std::fs::hard_link(&written, &path).with_context(|| format!("make {}", path.display()))?;
                Ok(Some(path))
            }
            (Self::Stdout, Shape::File(name)) => {
                let mut written = File::open(temporary.path().join(name)).context("read what was exported")?;
                io::copy(&mut written, &mut io::stdout().lock()).context(STDOUT)?;
                Ok(None)
            }
            // Refused in `of`.
            (Self::Stdout, Shape::Directory) => bail!("{} makes several files", form.name),
        }
    }
}

/// `INC-000123_….parquet` of `/somewhere/INC-000123_….tar.gz`.
fn default_name(file: &Path, form: &str, shape: Shape) -> String {
    let name = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let name = name.file_name().and_then(OsStr::to_str).unwrap_or("casefile").to_owned();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = stem.strip_suffix(".tar").unwrap_or(stem);
    match shape {
        Shape::Directory => format!("{stem}.{form}"),
        Shape::File(file) => {
            let ending = Path::new(file).extension().and_then(OsStr::to_str).unwrap_or(form);
            format!("{stem}.{ending}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_called_after_its_case_file() {
        let name = |file: &str, shape| default_name(Path::new(file), "parquet", shape);
        assert_eq!(name("/nowhere/INC-1_a.tar.gz", Shape::Directory), "INC-1_a.parquet");
        assert_eq!(name("/nowhere/INC-1_a.tar.gz", Shape::File("trace.pftrace")), "INC-1_a.pftrace");
        assert_eq!(name("/nowhere/ring", Shape::Directory), "ring.parquet");
    }
}
