//! What masking costs on one core: logs without secrets, with the words in them that make a redactor look twice, and, for
//! information, logs full of secrets and a record made to be slow.
//!
//! `cargo bench -p casefile-redact --bench redact [-- MEGABYTES] [clean]`: 16 MB of each, in memory. CPU time, so that neighbours do
//! not count; the best of several runs.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be made should say so and stop"
)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use casefile_redact::samples::{Dice, planted};
use casefile_redact::{Key, Pseudonyms, Redactor, RuleSet};
use sha2::Digest as _;

/// Short runs and many of them: on a shared machine one of them is left alone.
const RUNS: usize = 25;

/// Lines without secrets; of the words that matter to rules as many as real logs have: every few lines one.
const CLEAN: &[&str] = &[
    "level=info msg=served method=GET path=/api/v1/orders/{n} status=200 duration={n}ms user=u{n} trace={h}",
    "I1123 02:00:00.123456 1 kubelet.go:2430] \"SyncLoop (PLEG): event for pod\" pod=\"shop/api-{n}\" event={\"ID\":\"{h}\"}",
    "10.1.{n}.7 - - [23/Nov/2026:02:00:00 +0000] \"GET /cart?item={n} HTTP/1.1\" 200 {n} \"https://shop.example.org/\" \"Mozilla/5.0\"",
    "{\"ts\":\"2026-11-23T02:00:00Z\",\"level\":\"info\",\"trace_id\":\"{h}\",\"msg\":\"order {n} stored\",\"path\":\"/api/v1/items/{n}\"}",
    "2026-11-23 02:00:00.000 UTC [{n}] LOG:  duration: {n}.123 ms  execute <unnamed>: SELECT id, name FROM orders WHERE id = $1",
    "time=\"2026-11-23T02:00:00Z\" level=info msg=\"StartContainer for \\\"{h}\\\" returns successfully\" id={h}",
    "\tat org.example.shop.OrderService.store(OrderService.java:{n}) ~[app.jar:{n}]",
    "level=debug msg=\"cache miss\" key=user:{n} ttl={n}s size={n} shard={n} node=cache-{n}",
    "{\"level\":\"info\",\"usage\":{\"prompt_tokens\":{n},\"total_tokens\":{n}},\"token_type\":\"bearer\",\"id\":\"{h}\"}",
    "E1123 02:00:00.1 1 pod_workers.go:1301] \"Error syncing pod\" err=\"secret \\\"db-credentials\\\" not found\" pod=\"shop/api-{n}\"",
];

fn main() {
    let megabytes: usize = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(16);
    let rules = Arc::new(RuleSet::builtin());
    let redactor = Redactor::new(Arc::clone(&rules), Key::new([9; 32]), Pseudonyms::default());

    let full =
        redactor.stream().record(b"password=x token=y http://a:b@c Bearer eyJhbGciOiJub25lIn0.eyJ.x\n", true).len();
    println!(
        "{} rules, {} resident with them, {full} bytes come out of the first record",
        rules.rules().count(),
        resident()
    );

    let clean = lines(megabytes * 1_000_000, CLEAN);
    let (rate, masked) = rate(&redactor, &clean);
    assert_eq!(masked, 0, "the clean log is not clean");
    println!("{} records without secrets, {} bytes: {rate:.0} MB/s", clean.len(), size(&clean));
    // How quiet the machine is: SHA-256 of the same bytes, 1,780 MB/s on two quiet cores of Zen 4.
    println!("SHA-256 over the same records, beside it: {:.0} MB/s", hash_rate(&clean));
    let verdict = if rate >= 300.0 { "reached" } else { "MISSED" };
    println!("figure | redaction of logs without secrets, one core | {rate:.0} MB/s | ≥ 300 MB/s | {verdict}");

    if std::env::args().any(|a| a == "clean") {
        return;
    }
    let plants = planted(1, 200);
    let mut dirty = lines(megabytes * 100_000, CLEAN);
    for (at, record) in dirty.iter_mut().enumerate().filter(|(at, _)| at % 10 == 0) {
        record.clone_from(&plants[at / 10 % plants.len()].records[0]);
        record.push(b'\n');
    }
    let (rate, masked) = self::rate(&redactor, &dirty);
    println!("every tenth record with a secret: {rate:.0} MB/s, {masked} masked");

    for pattern in
        ["password=", "pwd=a&", "eyJ-", "token:", "://a:b@c ", "-----BEGIN PRIVATE KEY-----", "mysql ", "\\u0041"]
    {
        let record: Vec<u8> = pattern.bytes().cycle().take(1 << 20).collect();
        let begin = cpu();
        let out = redactor.stream().record(&record, true).len();
        println!(
            "one record of 1 MiB of {pattern:?}: {:.1} ms, {out} bytes come out",
            (cpu() - begin).as_secs_f64() * 1e3
        );
    }
}

/// Memory of this process that is in use now.
fn resident() -> String {
    let status = read("/proc/self/status");
    status.lines().find_map(|l| l.strip_prefix("VmRSS:")).map_or("unknown", str::trim).to_owned()
}

/// What this thread has used of a core.
fn cpu() -> Duration {
    let used = read("/proc/thread-self/schedstat");
    Duration::from_nanos(used.split(' ').next().unwrap().parse().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the bench's own process")]
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn size(records: &[Vec<u8>]) -> usize {
    records.iter().map(Vec::len).sum()
}

/// MB/s of the best run, and how much was masked in it.
fn rate(redactor: &Redactor, records: &[Vec<u8>]) -> (f64, u64) {
    let (mut best, mut masked) = (Duration::MAX, 0);
    for _ in 0..RUNS {
        let mut stream = redactor.stream();
        let begin = cpu();
        let out: usize = records.iter().map(|record| stream.record(record, true).len()).sum();
        best = best.min(cpu() - begin);
        masked = stream.counts().map(|(_, n)| n).sum();
        assert!(out > 0);
    }
    (size(records) as f64 / 1e6 / best.as_secs_f64(), masked)
}

/// MB/s of hashing the same records.
fn hash_rate(records: &[Vec<u8>]) -> f64 {
    let all = records.concat();
    let best = (0..RUNS).map(|_| {
        let begin = cpu();
        assert!(sha2::Sha256::digest(&all).len() == 32);
        cpu() - begin
    });
    all.len() as f64 / 1e6 / best.min().unwrap_or(Duration::MAX).as_secs_f64()
}

/// CRI records made of these lines.
fn lines(bytes: usize, templates: &[&str]) -> Vec<Vec<u8>> {
    let mut dice = Dice::new(7);
    let (mut records, mut size) = (Vec::new(), 0);
    while size < bytes {
        let template = templates[dice.below(templates.len())];
        let mut record = String::from("2026-11-23T02:00:00.");
        write!(record, "{:09}Z stdout F ", dice.below(1_000_000_000)).unwrap();
        for (n, part) in template.split("{n}").enumerate() {
            if n > 0 {
                write!(record, "{}", dice.below(100_000)).unwrap();
            }
            record.push_str(&part.replace("{h}", &dice.word("0123456789abcdef", 32)));
        }
        record.push('\n');
        size += record.len();
        records.push(record.into_bytes());
    }
    records
}
