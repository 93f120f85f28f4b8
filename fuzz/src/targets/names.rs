//! Names of files as rotation makes them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use casefile_agent::logs::fuzzing::{container_log, oldest_first, rotated};
use casefile_proto::item::{EntryPath, safe_component};

use crate::input::Input;
use crate::{Target, none};

pub(crate) const TARGET: Target = Target {
    name: "names",
    about: "Names of rotated files (apart by \\x00), their order, and names in an archive",
    run,
    seeds: none,
};

fn run(bytes: &[u8]) {
    let names: Vec<&OsStr> = Input::new(bytes).parts(0).map(OsStr::from_bytes).collect();
    for name in &names {
        let bytes = name.as_bytes();
        if let Some((group, packed)) = container_log(name) {
            let digits = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
            assert!(digits > 0 && bytes[digits..].starts_with(b".log"));
            assert_eq!(std::str::from_utf8(&bytes[..digits]).unwrap().parse(), Ok(group));
            assert_eq!(packed, bytes.ends_with(b".gz"));
        }
        if let Some(packed) = rotated(names[0], name) {
            assert!(bytes.starts_with(names[0].as_bytes()));
            assert!(!packed || bytes.ends_with(b".gz"));
        }
        let text = String::from_utf8_lossy(bytes);
        let safe = safe_component(&text);
        assert!(!safe.contains('/') && !safe.is_empty() && safe != "." && safe != "..");
        let path: EntryPath = "logs".parse().unwrap();
        let child = path.child(&text);
        assert_eq!(child.as_str().parse::<EntryPath>().as_ref(), Ok(&child));
    }
    // The order is that of the names, not that in which they were listed.
    let texts = |names: &[&OsStr]| oldest_first(names).into_iter().map(|i| container_log(names[i])).collect::<Vec<_>>();
    let mut turned = names.clone();
    turned.reverse();
    assert_eq!(texts(&names), texts(&turned));
}
