//! The mounts of a process as `/proc/PID/mountinfo` has them, and which of them are worth asking for their space.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use serde::Serialize;

use crate::text::{self, BadLine, Fields, entries};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Number of the device, as `stat` gives it for files on it: major and minor.
    #[serde(skip)]
    pub number: (u32, u32),
    /// Whether the whole file system is mounted, and not a directory of it.
    #[serde(skip)]
    pub whole: bool,
    /// Where, from the root of process 1.
    #[serde(skip)]
    pub point: PathBuf,
    /// The same as a label: bytes that are not UTF-8 are replaced.
    #[serde(rename = "mountpoint")]
    pub point_text: String,
    /// `ext4`, `nfs4`, ….
    pub fstype: String,
    /// `/dev/vda`, `server:/export`, `tmpfs`.
    pub device: String,
    /// By the mount, or by the file system itself (after an error).
    pub readonly: bool,
}

/// Kinds that hold no data: what node_exporter leaves out by default, and FUSE ones that refuse even root.
const PSEUDO: [&str; 34] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nfsd",
    "nsfs",
    "overlay",
    "pipefs",
    "proc",
    "procfs",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
    "rootfs",
    "ramfs",
];

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue` (`proc_pid_mountinfo(5)`): the
/// optional fields end at the `-`.
pub(in crate::sources) fn parse(text: &[u8]) -> impl Iterator<Item = Result<Mount, BadLine<'_>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        let (_id, _parent) = (fields.number()?, fields.number()?);
        let number = fields.word()?;
        let number = device_number(number).ok_or_else(|| fields.bad("no major:minor"))?;
        let whole = fields.word()? == b"/";
        let point = unescape(fields.word()?);
        if point.first() != Some(&b'/') || point.split(|b| *b == b'/').any(|name| name == b"..") {
            return Err(fields.bad("no mount point"));
        }
        let options = fields.word()?;
        loop {
            if fields.word()? == b"-" {
                break;
            }
        }
        let fstype = fields.name()?.to_owned();
        let device = String::from_utf8_lossy(&unescape(fields.word()?)).into_owned();
        let super_options = fields.word()?;
        let is_ro = |options: &[u8]| options.split(|b| *b == b',').any(|option| option == b"ro");
        Ok(Some(Mount {
            number,
            whole,
            point_text: String::from_utf8_lossy(&point).into_owned(),
            point: PathBuf::from(OsString::from_vec(point)),
            fstype,
            device,
            readonly: is_ro(options) || is_ro(super_options),
        }))
    })
}

fn device_number(field: &[u8]) -> Option<(u32, u32)> {
    let colon = field.iter().position(|b| *b == b':')?;
    let part = |digits| u32::try_from(text::number(digits).ok()?).ok();
    Some((part(&field[..colon])?, part(&field[colon + 1..])?))
}

/// The kernel writes blank, tab, line end, backslash and `#` as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = |b: &u8| matches!(b, b'0'..=b'7').then(|| u32::from(b - b'0'));
        let escaped = match after {
            [a, b, c, ..] if first == b'\\' => {
                octal(a).zip(octal(b)).zip(octal(c)).and_then(|((a, b), c)| u8::try_from(a * 64 + b * 8 + c).ok())
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    bytes
}

/// Those to ask, in the order of the list: of mounts at one point the last, which hides the others; of mounts of one
/// device one, by preference the whole file system and the shortest path.
pub(in crate::sources) fn choose(all: Vec<Mount>) -> Vec<Mount> {
    let mut at_point: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for (position, mount) in all.iter().enumerate() {
        at_point.insert(mount.point.clone(), position);
    }
    let mut of_device: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for (position, mount) in all.iter().enumerate() {
        if at_point.get(&mount.point) != Some(&position) || !holds_data(mount) {
            continue;
        }
        let rank = |mount: &Mount| (!mount.whole, mount.point.as_os_str().len());
        let best = of_device.entry(mount.number).or_insert(position);
        if rank(mount) < rank(&all[*best]) {
            *best = position;
        }
    }
    let mut positions: Vec<usize> = of_device.into_values().collect();
    positions.sort_unstable();
    let mut all: Vec<Option<Mount>> = all.into_iter().map(Some).collect();
    positions.into_iter().filter_map(|position| all[position].take()).collect()
}

fn holds_data(mount: &Mount) -> bool {
    // What is mounted into the trees of the kernel: the directories of cgroup v1, debugging file systems.
    if mount.point.starts_with("/sys") || mount.point.starts_with("/proc") {
        return false;
    }
    if mount.fstype == "overlay" {
        // The root of a machine that is itself a container, or boots from an image.
        return mount.point_text == "/";
    }
    // Every pod has a small memory file system for each of its secrets and tokens, and its runtime keeps one for its /dev/shm.
    let of_pod = mount.fstype == "tmpfs"
        && (mount.point_text.contains("/volumes/kubernetes.io~projected/")
            || mount.point_text.contains("/volumes/kubernetes.io~secret/")
            || (mount.point.ends_with("shm") && mount.point_text != "/dev/shm"));
    !of_pod && !PSEUDO.contains(&mount.fstype.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Mount {
        parse(format!("{line}\n").as_bytes()).next().unwrap().unwrap()
    }

    #[test]
    fn a_mount_point_with_blanks_and_optional_fields_is_taken_apart() {
        let mount =
            one(r"36 35 98:0 / /mnt/a\040b\134 ro,noatime shared:1 master:2 - ext4 /dev/sd\040a rw,errors=continue");
        assert_eq!(mount.point_text, r"/mnt/a b\");
        assert_eq!((mount.number, mount.whole, mount.readonly), ((98, 0), true, true));
        assert_eq!((mount.fstype.as_str(), mount.device.as_str()), ("ext4", "/dev/sd a"));
        assert!(one("36 35 98:0 / /mnt rw - ext4 /dev/sda ro,errors=remount-ro").readonly);
        assert!(!one("36 35 98:0 / /mnt rw - ext4 /dev/sda rw,errors=remount-ro").readonly);
    }

    #[test]
    fn a_line_that_is_none_is_bad() {
        for bad in [
            "",
            "36 35 98:0 / /mnt rw",
            "36 35 98 / /mnt rw - ext4 a rw",
            "36 35 98:0 / mnt rw - ext4 a rw",
            "36 35 98:0 / /a/../b rw - ext4 a rw",
        ] {
            assert!(parse(format!("{bad}\n").as_bytes()).next().unwrap().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn of_many_mounts_of_one_device_the_whole_one_with_the_shortest_path_is_asked() {
        let all = [
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
            "2 1 0:5 / /proc rw - proc proc rw",
            "3 1 8:1 /var/x /x rw - ext4 /dev/sda1 rw",
            "4 1 8:2 /sub /d rw - ext4 /dev/sdb1 rw",
            "5 1 8:2 / /data/long rw - ext4 /dev/sdb1 rw",
            "6 1 0:9 / /run/c/rootfs rw - overlay overlay rw",
            "7 1 0:10 / /var/lib/kubelet/pods/u/volumes/kubernetes.io~projected/t rw - tmpfs tmpfs rw",
            "27 1 0:30 / /run/containerd/io.containerd.grpc.v1.cri/sandboxes/e1/shm rw - tmpfs shm rw",
            "8 1 0:11 / /mnt rw - nfs4 s:/a rw",
            "9 1 8:3 / /mnt rw - xfs /dev/sdc1 rw",
        ];
        let chosen: Vec<_> = choose(all.map(one).into()).into_iter().map(|m| (m.point_text, m.fstype)).collect();
        let expected = [("/", "ext4"), ("/data/long", "ext4"), ("/mnt", "xfs")];
        assert_eq!(chosen, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes).for_each(drop);
            parse(&[b"36 35 98:0 / /", &bytes[..], b" - ext4 a rw\n"].concat()).for_each(drop);
            unescape(&bytes);
        }
    }
}
