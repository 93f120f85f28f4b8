//! Connections that have not proven who they are: a bounded queue, in which the oldest makes room.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::watch;

/// Closes one connection.
#[derive(Clone)]
pub(crate) struct Closer(Arc<watch::Sender<bool>>);

impl Closer {
    /// Closes it.
    pub(crate) fn close(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is gone already.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}

/// Ready when the connection is to be closed.
pub(crate) struct Closed {
    closer: Closer,
    proven: Arc<AtomicBool>,
    /// `None`: it was ready.
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Closed {
    fn new() -> Self {
        let (closer, mut closed) = watch::channel(false);
        let waiting: Pin<Box<dyn Future<Output = ()> + Send + Sync>> = Box::pin(async move {
            // An error means that nobody can close it any more: it is never ready then.
            if closed.wait_for(|closed| *closed).await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        Self { closer: Closer(Arc::new(closer)), proven: Arc::default(), waiting: Some(waiting) }
    }

    /// What says whether it has proven itself.
    pub(crate) fn proven(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.proven)
    }

    /// What closes it.
    pub(crate) fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Whether somebody has proven himself over it.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }
}

impl Future for Closed {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(()) };
        let ready = waiting.as_mut().poll(cx);
        if ready.is_ready() {
            self.waiting = None;
        }
        ready
    }
}

/// Those that have not proven themselves, oldest first.
#[derive(Default)]
pub(crate) struct Strangers(VecDeque<(Closer, Arc<AtomicBool>)>);

impl Strangers {
    /// One more; when there are too many, the oldest goes.
    pub(crate) fn add(&mut self, most: usize) -> Closed {
        if self.0.len() >= most {
            self.0.retain(|(closer, proven)| !closer.is_gone() && !proven.load(Ordering::Relaxed));
            let over = (self.0.len() + 1).saturating_sub(most.max(1));
            self.close_oldest(over);
        }
        let closed = Closed::new();
        self.0.push_back((closed.closer(), closed.proven()));
        closed
    }

    /// Closes the oldest; says how many there were.
    pub(crate) fn close_oldest(&mut self, many: usize) -> usize {
        let mut closed = 0;
        while closed < many
            && let Some((closer, proven)) = self.0.pop_front()
        {
            if !closer.is_gone() && !proven.load(Ordering::Relaxed) {
                closer.close();
                closed += 1;
            }
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_makes_room_and_who_is_proven_stays() {
        let mut strangers = Strangers::default();
        let mut first = strangers.add(2);
        let mut second = strangers.add(2);
        first.proven().store(true, Ordering::Relaxed);
        let third = strangers.add(2);
        let fourth = strangers.add(2);
        (&mut second).await;
        let now = tokio::time::timeout(std::time::Duration::ZERO, &mut first).await;
        assert!(now.is_err() && first.is_proven(), "one that has proven itself was closed");
        drop((third, fourth));
        assert_eq!(strangers.close_oldest(10), 0, "those that are gone are not closed");
    }
}
