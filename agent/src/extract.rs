//! A window of this machine into an unsigned archive, with no collector in reach: the same collection as for one.
//!
//! Items are gathered as compressed chunks in a directory beside the archive and then only put together, so that memory
//! does not grow with the window. The archive gets its name when it is whole.

pub mod console;

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use casefile_evidence::archive::Title;
use casefile_evidence::archive::chunk::{Checker, Chunk, Chunker, Pack, spooled, write_spooled};
use casefile_evidence::archive::layout::{self, IncidentFile, ItemLine, coverage_json, incident_json};
use casefile_evidence::archive::writer::{ArchiveWriter, ChunkedItem, Sealed, WriteError};
use casefile_proto::coverage::{Coverage, NodeCoverage, NodeState, SourceCoverage};
use casefile_proto::gap::GapReason;
use casefile_proto::ids::ItemNumber;
use casefile_proto::incident::{IncidentAsk, Severity, Trigger};
use casefile_proto::item::{Digest, EntryPath, ItemHead, ItemTail};
use casefile_proto::scope::Scope;
use casefile_proto::time::{InvalidWindow, WallTime, Window};
use casefile_proto::units::Bytes;
use sha2::{Digest as _, Sha256};

use crate::args::Extract;
use crate::clock;
use crate::collect::{self, Ask, Collected, Context, ItemSink, SinkError};
use crate::config::{Config, ConfigError, DEFAULT_DATA_DIR, Surroundings};
use crate::data_dir::REDACTION_KEY;
use crate::details::Details;
use crate::host::{Host, HostError};
use crate::logs::Selection;
use crate::redaction::Redaction;
use crate::sources;
use crate::sources::gpu::latest::Access;
use crate::stats::Stats;

/// A window by hand has all the time that it needs; this only bounds what hangs.
const DEADLINE: Duration = Duration::from_mins(30);

/// What `--output` says for standard output instead of an archive.
const CONSOLE: &str = "-";

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The two times make no window.
    #[error(transparent)]
    Window(#[from] InvalidWindow),
    /// Nothing can have happened yet.
    #[error("{from} lies in the future of this machine's clock, which says {now}: there is nothing to extract yet")]
    Future {
        /// The begin that was given.
        from: WallTime,
        /// This machine's time.
        now: WallTime,
    },
    /// Nothing has this name.
    #[error("there is no source {}: say one of {known}", names.join(", "))]
    Source {
        /// What was asked.
        names: Vec<String>,
        /// What can be.
        known: String,
    },
    /// A console shows text, and what was asked is none, or everything.
    #[error("standard output takes text: say with --source which of {0}; for everything else give -o a file")]
    NoText(String),
    /// The archive is there already.
    #[error("{0} is there already: give another name, or --force to replace it")]
    Exists(PathBuf),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are no random numbers to be had.
    #[error("make a key to mask secrets with")]
    Key(#[source] io::Error),
    /// This machine's name cannot be a node's.
    #[error("{0}")]
    Node(String),
    /// The host root cannot be opened.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The file system said no.
    #[error("{doing} {path}{}", hint(source))]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The archive could not be put together.
    #[error("write {path}{}", if let WriteError::Io(source) = source { hint(source) } else { "" })]
    Write {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: WriteError,
    },
}

impl ExtractError {
    /// Whether the command line is at fault, not the machine.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Window(_)
                | Self::Future { .. }
                | Self::Exists(_)
                | Self::Source { .. }
                | Self::Node(_)
                | Self::NoText(_)
        )
    }
}

/// What a refusal of the file system means, and what to try. Empty where the error says enough.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound => {
            " (no archive was written: give -o a file in a directory that is there and that this user can write)"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (no archive was written, for want of room: free some, give -o a file on another disk, or ask for less \
             with --source or --max-mib)"
        }
        _ => "",
    }
}

/// What will be done, checked.
pub struct Plan {
    context: Context,
    ask: Ask,
    reason: String,
    output: PathBuf,
}

impl Plan {
    /// Whether it goes to standard output as text ([`console::show`]) and not into an archive ([`run`]).
    pub fn is_for_a_console(&self) -> bool {
        self.output.as_os_str() == CONSOLE
    }
}

