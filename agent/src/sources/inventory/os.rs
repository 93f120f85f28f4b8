//! The kernel, its modules and the distribution on top of it.

use std::collections::BTreeMap;

use casefile_proto::gap::{Gap, GapReason};
use serde::Serialize;

use crate::host::Host;
use crate::sources::kept::unreadable;
use crate::text::{self, BadLine, Fields, Unparsed, entries, lines};

/// The kernel and how it was started.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Kernel {
    /// `Linux`.
    pub sysname: Option<String>,
    /// `6.18.44`.
    pub release: Option<String>,
    /// `#1 SMP PREEMPT_DYNAMIC …`.
    pub version: Option<String>,
    /// `x86_64`: only of a machine that runs.
    pub machine: Option<String>,
    /// As the agent's UTS namespace has it.
    pub hostname: Option<String>,
    /// As the agent's UTS namespace has it.
    pub domainname: Option<String>,
    /// `/proc/version`: who built it with what.
    pub build: Option<String>,
    /// `/proc/cmdline`.
    pub command_line: Option<String>,
    /// Which boot.
    pub boot_id: Option<String>,
    /// Bits of what has tainted it.
    pub tainted: Option<i64>,
}

/// A loaded module.
#[derive(Debug, Clone, Serialize)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Bytes of memory.
    pub size: i64,
    /// `Live`, `Loading`, `Unloading`.
    pub state: String,
    /// What taints the kernel: `OE` is built out of tree and not signed.
    pub taints: Option<String>,
}

/// One line; the kernel's command line is at most 4 KiB on every architecture that we run on.
const MAX_LINE: usize = 16 << 10;
/// A distribution's file about itself.
const MAX_OS_RELEASE: usize = 64 << 10;
/// About 80 bytes a module.
const MAX_MODULES: usize = 1 << 20;

/// What the kernel says of itself.
pub(super) fn kernel(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Kernel {
    let mut read = |path: &str| line(host, path, buf, gaps);
    let tainted = read("proc/sys/kernel/tainted");
    Kernel {
        sysname: read("proc/sys/kernel/ostype"),
        release: read("proc/sys/kernel/osrelease"),
        version: read("proc/sys/kernel/version"),
        machine: host.is_live().then(|| rustix::system::uname().machine().to_string_lossy().into_owned()),
        hostname: read("proc/sys/kernel/hostname"),
        domainname: read("proc/sys/kernel/domainname"),
        build: None,
        command_line: read("proc/cmdline"),
        boot_id: read("proc/sys/kernel/random/boot_id"),
        tainted: tainted.and_then(|bits| match text::number(bits.as_bytes()) {
            Ok(bits) => Some(bits),
            Err(why) => {
                gaps.push(Gap::new(GapReason::ParseFailed, format!("proc/sys/kernel/tainted: {bits:?}: {why}")));
                None
            }
        }),
    }
}

/// A file that is one line of text, without its end; missing is no gap.
pub(super) fn line(host: &Host, path: &str, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Option<String> {
    match host.read(path, buf, MAX_LINE) {
        Ok(()) => {}
        Err(error) if error.is_not_found() || error.is_unsupported() => return None,
        Err(error) => {
            gaps.push(unreadable(&error));
            return None;
        }
    }
    let mut bad = Unparsed::default();
    // Some drivers leave the line end away; the kernel's own files never do.
    if path.starts_with("sys/block/") && !buf.ends_with(b"\n") {
        buf.push(b'\n');
    }
    let line = text::single(buf).and_then(|line| {
        let text = std::str::from_utf8(line).ok().filter(|text| !text.chars().any(|c| c.is_control() && c != '\t'));
        text.map(|text| text.trim_end().to_owned()).ok_or(BadLine { line, why: "not a line of text" })
    });
    let line = bad.keep(line);
    bad.gap(path).into_iter().for_each(|gap| gaps.push(gap));
    line
}

/// `/etc/os-release`, which is a link into `/usr/lib` on most distributions: keys in lower case.
pub(super) fn distribution(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> BTreeMap<String, String> {
    let mut found = false;
    for path in ["etc/os-release", "usr/lib/os-release"] {
        match host.read(path, buf, MAX_OS_RELEASE) {
            Ok(()) => {
                found = true;
                break;
            }
            Err(error) if error.is_not_found() => {}
            // Absolute links lead out of the root: the other path is the same file.
            Err(crate::host::HostError::Refused { .. }) => {}
            Err(error) => gaps.push(unreadable(&error)),
        }
    }
    if !found {
        return BTreeMap::new();
    }
    let mut bad = Unparsed::default();
    let pairs = parse_os_release(buf).filter_map(|pair| bad.keep(pair)).collect();
    bad.gap("etc/os-release").into_iter().for_each(|gap| gaps.push(gap));
    pairs
}

/// `VERSION_ID="12"` (`os-release(5)`): quotes and the backslashes inside them are taken away.
fn parse_os_release(text: &[u8]) -> impl Iterator<Item = Result<(String, String), BadLine<'_>>> {
    // The last line of a file that people write need not have an end.
    lines(text).map(|line| Ok(line.unwrap_or_else(|cut| cut.line))).filter_map(|line: Result<&[u8], BadLine<'_>>| {
        let line = line.ok()?.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            return None;
        }
        let pair = (|| {
            let text = std::str::from_utf8(line).ok()?;
            let (key, value) = text.split_once('=')?;
            let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let inner = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(value);
            let mut unescaped = String::with_capacity(inner.len());
            let mut escaped = false;
            for c in inner.chars() {
                if c == '\\' && !escaped {
                    escaped = true;
                } else {
                    unescaped.push(c);
                    escaped = false;
                }
            }
            (is_key && !unescaped.chars().any(char::is_control)).then(|| (key.to_ascii_lowercase(), unescaped))
        })();
        Some(pair.ok_or(BadLine { line, why: "not KEY=value" }))
    })
}

