//! The counters of an InfiniBand or RoCE port: which file is which metric, and the text of one.
//!
//! What they count: `Documentation/ABI/stable/sysfs-class-infiniband` and the drivers' own documents. Counters that only
//! one maker's cards have and that node_exporter has no name for are not read.

use casefile_proto::sample::MetricSpec;

use super::metrics::METRICS;
use crate::sources::spec::named;
use crate::text::{self, BadLine};

/// Files below a port's directory, in the order in which they are read.
pub(super) const COUNTERS: [(&str, &MetricSpec); 51] = [
    ("counters/excessive_buffer_overrun_errors", of("node_infiniband_excessive_buffer_overrun_errors_total")),
    ("counters/link_downed", of("node_infiniband_link_downed_total")),
    ("counters/link_error_recovery", of("node_infiniband_link_error_recovery_total")),
    ("counters/local_link_integrity_errors", of("node_infiniband_local_link_integrity_errors_total")),
    ("counters/multicast_rcv_packets", of("node_infiniband_multicast_packets_received_total")),
    ("counters/multicast_xmit_packets", of("node_infiniband_multicast_packets_transmitted_total")),
    ("counters/port_rcv_constraint_errors", of("node_infiniband_port_constraint_errors_received_total")),
    ("counters/port_rcv_data", of("node_infiniband_port_data_received_bytes_total")),
    ("counters/port_rcv_discards", of("node_infiniband_port_discards_received_total")),
    ("counters/port_rcv_errors", of("node_infiniband_port_errors_received_total")),
    ("counters/port_rcv_packets", of("node_infiniband_port_packets_received_total")),
    ("counters/port_rcv_remote_physical_errors", of("node_infiniband_port_receive_remote_physical_errors_total")),
    ("counters/port_rcv_switch_relay_errors", of("node_infiniband_port_receive_switch_relay_errors_total")),
    ("counters/port_xmit_constraint_errors", of("node_infiniband_port_constraint_errors_transmitted_total")),
    ("counters/port_xmit_data", of("node_infiniband_port_data_transmitted_bytes_total")),
    ("counters/port_xmit_discards", of("node_infiniband_port_discards_transmitted_total")),
    ("counters/port_xmit_packets", of("node_infiniband_port_packets_transmitted_total")),
    ("counters/port_xmit_wait", of("node_infiniband_port_transmit_wait_total")),
    ("counters/symbol_error", of("node_infiniband_symbol_error_total")),
    ("counters/unicast_rcv_packets", of("node_infiniband_unicast_packets_received_total")),
    ("counters/unicast_xmit_packets", of("node_infiniband_unicast_packets_transmitted_total")),
    ("counters/VL15_dropped", of("node_infiniband_vl15_dropped_total")),
    ("hw_counters/duplicate_request", of("node_infiniband_duplicate_requests_packets_total")),
    ("hw_counters/implied_nak_seq_err", of("node_infiniband_implied_nak_seq_errors_total")),
    ("hw_counters/local_ack_timeout_err", of("node_infiniband_local_ack_timeout_errors_total")),
    ("hw_counters/np_cnp_sent", of("node_infiniband_np_cnp_packets_sent_total")),
    ("hw_counters/np_ecn_marked_roce_packets", of("node_infiniband_np_ecn_marked_roce_packets_received_total")),
    ("hw_counters/out_of_buffer", of("node_infiniband_out_of_buffer_drops_total")),
    ("hw_counters/out_of_sequence", of("node_infiniband_out_of_sequence_packets_received_total")),
    ("hw_counters/packet_seq_err", of("node_infiniband_packet_sequence_errors_total")),
    ("hw_counters/req_cqe_error", of("node_infiniband_req_cqes_errors_total")),
    ("hw_counters/req_cqe_flush_error", of("node_infiniband_req_cqes_flush_errors_total")),
    ("hw_counters/req_remote_access_errors", of("node_infiniband_req_remote_access_errors_total")),
    ("hw_counters/req_remote_invalid_request", of("node_infiniband_req_remote_invalid_request_errors_total")),
    ("hw_counters/resp_cqe_error", of("node_infiniband_resp_cqes_errors_total")),
    ("hw_counters/resp_cqe_flush_error", of("node_infiniband_resp_cqes_flush_errors_total")),
    ("hw_counters/resp_local_length_error", of("node_infiniband_resp_local_length_errors_total")),
    ("hw_counters/resp_remote_access_errors", of("node_infiniband_resp_remote_access_errors_total")),
    ("hw_counters/rnr_nak_retry_err", of("node_infiniband_rnr_nak_retry_packets_received_total")),
    ("hw_counters/roce_adp_retrans", of("node_infiniband_roce_adp_retransmits_total")),
    ("hw_counters/roce_adp_retrans_to", of("node_infiniband_roce_adp_retransmits_timeout_total")),
    ("hw_counters/roce_slow_restart", of("node_infiniband_roce_slow_restart_used_total")),
    ("hw_counters/roce_slow_restart_cnps", of("node_infiniband_roce_slow_restart_cnps_total")),
    ("hw_counters/roce_slow_restart_trans", of("node_infiniband_roce_slow_restart_total")),
    ("hw_counters/rp_cnp_handled", of("node_infiniband_rp_cnp_packets_handled_total")),
    ("hw_counters/rp_cnp_ignored", of("node_infiniband_rp_cnp_ignored_packets_received_total")),
    ("hw_counters/rx_atomic_requests", of("node_infiniband_rx_atomic_requests_total")),
    ("hw_counters/rx_dct_connect", of("node_infiniband_rx_dct_connect_requests_total")),
    ("hw_counters/rx_icrc_encapsulated", of("node_infiniband_rx_icrc_encapsulated_errors_total")),
    ("hw_counters/rx_read_requests", of("node_infiniband_rx_read_requests_total")),
    ("hw_counters/rx_write_requests", of("node_infiniband_rx_write_requests_total")),
];

const fn of(name: &str) -> &'static MetricSpec {
    named(&METRICS, name)
}

/// One number. `N/A (no PMA)` is what kernels say of a counter that the card does not have.
pub(crate) fn parse(text: &[u8]) -> Result<Option<i64>, BadLine<'_>> {
    let line = text::single(text)?;
    if line.starts_with(b"N/A") {
        return Ok(None);
    }
    text::number(line.trim_ascii()).map(Some).map_err(|why| BadLine { line, why })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_counter_that_the_card_does_not_have_is_none() {
        assert_eq!((parse(b"12\n"), parse(b"N/A (no PMA)\n")), (Ok(Some(12)), Ok(None)));
        assert!(parse(b"12").is_err() && parse(b"").is_err() && parse(b"-1\n").is_err() && parse(b"x\n").is_err());
    }

    #[test]
    fn no_file_and_no_metric_is_in_the_table_twice() {
        let files: BTreeSet<_> = COUNTERS.iter().map(|(file, _)| file).collect();
        let metrics: BTreeSet<_> = COUNTERS.iter().map(|(_, metric)| metric.name).collect();
        assert_eq!((files.len(), metrics.len()), (COUNTERS.len(), COUNTERS.len()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_counter_or_bad(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse(&bytes);
            let _ = parse(&[&bytes[..], b"\n"].concat());
        }
    }
}
