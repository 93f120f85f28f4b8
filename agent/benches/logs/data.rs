//! The container logs that are measured: a day of a few dozen pods, the same bytes in every run, plain and as kubelet
//! leaves them (per container three compressed files, a rotated one and the current one).

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use casefile_proto::time::{NANOS_PER_SEC, WallTime, Window};
use flate2::Compression;
use flate2::write::GzEncoder;

/// The day begins here.
const BEGIN: &str = "2026-11-23T00:00:00Z";
const DAY: u64 = 86_400 * NANOS_PER_SEC.unsigned_abs();

/// About what a line takes.
const LINE: u64 = 145;

/// Of each container: files that rotation compressed, and that it left plain (the current one among them).
const PACKED: usize = 3;
const FILES: usize = 5;

/// Fifteen minutes out of the middle, and the same as prefixes of lines.
pub(crate) fn window() -> Window {
    let edge = |text: &str| text.parse().unwrap();
    Window::new(edge("2026-11-23T12:00:00Z"), edge("2026-11-23T12:15:00Z")).unwrap()
}

/// What the lines of that window begin with: `2026-11-23T12:` and one of these.
pub(crate) const PREFIXES: [&str; 2] = ["2026-11-23T12:0", "2026-11-23T12:1[0-4]"];

/// A host root with logs in it.
pub(crate) struct Logs {
    /// The host root.
    pub(crate) root: PathBuf,
    /// The files of each container, oldest first.
    pub(crate) containers: Vec<Vec<PathBuf>>,
}

impl Logs {
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.containers.iter().flatten()
    }

    /// On disk.
    pub(crate) fn size(&self) -> u64 {
        self.files().map(|f| f.metadata().unwrap().len()).sum()
    }

    /// How many of the files are compressed.
    pub(crate) fn packed(&self) -> usize {
        self.files().filter(|f| f.extension().is_some_and(|e| e == "gz")).count()
    }
}

/// One plain file for each pod.
pub(crate) fn plain(root: &Path, pods: u64, size: u64) -> Logs {
    let containers = (0..pods).map(|pod| vec![write_log(root, pod, size / pods)]).collect();
    Logs { root: root.to_owned(), containers }
}

/// The same lines, rotated five times a day.
pub(crate) fn rotated(root: &Path, plain: &Logs) -> Logs {
    let containers = plain.containers.iter().map(|files| {
        let dir = root.join(files[0].parent().unwrap().strip_prefix(&plain.root).unwrap());
        fs::create_dir_all(&dir).unwrap();
        rotate(&files[0], &dir).unwrap()
    });
    Logs { root: root.to_owned(), containers: containers.collect() }
}

fn rotate(log: &Path, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let begin: WallTime = BEGIN.parse().unwrap();
    let mut lines = BufReader::with_capacity(1 << 20, File::open(log)?);
    let (mut line, mut paths) = (Vec::new(), Vec::new());
    let mut more = lines.read_until(b'\n', &mut line)? > 0;
    for file in 0..FILES {
        let end = begin.after(Duration::from_nanos(DAY / FILES as u64 * (file as u64 + 1)));
        let stamp = end.to_seconds_text().replace(['-', ':', 'Z'], "").replace('T', "-");
        let name = match file {
            _ if file + 1 == FILES => "0.log".to_owned(),
            _ if file < PACKED => format!("0.log.{stamp}.gz"),
            _ => format!("0.log.{stamp}"),
        };
        let path = dir.join(name);
        let plain = BufWriter::with_capacity(1 << 20, File::create(&path)?);
        let mut out: Box<dyn Write> = match file < PACKED {
            // As Go's gzip does when nothing is said, and kubelet says nothing.
            true => Box::new(GzEncoder::new(plain, Compression::new(6))),
            false => Box::new(plain),
        };
        let end = end.to_string();
        let end = end.trim_end_matches('Z').as_bytes();
        while more && (file + 1 == FILES || line.as_slice() < end) {
            out.write_all(&line)?;
            line.clear();
            more = lines.read_until(b'\n', &mut line)? > 0;
        }
        out.flush()?;
        paths.push(path);
    }
    Ok(paths)
}

/// The same numbers in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[usize::try_from(self.below(list.len() as u64)).unwrap()]
    }
}

/// A day of one pod, evenly spread.
fn write_log(root: &Path, pod: u64, size: u64) -> PathBuf {
    let dir =
        root.join(format!("var/log/pods/shop_{}-{pod}_0a1b2c3d/app", ["api", "web", "db", "queue"][pod as usize % 4]));
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("0.log");
    let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    let mut dice = Dice::new(pod + 1);
    let begin: WallTime = BEGIN.parse().unwrap();
    let lines = (size / LINE).max(1);
    for line in 0..lines {
        let nanos = u128::from(line) * u128::from(DAY) / u128::from(lines);
        let at = begin.after(Duration::from_nanos(u64::try_from(nanos).unwrap() + dice.below(1_000_000)));
        write_line(&mut file, at, pod, line, &mut dice).unwrap();
    }
    file.flush().unwrap();
    path
}

/// One line as programs write them: structured, free, an access log, klog, a stack trace.
pub(crate) fn write_line(out: &mut dyn Write, at: WallTime, pod: u64, line: u64, dice: &mut Dice) -> io::Result<()> {
    let stream = if dice.below(8) == 0 { "stderr" } else { "stdout" };
    write!(out, "{at} {stream} F ")?;
    let level = dice.of(&["info", "info", "info", "debug", "warn", "error"]);
    let route = dice.of(&["orders", "users", "cart/items", "health", "search", "v2/checkout"]);
    let took = dice.below(100_000);
    match (pod % 4, dice.below(20)) {
        (_, 0) => {
            writeln!(out, "\tat org.shop.{}.Handler.handle(Handler.java:{})", route.replace('/', "."), took % 999)
        }
        (0, _) => writeln!(
            out,
            "{{\"level\":\"{level}\",\"msg\":\"request served\",\"method\":\"GET\",\"path\":\"/api/{route}/{}\",\"status\":{},\
             \"took_us\":{took},\"trace\":\"{:016x}\"}}",
            dice.below(100_000),
            if dice.below(50) == 0 { 500 } else { 200 },
            dice.next()
        ),
        (1, _) => writeln!(
            out,
            "10.{}.{}.{} - - \"POST /{route}?page={} HTTP/1.1\" 200 {took} \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\"",
            dice.below(4),
            dice.below(256),
            dice.below(256),
            dice.below(50)
        ),
        (2, _) => writeln!(
            out,
            "LOG:  duration: {}.{:03} ms  execute <unnamed>: SELECT id, state FROM {} WHERE customer = {}",
            took / 1000,
            took % 1000,
            route.replace('/', "_"),
            dice.below(1_000_000)
        ),
        _ => writeln!(
            out,
            "I1123 controller.go:{}] \"Reconciled\" object=\"shop/{route}-{:08x}\" queue={} line={line} level={level}",
            dice.below(900),
            dice.next() >> 32,
            dice.below(40)
        ),
    }
}
