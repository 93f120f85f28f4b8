//! One test: step after step until one fails, each told with the time that it took, within one deadline.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use casefile_identity::stranger::{self, Handshake};
use casefile_proto::connectivity::detail;
use casefile_proto::connectivity::steps::{Answered, Connect, Failure, Http, Resolve, Step, Steps, Tls, Went};
use casefile_proto::connectivity::target::{Scheme, Target};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::http::{self, NoHead};
use super::lookup::lookup;
use super::{Allowed, allowed};
use crate::clock::Clock;
use crate::stats::Stats;

/// Addresses of one name that are tried, each with its share of the time that is left.
const MAX_TRIED: usize = 4;

/// Tests targets as one configuration allows it.
pub(super) struct Tester {
    allowed: Allowed,
    clock: Clock,
    stats: Arc<Stats>,
}

/// Why a step failed, and more about it.
type Failed = (Failure, String);

/// What a connection can be.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Tester {
    pub(super) fn new(allowed: Allowed, clock: Clock, stats: Arc<Stats>) -> Self {
        Self { allowed, clock, stats }
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Tests a target.
    pub(super) async fn test(&self, target: &Target, deadline: Duration) -> Steps {
        let until = Instant::now() + deadline;
        let mut steps = nothing(target.scheme());
        self.walk(target, until, &mut steps).await;
        steps
    }

    /// Goes on as long as steps go well.
    async fn walk(&self, target: &Target, until: Instant, steps: &mut Steps) {
        let began = Instant::now();
        let found = timeout_at(until, lookup(target.host(), &self.stats)).await.unwrap_or_else(|_| Err(late()));
        let (addresses, went) = told(began, found);
        steps.resolve.went = went;
        let Some(addresses) = addresses else { return };
        steps.resolve.addresses.clone_from(&addresses);

        let (Some(connect), Some(port)) = (&mut steps.connect, target.port()) else { return };
        let began = Instant::now();
        let peers = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        let stream = match self.connect(peers, until, &mut connect.address).await {
            Ok((stream, detail)) => {
                connect.went = Went::Ok { took_nanos: nanos(began), detail };
                stream
            }
            Err(failed) => {
                connect.went = told::<()>(began, Err(failed)).1;
                return;
            }
        };
        let stream: Box<dyn Stream> = match &mut steps.tls {
            None => Box::new(stream),
            Some(tls) => match self.handshake(target, stream, until, tls).await {
                Some(stream) => Box::new(stream),
                None => return,
            },
        };
        if let Some(http) = &mut steps.http {
            self.get(target, stream, until, http).await;
        }
    }

    /// Connects to the first that lets us, of those that may be connected to. What went wrong before is said beside it.
    async fn connect(
        &self,
        peers: Vec<SocketAddr>,
        until: Instant,
        tried: &mut Option<SocketAddr>,
    ) -> Result<(TcpStream, String), Failed> {
        let mut notes = Vec::new();
        let mut worst: Option<Failure> = None;
        let (mut may, mut not) = (Vec::new(), Vec::new());
        for peer in peers {
            match allowed::refusal(peer.ip(), self.allowed.reach) {
                None => may.push(peer),
                Some(why) => not.push(format!("{} {why}", peer.ip())),
            }
        }
        if may.is_empty() {
            return Err((Failure::NotAllowed, detail(not.join("; "))));
        }
        may.truncate(MAX_TRIED);
        for (n, peer) in may.iter().enumerate() {
            *tried = Some(*peer);
            let left = until.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(may.len() - n).unwrap_or(1);
            let connected = timeout(share, TcpStream::connect(peer)).await;
            let (failure, why) = match connected {
                Ok(Ok(stream)) => return Ok((stream, detail(notes.join("; ")))),
                Ok(Err(error)) => of_io(&error),
                Err(_) => late(),
            };
            let why = if why.is_empty() { failure.words().to_owned() } else { why };
            notes.push(format!("{peer}: {why}"));
            worst = Some(failure);
        }
        Err((worst.unwrap_or(Failure::Other), detail(notes.join("; "))))
    }

    async fn handshake(
        &self,
        target: &Target,
        stream: TcpStream,
        until: Instant,
        tls: &mut Tls,
    ) -> Option<stranger::TlsStream<TcpStream>> {
        // What is spoken then; and where nothing is, only to see what is chosen.
        let alpn: &[&[u8]] = if target.scheme() == Scheme::Https { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
        let began = Instant::now();
        let now = (self.clock)().wall;
        let greeted = timeout_at(until, self.allowed.strangers.greet(stream, target.host(), alpn, now)).await;
        let result = match greeted {
            Ok(Ok((stream, shown, objection))) => {
                tls.shown = Some(shown);
                match objection {
                    None => Ok(stream),
                    Some(why) => Err((Failure::Certificate, detail(why))),
                }
            }
            Ok(Err(failed)) => Err(of_handshake(failed)),
            Err(_) => Err(late()),
        };
        let (stream, went) = told(began, result);
        tls.went = went;
        stream
    }

    async fn get(&self, target: &Target, mut stream: Box<dyn Stream>, until: Instant, http: &mut Http) {
        let began = Instant::now();
        let mut first = None;
        let got = timeout_at(until, http::get(&mut stream, target, || first = Some(nanos(began)))).await;
        let failed = match got {
            Ok(Ok(head)) => {
                let node_time = (self.clock)().wall;
                http.answered = Some(Answered { status: head.status, server_time: head.date, node_time });
                if head.status < 400 {
                    None
                } else {
                    Some((Failure::HttpStatus, format!("{} was answered with {}", target.path(), head.status)))
                }
            }
            Ok(Err(NoHead::Malformed(why))) => Some((Failure::Malformed, why.to_owned())),
            Ok(Err(NoHead::Closed)) => Some((Failure::Reset, "the connection was closed without an answer".to_owned())),
            Ok(Err(NoHead::Io(error))) => Some(stranger::of_io(&error).map_or_else(|| of_io(&error), of_handshake)),
            Err(_) => Some(late()),
        };
        let took_nanos = first.unwrap_or_else(|| nanos(began));
        http.went = match failed {
            None => Went::Ok { took_nanos, detail: String::new() },
            Some((failure, why)) => Went::Failed { failure, took_nanos: nanos(began), detail: detail(why) },
        };
    }
}

/// The steps of a scheme, of which none was reached.
fn nothing(scheme: Scheme) -> Steps {
    let has = |step| scheme.steps().contains(&step);
    let went = || Went::NotReached;
    Steps {
        resolve: Resolve { went: went(), addresses: Vec::new() },
        connect: has(Step::Connect).then(|| Connect { went: went(), address: None }),
        tls: has(Step::Tls).then(|| Tls { went: went(), shown: None }),
        http: has(Step::Http).then(|| Http { went: went(), answered: None }),
    }
}

/// How a step went that began then.
fn told<T>(began: Instant, result: Result<T, Failed>) -> (Option<T>, Went) {
    let took_nanos = nanos(began);
    match result {
        Ok(found) => (Some(found), Went::Ok { took_nanos, detail: String::new() }),
        Err((failure, why)) => (None, Went::Failed { failure, took_nanos, detail: detail(why) }),
    }
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn late() -> Failed {
    (Failure::TimedOut, String::new())
}

/// What the system says of a connection.
fn of_io(error: &io::Error) -> Failed {
    let failure = match error.kind() {
        ErrorKind::ConnectionRefused => return (Failure::Refused, String::new()),
        ErrorKind::TimedOut => return late(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
            Failure::Unreachable
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Failure::Reset,
        // The node itself says no: a sandbox, or a policy that is held to where the connection begins.
        ErrorKind::PermissionDenied => return (Failure::Other, format!("this node does not let it out: {error}")),
        _ => Failure::Other,
    };
    (failure, error.to_string())
}

fn of_handshake(failed: Handshake) -> Failed {
    match failed {
        Handshake::Alert(alert) => (Failure::TlsAlert, alert),
        Handshake::Malformed(why) => (Failure::Malformed, why),
        Handshake::Certificate(why) => (Failure::Certificate, why),
        Handshake::Io(error) => of_io(&error),
        Handshake::Other(why) => (Failure::Other, why),
    }
}
