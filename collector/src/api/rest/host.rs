//! For which host a request is: ours, or one whose name somebody made to lead here.
//!
//! A page of a stranger can have its own name resolve to this machine and then read what is served here as its own (DNS
//! rebinding). That takes a name, so an address is always taken, `localhost` is, and of other names those in the configuration.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::header::{self, HeaderMap};
use axum::http::uri::{Authority, Uri};

use super::single;
use crate::api::refused::{Kind, Refused};

/// The names that this is reached by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<String>);

impl Names {
    /// These, beside addresses and `localhost`.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request is for this host, and of a page of this host when it is of a page.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let host: Option<Authority> = single(headers, header::HOST).and_then(|host| host.parse().ok());
        // An address in the request line says it too, and then goes before (RFC 9112 §3.2.2): both must be ours.
        let ours = |host: &Authority| self.is_ours(host.host());
        let Some(host) = host.filter(|host| ours(host) && uri.authority().is_none_or(ours)) else {
            let text = "the Host header names another host than this one; `http_names` in the configuration adds names";
            return Err(Refused::new(Kind::ForeignHost, text));
        };
        if headers.contains_key(header::ORIGIN) {
            let origin: Option<Uri> = single(headers, header::ORIGIN).and_then(|origin| origin.parse().ok());
            let same = |origin: &Authority| *origin == host || self.0.contains(&origin.host().to_ascii_lowercase());
            if !origin.is_some_and(|origin| origin.authority().is_some_and(same)) {
                return Err(Refused::new(Kind::ForeignOrigin, "a page of another site asks; this is for its own page"));
            }
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = bare.map_or_else(|| host.parse::<IpAddr>().is_ok(), |bare| bare.parse::<Ipv6Addr>().is_ok());
        address || host == "localhost" || self.0.contains(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &[&str], origin: Option<&str>, uri: &str) -> Result<(), Kind> {
        let mut headers = HeaderMap::new();
        for host in host {
            headers.append(header::HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let names = Names::new(["Casefile.Example.com".to_owned()]);
        names.check(&uri.parse().unwrap(), &headers).map_err(|refused| refused.kind)
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused_and_an_address_is_not() {
        let good = ["127.0.0.1:7070", "[::1]:7070", "10.0.0.7", "localhost:7070", "LOCALHOST", "casefile.example.com"];
        for host in good {
            assert_eq!(asked(&[host], None, "/"), Ok(()), "{host}");
        }
        let bad =
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:7070", "casefile.example.com.", ""];
        for host in bad {
            assert_eq!(asked(&[host], None, "/"), Err(Kind::ForeignHost), "{host}");
        }
        assert_eq!(asked(&[], None, "/"), Err(Kind::ForeignHost));
        assert_eq!(asked(&["127.0.0.1", "127.0.0.1"], None, "/"), Err(Kind::ForeignHost), "twice");
        assert_eq!(asked(&["127.0.0.1"], None, "http://evil.example/"), Err(Kind::ForeignHost));
        assert_eq!(asked(&["127.0.0.1"], None, "http://localhost/"), Ok(()));
    }

    #[test]
    fn only_a_page_of_this_host_may_ask() {
        let from = |origin| asked(&["127.0.0.1:7070"], Some(origin), "/");
        assert_eq!(from("http://127.0.0.1:7070"), Ok(()));
        assert_eq!(from("https://casefile.example.com"), Ok(()), "a proxy may say another Host than the page has");
        for bad in ["http://127.0.0.1:8080", "http://evil.example", "null", "", "http://10.0.0.7"] {
            assert_eq!(from(bad), Err(Kind::ForeignOrigin), "{bad}");
        }
    }
}
