//! Which machines there are: four for the shop's web tier, two for batch jobs, two databases, four with GPUs.

use casefile_proto::ids::BootId;
use casefile_proto::time::ClockOffset;

use crate::node::{Disk, Gpu, Kind, Mount, Node, Pod, Role, Run};
use crate::random::Random;
use crate::story;

const GIB: i64 = 1 << 30;
const GB: i64 = 1_000_000_000;

/// Name, what it is for, nanoseconds that its clock is ahead, how well that is known, days up.
const MACHINES: [(&str, Role, i64, u64, i64); 12] = [
    ("batch-01", Role::Batch, 3_418_220, 412_000, 41),
    ("batch-02", Role::Batch, -6_902_114, 508_000, 17),
    ("db-01", Role::Database, 1_877_340, 391_000, 63),
    ("db-02", Role::Database, -41_220_871, 620_000, 63),
    ("gpu-01", Role::Gpu, 2_210_903, 377_000, 12),
    ("gpu-02", Role::Gpu, 96_114_052, 731_000, 12),
    ("gpu-03", Role::Gpu, -4_663_127, 402_000, 12),
    ("gpu-04", Role::Gpu, 7_030_448, 455_000, 9),
    ("web-01", Role::Web, -1_904_611, 366_000, 28),
    ("web-02", Role::Web, 12_380_225, 420_000, 28),
    ("web-03", Role::Web, 5_551_703, 398_000, 28),
    ("web-04", Role::Web, -18_027_334, 533_000, 28),
];

/// Where the four GPUs of a machine sit.
const SLOTS: [&str; 4] = ["17:00.0", "3d:00.0", "84:00.0", "ba:00.0"];

/// All machines, in order of name.
pub(crate) fn fleet() -> Vec<Node> {
    (11..).zip(MACHINES).map(|(host, machine)| node(host, machine)).collect()
}

