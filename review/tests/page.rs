//! The page and the report over the demonstration: every question has its answer, every citation its bytes, the report is bounded, the
//! same each time, and says without scripts what it says with them. And over text of which each piece tries to be more than text.

#![expect(clippy::unwrap_used, reason = "in a test everything that fails ends the test")]

mod sealed;

use std::path::PathBuf;
use std::sync::OnceLock;

use casefile_proto::units::Bytes;
use casefile_review::casefile::CaseFile;
use casefile_review::finding::{Evidence, EvidenceKind, Severity};
use casefile_review::page::documents::Documents;
use casefile_review::page::{answer_with, asset};
use casefile_review::report::report_html;
use casefile_review::review::Review;
use casefile_review::signatures::catalogue::catalogue;
use sealed::{Node, log, seal};
use serde_json::Value;

/// What twelve nodes over half an hour may have.
const MAX_REPORT: usize = 5 << 20;

fn demo() -> &'static PathBuf {
    static MADE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = casefile_demo::write(dir.path()).unwrap();
        (dir, path)
    });
    &made.1
}

fn documents() -> &'static Documents {
    static MADE: OnceLock<Documents> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut case = CaseFile::open(demo()).unwrap();
        Documents::of(Review::of(&mut case, &catalogue().signatures, None).unwrap()).unwrap()
    })
}

fn report() -> &'static String {
    static MADE: OnceLock<String> = OnceLock::new();
    MADE.get_or_init(|| {
        let mut case = CaseFile::open(demo()).unwrap();
        String::from_utf8(report_html(&mut case, documents(), None)).unwrap()
    })
}

fn ask(case: &mut CaseFile, path: &str, query: &str) -> (u16, Value) {
    let told = answer_with(case, documents(), path, query);
    assert_eq!(told.content_type, "application/json");
    (told.status, serde_json::from_slice(&told.body).unwrap())
}

/// The answer, which must be one.
fn told(case: &mut CaseFile, path: &str, query: &str) -> Value {
    let (status, value) = ask(case, path, query);
    assert_eq!(status, 200, "{path}?{query}: {value}");
    value
}

fn data(report: &str) -> Value {
    let begin = report.find("type=\"application/json\">").unwrap() + "type=\"application/json\">".len();
    let end = begin + report[begin..].find("</script>").unwrap();
    serde_json::from_str(&report[begin..end]).unwrap()
}

#[test]
fn every_question_about_the_demonstration_has_its_answer() {
    let mut case = CaseFile::open(demo()).unwrap();
    let case = &mut case;
    let review = told(case, "review", "");
    assert_eq!((&review["synthetic"], review["nodes"].as_array().unwrap().len()), (&Value::Bool(true), 12));
    let gap =
        review["gaps"].as_array().unwrap().iter().find(|g| g["node"] == "batch-02" && g["source"].is_null()).unwrap();
    assert_eq!(gap["reason"], "node-silent");

    let rows = told(case, "timeline", "node=db-01&from=2026-11-23T02:58:00Z&until=2026-11-23T03:00:00Z");
    let rows = rows["rows"].as_array().unwrap();
    assert!(rows.len() > 5 && rows.iter().all(|r| r["node"] == "db-01"), "{rows:?}");

    let series = told(case, "series", "node=db-01&metric=disk_busy_ratio,memory_used_ratio&cols=300");
    let busy = series["series"].as_array().unwrap().iter().find(|s| s["labels"]["device"] == "nvme0n1").unwrap();
    let max = busy["max"].as_array().unwrap();
    assert_eq!((max.len(), busy["unit"].as_str()), (300, Some("ratio")));
    assert!(max.iter().any(|v| v.as_f64() == Some(1.0)), "the disk that stopped was busy all the time");

    let silent = told(case, "series", "node=batch-02&metric=memory_used_ratio&cols=30");
    let min = silent["series"][0]["min"].as_array().unwrap();
    assert!(min[5].is_number() && min[29].is_null(), "what was not recorded is nothing, not zero: {min:?}");

    let node = told(case, "node", "node=db-01");
    let file_system = node["use"].as_array().unwrap().iter().find(|r| r["name"] == "/var/lib/postgresql").unwrap();
    assert_eq!(file_system["errors"]["level"], "worst");
    assert!(node["facts"].as_array().unwrap().iter().any(|f| f[0] == "kernel"));

    let heat = told(case, "heat", "metric=node_pressure_memory_waiting_seconds_total&cols=60");
    let hot = |name: &str| {
        let row = heat["nodes"].as_array().unwrap().iter().find(|n| n["node"] == name).unwrap();
        row["values"].as_array().unwrap().iter().filter_map(Value::as_f64).fold(0.0, f64::max)
    };
    assert!(hot("web-02") > 0.1 && hot("web-01") < 0.1);

    let compared = told(case, "compare", "a=db-01");
    assert_eq!(compared["b"], "db-02", "a node of the same kind of which nothing was found");
    assert!(!compared["rows"].as_array().unwrap().is_empty());
    let before = told(case, "compare", "a=db-01&b=~before&from=2026-11-23T02:58:12Z&until=2026-11-23T03:00:00Z");
    assert_eq!(before["b_window"]["until"], "2026-11-23T02:58:12Z");

    let metrics = told(case, "metrics", "node=gpu-03");
    assert!(metrics["metrics"].as_array().unwrap().iter().any(|m| m["metric"] == "DCGM_FI_DEV_GPU_UTIL"));
    let sections = told(case, "postmortem", "");
    assert_eq!(sections["sections"].as_array().unwrap().len(), 10);
}

