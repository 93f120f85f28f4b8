//! The tools beside which we are measured, run over the same files in the same run, and their output as ours would be.

use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::data::PREFIXES;

/// What a tool cost, and how many lines it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ran {
    pub(crate) cpu: Duration,
    pub(crate) lines: u64,
}

/// `grep` for the minutes: fixed beginnings of lines, no locale.
pub(crate) fn grep(files: &[&PathBuf]) -> io::Result<Ran> {
    run(&mut |_| {}, || Ok(vec![grep_for(files).stdout(Stdio::piped()).spawn()?]))
}

fn grep_for(files: &[&PathBuf]) -> Command {
    let mut grep = Command::new("grep");
    grep.env("LC_ALL", "C").arg("-h").args(PREFIXES.iter().flat_map(|p| ["-e".to_owned(), format!("^{p}")]));
    grep.args(files);
    grep
}

/// What comes behind `zcat`.
pub(crate) struct Filter {
    pub(crate) name: &'static str,
    pub(crate) program: &'static str,
    args: [&'static str; 2],
}

/// Every way to filter by time that people write down; the fastest counts.
pub(crate) const FILTERS: [Filter; 5] = [
    Filter {
        name: "mawk, comparing",
        program: "mawk",
        args: ["$0 >= \"2026-11-23T12:00\" && $0 < \"2026-11-23T12:15\"", ""],
    },
    Filter { name: "mawk, matching", program: "mawk", args: ["/^2026-11-23T12:(0|1[0-4])/", ""] },
    Filter {
        name: "gawk, comparing",
        program: "gawk",
        args: ["$0 >= \"2026-11-23T12:00\" && $0 < \"2026-11-23T12:15\"", ""],
    },
    Filter { name: "gawk, matching", program: "gawk", args: ["/^2026-11-23T12:(0|1[0-4])/", ""] },
    Filter { name: "grep", program: "grep", args: ["-E", "^2026-11-23T12:(0|1[0-4])"] },
];

impl Filter {
    pub(crate) fn is_awk(&self) -> bool {
        self.program != "grep"
    }
}

/// `zcat FILES | FILTER`, plain files among them.
pub(crate) fn zcat(files: &[&PathBuf], filter: &Filter) -> io::Result<Ran> {
    run(&mut |_| {}, || zcat_into(files, filter))
}

fn zcat_into(files: &[&PathBuf], filter: &Filter) -> io::Result<Vec<Child>> {
    let mut zcat = Command::new("zcat").arg("-f").args(files).stdout(Stdio::piped()).spawn()?;
    let from = zcat.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let args = filter.args.iter().filter(|a| !a.is_empty());
    let mut command = Command::new(filter.program);
    let filter = command.env("LC_ALL", "C").args(args).stdin(from).stdout(Stdio::piped()).spawn();
    if filter.is_err() {
        // Nobody reads what it says.
        zcat.kill()?;
        zcat.wait()?;
    }
    Ok(vec![zcat, filter?])
}

/// What `zcat -f FILES | grep` says of one container, in the form in which we give records: without the tag.
pub(crate) fn content(files: &[PathBuf]) -> io::Result<[u8; 32]> {
    let files: Vec<&PathBuf> = files.iter().collect();
    let mut sha256 = Sha256::new();
    let mut each = |line: &[u8]| {
        let tag = line.windows(3).position(|w| w == b" F ").unwrap_or(0);
        sha256.update(&line[..tag]);
        sha256.update(&line[tag + 2..]);
    };
    run(&mut each, || zcat_into(&files, &FILTERS[FILTERS.len() - 1]))?;
    Ok(sha256.finalize().into())
}

fn run(each: &mut dyn FnMut(&[u8]), start: impl FnOnce() -> io::Result<Vec<Child>>) -> io::Result<Ran> {
    let before = cpu_of_children()?;
    let mut children = start()?;
    let last = children.last_mut().and_then(|c| c.stdout.take()).ok_or(io::ErrorKind::BrokenPipe)?;
    let mut out = BufReader::with_capacity(1 << 16, last);
    let (mut line, mut lines) = (Vec::new(), 0);
    while out.read_until(b'\n', &mut line)? > 0 {
        each(&line);
        line.clear();
        lines += 1;
    }
    for mut child in children {
        child.wait()?;
    }
    Ok(Ran { cpu: cpu_of_children()? - before, lines })
}

/// User and system time of the children that were waited for, in ticks of 10 ms.
fn cpu_of_children() -> io::Result<Duration> {
    let mut stat = String::new();
    io::Read::read_to_string(&mut std::fs::File::open(Path::new("/proc/self/stat"))?, &mut stat)?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_ascii_whitespace().skip(13).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
