//! Opens what a verb reads: an archive, a directory of segments, or an incident, of which the case file is fetched into a private
//! cache and kept there for the next question.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use casefile_proto::ids::{IncidentId, NodeName};
use casefile_proto::incident::SealedArchive;
use casefile_proto::time::{WallTime, Window};
use casefile_proto::units::Bytes;
use casefile_review::casefile::CaseFile;
use casefile_review::display::safe;
use casefile_review::seriesset::SeriesSet;
use casefile_review::when::{self, InvalidWhen};

use crate::args::CollectorArgs;
use crate::args::source::{PartArgs, Place, SourceArgs};
use crate::output::talk;
use crate::{client, download};

/// Case files that are kept; the one that was used longest ago goes first.
const MAX_KEPT: usize = 4;

/// A download that nobody goes on with for so long is not gone on with.
const ABANDONED: Duration = Duration::from_secs(86_400);

/// Nodes that are named in an error.
const MAX_NAMED: usize = 20;

/// It was not said which node, or one that is not in the case file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WhichNode(String);

/// Opens it.
pub(crate) fn open(source: &SourceArgs) -> Result<CaseFile> {
    open_place(&source.file, &source.collector)
}

/// Opens what is at a place.
pub(crate) fn open_place(place: &Place, collector: &CollectorArgs) -> Result<CaseFile> {
    let opened = match place {
        Place::Path(path) => CaseFile::open(path).with_context(|| format!("open the case file {}", path.display())),
        Place::Incident(incident) => {
            let path = fetched(*incident, collector)?;
            CaseFile::open(&path).with_context(|| format!("open the case file of {incident} at {}", path.display()))
        }
    }?;
    tell_unread(opened.newer().as_slice());
    Ok(opened)
}

/// The node that is meant: the one that was named, or the only one.
pub(crate) fn node(casefile: &CaseFile, named: Option<&NodeName>) -> Result<NodeName> {
    let mut all: Vec<&NodeName> = casefile.coverage.nodes.iter().map(|row| &row.node).collect();
    all.sort();
    let names = || {
        let more = all.len().saturating_sub(MAX_NAMED);
        let named: Vec<_> = all.iter().take(MAX_NAMED).map(|node| safe(node.as_str())).collect();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", named.join(", "))
    };
    match (named, all.as_slice()) {
        (Some(node), _) if all.contains(&node) => Ok(node.clone()),
        (Some(node), _) => {
            Err(WhichNode(format!("node {} is not in the case file, which has {}", safe(node.as_str()), names()))
                .into())
        }
        (None, [only]) => Ok((*only).clone()),
        (None, []) => Err(WhichNode("there is no node in the case file".to_owned()).into()),
        (None, _) => Err(WhichNode(format!("which node? say --node with one of {}", names())).into()),
    }
}

/// The instant that is meant: lengths count back from the end of the window, which is the present of a case file.
pub(crate) fn instant(casefile: &CaseFile, at: Option<&str>) -> Result<WallTime, InvalidWhen> {
    let end = casefile.incident.window.until();
    at.map_or(Ok(end), |text| when::time(text, end))
}

/// The part of the window that is meant; `moment` before the instant where one was said.
pub(crate) fn part(casefile: &CaseFile, part: &PartArgs, moment: Duration) -> Result<Window, InvalidWhen> {
    let whole = casefile.incident.window;
    let time = |text: &Option<String>, otherwise| {
        text.as_deref().map_or(Ok(otherwise), |text| when::time(text, whole.until()))
    };
    if let Some(at) = &part.at {
        let at = when::time(at, whole.until())?;
        return Ok(Window::new(at.before(moment), at)?);
    }
    Ok(Window::new(time(&part.since, whole.from())?, time(&part.until, whole.until())?)?)
}

/// The part that a window around an instant, or a begin and an end, leave of a case file that ends at `end`; `None`: all of it.
/// Lengths are counted back from there: a case file is read days later, and its own present is when it was made.
pub(crate) fn range(
    around: Option<&str>,
    since: Option<&str>,
    until: Option<&str>,
    end: WallTime,
) -> Result<Option<Window>, InvalidWhen> {
    if let Some(around) = around {
        return Ok(Some(when::around(around, end)?));
    }
    if since.is_none() && until.is_none() {
        return Ok(None);
    }
    let time = |text: Option<&str>, otherwise| text.map_or(Ok(otherwise), |text| when::time(text, end));
    Ok(Some(Window::new(time(since, WallTime::MIN)?, time(until, WallTime::MAX)?)?))
}