#[test]
fn logs_come_page_by_page_each_line_once() {
    let mut case = CaseFile::open(demo()).unwrap();
    let all = told(&mut case, "logs", "node=db-01&source=kernel&limit=5000");
    let whole = all["lines"].as_array().unwrap();
    assert!(whole.len() > 10 && all.get("next").is_none());
    let (mut pieces, mut after) = (Vec::new(), String::new());
    loop {
        let page = told(&mut case, "logs", &format!("node=db-01&source=kernel&limit=4&after={after}"));
        pieces.extend(page["lines"].as_array().unwrap().clone());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => next.clone_into(&mut after),
            None => break,
        }
        assert!(pieces.len() <= whole.len(), "it goes round in a circle at {after}");
    }
    assert_eq!(&pieces, whole);
    let grep = told(&mut case, "logs", "grep=CSTS%3D0x1");
    assert!(grep["lines"].as_array().unwrap().iter().all(|l| l["text"].as_str().unwrap().contains("CSTS=0x1")));
    let templates = told(&mut case, "logs", "node=db-01&collapse=1");
    let first = &templates["templates"][0];
    assert_eq!(first["new"], true, "what is new stands first: {first}");
    let (status, _) = ask(&mut case, "logs", "grep=%28");
    assert_eq!(status, 400, "a pattern that is none");
}

#[test]
fn every_citation_leads_to_the_bytes_that_it_cites() {
    let mut case = CaseFile::open(demo()).unwrap();
    let mut lines = 0;
    for evidence in documents().findings.iter().flat_map(|f| &f.evidence) {
        let cited = told(&mut case, "evidence", &format!("ref={}&around=2", evidence.reference));
        if evidence.kind != EvidenceKind::Line || evidence.line.is_none() {
            continue;
        }
        lines += 1;
        let around = &cited["around"];
        let line = around["lines"].as_array().unwrap().iter().find(|l| l["line"].as_u64() == evidence.line).unwrap();
        let first = evidence.text.lines().next().unwrap();
        assert!(line["text"].as_str().unwrap().contains(first), "{}: {line}", evidence.reference);
        assert_eq!(line["offset"].as_u64(), evidence.offset, "{}", evidence.reference);
        assert_eq!(around["sha256"].as_str().unwrap(), evidence.sha256.unwrap().to_string());
    }
    assert!(lines > 15, "only {lines} lines are cited");
}

#[test]
fn what_makes_no_sense_is_refused_and_what_is_not_there_is_said_to_be_missing() {
    let mut case = CaseFile::open(demo()).unwrap();
    for (path, query, status) in [
        ("series", "", 400),
        ("series", "node=db-01", 400),
        ("series", "node=nobody&metric=x", 404),
        ("series", "node=db-01&metric=x&cols=many", 400),
        ("series", "node=db-01&metric=x&from=2026-11-23T03:00:00Z&until=2026-11-23T02:00:00Z", 400),
        ("node", "node=%00", 400),
        ("evidence", "ref=E99999", 404),
        ("lines", "entry=..%2F..%2Fetc%2Fpasswd", 400),
        ("lines", "entry=data%2Fnothing", 404),
        ("compare", "a=db-01&b=nobody", 404),
        ("logs", "after=yesterday", 400),
        ("../review", "", 404),
        ("", "", 404),
        ("review", "%zz", 400),
    ] {
        let (got, value) = ask(&mut case, path, query);
        assert_eq!(got, status, "{path}?{query}: {value}");
        assert!(!value["error"].as_str().unwrap().is_empty());
    }
    let nothing = told(&mut case, "series", "node=db-01&metric=no_such_metric");
    assert!(nothing["series"].as_array().unwrap().is_empty());
    assert!(asset("../Cargo.toml").is_none() && asset("index.html").is_some());
}

