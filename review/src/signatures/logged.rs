//! A line of a log of the kernel or of the journal, as the many tools print it: what the record said, and who wrote it in which log,
//! where the line says so.
//!
//! A line counts as the kernel's only when it has the form that `dmesg`, `journalctl -k`, a syslog file, `/dev/kmsg` or our own
//! `kernel.log` give it; a program whose log line has the kernel's words further on is not taken for it. Messages of NVIDIA's driver
//! that are spread over several lines are put together.

use serde::Serialize;

use super::pci::PciAddress;
use super::xid::{NvidiaKind, NvidiaLine, first_line_of_several, nvidia_line};

/// Who wrote a record into the kernel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Author {
    /// The kernel or a driver: facility 0.
    Kernel,
    /// A program, through `/dev/kmsg`: any other facility. It may say what it likes.
    Program,
    /// The line does not say: `dmesg` prints no facility.
    Unknown,
}

impl Author {
    /// By the syslog facility of the record.
    pub fn of_facility(facility: u8) -> Self {
        if facility == 0 { Self::Kernel } else { Self::Program }
    }
}

/// Which log a line is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream<'a> {
    /// The kernel's.
    Kernel,
    /// The journal's, of this unit: `kubelet.service`. Where the line has no unit, of the program that it names, and a program
    /// may call itself what it likes.
    Journal(&'a str),
    /// The cluster's events, each as one line.
    Kubernetes,
    /// The line does not say.
    Unknown,
}

impl Stream<'_> {
    /// `kernel`, `journal:kubelet.service` or `k8s`; `None` where the line does not say.
    pub fn name(self) -> Option<String> {
        match self {
            Self::Kernel => Some("kernel".to_owned()),
            Self::Journal(name) => Some(format!("journal:{name}")),
            Self::Kubernetes => Some("k8s".to_owned()),
            Self::Unknown => None,
        }
    }
}

/// A line of a log, without what the tool that printed it put before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written<'a> {
    /// What the record said.
    pub text: &'a str,
    /// Who wrote it.
    pub author: Author,
    /// In which log it stands.
    pub stream: Stream<'a>,
}

/// What a line says, who wrote it, and in which log.
pub fn written(line: &str) -> Written<'_> {
    let line = line.trim_end_matches(['\n', '\r']);
    if let Some((text, author)) = of_kernel(line) {
        return Written { text, author, stream: Stream::Kernel };
    }
    match of_journal(line) {
        // The kernel's records as journald has them.
        Some(("kernel", text)) => Written { text, author: Author::Unknown, stream: Stream::Kernel },
        Some((name, text)) => Written { text, author: Author::Unknown, stream: Stream::Journal(name) },
        None => Written { text: line, author: Author::Unknown, stream: Stream::Unknown },
    }
}

/// The kernel's text in a line, and who wrote it; a line of any other log is all text.
pub fn message(line: &str) -> (&str, Author) {
    let line = line.trim_end_matches(['\n', '\r']);
    of_kernel(line).unwrap_or((line, Author::Unknown))
}

fn of_kernel(line: &str) -> Option<(&str, Author)> {
    of_our_log(line).or_else(|| of_kmsg(line)).or_else(|| of_syslog(line)).or_else(|| of_dmesg(line))
}

/// Reads the records of a kernel's log one after the other.
#[derive(Debug, Default)]
pub struct Reader {
    /// The device of a message that began in an earlier line, and for how many lines it may go on.
    began: Option<(PciAddress, u8)>,
}

/// In how many lines a message ends that began with the device: the driver's has three.
const GOES_ON: u8 = 3;

impl Reader {
    /// What the text of a record reports, with nothing before it, if it is one of the NVIDIA driver.
    pub fn record<'a>(&mut self, text: &'a str) -> Option<NvidiaLine<'a>> {
        let began = self.began.take();
        // Further lines of one record are indented by whoever prints them: only there may blanks stand before the driver's words.
        let further = began.is_some().then(|| text.trim_start()).filter(|further| *further != text);
        let mut found =
            nvidia_line(further.unwrap_or(text)).filter(|f| further.is_none() || f.kind == NvidiaKind::FallenOffBus);
        self.began = match (first_line_of_several(text), &began) {
            _ if found.is_some() => None,
            (Some(pci), _) => Some((pci, GOES_ON)),
            (None, Some((pci, left @ 1..))) if text.trim_start().starts_with("NVRM:") => Some((pci.clone(), left - 1)),
            (None, _) => None,
        };
        if let Some(found) = &mut found
            && found.kind == NvidiaKind::FallenOffBus
            && found.pci.is_none()
        {
            found.pci = began.map(|(pci, _)| pci);
        }
        found
    }
}

