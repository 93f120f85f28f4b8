//! A machine made of files: a copy of one of the agent's fixture hosts, with logs of our own in it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use casefile_proto::time::{NANOS_PER_SEC, WallTime};

/// A host root that a test may write to.
pub struct FakeHost {
    root: PathBuf,
}

impl FakeHost {
    /// A copy of the agent's fixture `plain-vm` at this path.
    pub fn new(root: PathBuf) -> Result<Self> {
        Self::like("plain-vm", root)
    }

    /// A copy of one of the agent's fixtures at this path.
    pub fn like(fixture: &str, root: PathBuf) -> Result<Self> {
        let fixture = fixtures().join(fixture);
        copy(&fixture, &root).with_context(|| format!("copy {} to {}", fixture.display(), root.display()))?;
        Ok(Self { root })
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// From now on it is in this boot, which began then.
    pub fn boots(&self, id: &str, at: WallTime) -> Result<()> {
        let stat = self.root.join("proc/stat");
        let old = String::from_utf8(fs::read(&stat)?)?;
        let time = |line: &str| line.starts_with("btime ").then(|| format!("btime {}", at.nanos() / NANOS_PER_SEC));
        let new: Vec<_> = old.lines().map(|line| time(line).unwrap_or_else(|| line.to_owned())).collect();
        fs::write(stat, new.join("\n") + "\n")?;
        Ok(fs::write(self.root.join("proc/sys/kernel/random/boot_id"), format!("{id}\n"))?)
    }

    /// Appends a line to the log of a container.
    pub fn pod_line(&self, at: WallTime, text: &str) -> Result<()> {
        self.append(
            "var/log/pods/shop_api-0_0a1b2c3d-1111-2222-3333-444455556666/main/0.log",
            &format!("{at} stdout F {text}\n"),
        )
    }

    /// Appends a line to a plain log.
    pub fn plain_line(&self, at: WallTime, text: &str) -> Result<()> {
        self.append("var/log/app.log", &format!("{at} {text}\n"))
    }

    /// Appends to a file, whose directories are made.
    pub fn append(&self, path: &str, text: &str) -> Result<()> {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().context("a parent")?)?;
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(file.write_all(text.as_bytes())?)
    }
}

/// Where the agent's fixture hosts lie.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent/testdata/hosts")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
