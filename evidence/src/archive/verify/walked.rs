//! Verifying without the index, because it is damaged or the file ends early: from the front, as far as it can be read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use casefile_proto::item::{Digest, EntryPath};
use sha2::{Digest as _, Sha256};

use super::{Content, Contents, MAX_TAG_FILE, Problems, is_tag};
use crate::archive::index::{self, Locator};
use crate::archive::limits::{Limits, Stop};
use crate::archive::reader::{IndexState, WalkEnd, Walked};
use crate::archive::sequential::{Next, Walk};

/// Reads the file from the front to its end or to where nothing can be read any more.
pub(super) fn check(file: &Arc<File>, limits: Limits, walked: &Walked, problems: &mut Problems) -> Contents {
    let mut contents = Contents { complete: false, ..Contents::new() };
    let mut index_begun = false;
    match read_all(file, limits, &mut contents, &mut index_begun) {
        Ok(sum_matches) => {
            contents.complete = true;
            if !sum_matches {
                problems.of_file("the gzip trailer is not that of the content");
            }
        }
        Err((within, stop)) => {
            let entry = within.as_ref().map(EntryPath::as_str).or(index_begun.then_some(index::NAME));
            let what = match stop {
                Stop::Truncated => "the file ends here".to_owned(),
                Stop::Damaged(why) | Stop::Refused(why) => why,
                Stop::Io(e) => format!("it cannot be read: {e}"),
            };
            match entry {
                Some(entry) => problems.of(entry, what),
                None => problems.of_file(what),
            }
        }
    }
    match &walked.end {
        WalkEnd::Whole { appended } if *appended > 0 => {
            problems.of_file(format!("{appended} bytes follow the end of the archive"));
        }
        WalkEnd::Whole { .. } => {}
        WalkEnd::Truncated => {
            let n = contents.entries.len();
            problems
                .of_file(format!("the file is truncated: {n} entries begin in it, and what vouches for them is lost"));
        }
        WalkEnd::Damaged => problems.of_file("the rest cannot be read, because the index is damaged as well"),
    }
    let other_problems = !problems.0.is_empty();
    match &walked.index {
        IndexState::Damaged(locator) => {
            problems.of(index::NAME, "its text is not what it was when it was sealed");
            if !other_problems && before(file, locator).is_ok_and(|digest| digest != locator.before) {
                problems.of_file("bytes before the index were changed, and the index cannot tell where");
            }
        }
        IndexState::Nowhere if walked.end != WalkEnd::Truncated => {
            problems.of(index::NAME, "it is missing, or the last part of it was changed");
        }
        IndexState::Nowhere => {}
    }
    contents
}

/// Hashes everything; whether the trailer fits, or where and why it went no further.
fn read_all(
    file: &Arc<File>,
    limits: Limits,
    contents: &mut Contents,
    index_begun: &mut bool,
) -> Result<bool, (Option<EntryPath>, Stop)> {
    let mut walk = Walk::begin(Arc::clone(file), limits).map_err(|stop| (None, stop))?;
    loop {
        match walk.next() {
            Ok(Next::End(ended)) => return Ok(ended.sum_matches),
            Ok(Next::Entry { path, .. }) if path.as_str() == index::NAME => *index_begun = true,
            Ok(Next::Entry { path, size }) => {
                let content = content(&mut walk, path.clone(), size, &mut contents.bytes);
                let stop = content.1;
                contents.entries.push(content.0);
                if let Some(stop) = stop {
                    return Err((Some(path), stop));
                }
            }
            Err(stop) => return Err((walk.within().cloned(), stop)),
        }
    }
}

fn content(walk: &mut Walk, path: EntryPath, size: u64, bytes: &mut u64) -> (Content, Option<Stop>) {
    let keep = is_tag(&path) && size <= MAX_TAG_FILE;
    let (mut sha256, mut text, mut buffer) = (Sha256::new(), Vec::new(), vec![0u8; 64 << 10]);
    loop {
        match walk.read(&mut buffer) {
            Ok(0) => {
                let sha256 = Some(Digest(sha256.finalize().into()));
                return (Content { path, size, sha256, text }, None);
            }
            Ok(n) => {
                sha256.update(&buffer[..n]);
                *bytes += n as u64;
                if keep {
                    text.extend_from_slice(&buffer[..n]);
                }
            }
            Err(stop) => return (Content { path, size, sha256: None, text: Vec::new() }, Some(stop)),
        }
    }
}

/// The digest of the file before its index.
fn before(file: &File, locator: &Locator) -> io::Result<Digest> {
    let (mut sha256, mut at, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 64 << 10]);
    while at < locator.index_at {
        let most = usize::try_from(locator.index_at - at).unwrap_or(usize::MAX).min(buffer.len());
        file.read_exact_at(&mut buffer[..most], at)?;
        sha256.update(&buffer[..most]);
        at += most as u64;
    }
    Ok(Digest(sha256.finalize().into()))
}
