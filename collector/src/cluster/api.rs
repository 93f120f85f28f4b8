//! The API server, asked for raw JSON: every answer has a size that it may not exceed and a time within which it must come,
//! whatever the server, or whoever wrote the objects in it, would like.
//!
//! kube finds the server, trusts it and proves who we are; its own retries are off, because who asks here knows better
//! how long to wait. What an answer means is not known here.

use std::time::Duration;

use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tonic::codegen::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use tonic::codegen::http::{Method, Request, Response};

use super::config::Access;

/// An API server that does not take a connection within this is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What is read of an answer that is an error: a `Status` is small.
const ERROR_BYTES: usize = 64 << 10;

/// Lists without what is in their objects (API conventions, "Alternate representations of resources").
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Who we are in the API server's own logs, and, up to the slash, in `managedFields` of what we write.
const AGENT: &str = concat!("casefile-collector/", env!("CARGO_PKG_VERSION"));

/// The most that is believed of `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// What the operator said does not lead to a server.
    #[error("find the API server: {0}")]
    Access(String),
    /// It cannot be reached, or broke off.
    #[error("the API server cannot be reached: {0}")]
    Away(String),
    /// It did not answer in time.
    #[error("the API server did not answer within {0:?}")]
    Late(Duration),
    /// It said no.
    #[error("the API server answered {code} {reason}: {message}")]
    Said {
        /// The status of HTTP.
        code: u16,
        /// One word of the API conventions: `Forbidden`, `Expired`; empty when it gave none.
        reason: String,
        /// Its own words, shortened.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The answer is larger than it may be.
    #[error("the API server's answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The answer is not what was asked for.
    #[error("the API server's answer is not understood: {0}")]
    Malformed(String),
}

impl ApiError {
    /// Whether the version that was asked for is gone (`410 Gone`, `Expired`): everything must be listed again.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Said { code: 410, .. })
    }

    /// Whether we may not ask for this.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Said { code: 401 | 403, .. })
    }

    /// Whether there is no such thing: an object, or a kind that this cluster does not have.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Said { code: 404, .. })
    }

    /// Whether somebody else changed the object in the meantime.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Said { code: 409, .. })
    }
}

/// What an API server says when it does not do what was asked (API conventions, "Response Status Kind").
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    message: String,
    reason: String,
    code: u16,
}

/// The API server. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Api {
    client: kube::Client,
    /// The namespace of the pod that this is, or of the kubeconfig's context.
    namespace: String,
}

impl Api {
    /// Finds the API server. Does not speak to it yet: it may be away.
    pub async fn new(access: &Access) -> Result<Self, ApiError> {
        let wrong = |e: &dyn std::error::Error| ApiError::Access(crate::chain::chain(e));
        let mut config = match access {
            Access::Pod => kube::Config::incluster().map_err(|e| wrong(&e))?,
            Access::Kubeconfig(path) => {
                let file = path.clone();
                let read = tokio::task::spawn_blocking(move || Kubeconfig::read_from(file)).await;
                let kubeconfig = read.map_err(|e| wrong(&e))?.map_err(|e| wrong(&e))?;
                if kubeconfig.auth_infos.iter().any(|user| user.auth_info.as_ref().is_some_and(|i| i.exec.is_some())) {
                    // A server in the middle of an incident does not start programs to find out who it is.
                    let text =
                        format!("{} runs a program to prove who one is: use a token or a certificate", path.display());
                    return Err(ApiError::Access(text));
                }
                let options = KubeConfigOptions::default();
                kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| wrong(&e))?
            }
        };
        config.connect_timeout = Some(CONNECT_WITHIN);
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let client = kube::Client::try_from(config).map_err(|e| wrong(&e))?;
        Ok(Self { client, namespace })
    }

    /// The namespace of the pod that this is, or of the kubeconfig's context.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Gets a path, `/api/v1/nodes?limit=500`: an answer of at most so many bytes, within this time.
    pub async fn get(&self, path: &str, most: usize, within: Duration) -> Result<Vec<u8>, ApiError> {
        let answered = async { body(self.send(Method::GET, path, None).await?, most).await };
        timeout(within, answered).await.map_err(|_| ApiError::Late(within))?
    }

    /// The same, but of a list no more than the metadata of its objects.
    pub async fn get_metadata(&self, path: &str, most: usize, within: Duration) -> Result<Vec<u8>, ApiError> {
        let answered = async { body(self.request(Method::GET, path, None, METADATA).await?, most).await };
        timeout(within, answered).await.map_err(|_| ApiError::Late(within))?
    }

    /// Sends a body with this method: `POST` and `PUT` as JSON, `PATCH` as a merge patch (RFC 7386).
    pub async fn send_json(
        &self,
        method: Method,
        path: &str,
        sent: &Value,
        most: usize,
        within: Duration,
    ) -> Result<Vec<u8>, ApiError> {
        let answered = async { body(self.send(method, path, Some(sent)).await?, most).await };
        timeout(within, answered).await.map_err(|_| ApiError::Late(within))?
    }

    /// Gets a path that is answered line by line for as long as the server likes: a watch. The headers must come within this
    /// time.
    pub async fn lines(&self, path: &str, within: Duration) -> Result<Lines, ApiError> {
        let answered = timeout(within, self.send(Method::GET, path, None)).await;
        let body = answered.map_err(|_| ApiError::Late(within))??.into_body();
        Ok(Lines { body, buf: Vec::new(), searched: 0, skipping: false })
    }

    async fn send(&self, method: Method, path: &str, sent: Option<&Value>) -> Result<Response<Body>, ApiError> {
        self.request(method, path, sent, "application/json").await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        sent: Option<&Value>,
        accept: &'static str,
    ) -> Result<Response<Body>, ApiError> {
        let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let mut request = Request::builder().method(method).uri(path).header(ACCEPT, accept).header(USER_AGENT, AGENT);
        if sent.is_some() {
            request = request.header(CONTENT_TYPE, content);
        }
        let bytes = sent.map(serde_json::to_vec).transpose().map_err(|e| ApiError::Malformed(e.to_string()))?;
        let request = request.body(bytes.map_or_else(Body::empty, Body::from));
        let request = request.map_err(|e| ApiError::Malformed(e.to_string()))?;
        let answer = self.client.send(request).await.map_err(|e| ApiError::Away(away(&e)))?;
        if answer.status().is_success() { Ok(answer) } else { Err(said(answer).await) }
    }
}

