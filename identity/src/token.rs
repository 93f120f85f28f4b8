//! Tokens: a secret that names a node once (to join) or a person for a while (to use the API), with the digest of the
//! authority of the collector that made it. Who has a token knows whom to trust and is believed himself.
//!
//! As text: `casefile_join_` or `casefile_api_`, 64 hexadecimal digits of the authority's digest, `_`, 64 of the secret. What is
//! kept on the collector is the digest of the secret, so that its disk gives no token away.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use casefile_proto::identity::TokenId;
use casefile_proto::item::Digest;
use sha2::{Digest as _, Sha256};

/// A token file holds one line.
const MAX_FILE: u64 = 1 << 10;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A node joins with it, once.
    Join,
    /// A person or a program uses the API with it.
    Api,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Join => "casefile_join_",
            Self::Api => "casefile_api_",
        }
    }
}

/// SHA-256 of the certificate (DER) of a collector's authority: whoever knows it knows the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Pin(pub Digest);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Pin {
    type Err = NoPin;
    fn from_str(text: &str) -> Result<Self, NoPin> {
        text.parse().map(Self).map_err(|_| NoPin)
    }
}

/// A text is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pin of a collector has 64 hexadecimal digits")]
pub struct NoPin;

/// A token.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    kind: Kind,
    pin: Pin,
    secret: [u8; 32],
}

impl Token {
    /// A new one with a secret that nobody can guess.
    pub fn new(kind: Kind, pin: Pin) -> io::Result<Self> {
        Ok(Self { kind, pin, secret: crate::random()? })
    }

    /// What it is for.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The collector that made it.
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// The digest of its secret: what a collector keeps.
    pub fn digest(&self) -> Digest {
        Digest(Sha256::digest(self.secret).into())
    }

    /// The token as text: only ever for whom it is made.
    pub fn reveal(&self) -> String {
        format!("{}{}_{}", self.kind.prefix(), self.pin, Digest(self.secret))
    }

    /// Reads one from a file; spaces and line ends around it do not matter.
    pub fn load(path: &Path) -> Result<Self, TokenFileError> {
        let failed = |source| TokenFileError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        std::fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text)).map_err(failed)?;
        text.trim().parse().map_err(|source| TokenFileError::NoToken { path: path.to_owned(), source })
    }
}

/// Puts a token into a file for this user alone.
pub fn save(token: &Token, path: &Path) -> io::Result<()> {
    crate::file::write_private(path, format!("{}\n", token.reveal()).as_bytes())
}

/// Names a token by the digest of its secret.
pub fn id(digest: &Digest) -> TokenId {
    let text: String = digest.to_string().chars().take(TokenId::LEN).collect();
    text.parse().unwrap_or_else(|_| unreachable!("a digest has more digits than an id"))
}

impl fmt::Debug for Token {
    /// Not the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.kind.prefix())
    }
}

/// A text is no token. It is not quoted: it may be nearly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no token of a collector: one begins with casefile_join_ or casefile_api_ and has two numbers of 64 digits")]
pub struct NoToken;

/// Why a file gave no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("read the token in {path}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// It holds something else.
    #[error("{path} {source}")]
    NoToken {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: NoToken,
    },
}

impl FromStr for Token {
    type Err = NoToken;
    fn from_str(text: &str) -> Result<Self, NoToken> {
        let (kind, rest) = [Kind::Join, Kind::Api]
            .into_iter()
            .find_map(|kind| Some((kind, text.strip_prefix(kind.prefix())?)))
            .ok_or(NoToken)?;
        let (pin, secret) = rest.split_once('_').ok_or(NoToken)?;
        let number = |digits: &str| digits.parse::<Digest>().map_err(|_| NoToken);
        Ok(Self { kind, pin: Pin(number(pin)?), secret: number(secret)?.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin() -> Pin {
        Pin(Digest([7; 32]))
    }

    #[test]
    fn a_token_comes_back_from_its_text_and_shows_itself_nowhere_else() {
        for kind in [Kind::Join, Kind::Api] {
            let token = Token::new(kind, pin()).unwrap();
            let text = token.reveal();
            assert_eq!(text.parse::<Token>().unwrap(), token);
            assert!(!format!("{token:?}").contains(&text[80..]));
            assert_ne!(token, Token::new(kind, pin()).unwrap());
            assert_eq!(id(&token.digest()).as_str(), &token.digest().to_string()[..16]);
        }
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_quoted() {
        let good = Token::new(Kind::Join, pin()).unwrap().reveal();
        let mut bad = vec![String::new(), "casefile_join_".to_owned(), good[1..].to_owned(), format!("{good}0")];
        bad.extend((0..good.len()).map(|cut| good[..cut].to_owned()));
        bad.push(good.replace("join", "root"));
        bad.push(good.to_uppercase());
        for text in bad {
            let error = text.parse::<Token>().map(drop).unwrap_err().to_string();
            assert!(text.len() < 20 || !error.contains(&text[14..]), "{error}");
        }
    }

    #[test]
    fn a_token_is_read_from_a_file_with_a_line_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let token = Token::new(Kind::Api, pin()).unwrap();
        std::fs::write(&path, format!("\n{}\n", token.reveal())).unwrap();
        assert_eq!(Token::load(&path).unwrap(), token);
        std::fs::write(&path, "root:$6$secret").unwrap();
        let error = Token::load(&path).unwrap_err().to_string();
        assert!(error.contains("is no token") && !error.contains("secret"), "{error}");
        assert!(matches!(Token::load(&dir.path().join("none")), Err(TokenFileError::Io { .. })));
    }
}
