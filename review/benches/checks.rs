//! What a review of the demonstration costs: every check over twelve nodes and half an hour at 1 Hz, and its report; in one thread.
//!
//! `cargo bench -p casefile-review --bench checks`: the best of several runs, the file in the page cache.
#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]
#![expect(clippy::expect_used, reason = "a measurement that cannot be made ends")]

use std::time::{Duration, Instant};

use casefile_review::casefile::CaseFile;
use casefile_review::page::documents::Documents;
use casefile_review::report::report_html;
use casefile_review::review::Review;
use casefile_review::signatures::catalogue::catalogue;

/// On a shared machine one of them is left alone.
const RUNS: usize = 5;

fn main() {
    let dir = tempfile::tempdir().expect("a directory for it");
    let began = Instant::now();
    let path = casefile_demo::write(dir.path()).expect("make the demonstration");
    println!("figure | making the demonstration | {:.2} s | – | –", began.elapsed().as_secs_f64());
    let (mut checks, mut report, mut size) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..RUNS {
        let began = Instant::now();
        let mut case = CaseFile::open(&path).expect("open it");
        let review = Review::of(&mut case, &catalogue().signatures, None).expect("look at it");
        checks = checks.min(began.elapsed());
        assert!(review.document.verdict.counts.fatal > 0, "nothing was found");
        let documents = Documents::of(review).expect("write it as JSON");
        let began = Instant::now();
        size = report_html(&mut case, &documents, None).len();
        report = report.min(began.elapsed());
    }
    let verdict = |reached| if reached { "reached" } else { "MISSED" };
    let seconds = checks.as_secs_f64();
    println!("figure | checks over 12 nodes × 30 min | {seconds:.2} s | ≤ 2 s | {}", verdict(seconds <= 2.0));
    println!("figure | the report of it | {:.2} s | – | –", report.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let megabytes = size as f64 / 1e6;
    println!("figure | size of the report | {megabytes:.2} MB | < 5 MB | {}", verdict(megabytes < 5.0));
}
