//! A case file of which every text is a payload, through every verb, every export and the report: a terminal is told nothing that it
//! would obey, a spreadsheet no formula, a Markdown reader no link, and a browser no element or attribute that is not ours.
//!
//! What a browser really does with it, `tests/page/hostile` sees.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::OnceLock;

use casefile_evidence::archive::layout;
use casefile_review::casefile::CaseFile;
use casefile_tests::hostile_case::{Case, NODES, Words};
use casefile_tests::payloads::HIDDEN;
use casefile_tests::program::{command, run, said, stdout};
use regex::Regex;

/// The case files, made once.
struct Made {
    dir: tempfile::TempDir,
}

impl Made {
    /// With what our own checks say, or with what somebody forged; of payloads or of words.
    fn path(&self, words: Words, forged: bool) -> PathBuf {
        self.dir.path().join(format!("{words:?}-{forged}.tar.gz"))
    }

    fn text(&self, words: Words, forged: bool) -> String {
        self.path(words, forged).to_str().unwrap().to_owned()
    }
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Made { dir: tempfile::tempdir().unwrap() };
        for words in [Words::Hostile, Words::Harmless] {
            let case = Case::new(words).unwrap();
            fs::write(made.path(words, false), case.clone().reviewed().unwrap().seal().unwrap()).unwrap();
            fs::write(made.path(words, true), case.forged().unwrap().seal().unwrap()).unwrap();
        }
        made
    })
}

/// What a terminal obeys, or what reorders and hides text, with what stands before it. A tool that reads Markdown makes a link of an
/// address unless something stands in it: there, and nowhere else, we put a space of no width.
fn obeyed(text: &str) -> Option<String> {
    let plain = |b: u8| matches!(b, b'\n' | b'\t' | b' '..=b'~');
    text.split('\n').filter(|line| !line.bytes().all(plain)).find_map(|line| {
        let ours = [("/\u{200b}", "/"), ("\u{200b}.", "."), ("@\u{200b}", "@")];
        let line = ours.iter().fold(line.to_owned(), |line, (broken, whole)| line.replace(broken, whole));
        let bad = |c: char| (c.is_control() && c != '\t') || HIDDEN.contains(&c);
        let c = line.chars().find(|c| bad(*c))?;
        Some(format!("U+{:04X} in {line:?}", u32::from(c)))
    })
}

fn quiet(args: &[&str], output: &Output) {
    for (name, stream) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let text = String::from_utf8(stream.clone()).unwrap_or_else(|_| panic!("{args:?}: {name} is no UTF-8"));
        assert_eq!(obeyed(&text), None, "{args:?}: {name}");
        assert!(!text.contains("panicked"), "{args:?}: {}", said(output));
    }
}

/// Runs a verb as people do, and with `forms` as programs do.
fn printed(args: &[&str], forms: bool) -> String {
    let output = run("casefile", args);
    assert!(matches!(output.status.code(), Some(0 | 3..=5)), "{args:?}: {}", said(&output));
    quiet(args, &output);
    if forms {
        let args = [args, &["-o", "jsonl"]].concat();
        quiet(&args, &run("casefile", &args));
    }
    stdout(&output)
}

/// Findings and evidence of a case file, by name.
fn names(file: &str) -> (Vec<String>, Vec<String>) {
    let listed = stdout(&run("casefile", &["findings", file, "-o", "jsonl"]));
    let rows: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let evidence = rows.iter().flat_map(|row| row["evidence"].as_array().unwrap()).map(|e| text(&e["ref"]));
    (rows.iter().map(|row| text(&row["id"])).collect(), evidence.collect())
}

