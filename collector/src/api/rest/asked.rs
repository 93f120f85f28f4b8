//! One request behind the authoriser: who asks, the parts of its path, its query and its body, each read strictly.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::{Body, to_bytes};
use axum::http::header;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use super::single;
use crate::api::refused::{Kind, Refused};
use crate::identity::caller::Caller;

/// The largest body: an incident with thousands of nodes by name fits.
const MAX_BODY: usize = 64 << 10;

/// A request.
pub(super) struct Asked {
    /// Who asks.
    pub(super) caller: Caller,
    /// Method, address and headers.
    pub(super) head: Parts,
    /// The parts of the path that the route names, decoded.
    pub(super) params: Vec<(String, String)>,
    /// What came with it.
    pub(super) body: Body,
}

impl Asked {
    /// A part of the path that the route names.
    pub(super) fn param<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T, Refused> {
        let text = self.params.iter().find(|(known, _)| known == name).map_or("", |(_, text)| text);
        text.parse().map_err(|e| Refused::new(Kind::Malformed, format!("{e}")))
    }

    /// The query, of which every name must be known and none may come twice: a name that is mistyped must not be as if it
    /// were not there.
    pub(super) fn query<const N: usize>(&self, known: [&str; N]) -> Result<[Option<String>; N], Refused> {
        let mut found = [const { None }; N];
        for pair in self.head.uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let Some(at) = known.iter().position(|known| *known == name) else {
                let text = format!("the query has {name:?}; known here: {}", listed(&known));
                return Err(Refused::new(Kind::Malformed, text));
            };
            if found[at].replace(value).is_some() {
                return Err(Refused::new(Kind::Malformed, format!("the query has {name:?} twice")));
            }
        }
        Ok(found)
    }

    /// The body, as JSON.
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Refused> {
        let kind = single(&self.head.headers, header::CONTENT_TYPE).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Refused::new(Kind::WrongType, "say Content-Type: application/json"));
        }
        let body = std::mem::replace(&mut self.body, Body::empty());
        let text = to_bytes(body, MAX_BODY).await.map_err(|_| {
            Refused::new(Kind::TooLarge, format!("the body is cut off, or has more than {} KiB", MAX_BODY >> 10))
        })?;
        serde_json::from_slice(&text).map_err(|e| Refused::new(Kind::Malformed, format!("the body: {e}")))
    }
}

/// A value of the query as what it must be.
pub(super) fn parsed<T: FromStr<Err: Display>>(name: &str, value: Option<String>) -> Result<Option<T>, Refused> {
    let wrong = |e: T::Err| Refused::new(Kind::Malformed, format!("{name}: {e}"));
    value.map(|value| value.parse().map_err(wrong)).transpose()
}

fn listed(known: &[&str]) -> String {
    if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }
}

/// As forms write it.
fn decoded(text: &str) -> Result<String, Refused> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| Refused::new(Kind::Malformed, "the query is not UTF-8"))
}
