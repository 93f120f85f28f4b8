//! `casefile download`: the archive, piece by piece, resumed where an interrupted one stopped, announced when whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use casefile_proto::ids::IncidentId;
use casefile_proto::incident::{ArchivePiece, DownloadAsk, SealedArchive};
use casefile_proto::item::Digest;
use casefile_proto::units::Bytes;
use casefile_proto::wire::v1::DownloadArchiveResponse;
use casefile_review::display::safe;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::args::{CollectorArgs, Format};
use crate::{Ended, client, output};

/// What was fetched.
#[derive(Serialize)]
struct Fetched {
    incident: IncidentId,
    file: PathBuf,
    archive: SealedArchive,
}

/// Fetches an archive of an incident: the newest, or the one of this revision.
pub(crate) fn run(
    collector: &CollectorArgs,
    which: (IncidentId, Option<u32>),
    file: Option<PathBuf>,
    format: Format,
) -> Result<Ended> {
    if file.as_deref() == Some(Path::new("-")) {
        return client::block_on(to_stdout(collector, which));
    }
    let fetched = client::block_on(to_file(collector, which, file))?;
    output::one(format, &fetched, || format!("{}\n", fetched.file.display()))?;
    crate::output::talk!(
        "{} fetched, {}; next: casefile show {}",
        fetched.incident,
        Bytes(fetched.archive.size),
        fetched.file.display()
    );
    Ok(Ended::Done)
}

async fn to_stdout(collector: &CollectorArgs, which: (IncidentId, Option<u32>)) -> Result<Ended> {
    let mut out = std::io::stdout().lock();
    let (_, mut pieces) = open(collector, which, 0).await?;
    while let Some(piece) = pieces.next().await? {
        out.write_all(&piece.data).context(output::STDOUT)?;
    }
    out.flush().context(output::STDOUT)?;
    Ok(Ended::Done)
}

async fn to_file(
    collector: &CollectorArgs,
    which: (IncidentId, Option<u32>),
    file: Option<PathBuf>,
) -> Result<Fetched> {
    // The first piece tells the name; an interrupted download is found by it and gone on with.
    let (archive, _) = open(collector, which, 0).await?;
    let path = match file {
        Some(path) => path,
        None => PathBuf::from(safe_name(&archive.file_name)?),
    };
    ensure!(!path.exists(), "{} is there already; say another name with -o", path.display());
    let archive = fetch(collector, which, archive, &path).await?;
    Ok(Fetched { incident: which.0, file: path, archive })
}

/// The newest archive of an incident: what it is, without its content.
pub(crate) async fn newest(collector: &CollectorArgs, incident: IncidentId) -> Result<SealedArchive> {
    Ok(open(collector, (incident, None), 0).await?.0)
}

/// Fetches an archive of an incident to this path, which the caller keeps for itself.
pub(crate) async fn into_cache(
    collector: &CollectorArgs,
    which: (IncidentId, Option<u32>),
    path: &Path,
) -> Result<SealedArchive> {
    let (archive, _) = open(collector, which, 0).await?;
    fetch(collector, which, archive, path).await
}

/// Fetches to a path, beside which an interrupted download is gone on with. The path is there only when all of it is, and is
/// what the collector sealed.
async fn fetch(
    collector: &CollectorArgs,
    which: (IncidentId, Option<u32>),
    archive: SealedArchive,
    path: &Path,
) -> Result<SealedArchive> {
    let partial = partial_of(path);
    let mut out = OpenOptions::new()
        .create(true)
        .append(true)
        .read(true)
        .open(&partial)
        .with_context(|| format!("write {}", partial.display()))?;
    // Two that write into one would spoil it for both.
    ensure!(
        out.try_lock().is_ok(),
        "another one is fetching {} just now: call again when it is there",
        partial.display()
    );
    let have = out.metadata().with_context(|| format!("look at {}", partial.display()))?.len();
    let have = if have > archive.size { truncate(&mut out, &partial)? } else { have };
    let (archive, mut pieces) = open(collector, which, have).await?;
    let mut have = have;
    while let Some(piece) = pieces.next().await? {
        ensure!(piece.offset == have, "the collector sent byte {} where byte {have} was due", piece.offset);
        out.write_all(&piece.data).with_context(|| format!("write {}", partial.display()))?;
        have += piece.data.len() as u64;
    }
    ensure!(have == archive.size, "the collector sent {have} of {} bytes; call again to go on", archive.size);
    out.sync_all().with_context(|| format!("write {}", partial.display()))?;
    check_digest(&mut out, &partial, &archive)?;
    std::fs::rename(&partial, path).with_context(|| format!("name {}", path.display()))?;
    Ok(archive)
}

/// The pieces of an archive: the first one was read already, because it says what they are pieces of.
struct Pieces {
    first: Option<ArchivePiece>,
    rest: tonic::Streaming<DownloadArchiveResponse>,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<ArchivePiece>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let piece = self.rest.message().await.map_err(|s| client::said(&s))?;
        Ok(piece.map(ArchivePiece::try_from).transpose()?)
    }
}

async fn open(
    collector: &CollectorArgs,
    (incident, revision): (IncidentId, Option<u32>),
    offset: u64,
) -> Result<(SealedArchive, Pieces)> {
    let mut service = client::incidents(collector).await?;
    let ask = DownloadAsk { incident, offset, revision };
    let rest =
        service.download_archive(tonic::Request::new(ask.into())).await.map_err(|s| client::said(&s))?.into_inner();
    let mut pieces = Pieces { first: None, rest };
    let mut first = pieces.next().await?.context("the collector sent nothing")?;
    let archive = first.archive.take().context("the collector did not say what it sends")?;
    pieces.first = Some(first);
    Ok((archive, pieces))
}

/// A name that came over the wire names a file in this directory, or nothing.
fn safe_name(name: &str) -> Result<&str> {
    let plain =
        name.parse::<casefile_proto::item::EntryPath>().is_ok() && !name.contains('/') && !name.starts_with('.');
    ensure!(plain, "the collector calls the file {}: say a name with -o", safe(name));
    Ok(name)
}

fn partial_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn truncate(out: &mut File, partial: &Path) -> Result<u64> {
    out.set_len(0).with_context(|| format!("begin {} again", partial.display()))?;
    Ok(0)
}

/// What lies on disk is what the collector sealed: a resumed piece of another archive is noticed here.
fn check_digest(out: &mut File, partial: &Path, archive: &SealedArchive) -> Result<()> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    out.seek(SeekFrom::Start(0)).with_context(|| format!("read {}", partial.display()))?;
    loop {
        let n = out.read(&mut buffer).with_context(|| format!("read {}", partial.display()))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
    }
    if Digest(hash.finalize().into()) != archive.sha256 {
        std::fs::remove_file(partial).with_context(|| format!("remove {}", partial.display()))?;
        bail!("what arrived is not what the collector sealed (SHA-256 differs); it was removed: call again");
    }
    Ok(())
}