#[test]
fn no_verb_tells_a_terminal_anything_that_it_would_obey() {
    for forged in [false, true] {
        let file = made().text(Words::Hostile, forged);
        let file = file.as_str();
        printed(&["verify", file], true);
        for verb in ["show", "ls", "series", "findings", "timeline", "check", "logs"] {
            let said = printed(&[verb, file], true);
            assert!(said.len() > 200, "{verb} says nothing: {said}");
        }
    }
    let file = made().text(Words::Hostile, false);
    let file = file.as_str();
    let [a, b, _] = NODES;
    for verb in ["top", "vmstat", "iostat", "dmesg", "ss", "df", "gpu"] {
        for node in [a, b] {
            let said = printed(&[verb, file, "--node", node], true);
            assert!(said.len() > 50, "{verb} says nothing of {node}: {said}");
        }
    }
    for report in ["cpu", "memory", "paging", "disk", "network", "load", "pressure"] {
        printed(&["sar", file, report, "--node", a], true);
    }
    printed(&["compare", file, a, b], true);
    printed(&["diff", file, "--node", a, "--before", "2026-11-23T03:01:30Z"], true);
    printed(&["logs", file, "--grep", "casefile_pwned"], true);
    // Every series, also those whose very names are payloads.
    let listed = stdout(&run("casefile", &["series", file, "-o", "jsonl"]));
    let metrics: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = metrics.iter().filter_map(|row| row["name"].as_str().or_else(|| row["metric"].as_str()));
    let odd: Vec<&str> = named
        .filter(|name| !name.contains('\0') && !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
        .collect();
    assert!(odd.len() > 20, "{odd:?}");
    for metric in odd.into_iter().chain(["node_filesystem_readonly", "casefile_process_info", "node_uname_info"]) {
        let args = ["series", file, "--", metric];
        quiet(&args, &run("casefile", &args));
    }
}

#[test]
fn a_recording_replayed_and_lines_explained_are_told_harmlessly() {
    let file = made().text(Words::Hostile, false);
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().to_str().unwrap();
    printed(&["extract", &file, "--into", into], false);
    let top = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let ring = dir.path().join("ring");
    fs::create_dir(&ring).unwrap();
    let segment = top.join("data/nodes").join(NODES[1]).join("recording/window.seg");
    fs::copy(segment, ring.join("00000001.seg")).unwrap();
    let ring = ring.to_str().unwrap();
    printed(&["replay", ring], true);
    printed(&["replay", ring, "--events"], true);
    printed(&["replay", ring, "--series", "casefile_process_info"], true);
    for verb in ["show", "series", "top", "df", "check", "findings"] {
        printed(&[verb, ring], true);
    }
    let log = top.join("data/nodes").join(NODES[0]).join("logs/kernel.log");
    for args in [&["explain"][..], &["redact", "--explain"]] {
        let mut told = command("casefile");
        let output = told.args(args).stdin(Stdio::from(fs::File::open(&log).unwrap())).output().unwrap();
        // What `redact` masks goes on as it is; what it explains is told to people.
        let output = if args[0] == "redact" { Output { stdout: Vec::new(), ..output } } else { output };
        quiet(args, &output);
    }
}

#[test]
fn every_citation_is_one_line_of_markdown_in_which_nothing_is_active() {
    for forged in [false, true] {
        let file = made().text(Words::Hostile, forged);
        let (findings, evidence) = names(&file);
        // Those that were forged have names that nobody types, and some that somebody would.
        let every = |all: Vec<String>, most: usize| {
            let step = all.len().div_ceil(most).max(1);
            all.into_iter().step_by(step).filter(|name| !name.contains('\0')).collect::<Vec<_>>()
        };
        for name in every(findings, 60).into_iter().chain(every(evidence, 80)) {
            let args = ["cite", &file, "--", &name];
            let output = run("casefile", &args);
            quiet(&args, &output);
            if output.status.success() {
                let line = stdout(&output);
                assert_eq!(line.matches('\n').count(), 1, "{name:?}: {line:?}");
                assert_eq!(active(&line), None, "{name:?}");
            }
        }
    }
}

/// What is active in Markdown, where it is not in a span of code: an element, the begin of a link or an image, an address that many
/// readers make a link of.
fn active(text: &str) -> Option<String> {
    for line in text.lines() {
        let mut shown = String::new();
        let mut chars = line.chars().peekable();
        let mut code = false;
        while let Some(c) = chars.next() {
            match c {
                '`' => code = !code,
                _ if code => {}
                '\\' => {
                    chars.next();
                }
                '<' | '[' | ']' | '!' => return Some(format!("{c} in {line:?}")),
                _ => shown.push(c),
            }
        }
        if code {
            return Some(format!("a span of code does not end in {line:?}"));
        }
        let link = ["//", "www."].into_iter().find(|link| shown.to_lowercase().contains(link));
        if let Some(link) = link {
            return Some(format!("{link} in {line:?}"));
        }
    }
    None
}

/// Exports into a directory and says what is there, by path.
fn exported(file: &str, form: &str, dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::create_dir_all(dir).unwrap();
    let into = dir.join(form);
    printed(&["export", file, "--to", form, "--into", into.to_str().unwrap()], false);
    let mut all = BTreeMap::new();
    let mut paths = vec![into.clone()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let name = path.strip_prefix(&into).unwrap().to_str().unwrap().to_owned();
            all.insert(name, fs::read(&path).unwrap());
        }
    }
    all
}

