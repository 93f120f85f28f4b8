//! Restart: a collector that holds the recordings of many nodes is killed and started again. How long until it answers?
//!
//! The recordings are made by the real writer, once; every further node gets the same blocks behind a header of its own.
//! Measured from the start of the process to the first answer of the API that lists every node, with what the disk has to
//! give (the files are dropped from the cache) and with what memory still has.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use casefile_collector::last_words::NodeNumbers;
use casefile_collector::store::sqlite::SqliteStore;
use casefile_evidence::recording::Header;
use casefile_evidence::recording::delta::Encoder;
use casefile_evidence::recording::segment::{Retention, Store};
use casefile_proto::ids::{BootId, FrameSeq, NodeName};
use casefile_proto::sample::{
    Frame, MetricDef, MetricIndex, MetricKind, Outcome, Reading, Sample, Schema, SeriesDef, SeriesId, SourceDef,
    SourceIndex,
};
use casefile_proto::time::{BootTime, Stamp};
use casefile_proto::units::{Bytes, Scale, Unit};
use rustix::fs::{Advice, fadvise};

use crate::dial;
use crate::item::{Ask, Item};
use crate::random::Random;
use crate::report::Findings;
use crate::world::World;

/// The item.
pub(crate) const ITEM: Item = Item {
    name: "restart",
    proves: "A collector that holds gibibytes of recordings answers two seconds after it was started",
    counts: "MiB of recordings",
    short: 200,
    full: 10 << 10,
    needs: &[],
    run: run_item,
};

/// What one node has: some hours of a quiet one.
const PER_NODE: u64 = 8 << 20;

/// Series of a node.
const SERIES: u32 = 400;

/// The promise.
const PROMISED: Duration = Duration::from_secs(2);

/// What is not there by then never comes.
const GIVE_UP: Duration = Duration::from_secs(120);

/// How often it is started, of which the first time from the disk.
const STARTS: usize = 3;

fn run_item(ask: &Ask) -> Result<Findings> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(restart(ask))
}

