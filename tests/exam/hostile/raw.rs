//! A gRPC call by hand: any path, any header, any bytes as its body.

use std::convert::Infallible;

use anyhow::Result;
use casefile_proto::wire::v1;
use http_body_util::{BodyExt, Full};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::Bytes;
use tonic::codegen::http::{Request, header};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::case::{Answer, PATIENCE};

/// The session's method.
pub(super) const SESSION: &str = "/casefile.v1.AgentService/Session";

/// A body that ends.
pub(super) fn whole(bytes: Vec<u8>) -> Body {
    Body::new(Full::new(Bytes::from(bytes)))
}

/// A body that says this and then nothing, without an end.
pub(super) fn open(bytes: Vec<u8>) -> Body {
    // What never comes is waited for behind it.
    Body::new(Full::new(Bytes::from(bytes)).with_trailers(std::future::pending::<Option<Result<_, Infallible>>>()))
}

/// A message as gRPC frames it: a flag, its length, itself.
pub(super) fn framed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    let mut out = vec![flag];
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(message);
    out
}

/// Calls, and judges: only a status that is no success, a refusal of HTTP, or the end of the stream is a refusal.
pub(super) async fn call(channel: &Channel, path: &str, headers: &[(&str, &str)], body: Body) -> Result<Answer> {
    let mut request = Request::post(format!("http://casefile{path}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(channel, request.body(body)?).await
}

/// Sends a request as it is.
pub(super) async fn send(channel: &Channel, request: Request<Body>) -> Result<Answer> {
    let mut channel = channel.clone();
    let talking = async {
        if let Err(error) = std::future::poll_fn(|cx| GrpcService::<Body>::poll_ready(&mut channel, cx)).await {
            return Ok(Answer::refused(format!("no connection: {error}")));
        }
        let answer = match channel.call(request).await {
            Ok(answer) => answer,
            Err(error) => return Ok(Answer::refused(format!("the call was cut: {error}"))),
        };
        let (head, body) = answer.into_parts();
        let code = |headers: &tonic::codegen::http::HeaderMap| {
            Some(headers.get("grpc-status")?.to_str().ok()?.parse::<i32>().ok().map(Code::from_i32))
        };
        if !head.status.is_success() {
            return Ok(Answer::refused(format!("HTTP {}", head.status.as_u16())));
        }
        let mut found = code(&head.headers);
        let mut said = 0;
        if found.is_none() {
            match body.collect().await {
                Ok(collected) => {
                    found = collected.trailers().and_then(code);
                    said = collected.to_bytes().len();
                }
                Err(status) => return Ok(Answer::refused(format!("the answer was cut: {status}"))),
            }
        }
        Ok(match found.flatten() {
            _ if said > 0 => Answer::accepted(format!("it answered with {said} bytes")),
            Some(code @ (Code::Ok | Code::Unavailable)) => Answer::accepted(format!("{code:?}")),
            Some(code) => Answer::refused(format!("{code:?}")),
            None => Answer::accepted("it answered without a status"),
        })
    };
    match timeout(PATIENCE, talking).await {
        Ok(answer) => answer,
        Err(_) => Ok(Answer::accepted("no end of the call")),
    }
}

/// How a typed call went.
pub(super) fn judged<T>(answer: Result<T, Status>) -> Answer {
    match answer {
        Ok(_) => Answer::accepted("OK"),
        Err(status) => by(&status),
    }
}

/// Refused with this status. One that says "try again" is no refusal.
pub(super) fn by(status: &Status) -> Answer {
    match status.code() {
        Code::Ok | Code::Unavailable => Answer::accepted(format!("{:?}: {}", status.code(), status.message())),
        code => Answer::refused(format!("{code:?}")),
    }
}

/// An empty message of a session: valid bytes that say nothing.
pub(super) fn nothing() -> v1::SessionRequest {
    v1::SessionRequest { message: None }
}
