//! Every source over every fixture host: it opens, emits only what it declares, and says what is missing. A golden text
//! for each host and source holds readings, outcome, gaps and events (`UPDATE_GOLDEN=1`, then read the difference).
//!
//! How to add a host: a directory below `testdata/hosts`. How to add a source: nothing to do here.

#![expect(clippy::unwrap_used, reason = "a test: what it cannot set up ends it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use casefile_agent::host::Host;
use casefile_agent::sources::{ALL, Measurement, Opened, Source, SourceSpec, inventory};
use casefile_proto::gap::Gap;
use casefile_proto::sample::MetricKind;
use proptest::prelude::*;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn hosts() -> Vec<String> {
    let entries = std::fs::read_dir(testdata().join("hosts")).unwrap();
    let mut hosts: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    hosts.sort();
    assert!(hosts.len() >= 7, "{hosts:?}");
    hosts
}

fn host(name: &str) -> Host {
    Host::new(&testdata().join("hosts").join(name)).unwrap()
}

/// The sources whose numbers come from the host: all but the one about the agent's own process.
fn subjects() -> impl Iterator<Item = &'static SourceSpec> {
    ALL.iter().copied().filter(|spec| spec.name != "agent")
}

/// One source over one host.
struct Run {
    spec: &'static SourceSpec,
    out: Measurement,
    opened: Result<Box<dyn Source>, String>,
    error: Option<String>,
}

/// A series as text → its value.
type Readings = BTreeMap<String, i64>;

impl Run {
    fn of(spec: &'static SourceSpec, host: &Host) -> Self {
        let opened = match (spec.open)(host) {
            Ok(Opened::Ready(source)) => Ok(source),
            Ok(Opened::Absent { why }) => Err(format!("absent ({why})")),
            Err(error) => Err(format!("failed ({error})")),
        };
        let mut run = Self { spec, out: Measurement::new(spec.metrics), opened, error: None };
        run.measure();
        run
    }

    fn measure(&mut self) {
        self.out.begin();
        if let Ok(source) = &mut self.opened {
            self.error = source.measure(&mut self.out).err().map(|error| error.to_string());
        }
    }

    /// In the order in which they were made.
    fn told(&self) -> Vec<(String, i64)> {
        let mut told = Vec::new();
        self.out.each(&mut |metric, labels, value| {
            let pairs: Vec<_> = metric.labels.iter().zip(labels).map(|(n, v)| format!("{n}={v:?}")).collect();
            let labels = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
            told.push((format!("{}{labels}", metric.name), value));
        });
        told
    }

    fn readings(&self) -> Readings {
        self.told().into_iter().collect()
    }

    fn outcome(&self) -> String {
        match (&self.opened, &self.error, self.out.gaps()) {
            (Err(why), _, _) => why.clone(),
            (_, Some(error), _) if self.told().is_empty() => format!("failed ({error})"),
            (_, Some(error), _) => format!("partial ({error})"),
            (_, None, []) => "complete".to_owned(),
            (_, None, _) => "partial".to_owned(),
        }
    }

    fn says_that_something_is_missing(&self) -> bool {
        self.outcome() != "complete"
    }
}

fn gap_line(gap: &Gap) -> String {
    let count = gap.count.map(|count| format!(" × {count}")).unwrap_or_default();
    format!("gap {}{count}: {}\n", gap.reason, gap.detail)
}

fn golden(name: &str, text: &str) {
    let path = testdata().join("golden/sources").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read(&path).map(|bytes| String::from_utf8(bytes).unwrap());
    let expected = expected.unwrap_or_else(|e| panic!("{}: {e}: run with UPDATE_GOLDEN=1", path.display()));
    assert!(expected == text, "{} differs: run with UPDATE_GOLDEN=1, read the difference\n{text}", path.display());
}

#[test]
fn every_source_says_of_every_host_what_it_said_before() {
    for name in hosts() {
        let root = testdata().join("hosts").join(&name);
        for spec in subjects() {
            let run = Run::of(spec, &host(&name));
            let mut text = format!("{}\n", run.outcome());
            run.out.gaps().iter().for_each(|gap| text.push_str(&gap_line(gap)));
            for event in run.out.events() {
                writeln!(text, "event {} {:?} {:?}", event.at.wall, event.kind, event.text).unwrap();
            }
            for (series, value) in run.told() {
                writeln!(text, "{series} {value}").unwrap();
            }
            golden(&format!("{name}/{}.txt", spec.name), &text.replace(root.to_str().unwrap(), "ROOT"));
        }
        let (node, gaps) = inventory::describe(&host(&name));
        let mut text = serde_json::to_string_pretty(&node).unwrap() + "\n";
        gaps.iter().for_each(|gap| text.push_str(&gap_line(gap)));
        golden(&format!("{name}/node.json.txt"), &text);
    }
}

