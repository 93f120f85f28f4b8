//! Settings of the kernel that somebody who looks for a cause wants to know, by the names that `sysctl` has for them.
//!
//! Not all of them: a thousand values of which nobody looks at more than these. The table of the state at collection
//! time is in `state`.

use std::collections::BTreeMap;

use casefile_proto::gap::{Gap, GapReason};

use super::os::line;
use crate::host::Host;
use crate::sources::network::sees_process_1;

/// Paths below `proc/sys`.
const SETTINGS: &[&str] = &[
    "fs/aio-max-nr",
    "fs/file-max",
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "fs/nr_open",
    "kernel/core_pattern",
    "kernel/dmesg_restrict",
    "kernel/hung_task_panic",
    "kernel/hung_task_timeout_secs",
    "kernel/kptr_restrict",
    "kernel/nmi_watchdog",
    "kernel/numa_balancing",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/panic_on_warn",
    "kernel/perf_event_paranoid",
    "kernel/pid_max",
    "kernel/printk",
    "kernel/sched_rt_runtime_us",
    "kernel/softlockup_panic",
    "kernel/sysrq",
    "kernel/threads-max",
    "kernel/unprivileged_bpf_disabled",
    "kernel/watchdog_thresh",
    "vm/dirty_background_bytes",
    "vm/dirty_background_ratio",
    "vm/dirty_bytes",
    "vm/dirty_ratio",
    "vm/max_map_count",
    "vm/min_free_kbytes",
    "vm/nr_hugepages",
    "vm/oom_kill_allocating_task",
    "vm/overcommit_memory",
    "vm/overcommit_ratio",
    "vm/panic_on_oom",
    "vm/swappiness",
    "vm/vfs_cache_pressure",
    "vm/watermark_scale_factor",
    "vm/zone_reclaim_mode",
];

/// Paths below `proc/sys/net`: what is read there is of the reader's network namespace.
const NETWORK: &[&str] = &[
    "bridge/bridge-nf-call-iptables",
    "core/default_qdisc",
    "core/netdev_budget",
    "core/netdev_max_backlog",
    "core/rmem_max",
    "core/somaxconn",
    "core/wmem_max",
    "ipv4/conf/all/rp_filter",
    "ipv4/ip_forward",
    "ipv4/ip_local_port_range",
    "ipv4/neigh/default/gc_thresh1",
    "ipv4/neigh/default/gc_thresh2",
    "ipv4/neigh/default/gc_thresh3",
    "ipv4/tcp_congestion_control",
    "ipv4/tcp_fin_timeout",
    "ipv4/tcp_keepalive_time",
    "ipv4/tcp_max_syn_backlog",
    "ipv4/tcp_max_tw_buckets",
    "ipv4/tcp_mem",
    "ipv4/tcp_rmem",
    "ipv4/tcp_syncookies",
    "ipv4/tcp_tw_reuse",
    "ipv4/tcp_wmem",
    "ipv6/conf/all/disable_ipv6",
    "netfilter/nf_conntrack_buckets",
    "netfilter/nf_conntrack_max",
];

/// Settings that are not below `proc/sys`.
const OTHERS: [(&str, &str); 3] = [
    ("transparent_hugepage.enabled", "sys/kernel/mm/transparent_hugepage/enabled"),
    ("transparent_hugepage.defrag", "sys/kernel/mm/transparent_hugepage/defrag"),
    ("ksm.run", "sys/kernel/mm/ksm/run"),
];

/// Those that this kernel has.
pub(super) fn read(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut take = |name: String, path: &str, gaps: &mut Vec<Gap>| {
        if let Some(value) = line(host, path, buf, gaps) {
            settings.insert(name, value);
        }
    };
    for path in SETTINGS {
        take(path.replace('/', "."), &format!("proc/sys/{path}"), gaps);
    }
    for (name, path) in OTHERS {
        take(name.to_owned(), path, gaps);
    }
    // In a tree that is no running kernel's, the files are what they are.
    if sees_process_1(host) || !host.is_live() {
        for path in NETWORK {
            take(format!("net.{}", path.replace('/', ".")), &format!("proc/sys/net/{path}"), gaps);
        }
    } else {
        let why =
            "settings of the network: the agent is not, or cannot tell that it is, in process 1's network namespace";
        gaps.push(Gap::new(GapReason::PermissionDenied, why));
    }
    settings
}
