//! libFuzzer around the targets: which one is said by `CASEFILE_FUZZ`. One program for all of them, because linking takes
//! longer than a short run of one target. `--list`, `--seeds TARGET DIR` and `--show FILE` are for `fuzz/run`.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use casefile_fuzz::{ALL, Target, seed};
use libfuzzer_sys::fuzz_target;

/// More than a target may ever hold at once: its input has 64 KiB, and the largest fixed buffers a few MiB.
const MOST_BYTES: usize = 128 << 20;

/// Counts what is held, and ends the program when it is too much: a length that was believed is a finding.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if HELD.fetch_add(layout.size(), Relaxed) + layout.size() > MOST_BYTES {
            // Printing would allocate.
            std::process::abort();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if HELD.fetch_add(layout.size(), Relaxed) + layout.size() > MOST_BYTES {
            std::process::abort();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("CASEFILE_FUZZ").unwrap_or_default();
    casefile_fuzz::target(&name).unwrap_or_else(|| panic!("CASEFILE_FUZZ={name:?} is no target: see --list"))
});

fuzz_target!(
    init: {
        if asked_otherwise() {
            std::process::exit(0);
        }
    },
    |bytes: &[u8]| (TARGET.run)(bytes)
);

/// Does what `fuzz/run` wants besides fuzzing.
fn asked_otherwise() -> bool {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => ALL.iter().for_each(|t| println!("{:<12} {}", t.name, t.about)),
        ["--seeds", name, into] => write_seeds(casefile_fuzz::target(name).expect("a target"), Path::new(into)),
        ["--show", file] => print!("{}", seed::print(&fs::read(file).expect("read the input"))),
        _ => return false,
    }
    true
}

/// The seeds of a target, those that are made and those that are written, as files for libFuzzer.
fn write_seeds(target: &Target, into: &Path) {
    for (name, bytes) in casefile_fuzz::seeds(target) {
        fs::write(into.join(name), bytes).expect("write a seed");
    }
}
