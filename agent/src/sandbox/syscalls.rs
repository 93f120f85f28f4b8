//! seccomp: the system calls that each of our processes makes, by what they are for; every other one is refused with EPERM,
//! and the process goes on. What a program does not call cannot be used against the kernel either.
//!
//! The lists were measured: `strace -f -c` over the recorder, its children and collections, then what glibc and musl use in
//! their place on other machines. A filter sees numbers, not what pointers lead to: `openat2`'s flags, an address, a path.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::plan::Calls;

/// Reading and writing what is open, and asking about it.
const STREAMS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_fadvise64,
    libc::SYS_getcwd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
];

/// Opening without a limit to what for: Landlock holds the places.
const OPENING: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
];

/// Keeping the ring and the spool.
const KEEPING: &[c_long] = &[
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_flock,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_umask,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// Memory.
const MEMORY: &[c_long] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
];

/// Threads, signals to oneself, and the end.
const THREADS: &[c_long] = &[
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_yield,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_getcpu,
    libc::SYS_clone3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
];

/// Asking the kernel about itself and about us; the clock's state is only read: without CAP_SYS_TIME it cannot be set.
const ASKING: &[c_long] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
];

/// Waiting for several things.
const WAITING: &[c_long] = &[
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
];

/// What is said over sockets that there are.
const TALKING: &[c_long] = &[
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
];

/// Going out, and looking up where to. Nothing listens: neither `listen` nor `accept` is here.
const CALLING: &[c_long] =
    &[libc::SYS_connect, libc::SYS_bind, libc::SYS_setsockopt, libc::SYS_sendmmsg, libc::SYS_recvmmsg];

/// Starting our own program once more (Landlock lets no other be run), and seeing to its end.
const STARTING: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_wait4,
    libc::SYS_waitid,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// With which a child makes its own sandbox narrower: none of them gives anything.
const NARROWING: &[c_long] = &[
    libc::SYS_seccomp,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    libc::SYS_capset,
];

/// Answered with ENOSYS, so that the C library takes the older way, whose arguments a filter can see.
const NOT_THERE: &[c_long] = &[libc::SYS_clone3];

/// `clone` flags that make namespaces: `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`.
const NAMESPACES: u64 = 0x7e02_0000;

/// `ioctl` that puts words into a terminal's mouth: `TIOCSTI`, `TIOCLINUX`. Requests are 32 bits wide.
const TERMINAL: [u64; 2] = [0x5412, 0x541c];

/// `prctl` that names a thread or memory, that asks what the kernel told the process at its start, and that drops:
/// `PR_SET_NAME`, `PR_GET_NAME`, `PR_SET_VMA`, `PR_GET_AUXV`, `PR_SET_NO_NEW_PRIVS`, `PR_CAPBSET_READ`, `PR_CAPBSET_DROP`,
/// `PR_CAP_AMBIENT`.
const PRCTL: [u64; 8] = [15, 16, 0x5356_4d41, 0x4155_5856, 38, 23, 24, 47];

/// `SYSLOG_ACTION_READ_ALL` and `SYSLOG_ACTION_SIZE_BUFFER`: neither removes anything.
const SYSLOG: [u64; 2] = [3, 10];

/// `AF_UNIX`, `AF_INET`, `AF_INET6`; and the type without its flags: `SOCK_STREAM`, `SOCK_DGRAM`.
const FAMILIES: [u64; 3] = [1, 2, 10];
const TYPES: [u64; 2] = [1, 2];
const TYPE_MASK: u64 = 0xf;

/// `AF_NETLINK` with `NETLINK_ROUTE`: by it the C library asks which addresses there are.
const NETLINK: (u64, u64) = (16, 0);

/// `SIGKILL`, and 0, which only asks.
const SIGNALS: [u64; 2] = [0, 9];

/// `O_WRONLY`, `O_RDWR`, `O_CREAT`, `O_TRUNC`, `O_APPEND` and `O_TMPFILE`'s own bit, of x86_64 and aarch64.
const WRITING: u64 = 0x3 | 0x40 | 0x200 | 0x400 | 0x0040_0000;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Refuses from now on, in every thread of this process and in what it starts, the calls that are not in this list.
pub(super) fn restrict(calls: Calls) -> Result<(), String> {
    for program in programs(calls)? {
        seccompiler::apply_filter_all_threads(&program).map_err(|error| format!("seccomp: {error}"))?;
    }
    Ok(())
}

/// The filters, in the order in which they are applied: of two that refuse the one that came last says with which error.
fn programs(calls: Calls) -> Result<Vec<BpfProgram>, String> {
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let enosys = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let built = || -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
        let arch = TargetArch::try_from(std::env::consts::ARCH)?;
        let allowed = SeccompFilter::new(rules(calls)?, eperm, SeccompAction::Allow, arch)?;
        let not_there = NOT_THERE.iter().map(|call| (*call, Vec::new())).collect();
        let not_there = SeccompFilter::new(not_there, SeccompAction::Allow, enosys, arch)?;
        Ok(vec![not_there.try_into()?, allowed.try_into()?])
    };
    built().map_err(|error| format!("a filter of system calls for {}: {error}", std::env::consts::ARCH))
}