/// `TIME [NODE kernel] facility=F level=L … user=B TEXT`, as in `kernel.log` and as `casefile logs` prints it.
fn of_our_log(line: &str) -> Option<(&str, Author)> {
    let (time, rest) = line.split_once(' ')?;
    if !is_rfc3339(time) {
        return None;
    }
    let rest = if rest.starts_with("facility=") { rest } else { rest.split_once(" kernel ")?.1 };
    let record = of_our_record(rest)?;
    Some((record.text, record.author))
}

/// A record of `kernel.log` without its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelRecord<'a> {
    /// What it says.
    pub text: &'a str,
    /// Who wrote it.
    pub author: Author,
    /// The syslog level, 0 (emergency) to 7 (debug).
    pub level: u8,
}

/// `facility=F level=L seq=N … user=B TEXT`, as the lines of `kernel.log` have it behind the time.
pub fn of_our_record(record: &str) -> Option<KernelRecord<'_>> {
    let mut rest = record;
    let facility = numbered(word(&mut rest, "facility=")?, &FACILITIES)?;
    let level = numbered(word(&mut rest, "level=")?, &LEVELS)?;
    word(&mut rest, "seq=")?;
    for known in ["caller=", "fragment="] {
        word(&mut rest, known);
    }
    word(&mut rest, "user=")?;
    Some(KernelRecord { text: rest, author: Author::of_facility(facility), level })
}

/// The names that the agent gives to the first facilities and to the levels; it writes numbers where it has none.
const FACILITIES: [&str; 12] =
    ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

/// A number, a name of the list as its place there, or `local0` to `local7`.
fn numbered(text: &str, names: &[&str]) -> Option<u8> {
    if let Some(place) = names.iter().position(|name| *name == text) {
        return u8::try_from(place).ok();
    }
    match text.strip_prefix("local") {
        Some(n) => n.parse().ok().filter(|n| *n < 8).map(|n: u8| 16 + n),
        None => text.parse().ok(),
    }
}

/// Takes the value of a leading `name=value `.
fn word<'a>(rest: &mut &'a str, name: &str) -> Option<&'a str> {
    let (value, after) = rest.strip_prefix(name)?.split_once(' ')?;
    *rest = after;
    Some(value)
}

/// `6,1234,98765,-;TEXT`, as `/dev/kmsg` gives it.
fn of_kmsg(line: &str) -> Option<(&str, Author)> {
    let (head, text) = line.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u16 = fields.next()?.parse().ok()?;
    let numbers = [fields.next()?, fields.next()?];
    let sound = numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    sound.then_some((text, if priority < 8 { Author::Kernel } else { Author::Program }))
}

/// `Nov 23 03:11:42 gpu-17 kernel: TEXT` and the same with an RFC 3339 time, as syslog files and `journalctl -k` have it. The name before
/// the colon must be the kernel's: a program's lines have its own. Some keep the kernel's own time before the text.
fn of_syslog(line: &str) -> Option<(&str, Author)> {
    let (head, text) = line.split_once(" kernel: ")?;
    let words: Vec<_> = head.split_whitespace().collect();
    let sound = match words.as_slice() {
        [_month, day, clock, _host] => day.bytes().all(|b| b.is_ascii_digit()) && is_clock(clock),
        [time, _host] => is_rfc3339(time),
        _ => false,
    };
    sound.then(|| of_dmesg(text).unwrap_or((text, Author::Unknown)))
}

