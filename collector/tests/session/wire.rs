//! A wire between agent and collector that can be cut, and that can lead elsewhere afterwards.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinHandle};

pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    to: Mutex<Option<SocketAddr>>,
    connections: Mutex<Vec<AbortHandle>>,
    /// Bytes that may still go up before everything is cut; `u64::MAX`: no limit.
    budget: AtomicU64,
    cuts: AtomicU64,
}

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.budget.store(u64::MAX, Ordering::SeqCst);
        *shared.to.lock().unwrap() = Some(address);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address: own, shared, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Cuts what is connected; what connects from now on is led to `to`, or is refused.
    pub(crate) fn lead(&self, to: Option<SocketAddr>) {
        *self.shared.to.lock().unwrap() = to;
        cut(&self.shared);
    }

    /// Cuts everything once this many more bytes went up.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.shared.budget.store(bytes, Ordering::SeqCst);
    }

    /// How often that happened.
    pub(crate) fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
        cut(&self.shared);
    }
}

fn cut(shared: &Shared) {
    shared.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((agent, _)) = listener.accept().await else { return };
        let to = *shared.to.lock().unwrap();
        let Some(to) = to else { continue };
        let for_task = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            if let Ok(collector) = TcpStream::connect(to).await {
                carry(agent, collector, &for_task).await;
            }
        });
        shared.connections.lock().unwrap().push(task.abort_handle());
    }
}

async fn carry(agent: TcpStream, collector: TcpStream, shared: &Shared) {
    let (mut from_agent, mut to_agent) = agent.into_split();
    let (mut from_collector, mut to_collector) = collector.into_split();
    let up = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(read @ 1..) = from_agent.read(&mut buffer).await {
            let left = shared.budget.load(Ordering::SeqCst);
            if left != u64::MAX {
                let Some(left) = left.checked_sub(read as u64) else {
                    shared.budget.store(u64::MAX, Ordering::SeqCst);
                    shared.cuts.fetch_add(1, Ordering::SeqCst);
                    return;
                };
                shared.budget.store(left, Ordering::SeqCst);
            }
            if to_collector.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_collector, &mut to_agent).await;
    };
    // Either side that ends ends both.
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