#[test]
fn the_report_is_bounded_the_same_each_time_and_says_without_scripts_what_was_found() {
    let report = report();
    assert!(report.len() < MAX_REPORT, "{} bytes", report.len());
    let mut case = CaseFile::open(demo()).unwrap();
    assert!(report_html(&mut case, documents(), None) == report.as_bytes(), "the same case file, other bytes");
    let fixed = &report[report.find("<main id=\"static\">").unwrap()..report.find("</main>").unwrap()];
    assert!(fixed.contains("SYNTHETIC"));
    for finding in &documents().findings {
        assert!(fixed.contains(&finding.id), "{} is not told", finding.id);
    }
    for (tag, count) in [("<h1>", 1), ("id=\"told-E1\"", 1), ("<script", 0)] {
        assert_eq!(fixed.matches(tag).count(), count, "{tag}");
    }
    let data = data(report);
    assert_eq!(data["review"]["nodes"].as_array().unwrap().len(), 12);
    let strips =
        data["series"]["list"].as_array().unwrap().iter().filter(|s| s["metric"] == "memory_used_ratio").count();
    assert_eq!(strips, 12, "every node has its strips");
    assert!(data["evidence"]["E1"]["around"]["lines"].as_array().unwrap().len() > 3);
    assert!(!data["left"].as_array().unwrap().is_empty(), "what is not in it is named");
}

#[test]
fn beyond_the_budget_nothing_is_read_and_the_report_says_so() {
    let mut case = CaseFile::open(demo()).unwrap();
    let small = String::from_utf8(report_html(&mut case, documents(), Some(Bytes::kib(64)))).unwrap();
    let data = data(&small);
    assert!(
        data["series"]["list"].as_array().unwrap().is_empty() && data["logs"]["lines"].as_array().unwrap().is_empty()
    );
    let left = data["left"].to_string();
    assert!(left.contains("the charts of 12 nodes") && left.contains("log lines"), "{left}");
    assert!(small.contains("An NVMe controller stopped working"));
}

/// 500 texts that are something else to a careless page: each way out of text, around each thing that could run.
fn payloads() -> Vec<String> {
    const RUNS: [&str; 20] = [
        "<script>pwned()</script>",
        "<img src=x onerror=pwned()>",
        "<svg onload=pwned()>",
        "<iframe srcdoc='<script>pwned()</script>'>",
        "<a href=javascript:pwned()>x</a>",
        "<body onload=pwned()>",
        "<input autofocus onfocus=pwned()>",
        "<details open ontoggle=pwned()>",
        "<style>@import 'https://evil.example/x'</style>",
        "<link rel=stylesheet href=https://evil.example/x>",
        "<meta http-equiv=refresh content='0;url=https://evil.example'>",
        "<base href=https://evil.example/>",
        "<object data=https://evil.example/x></object>",
        "<form action=https://evil.example><button>x</button></form>",
        "<math><mi xlink:href=javascript:pwned()>x</mi></math>",
        "<video><source onerror=pwned()></video>",
        "{{constructor.constructor('pwned()')()}}",
        "${pwned()}",
        "\u{202e}<script>pwned()</script>\u{2066}",
        "=HYPERLINK(\"https://evil.example\")",
    ];
    const OUT: [(&str, &str); 25] = [
        ("", ""),
        ("\"", "\""),
        ("'", "'"),
        ("\">", "<\""),
        ("'>", "<'"),
        ("</script>", "<script>"),
        ("<!--", "-->"),
        ("-->", "<!--"),
        ("]]>", "<![CDATA["),
        ("</style>", "<style>"),
        ("</title>", "<title>"),
        ("</pre></li>", "<li><pre>"),
        ("</code>", "<code>"),
        ("\\\"", "\\\""),
        ("\\u003c/script\\u003e", ""),
        ("\u{2028}", "\u{2029}"),
        ("\0", "\0"),
        ("\r\n\r\n", ""),
        ("\x1b[2J", "\x1b]0;x\x07"),
        ("<scr<script>ipt>", ""),
        ("%3Cscript%3E", ""),
        ("&lt;script&gt;", ""),
        ("&#60;script&#62;", ""),
        ("\u{feff}", "\u{200b}"),
        ("[E1]", "[E2"),
    ];
    RUNS.iter().flat_map(|run| OUT.iter().map(move |(before, after)| format!("{before}{run}{after}"))).collect()
}

