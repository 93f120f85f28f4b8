//! What connectivity is tested to: a URL of one of five schemes, taken apart and checked. No user, no fragment, no port 0.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::steps::Step;

/// How far a test goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// The name is resolved.
    Dns,
    /// And it is connected to.
    Tcp,
    /// And a TLS handshake is made.
    Tls,
    /// And HTTP is asked, without TLS.
    Http,
    /// And HTTP is asked, over TLS.
    Https,
}

impl Scheme {
    /// Every scheme, in the order of its numbers on the wire.
    pub const ALL: [Self; 5] = [Self::Dns, Self::Tcp, Self::Tls, Self::Http, Self::Https];

    /// As it is written in front of `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The steps of a test, in order.
    pub const fn steps(self) -> &'static [Step] {
        match self {
            Self::Dns => &[Step::Resolve],
            Self::Tcp => &[Step::Resolve, Step::Connect],
            Self::Tls => &[Step::Resolve, Step::Connect, Step::Tls],
            Self::Http => &[Step::Resolve, Step::Connect, Step::Http],
            Self::Https => &Step::ALL,
        }
    }

    /// Whether HTTP is spoken.
    pub const fn has_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// Whether TLS is spoken.
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }

    /// The port where none is said; `None`: one must be said, or there is none.
    const fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Dns | Self::Tcp | Self::Tls => None,
        }
    }
}

/// What connectivity is tested to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    scheme: Scheme,
    host: String,
    port: Option<u16>,
    path: String,
}

/// Why a text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTarget(&'static str);

impl Target {
    /// The most bytes of a host name (RFC 1035 §2.3.4).
    pub const MAX_HOST: usize = 253;
    /// The most bytes of a path.
    pub const MAX_PATH: usize = 1_024;
    /// The most bytes of all of it as text.
    pub const MAX_TEXT: usize = Self::MAX_HOST + Self::MAX_PATH + 32;

    /// Out of its parts, checked. A path is of HTTP alone, and a port of everything but DNS.
    ///
    /// # Errors
    /// When one of the parts cannot be.
    pub fn new(scheme: Scheme, host: &str, port: Option<u16>, path: &str) -> Result<Self, InvalidTarget> {
        check_host(host)?;
        match (scheme, port) {
            (Scheme::Dns, Some(_)) => return Err(InvalidTarget("dns:// has no port")),
            (Scheme::Dns, None) | (_, Some(1..)) => {}
            (_, Some(0)) => return Err(InvalidTarget("there is no port 0")),
            (_, None) => return Err(InvalidTarget("needs a port: HOST:PORT")),
        }
        check_path(scheme, path)?;
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port, path: path.to_owned() })
    }

    /// How far a test goes.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// A host name, or an IP address without brackets; in small letters.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; `None` for DNS alone.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// What HTTP asks for, with its slash; empty for every other scheme.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The host as it stands in front of a colon: an IPv6 address in brackets.
    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    /// What HTTP says in `Host` (RFC 9110 §7.2): without the port where it is the scheme's own.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) if Some(port) != self.scheme.default_port() => format!("{}:{port}", self.bracketed()),
            _ => self.bracketed(),
        }
    }
}

fn check_host(host: &str) -> Result<(), InvalidTarget> {
    if host.contains(':') {
        return match host.parse::<IpAddr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(InvalidTarget("is no IPv6 address")),
        };
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.is_empty() || host.len() > Target::MAX_HOST {
        return Err(InvalidTarget("a host has 1 to 253 characters"));
    }
    let label = |label: &str| {
        let byte = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(byte) && !label.starts_with('-')
    };
    if name.split('.').all(label) {
        Ok(())
    } else {
        Err(InvalidTarget(
            "a host has letters, digits, '-' and '_' between its dots (a name in other letters as xn--…)",
        ))
    }
}

fn check_path(scheme: Scheme, path: &str) -> Result<(), InvalidTarget> {
    match (scheme.has_http(), path) {
        (false, "") => Ok(()),
        (false, _) => Err(InvalidTarget("only http:// and https:// have a path")),
        (true, path) => {
            let fits = path.starts_with('/')
                && path.len() <= Target::MAX_PATH
                && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
            if fits {
                Ok(())
            } else {
                Err(InvalidTarget("a path begins with / and has visible ASCII only, at most 1,024, without #"))
            }
        }
    }
}