/// The loaded modules; a kernel without modules has no list of them.
pub(super) fn modules(host: &Host, buf: &mut Vec<u8>, gaps: &mut Vec<Gap>) -> Vec<Module> {
    match host.read("proc/modules", buf, MAX_MODULES) {
        Ok(()) => {}
        Err(error) if error.is_not_found() => return Vec::new(),
        Err(error) => {
            gaps.push(unreadable(&error));
            return Vec::new();
        }
    }
    let mut bad = Unparsed::default();
    let modules = parse_modules(buf).filter_map(|module| bad.keep(module)).collect();
    bad.gap("proc/modules").into_iter().for_each(|gap| gaps.push(gap));
    modules
}

/// `nvidia 56823808 2 nvidia_uvm, Live 0x0000000000000000 (POE)`: name, size, uses, users, state, address, taints.
fn parse_modules(text: &[u8]) -> impl Iterator<Item = Result<Module, BadLine<'_>>> {
    entries(text, |line| {
        let mut fields = Fields::of(line);
        let name = fields.name()?.to_owned();
        let size = fields.number()?;
        let (_uses, _users) = (fields.word()?, fields.word()?);
        let state = fields.name()?.to_owned();
        let _address = fields.word()?;
        let taints = fields.next().and_then(text::name).map(|taints| taints.trim_matches(['(', ')']).to_owned());
        Ok(Some(Module { name, size, state, taints }))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_os_release_lose_their_quotes_and_nothing_else() {
        let text = b"# comment\nNAME=\"Debian GNU/Linux\"\nVERSION_ID='12'\nID=debian\nX=\"a \\\"b\\\" \\$c\"\nno pair\nLAST=1";
        let (good, bad): (Vec<_>, Vec<_>) = parse_os_release(text).partition(Result::is_ok);
        let pairs: Vec<_> = good.into_iter().map(Result::unwrap).collect();
        let expected =
            [("name", "Debian GNU/Linux"), ("version_id", "12"), ("id", "debian"), ("x", "a \"b\" $c"), ("last", "1")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(bad.len(), 1);
    }

    #[test]
    fn a_module_is_told_with_its_taints() {
        let text = b"nvidia 56823808 2 nvidia_uvm,nvidia_modeset, Live 0x0000000000000000 (POE)\nloop 32768 0 - Live 0x0000000000000000\n";
        let got: Vec<_> = parse_modules(text).map(Result::unwrap).collect();
        assert_eq!((got[0].name.as_str(), got[0].size, got[0].taints.as_deref()), ("nvidia", 56_823_808, Some("POE")));
        assert_eq!((got[1].state.as_str(), got[1].taints.as_deref()), ("Live", None));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_are_bad(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse_os_release(&bytes).for_each(drop);
            parse_modules(&bytes).for_each(drop);
        }
    }
}