/// `[12345.678901] TEXT`, `[Mon Nov 23 03:11:42 2026] TEXT`, with `<4>`, `kern  :err   : ` or `[T123]` where asked for.
fn of_dmesg(line: &str) -> Option<(&str, Author)> {
    let (author, rest) = match line.strip_prefix('<').and_then(|l| l.split_once('>')) {
        Some((priority, rest)) => (Author::of_facility((priority.parse::<u16>().ok()? >> 3).try_into().ok()?), rest),
        None => match line.split_once(':').map(|(facility, rest)| (facility.trim_end(), rest)) {
            Some(("kern", rest)) => (Author::Kernel, rest.split_once(": ")?.1),
            Some(("user" | "daemon" | "syslog", rest)) => (Author::Program, rest.split_once(": ")?.1),
            _ => (Author::Unknown, line),
        },
    };
    let (time, text) = rest.strip_prefix('[')?.split_once(']')?;
    let seconds = time
        .trim_start()
        .split_once('.')
        .is_some_and(|(s, us)| [s, us].iter().all(|n| n.bytes().all(|b| b.is_ascii_digit())));
    let date = time.split_whitespace().any(is_clock) && time.len() == "Mon Nov 23 03:11:42 2026".len();
    if !seconds && !date {
        return None;
    }
    let caller = text.trim_start().strip_prefix('[').and_then(|t| t.split_once(']'));
    let text = match caller {
        Some((caller, text)) if caller.trim_start().starts_with(['T', 'C']) => text,
        _ => text,
    };
    Some((text.strip_prefix(' ')?, author))
}

/// A line of the journal: the unit, or where the line has none the program, and the text.
///
/// `TIME NODE kubelet.service <3> kubelet[812]: TEXT` as `casefile logs` prints it, `TIME <3> kubelet[812]: TEXT` as a case file has it,
/// and `Nov 23 03:11:42 gpu-17 kubelet[812]: TEXT` (or with an RFC 3339 time) as `journalctl` and syslog files have it.
fn of_journal(line: &str) -> Option<(&str, &str)> {
    let (first, rest) = line.split_once(' ')?;
    if !is_rfc3339(first) {
        // Month, day, clock, host.
        let (day, rest) = rest.trim_start().split_once(' ')?;
        let (clock, rest) = rest.split_once(' ')?;
        let (_host, rest) = rest.split_once(' ')?;
        let sound = first.len() == 3 && day.bytes().all(|b| b.is_ascii_digit()) && is_clock(clock);
        return if sound { program(rest) } else { None };
    }
    if let Some(rest) = behind_priority(rest) {
        return program(rest);
    }
    let (_node, rest) = rest.split_once(' ')?;
    let rest = rest.trim_start();
    match rest.split_once(' ').and_then(|(unit, rest)| Some((unit, program(behind_priority(rest)?)?))) {
        // What stands in a pod's or a file's log is no record of the journal, whatever it looks like.
        Some((unit, _)) if unit.contains('/') => None,
        Some((unit, (_, text))) => Some((unit, text)),
        None => program(rest),
    }
}

/// What stands behind `<3> `.
/// The text of a record of the journal behind `<3> kubelet[812]: `, as the logs of units have it behind the time; all of it
/// where it has no such head.
pub fn of_our_journal(record: &str) -> &str {
    let rest = behind_priority(record).unwrap_or(record);
    program(rest).map_or(rest, |(_, text)| text)
}

fn behind_priority(text: &str) -> Option<&str> {
    let (priority, rest) = text.strip_prefix('<')?.split_once("> ")?;
    matches!(priority.as_bytes(), [b'0'..=b'7']).then_some(rest)
}

/// `kubelet[812]: TEXT` or `kubelet: TEXT`.
fn program(text: &str) -> Option<(&str, &str)> {
    let (name, text) = text.split_once(": ")?;
    let name = match name.split_once('[') {
        Some((name, pid)) if pid.strip_suffix(']')?.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) => return None,
        None => name,
    };
    let sound = !name.is_empty() && !name.contains([' ', '"', '/']);
    sound.then_some((name, text))
}

/// `03:11:42`.
fn is_clock(text: &str) -> bool {
    let mut parts = text.split(':');
    let two = |part: Option<&str>| part.is_some_and(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_digit()));
    two(parts.next()) && two(parts.next()) && two(parts.next()) && parts.next().is_none()
}

