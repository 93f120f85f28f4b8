//! The programs as a user starts them: processes of their own, out of the same build as the tests.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Rig, wait};

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

/// The path of one of our binaries. `cargo test --workspace` builds them beside the tests, and the exam beside itself.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    let dir = own.parent().expect("the directory of this program");
    let profile = if dir.ends_with("deps") { dir.parent().expect("target/<profile>") } else { dir };
    let path = profile.join(name);
    assert!(path.exists(), "{} is not built: run cargo build --workspace --bins", path.display());
    path
}

/// A command for one of our binaries, with nothing of the caller's environment that would change what it does.
#[expect(clippy::disallowed_methods, reason = "our own programs, started by a test")]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(binary(name));
    without_our_environment(&mut command);
    command
}

fn without_our_environment(command: &mut Command) {
    for variable in [
        "CASEFILE_COLLECTOR",
        "CASEFILE_DATA",
        "CASEFILE_NODE",
        "CASEFILE_LOG",
        "CASEFILE_LOG_FORMAT",
        "CASEFILE_TOKEN",
        "CASEFILE_TOKEN_FILE",
        "CASEFILE_PIN",
        "CASEFILE_PIN_FILE",
    ] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
}

/// Runs one of our binaries to its end.
pub fn run(name: &str, args: &[&str]) -> Output {
    command(name).args(args).output().expect("start one of our programs")
}

/// What a program wrote to standard output.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both outputs and the status, for the message of an assertion.
pub fn said(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        stdout(output),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A program that runs until it is dropped: then it is killed and awaited.
pub struct Running(pub Child);

impl Running {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("start one of our programs"))
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        wait::until_blocking("the end of a program", || self.0.try_wait().expect("look at a program that we started"))
    }

    /// SIGKILL: it can do nothing about it.
    pub fn kill(mut self) {
        self.0.kill().expect("kill a program that we started");
        self.0.wait().expect("wait for a program that we started");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill().and_then(|()| self.0.wait().map(drop));
    }
}

/// A program that runs, and what it has said on standard error so far.
pub struct Talking {
    running: Running,
    heard: PathBuf,
}

impl Talking {
    /// Starts it; what it says is kept in this file.
    pub fn start(command: &mut Command, heard: PathBuf) -> Self {
        let file = File::create(&heard).expect("make the file for what a program says");
        Self { running: Running::start(command.stderr(file)), heard }
    }

    /// Everything that it has said.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.heard).expect("read what a program said")).into_owned()
    }

    /// Waits until it says this; panics when it ends or stays silent.
    pub fn until_it_says(&mut self, text: &str) {
        let mut ended = None;
        let heard = wait::until_blocking(&format!("{text:?} of a program"), || {
            // Looked at before: what it said last counts.
            ended = self.running.0.try_wait().expect("look at a program that we started");
            if self.said().contains(text) { Some(true) } else { ended.map(|_| false) }
        });
        assert!(heard, "it ended ({ended:?}) before it said {text:?}:\n{}", self.said());
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.running.0.id()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        self.running.ended()
    }

    /// Sends a signal and waits for the end.
    pub fn stop(mut self, signal: Signal) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.running.0), signal).expect("signal a program that we started");
        let ended = self.running.ended();
        (ended, self.said())
    }
}

/// A collector in a process of its own.
pub struct Serving {
    /// The program.
    pub program: Talking,
    /// Where metrics and health answer.
    pub observed_at: SocketAddr,
}

impl Serving {
    /// Starts it on the rig's address with its data in this directory, by way of another program with its arguments, or
    /// by itself.
    pub fn start(rig: &Rig, data: &Path, through: Option<Command>) -> Self {
        // Where the rig looks for the collector's keys.
        fs::create_dir_all(data).expect("make the data directory");
        std::os::unix::fs::symlink(data, rig.path("collector")).expect("link to the data directory");
        let config = rig.path("collector.toml");
        let listen = rig.url().trim_start_matches("https://").to_owned();
        let text = format!("listen = {listen:?}\ndata_dir = {data:?}\nobserve = \"127.0.0.1:0\"\n");
        fs::write(&config, text).expect("write a configuration");
        let mut start = match through {
            None => command("casefile-collector"),
            Some(mut through) => {
                without_our_environment(&mut through);
                through.arg(binary("casefile-collector"));
                through
            }
        };
        let mut program = Talking::start(start.arg("serve").arg("--config").arg(&config), rig.path("collector.err"));
        program.until_it_says("collector started");
        let said = program.said();
        let line = said.lines().find(|line| line.contains("metrics and health answer")).expect("it says where");
        let at = line.split("addr=").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
        Self { observed_at: at.parse().expect("an address"), program }
    }
}

/// One of our programs for a user without any privilege: when the test has none itself, as it is.
pub struct Unprivileged {
    /// Holds the copy, where everybody may reach it.
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Unprivileged {
    /// By its name.
    pub fn new(name: &str) -> Self {
        if !rustix::process::geteuid().is_root() {
            return Self { dir: None, path: binary(name) };
        }
        // Where the build lies root alone may be allowed to go.
        let dir = tempfile::tempdir().expect("make a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open the directory");
        let path = dir.path().join(name);
        fs::copy(binary(name), &path).expect("copy one of our programs");
        Self { dir: Some(dir), path }
    }

    /// A directory that this user owns.
    pub fn own_dir(&self) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("make a directory");
        if self.dir.is_some() {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).expect("give the directory away");
        }
        dir
    }

    /// The command.
    #[expect(clippy::disallowed_methods, reason = "our own programs, started by a test")]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        without_our_environment(&mut command);
        if self.dir.is_some() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

/// A stock tool by name; `None`, said on standard error, when it is not installed. With `CASEFILE_ALLOW_NO_SKIP` set,
/// as `.ci/run` does, a missing tool fails the test.
#[expect(clippy::disallowed_methods, reason = "stock tools that a stranger would use")]
pub fn tool(name: &str) -> Option<Command> {
    let found = std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.exists());
    if found.is_none() {
        assert!(
            std::env::var_os("CASEFILE_ALLOW_NO_SKIP").is_none(),
            "{name} is not installed, and no skip is allowed"
        );
        eprintln!("skipped: {name} is not installed");
    }
    found.map(Command::new)
}
