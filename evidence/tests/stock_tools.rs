//! What a stranger does with a case file: list, unpack and verify it with the tools that are everywhere.

#![expect(clippy::unwrap_used, reason = "what helps a test may panic as the test does")]

#[expect(dead_code, reason = "other test crates use the rest")]
mod sample;
mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use casefile_evidence::archive::chunk::Pack;
use casefile_evidence::archive::sign::{NAMESPACE, PRINCIPAL, SigningKey};

use sample::{Content, content, contents, key, seal, title};
use tools::tool;

/// A signed archive with everything in it that could trip a tool: an empty file, several chunks, stored content, sizes
/// around a whole tar block, a name that only PAX can say, names that were escaped.
fn everything(key: &SigningKey) -> Vec<Content> {
    let line = b"2026-11-23T02:44:10.000000001Z stdout F GET /api/v1/orders/8211 200 17ms\n";
    let mut all = contents(Some(key));
    all.extend([
        content("data/nodes/n-1/logs/pods/large.log", Pack::Deflate, line.repeat(40_000)),
        content("data/nodes/n-1/recording/large.seg", Pack::Store, line.repeat(20_000)),
        content("data/nodes/n-1/logs/files/a=20b=3D.log", Pack::Deflate, "escaped\n"),
        content(&format!("data/nodes/n-1/{}/{}", "d".repeat(120), "f".repeat(90)), Pack::Deflate, "prefix\n"),
    ]);
    for size in [1usize, 511, 512, 513, 1 << 20] {
        all.push(content(&format!("data/nodes/n-1/state/size-{size}"), Pack::Deflate, vec![b'x'; size]));
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

struct Sealed {
    dir: tempfile::TempDir,
    key: SigningKey,
    payload: Vec<Content>,
    file: PathBuf,
}

impl Sealed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = key(dir.path());
        let payload = everything(&key);
        let file = dir.path().join("case.tar.gz");
        fs::write(&file, seal(&payload, Some(&key)).0).unwrap();
        Self { dir, key, payload, file }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn top(&self) -> PathBuf {
        self.path().join(title().name())
    }

    fn unpacked() -> Option<Self> {
        let tar = tool("tar", &["--version"])?;
        let sealed = Self::new();
        let output = tar.run(sealed.path(), &["xzf", "case.tar.gz"]);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(sealed)
    }
}

#[test]
fn tar_lists_every_entry_in_order() {
    let Some(tar) = tool("tar", &["--version"]) else { return };
    let sealed = Sealed::new();
    let output = tar.run(sealed.path(), &["tzf", "case.tar.gz"]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let top = title().name();
    let tags = |names: &[&str]| names.iter().map(|n| format!("{top}/{n}\n")).collect::<String>();
    let payload: String = sealed.payload.iter().map(|c| format!("{top}/{}\n", c.path)).collect();
    let expected = tags(&["bagit.txt", "README.txt"])
        + &payload
        + &tags(&["bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt", "tagmanifest-sha256.txt.sig"])
        + &tags(&["casefile-index"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn tar_unpacks_every_byte_with_fixed_times_and_modes() {
    use std::os::unix::fs::MetadataExt;
    let Some(sealed) = Sealed::unpacked() else { return };
    for content in &sealed.payload {
        let file = sealed.top().join(&content.path);
        assert!(fs::read(&file).unwrap() == content.bytes, "{}", content.path);
        let meta = fs::metadata(&file).unwrap();
        assert_eq!((meta.mtime(), meta.mode() & 0o777), (1_795_403_700, 0o644), "{}", content.path);
    }
}

#[test]
fn gunzip_tests_it_quietly() {
    let Some(gunzip) = tool("gunzip", &["--version"]) else { return };
    let sealed = Sealed::new();
    let output = gunzip.run(sealed.path(), &["-t", "case.tar.gz"]);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn sha256sum_checks_both_manifests() {
    let Some(sha256sum) = tool("sha256sum", &["--version"]) else { return };
    let Some(sealed) = Sealed::unpacked() else { return };
    for manifest in ["manifest-sha256.txt", "tagmanifest-sha256.txt"] {
        let output = sha256sum.run(&sealed.top(), &["--strict", "-c", manifest]);
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    fs::write(sealed.top().join("data/coverage.json"), "{}").unwrap();
    assert!(!sha256sum.try_run(&sealed.top(), &["--status", "-c", "manifest-sha256.txt"]).status.success());
}

const READ_WITH_PYTHON: &str = r#"
import hashlib, sys, tarfile
with tarfile.open(sys.argv[1], sys.argv[2]) as tar:
    for member in tar:
        assert member.isreg() and member.uid == 0 and member.gid == 0, member
        print(hashlib.sha256(tar.extractfile(member).read()).hexdigest(), member.size, member.name)
"#;

#[test]
fn python_reads_it_streaming_and_seeking() {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    let Some(python) = tool("python3", &["-c", "import tarfile"]) else { return };
    let sealed = Sealed::new();
    let mut expected = String::new();
    for content in &sealed.payload {
        for byte in Sha256::digest(&content.bytes) {
            write!(expected, "{byte:02x}").unwrap();
        }
        writeln!(expected, " {} {}/{}", content.bytes.len(), title().name(), content.path).unwrap();
    }
    for mode in ["r|gz", "r:gz"] {
        let output = python.run(sealed.path(), &["-c", READ_WITH_PYTHON, "case.tar.gz", mode]);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let payload: String = stdout.lines().filter(|l| l.contains("/data/")).map(|l| format!("{l}\n")).collect();
        assert_eq!(payload, expected, "{mode}");
    }
}

#[test]
fn the_bagit_module_validates_it() {
    let Some(python) = tool("python3", &["-c", "import bagit"]) else { return };
    let Some(sealed) = Sealed::unpacked() else { return };
    let validate = "import bagit, sys; bagit.Bag(sys.argv[1]).validate()";
    python.run(sealed.path(), &["-W", "ignore", "-c", validate, &title().name()]);
    fs::write(sealed.top().join("data/nodes/n-1/stranger"), "x").unwrap();
    assert!(!python.try_run(sealed.path(), &["-W", "ignore", "-c", validate, &title().name()]).status.success());
}

#[test]
fn ssh_keygen_accepts_the_signature_and_no_other_content() {
    let Some(sh) = tool("sh", &["-c", "command -v ssh-keygen"]) else { return };
    let Some(sealed) = Sealed::unpacked() else { return };
    fs::write(sealed.path().join("allowed_signers"), sealed.key.allowed_signer() + "\n").unwrap();
    let verify = format!(
        "ssh-keygen -Y verify -f ../allowed_signers -I {PRINCIPAL} -n {NAMESPACE} \
         -s tagmanifest-sha256.txt.sig < tagmanifest-sha256.txt"
    );
    let output = sh.run(&sealed.top(), &["-c", &verify]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&sealed.key.fingerprint()));
    // The README gives the command as it is.
    let readme = fs::read(sealed.top().join("README.txt")).unwrap();
    assert!(String::from_utf8(readme).unwrap().contains(&verify.replace("../", "")));
    fs::write(sealed.top().join("tagmanifest-sha256.txt"), "other").unwrap();
    assert!(!sh.try_run(&sealed.top(), &["-c", &verify]).status.success());
}

#[test]
fn an_entry_can_be_cut_out_with_the_index_and_stock_tools() {
    // As FORMAT.md describes it: locator, index, one chunk behind a gzip header.
    let Some(sh) = tool("sh", &["-c", "command -v tail head awk gzip printf"]) else { return };
    let sealed = Sealed::new();
    let script = r#"
        set -eu
        locator=$(tail -c 1554 case.tar.gz | head -c 512)
        index_at=$(printf '%s\n' "$locator" | awk '$1 == "index-entry-at" { print $2 + 0 }')
        tail -c +$((index_at + 1)) case.tar.gz | tr -d '\000' | grep -a -A 1 ' data/nodes/n-1/logs/kernel.log$' > lines
        set -- $(awk '{ print $2 }' lines)
        tail -c +$(($1 + 1)) case.tar.gz | head -c "$2" > chunk
        { printf '\037\213\010\0\0\0\0\0\0\377'; cat chunk; } | gzip -dc 2> /dev/null || true
    "#;
    let output = sh.run(sealed.path(), &["-c", script]);
    let kernel = sealed.payload.iter().find(|c| c.path.ends_with("kernel.log")).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&kernel.bytes));
    assert!(sealed.file.exists());
}
