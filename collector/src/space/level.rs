//! How full the file system of the data directory may be before no more evidence is taken, decided. Pure.

use casefile_proto::units::Bytes;

use crate::stats::figure::Label;

/// Evidence is taken as long as this part of the file system is free, in percent.
const LEAST_FREE_PERCENT: u64 = 5;

/// On a large file system this much is enough: what is being sealed and written meanwhile fits into it.
const LEAST_FREE: Bytes = Bytes::mib(1024);

/// The same for files: a file system that is out of inodes takes nothing new, however much room it has.
const LEAST_FILES: u64 = 1_024;

/// Taking goes on when this much more is free than where it stopped, in percent: otherwise it would stop and go on with
/// every batch.
const MARGIN_PERCENT: u64 = 10;

/// The most that is reserved when nothing is said.
const MOST_RESERVED: Bytes = Bytes::mib(256);

/// And the most of the file system, in percent.
const MOST_RESERVED_PERCENT: u64 = 2;

/// A file system at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Its size.
    pub size: Bytes,
    /// What this user may still write.
    pub free: Bytes,
    /// Files that it can hold, and how many more; `None`: it has no such limit.
    pub files: Option<Files>,
    /// Whether it can be written at all.
    pub access: Access,
}

/// Files (inodes) of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// As many as it can hold.
    pub all: u64,
    /// As many as it can still take.
    pub free: u64,
}

/// Whether a file system can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It can.
    Writable,
    /// It is mounted read-only, or the kernel made it so after an error.
    ReadOnly,
}

/// Whether evidence is taken from agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// It is.
    Yes,
    /// It waits with the agents, because it could not be kept.
    No(Why),
}

/// Why no evidence is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Too little room.
    Space,
    /// Too few files.
    Inodes,
    /// Nothing can be written.
    ReadOnly,
}

impl Label for Why {
    const NAME: &'static str = "reason";
    const ALL: &'static [Self] = &[Self::Space, Self::Inodes, Self::ReadOnly];

    fn value(self) -> &'static str {
        match self {
            Self::Space => "space",
            Self::Inodes => "inodes",
            Self::ReadOnly => "read-only",
        }
    }
}

impl Why {
    /// What it means, for logs and health.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Space => "the disk is nearly full",
            Self::Inodes => "the disk can hold nearly no more files",
            Self::ReadOnly => "the disk is read-only",
        }
    }
}

/// Below so much free no evidence is taken.
pub fn least_free(size: Bytes) -> Bytes {
    Bytes(percent(size.0, LEAST_FREE_PERCENT)).min(LEAST_FREE)
}

/// What is reserved on a file system of this size when nothing is said.
pub fn reserved_by_default(size: Bytes) -> Bytes {
    Bytes(percent(size.0, MOST_RESERVED_PERCENT)).min(MOST_RESERVED)
}

/// Whether evidence is taken from now on, after it was `before`.
pub fn taking(now: &FileSystem, before: Taking) -> Taking {
    let wanted = |least: u64, why: Why| match before {
        Taking::No(reason) if reason == why => least.saturating_add(percent(least, MARGIN_PERCENT)),
        _ => least,
    };
    if now.access == Access::ReadOnly {
        return Taking::No(Why::ReadOnly);
    }
    if now.free.0 < wanted(least_free(now.size).0, Why::Space) {
        return Taking::No(Why::Space);
    }
    if let Some(files) = now.files
        && files.free < wanted(percent(files.all, LEAST_FREE_PERCENT).min(LEAST_FILES), Why::Inodes)
    {
        return Taking::No(Why::Inodes);
    }
    Taking::Yes
}

/// Whether so much can be reserved now and evidence still be taken.
pub fn can_reserve(now: &FileSystem, reserve: Bytes) -> bool {
    let least = least_free(now.size).0;
    let after = now.free.0.saturating_sub(reserve.0);
    now.access == Access::Writable && after >= least.saturating_add(percent(least, MARGIN_PERCENT))
}

/// So many percent of something.
pub(crate) fn percent(of: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk(size: u64, free: u64) -> FileSystem {
        let files = Some(Files { all: 1_000_000, free: 900_000 });
        FileSystem { size: Bytes::mib(size), free: Bytes::mib(free), files, access: Access::Writable }
    }

    #[test]
    fn a_large_disk_stops_at_a_gibibyte_and_a_small_one_at_a_twentieth() {
        assert_eq!(taking(&disk(1 << 20, 1_024), Taking::Yes), Taking::Yes);
        assert_eq!(taking(&disk(1 << 20, 1_023), Taking::Yes), Taking::No(Why::Space));
        assert_eq!(taking(&disk(1_000, 50), Taking::Yes), Taking::Yes);
        assert_eq!(taking(&disk(1_000, 49), Taking::Yes), Taking::No(Why::Space));
    }

    #[test]
    fn it_goes_on_a_little_above_where_it_stopped() {
        let stopped = Taking::No(Why::Space);
        assert_eq!(taking(&disk(1_000, 54), stopped), stopped);
        assert_eq!(taking(&disk(1_000, 55), stopped), Taking::Yes);
    }

    #[test]
    fn files_that_run_out_stop_it_and_a_disk_that_does_not_count_them_is_no_reason() {
        let few = FileSystem { files: Some(Files { all: 64, free: 2 }), ..disk(1_000, 900) };
        assert_eq!(taking(&few, Taking::Yes), Taking::No(Why::Inodes));
        let three = FileSystem { files: Some(Files { all: 64, free: 3 }), ..few };
        assert_eq!(taking(&three, Taking::Yes), Taking::Yes);
        assert_eq!(taking(&FileSystem { files: None, ..few }, Taking::No(Why::Inodes)), Taking::Yes);
    }

    #[test]
    fn nothing_is_taken_on_a_disk_that_cannot_be_written_whatever_its_room() {
        let read_only = FileSystem { access: Access::ReadOnly, ..disk(1_000, 900) };
        assert_eq!(taking(&read_only, Taking::Yes), Taking::No(Why::ReadOnly));
        assert_eq!(taking(&disk(1_000, 900), Taking::No(Why::ReadOnly)), Taking::Yes);
    }

    proptest! {
        /// Otherwise taking the reserve would stop what giving it up is for, again and again.
        #[test]
        fn reserving_never_stops_taking(size in 1u64..1 << 44, free in any::<u64>(), before_stopped: bool) {
            let free = Bytes(free % size);
            let now = FileSystem { size: Bytes(size), free, files: None, access: Access::Writable };
            let reserve = reserved_by_default(now.size);
            let before = if before_stopped { Taking::No(Why::Space) } else { Taking::Yes };
            if can_reserve(&now, reserve) {
                let after = FileSystem { free: Bytes(free.0 - reserve.0), ..now };
                prop_assert_eq!(taking(&after, before), Taking::Yes);
            }
        }
    }
}