/// What was done; prints as the lines that a person reads at the end.
#[derive(Debug)]
pub struct Done {
    /// The archive.
    pub path: PathBuf,
    /// Its size and digest.
    pub sealed: Sealed,
    /// What it says of its own completeness.
    pub coverage: Coverage,
}

impl Done {
    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.coverage.is_whole()
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = || self.coverage.nodes.iter().flat_map(|n| &n.sources);
        let missing = rows().filter(|r| !r.gaps.is_empty()).count();
        writeln!(
            f,
            "{}: {} in {} entries, not signed",
            self.path.display(),
            Bytes(self.sealed.size),
            self.sealed.entries
        )?;
        writeln!(f, "sha256 {}", self.sealed.sha256)?;
        write!(
            f,
            "{} sources, {missing} with gaps; `casefile show {}` says which",
            rows().count(),
            self.path.display()
        )?;
        f.write_str(hint_of_denied(&self.coverage))
    }
}

/// Checks what is asked, without touching anything.
pub fn plan(args: &Extract, around: &Surroundings) -> Result<Plan, ExtractError> {
    let clock = clock::system();
    let now = clock().wall;
    if args.since_time >= now {
        return Err(ExtractError::Future { from: args.since_time, now });
    }
    let window = Window::new(args.since_time, args.until_time.unwrap_or(now))?;
    let to_console = args.output.as_os_str() == CONSOLE;
    if !to_console && !args.force && args.output.symlink_metadata().is_ok() {
        return Err(ExtractError::Exists(args.output.clone()));
    }
    let config = match &args.config {
        Some(path) => Config::load(path, around)?,
        None => Config::parse("", around).map_err(|problems| ExtractError::Node(problems.join("; ")))?,
    };
    let ring = match (&args.ring, &args.config) {
        (Some(ring), _) => Some(ring.clone()),
        (None, Some(_)) => Some(config.data_dir.join("ring")),
        // No agent has to run here: the logs and the state are worth having alone.
        // One that may not be looked at is there: the gap says why it could not be read.
        (None, None) => Some(Path::new(DEFAULT_DATA_DIR).join("ring")).filter(|r| r.try_exists().unwrap_or(true)),
    };
    let redaction = Redaction::for_once(config.masking.clone(), &config.data_dir.join(REDACTION_KEY));
    let redaction = redaction.map_err(ExtractError::Key)?;
    let root = args.host_root.as_ref().unwrap_or(&config.host_root);
    let host =
        Host::with(root, Arc::new(Stats::new(sources::ALL)), Access::new(&config.gpu, None), Details::default())?;
    let mut context = Context {
        boot: crate::boot_id(&host),
        host,
        node: config.node,
        clock,
        ring_dir: ring,
        sources: sources::ALL.iter().map(|s| s.name).collect(),
        logs: config.logs,
        redaction: Arc::new(redaction),
        left_behind: collect::LeftBehind::default(),
    };
    let strange = |name: &&String| !collect::knows(&context, name);
    let names: Vec<_> = args.sources.iter().filter(strange).map(|name| format!("{name:?}")).collect();
    if !names.is_empty() {
        let known = unique(collect::names(&context)).join(", ");
        return Err(ExtractError::Source { names, known });
    }
    if to_console {
        if args.sources.is_empty() || !args.sources.iter().all(|name| collect::is_text(name)) {
            let known = collect::names(&context).filter(|name| collect::is_text(name));
            return Err(ExtractError::NoText(unique(known).join(", ")));
        }
        // The recording is no text, and whoever asks for the kernel's log here does not mean its metrics.
        context.sources.clear();
    }
    let ask = Ask {
        window,
        budget: Bytes(args.max_mib.saturating_mul(1 << 20)),
        deadline: DEADLINE,
        sources: args.sources.clone(),
        select: Selection { namespaces: args.namespaces.clone(), pods: args.pods.clone(), units: args.units.clone() },
        clock: None,
    };
    Ok(Plan { context, ask, reason: args.reason.clone(), output: args.output.clone() })
}

/// What to try where something was missing because this user may not read it; else nothing.
fn hint_of_denied(coverage: &Coverage) -> &'static str {
    let gaps = coverage.nodes.iter().flat_map(|n| n.gaps.iter().chain(n.sources.iter().flat_map(|s| &s.gaps)));
    match gaps.into_iter().any(|gap| gap.reason == GapReason::PermissionDenied) {
        true => "\nsome of what is missing only root may read: try again as root",
        false => "",
    }
}