#[test]
fn what_is_read_at_first_is_read_again() {
    for name in hosts() {
        // Of a process that neither is new nor does anything, not everything is read again.
        for spec in ALL.iter().copied().filter(|spec| spec.name != "process") {
            let mut run = Run::of(spec, &host(&name));
            let first = run.readings();
            let mut later = BTreeSet::new();
            for _ in 0..70 {
                run.measure();
                assert_eq!(run.error, None, "{name} {}", spec.name);
                later.extend(run.readings().into_keys());
            }
            let lost: Vec<_> = first.keys().filter(|series| !later.contains(*series)).collect();
            assert!(lost.is_empty(), "{name} {}: {lost:?}", spec.name);
        }
    }
}

#[test]
fn an_empty_tree_gives_no_reading_and_is_never_complete() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).unwrap();
    for spec in subjects() {
        let run = Run::of(spec, &host);
        assert!(run.told().is_empty(), "{}: {:?}", spec.name, run.told());
        assert!(run.says_that_something_is_missing(), "{}", spec.name);
    }
    assert!(!inventory::describe(&host).1.is_empty());
}

#[test]
fn garbled_files_are_gaps() {
    for name in
        ["cpu", "load", "memory", "pressure", "disk", "network", "filesystem", "hardware", "kernel", "inventory"]
    {
        let run = Run::of(subjects().find(|spec| spec.name == name).unwrap(), &host("garbled"));
        assert!(!run.out.gaps().is_empty(), "{name}: {:?}", run.told());
    }
}

#[test]
fn this_machine_is_measured() {
    let host = Host::new(Path::new("/")).unwrap();
    for spec in ALL.iter().copied() {
        let run = Run::of(spec, &host);
        assert!(!run.told().is_empty() || run.says_that_something_is_missing(), "{}", spec.name);
        let garbled = run.out.gaps().iter().find(|gap| gap.reason.name() == "parse-failed");
        assert_eq!(garbled, None, "{}", spec.name);
    }
}

#[test]
fn specs_are_whole_and_no_metric_belongs_to_two_sources() {
    let mut names = BTreeMap::new();
    for spec in ALL {
        assert!(spec.every.as_secs() >= 1 && spec.every.subsec_nanos() == 0, "{}", spec.name);
        assert!(!spec.about.is_empty() && !spec.metrics.is_empty(), "{}", spec.name);
        for metric in spec.metrics {
            assert!(!metric.help.is_empty() && metric.scale.denominator > 0 && metric.scale.numerator > 0);
            let legal = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            assert!(legal(metric.name) && metric.labels.iter().all(|label| legal(label)), "{}", metric.name);
            assert_eq!(names.insert(metric.name, spec.name), None, "{}", metric.name);
        }
    }
}

/// What the sources cost on this machine: `cargo test --release -p casefile-agent --test sources -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn the_cost_of_each_source() {
    const TICKS: u32 = 500;
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        u128::from(time.tv_sec.unsigned_abs()) * 1_000_000 + u128::from(time.tv_nsec.unsigned_abs()) / 1000
    };
    let host = Host::new(Path::new("/")).unwrap();
    let mut per_second = 0.0;
    for spec in ALL {
        let mut run = Run::of(spec, &host);
        let before = cpu();
        (0..TICKS).for_each(|_| run.measure());
        let micros = (cpu() - before) as f64 / f64::from(TICKS);
        per_second += micros / spec.every.as_secs_f64();
        println!(
            "{:12} {:8.1} µs a measurement, every {:2} s, {} readings",
            spec.name,
            micros,
            spec.every.as_secs(),
            run.told().len()
        );
    }
    println!("together {per_second:.0} µs of CPU a second");
}

