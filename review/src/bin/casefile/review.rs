//! `casefile review`: the page of a case file, served on this machine until Ctrl-C, to whoever has the address.
//!
//! The page is that of a collector and asks the same questions at the same addresses. Every question about evidence needs the token
//! that stands behind the `#` of the address, which a browser sends nowhere; a name that somebody made to lead here is refused.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use casefile_review::casefile::CaseFile;
use casefile_review::display::safe;
use casefile_review::page::documents::Documents;
use casefile_review::page::{self, CONTENT_SECURITY_POLICY};
use casefile_review::review::Review;
use casefile_review::signatures::catalogue::catalogue;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, ORIGIN};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::args::{PageArgs, ReviewArgs};
use crate::output::{self, talk};
use crate::{Ended, client, source};

/// Connections at a time: a browser opens six.
const CONNECTIONS: usize = 64;
/// The head of a request comes within this.
const HEAD: Duration = Duration::from_secs(10);
/// Where the page's own files lie.
const FILES: &str = "/ui/";
/// What is said of a case file that has no id.
const NO_ID: &str = "this-case-file";

/// What is served.
struct Site {
    case: Mutex<CaseFile>,
    documents: Documents,
    index: Vec<u8>,
    /// `/api/v1/incidents/INC-000123/page/`
    questions: String,
    /// The digest of the token: digests are compared, so that the time that takes says nothing of the token.
    token: [u8; 32],
    /// The names by which this is reached.
    hosts: [String; 2],
}

/// What was concluded of a case file, as it stands in it; where it has no review, what today's checks say.
pub(crate) fn documents(case: &mut CaseFile) -> Result<Documents> {
    let documents = Documents::read(case);
    // That it is of another form was said when it was opened.
    let said = usize::from(case.newer().is_some());
    source::tell_unread(documents.unread.get(said..).unwrap_or_default());
    if documents.review.is_some() {
        return Ok(documents);
    }
    let review = Review::of(case, &catalogue().signatures, None).context("look at the case file")?;
    Ok(Documents { unread: documents.unread, ..Documents::of(review).context("write the review as JSON")? })
}

/// Opens a case file and shows it.
pub(crate) fn run(args: &ReviewArgs) -> Result<Ended> {
    let mut case = source::open(&args.from)?;
    let documents = documents(&mut case)?;
    if case.incident.synthetic {
        output::text_out("SYNTHETIC: made by a generator; no machine ever was in this state\n")?;
    }
    let sentence = documents.verdict("sentence").and_then(serde_json::Value::as_str).unwrap_or_default();
    output::text_out(&format!("{}\n", safe(sentence)))?;
    show(case, documents, &args.page)
}

/// Serves the page of a case file until Ctrl-C.
pub(crate) fn show(case: CaseFile, documents: Documents, how: &PageArgs) -> Result<Ended> {
    let token = casefile_identity::random::<24>().context("read random numbers")?;
    let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
    client::block_on(async move {
        let listener = TcpListener::bind(how.listen).await.with_context(|| format!("listen on {}", how.listen))?;
        let at = listener.local_addr().context("ask where it listens")?;
        let site = Arc::new(site(case, documents, &token, at)?);
        let address = format!("http://{at}/#token={token}");
        output::text_out(&format!("{address}\n"))?;
        talk!("Ctrl-C ends");
        if !how.no_open {
            open_browser(&address);
        }
        serve(listener, site).await
    })
}

fn site(case: CaseFile, documents: Documents, token: &str, at: SocketAddr) -> Result<Site> {
    let id = case.incident.id.map_or_else(|| NO_ID.to_owned(), |id| id.to_string());
    let index = page::asset("").context("the page has no beginning")?;
    // The page learns here that it is about one case file alone; an id has letters, digits and a dash.
    let index = String::from_utf8_lossy(index.bytes).replace("content=\"collector\"", &format!("content=\"{id}\""));
    Ok(Site {
        case: Mutex::new(case),
        documents,
        index: index.into_bytes(),
        questions: format!("/api/v1/incidents/{id}/page/"),
        token: Sha256::digest(token).into(),
        hosts: [at.to_string(), format!("localhost:{}", at.port())],
    })
}

async fn serve(listener: TcpListener, site: Arc<Site>) -> Result<Ended> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return Ok(Ended::Done) };
        tokio::select! {
            // Dropping it in the middle loses a connection that nobody has answered yet.
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let site = Arc::clone(&site);
                connections.spawn(async move {
                    connection(stream, site).await;
                    drop(place);
                });
            }
            // Nothing is written here: whatever goes on may be dropped.
            _ = &mut stop => return Ok(Ended::Done),
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, site: Arc<Site>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&site)));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A browser that goes away is no error.
    let _gone = server.serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, site: Arc<Site>) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(refusal(StatusCode::METHOD_NOT_ALLOWED, "there is only GET"));
    }
    let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let here = |host: &str| site.hosts.iter().any(|known| known == host);
    let origin = header(ORIGIN).is_none_or(|origin| origin.strip_prefix("http://").is_some_and(here));
    if !header(HOST).is_some_and(here) || !origin {
        return Ok(refusal(StatusCode::MISDIRECTED_REQUEST, "this is asked for under another name than its own"));
    }
    let path = request.uri().path();
    if path == "/" {
        return Ok(page_file("text/html; charset=utf-8", site.index.clone()));
    }
    if let Some(file) = path.strip_prefix(FILES) {
        return Ok(match page::asset(file).filter(|_| file != "index.html") {
            Some(asset) => page_file(asset.content_type, asset.bytes.to_vec()),
            None => refusal(StatusCode::NOT_FOUND, "the page has no such file"),
        });
    }
    let token = header(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(token).into();
    if digest != site.token {
        return Ok(refusal(
            StatusCode::UNAUTHORIZED,
            "the token is that of another time: casefile review prints the whole address",
        ));
    }
    let Some(question) = path.strip_prefix(site.questions.as_str()).map(str::to_owned) else {
        return Ok(refusal(StatusCode::NOT_FOUND, "there is no such thing"));
    };
    let query = request.uri().query().unwrap_or_default().to_owned();
    // Reading and inflating block: on a thread that may, one question at a time.
    let asked = tokio::task::spawn_blocking(move || {
        let mut case = site.case.lock().unwrap_or_else(PoisonError::into_inner);
        page::answer_with(&mut case, &site.documents, &question, &query)
    });
    let Ok(told) = asked.await else {
        return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "answering this ended in a defect"));
    };
    let status = StatusCode::from_u16(told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(with_headers(
        status,
        told.content_type,
        told.body,
        "default-src 'none'; frame-ancestors 'none'; sandbox",
        "no-store",
    ))
}

fn page_file(content_type: &'static str, bytes: Vec<u8>) -> Response<Full<Bytes>> {
    with_headers(StatusCode::OK, content_type, bytes, CONTENT_SECURITY_POLICY, "no-cache")
}

fn refusal(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "title": status.canonical_reason(), "status": status.as_u16(), "detail": why });
    with_headers(status, "application/problem+json", body.to_string().into(), "default-src 'none'", "no-store")
}

fn with_headers(
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    policy: &'static str,
    kept: &'static str,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    for (name, value) in [
        ("content-type", content_type),
        ("content-security-policy", policy),
        ("cache-control", kept),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Asks the desktop to show it; where there is none the address stands in the terminal.
#[expect(clippy::disallowed_methods, reason = "the reader's own browser, on the reader's own machine, when asked to")]
fn open_browser(address: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = std::process::Command::new(opener);
    command
        .arg(address)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    if command.spawn().is_err() {
        talk!("no browser could be opened here: go to the address above");
    }
}
