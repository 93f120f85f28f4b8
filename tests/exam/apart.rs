//! Work on threads of its own, which the kernel runs after everybody else: attackers have machines of their own, and here
//! they must not take the CPU from those whose patience is measured.

use std::future::Future;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

/// Such threads.
const THREADS: usize = 2;

/// How much less urgent than everything else.
const NICE: i32 = 10;

/// Runs it there to its end; the answer comes here. When nobody waits for it any more, it ends with the process.
pub(crate) async fn apart<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let (done, answer) = oneshot::channel();
    std::thread::Builder::new()
        .name("attackers".to_owned())
        .spawn(move || {
            step_back();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(THREADS)
                .on_thread_start(step_back)
                .enable_all()
                .build();
            let result = match runtime {
                Ok(runtime) => runtime.block_on(work()),
                Err(error) => Err(error.into()),
            };
            // Nobody waits any more.
            let _ = done.send(result);
        })
        .context("start a thread")?;
    answer.await.context("the attackers' thread ended")?
}

/// This thread is less urgent from now on. A kernel that does not do it only makes the measure harsher.
fn step_back() {
    let _ = rustix::process::nice(NICE);
}
