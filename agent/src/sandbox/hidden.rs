//! Whether `/proc` shows only processes that one may trace (`hidepid`): then under Landlock, which lets nobody trace anybody
//! else, it would show none.

use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// As much as is read of `mountinfo`: eight thousand mounts.
const MAX: u64 = 2 << 20;

/// Whether the proc file system that is mounted here hides processes. What cannot be read hides nothing.
pub(super) fn processes_are_hidden(proc: &Path) -> bool {
    let mut mounts = Vec::new();
    let read = std::fs::File::open("/proc/self/mountinfo").and_then(|file| file.take(MAX).read_to_end(&mut mounts));
    read.is_ok() && hides(&mounts, proc)
}

/// `22 28 0:21 / /proc rw,relatime shared:5 - proc proc rw,hidepid=invisible`: the last one that is mounted there counts.
fn hides(mounts: &[u8], proc: &Path) -> bool {
    let options = |line: &[u8]| {
        let mut fields = line.split(|b| *b == b' ');
        let here = fields.nth(4)? == proc.as_os_str().as_bytes();
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        (here && rest.next()? == b"proc").then(|| rest.nth(1).unwrap_or_default().to_vec())
    };
    let last = mounts.split(|b| *b == b'\n').filter_map(options).next_back();
    let hidden = |option: &[u8]| option.strip_prefix(b"hidepid=").is_some_and(|how| how != b"0" && how != b"off");
    last.is_some_and(|options| options.split(|b| *b == b',').any(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proc_that_is_read_counts_and_only_when_it_hides() {
        let line = |at: &str, options: &str| format!("22 28 0:21 / {at} rw shared:5 - proc proc {options}\n");
        let hides = |text: String| hides(text.as_bytes(), Path::new("/proc"));
        assert!(hides(line("/proc", "rw,hidepid=invisible,gid=4")) && hides(line("/proc", "rw,hidepid=2")));
        for open in ["rw", "rw,hidepid=0", "rw,hidepid=off", "rw,gid=4"] {
            assert!(!hides(line("/proc", open)), "{open}");
        }
        assert!(!hides(line("/host/proc", "rw,hidepid=2")));
        assert!(!hides(line("/proc", "rw,hidepid=2") + &line("/proc", "rw")), "it is covered by another");
        assert!(!hides("22 28 0:21 / /proc rw - tmpfs x rw,hidepid=2\n22\n\n".to_owned()));
    }
}
