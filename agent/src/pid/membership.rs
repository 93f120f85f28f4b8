//! `/proc/PID/cgroup`, cgroups(7): which cgroup a process is in, on v1, v2 and hybrid machines, as one path.
//!
//! Where the hierarchies are mounted and what is in them is for `cgroups`.

use crate::text;

/// The hierarchies of a v1 machine in the order in which one is taken as *the* cgroup of a process: those that the
/// container runtimes always use first. systemd's own, and the v2 half of a hybrid machine, come last.
const PREFERRED: [&[u8]; 5] = [b"memory", b"cpu", b"cpuacct", b"pids", b"name=systemd"];

/// The path of the process's cgroup, beginning with `/`; `None` when the file names none or is cut off.
///
/// It is relative to the *reader's* cgroup namespace: `/../..` leads out of it, see [`from_namespace`].
pub fn parse(file: &[u8]) -> Option<&[u8]> {
    let mut best: Option<(usize, &[u8])> = None;
    for line in text::lines(file) {
        // A file that is cut off says where the process is not.
        let line = line.ok()?;
        // `hierarchy:controllers:path`; the path may contain colons, the first two fields cannot.
        let mut parts = line.splitn(3, |b| *b == b':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if text::number(number).is_err() || path.first() != Some(&b'/') {
            continue;
        }
        // The unified hierarchy has no controllers in its line; alone it is the only line, and rank does not matter.
        let rank = if controllers.is_empty() {
            PREFERRED.len()
        } else {
            let mut named = controllers.split(|b| *b == b',');
            named.find_map(|c| PREFERRED.iter().position(|p| *p == c)).unwrap_or(PREFERRED.len() + 1)
        };
        if best.is_none_or(|(least, _)| rank < least) {
            best = Some((rank, path));
        }
    }
    best.map(|(_, path)| path)
}

/// Whether a path leads out of the reader's cgroup namespace, so that all paths are relative to that.
pub fn leaves_namespace(path: &[u8]) -> bool {
    path.starts_with(b"/..")
}

/// A path as the machine sees it, from one relative to a cgroup namespace whose root lies at `own`.
/// `..` beyond the machine's own root is the root.
pub fn from_namespace(own: &[u8], path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = own.split(|b| *b == b'/').filter(|p| !p.is_empty()).collect();
    for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
        if part == b".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let mut out = vec![b'/'];
    out.extend_from_slice(&parts.join(&b'/'));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_one_line_of_a_v2_machine_is_the_path() {
        assert_eq!(parse(b"0::/system.slice/ssh.service\n"), Some(&b"/system.slice/ssh.service"[..]));
        assert_eq!(parse(b"0::/a:b:c\n"), Some(&b"/a:b:c"[..]));
    }

    #[test]
    fn on_v1_the_memory_controller_tells() {
        let file = b"9:name=systemd:/x\n8:pids:/p\n5:devices:/d\n4:memory:/kubepods/pod1\n1:cpu,cpuacct:/c\n0::/u\n";
        assert_eq!(parse(file), Some(&b"/kubepods/pod1"[..]));
        assert_eq!(parse(b"8:pids:/p\n1:cpuacct,cpu:/c\n0::/u\n"), Some(&b"/c"[..]));
        assert_eq!(parse(b"5:devices:/d\n0::/u\n"), Some(&b"/u"[..]), "what systemd tracks says more than devices");
    }

    #[test]
    fn a_path_relative_to_a_container_is_made_the_machines() {
        let own = b"/kubepods.slice/burstable/pod1/c1";
        assert_eq!(from_namespace(own, b"/../../../../init.scope"), b"/init.scope");
        assert_eq!(from_namespace(own, b"/../../pod2/c2"), b"/kubepods.slice/burstable/pod2/c2");
        assert_eq!(from_namespace(own, b"/"), own);
        assert_eq!(from_namespace(own, b"/../../../../../../.."), b"/");
        assert!(leaves_namespace(b"/../x") && !leaves_namespace(b"/x"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, own: Vec<u8>) {
            if let Some(path) = parse(&bytes) {
                prop_assert!(path.starts_with(b"/"));
            }
            prop_assert!(from_namespace(&own, &bytes).starts_with(b"/"));
        }
    }
}