fn text_of(all: &BTreeMap<String, Vec<u8>>, name: &str) -> String {
    let bytes = all.get(name).unwrap_or_else(|| panic!("{name} in {:?}", all.keys()));
    String::from_utf8(bytes.clone()).unwrap()
}

/// The cells of CSV as RFC 4180 has it, each with whether it was quoted.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut chars) = (false, text.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            _ => cell.push(c),
        }
    }
    assert!(!quoted && cell.is_empty(), "the file ends within a cell");
    rows
}

#[test]
fn no_cell_of_csv_is_a_formula_and_no_line_ends_early() {
    for forged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let all = exported(&made().text(Words::Hostile, forged), "csv", dir.path());
        assert!(all.len() > 8, "{:?}", all.keys());
        for name in all.keys() {
            let text = text_of(&all, name);
            assert_eq!(obeyed(&text.replace("\r\n", "\n")), None, "{name}");
            let rows = cells(&text);
            let header = &rows[0];
            for row in &rows[1..] {
                assert_eq!(row.len(), header.len(), "{name}: {row:?}");
                for (column, cell) in header.iter().zip(row) {
                    let number = cell.parse::<f64>().is_ok()
                        && !["text", "message", "label", "labels"].contains(&column.as_str());
                    // Separators of other countries, and line ends, begin a cell too.
                    for part in cell.split([';', '\t', '\n']) {
                        let first = part.trim_start_matches([' ', '"']).chars().next().unwrap_or(' ');
                        let formula =
                            "=+-@\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}".contains(first) || cell.starts_with(['\t', '\r']);
                        assert!(!formula || number, "{name}, {column}: {cell:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_draft_of_a_post_mortem_has_nothing_active_in_it() {
    for forged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("postmortem.md");
        let file = made().text(Words::Hostile, forged);
        printed(&["export", &file, "--to", "postmortem", "--into", into.to_str().unwrap()], false);
        let text = String::from_utf8(fs::read(&into).unwrap()).unwrap();
        assert_eq!(obeyed(&text), None);
        assert_eq!(active(&text), None);
        let of = |words| {
            let into = dir.path().join(format!("{words:?}.md"));
            let args = ["export", &made().text(words, forged), "--to", "postmortem", "--into", into.to_str().unwrap()];
            printed(&args, false);
            let text = String::from_utf8(fs::read(&into).unwrap()).unwrap();
            // Headings, items and rows: the lines of the two are of the same kinds, where they have the same rows.
            text.lines()
                .map(|line| line.split([' ', '*']).next().unwrap_or_default().to_owned())
                .filter(|head| head.starts_with('#'))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Words::Hostile), of(Words::Harmless));
    }
}

#[test]
fn metrics_timeline_and_traces_are_in_one_piece() {
    let line = Regex::new(r#"^[a-zA-Z_:][a-zA-Z0-9_:]*\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\]|\\.)*",?)*\} (NaN|[+-]?(Inf|[0-9.e+-]+)) [0-9.]+$"#).unwrap();
    let head = Regex::new(r"^# (TYPE|UNIT|HELP) [a-zA-Z_:][a-zA-Z0-9_:]* ?.*$").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = made().text(Words::Hostile, false);
    let into = dir.path().join("metrics");
    printed(&["export", &file, "--to", "openmetrics", "--into", into.to_str().unwrap()], false);
    let text = String::from_utf8(fs::read(&into).unwrap()).unwrap();
    assert_eq!(obeyed(&text), None);
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF\n").count() == 1);
    for (n, one) in text.lines().enumerate() {
        assert!(line.is_match(one) || head.is_match(one) || one == "# EOF", "line {}: {one}", n + 1);
        assert!(!one.starts_with("node_forged"), "line {}: {one}", n + 1);
    }

    for forged in [false, true] {
        let all = exported(&made().text(Words::Hostile, forged), "timeline", &dir.path().join(forged.to_string()));
        let harmless =
            exported(&made().text(Words::Harmless, forged), "timeline", &dir.path().join(format!("{forged} harmless")));
        let rows = text_of(&all, "timeline.jsonl");
        assert_eq!(obeyed(&rows), None);
        for row in rows.lines() {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            // A reader takes the escapes of JSON off: what is left must be harmless too.
            for value in row.as_object().unwrap().values().filter_map(|value| value.as_str()) {
                assert_eq!(obeyed(value), None, "{row}");
            }
        }
        // The format says nothing of the case file.
        let format = "formats/casefile/casefile.json";
        assert_eq!(all.get(format), harmless.get(format));
    }

    let into = dir.path().join("trace");
    printed(&["export", &file, "--to", "perfetto", "--into", into.to_str().unwrap()], false);
    let trace = fs::read(&into).unwrap();
    for bad in [&b"\x1b]52;c"[..], b"\x1b]8;;", "\u{202e}".as_bytes(), "\u{9b}2J".as_bytes(), "\u{2067}".as_bytes()] {
        assert!(!trace.windows(bad.len()).any(|window| window == bad), "{bad:?}");
    }
}

#[test]
fn no_name_of_a_metric_or_a_label_is_a_statement_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let all = exported(&made().text(Words::Hostile, false), "parquet", dir.path());
    let sql = text_of(&all, "views.sql");
    assert_eq!(obeyed(&sql), None);
    // With everything that is quoted taken out, nothing of the case file is left.
    let quoted = Regex::new(r#"'(?:[^']|'')*'|"(?:[^"]|"")*""#).unwrap();
    for line in sql.lines().filter(|line| !line.starts_with("--")) {
        assert!(!line.starts_with('.'), "a command of the shell: {line}");
    }
    let code: String = sql.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let bare = quoted.replace_all(&code, "q");
    for word in ["casefile", "DROP", "ATTACH", "COPY", "--", "read_text", "script", "pwned"] {
        assert!(!bare.contains(word), "{word} outside of quotes: {bare}");
    }
}

/// The tags of a page, each with how often it stands there. Of what a browser takes as text (scripts, styles) nothing.
fn tags(page: &str) -> BTreeMap<String, usize> {
    let raw = Regex::new(r"(?s)(<script[^>]*>|<style>).*?(</script>|</style>)").unwrap();
    let page = raw.replace_all(page, "$1$2");
    let tag = Regex::new(r"(?s)<[^>]*>").unwrap();
    let number = Regex::new(r"(told-)[^\x22]*").unwrap();
    let mut all = BTreeMap::new();
    for found in tag.find_iter(&page) {
        *all.entry(number.replace_all(found.as_str(), "$1").into_owned()).or_default() += 1;
    }
    all
}

#[test]
fn a_report_has_no_element_and_no_attribute_that_it_would_not_have_of_words() {
    let dir = tempfile::tempdir().unwrap();
    let report = |words, forged| {
        let into = dir.path().join(format!("{words:?}-{forged}.html"));
        let args = ["report", &made().text(words, forged), "-o", into.to_str().unwrap()];
        printed(&args, false);
        String::from_utf8(fs::read(&into).unwrap()).unwrap()
    };
    for forged in [false, true] {
        let (hostile, harmless) = (report(Words::Hostile, forged), report(Words::Harmless, forged));
        assert!(hostile.matches("casefile_pwned").count() > 500, "the payloads are in it");
        assert_eq!(obeyed(&hostile), None, "what hides and reorders is shown");
        // The data is JSON that ends where its element does.
        let data = hostile.split("type=\"application/json\">").nth(1).unwrap().split("</script>").next().unwrap();
        assert!(!data.contains(['<', '>', '&', '\u{2028}', '\u{2029}']));
        serde_json::from_str::<serde_json::Value>(data).unwrap();
        let (ours, theirs) = (tags(&harmless), tags(&hostile));
        if forged {
            // The documents have the same findings and rows, so that the two are the same element by element.
            assert_eq!(theirs, ours);
        } else {
            let more: Vec<_> = theirs.keys().filter(|tag| !ours.contains_key(*tag)).collect();
            assert!(more.is_empty(), "{more:?}");
        }
    }
}

#[test]
fn the_report_that_lies_in_a_case_file_is_never_what_is_shown() {
    let file = made().text(Words::Hostile, true);
    let mut case = CaseFile::open(Path::new(&file)).unwrap();
    assert!(case.entries.find(&layout::path(layout::REPORT)).is_some());
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("report.html");
    printed(&["report", &file, "-o", into.to_str().unwrap()], false);
    let theirs = case.entries.read(&layout::path(layout::REPORT), casefile_proto::units::Bytes::mib(16)).unwrap();
    let ours = fs::read(&into).unwrap();
    assert_ne!(ours, theirs);
    assert!(String::from_utf8(ours).unwrap().contains("Content-Security-Policy"));
}
