//! An access key out of a file as other S3 clients have it (`aws_access_key_id = …`), read anew for each request: whoever
//! replaces the file need not restart anything. What is in it appears in no text.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use object_store::aws::AwsCredential;
use object_store::{CredentialProvider, Error, Result};
use tokio::io::AsyncReadExt;

/// A file that is larger holds no key.
const MAX_FILE: u64 = 16 << 10;

/// A file with an access key.
#[derive(Debug)]
pub(super) struct FromFile {
    path: PathBuf,
}

/// Why there is no key in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoKey {
    #[error("read {path}")]
    Unread {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} has no aws_access_key_id and aws_secret_access_key, or has them for several profiles")]
    None(PathBuf),
}

impl FromFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    async fn key(&self) -> Result<Arc<AwsCredential>> {
        let unread = |source| error(NoKey::Unread { path: self.path.clone(), source });
        let file = tokio::fs::File::open(&self.path).await.map_err(unread)?;
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).await.map_err(unread)?;
        parse(&text).map(Arc::new).ok_or_else(|| error(NoKey::None(self.path.clone())))
    }
}

impl CredentialProvider for FromFile {
    type Credential = AwsCredential;

    fn get_credential<'s, 'f>(&'s self) -> Pin<Box<dyn Future<Output = Result<Arc<AwsCredential>>> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        Box::pin(self.key())
    }
}

fn error(why: NoKey) -> Error {
    Error::Generic { store: "S3", source: Box::new(why) }
}

/// Of the one profile that there is. `None`: something is missing or there twice.
fn parse(text: &str) -> Option<AwsCredential> {
    let (mut id, mut secret, mut token) = (None, None, None);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';', '[']));
    for line in lines {
        let (name, value) = line.split_once('=')?;
        let place = match name.trim() {
            "aws_access_key_id" => &mut id,
            "aws_secret_access_key" => &mut secret,
            "aws_session_token" => &mut token,
            // Such as a region, which the configuration says.
            _ => continue,
        };
        if place.replace(value.trim().to_owned()).is_some() {
            return None;
        }
    }
    Some(AwsCredential {
        key_id: id.filter(|id| !id.is_empty())?,
        secret_key: secret.filter(|s| !s.is_empty())?,
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_one_profile_is_found_and_half_a_key_or_two_are_none() {
        let found =
            parse("# ours\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=a/b+c=\nregion = x\n").unwrap();
        assert_eq!((found.key_id.as_str(), found.secret_key.as_str(), found.token), ("AKIA1", "a/b+c=", None));
        let with_token = "aws_access_key_id=A\naws_secret_access_key=S\naws_session_token = T";
        assert_eq!(parse(with_token).unwrap().token.as_deref(), Some("T"));
        let two = format!("[a]\n{with_token}\n[b]\n{with_token}");
        for none in ["", "aws_access_key_id = A", "aws_access_key_id = A\naws_secret_access_key =", "AKIA1", &two] {
            assert!(parse(none).is_none(), "{none}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_the_file_is_said_without_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        let file = FromFile::new(path.clone());
        assert!(crate::chain::chain(&file.get_credential().await.unwrap_err()).contains("credentials"));
        std::fs::write(&path, "aws_secret_access_key = hidden\n").unwrap();
        let said = crate::chain::chain(&file.get_credential().await.unwrap_err());
        assert!(said.contains("aws_access_key_id") && !said.contains("hidden"), "{said}");
        std::fs::write(&path, "aws_access_key_id = A\naws_secret_access_key = S\n").unwrap();
        assert_eq!(file.get_credential().await.unwrap().key_id, "A", "the file is read anew");
    }
}
