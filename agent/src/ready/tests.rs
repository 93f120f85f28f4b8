//! A ring that a test wrote, and what is said of it at times that the test chooses.

use std::sync::Arc;

use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::segment::Store;
use casefile_proto::ids::{BootId, FrameSeq};
use casefile_proto::sample::{Frame, Schema};
use casefile_proto::time::{BootTime, WallTime};

use super::*;
use crate::config::DEFAULT_RETENTION;
use crate::sources;

const BOOT: &str = "11111111-1111-1111-1111-111111111111";

struct Machine {
    tmp: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { tmp: tempfile::tempdir().unwrap() };
        machine.boots(BOOT);
        machine
    }

    fn boots(&self, id: &str) {
        let file = self.places().host_root.join("proc/sys/kernel/random/boot_id");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{id}\n")).unwrap();
    }

    fn places(&self) -> Places {
        Places { data_dir: self.tmp.path().join("data"), host_root: self.tmp.path().join("host") }
    }

    fn ring(&self) -> PathBuf {
        self.places().data_dir.join(RING)
    }

    /// Stores one frame, taken so long after the machine booted, in a recording with so long a tick.
    fn records(&self, at_secs: u64, every: Duration) {
        let boot: BootId = BOOT.parse().unwrap();
        let schema: Schema = crate::frame::schema(&[&sources::load::SPEC, &sources::filesystem::SPEC], every);
        let header =
            Header { node: "n-1".parse().unwrap(), boot, agent_version: "0".to_owned(), schema: Arc::new(schema) };
        let mut encoder = Encoder::new(header);
        let at = stamp(at_secs * 1_000);
        let frame = Frame { boot, seq: FrameSeq(at_secs), at, samples: vec![], events: vec![] };
        let mut records = encoder.header();
        encoder.frame(&frame, &mut records);
        std::fs::create_dir_all(self.places().data_dir).unwrap();
        Store::open(&self.ring(), DEFAULT_RETENTION).unwrap().append(&records).unwrap();
    }

    fn at(&self, millis: u64) -> String {
        look(&self.places(), stamp(millis)).unwrap().to_string()
    }
}

fn stamp(millis: u64) -> Stamp {
    Stamp { wall: WallTime::from_secs(1_800_000_000), boot: BootTime::from_nanos(millis * 1_000_000) }
}

#[test]
fn it_is_ready_for_ten_ticks_from_its_newest_frame_on() {
    let machine = Machine::new();
    machine.records(100, Duration::from_secs(1));
    for ready in [100_000, 101_000, 110_000] {
        assert_eq!(machine.at(ready), "ready", "{ready}");
    }
    assert_eq!(machine.at(110_100), "not ready: the newest frame in the ring is 10.1 s old, and may be 10 s");
    machine.records(111, Duration::from_secs(1));
    assert_eq!(machine.at(112_000), "ready");
    // The bound is that of the recording, whose sources here have two cadences.
    machine.records(120, Duration::from_millis(20));
    assert_eq!(machine.at(120_200), "ready");
    assert_eq!(machine.at(120_300), "not ready: the newest frame in the ring is 0.3 s old, and may be 0.2 s");
}

#[test]
fn it_is_not_ready_before_there_is_a_ring_a_frame_and_one_of_this_boot() {
    let machine = Machine::new();
    let none = format!("not ready: there is no ring at {} yet", machine.ring().display());
    assert_eq!(machine.at(1_000), none);
    std::fs::create_dir_all(machine.ring()).unwrap();
    assert_eq!(machine.at(1_000), "not ready: there is no frame in the ring yet");
    machine.records(1, Duration::from_secs(1));
    assert_eq!(machine.at(1_000), "ready");
    machine.boots("22222222-2222-2222-2222-222222222222");
    assert_eq!(machine.at(1_000), "not ready: there is no frame of this boot in the ring yet");
}

#[test]
fn a_ring_that_cannot_be_read_is_an_error_and_a_look_changes_nothing() {
    let machine = Machine::new();
    machine.records(1, Duration::from_secs(1));
    let held = || {
        let files = std::fs::read_dir(machine.ring()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        files.sort();
        files
    };
    let before = held();
    assert_eq!(machine.at(1_000), "ready");
    assert_eq!(held(), before);
    let tail = machine.ring().join("tail");
    std::fs::remove_file(&tail).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &tail).unwrap();
    let error = look(&machine.places(), stamp(1_000)).unwrap_err();
    assert_eq!(error.to_string(), "the ring cannot be read");
}
