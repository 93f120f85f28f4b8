//! The token of a scraper: a secret in a file that opens `/metrics` from elsewhere, and nothing else anywhere.
//!
//! The file is read whenever somebody shows a token that is nobody's, so it can come, change and go while the collector
//! runs, as a mounted Secret does. Where there is none, nobody gets in by it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::once::Once;

/// A shorter one could be guessed: this is 128 bits in hexadecimal.
const MIN_TOKEN: usize = 32;

/// A longer one does not fit into the headers of a request.
const MAX_TOKEN: usize = 4096;

/// The file is read within this: it lies in memory, or on a disk that works.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no token to compare with.
#[derive(Debug, thiserror::Error)]
enum NoToken {
    #[error("read it")]
    Read(#[from] std::io::Error),
    #[error("it is no regular file")]
    NoFile,
    #[error("it does not hold {MIN_TOKEN} to {MAX_TOKEN} visible characters on one line")]
    NotOne,
}

/// Knows the token of a scraper by its file.
pub struct Scraper {
    path: Option<Arc<Path>>,
    reading: Once,
    /// Whether it was said already that the file is there and of no use.
    told: Arc<AtomicBool>,
}

impl Scraper {
    /// By this file; `None`: there is no scraper.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path: path.map(Into::into), reading: Once::new(), told: Arc::default() }
    }

    /// Whether this is the scraper's token.
    pub(super) async fn is(&self, shown: &str) -> bool {
        let Some(path) = self.path.clone() else { return false };
        let told = Arc::clone(&self.told);
        let known = self.reading.ask(READ_WITHIN, move || kept(&path, &told)).await.flatten();
        // Digests are compared: how long it takes says nothing of the token.
        known.is_some_and(|known| known == digest(shown))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The digest of what the file holds. That it is of no use is said once, until it was of use again.
fn kept(path: &Path, told: &AtomicBool) -> Option<[u8; 32]> {
    match read(path) {
        Ok(token) => {
            told.store(false, Ordering::Relaxed);
            Some(digest(&token))
        }
        // A Secret that nobody made: then there is no scraper.
        Err(NoToken::Read(error)) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            if !told.swap(true, Ordering::Relaxed) {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(path = %path.display(), %error, cause, "the token for metrics cannot be used");
            }
            None
        }
    }
}

fn read(path: &Path) -> Result<String, NoToken> {
    // A pipe without a writer would keep the thread.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(NoToken::NoFile);
    }
    let most = u64::try_from(MAX_TOKEN).unwrap_or(u64::MAX).saturating_add(3);
    let mut text = String::new();
    file.take(most).read_to_string(&mut text)?;
    let token = text.trim_end_matches(['\r', '\n']);
    let fits = (MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(token.to_owned()) } else { Err(NoToken::NotOne) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[tokio::test]
    async fn the_token_in_the_file_opens_as_long_as_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let scraper = Scraper::new(Some(path.clone()));
        assert!(!scraper.is(TOKEN).await, "there is no file");
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert!(scraper.is(TOKEN).await);
        for other in ["", &TOKEN[1..], &format!("{TOKEN}0"), &format!("{TOKEN}\n")] {
            assert!(!scraper.is(other).await, "{other:?}");
        }
        let newer = "f".repeat(64);
        std::fs::write(&path, &newer).unwrap();
        assert!(!scraper.is(TOKEN).await && scraper.is(&newer).await);
        std::fs::remove_file(&path).unwrap();
        assert!(!scraper.is(&newer).await);
        assert!(!Scraper::new(None).is("").await);
    }

    #[tokio::test]
    async fn what_could_be_guessed_or_is_no_token_opens_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let scraper = Scraper::new(Some(path.clone()));
        let spaced = format!("{TOKEN} {TOKEN}");
        for text in ["", "\n", "secret", &TOKEN[1..], &spaced, &format!("{TOKEN}\n{TOKEN}"), &"a".repeat(MAX_TOKEN + 1)]
        {
            std::fs::write(&path, text).unwrap();
            assert!(!scraper.is(text).await && !scraper.is(text.trim_end()).await, "{text:?}");
        }
        std::fs::write(&path, "a".repeat(MAX_TOKEN) + "\r\n").unwrap();
        assert!(scraper.is(&"a".repeat(MAX_TOKEN)).await);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(!scraper.is("").await);
        std::fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(!scraper.is("").await, "a pipe that nobody writes into");
    }
}
