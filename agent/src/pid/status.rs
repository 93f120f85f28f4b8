//! `/proc/PID/status`, proc_pid_status(5): `Key:\tvalue` lines. Dearer to read than `stat`, so it is read seldom.
//!
//! The kernel escapes newlines and backslashes of the name here, so no process can forge a line.

use crate::text::{self, Fields};

/// What is taken from it. `None` is a line that this kernel or this process does not have (a kernel thread has no memory).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Real user.
    pub uid: Option<u32>,
    /// Effective user: its files below `/proc` belong to it.
    pub euid: Option<u32>,
    /// Real group.
    pub gid: Option<u32>,
    /// KiB: the most that was ever resident.
    pub vm_hwm_kib: Option<i64>,
    /// KiB that are swapped out.
    pub vm_swap_kib: Option<i64>,
    /// KiB of resident anonymous memory.
    pub rss_anon_kib: Option<i64>,
    /// KiB of resident file pages.
    pub rss_file_kib: Option<i64>,
    /// KiB of resident shared memory.
    pub rss_shmem_kib: Option<i64>,
    /// Its pid in each pid namespace that it is in, outermost first; the last is what it calls itself.
    pub ns_pids: Vec<u32>,
    /// Who traces it; 0 for nobody.
    pub tracer: Option<u32>,
    /// Seccomp mode: 0 off, 1 strict, 2 filter.
    pub seccomp: Option<i64>,
    /// Effective capabilities, as a bit mask.
    pub cap_eff: Option<i64>,
    /// Times that its first thread gave up the CPU by itself. Of that thread only: the kernel keeps no sum.
    pub voluntary_switches: Option<i64>,
    /// Times that its first thread was made to.
    pub involuntary_switches: Option<i64>,
    /// What did not parse, if anything.
    pub bad: Option<&'static str>,
}

/// The most nested pid namespaces that are taken (the kernel allows 32).
const NS_PIDS_MAX: usize = 32;

/// Parses the file. What is garbled or cut off is `None`, and told in [`Status::bad`].
pub fn parse(file: &[u8]) -> Status {
    let mut s = Status::default();
    for line in text::lines(file) {
        match line {
            Ok(line) => s.line(line),
            Err(bad) => s.bad = Some(bad.why),
        }
    }
    s
}

impl Status {
    fn line(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { return };
        let mut values = Fields::of(&line[colon + 1..]);
        let bad = &mut self.bad;
        let mut number = || match values.next().ok_or("a value is missing").and_then(text::number) {
            Ok(number) => Some(number),
            Err(why) => {
                *bad = Some(why);
                None
            }
        };
        match &line[..colon] {
            b"Uid" => (self.uid, self.euid) = (number().and_then(small), number().and_then(small)),
            b"Gid" => self.gid = number().and_then(small),
            b"VmHWM" => self.vm_hwm_kib = number(),
            b"VmSwap" => self.vm_swap_kib = number(),
            b"RssAnon" => self.rss_anon_kib = number(),
            b"RssFile" => self.rss_file_kib = number(),
            b"RssShmem" => self.rss_shmem_kib = number(),
            b"TracerPid" => self.tracer = number().and_then(small),
            b"Seccomp" => self.seccomp = number(),
            b"voluntary_ctxt_switches" => self.voluntary_switches = number(),
            b"nonvoluntary_ctxt_switches" => self.involuntary_switches = number(),
            b"NSpid" => {
                self.ns_pids = values.take(NS_PIDS_MAX).filter_map(|w| text::number(w).ok().and_then(small)).collect();
            }
            b"CapEff" => match values.next().ok_or("a value is missing").and_then(text::hex) {
                Ok(mask) => self.cap_eff = Some(mask),
                Err(why) => self.bad = Some(why),
            },
            _ => {}
        }
    }
}

/// Users, groups and pids have 32 bits.
fn small(number: i64) -> Option<u32> {
    u32::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_lines_that_are_there_are_read_and_the_others_are_none() {
        let s = parse(
            b"Name:\ta\\nUid:\t0\nUid:\t1000\t1001\t1000\t1000\nGid:\t100\t100\t100\t100\nNSpid:\t77\t1\nVmHWM:\t    1952 kB\nVmSwap:\t 12 kB\n\
              CapEff:\t000001fffeffffff\nSeccomp:\t2\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n",
        );
        assert_eq!((s.uid, s.euid, s.gid), (Some(1000), Some(1001), Some(100)));
        assert_eq!((s.vm_hwm_kib, s.vm_swap_kib, s.rss_anon_kib), (Some(1952), Some(12), None));
        assert_eq!((s.ns_pids, s.cap_eff, s.seccomp), (vec![77, 1], Some(0x1ff_feff_ffff), Some(2)));
        assert_eq!((s.voluntary_switches, s.involuntary_switches), (Some(5), Some(6)));
    }

    #[test]
    fn what_is_garbled_or_cut_off_is_told() {
        assert_eq!(
            parse(b"Uid:\tx\t0\nGid:\t7\n"),
            Status { euid: Some(0), gid: Some(7), bad: Some("not a number"), ..Status::default() }
        );
        assert_eq!(parse(b"Gid:\t7\nUid:\t10").bad, Some("the line is cut off"));
        assert_eq!(parse(b"Gid:\t7\nUid:\t10").uid, None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