/// A copy of a fixture host in which files can be broken.
struct Copy {
    dir: tempfile::TempDir,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Copy {
    fn of(host: &str) -> Self {
        let (from, dir) = (testdata().join("hosts").join(host), tempfile::tempdir().unwrap());
        let mut files = Vec::new();
        let mut dirs = vec![PathBuf::new()];
        while let Some(at) = dirs.pop() {
            std::fs::create_dir_all(dir.path().join(&at)).unwrap();
            for entry in std::fs::read_dir(from.join(&at)).unwrap() {
                let entry = entry.unwrap();
                let path = at.join(entry.file_name());
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => dirs.push(path),
                    kind if kind.is_symlink() => {
                        let target = std::fs::read_link(entry.path()).unwrap();
                        std::os::unix::fs::symlink(target, dir.path().join(&path)).unwrap();
                    }
                    _ => {
                        let content = std::fs::read(entry.path()).unwrap();
                        std::fs::write(dir.path().join(&path), &content).unwrap();
                        files.push((path, content));
                    }
                }
            }
        }
        files.sort();
        Self { dir, files }
    }

    fn write(&self, path: &Path, content: &[u8]) {
        std::fs::write(self.dir.path().join(path), content).unwrap();
    }

    fn measured(&self) -> Vec<Run> {
        let host = Host::new(self.dir.path()).unwrap();
        subjects().map(|spec| Run::of(spec, &host)).collect()
    }
}

/// Files whose cut cannot be told from their whole: people write them by hand and forget the last line end.
fn may_end_anywhere(path: &Path) -> bool {
    path.starts_with("etc")
}

#[test]
fn a_file_that_is_cut_off_takes_readings_away_and_changes_none() {
    for name in ["plain-vm", "two-nics", "gpu-node"] {
        let copy = Copy::of(name);
        let intact: Vec<Readings> = copy.measured().iter().map(Run::readings).collect();
        for (path, content) in copy.files.iter().filter(|(path, _)| !may_end_anywhere(path)) {
            for cut in cuts(content) {
                copy.write(path, &content[..cut]);
                for (run, whole) in copy.measured().iter().zip(&intact) {
                    let what = format!("{name} {} cut at {cut}, source {}", path.display(), run.spec.name);
                    let readings = run.readings();
                    for (series, value) in readings.iter().filter(|(series, value)| whole.get(*series) != Some(value)) {
                        assert!(says_less(run.spec, series, whole), "{what}: {series} became {value}");
                    }
                    let lost = whole.keys().find(|series| !readings.contains_key(*series));
                    assert!(lost.is_none() || run.says_that_something_is_missing(), "{what}: lost {lost:?} in silence");
                }
            }
            copy.write(path, content);
        }
    }
}

/// Some places inside of lines.
fn cuts(content: &[u8]) -> impl Iterator<Item = usize> {
    let step = (content.len() / 2).max(1);
    (1..content.len()).step_by(step).filter(|cut| content[cut - 1] != b'\n')
}

/// What a source says of how much it has read or told: less of it when there is less.
const OWN_COUNTS: [&str; 2] = ["casefile_kernel_messages_total", "casefile_processes_read"];

/// Whether a reading that the intact host does not have is one that tells less: a count of what was read, or an
/// info metric of which some labels are empty.
fn says_less(spec: &SourceSpec, series: &str, whole: &Readings) -> bool {
    let labels = |series: &str| -> Vec<String> {
        let inside = series.split_once('{').map_or("", |(_, labels)| labels.trim_end_matches("\"}"));
        inside.split("\",").map(str::to_owned).collect()
    };
    let name = series.split('{').next().unwrap();
    let metric = spec.metrics.iter().find(|metric| metric.name == name).unwrap();
    let now = labels(series);
    OWN_COUNTS.contains(&name)
        || metric.kind == MetricKind::Info
            && whole.keys().filter(|s| s.starts_with(name)).map(|s| labels(s)).any(|before| {
                now.len() == before.len()
                    && now.iter().zip(&before).all(|(now, before)| now == before || now.ends_with("=\""))
            })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// Any bytes in any files: no panic, nothing undeclared.
    #[test]
    fn no_content_of_any_file_makes_a_source_panic(
        name in prop::sample::select(vec!["two-nics", "gpu-node"]),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..40)),
            30..60,
        ),
    ) {
        let copy = Copy::of(name);
        for (file, at, bytes) in &edits {
            let (path, content) = &copy.files[file.index(copy.files.len())];
            let mut broken = content.clone();
            let at = at.index(broken.len() + 1);
            let end = (at + bytes.len() / 2).min(broken.len());
            broken.splice(at..end, bytes.iter().copied());
            copy.write(path, &broken);
        }
        copy.measured().iter_mut().for_each(Run::measure);
        let _ = inventory::describe(&Host::new(copy.dir.path()).unwrap());
    }
}