async fn restart(ask: &Ask) -> Result<Findings> {
    let mut findings = Findings::of(ask);
    let mut world = World::new(None).await?;
    // The real one makes its directory and its index.
    world.collector.start()?;
    world.answers().await?;
    world.collector.stop()?;
    let nodes = (ask.times << 20).div_ceil(PER_NODE).max(1);
    // A name as long as those of the nodes: then what is noted of the lengths of the files is right of each.
    let template = template(&world.path("template"), &"node-00000".parse()?, ask.seed)?;
    let index = SqliteStore::open(&world.door.data.join("index.sqlite"))?;
    let (mut files, mut bytes) = (Vec::new(), 0);
    for number in 1..=nodes {
        let node: NodeName = format!("node-{number:05}").parse()?;
        let dir = world.door.data.join("last-words").join(index.number(&node)?.to_string());
        bytes += copy(&template, &dir, &node, &mut files)?;
    }
    drop(index);
    for path in &files {
        let file = File::open(path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    findings.figure("nodes", nodes);
    findings.figure("MiB of recordings", bytes >> 20);
    findings.figure("files", files.len());
    for number in 0..STARTS {
        let begun = Instant::now();
        world.collector.start()?;
        let ready = ready(&mut world, nodes, begun).await?;
        let name = if number == 0 { "ready after, from the disk, s" } else { "ready after, from the cache, s" };
        findings.figure(name, (ready.as_secs_f64() * 1e3).round() / 1e3);
        findings.in_time(ready <= PROMISED, || format!("{name}: {ready:?} is above {PROMISED:?}"));
        world.collector.kill();
    }
    Ok(findings)
}

/// Waits until every node is listed with what is held of it.
async fn ready(world: &mut World, nodes: u64, begun: Instant) -> Result<Duration> {
    loop {
        if let Ok(mut client) = dial::person(&world.door).await
            && let Ok(listed) = client.nodes().await
        {
            let ready = begun.elapsed();
            let held = listed.iter().filter(|node| node.last_words.is_some()).count() as u64;
            ensure!(held == nodes, "it answers, and lists {held} of {nodes} nodes with something held of them");
            return Ok(ready);
        }
        if begun.elapsed() > GIVE_UP || !world.collector.runs()? {
            bail!("it does not answer; it said last:\n{}", world.collector.tail());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The files of one node: their names, whether a header record is the first in them, and what else they hold.
struct Template {
    files: Vec<(PathBuf, bool, Vec<u8>)>,
}

/// Records as many frames as one node has, with the real writer.
fn template(dir: &Path, node: &NodeName, seed: u64) -> Result<Template> {
    let mut random = Random::new(seed);
    let retention = Retention { bytes: Bytes::mib(1024), age: Duration::from_secs(1 << 24) };
    let mut store = Store::open(dir, retention)?;
    let mut encoder = Encoder::new(header(node));
    store.append(&encoder.header())?;
    let now = casefile_collector::clock::now();
    let mut seq = 0;
    while store.held().0.0 < PER_NODE {
        seq += 1;
        let at = Stamp {
            wall: now.wall.offset(i64::try_from(seq)? * 1_000_000_000),
            boot: BootTime::from_nanos(now.boot.nanos() + seq * 1_000_000_000),
        };
        let mut record = Vec::new();
        encoder.frame(&frame(seq, at, &mut random), &mut record);
        store.append(&record)?;
    }
    store.sync()?;
    drop(store);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        let name: PathBuf = path.file_name().context("a file name")?.into();
        let is_recording = name.extension().is_some_and(|e| e == "seg") || name.as_os_str() == "tail";
        let has_header = is_recording && !bytes.is_empty();
        let rest = if has_header {
            // length, type, checksum, body: FORMAT.md, "Numbers and records".
            let length = bytes.get(..4).context("the length of a header record")?;
            let body = usize::try_from(u32::from_le_bytes(length.try_into()?))?;
            bytes.get(body + 9..).context("a header record")?.to_vec()
        } else {
            bytes
        };
        files.push((name, has_header, rest));
    }
    Ok(Template { files })
}

fn copy(template: &Template, dir: &Path, node: &NodeName, files: &mut Vec<PathBuf>) -> Result<u64> {
    fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
    let header = Encoder::new(header(node)).header();
    let mut bytes = 0;
    for (name, has_header, rest) in &template.files {
        let path = dir.join(name);
        let mut file = File::create(&path)?;
        if *has_header {
            file.write_all(&header)?;
            bytes += header.len() as u64;
        }
        file.write_all(rest)?;
        bytes += rest.len() as u64;
        files.push(path);
    }
    Ok(bytes)
}

fn header(node: &NodeName) -> Header {
    let metric = MetricDef {
        name: "exam_value".to_owned(),
        help: String::new(),
        kind: MetricKind::Gauge,
        unit: Unit::Count,
        scale: Scale::ONE,
        labels: vec!["of".to_owned()],
    };
    let source = SourceDef {
        name: "exam".to_owned(),
        about: String::new(),
        every_nanos: 1_000_000_000,
        deadline_nanos: 1_000_000_000,
        metrics: vec![metric],
    };
    Header {
        node: node.clone(),
        boot: BootId::from_bytes([9; 16]),
        agent_version: "0.1.0".to_owned(),
        schema: Arc::new(Schema { sources: vec![source] }),
    }
}

fn frame(seq: u64, at: Stamp, random: &mut Random) -> Frame {
    let define =
        |id: u32| (SeriesId(id), SeriesDef { metric: MetricIndex(0), labels: [format!("series {id}").into()].into() });
    let mut reading = |id| Reading { series: SeriesId(id), value: i64::try_from(random.below(1 << 16)).unwrap_or(0) };
    let sample = Sample {
        source: SourceIndex(0),
        outcome: Outcome::Complete,
        took_nanos: 1,
        defined: if seq == 1 { (0..SERIES).map(define).collect() } else { Vec::new() },
        readings: (0..SERIES).map(&mut reading).collect(),
    };
    Frame { boot: BootId::from_bytes([9; 16]), seq: FrameSeq(seq), at, samples: vec![sample], events: Vec::new() }
}
