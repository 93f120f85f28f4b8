//! Answers that are streams: how many at a time, and never one that waits for ever.
//!
//! A stream is a task that feeds a short channel. When the channel is full the task waits, and when nobody reads for
//! [`STALLED`] it ends: a reader that hangs holds nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::refused::{Kind, Refused};

/// Messages of one stream that wait for its reader.
const WAITING: usize = 2;

/// A reader that takes no message for this long has gone.
const STALLED: Duration = Duration::from_secs(60);

/// The stream of answers to one call.
pub(super) type Answers<T> = ReceiverStream<Result<T, Status>>;

/// The streams of one kind that are open. Dropping it ends them.
#[derive(Clone)]
pub(super) struct Streams {
    tasks: Arc<Mutex<JoinSet<()>>>,
    free: Arc<Semaphore>,
    what: &'static str,
}

impl Streams {
    /// At most this many at a time.
    pub(super) fn new(what: &'static str, most: usize) -> Self {
        Self { tasks: Arc::default(), free: Arc::new(Semaphore::new(most)), what }
    }

    /// Starts a stream that `feed` feeds; refused when there are too many.
    pub(super) fn open<T, F>(&self, feed: impl FnOnce(Outlet<T>) -> F) -> Result<Answers<T>, Refused>
    where
        T: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            let text = format!("too many {} at a time: try again in a moment", self.what);
            return Err(Refused::new(Kind::TooMany, text));
        };
        let (sender, receiver) = mpsc::channel(WAITING);
        let feeding = feed(Outlet { sender });
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that have ended are taken out here, so that the set is no larger than what is open.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            feeding.await;
            drop(permit);
        });
        Ok(ReceiverStream::new(receiver))
    }
}

/// Where the messages of one stream go.
pub(super) struct Outlet<T> {
    sender: mpsc::Sender<Result<T, Status>>,
}

/// The reader has gone, or takes nothing: the stream is over.
pub(super) struct Gone;

impl<T> Outlet<T> {
    /// One more message.
    pub(super) async fn send(&self, message: Result<T, Refused>) -> Result<(), Gone> {
        match timeout(STALLED, self.sender.send(message.map_err(Status::from))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        }
    }

    /// Ready when the reader has gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}