/// Says that the file is not all there. The answer is whether it is.
pub(crate) fn tell_truncated(casefile: &CaseFile) -> bool {
    if casefile.entries.truncated() {
        talk!("this file ends early: what was gathered may not all be in it");
    } else if !casefile.entries.indexed() {
        talk!(
            "the index of this file is damaged: what is behind the damage may be missing (casefile verify says more)"
        );
    }
    !casefile.entries.truncated() && casefile.entries.indexed()
}

/// Says what of the documents could not be read.
pub(crate) fn tell_unread(unread: &[(String, String)]) {
    for (what, why) in unread.iter().take(MAX_NAMED) {
        talk!("not read: {}: {}", safe(what), safe(why));
    }
}

/// Says which recordings could not be read to their end, and what was left out. The answer is whether there are none.
pub(crate) fn tell_damage(set: &SeriesSet) -> bool {
    for (entry, why) in &set.damaged {
        talk!("damaged: {}: {}", safe(entry), safe(why));
    }
    if set.left_out > 0 {
        talk!("{} values are too many to be held at once and were left out: a shorter part helps", set.left_out);
    }
    set.damaged.is_empty()
}

/// The case file of an incident: from the cache, or from the collector into it.
fn fetched(incident: IncidentId, collector: &CollectorArgs) -> Result<PathBuf> {
    // Whoever may not have it may not have it from the cache either.
    let archive = client::block_on(download::newest(collector, incident))?;
    let dir = cache()?;
    let path = dir.join(format!("{}.tar.gz", archive.sha256));
    if is_kept(&path, &archive)? {
        // What was used last goes last; a cache that cannot be marked is still a cache.
        let _unmarked = File::options().append(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        return Ok(path);
    }
    make_room(&dir, &path)?;
    talk!("fetching the case file of {incident}, {}", Bytes(archive.size));
    let revision = Some(archive.revision);
    client::block_on(download::into_cache(collector, (incident, revision), &path))?;
    Ok(path)
}

/// It was checked against its digest, which is its name, before it got that name; nobody else can write here.
fn is_kept(path: &Path, archive: &SealedArchive) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.is_file() && meta.len() == archive.size),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("look at {}", path.display())),
    }
}

/// `$XDG_CACHE_HOME/casefile`, else `~/.cache/casefile`: of this user alone.
fn cache() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let below = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let dir = below
        .context("neither XDG_CACHE_HOME nor HOME names a directory: there is no place for a cache")?
        .join("casefile");
    private(&dir)?;
    Ok(dir)
}

/// Makes the directory for this user alone; one that others could have written into is refused.
fn private(dir: &Path) -> Result<()> {
    let failed = || format!("make the cache {}", dir.display());
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(failed)?;
    let meta = fs::symlink_metadata(dir).with_context(failed)?;
    let ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    ensure!(ours, "{} is not a directory of this user: case files are not kept there", dir.display());
    if meta.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).with_context(failed)?;
    }
    Ok(())
}

/// Drops what was used longest ago, so that there is room for one more, and downloads that nobody goes on with.
fn make_room(dir: &Path, but: &Path) -> Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("list {}", dir.display()))?;
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if name.ends_with(".tar.gz") && path != but {
            kept.push((used, path));
        } else if name.ends_with(".partial") && used.elapsed().is_ok_and(|ago| ago > ABANDONED) {
            remove(&path)?;
        }
    }
    kept.sort();
    let too_many = (kept.len() + 1).saturating_sub(MAX_KEPT);
    kept.iter().take(too_many).try_for_each(|(_, path)| remove(path))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        // Another one of us was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("remove {} from the cache", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_private_and_drops_what_was_used_longest_ago() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("a/casefile");
        private(&cache).unwrap();
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
        private(&cache).unwrap();
        assert_eq!(fs::metadata(&cache).unwrap().permissions().mode() & 0o777, 0o700);
        for (n, name) in ["c.tar.gz", "b.tar.gz", "a.tar.gz", "d.tar.gz", "e.tar.gz", "x.partial"].iter().enumerate() {
            let file = File::create(cache.join(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(1_000 - n as u64)).unwrap();
        }
        let old = File::create(cache.join("old.partial")).unwrap();
        old.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        make_room(&cache, &cache.join("new.tar.gz")).unwrap();
        let mut left: Vec<_> = fs::read_dir(&cache).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.tar.gz", "d.tar.gz", "e.tar.gz", "x.partial"]);
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(private(&dir.path().join("file")).is_err());
    }
}