fn node(host: usize, (name, role, ahead_nanos, bound_nanos, days): (&'static str, Role, i64, u64, i64)) -> Node {
    let mut random = Random::of(&format!("{name} what it is"));
    let mut boot = [0; 16];
    boot[..8].copy_from_slice(&random.next().to_le_bytes());
    boot[8..].copy_from_slice(&random.next().to_le_bytes());
    let (cpus, memory) = match role {
        Role::Web => (4, 16 * GIB),
        Role::Batch => (4, 32 * GIB),
        Role::Database => (8, 64 * GIB),
        Role::Gpu => (8, 256 * GIB),
    };
    let up = days * 86_400 + i64::try_from(random.below(80_000)).unwrap_or(0);
    Node {
        name,
        role,
        clock: ClockOffset { ahead_nanos, bound_nanos },
        boot: BootId::from_bytes(boot),
        up,
        cpus,
        memory,
        address: format!("10.20.0.{host}"),
        mac: format!("0c:42:a1:5e:07:{host:02x}"),
        disks: disks(role, &mut random),
        mounts: mounts(role),
        pods: pods(name, role, &mut random),
        gpus: if role == Role::Gpu { gpus(&mut random) } else { Vec::new() },
    }
}

fn disks(role: Role, random: &mut Random) -> Vec<Disk> {
    let mut disk = |name, bytes, model, firmware| Disk {
        name,
        bytes,
        model,
        serial: format!("S{}", random.hex(13).to_uppercase()),
        firmware,
    };
    match role {
        // The machine boots from mirrored SATA sticks; the NVMe disk holds the data.
        Role::Database => vec![
            disk("nvme0n1", 3_840 * GB, "SAMSUNG MZQL23T8HCLS-00A07", "GDC5902Q"),
            disk("sda", 480 * GB, "DELLBOSS VD", "2.5.13.3"),
        ],
        Role::Gpu => vec![disk("nvme0n1", 3_840 * GB, "KIOXIA KCD8XRUG3T84", "3UET7104")],
        Role::Web | Role::Batch => vec![disk("nvme0n1", 960 * GB, "Micron_7450_MTFDKCC960TFR", "E2MU200")],
    }
}

fn mounts(role: Role) -> Vec<Mount> {
    let ext4 = |device, point, bytes, used| Mount { device, point, fstype: "ext4", bytes, used };
    match role {
        Role::Database => vec![
            ext4("/dev/sda2", "/", 470 * GB, 0.22),
            ext4("/dev/nvme0n1p1", "/var/lib/postgresql", 3_780 * GB, 0.47),
        ],
        Role::Gpu => vec![ext4("/dev/nvme0n1p2", "/", 3_760 * GB, 0.38)],
        Role::Web | Role::Batch => vec![ext4("/dev/nvme0n1p2", "/", 940 * GB, 0.31)],
    }
}

fn gpus(random: &mut Random) -> Vec<Gpu> {
    let gpu = |(index, slot)| Gpu {
        index,
        uuid: format!("GPU-{}", random.uuid()),
        slot,
        serial: format!("16{:011}", random.next() % 100_000_000_000),
    };
    (0..).zip(SLOTS).map(gpu).collect()
}

fn pods(node: &str, role: Role, random: &mut Random) -> Vec<Pod> {
    let of_role = match role {
        Role::Web => vec![
            pod("shop", "api-7c9f6d5b84-", "api", Kind::Api, 2 * GIB, 2_000, random),
            pod("shop", "frontend-5d8c7b9f6c-", "frontend", Kind::Frontend, GIB, 1_500, random),
        ],
        Role::Batch => vec![
            pod("billing", "settlement-6b7d9c8f55-", "settlement", Kind::Settlement, 8 * GIB, 2_000, random),
            pod("billing", "reports-84f5c6d7bb-", "reports", Kind::Reports, 4 * GIB, 1_500, random),
        ],
        Role::Database => vec![pod(
            if node == story::DISK_GONE { "ledger" } else { "shop" },
            "postgres-0",
            "postgres",
            Kind::Postgres,
            32 * GIB,
            6_000,
            random,
        )],
        Role::Gpu => vec![pod(
            "ml",
            match node {
                "gpu-01" => "finetune-7b-worker-0",
                "gpu-02" => "finetune-7b-worker-1",
                "gpu-03" => "pretrain-70b-worker-0",
                _ => "pretrain-70b-worker-1",
            },
            "trainer",
            Kind::Trainer,
            160 * GIB,
            7_000,
            random,
        )],
    };
    let mut pods = of_role;
    pods.push(pod("kube-system", "kube-proxy-", "kube-proxy", Kind::KubeProxy, GIB / 4, 250, random));
    pods.push(pod("monitoring", "node-exporter-", "node-exporter", Kind::NodeExporter, GIB / 8, 250, random));
    for pod in &mut pods {
        pod.runs = runs(node, pod.kind, random);
    }
    pods
}

/// A name that ends in a dash gets the suffix that its controller would give it.
fn pod(
    namespace: &'static str,
    name: &str,
    container: &'static str,
    kind: Kind,
    limit: i64,
    millicores: i64,
    random: &mut Random,
) -> Pod {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut name = name.to_owned();
    if name.ends_with('-') {
        name.extend((0..5).filter_map(|_| random.pick(LETTERS).map(|b| char::from(*b))));
    }
    Pod { namespace, name, uid: random.uuid(), container, kind, limit, millicores, runs: Vec::new() }
}

fn runs(node: &str, kind: Kind, random: &mut Random) -> Vec<Run> {
    const LONG: f64 = f64::INFINITY;
    let times: &[(f64, f64)] = match (node, kind) {
        (story::LEAKING, Kind::Api) => &[
            // The cgroup of a killed container is there until the runtime takes it away.
            (-LONG, story::FIRST_OOM + 0.9),
            (story::RESTARTS[0], story::SECOND_OOM + 0.9),
            (story::RESTARTS[1], LONG),
        ],
        (story::DISK_GONE, Kind::Postgres) => &[(-LONG, story::NVME_DISABLED + 2.1)],
        (story::GPU_LOST, Kind::Trainer) => &[(-LONG, story::XID_79 + 6.3)],
        _ => &[(-LONG, LONG)],
    };
    let mut pid = 3_000 + u32::try_from(random.below(28_000)).unwrap_or(0);
    let run = |(from, until): &(f64, f64)| {
        pid += 900 + u32::try_from(random.below(900)).unwrap_or(0);
        Run { id: random.hex(64), pid, from: *from, until: *until }
    };
    times.iter().map(run).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fleet_is_twelve_machines_in_order_of_name_and_each_clock_is_off() {
        let fleet = fleet();
        assert_eq!(fleet.len(), 12);
        assert!(fleet.is_sorted_by_key(|node| node.name));
        assert!(fleet.iter().all(|node| node.clock.apart().is_some()));
        let mut offsets: Vec<i64> = fleet.iter().map(|node| node.clock.ahead_nanos).collect();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), 12);
    }
}