impl FromStr for Target {
    type Err = InvalidTarget;
    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        if text.len() > Self::MAX_TEXT {
            return Err(InvalidTarget("is too long"));
        }
        let schemes = "begins with none of dns://, tcp://, tls://, http://, https://";
        let (scheme, rest) = text.split_once("://").ok_or(InvalidTarget(schemes))?;
        let scheme = Scheme::ALL.into_iter().find(|s| s.name() == scheme).ok_or(InvalidTarget(schemes))?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(InvalidTarget("has a user: a password would stand in every log"));
        }
        let path = if path.is_empty() && scheme.has_http() { "/" } else { path };
        // A slash alone behind a scheme that has no paths is a habit and means nothing.
        let path = if path == "/" && !scheme.has_http() { "" } else { path };
        let (host, port) = split_port(authority)?;
        Self::new(scheme, host, port.or(scheme.default_port()), path)
    }
}

/// Host, without brackets, and port.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), InvalidTarget> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (host, behind) = rest.split_once(']').ok_or(InvalidTarget("a bracket is not closed"))?;
        if !host.contains(':') {
            return Err(InvalidTarget("only an IPv6 address stands in brackets"));
        }
        (host, behind)
    } else {
        authority.split_at(authority.find(':').unwrap_or(authority.len()))
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.strip_prefix(':').filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    let port = digits.and_then(|digits| digits.parse().ok());
    Ok((host, Some(port.ok_or(InvalidTarget("the port is no number from 1 to 65535"))?)))
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.bracketed())?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

impl TryFrom<String> for Target {
    type Error = InvalidTarget;
    fn try_from(text: String) -> Result<Self, InvalidTarget> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_and_written_in_one_form() {
        for (given, written, authority) in [
            ("dns://api.shop.svc.cluster.local", "dns://api.shop.svc.cluster.local", "api.shop.svc.cluster.local"),
            ("tcp://10.0.0.7:5432", "tcp://10.0.0.7:5432", "10.0.0.7:5432"),
            ("tcp://db:5432/", "tcp://db:5432", "db:5432"),
            ("tls://[FE00::1]:443", "tls://[fe00::1]:443", "[fe00::1]:443"),
            ("https://API.example.org", "https://api.example.org:443/", "api.example.org"),
            ("http://api:8080/healthz?full=1", "http://api:8080/healthz?full=1", "api:8080"),
            ("https://api.:443/x", "https://api.:443/x", "api."),
        ] {
            let target: Target = given.parse().unwrap_or_else(|e| panic!("{given}: {e}"));
            assert_eq!((target.to_string().as_str(), target.authority().as_str()), (written, authority));
            assert_eq!(written.parse(), Ok(target));
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for bad in [
            "",
            "api:443",
            "ftp://api:21",
            "HTTPS://api",
            "dns://api:53",
            "dns://api/x",
            "tcp://api",
            "tcp://api:0",
            "tcp://api:65536",
            "tcp://api:+80",
            "tcp://api:80/path",
            "https://kim:secret@api/",
            "https://api/#top",
            "https://api/a b",
            "https://api?x",
            "https://api/\r\nX: y",
            "https:///x",
            "tcp://::1:80",
            "tcp://[::1:80",
            "tcp://[api]:80",
            "tcp://[::1]80",
            "tcp://a..b:80",
            "tcp://-a:80",
            "tcp://über:80",
            "tcp://a b:80",
            "dns://.",
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
        assert!(format!("dns://{}", "a.".repeat(127)).parse::<Target>().is_err());
        assert!(format!("http://a/{}", "x".repeat(1_024)).parse::<Target>().is_err());
    }

    #[test]
    fn each_scheme_goes_one_step_further() {
        let steps = Scheme::ALL.map(|scheme| scheme.steps().len());
        assert_eq!(steps, [1, 2, 3, 3, 4]);
        assert!(Scheme::ALL.iter().all(|s| s.has_tls() == s.steps().contains(&Step::Tls)));
        assert!(Scheme::ALL.iter().all(|s| s.has_http() == s.steps().contains(&Step::Http)));
    }
}