/// Begins as RFC 3339 does: a year, and a `T` behind the date.
fn is_rfc3339(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().take(4).all(u8::is_ascii_digit) && bytes.get(4) == Some(&b'-') && bytes.get(10) == Some(&b'T')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAYS: &str = "NVRM: Xid (PCI:0000:84:00): 79, pid=1234, name=python, GPU has fallen off the bus.";

    fn read<'a>(reader: &mut Reader, line: &'a str) -> Option<NvidiaLine<'a>> {
        reader.record(written(line).text)
    }

    #[test]
    fn a_line_is_understood_as_whatever_tool_printed_it() {
        for (before, author) in [
            ("", Author::Unknown),
            ("[12345.678901] ", Author::Unknown),
            ("[   12.678901] ", Author::Unknown),
            ("[Mon Nov 23 03:11:42 2026] ", Author::Unknown),
            ("[12345.678901] [T1234] ", Author::Unknown),
            ("[12345.678901][    C7] ", Author::Unknown),
            ("<4>[12345.678901] ", Author::Kernel),
            ("<12>[12345.678901] ", Author::Program),
            ("kern  :err   : [12345.678901] ", Author::Kernel),
            ("user  :notice: [12345.678901] ", Author::Program),
            ("Nov 23 03:11:42 gpu-17 kernel: ", Author::Unknown),
            ("Nov  3 03:11:42 gpu-17 kernel: [12345.678901] ", Author::Unknown),
            ("2026-11-23T03:11:42.118000+00:00 gpu-17 kernel: ", Author::Unknown),
            ("2026-11-23T03:11:42.118000Z facility=kern level=err seq=88412 user=false ", Author::Kernel),
            ("2026-11-23T03:11:42.118000Z facility=local7 level=warn seq=88412 user=true ", Author::Program),
            ("2026-11-23T03:11:42.118000Z facility=0 level=3 seq=88412 user=false ", Author::Kernel),
            ("2026-11-23T03:11:42.118000Z facility=1 level=5 seq=- caller=T77 user=true ", Author::Program),
            (
                "2026-11-23T03:11:42.118000Z gpu-17 kernel facility=0 level=3 seq=88412 fragment=true user=false ",
                Author::Kernel,
            ),
            ("3,88412,12345678901,-;", Author::Kernel),
            ("12,88412,12345678901,-,caller=T77;", Author::Program),
        ] {
            let line = format!("{before}{SAYS}\n");
            assert_eq!(message(&line), (SAYS, author), "{line}");
            let stream = if before.is_empty() { Stream::Unknown } else { Stream::Kernel };
            assert_eq!(written(&line), Written { text: SAYS, author, stream }, "{line}");
            let found = read(&mut Reader::default(), &line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.code(), found.pid), (Some(79), Some(1234)), "{line}");
        }
    }

    #[test]
    fn a_program_that_logs_the_words_of_the_driver_is_not_taken_for_it() {
        for before in [
            "Nov 23 03:11:42 gpu-17 train[77]: ",
            "Nov 23 03:11:42 gpu-17 train[77]: kernel: ",
            "Nov 23 03:11:42 gpu-17 train[77]: [12345.678901] ",
            "2026-11-23T03:11:42Z stdout ",
            "2026-11-23T03:11:42Z gpu-17 shop/api-0/main kernel facility=0 ",
            "kernel: ",
            "the kernel: ",
            "[gpu-health] [CRITICAL] GPU-1234: XID: ",
            "[not a time] ",
            "6,x,y,-;",
            "{\"msg\":\"",
            "    ",
        ] {
            let line = format!("{before}{SAYS}");
            let written = written(&line);
            assert!(written.stream != Stream::Kernel, "{line}: {written:?}");
            let quoted =
                matches!(written.stream, Stream::Journal(_)) || Reader::default().record(written.text).is_none();
            assert!(quoted, "{line}: {written:?}");
            assert!(Reader::default().record(message(&line).0).is_none(), "{line}");
        }
    }

    #[test]
    fn a_line_of_the_journal_is_of_its_unit_or_else_of_the_program_that_it_names() {
        let says = "E1123 03:11:42.000001    812 kubelet.go:2412] \"x: y\"";
        for (before, stream) in [
            ("Nov 23 03:11:42 gpu-17 kubelet[812]: ", Stream::Journal("kubelet")),
            ("Nov  3 03:11:42 gpu-17 kubelet: ", Stream::Journal("kubelet")),
            ("2026-11-23T03:11:42.118000+0000 gpu-17 kubelet[812]: ", Stream::Journal("kubelet")),
            ("2026-11-23T03:11:42.118000Z <3> kubelet[812]: ", Stream::Journal("kubelet")),
            (
                "2026-11-23T03:11:42.118000Z gpu-17    kubelet.service <3> k8s[812]: ",
                Stream::Journal("kubelet.service"),
            ),
            ("2026-11-23T03:11:42.118000Z gpu-17 kernel <3> kernel: ", Stream::Kernel),
            ("2026-11-23T03:11:42.118000Z <3> kernel: ", Stream::Kernel),
        ] {
            let line = format!("{before}{says}\n");
            assert_eq!(written(&line), Written { text: says, author: Author::Unknown, stream }, "{line}");
        }
        for before in [
            "2026-11-23T03:11:42.118000Z gpu-17 shop/api-0/main <3> kubelet[812]: ",
            "2026-11-23T03:11:42.118000Z gpu-17 /var/log/x Nov 23 03:11:42 gpu-17 kubelet[812]: ",
            "2026-11-23T03:11:42.118000Z stdout F kubelet[812]: ",
            "kubelet[812]: ",
            "[12345.678901x] kubelet[812]: ",
        ] {
            let line = format!("{before}{says}");
            assert_eq!(written(&line).stream, Stream::Unknown, "{line}");
            assert_eq!(written(&line).text, line);
        }
    }

    #[test]
    fn a_message_over_several_lines_is_about_the_device_of_the_first() {
        let mut reader = Reader::default();
        let lines = [
            "[ 1843.308145] NVRM: The NVIDIA GPU 0000:b3:00.0",
            "               NVRM: (PCI ID: 10de:26b5) installed in this system has",
            "               NVRM: fallen off the bus and is not responding to commands.",
        ];
        let found: Vec<_> = lines.iter().filter_map(|line| read(&mut reader, line)).collect();
        let [found] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((found.code(), found.pci.as_ref().unwrap().to_string().as_str()), (Some(79), "0000:b3:00.0"));
        // Alone, its last line says that one fell off, and not which.
        let last = "[ 1900.000000] NVRM: fallen off the bus and is not responding to commands.";
        let alone = read(&mut reader, last).unwrap();
        assert!(alone.pci.is_none(), "{alone:?}");
        // What came in between was another message.
        read(&mut reader, lines[0]);
        read(&mut reader, "[ 1901.000000] eth0: link up");
        assert!(read(&mut reader, lines[2]).is_none());
        // Nor does an indented line of anything else count.
        read(&mut reader, lines[0]);
        assert!(read(&mut reader, "   NVRM: Xid (PCI:0000:b3:00): 48, x").is_none());
    }

    #[test]
    fn two_xids_within_a_second_are_two() {
        let mut reader = Reader::default();
        let codes: Vec<_> = [
            "[12345.100000] NVRM: Xid (PCI:0000:84:00): 62, pid=77, name=train, 0000(0000) 00000000 00000000",
            "[12345.900000] NVRM: Xid (PCI:0000:84:00): 45, pid=77, name=train, Ch 00000010",
        ]
        .iter()
        .filter_map(|line| read(&mut reader, line)?.code())
        .collect();
        assert_eq!(codes, [62, 45]);
    }

    proptest! {
        #[test]
        fn no_line_ends_it(lines in prop::collection::vec(any::<String>(), 0..8)) {
            let mut reader = Reader::default();
            for line in &lines {
                let _any = read(&mut reader, line);
            }
        }

        #[test]
        fn the_text_of_a_line_is_its_end(line in "[ -~]{0,80}") {
            prop_assert!(line.ends_with(message(&line).0));
            prop_assert!(line.ends_with(written(&line).text));
        }
    }
}