/// Why a request failed, once: kube's own words repeat those of what they are caused by.
fn away(error: &kube::Error) -> String {
    match error {
        kube::Error::Service(cause) => crate::chain::chain(&**cause),
        other => crate::chain::chain(other),
    }
}

/// A text as part of a query (RFC 3986): tokens and versions are opaque, and may hold anything.
pub(super) fn escaped(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let each = text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") });
    each.collect()
}

/// What a server said that did not do what was asked. What cannot be read of it is not waited for.
async fn said(answer: Response<Body>) -> ApiError {
    let code = answer.status().as_u16();
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
    let retry_after = seconds.map(|secs| Duration::from_secs(secs).min(MAX_RETRY_AFTER));
    let text = timeout(CONNECT_WITHIN, body(answer, ERROR_BYTES)).await;
    // A proxy in between answers in its own words, which are not worth repeating.
    let status = text.ok().and_then(Result::ok).and_then(|text| serde_json::from_slice::<Status>(&text).ok());
    from_status(code, status.unwrap_or_default(), retry_after)
}

/// The longest that is repeated of what a server said.
const MESSAGE: usize = 512;

fn from_status(code: u16, status: Status, retry_after: Option<Duration>) -> ApiError {
    let message = status.message.chars().filter(|c| !c.is_control()).take(MESSAGE).collect();
    let reason = status.reason.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    ApiError::Said { code, reason, message, retry_after }
}

/// The error that a watch tells in its stream instead of by a status of HTTP.
pub fn told(object: Value) -> ApiError {
    let status: Status = serde_json::from_value(object).unwrap_or_default();
    from_status(status.code, status, None)
}

async fn body(answer: Response<Body>, most: usize) -> Result<Vec<u8>, ApiError> {
    let mut body = answer.into_body();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| ApiError::Away(away(&e)))?;
        // Trailers say nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > most {
            return Err(ApiError::TooLarge(most));
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// One line of an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line, without its end.
    Whole(Vec<u8>),
    /// A line that was longer than it may be: nothing of it is kept.
    TooLong,
}

/// Lines as they come. Dropping it closes the answer.
pub struct Lines {
    body: Body,
    buf: Vec<u8>,
    /// Bytes of `buf` that hold no line feed.
    searched: usize,
    /// Whether the rest of the present line is thrown away.
    skipping: bool,
}

impl Lines {
    /// The next line of at most so many bytes; `None` when the server has ended. Waits until `deadline` at most; a call that was
    /// dropped loses nothing.
    pub async fn next(&mut self, most: usize, deadline: Instant) -> Result<Option<Line>, ApiError> {
        loop {
            if let Some(at) = self.buf[self.searched..].iter().position(|b| *b == b'\n') {
                let rest = self.buf.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buf, rest);
                line.pop();
                self.searched = 0;
                return Ok(Some(match std::mem::take(&mut self.skipping) || line.len() > most {
                    true => Line::TooLong,
                    false => Line::Whole(line),
                }));
            }
            self.searched = self.buf.len();
            if self.buf.len() > most {
                (self.skipping, self.searched) = (true, 0);
                self.buf = Vec::new();
            }
            let late = |_| ApiError::Late(Duration::ZERO);
            match tokio::time::timeout_at(deadline, self.body.frame()).await.map_err(late)? {
                // What is left without an end was cut off.
                None => return Ok(None),
                Some(Err(error)) => return Err(ApiError::Away(away(&error))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buf.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Lines {
        Lines { body: Body::from(text.as_bytes().to_vec()), buf: Vec::new(), searched: 0, skipping: false }
    }

    #[tokio::test]
    async fn lines_are_given_whole_and_one_that_is_too_long_is_said_and_passed_over() {
        let mut lines = lines("{\"a\":1}\n{\"bbbbbbbbbbbbbbbbbbbbbbbb\":2}\nx\ncut");
        let soon = Instant::now() + Duration::from_secs(10);
        assert_eq!(lines.next(10, soon).await.unwrap(), Some(Line::Whole(b"{\"a\":1}".to_vec())));
        assert_eq!(lines.next(10, soon).await.unwrap(), Some(Line::TooLong));
        assert_eq!(lines.next(10, soon).await.unwrap(), Some(Line::Whole(b"x".to_vec())));
        assert_eq!(lines.next(10, soon).await.unwrap(), None, "what has no end was cut off");
    }

    #[test]
    fn a_status_in_a_watch_is_the_error_that_it_is() {
        let text = include_str!("testdata/too_old.jsonl");
        let line: Value = serde_json::from_str(text).unwrap();
        let error = told(line["object"].clone());
        assert!(error.is_gone() && error.to_string().contains("too old resource version"), "{error}");
        assert!(matches!(told(Value::Null), ApiError::Said { code: 0, .. }));
    }
}
