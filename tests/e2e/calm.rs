//! A busy machine that has no fault: its case file is calm. Every check runs, and none of them says error.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use casefile_tests::program::{run, said};

/// Work for every CPU and for the disk, until it is told to stop.
fn busy(stop: &Arc<AtomicBool>, dir: &std::path::Path) -> Vec<std::thread::JoinHandle<()>> {
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let mut threads: Vec<_> = (0..cpus)
        .map(|_| {
            let stop = Arc::clone(stop);
            std::thread::spawn(move || {
                let mut sum = 1_u64;
                while !stop.load(Ordering::Relaxed) {
                    sum = std::hint::black_box(sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                }
            })
        })
        .collect();
    let (stop, path) = (Arc::clone(stop), dir.join("written"));
    threads.push(std::thread::spawn(move || {
        let piece = vec![7_u8; 1 << 20];
        while !stop.load(Ordering::Relaxed) {
            let mut file = std::fs::File::create(&path).unwrap();
            for _ in 0..16 {
                file.write_all(&piece).unwrap();
            }
            file.sync_all().unwrap();
        }
    }));
    threads
}

#[test]
fn the_case_file_of_a_busy_machine_without_a_fault_is_calm() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let stop = Arc::new(AtomicBool::new(false));
    let threads = busy(&stop, dir.path());
    let made = run("casefile-collector", &["local", "--once", "--warm-up", "15s", "--data", data.to_str().unwrap()]);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(made.status.success(), "{}", said(&made));
    let archive = std::fs::read_dir(data.join("archives")).unwrap().next().unwrap().unwrap().path();
    let file = archive.to_str().unwrap();

    let checked = run("casefile", &["check", file, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let counts = &json["verdict"]["counts"];
    assert_eq!((&counts["fatal"], &counts["error"]), (&0.into(), &0.into()), "{json:#}");
    assert!(matches!(checked.status.code(), Some(0 | 4 | 5)), "{}", said(&checked));
    let clear = json["checks"].as_array().unwrap().iter().filter(|row| row["verdict"] == "clear").count();
    assert!(clear >= 15, "{json:#}");

    // What was sealed says the same as the same checks do now.
    let sealed = run("casefile", &["findings", file, "-o", "json"]);
    let sealed: serde_json::Value = serde_json::from_slice(&sealed.stdout).unwrap();
    assert_eq!(sealed, json["findings"], "{sealed:#}");
}
