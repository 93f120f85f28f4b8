//! Interfaces, protocols and sockets: source `network`.

use super::load::Load;
use crate::DemoError;
use crate::board::{Board, Count, Series, Still, whole};
use crate::node::{Node, Role};
use crate::random::Random;

/// Counters of things that go wrong, and here do not.
const CALM: [&str; 20] = [
    "node_netstat_Tcp_InErrs",
    "node_netstat_Tcp_InCsumErrors",
    "node_netstat_TcpExt_ListenOverflows",
    "node_netstat_TcpExt_ListenDrops",
    "node_netstat_TcpExt_SyncookiesSent",
    "node_netstat_TcpExt_TCPBacklogDrop",
    "node_netstat_TcpExt_TCPAbortOnMemory",
    "node_netstat_TcpExt_TCPMemoryPressures",
    "node_netstat_TcpExt_TCPReqQFullDrop",
    "node_netstat_TcpExt_TCPZeroWindowDrop",
    "node_netstat_TcpExt_TCPTimeWaitOverflow",
    "node_netstat_Udp_InErrors",
    "node_netstat_Udp_RcvbufErrors",
    "node_netstat_Udp_SndbufErrors",
    "node_netstat_Ip_InDiscards",
    "node_netstat_Ip_OutDiscards",
    "node_netstat_Ip_OutNoRoutes",
    "node_nf_conntrack_stat_drop",
    "node_nf_conntrack_stat_early_drop",
    "node_nf_conntrack_stat_insert_failed",
];

/// The same of an interface.
const CALM_OF_INTERFACE: [&str; 8] = [
    "node_network_receive_errs_total",
    "node_network_receive_drop_total",
    "node_network_receive_fifo_total",
    "node_network_receive_frame_total",
    "node_network_transmit_errs_total",
    "node_network_transmit_drop_total",
    "node_network_transmit_fifo_total",
    "node_network_transmit_carrier_total",
];

pub(super) struct Network {
    outside: [Count; 4],
    inside: [Count; 4],
    segments: [Count; 2],
    retransmitted: Count,
    opened: [Count; 2],
    processed: Vec<Count>,
    established: [Series; 2],
    tracked: Series,
    sockets: [(Series, f64); 4],
    connections: f64,
    still: Still,
}

/// The interface that leads out, and its speed in bytes a second.
pub(crate) fn interface(role: Role) -> (&'static str, i64) {
    match role {
        Role::Gpu => ("eth0", 25_000_000_000),
        Role::Web | Role::Batch | Role::Database => ("eth0", 3_125_000_000),
    }
}

impl Network {
    pub(super) fn of(node: &Node, board: &mut Board) -> Result<Self, DemoError> {
        let mut still = Still::default();
        #[expect(clippy::cast_precision_loss, reason = "seconds of some weeks")]
        let up = node.up as f64;
        let (name, speed) = interface(node.role);
        still.put(board, "node_network_up", &[name], 1)?;
        still.put(board, "node_network_carrier", &[name], 1)?;
        still.put(board, "node_network_carrier_changes_total", &[name], 2)?;
        still.put(board, "node_network_mtu_bytes", &[name], 9_000)?;
        still.put(board, "node_network_speed_bytes", &[name], speed)?;
        still.put(board, "node_network_info", &[name, &node.mac, "full", "up"], 1)?;
        for calm in CALM {
            still.put(board, calm, &[], 0)?;
        }
        for device in [name, "lo"] {
            for calm in CALM_OF_INTERFACE {
                still.put(board, calm, &[device], 0)?;
            }
        }
        for cpu in 0..node.cpus {
            let cpu = cpu.to_string();
            still.put(board, "node_softnet_dropped_total", &[&cpu], 0)?;
            still.put(board, "node_softnet_times_squeezed_total", &[&cpu], 3)?;
        }
        still.put(board, "node_nf_conntrack_entries_limit", &[], 524_288)?;
        still.put(board, "casefile_neighbour_table_full_total", &["ipv4"], 0)?;
        still.put(board, "node_arp_entries", &[name], 21)?;
        still.put(board, "node_sockstat_TCP_orphan", &[], 0)?;
        let mut traffic = |device: &str, part: f64| -> Result<[Count; 4], DemoError> {
            Ok([
                board.count("node_network_receive_bytes_total", &[device], (up * 4.0e6 * part).floor())?,
                board.count("node_network_receive_packets_total", &[device], (up * 4_400.0 * part).floor())?,
                board.count("node_network_transmit_bytes_total", &[device], (up * 5.0e6 * part).floor())?,
                board.count("node_network_transmit_packets_total", &[device], (up * 4_700.0 * part).floor())?,
            ])
        };
        let (outside, inside) = (traffic(name, 1.0)?, traffic("lo", 0.05)?);
        let mut processed = Vec::new();
        for cpu in 0..node.cpus {
            processed.push(board.count("node_softnet_processed_total", &[&cpu.to_string()], up * 1_100.0)?);
        }
        Ok(Self {
            outside,
            inside,
            segments: [
                board.count("node_netstat_Tcp_InSegs", &[], up * 4_300.0)?,
                board.count("node_netstat_Tcp_OutSegs", &[], up * 4_600.0)?,
            ],
            retransmitted: board.count("node_netstat_Tcp_RetransSegs", &[], up * 0.02)?,
            opened: [
                board.count("node_netstat_Tcp_ActiveOpens", &[], up * 9.0)?,
                board.count("node_netstat_Tcp_PassiveOpens", &[], up * 14.0)?,
            ],
            processed,
            established: [
                board.series("node_netstat_Tcp_CurrEstab", &[])?,
                board.series("node_tcp_connection_states", &["established"])?,
            ],
            tracked: board.series("node_nf_conntrack_entries", &[])?,
            sockets: [
                (board.series("node_sockstat_sockets_used", &[])?, 2.1),
                (board.series("node_sockstat_TCP_inuse", &[])?, 1.1),
                (board.series("node_sockstat_TCP_tw", &[])?, 0.5),
                (board.series("node_sockstat_TCP_mem", &[])?, 0.4),
            ],
            connections: if node.role == Role::Web { 620.0 } else { 210.0 },
            still,
        })
    }

    pub(super) fn tick(&mut self, board: &mut Board, load: &Load, random: &mut Random) {
        let (received, sent) = (load.received, load.sent);
        let packets = [received / 940.0, sent / 1_020.0];
        for (count, amount) in self.outside.iter_mut().zip([received, packets[0], sent, packets[1]]) {
            count.add(board, amount);
        }
        let local = random.between(120_000.0, 260_000.0);
        for (count, amount) in self.inside.iter_mut().zip([local, local / 800.0, local, local / 800.0]) {
            count.add(board, amount);
        }
        for (count, amount) in self.segments.iter_mut().zip(packets) {
            count.add(board, amount * 0.97);
        }
        self.retransmitted.add(board, if random.unit() < 0.03 { 1.0 } else { 0.0 });
        for count in &mut self.opened {
            count.add(board, random.between(4.0, 19.0));
        }
        for count in &mut self.processed {
            count.add(board, packets[0] / 4.0);
        }
        self.connections = (self.connections + random.between(-3.0, 3.0)).clamp(180.0, 700.0);
        for series in self.established {
            board.say(series, whole(self.connections));
        }
        board.say(self.tracked, whole(self.connections * 4.1));
        for (series, factor) in self.sockets {
            board.say(series, whole(self.connections * factor));
        }
        self.still.say(board);
    }
}