/// Each name once: some are of two things.
fn unique(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    names.for_each(|name| {
        if !seen.contains(&name) {
            seen.push(name);
        }
    });
    seen
}

/// Collects and writes the archive. When `stop` turns true, what was found by then is sealed.
pub fn run(plan: &Plan, stop: &AtomicBool) -> Result<Done, ExtractError> {
    let parts = Parts::new(&plan.output)?;
    let mut spool = Spool { dir: parts.0.clone(), items: Vec::new(), open: None };
    let collected = collect::collect(&plan.context, &plan.ask, stop, &mut spool);
    spool.cut_short();
    let coverage = coverage(plan, collected);
    let sealed_at = (plan.context.clock)().wall;
    let title = title(plan, sealed_at);
    let partial = with_ending(&plan.output, ".partial");
    let failed = |source| ExtractError::Write { path: plan.output.clone(), source };
    let write = || -> Result<Sealed, ExtractError> {
        let file = private(&partial).map_err(io_error("make", &partial))?;
        let (sealed, file) = assemble(file, title, &coverage, &mut spool.items, plan).map_err(failed)?;
        file.sync_all().map_err(io_error("sync", &partial))?;
        fs::rename(&partial, &plan.output).map_err(io_error("name", &plan.output))?;
        Ok(sealed)
    };
    let sealed = write().inspect_err(|_| {
        // Half an archive helps nobody; that it could not be written is what is told.
        let _ = fs::remove_file(&partial);
    })?;
    Ok(Done { path: plan.output.clone(), sealed, coverage })
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> ExtractError + use<'a> {
    move |source| ExtractError::Io { doing, path: path.to_owned(), source }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// What is in an archive only root may have been allowed to read.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn title(plan: &Plan, sealed_at: WallTime) -> Title {
    let node = &plan.context.node;
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| {
        let uid = rustix::process::getuid().as_raw();
        format!("user {uid}")
    });
    Title {
        ask: IncidentAsk {
            title: format!("{node} by hand"),
            reason: plan.reason.clone(),
            requested_by: user,
            severity: Severity::Sev4,
            trigger: Trigger::Extract,
            resource: None,
            runbook: None,
            window: plan.ask.window,
            nodes: vec![node.clone()],
            scope: scope(plan),
        },
        incident: None,
        sealed_at,
        sealed_by: format!("casefile-agent {}", crate::VERSION),
        amends: None,
    }
}

fn scope(plan: &Plan) -> Scope {
    Scope { sources: plan.ask.sources.clone(), select: plan.ask.select.clone(), chosen: None }
}

fn coverage(plan: &Plan, collected: Collected) -> Coverage {
    let Collected { mut sources, gaps } = collected;
    sources.sort_by_key(|row: &SourceCoverage| (row.kind, row.source.clone()));
    let node = plan.context.node.clone();
    let node = NodeCoverage { node, state: NodeState::Answered, clock: None, sources, gaps, amended: None };
    Coverage { window: plan.ask.window, nodes: vec![node], scope: scope(plan), cluster: None }
}

