//! What containers wrote, as the agent brings it: `TIME STREAM TEXT`, one file for each container, all of its runs in it.

use std::fmt::Write as _;

use super::kernel::is_inside;
use super::{Log, nanos};
use crate::node::{Kind, Node, Pod};
use crate::random::Random;
use crate::story::{self, Disk};

struct Line {
    t: f64,
    error: bool,
    text: String,
}

struct Told {
    lines: Vec<Line>,
}

impl Told {
    fn out(&mut self, t: f64, text: impl Into<String>) {
        self.lines.push(Line { t, error: false, text: text.into() });
    }

    fn err(&mut self, t: f64, text: impl Into<String>) {
        self.lines.push(Line { t, error: true, text: text.into() });
    }
}

/// The logs of all containers of a machine.
pub(crate) fn logs(node: &Node) -> Vec<Log> {
    node.pods.iter().map(|pod| log(node, pod)).collect()
}

fn log(node: &Node, pod: &Pod) -> Log {
    let mut random = Random::of(&format!("{} {} says", node.name, pod.container));
    let mut told = Told { lines: Vec::new() };
    match pod.kind {
        Kind::Frontend => frontend(node, &mut told, &mut random),
        Kind::Api => api(node, pod, &mut told, &mut random),
        Kind::Settlement => settlement(&mut told, &mut random),
        Kind::Reports => reports(&mut told, &mut random),
        Kind::Postgres => postgres(node, &mut told, &mut random),
        Kind::Trainer => trainer(node, &mut told, &mut random),
        Kind::KubeProxy | Kind::NodeExporter => {}
    }
    let mut lines = told.lines;
    lines.sort_by(|a, b| a.t.total_cmp(&b.t));
    let mut text = String::new();
    let mut records = 0;
    for line in lines.iter().filter(|line| is_inside(line.t)) {
        // Nothing writes at whole microseconds.
        let at = node.stamp(line.t).wall.offset(i64::try_from(random.below(1_000)).unwrap_or(0));
        let stream = if line.error { "stderr" } else { "stdout" };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{} {stream} {}", nanos(at), line.text);
        records += 1;
    }
    Log {
        path: format!("logs/pods/{}/{}.log", pod.directory(), pod.container),
        source: "pods",
        method: format!("/var/log/pods/{}/{}, CRI format, bisected by time", pod.directory(), pod.container),
        times: None,
        bytes: text.into_bytes(),
        records,
        gaps: Vec::new(),
    }
}

/// Times about so many seconds apart.
fn times(every: f64, random: &mut Random) -> Vec<f64> {
    let mut out = Vec::new();
    let mut t = random.between(0.0, every);
    while t < 1_800.0 {
        out.push(t);
        t += random.between(0.2, 1.8) * every;
    }
    out
}

const PATHS: [&str; 6] = ["/", "/cart", "/checkout", "/product/1842", "/product/77", "/search?q=lamp"];

/// Whether the pod that leaks does not answer: its callers see it a little later than it happens.
fn is_down(t: f64) -> bool {
    let [first, second] = story::RESTARTS;
    (story::FIRST_OOM..first + 6.0).contains(&t) || (story::SECOND_OOM..second + 6.0).contains(&t)
}

fn frontend(node: &Node, told: &mut Told, random: &mut Random) {
    for t in times(1.6, random) {
        let path = random.pick(&PATHS).copied().unwrap_or("/");
        let (ms, trace) = (random.below(60) + 9, random.hex(16));
        // A quarter of the calls go to the replica that leaks, wherever they come from.
        if is_down(t) && random.below(4) == 0 {
            let why = if random.below(2) == 0 { "connect ECONNREFUSED" } else { "socket hang up" };
            told.err(t, format!("level=error msg=\"upstream request failed\" upstream=api.shop.svc:8080 path={path} err=\"{why}\" trace={trace}"));
            told.out(
                t + 0.001,
                format!("level=info msg=request method=GET path={path} status=500 duration_ms={ms} trace={trace}"),
            );
        } else {
            told.out(
                t,
                format!("level=info msg=request method=GET path={path} status=200 duration_ms={ms} trace={trace}"),
            );
        }
    }
    if node.name != story::LEAKING {
        return;
    }
    for t in [story::FIRST_OOM + 1.1, story::SECOND_OOM + 1.4] {
        told.err(t, "level=error msg=\"health check of upstream failed\" upstream=api.shop.svc:8080 err=\"connect ECONNREFUSED\"");
    }
}

