//! What the tries are made on: a directory that is not the agent's, with a file in it, a socket that listens, and nothing else
//! of anybody's. Made and cleared away from outside of the sandbox.

use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The file whose name is the port that is listened on.
const PORT: &str = "port";

/// The directory, and who listens: from outside only.
pub(super) struct Scene {
    dir: PathBuf,
    port: u16,
    outside: Option<TcpListener>,
}

impl Scene {
    /// Makes it.
    pub(super) fn prepare() -> io::Result<Self> {
        let name = format!("casefile-sandbox-check-{}", std::process::id());
        let make = |place: &Path| {
            let dir = place.join(&name);
            fs::DirBuilder::new().mode(0o700).create(&dir).map(|()| dir)
        };
        // A container whose root is read-only has the latter.
        let dir = make(&std::env::temp_dir()).or_else(|error| make(Path::new("/dev/shm")).map_err(|_| error))?;
        let mut scene = Self { dir, port: 0, outside: None };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        scene.port = listener.local_addr()?.port();
        scene.outside = Some(listener);
        fs::write(scene.path("file"), "nobody's\n")?;
        fs::write(scene.path(PORT), format!("{}\n", scene.port))?;
        fs::create_dir(scene.path("empty"))?;
        Ok(scene)
    }

    /// What was prepared by the process outside.
    pub(super) fn prepared(dir: &Path) -> io::Result<Self> {
        let text = fs::read(dir.join(PORT))?;
        let port = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        Ok(Self { dir: dir.to_owned(), port: port.ok_or(io::ErrorKind::InvalidData)?, outside: None })
    }

    /// Where it lies.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Something in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The port, on 127.0.0.1, on which somebody listens who is no collector.
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.outside.is_some() {
            // What is left over is a small directory of temporary files.
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}
