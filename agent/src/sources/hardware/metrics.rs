//! The metrics of `hardware`, as a table: node_exporter's names where it has them.

use casefile_proto::sample::MetricSpec;
use casefile_proto::units::{Scale, Unit};

use crate::sources::spec::{count, counter, gauge, info, level, named};

pub(super) const DEVICES: &MetricSpec = named(&METRICS, "casefile_hardware_devices");
pub(super) const ROOT_PORT_ERRORS: &MetricSpec = named(&METRICS, "casefile_pcie_aer_root_port_errors_total");

const CONTROLLER: &[&str] = &["controller"];
const ROW: &[&str] = &["controller", "csrow"];
const DIMM: &[&str] = &["controller", "dimm"];
/// How node_exporter writes an address on PCI.
const PCI: &[&str] = &["segment", "bus", "device", "function"];
const SENSOR: &[&str] = &["chip", "sensor"];
const PORT: &[&str] = &["device", "port"];

/// Links are read in tenths of a gigatransfer a second, rates of ports in tenths of a gigabit.
const TENTHS_OF_GT: Scale = Scale::of(100_000_000);
const TENTHS_OF_GBIT: Scale = Scale::of(12_500_000);

/// Every metric of the source.
pub(super) static METRICS: [MetricSpec; 84] = [
    level(
        "casefile_hardware_devices",
        "devices that the kernel lists, by kind: edac (memory controllers), pci, nvme, infiniband, hwmon (chips with sensors); a kind that it has no list for is not given",
        &["kind"],
    ),
    count(
        "node_edac_correctable_errors_total",
        "memory errors that were corrected (/sys/devices/system/edac/mc/mc*/ce_count)",
        CONTROLLER,
    ),
    count(
        "node_edac_uncorrectable_errors_total",
        "memory errors that could not be corrected (/sys/devices/system/edac/mc/mc*/ue_count)",
        CONTROLLER,
    ),
    count(
        "node_edac_csrow_correctable_errors_total",
        "corrected memory errors of a row of chips; row unknown: those that could not be placed (/sys/devices/system/edac/mc/mc*/csrow*/ce_count, ce_noinfo_count)",
        ROW,
    ),
    count(
        "node_edac_csrow_uncorrectable_errors_total",
        "uncorrected memory errors of a row of chips; row unknown: those that could not be placed (/sys/devices/system/edac/mc/mc*/csrow*/ue_count, ue_noinfo_count)",
        ROW,
    ),
    count(
        "casefile_edac_dimm_correctable_errors_total",
        "corrected memory errors of a module (/sys/devices/system/edac/mc/mc*/dimm*/dimm_ce_count)",
        DIMM,
    ),
    count(
        "casefile_edac_dimm_uncorrectable_errors_total",
        "uncorrected memory errors of a module (/sys/devices/system/edac/mc/mc*/dimm*/dimm_ue_count)",
        DIMM,
    ),
    info(
        "casefile_edac_dimm_info",
        "what the board calls the slot of a module (/sys/devices/system/edac/mc/mc*/dimm*/dimm_label)",
        &["controller", "dimm", "label"],
    ),
    count(
        "casefile_pcie_aer_errors_total",
        "errors of a PCIe device by severity: correctable, nonfatal, fatal (TOTAL_ERR_* of /sys/bus/pci/devices/*/aer_dev_*); none for a device that does not count them; of more than 96 devices, those of bridges at every other measurement",
        &["address", "severity"],
    ),
    count(
        "casefile_pcie_aer_errors_by_type_total",
        "the same by type, such as RxErr, BadTLP, CmpltTO (/sys/bus/pci/devices/*/aer_dev_*); types at 0 are not given: where there is a total, a type that is absent is 0",
        &["address", "severity", "type"],
    ),
    count(
        "casefile_pcie_aer_root_port_errors_total",
        "error messages that a root port had from the devices below it (/sys/bus/pci/devices/*/aer_rootport_total_err_*)",
        &["address", "severity"],
    ),
    gauge(
        "node_pcidevice_current_link_transfers_per_second",
        "speed of the link of a storage, network or display device or an accelerator as it runs now; none where the kernel calls it Unknown (/sys/bus/pci/devices/*/current_link_speed)",
        Unit::Hertz,
        TENTHS_OF_GT,
        PCI,
    ),
    gauge(
        "node_pcidevice_max_link_transfers_per_second",
        "speed that the device could have (/sys/bus/pci/devices/*/max_link_speed)",
        Unit::Hertz,
        TENTHS_OF_GT,
        PCI,
    ),
    level(
        "node_pcidevice_current_link_width",
        "lanes of the link now; 0: no link (/sys/bus/pci/devices/*/current_link_width)",
        PCI,
    ),
    level(
        "node_pcidevice_max_link_width",
        "lanes that the device could have (/sys/bus/pci/devices/*/max_link_width)",
        PCI,
    ),
    info(
        "node_hwmon_chip_names",
        "what the driver calls a chip (/sys/class/hwmon/hwmon*/name)",
        &["chip", "chip_name"],
    ),
    info(
        "node_hwmon_sensor_label",
        "what the driver calls a sensor (/sys/class/hwmon/hwmon*/*_label)",
        &["chip", "label", "sensor"],
    ),
    gauge(
        "node_hwmon_temp_celsius",
        "temperature, as the sensor says (/sys/class/hwmon/hwmon*/temp*_input)",
        Unit::Celsius,
        Scale::MILLI,
        SENSOR,
    ),
    gauge(
        "node_hwmon_temp_max_celsius",
        "temperature that should not be passed (/sys/class/hwmon/hwmon*/temp*_max)",
        Unit::Celsius,
        Scale::MILLI,
        SENSOR,
    ),
    gauge(
        "node_hwmon_temp_crit_celsius",
        "temperature at which the hardware protects itself (/sys/class/hwmon/hwmon*/temp*_crit)",
        Unit::Celsius,
        Scale::MILLI,
        SENSOR,
    ),
    gauge("node_hwmon_fan_rpm", "speed of a fan (/sys/class/hwmon/hwmon*/fan*_input)", Unit::Rpm, Scale::ONE, SENSOR),
    gauge("node_hwmon_in_volts", "voltage (/sys/class/hwmon/hwmon*/in*_input)", Unit::Volts, Scale::MILLI, SENSOR),
    gauge("node_hwmon_curr_amps", "current (/sys/class/hwmon/hwmon*/curr*_input)", Unit::Amperes, Scale::MILLI, SENSOR),
    gauge(
        "node_hwmon_power_watt",
        "power now (/sys/class/hwmon/hwmon*/power*_input)",
        Unit::Watts,
        Scale::MICRO,
        SENSOR,
    ),
    gauge(
        "node_hwmon_power_average_watt",
        "power over the driver's interval (/sys/class/hwmon/hwmon*/power*_average)",
        Unit::Watts,
        Scale::MICRO,
        SENSOR,
    ),
    info(
        "node_nvme_info",
        "what an NVMe controller is, and its state (/sys/class/nvme)",
        &["device", "firmware_revision", "model", "serial", "state", "cntlid"],
    ),
    info(
        "casefile_nvme_transport_info",
        "how an NVMe controller is reached, such as pcie or tcp, and at which address (/sys/class/nvme/*/transport, address)",
        &["device", "transport", "address"],
    ),
    gauge(
        "casefile_nvme_state",
        "state that the driver has a controller in: 0 new, 1 live, 2 resetting, 3 connecting, 4 deleting, 5 deleting (no IO), 6 dead (/sys/class/nvme/*/state)",
        Unit::Code,
        Scale::ONE,
        &["device"],
    ),
    info(
        "node_infiniband_info",
        "what a card is (/sys/class/infiniband/*/board_id, fw_ver, hca_type)",
        &["device", "board_id", "firmware_version", "hca_type"],
    ),
    info(
        "casefile_infiniband_port_info",
        "link layer of a port (InfiniBand or Ethernet), and where its card sits on PCI (/sys/class/infiniband/*/ports/*/link_layer)",
        &["device", "port", "link_layer", "address"],
    ),
    gauge(
        "node_infiniband_state_id",
        "state of a port: 0 no change, 1 down, 2 init, 3 armed, 4 active, 5 active and deferred (/sys/class/infiniband/*/ports/*/state)",
        Unit::Code,
        Scale::ONE,
        PORT,
    ),
    gauge(
        "node_infiniband_physical_state_id",
        "physical state of a port: 0 no change, 1 sleep, 2 polling, 3 disabled, 4 shift, 5 link up, 6 link error recovery, 7 test (/sys/class/infiniband/*/ports/*/phys_state)",
        Unit::Code,
        Scale::ONE,
        PORT,
    ),
    gauge(
        "node_infiniband_rate_bytes_per_second",
        "rate of the link (/sys/class/infiniband/*/ports/*/rate)",
        Unit::BytesPerSecond,
        TENTHS_OF_GBIT,
        PORT,
    ),
    count(
        "node_infiniband_excessive_buffer_overrun_errors_total",
        "times that buffers overran in consecutive flow control periods (/sys/class/infiniband/*/ports/*/counters/excessive_buffer_overrun_errors)",
        PORT,
    ),
    count(
        "node_infiniband_link_downed_total",
        "times that the link went down because it could not be recovered (/sys/class/infiniband/*/ports/*/counters/link_downed)",
        PORT,
    ),
    count(
        "node_infiniband_link_error_recovery_total",
        "times that the link was recovered from an error (/sys/class/infiniband/*/ports/*/counters/link_error_recovery)",
        PORT,
    ),
    count(
        "node_infiniband_local_link_integrity_errors_total",
        "times that local physical errors passed their threshold (/sys/class/infiniband/*/ports/*/counters/local_link_integrity_errors)",
        PORT,
    ),
    count(
        "node_infiniband_multicast_packets_received_total",
        "multicast packets received, those with errors too (/sys/class/infiniband/*/ports/*/counters/multicast_rcv_packets)",
        PORT,
    ),
    count(
        "node_infiniband_multicast_packets_transmitted_total",
        "multicast packets sent, those with errors too (/sys/class/infiniband/*/ports/*/counters/multicast_xmit_packets)",
        PORT,
    ),
    count(
        "node_infiniband_port_constraint_errors_received_total",
        "packets received that the switch's port refused (/sys/class/infiniband/*/ports/*/counters/port_rcv_constraint_errors)",
        PORT,
    ),
    count(
        "node_infiniband_port_constraint_errors_transmitted_total",
        "packets that the switch's port refused to send (/sys/class/infiniband/*/ports/*/counters/port_xmit_constraint_errors)",
        PORT,
    ),
    counter(
        "node_infiniband_port_data_received_bytes_total",
        "bytes received; the card counts units of 4 (/sys/class/infiniband/*/ports/*/counters/port_rcv_data)",
        Unit::Bytes,
        Scale::of(4),
        PORT,
    ),
    counter(
        "node_infiniband_port_data_transmitted_bytes_total",
        "bytes sent; the card counts units of 4 (/sys/class/infiniband/*/ports/*/counters/port_xmit_data)",
        Unit::Bytes,
        Scale::of(4),
        PORT,
    ),
    count(
        "node_infiniband_port_discards_received_total",
        "packets received and dropped, because the port was down or full (/sys/class/infiniband/*/ports/*/counters/port_rcv_discards)",
        PORT,
    ),
    count(
        "node_infiniband_port_discards_transmitted_total",
        "packets not sent, because the port was down or full (/sys/class/infiniband/*/ports/*/counters/port_xmit_discards)",
        PORT,
    ),
    count(
        "node_infiniband_port_errors_received_total",
        "packets received with an error (/sys/class/infiniband/*/ports/*/counters/port_rcv_errors)",
        PORT,
    ),
    count(
        "node_infiniband_port_packets_received_total",
        "packets received, those with errors too (/sys/class/infiniband/*/ports/*/counters/port_rcv_packets)",
        PORT,
    ),
    count(
        "node_infiniband_port_packets_transmitted_total",
        "packets sent, those with errors too (/sys/class/infiniband/*/ports/*/counters/port_xmit_packets)",
        PORT,
    ),
    count(
        "node_infiniband_port_receive_remote_physical_errors_total",
        "packets received that were marked bad on their way (/sys/class/infiniband/*/ports/*/counters/port_rcv_remote_physical_errors)",
        PORT,
    ),
    count(
        "node_infiniband_port_receive_switch_relay_errors_total",
        "packets received that the switch could not pass on (/sys/class/infiniband/*/ports/*/counters/port_rcv_switch_relay_errors)",
        PORT,
    ),
    count(
        "node_infiniband_port_transmit_wait_total",
        "ticks of the card in which there was something to send and no credit for it (/sys/class/infiniband/*/ports/*/counters/port_xmit_wait)",
        PORT,
    ),
    count(
        "node_infiniband_symbol_error_total",
        "minor errors on a lane (/sys/class/infiniband/*/ports/*/counters/symbol_error)",
        PORT,
    ),
    count(
        "node_infiniband_unicast_packets_received_total",
        "unicast packets received, those with errors too (/sys/class/infiniband/*/ports/*/counters/unicast_rcv_packets)",
        PORT,
    ),
    count(
        "node_infiniband_unicast_packets_transmitted_total",
        "unicast packets sent, those with errors too (/sys/class/infiniband/*/ports/*/counters/unicast_xmit_packets)",
        PORT,
    ),
    count(
        "node_infiniband_vl15_dropped_total",
        "management packets dropped for want of room (/sys/class/infiniband/*/ports/*/counters/VL15_dropped)",
        PORT,
    ),
    count(
        "node_infiniband_duplicate_requests_packets_total",
        "requests received that had been executed before (/sys/class/infiniband/*/ports/*/hw_counters/duplicate_request)",
        PORT,
    ),
    count(
        "node_infiniband_implied_nak_seq_errors_total",
        "acknowledgements with a later number than was expected (/sys/class/infiniband/*/ports/*/hw_counters/implied_nak_seq_err)",
        PORT,
    ),
    count(
        "node_infiniband_local_ack_timeout_errors_total",
        "times that no acknowledgement came in time (/sys/class/infiniband/*/ports/*/hw_counters/local_ack_timeout_err)",
        PORT,
    ),
    count(
        "node_infiniband_np_cnp_packets_sent_total",
        "congestion notices sent because packets came marked (/sys/class/infiniband/*/ports/*/hw_counters/np_cnp_sent)",
        PORT,
    ),
    count(
        "node_infiniband_np_ecn_marked_roce_packets_received_total",
        "RoCE packets received that were marked for congestion (/sys/class/infiniband/*/ports/*/hw_counters/np_ecn_marked_roce_packets)",
        PORT,
    ),
    count(
        "node_infiniband_out_of_buffer_drops_total",
        "packets dropped because nothing was posted to take them (/sys/class/infiniband/*/ports/*/hw_counters/out_of_buffer)",
        PORT,
    ),
    count(
        "node_infiniband_out_of_sequence_packets_received_total",
        "packets received out of order (/sys/class/infiniband/*/ports/*/hw_counters/out_of_sequence)",
        PORT,
    ),
    count(
        "node_infiniband_packet_sequence_errors_total",
        "answers received that a packet was out of order (/sys/class/infiniband/*/ports/*/hw_counters/packet_seq_err)",
        PORT,
    ),
    count(
        "node_infiniband_req_cqes_errors_total",
        "requests that ended with an error (/sys/class/infiniband/*/ports/*/hw_counters/req_cqe_error)",
        PORT,
    ),
    count(
        "node_infiniband_req_cqes_flush_errors_total",
        "requests that were flushed (/sys/class/infiniband/*/ports/*/hw_counters/req_cqe_flush_error)",
        PORT,
    ),
    count(
        "node_infiniband_req_remote_access_errors_total",
        "requests that the other side did not permit (/sys/class/infiniband/*/ports/*/hw_counters/req_remote_access_errors)",
        PORT,
    ),
    count(
        "node_infiniband_req_remote_invalid_request_errors_total",
        "requests that the other side called invalid (/sys/class/infiniband/*/ports/*/hw_counters/req_remote_invalid_request)",
        PORT,
    ),
    count(
        "node_infiniband_resp_cqes_errors_total",
        "answers that ended with an error (/sys/class/infiniband/*/ports/*/hw_counters/resp_cqe_error)",
        PORT,
    ),
    count(
        "node_infiniband_resp_cqes_flush_errors_total",
        "answers that were flushed (/sys/class/infiniband/*/ports/*/hw_counters/resp_cqe_flush_error)",
        PORT,
    ),
    count(
        "node_infiniband_resp_local_length_errors_total",
        "requests received of the wrong length (/sys/class/infiniband/*/ports/*/hw_counters/resp_local_length_error)",
        PORT,
    ),
    count(
        "node_infiniband_resp_remote_access_errors_total",
        "requests received that are not permitted (/sys/class/infiniband/*/ports/*/hw_counters/resp_remote_access_errors)",
        PORT,
    ),
    count(
        "node_infiniband_rnr_nak_retry_packets_received_total",
        "answers received that the other side was not ready (/sys/class/infiniband/*/ports/*/hw_counters/rnr_nak_retry_err)",
        PORT,
    ),
    count(
        "node_infiniband_roce_adp_retransmits_total",
        "adaptive retransmissions of RoCE (/sys/class/infiniband/*/ports/*/hw_counters/roce_adp_retrans)",
        PORT,
    ),
    count(
        "node_infiniband_roce_adp_retransmits_timeout_total",
        "adaptive retransmissions of RoCE that timed out (/sys/class/infiniband/*/ports/*/hw_counters/roce_adp_retrans_to)",
        PORT,
    ),
    count(
        "node_infiniband_roce_slow_restart_used_total",
        "times that RoCE used slow restart (/sys/class/infiniband/*/ports/*/hw_counters/roce_slow_restart)",
        PORT,
    ),
    count(
        "node_infiniband_roce_slow_restart_cnps_total",
        "congestion notices that slow restart made (/sys/class/infiniband/*/ports/*/hw_counters/roce_slow_restart_cnps)",
        PORT,
    ),
    count(
        "node_infiniband_roce_slow_restart_total",
        "times that RoCE changed to slow restart (/sys/class/infiniband/*/ports/*/hw_counters/roce_slow_restart_trans)",
        PORT,
    ),
    count(
        "node_infiniband_rp_cnp_packets_handled_total",
        "congestion notices received and heeded (/sys/class/infiniband/*/ports/*/hw_counters/rp_cnp_handled)",
        PORT,
    ),
    count(
        "node_infiniband_rp_cnp_ignored_packets_received_total",
        "congestion notices received and ignored (/sys/class/infiniband/*/ports/*/hw_counters/rp_cnp_ignored)",
        PORT,
    ),
    count(
        "node_infiniband_rx_atomic_requests_total",
        "atomic requests received (/sys/class/infiniband/*/ports/*/hw_counters/rx_atomic_requests)",
        PORT,
    ),
    count(
        "node_infiniband_rx_dct_connect_requests_total",
        "connection requests received for dynamically connected queues (/sys/class/infiniband/*/ports/*/hw_counters/rx_dct_connect)",
        PORT,
    ),
    count(
        "node_infiniband_rx_icrc_encapsulated_errors_total",
        "RoCE packets received with a wrong checksum (/sys/class/infiniband/*/ports/*/hw_counters/rx_icrc_encapsulated)",
        PORT,
    ),
    count(
        "node_infiniband_rx_read_requests_total",
        "read requests received (/sys/class/infiniband/*/ports/*/hw_counters/rx_read_requests)",
        PORT,
    ),
    count(
        "node_infiniband_rx_write_requests_total",
        "write requests received (/sys/class/infiniband/*/ports/*/hw_counters/rx_write_requests)",
        PORT,
    ),
];