fn rules(calls: Calls) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    let lists: &[&[c_long]] = match calls {
        Calls::Recorder => {
            &[STREAMS, OPENING, KEEPING, MEMORY, THREADS, ASKING, WAITING, TALKING, CALLING, STARTING, NARROWING]
        }
        Calls::GpuReader => &[STREAMS, OPENING, MEMORY, THREADS, ASKING, WAITING, TALKING],
        Calls::DetailReader => &[STREAMS, MEMORY, THREADS, ASKING, WAITING, TALKING],
    };
    for call in lists.iter().copied().flatten() {
        rules.insert(*call, Vec::new());
    }
    rules.insert(libc::SYS_clone, vec![rule(&[(0, SeccompCmpOp::MaskedEq(NAMESPACES), 0)])?]);
    rules.insert(libc::SYS_prctl, one_of(0, &PRCTL)?);
    // Whose limits is not the question: those of others need CAP_SYS_RESOURCE and a trace.
    rules.insert(libc::SYS_prlimit64, Vec::new());
    if calls != Calls::DetailReader {
        let terminal = TERMINAL.map(|request| (1, SeccompCmpOp::Ne, request));
        rules.insert(libc::SYS_ioctl, vec![rule(&terminal)?]);
    } else {
        let reading = |argument| rule(&[(argument, SeccompCmpOp::MaskedEq(WRITING), 0)]);
        rules.insert(libc::SYS_openat, vec![reading(2)?]);
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_open, vec![reading(1)?]);
    }
    if calls == Calls::Recorder {
        rules.insert(libc::SYS_syslog, one_of(0, &SYSLOG)?);
        rules.insert(libc::SYS_kill, one_of(1, &SIGNALS)?);
        rules.insert(libc::SYS_socketpair, one_of(0, &FAMILIES[..1])?);
        let mut sockets = Vec::new();
        for family in FAMILIES {
            for kind in TYPES {
                sockets.push(rule(&[(0, SeccompCmpOp::Eq, family), (1, SeccompCmpOp::MaskedEq(TYPE_MASK), kind)])?);
            }
        }
        sockets.push(rule(&[(0, SeccompCmpOp::Eq, NETLINK.0), (2, SeccompCmpOp::Eq, NETLINK.1)])?);
        rules.insert(libc::SYS_socket, sockets);
    }
    Ok(rules)
}

/// A rule that holds where every condition on an argument does. The kernel looks at the lower 32 bits of all of these.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = conditions
        .iter()
        .map(|(argument, compare, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, compare.clone(), *value)
        })
        .collect::<Result<_, _>>()?;
    SeccompRule::new(conditions)
}

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    values.iter().map(|value| rule(&[(argument, SeccompCmpOp::Eq, *value)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What none of our processes ever may, whatever it is sent.
    const NEVER: &[c_long] = &[
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_kcmp,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_userfaultfd,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_io_uring_setup,
        libc::SYS_swapon,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_sethostname,
        libc::SYS_listen,
        libc::SYS_accept4,
        libc::SYS_execveat,
        libc::SYS_setuid,
        libc::SYS_mknodat,
        libc::SYS_symlinkat,
        libc::SYS_linkat,
        libc::SYS_fchownat,
        libc::SYS_fchmodat,
        libc::SYS_setxattr,
    ];

    #[test]
    fn no_list_has_a_call_that_none_of_us_makes() {
        for calls in [Calls::Recorder, Calls::GpuReader, Calls::DetailReader] {
            let rules = rules(calls).unwrap();
            assert!(NEVER.iter().all(|call| !rules.contains_key(call)), "{calls:?}");
        }
    }

    #[test]
    fn a_child_that_reads_has_no_network_starts_nothing_and_keeps_nothing() {
        for calls in [Calls::GpuReader, Calls::DetailReader] {
            let rules = rules(calls).unwrap();
            let never = [CALLING, STARTING, KEEPING].concat();
            assert!(never.iter().chain(&[libc::SYS_socket]).all(|call| !rules.contains_key(call)), "{calls:?}");
        }
        let details = rules(Calls::DetailReader).unwrap();
        assert!(!details.contains_key(&libc::SYS_openat2), "whose flags cannot be seen");
        assert!(!details[&libc::SYS_openat].is_empty(), "which may not be without a condition");
    }

    #[test]
    fn every_list_is_a_program_that_the_kernel_takes() {
        for calls in [Calls::Recorder, Calls::GpuReader, Calls::DetailReader] {
            let length: usize = programs(calls).unwrap().iter().map(Vec::len).sum();
            // BPF_MAXINSNS.
            assert!((50..4096).contains(&length), "{calls:?}: {length}");
        }
    }

    #[test]
    fn the_numbers_of_arguments_are_those_of_the_headers() {
        let namespaces = [
            libc::CLONE_NEWNS,
            libc::CLONE_NEWCGROUP,
            libc::CLONE_NEWUTS,
            libc::CLONE_NEWIPC,
            libc::CLONE_NEWUSER,
            libc::CLONE_NEWPID,
            libc::CLONE_NEWNET,
        ];
        assert_eq!(u64::from(namespaces.iter().fold(0, |all, flag| all | flag).unsigned_abs()), NAMESPACES);
        let writing = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
        // O_TMPFILE is a bit of its own and O_DIRECTORY, which is harmless.
        let temporary = libc::O_TMPFILE & !libc::O_DIRECTORY;
        assert_eq!(u64::from((writing | temporary).unsigned_abs()), WRITING);
        assert_eq!(TERMINAL[0], libc::TIOCSTI);
        let prctl = [
            libc::PR_SET_NAME,
            libc::PR_GET_NAME,
            libc::PR_SET_VMA,
            // `PR_GET_AUXV` of linux/prctl.h, which the crate has not.
            0x4155_5856,
            libc::PR_SET_NO_NEW_PRIVS,
            libc::PR_CAPBSET_READ,
            libc::PR_CAPBSET_DROP,
            libc::PR_CAP_AMBIENT,
        ];
        assert_eq!(prctl.map(|option| u64::from(option.unsigned_abs())), PRCTL);
    }
}
