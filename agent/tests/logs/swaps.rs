//! Names that become something else while they are read: whoever can write into a log directory exchanges a file or a
//! directory for a link, a pipe, a socket or a device, tens of thousands of times in a second. Nothing that lies elsewhere is
//! ever given, nothing blocks, and what was refused is said.

use std::fs;
use std::ops::ControlFlow::Continue;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use casefile_agent::host::Host;
use casefile_agent::logs::{ALL, FilesConfig, LogConfig};
use casefile_proto::gap::GapReason;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};

use crate::tree::{Tree, gather, whole_day};

/// At least so many exchanges; they take less than a second. `CASEFILE_SWAPS` asks for more.
const SWAPS: u64 = 100_000;

/// At least so many readings, however fast the exchanging is.
const READINGS: u64 = 150;

const OURS: &str = "2026-11-23T00:00:01Z stdout F ours\n";
const FOREIGN: &str = "2026-11-23T00:00:01Z stdout F FOREIGN\n";

/// The host lies in `host`, and beside it what is none of it.
struct Stage {
    tree: Tree,
    /// What is exchanged for what, over and over.
    pairs: Vec<(PathBuf, PathBuf)>,
    _sockets: Vec<UnixListener>,
}

impl Stage {
    fn new() -> Self {
        let tree = Tree::new();
        for path in ["outside/secret.log", "outside/0.log", "outside/app/0.log", "outside/x.log", "host/etc/shadow"] {
            tree.write(path, FOREIGN);
        }
        Self { tree, pairs: Vec::new(), _sockets: Vec::new() }
    }

    /// A log at this path, and what it is exchanged for.
    fn swapped(&mut self, log: &str, exchanged: &str, other: impl FnOnce(&Path)) {
        self.tree.write(&format!("host/{log}"), OURS);
        let twin = self.tree.path(&format!("twins/{}", self.pairs.len()));
        other(&twin);
        self.pairs.push((self.tree.path(&format!("host/{exchanged}")), twin));
    }

    fn build() -> Self {
        let mut stage = Self::new();
        let outside = stage.tree.path("outside").canonicalize().unwrap();
        let shadow = stage.tree.path("host/etc/shadow").canonicalize().unwrap();
        let link = |to: PathBuf| move |at: &Path| symlink(to, at).unwrap();
        let special = |kind, device| {
            move |at: &Path| {
                // Only root may make a device; a pipe then stands in for it.
                if mknodat(CWD, at, kind, Mode::RUSR, device).is_err() {
                    mknodat(CWD, at, FileType::Fifo, Mode::RUSR, 0).unwrap();
                }
            }
        };
        let pods = "var/log/pods";
        // Directories: of a pod, of a container, on the way to a plain log.
        stage.swapped(&format!("{pods}/a_pod_u/app/0.log"), &format!("{pods}/a_pod_u"), link(outside.clone()));
        stage.swapped(&format!("{pods}/b_pod_u/app/0.log"), &format!("{pods}/b_pod_u/app"), link(outside.join("app")));
        stage.swapped("var/log/calico/cni/x.log", "var/log/calico/cni", link(outside.clone()));
        stage.swapped("var/log/family/x/x.log", "var/log/family/x", link(outside.clone()));
        // Files: for a file of the host that is no log, for one outside, for what is no file.
        for (n, dir) in [format!("{pods}/c_pod_u/app/0.log"), "var/log/c.log".to_owned()].iter().enumerate() {
            stage.swapped(dir, dir, link(if n == 0 { shadow.clone() } else { outside.join("secret.log") }));
        }
        for dir in [format!("{pods}/d_pod_u/app/0.log"), "var/log/d.log".to_owned()] {
            stage.swapped(&dir, &dir, special(FileType::Fifo, 0));
        }
        for dir in [format!("{pods}/e_pod_u/app/0.log"), "var/log/e.log".to_owned()] {
            // The endless one.
            stage.swapped(&dir, &dir, special(FileType::CharacterDevice, makedev(1, 5)));
        }
        let mut sockets = Vec::new();
        stage.swapped("var/log/f.log", "var/log/f.log", |at| sockets.push(UnixListener::bind(at).unwrap()));
        // A directory that carries a log's name, with something foreign in it.
        stage.swapped("var/log/g.log", "var/log/g.log", |at| {
            fs::create_dir(at).unwrap();
            fs::write(at.join("0.log"), FOREIGN).unwrap();
        });
        stage._sockets = sockets;
        stage
    }
}

#[test]
fn a_hundred_thousand_exchanges_give_not_one_foreign_byte() {
    let wanted = std::env::var("CASEFILE_SWAPS").ok().and_then(|n| n.parse().ok()).unwrap_or(SWAPS);
    let stage = Stage::build();
    let (swaps, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let host = Host::new(&stage.tree.path("host")).unwrap();
    let mut config = LogConfig::builtin();
    config.files.push(FilesConfig { glob: "var/log/family/*/*.log".to_owned(), ..FilesConfig::default() });

    let (mut readings, mut records, mut refused) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                for (one, other) in &stage.pairs {
                    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                    swaps.fetch_add(1, Relaxed);
                }
            }
        });
        // Panicking with the other thread still at work would wait for it for ever.
        let mut foreign = None;
        while foreign.is_none() && (swaps.load(Relaxed) < wanted || readings < READINGS) {
            for source in ["pods", "files"] {
                let spec = ALL.iter().find(|s| s.name == source).unwrap();
                let reading = gather(&mut *(spec.open)(&host, &config), &whole_day(), &mut |_, _| Continue(()));
                for (_, record) in reading.records() {
                    records += 1;
                    if !record.ends_with(b" ours\n") && !record.ends_with(b" F ours\n") {
                        foreign = Some(record);
                    }
                }
                let gaps = reading.items.iter().flat_map(|i| &i.gaps).chain(&reading.covered.gaps);
                refused += gaps.filter(|g| g.reason == GapReason::RefusedUnsafePath).count();
            }
            readings += 1;
        }
        done.store(true, Relaxed);
        assert_eq!(foreign.map(|f| f.escape_ascii().to_string()), None);
    });
    let swaps = swaps.load(Relaxed);
    eprintln!("{swaps} exchanges, {readings} readings, {records} records given, {refused} names refused");
    assert!(records > readings && refused as u64 > readings, "{records} records, {refused} refusals");
}