fn assemble(
    file: File,
    title: Title,
    coverage: &Coverage,
    items: &mut [Item],
    plan: &Plan,
) -> Result<(Sealed, File), WriteError> {
    let incident = IncidentFile::new(&title, coverage, None);
    let mut archive = ArchiveWriter::new(BufWriter::new(file), title, None)?;
    let mut body = |path: &'static str, bytes: io::Result<Vec<u8>>| {
        let bytes = bytes.map_err(WriteError::Io)?;
        archive.add(&layout::path(path), &mut bytes.as_slice()).map(drop)
    };
    body(layout::COVERAGE, coverage_json(coverage))?;
    body(layout::INCIDENT, incident_json(&incident))?;
    items.sort_by(|a, b| a.head.path.cmp(&b.head.path));
    let path_of = |item: &EntryPath| {
        layout::node_item(&plan.context.node, item).map_err(|e| WriteError::Io(io::Error::other(e.to_string())))
    };
    let mut list = Vec::new();
    for item in items.iter() {
        let (path, (size, sha256)) = (path_of(&item.head.path)?, item.content().map_err(WriteError::Io)?);
        let line = ItemLine::new(path, &item.head, item.tail.as_ref(), size, sha256);
        list.extend(layout::item_json(&line).map_err(WriteError::Io)?);
    }
    let mut packed = Vec::new();
    let mut chunker = Chunker::new(Pack::Deflate, |chunk| {
        packed.push(Ok(chunk));
        Ok(())
    });
    chunker.write_all(&list).map_err(WriteError::Io)?;
    let (size, sha256) = chunker.finish().map_err(WriteError::Io)?;
    let list = ChunkedItem { size, sha256, chunks: &mut packed.into_iter() };
    let list_path = layout::path(layout::ITEMS_ITEM);
    let add = |archive: &mut ArchiveWriter<_>, items: &[Item]| {
        items.iter().try_for_each(|item| {
            let path = path_of(&item.head.path)?;
            let (size, sha256) = item.content().map_err(WriteError::Io)?;
            let file = File::open(&item.file).map_err(WriteError::Io)?;
            let mut chunks = spooled(BufReader::new(file));
            archive.add_chunks(&path, ChunkedItem { size, sha256, chunks: &mut chunks }).map(drop)
        })
    };
    // Entries are in the order of their paths, and the list is one of them.
    let (before, behind) = items.split_at(items.partition_point(|item| item.head.path < list_path));
    add(&mut archive, before)?;
    archive.add_chunks(&path_of(&list_path)?, list)?;
    add(&mut archive, behind)?;
    let (sealed, out) = archive.seal()?;
    Ok((sealed, out.into_inner().map_err(|e| WriteError::Io(e.into_error()))?))
}

/// A private directory beside the archive that goes when we do.
struct Parts(PathBuf);

impl Parts {
    fn new(output: &Path) -> Result<Self, ExtractError> {
        let dir = with_ending(output, &format!(".parts-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&dir).map_err(io_error("make", &dir))?;
        Ok(Self(dir))
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, dir = %self.0.display(), "cannot remove what was gathered");
        }
    }
}

/// One item on disk.
struct Item {
    head: ItemHead,
    file: PathBuf,
    tail: Option<ItemTail>,
}

impl Item {
    /// Size and digest: the tail's; of an item that was cut short, out of what is there.
    fn content(&self) -> io::Result<(u64, Digest)> {
        if let Some(tail) = &self.tail {
            return Ok((tail.size, tail.sha256));
        }
        let (mut checker, mut plain) = (Checker::new(), Vec::new());
        let (mut size, mut sha256) = (0, Sha256::new());
        for chunk in spooled(BufReader::new(File::open(&self.file)?)) {
            checker.check(&chunk?, &mut plain).map_err(io::Error::other)?;
            size += plain.len() as u64;
            sha256.update(&plain);
        }
        Ok((size, Digest(sha256.finalize().into())))
    }
}

/// Takes items as they come.
struct Spool {
    dir: PathBuf,
    items: Vec<Item>,
    open: Option<(Item, BufWriter<File>)>,
}

impl Spool {
    /// The item that is open will not be ended: what is there of it stays.
    fn cut_short(&mut self) {
        if let Some((item, mut file)) = self.open.take() {
            match file.flush() {
                Ok(()) => self.items.push(item),
                Err(error) => tracing::error!(%error, path = %item.head.path, "an item is lost"),
            }
        }
    }
}

impl ItemSink for Spool {
    fn begin(&mut self, number: ItemNumber, head: &ItemHead) -> Result<(), SinkError> {
        self.cut_short();
        let file = self.dir.join(number.to_string());
        let out = BufWriter::new(private(&file).map_err(SinkError)?);
        self.open = Some((Item { head: head.clone(), file, tail: None }, out));
        Ok(())
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<(), SinkError> {
        match &mut self.open {
            Some((_, out)) => write_spooled(&chunk, out).map_err(SinkError),
            None => Ok(()),
        }
    }

    fn end(&mut self, tail: &ItemTail) -> Result<(), SinkError> {
        if let Some((mut item, mut out)) = self.open.take() {
            out.flush().map_err(SinkError)?;
            item.tail = Some(tail.clone());
            self.items.push(item);
        }
        Ok(())
    }

    fn progress(&mut self, source: &str, records: u64, bytes: u64) {
        tracing::info!(source, records, bytes, "read");
    }
}

#[cfg(test)]
mod tests;
