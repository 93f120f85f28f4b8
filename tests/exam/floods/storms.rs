//! Storms of HTTP/2 frames: each for some seconds from several connections, agents and strangers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use casefile_identity::dial::Me;
use casefile_identity::token::Token;
use casefile_tests::fleet::{Fleet, Plan, Seen};
use tokio::task::JoinSet;

use super::GROWTH_MIB;
use super::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, agent,
    frame, headers, literal,
};
use crate::apart::apart;
use crate::dial::Door;
use crate::processes::Usage;
use crate::report::Findings;
use crate::world::World;

/// Connections of each storm; every second one has the certificate of an agent.
const CONNECTIONS: usize = 8;

/// How long each lasts.
const LASTS: Duration = Duration::from_secs(3);

/// Honest agents, and how long they are watched before.
const FLEET: usize = 20;
const QUIET: Duration = Duration::from_secs(8);

/// Acks may take twice as long. Below this nothing is judged.
const FLOOR: Duration = Duration::from_millis(20);

/// What an attacker calls.
const SESSION: &str = "/casefile.v1.AgentService/Session";
const NODES: &str = "/casefile.v1.NodeService/ListNodes";

/// A storm: what is sent in one go, over and over, with the stream's number of that go.
struct Storm {
    name: &'static str,
    /// Streams that each go uses up.
    streams: u32,
    go: fn(u32) -> Vec<u8>,
}

/// All storms.
///
/// To add one: a line here.
const ALL: &[Storm] = &[
    Storm {
        name: "streams that are reset at once",
        streams: 32,
        go: |first| {
            each(first, 32, |stream| {
                [frame(HEADERS, END_HEADERS, stream, &headers(SESSION)), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])]
                    .concat()
            })
        },
    },
    Storm {
        name: "headers that go on without end",
        streams: 0,
        go: |first| {
            let begun = if first == 1 { frame(HEADERS, 0, 1, &headers(SESSION)) } else { Vec::new() };
            let mut more = Vec::new();
            literal(&mut more, "x-more", &"a".repeat(1_000));
            begun.into_iter().chain((0..16).flat_map(|_| frame(CONTINUATION, 0, 1, &more))).collect()
        },
    },
    Storm { name: "settings", streams: 0, go: |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]).repeat(256) },
    Storm { name: "pings", streams: 0, go: |_| frame(PING, 0, 0, &[7; 8]).repeat(256) },
    Storm {
        name: "data without bytes",
        streams: 0,
        go: |first| {
            let begun = if first == 1 { frame(HEADERS, END_HEADERS, 1, &headers(SESSION)) } else { Vec::new() };
            [begun, frame(DATA, 0, 1, &[]).repeat(256)].concat()
        },
    },
    Storm {
        name: "windows that overflow",
        streams: 0,
        go: |_| frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(4),
    },
    Storm {
        name: "a header list of 1 MiB",
        streams: 1,
        go: |stream| {
            let mut more = Vec::new();
            (0..15).for_each(|_| literal(&mut more, "x-more", &"a".repeat(1_000)));
            let mut out = frame(HEADERS, 0, stream, &headers(NODES));
            (0..69).for_each(|_| out.extend(frame(CONTINUATION, 0, stream, &more)));
            out.extend(frame(CONTINUATION, END_HEADERS, stream, &more));
            out
        },
    },
    Storm {
        name: "streams without end, 10,000 and more",
        streams: 256,
        go: |first| each(first, 256, |stream| frame(HEADERS, END_HEADERS, stream, &headers(SESSION))),
    },
    Storm {
        name: "calls whose body never comes",
        streams: 32,
        go: |first| {
            each(first, 32, |stream| {
                [frame(HEADERS, END_HEADERS, stream, &headers(NODES)), frame(DATA, 0, stream, &[0, 0, 1, 0, 0])]
                    .concat()
            })
        },
    },
    Storm {
        name: "calls that are refused, as many as can be",
        streams: 32,
        go: |first| each(first, 32, |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &headers(NODES))),
    },
];

fn each(first: u32, count: u32, of: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(|number| of((first.wrapping_add(2 * number) & 0x7fff_ffff) | 1)).collect()
}

