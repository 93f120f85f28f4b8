//! The signature: SSHSIG (ed25519, namespace `casefile`), so that `ssh-keygen -Y verify` accepts it.
//!
//! What lives here: the collector's key on disk, signing, and the keys that a verifier believes. What is signed (the tag
//! manifest) `writer` and `verify` know. The form is OpenSSH's PROTOCOL.sshsig.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

/// The namespace of our signatures; a signature made for another purpose is refused.
pub const NAMESPACE: &str = "casefile";

/// Who signs, in an allowed-signers file: the name that `ssh-keygen -Y verify` wants as `-I`.
pub const PRINCIPAL: &str = "casefile";

/// The largest key file that is read: an ed25519 key is about 400 bytes.
const MAX_KEY_FILE: u64 = 16 << 10;

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system said no.
    #[error("{doing} the signing key {path}")]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The file is no ed25519 key in OpenSSH's format.
    #[error("{path} is no unencrypted ed25519 key in OpenSSH format")]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
    /// No randomness.
    #[error("make a signing key: {0}")]
    Make(String),
}

/// A private key.
#[derive(Clone)]
pub struct SigningKey {
    key: PrivateKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SigningKey").field(&self.fingerprint()).finish()
    }
}

impl SigningKey {
    /// Reads the key, or makes one (0600, synced) when there is none. A key is never overwritten.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Self::create(path),
            done => done,
        }
    }

    fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |source| KeyError::Io { doing: "read", path: path.to_owned(), source };
        let mut text = String::new();
        fs::File::open(path).and_then(|f| f.take(MAX_KEY_FILE).read_to_string(&mut text)).map_err(io)?;
        let key = PrivateKey::from_openssh(&text).ok().filter(|k| k.key_data().is_ed25519());
        key.map(|key| Self { key }).ok_or_else(|| KeyError::NotAKey { path: path.to_owned() })
    }

    /// Written beside its place and linked there, so that a crash leaves no half key and two starts make one key.
    fn create(path: &Path) -> Result<Self, KeyError> {
        let make = |e: ssh_key::Error| KeyError::Make(e.to_string());
        let io = |source| KeyError::Io { doing: "write", path: path.to_owned(), source };
        let mut key = PrivateKey::random(&mut ssh_key::rand_core::OsRng, Algorithm::Ed25519).map_err(make)?;
        key.set_comment("casefile");
        let text = key.to_openssh(LineEnding::LF).map_err(make)?;
        let beside = path.with_extension(format!("{}.partial", std::process::id()));
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::hard_link(&beside, path)?;
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            fs::File::open(parent)?.sync_all()
        };
        let written = written();
        // The link is the key; this name is only left when the write failed, and then it is of no use.
        let _: io::Result<()> = fs::remove_file(&beside);
        match written {
            Ok(()) => Ok(Self { key }),
            // Somebody else was quicker: theirs is the key.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.exists() => Self::load(path),
            Err(e) => Err(io(e)),
        }
    }

    /// One line for an allowed-signers file: `casefile namespaces="casefile" ssh-ed25519 AAAA… comment`.
    pub fn allowed_signer(&self) -> String {
        // An ed25519 public key always encodes; an empty line believes nobody.
        let public = self.key.public_key().to_openssh().unwrap_or_default();
        format!("{PRINCIPAL} namespaces=\"{NAMESPACE}\" {}", public.trim())
    }

    /// The fingerprint, `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The signature of these bytes as a PEM text. Ed25519 is deterministic: the same bytes give the same signature.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<String, ssh_key::Error> {
        self.key.sign(NAMESPACE, HashAlg::Sha512, message)?.to_pem(LineEnding::LF)
    }
}

/// The keys that a verifier believes: an allowed-signers file, or one line of it.
#[derive(Debug, Clone, Default)]
pub struct AllowedSigners {
    keys: Vec<KeyData>,
}

impl AllowedSigners {
    /// Parses an allowed-signers file; lines that are no ed25519 keys for our namespace are skipped. So are lines with
    /// other options than `namespaces` (a validity, a certificate authority): what we do not check we do not believe.
    pub fn parse(text: &str) -> Self {
        Self { keys: text.lines().filter_map(signer).collect() }
    }

    /// Whether there is no key at all in it.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn believes(&self, key: &KeyData) -> bool {
        self.keys.contains(key)
    }
}

/// `principals [options] keytype base64-key [comment]`, ssh-keygen(1), ALLOWED SIGNERS.
fn signer(line: &str) -> Option<KeyData> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (_, rest) = line.split_once([' ', '\t'])?;
    let rest = rest.trim_start();
    let public = match rest.strip_prefix("namespaces=\"") {
        Some(rest) => {
            let (namespaces, rest) = rest.split_once('"')?;
            namespaces.split(',').any(|n| n == NAMESPACE).then_some(rest.trim_start())?
        }
        None => rest,
    };
    let key = PublicKey::from_openssh(public).ok()?;
    key.key_data().is_ed25519().then(|| key.key_data().clone())
}