fn api(node: &Node, pod: &Pod, told: &mut Told, random: &mut Random) {
    let leaks = node.name == story::LEAKING;
    for t in times(1.3, random) {
        if pod.run(t).is_none() || (leaks && is_down(t)) {
            continue;
        }
        let path = random.pick(&["/v1/cart", "/v1/price", "/v1/stock", "/v1/order"]).copied().unwrap_or("/");
        // Waiting for memory makes it slow before it dies.
        let slow = if leaks { story::leak(t).stall * 900.0 } else { 0.0 };
        let ms = random.between(4.0, 22.0) + slow * random.unit();
        told.out(
            t,
            format!("{{\"level\":\"info\",\"msg\":\"handled\",\"path\":\"{path}\",\"status\":200,\"ms\":{ms:.1}}}"),
        );
    }
    if !leaks {
        return;
    }
    for minute in 1_i32..30 {
        let t = f64::from(minute) * 60.0 - 7.5;
        let leak = story::leak(t);
        if leak.runs {
            let mib = crate::board::whole(leak.bytes / 1_048_576.0);
            told.out(
                t,
                format!(
                    "{{\"level\":\"info\",\"msg\":\"session cache\",\"entries\":{},\"heap_mib\":{mib}}}",
                    mib * 411
                ),
            );
        }
    }
    for t in story::RESTARTS {
        told.out(t + 0.4, "{\"level\":\"info\",\"msg\":\"starting\",\"version\":\"2.31.0\",\"gomaxprocs\":2}");
        told.out(t + 2.1, "{\"level\":\"info\",\"msg\":\"session cache loaded\",\"entries\":172620}");
        told.out(t + 5.9, "{\"level\":\"info\",\"msg\":\"listening\",\"address\":\":8080\"}");
    }
}

fn settlement(told: &mut Told, random: &mut Random) {
    for (n, t) in times(6.0, random).into_iter().enumerate() {
        if t > story::DISK_STALLS + 5.0 && t < story::NVME_DISABLED {
            told.err(t, format!("WARN batch {} of ledger entries is waiting for the ledger database", 88_120 + n));
        } else if t >= story::NVME_DISABLED {
            told.err(t, format!("ERROR batch {} of ledger entries: connection to ledger failed: could not connect to server: Connection refused", 88_120 + n));
        } else {
            told.out(
                t,
                format!("INFO batch {} of ledger entries settled: {} entries", 88_120 + n, random.below(4_000) + 700),
            );
        }
    }
}

fn reports(told: &mut Told, random: &mut Random) {
    for t in times(11.0, random) {
        told.out(t, format!("INFO report {} rendered in {} ms", random.hex(6), random.below(2_400) + 180));
    }
}

fn postgres(node: &Node, told: &mut Told, random: &mut Random) {
    for t in times(30.0, random) {
        if story::disk(node.name, t) == Disk::Well {
            let buffers = random.below(9_000) + 1_200;
            told.err(t, format!("LOG:  checkpoint complete: wrote {buffers} buffers (0.{}%); write=26.9 s, sync=0.0{} s, total=27.0 s", random.below(9) + 1, random.below(9)));
        }
    }
    if node.name != story::DISK_GONE {
        return;
    }
    let gone = story::NVME_DISABLED;
    told.err(
        story::DISK_STALLS + 31.2,
        "LOG:  process 91 still waiting for ShareLock on transaction 90412233 after 1000.071 ms",
    );
    told.err(story::DISK_STALLS + 61.8, "LOG:  duration: 60031.442 ms  statement: COMMIT");
    told.err(gone + 0.012, "ERROR:  could not extend file \"base/16384/24718.3\": Read-only file system");
    told.err(gone + 0.019, "PANIC:  could not write to file \"pg_wal/xlogtemp.55\": Input/output error");
    told.err(gone + 0.214, "LOG:  server process (PID 91) was terminated by signal 6: Aborted");
    told.err(gone + 0.215, "LOG:  terminating any other active server processes");
    told.err(gone + 1.602, "FATAL:  could not open file \"global/pg_control\": Input/output error");
    told.err(gone + 1.98, "LOG:  database system is shut down");
}

fn trainer(node: &Node, told: &mut Told, random: &mut Random) {
    let mut step = 41_200 + random.below(50);
    let mut t = random.between(0.0, 4.1);
    while t < 1_800.0 && story::trains(node.name, t) {
        let loss = random.between(2.08, 2.12);
        told.out(
            t,
            format!(
                "step {step} loss {loss:.4} tokens/s {} grad_norm 0.{}",
                41_800 + random.below(500),
                random.below(30) + 31
            ),
        );
        step += 1;
        t += random.between(4.05, 4.2);
    }
    let xid = story::XID_79;
    if node.name == story::GPU_LOST {
        told.err(xid + 0.2, "[rank2]: torch.AcceleratorError: CUDA error: unspecified launch failure");
        told.err(
            xid + 0.3,
            "gpu-03:1187:1203 [2] misc/strongstream.cc:395 NCCL WARN Cuda failure 719 'unspecified launch failure'",
        );
        told.err(
            xid + 1.1,
            "W torch/distributed/elastic/multiprocessing/api.py:897 Sending process 1185 closing signal SIGTERM",
        );
        told.err(xid + 6.1, "E torch/distributed/elastic/multiprocessing/api.py:869 failed (exitcode: 1) local_rank: 2 (pid: 1187) of binary: /usr/bin/python3");
    }
    if node.name == story::GPU_WAITING {
        told.err(xid + 6.4, "gpu-04:2214:2290 [0] transport/net_ib.cc:2066 NCCL WARN NET/IB: Got completion from peer 10.20.0.17 with status=12 opcode=0 len=0 vendor err 129");
        told.err(xid + 601.2, "[rank4]:[E ProcessGroupNCCL.cpp:632] [Rank 4] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=824411, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600013 milliseconds before timing out.");
    }
}