/// All of them, one after the other, beside honest agents.
pub(super) async fn all(world: &mut World, findings: &mut Findings) -> Result<()> {
    let pid = world.collector.pid().context("the collector runs")?;
    let frames = QUIET.as_secs() + (LASTS.as_secs() + 1) * ALL.len() as u64;
    let spread = Duration::from_millis(900);
    let plan = Plan { to: world.door.address()?, nodes: FLEET, frames, spread };
    let fleet = Fleet::connect(&plan, &world.door.authority()?).await?;
    let before = resident(pid)?;
    let door = world.door.clone();
    let owner = Token::load(&casefile_collector::data::owner_token_below(&door.data))?;
    let attacking = tokio::spawn(async move {
        tokio::time::sleep(QUIET).await;
        let began = Instant::now();
        let mut seen = Vec::new();
        for (number, storm) in ALL.iter().enumerate() {
            let (used, begun) = (Usage::of(pid)?, Instant::now());
            let (door, nobody) = (door.clone(), Me::Nobody(owner.pin()));
            let goes = apart(move || blow(door, number, nobody)).await?;
            let core = Usage::of(pid)?.cpu.saturating_sub(used.cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
            seen.push((storm.name, goes, core, resident(pid)?));
        }
        Ok::<_, anyhow::Error>((began, Instant::now(), seen))
    });
    let seen = fleet.run().await?;
    let (began, ended, storms) = attacking.await??;
    let mut most = before;
    for (name, goes, core, mib) in storms {
        most = most.max(mib);
        findings.require(goes > 0, || format!("{name}: nothing of it was sent, so nothing was tried"));
        findings.figure(format!("{name}: goes; the collector, of a core; MiB"), format!("{goes}; {core:.2}; {mib:.0}"));
    }
    findings.require(most - before < GROWTH_MIB, || {
        format!("the collector grew from {before:.0} to {most:.0} MiB under floods of HTTP/2")
    });
    findings.require(world.collector.runs()?, || format!("the collector ended:\n{}", world.collector.tail()));
    judge(&seen, FLEET as u64 * frames, began, ended, findings);
    Ok(())
}

fn judge(seen: &Seen, all: u64, began: Instant, ended: Instant, findings: &mut Findings) {
    let quiet = seen.latency_of(0.99, |sent| sent < began);
    let under = seen.latency_of(0.99, |sent| sent >= began && sent < ended);
    let millis = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    findings.figure("milliseconds to an ack, 99th percentile, quiet", millis(quiet));
    findings.figure("milliseconds to an ack, 99th percentile, flooded", millis(under));
    findings.in_time(under <= (quiet * 2).max(FLOOR), || {
        format!("acks of honest agents took {under:?} at the 99th percentile under floods, and {quiet:?} before")
    });
    let (broken, why) = seen.broken();
    findings.require(broken == 0, || format!("{broken} sessions of honest agents broke, the last because: {why}"));
    let acked = seen.acked();
    findings.require(acked == all, || format!("{acked} of {all} frames of honest agents were acknowledged"));
}

/// One storm from all connections; how many goes were sent. Whoever is cut off dials again.
async fn blow(door: Door, number: usize, nobody: Me) -> Result<u64> {
    let at = door.listen;
    let storm = ALL.get(number).context("a storm")?;
    let until = Instant::now() + LASTS;
    let mut blowing = JoinSet::new();
    let goes = Arc::new(std::sync::atomic::AtomicU64::new(0));
    for attacker in 0..CONNECTIONS {
        let me = if attacker % 2 == 0 { agent(&door, attacker)? } else { nobody.clone() };
        let goes = Arc::clone(&goes);
        blowing.spawn(async move {
            while Instant::now() < until {
                // No room for it now: again.
                let Ok(mut connection) = Http2::connect(at, &me).await else { continue };
                let mut stream = 1u32;
                while Instant::now() < until && stream < 0x7000_0000 {
                    if connection.send(&(storm.go)(stream)).await.is_err() {
                        break;
                    }
                    goes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    stream = stream.wrapping_add(2 * storm.streams.max(1));
                }
            }
        });
    }
    while let Some(ended) = blowing.join_next().await {
        ended?;
    }
    Ok(goes.load(std::sync::atomic::Ordering::Relaxed))
}

/// MiB that a process has in memory now.
fn resident(pid: u32) -> Result<f64> {
    let status = std::fs::read(format!("/proc/{pid}/status")).context("read a status")?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a status file")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