/// Tags of a page without what stands in its two scripts and its style: what a browser would make of it.
fn tags(page: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '/' || c == '!')).unwrap_or(rest.len());
        let name = rest[..end].to_ascii_lowercase();
        if name == "script" || name == "style" {
            let closing = format!("</{name}>");
            rest = &rest[rest.find(&closing).unwrap()..];
        }
        names.push(name);
    }
    names
}

#[test]
fn nothing_in_five_hundred_hostile_texts_becomes_part_of_a_report() {
    let payloads = payloads();
    assert_eq!(payloads.len(), 500);
    let mut lines = String::new();
    for (n, payload) in payloads.iter().enumerate() {
        let line = payload.replace(['\n', '\r'], " ");
        lines.push_str(&format!("2026-12-31T23:00:{:02}.{n:03}Z stdout {line}\n", n % 50));
    }
    let dir = tempfile::tempdir().unwrap();
    let nodes = [Node {
        name: "n1",
        ahead: Some(0),
        logs: vec![log("logs/pods/shop_api-0_u/main.log", None, lines)],
        gaps: vec![],
    }];
    let mut case = CaseFile::open(&seal(dir.path(), &nodes)).unwrap();
    case.incident.title = payloads.concat();
    case.incident.reason = payloads.concat();
    let calm = Documents::of(Review::of(&mut case, &catalogue().signatures, None).unwrap()).unwrap();
    let mut hostile = calm.clone();
    let node: casefile_proto::ids::NodeName = "n1".parse().unwrap();
    for (n, payload) in payloads.iter().enumerate().take(59) {
        let mut finding = documents().findings[0].clone();
        finding.id = format!("F{n}{payload}");
        finding.severity = Severity::Warning;
        for text in [&mut finding.summary, &mut finding.kind, &mut finding.check] {
            text.clone_from(payload);
        }
        for text in [&mut finding.subject, &mut finding.meaning, &mut finding.now, &mut finding.part_of] {
            *text = Some(payload.clone());
        }
        finding.not_proof = vec![payload.clone()];
        finding.node = Some(node.clone());
        let mut evidence = Evidence::new(EvidenceKind::Line, Some(&node), payloads[(n * 7) % 500].clone());
        evidence.reference = format!("E{n}{payload}");
        evidence.metric = Some(payload.clone());
        finding.evidence = vec![evidence];
        hostile.findings.push(finding);
        hostile.rows.push(serde_json::json!({
            "datetime": payload, "timestamp_desc": "finding", "message": payload, "node": payload, "severity": "FATAL", "id": payload, "evidence": payload,
        }));
    }
    hostile.review = hostile.review.map(|mut review| {
        review["verdict"]["sentence"] = Value::String(payloads.concat());
        review["checks"] = serde_json::json!([{ "id": payloads[0], "title": payloads[1], "verdict": "cannot-tell", "nodes": [payloads[2]], "missing": [payloads[3]] }]);
        review
    });
    let page = String::from_utf8(report_html(&mut case, &hostile, None)).unwrap();
    let data = data(&page);
    assert!(data["review"]["findings"].as_array().unwrap().len() > 50, "the data is whole");
    assert!(data["templates"]["templates"].as_array().unwrap().len() > 20);
    let allowed = [
        "!doctype", "html", "head", "meta", "link", "title", "style", "body", "main", "h1", "h2", "h3", "p", "span",
        "section", "a", "b", "br", "article", "dl", "div", "dt", "dd", "ol", "ul", "li", "pre", "table", "thead",
        "tbody", "tr", "th", "td", "code", "script",
    ];
    let names = tags(&page);
    for name in &names {
        assert!(allowed.contains(&name.trim_start_matches('/')), "<{name}> stands in the page");
    }
    assert_eq!(names.iter().filter(|name| *name == "script").count(), 2, "the data and the one script");
    assert_eq!(names.iter().filter(|name| *name == "meta").count(), 5);
    let fixed = &page[page.find("<main id=\"static\">").unwrap()..page.find("</main>").unwrap()];
    assert!(
        !fixed.contains(" on") || !fixed.split('<').skip(1).any(|tag| tag.split('>').next().unwrap().contains(" on")),
        "an attribute that runs"
    );
    assert!(!fixed.contains(['\u{202e}', '\u{2066}', '\u{1b}', '\0']), "what hides text is shown as its number");
}
