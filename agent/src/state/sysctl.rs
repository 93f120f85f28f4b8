//! Chosen sysctls: `/proc/sys`. Those that decide how a node behaves under load, memory pressure and network trouble, and
//! none that could hold a secret; a list, because reading all of them would read random numbers and keys too.

use std::io::Write;

use casefile_proto::gap::{Gap, GapReason};
use serde::Serialize;

use super::rows::{Rows, optional};
use super::{StateSpec, Table};
use crate::host::Host;

/// The table.
pub(super) const SPEC: StateSpec = StateSpec {
    name: "sysctl",
    about: "chosen sysctls, from /proc/sys; those below net/ are of the agent's own network namespace, which is the machine's only where the agent runs in it",
    file: "state/sysctl.jsonl",
    write,
};

/// What is read, below `/proc/sys`, in the order of the table. One that this kernel does not have has no row.
const NAMES: &[&str] = &[
    "fs/aio-max-nr",
    "fs/file-max",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "fs/nr_open",
    "fs/pipe-max-size",
    "fs/suid_dumpable",
    "kernel/core_pattern",
    "kernel/dmesg_restrict",
    "kernel/hardlockup_panic",
    "kernel/hung_task_panic",
    "kernel/hung_task_timeout_secs",
    "kernel/io_uring_disabled",
    "kernel/kptr_restrict",
    "kernel/numa_balancing",
    "kernel/osrelease",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/perf_event_paranoid",
    "kernel/pid_max",
    "kernel/printk",
    "kernel/printk_ratelimit",
    "kernel/randomize_va_space",
    "kernel/sched_rt_runtime_us",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/softlockup_panic",
    "kernel/sysrq",
    "kernel/tainted",
    "kernel/task_delayacct",
    "kernel/threads-max",
    "kernel/unprivileged_bpf_disabled",
    "kernel/watchdog_thresh",
    "kernel/yama/ptrace_scope",
    "net/bridge/bridge-nf-call-iptables",
    "net/core/default_qdisc",
    "net/core/netdev_budget",
    "net/core/netdev_max_backlog",
    "net/core/rmem_max",
    "net/core/somaxconn",
    "net/core/wmem_max",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv4/tcp_congestion_control",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_keepalive_time",
    "net/ipv4/tcp_max_orphans",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_mem",
    "net/ipv4/tcp_retries2",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_wmem",
    "net/ipv4/udp_mem",
    "net/ipv6/conf/all/disable_ipv6",
    "net/ipv6/conf/all/forwarding",
    "net/netfilter/nf_conntrack_buckets",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_be_liberal",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
    "user/max_user_namespaces",
    "vm/admin_reserve_kbytes",
    "vm/dirty_background_bytes",
    "vm/dirty_background_ratio",
    "vm/dirty_bytes",
    "vm/dirty_expire_centisecs",
    "vm/dirty_ratio",
    "vm/dirty_writeback_centisecs",
    "vm/max_map_count",
    "vm/min_free_kbytes",
    "vm/nr_hugepages",
    "vm/oom_dump_tasks",
    "vm/oom_kill_allocating_task",
    "vm/overcommit_memory",
    "vm/overcommit_ratio",
    "vm/panic_on_oom",
    "vm/swappiness",
    "vm/vfs_cache_pressure",
    "vm/watermark_boost_factor",
    "vm/watermark_scale_factor",
    "vm/zone_reclaim_mode",
];

#[derive(Serialize)]
struct Row<'a> {
    /// As in `/proc/sys`, with dots.
    name: &'a str,
    /// As the kernel writes it, blanks between several values as they are.
    value: &'a str,
}

fn write(host: &Host, out: &mut dyn Write) -> std::io::Result<Table> {
    let mut rows = Rows::new(out, u64::MAX);
    let mut buf = Vec::new();
    for path in NAMES {
        if let Some(value) = optional(host, &format!("proc/sys/{path}"), &mut buf, &mut rows) {
            rows.row(&Row { name: &path.replace('/', "."), value: &value })?;
        }
    }
    if rows.count() == 0 {
        rows.gap(Gap::new(GapReason::SourceAbsent, "/proc/sys has none of the sysctls that are read"));
    }
    Ok(rows.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_has_none_twice_and_nothing_secret() {
        assert!(NAMES.windows(2).all(|pair| pair[0] < pair[1]));
        let is_secret =
            |name: &&&str| name.starts_with("kernel/random/") || name.contains("key") || name.contains("secret");
        assert_eq!(NAMES.iter().find(is_secret), None);
    }
}
