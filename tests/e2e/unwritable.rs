//! Directories that cannot be written: refused before anything is begun, in words that say what it means and what to try.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use casefile_tests::disk::SmallDisk;
use casefile_tests::program::{Unprivileged, command, said};
use casefile_tests::{Rig, now};

fn refused(command: &mut Command, means: &str, tries: &str) {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains(means) && told.contains(tries) && !told.contains("panicked"), "{}", said(&output));
    assert!(output.stdout.is_empty(), "{}", said(&output));
}

/// Every program with its data in this directory.
fn all_refuse(start: impl Fn(&str) -> Command, dir: &Path, config: &Path) {
    let data = dir.join("data");
    let local = ["local", "--once", "--warm-up", "1s", "--listen", "127.0.0.1:0", "--data"];
    refused(start("casefile-collector").args(local).arg(&data), "nothing can be kept there", "--data");
    refused(start("casefile-collector").args(local).arg(dir), "nothing can be kept there", "--data");

    fs::write(config, format!("node = \"n1\"\ndata_dir = {data:?}\n")).unwrap();
    refused(start("casefile-agent").args(["run", "--config"]).arg(config), "can be recorded there", "data_dir");
    fs::write(config, format!("data_dir = {data:?}\n")).unwrap();
    refused(start("casefile-collector").args(["serve", "--config"]).arg(config), "can be kept there", "can write");

    let since = now().before(std::time::Duration::from_secs(60)).to_string();
    let extract = ["extract", "--since-time", &since, "--source", "inventory", "-o"];
    refused(start("casefile-agent").args(extract).arg(dir.join("x.tar.gz")), "no archive was written", "give -o");
}

#[test]
fn a_directory_that_this_user_may_not_write_is_refused_by_every_program() {
    let programs = ["casefile-agent", "casefile-collector"].map(|name| (name, Unprivileged::new(name)));
    let start = |name: &str| programs.iter().find(|(n, _)| *n == name).unwrap().1.command();
    let rig = Rig::new().unwrap();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    open(&rig.path(""), 0o755);
    let dir = rig.path("closed");
    fs::create_dir(&dir).unwrap();
    open(&dir, 0o555);
    all_refuse(start, &dir, &rig.path("config.toml"));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    // So that it can be removed.
    open(&dir, 0o755);
}

#[test]
fn a_read_only_file_system_is_refused_by_every_program_also_by_root() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::mount(&rig.path("disk"), 256) else { return };
    disk.make_read_only();
    all_refuse(command, &disk.path(""), &rig.path("config.toml"));
}

#[test]
fn a_ring_that_can_never_be_written_is_no_reason_to_count_lost_frames_for_ever() {
    let rig = Rig::new().unwrap();
    let Some(disk) = SmallDisk::mount(&rig.path("disk"), 256) else { return };
    // The directory is there already, and ours: only the ring in it cannot be made.
    let config = rig.path("config.toml");
    fs::write(&config, format!("node = \"n1\"\ndata_dir = {:?}\n", disk.path(""))).unwrap();
    disk.make_read_only();
    let mut agent = command("casefile-agent");
    refused(agent.args(["run", "--config"]).arg(&config), "nothing would be recorded", "data_dir");
}

#[test]
fn a_key_that_is_not_there_is_told_and_none_is_made() {
    let rig = Rig::new().unwrap();
    let output: Output = command("casefile-collector").args(["key", "--data"]).arg(rig.path("none")).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("no key") && !rig.path("none").exists(), "{}", said(&output));
}
