//! Tries a fleet against a running collector: fleet_try DATA ADDR NODES FRAMES SPREAD_MS PID
use std::time::Duration;
use casefile_identity::authority::Authority;
use casefile_tests::fleet::{Fleet, Plan};
fn cpu(pid: &str) -> f64 {
    let s = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn rss(pid: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().lines().filter(|l| l.starts_with("VmRSS") || l.starts_with("VmHWM")).collect::<Vec<_>>().join(" ")
}
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let a: Vec<String> = std::env::args().collect();
    let authority = Authority::load_or_make(&std::path::Path::new(&a[1]).join("keys"), casefile_tests::now())?;
    let plan = Plan { to: a[2].parse()?, nodes: a[3].parse()?, frames: a[4].parse()?, spread: Duration::from_millis(a[5].parse()?) };
    let pid = &a[6];
    let began = std::time::Instant::now();
    let c0 = cpu(pid);
    let fleet = Fleet::connect(&plan, &authority).await?;
    println!("connected in {:?}; collector cpu {:.2}s; {}", began.elapsed(), cpu(pid) - c0, rss(pid));
    let (c1, own, began) = (cpu(pid), cpu("self"), std::time::Instant::now());
    let seen = fleet.run().await?;
    let took = began.elapsed().as_secs_f64();
    println!("ran {took:.1}s sent {} acked {} broken {:?}", seen.sent(), seen.acked(), seen.broken());
    println!("collector {:.3} of a core; fleet {:.3}; {}", (cpu(pid) - c1) / took, (cpu("self") - own) / took, rss(pid));
    println!("p50 {:?} p90 {:?} p99 {:?} p999 {:?} max {:?}", seen.latency(0.5), seen.latency(0.9), seen.latency(0.99), seen.latency(0.999), seen.latency(1.0));
    Ok(())
}