/// What is true of a signature.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Right, by a key that is believed.
    Good(String),
    /// Right, by another key.
    Unknown(String),
    /// Wrong, or none of ours.
    Broken(String),
}

/// Checks a PEM text against the bytes that it should be a signature of.
pub(crate) fn check(pem: &[u8], message: &[u8], signers: &AllowedSigners) -> Checked {
    let Ok(signature) = SshSig::from_pem(pem) else {
        return Checked::Broken("it is no SSH signature".to_owned());
    };
    // The parser overlooks some wrong lengths that ssh-keygen does not: what we call good, it must call good.
    if signature.to_pem(LineEnding::LF).map_or(true, |again| again.as_bytes() != pem) {
        return Checked::Broken("it is not written as an SSH signature is".to_owned());
    }
    if signature.namespace() != NAMESPACE {
        return Checked::Broken("it was made for another purpose than a case file".to_owned());
    }
    let key = PublicKey::new(signature.public_key().clone(), "");
    let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
    if !key.key_data().is_ed25519() {
        return Checked::Broken(format!("it was made by a key that is not ed25519, {fingerprint}"));
    }
    match key.verify(NAMESPACE, message, &signature) {
        Err(_) => Checked::Broken(format!("it does not match what it should sign, by {fingerprint}")),
        Ok(()) if signers.believes(key.key_data()) => Checked::Good(fingerprint),
        Ok(()) => Checked::Unknown(fingerprint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing");
        let first = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::load_or_create(&path).unwrap().fingerprint(), first.fingerprint());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing");
        for text in ["", "-----BEGIN OPENSSH PRIVATE KEY-----\n"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(SigningKey::load_or_create(&path), Err(KeyError::NotAKey { .. })));
            assert_eq!(fs::read(&path).unwrap(), text.as_bytes());
        }
        let nowhere = dir.path().join("no/such/dir/key");
        assert!(matches!(SigningKey::load_or_create(&nowhere), Err(KeyError::Io { .. })));
    }

    #[test]
    fn a_signature_is_believed_by_whoever_knows_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(&dir.path().join("a")).unwrap();
        let other = SigningKey::load_or_create(&dir.path().join("b")).unwrap();
        let pem = key.sign(b"message").unwrap();
        assert_eq!(pem, key.sign(b"message").unwrap(), "signing again gives the same bytes");
        let check = |message: &[u8], signers: &str| check(pem.as_bytes(), message, &AllowedSigners::parse(signers));
        assert_eq!(check(b"message", &key.allowed_signer()), Checked::Good(key.fingerprint()));
        assert_eq!(check(b"message", &other.allowed_signer()), Checked::Unknown(key.fingerprint()));
        assert_eq!(check(b"message", ""), Checked::Unknown(key.fingerprint()));
        assert!(matches!(check(b"massage", &key.allowed_signer()), Checked::Broken(_)));
    }

    #[test]
    fn a_changed_signature_is_none_that_is_believed_and_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(&dir.path().join("a")).unwrap();
        let signers = AllowedSigners::parse(&key.allowed_signer());
        let pem = key.sign(b"message").unwrap().into_bytes();
        let body = "-----BEGIN SSH SIGNATURE-----\n".len()..pem.len() - "-----END SSH SIGNATURE-----\n".len() - 10;
        for (at, change) in body.zip((0..7).cycle()).step_by(3) {
            let mut pem = pem.clone();
            pem[at] ^= 1 << change;
            assert!(!matches!(check(&pem, b"message", &signers), Checked::Good(_)), "byte {at}");
        }
        for end in 0..pem.len() - 1 {
            assert!(!matches!(check(&pem[..end], b"message", &signers), Checked::Good(_)), "cut at {end}");
        }
    }

    #[test]
    fn a_line_that_means_something_else_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(&dir.path().join("a")).unwrap();
        let line = key.allowed_signer();
        let public = line.split_once("\" ").unwrap().1;
        let believed = |text: &str| !AllowedSigners::parse(text).is_empty();
        assert!(believed(&line));
        assert!(believed(&format!("# who\n\nsomebody@example.com {public}\n")));
        assert!(believed(&format!("x namespaces=\"file,casefile\" {public}")));
        for bad in [
            format!("# {line}"),
            format!("x namespaces=\"git\" {public}"),
            format!("x cert-authority {public}"),
            format!("x valid-before=\"20200101\" {public}"),
            public.to_owned(),
            "x ssh-ed25519 AAAA".to_owned(),
        ] {
            assert!(!believed(&bad), "{bad}");
        }
    }
}
