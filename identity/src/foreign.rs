//! Tokens that are none of a collector's own: a cluster issued them, and what they prove the collector asks the cluster. They do
//! not say which collector to trust, so its pin comes another way: a file that somebody put there.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use casefile_proto::identity::MAX_FOREIGN_TOKEN;

use crate::token::{Pin, Token};

/// A file with a pin holds 64 digits and a line end.
const MAX_PIN_FILE: u64 = 1 << 10;

/// What every token of ours begins with: a text that begins so is a damaged one of ours, and is shown to nobody else.
const OURS: &str = "casefile_";

/// A token that a cluster issued.
#[derive(Clone, PartialEq, Eq)]
pub struct ForeignToken(String);

impl ForeignToken {
    /// The token as text: only ever for the collector.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Reads one from a file; spaces and line ends around it do not matter.
    pub fn load(path: &Path) -> Result<Self, ForeignFileError> {
        let text = read(path, "token", MAX_FOREIGN_TOKEN as u64 + 2)?;
        text.trim().parse().map_err(|source| ForeignFileError::NoToken { path: path.to_owned(), source })
    }
}

impl fmt::Debug for ForeignToken {
    /// Not the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignToken(…)")
    }
}

/// A text cannot be a token that a cluster issued. It is not quoted: it may be nearly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no token of a cluster: one has 1 to {MAX_FOREIGN_TOKEN} visible characters, and does not begin with casefile_"
)]
pub struct NoForeignToken;

impl FromStr for ForeignToken {
    type Err = NoForeignToken;
    fn from_str(text: &str) -> Result<Self, NoForeignToken> {
        let fits = (1..=MAX_FOREIGN_TOKEN).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
            && !text.starts_with(OURS);
        if fits { Ok(Self(text.to_owned())) } else { Err(NoForeignToken) }
    }
}

/// A token that somebody shows: one of a collector, which says which collector that is, or one of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyToken {
    /// Of a collector.
    Ours(Token),
    /// Of a cluster.
    Foreign(ForeignToken),
}

impl AnyToken {
    /// Reads one from a file; spaces and line ends around it do not matter.
    pub fn load(path: &Path) -> Result<Self, ForeignFileError> {
        let text = read(path, "token", MAX_FOREIGN_TOKEN as u64 + 2)?;
        text.trim().parse().map_err(|source| ForeignFileError::NoToken { path: path.to_owned(), source })
    }
}

impl FromStr for AnyToken {
    type Err = NoForeignToken;
    fn from_str(text: &str) -> Result<Self, NoForeignToken> {
        text.parse().map(Self::Ours).or_else(|_| text.parse().map(Self::Foreign))
    }
}

/// The pin in a file, as it stands in a config map; `None`: there is no file yet, or nothing in it.
pub fn load_pin(path: &Path) -> Result<Option<Pin>, ForeignFileError> {
    let text = match read(path, "pin", MAX_PIN_FILE) {
        Err(ForeignFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    match text.trim() {
        "" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| ForeignFileError::NoPin { path: path.to_owned() }),
    }
}

fn read(path: &Path, what: &'static str, most: u64) -> Result<String, ForeignFileError> {
    let mut text = String::new();
    match File::open(path).and_then(|file| file.take(most + 1).read_to_string(&mut text)) {
        Ok(read) if read as u64 > most => Err(ForeignFileError::TooLarge { what, path: path.to_owned(), most }),
        Ok(_) => Ok(text),
        Err(source) => Err(ForeignFileError::Io { what, path: path.to_owned(), source }),
    }
}

/// Why a file gave no token or no pin. Its content is not quoted.
#[derive(Debug, thiserror::Error)]
pub enum ForeignFileError {
    /// It cannot be read.
    #[error("read the {what} in {path}")]
    Io {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// It is larger than what it should hold can be.
    #[error("{path} is larger than {most} bytes: it holds no {what}")]
    TooLarge {
        /// What it should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The most that is read.
        most: u64,
    },
    /// It holds no token.
    #[error("{path} {source}")]
    NoToken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: NoForeignToken,
    },
    /// It holds no pin.
    #[error("{path} holds no pin of a collector: that is 64 hexadecimal digits")]
    NoPin {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use casefile_proto::item::Digest;

    use super::*;
    use crate::token::Kind;

    #[test]
    fn a_damaged_token_of_ours_is_not_taken_for_one_of_a_cluster() {
        let ours = Token::new(Kind::Api, Pin(Digest([7; 32]))).unwrap().reveal();
        assert!(matches!(ours.parse(), Ok(AnyToken::Ours(_))));
        assert!(matches!("eyJhbGciOi.eyJhdWQi.c2ln".parse(), Ok(AnyToken::Foreign(_))));
        for bad in [&ours[..ours.len() - 1], "", "a b", "ä", "a\u{7f}", &"x".repeat(MAX_FOREIGN_TOKEN + 1)] {
            assert!(bad.parse::<AnyToken>().is_err(), "{} bytes", bad.len());
        }
        let foreign: ForeignToken = "secret-secret".parse().unwrap();
        assert!(!format!("{foreign:?}").contains("secret"));
    }

    #[test]
    fn files_are_read_up_to_their_size_and_what_is_not_there_yet_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(matches!(load_pin(&path), Ok(None)));
        let pin = Pin(Digest([9; 32]));
        std::fs::write(&path, format!("{pin}\n")).unwrap();
        assert_eq!(load_pin(&path).unwrap(), Some(pin));
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(load_pin(&path).unwrap(), None, "an empty config map");
        std::fs::write(&path, "root:secret").unwrap();
        let said = load_pin(&path).unwrap_err().to_string();
        assert!(said.contains("64 hexadecimal digits") && !said.contains("secret"), "{said}");
        std::fs::write(&path, "x".repeat(MAX_FOREIGN_TOKEN + 3)).unwrap();
        assert!(matches!(ForeignToken::load(&path), Err(ForeignFileError::TooLarge { .. })));
        std::fs::write(&path, format!("\n{}\n", "x".repeat(MAX_FOREIGN_TOKEN))).unwrap();
        assert_eq!(ForeignToken::load(&path).unwrap().reveal().len(), MAX_FOREIGN_TOKEN);
    }
}
