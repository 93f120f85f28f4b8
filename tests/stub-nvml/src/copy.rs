//! A copy of the library in a directory of a test's own, with its script beside it: what tests hold.

use std::io;
use std::path::{Path, PathBuf};

/// The file that cargo made of this crate, beside whatever test asks.
const FILE: &str = "libcasefile_stub_nvml.so";

/// A library of one test.
#[derive(Debug)]
pub struct Copy {
    path: PathBuf,
}

impl Copy {
    /// Copies the library into this directory, with a script.
    pub fn new(dir: &Path, script: &str) -> io::Result<Self> {
        let built = std::env::current_exe()?;
        let built = built.parent().unwrap_or(Path::new("")).join(FILE);
        let path = dir.join("libnvidia-ml.so.1");
        std::fs::copy(&built, &path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", built.display())))?;
        let copy = Self { path };
        copy.script(script)?;
        Ok(copy)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the script; it holds from the next pass on.
    pub fn script(&self, script: &str) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, script)?;
        std::fs::rename(beside, format!("{}.script", self.path.display()))
    }

    /// Takes functions out of it, as an older library has not got them: their names are changed in the file, so that the
    /// loader does not find them.
    pub fn without(&self, functions: &[&str]) -> io::Result<()> {
        let mut bytes = std::fs::read(&self.path)?;
        for function in functions {
            let name = [b"\0", function.as_bytes(), b"\0"].concat();
            let found: Vec<usize> =
                bytes.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(at, _)| at).collect();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("the library has no {function}")));
            }
            found.into_iter().for_each(|at| bytes[at + 1] = b'x');
        }
        std::fs::write(&self.path, bytes)
    }

    /// Makes it one for another machine: the field of the ELF header that says for which.
    pub fn of_another_machine(&self) -> io::Result<()> {
        const MACHINE: usize = 18;
        let mut bytes = std::fs::read(&self.path)?;
        // 243 is RISC-V.
        bytes[MACHINE..MACHINE + 2].copy_from_slice(&243_u16.to_le_bytes());
        std::fs::write(&self.path, bytes)
    }
}
