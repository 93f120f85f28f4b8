//! A line of a log of the kernel, as the many tools print it: what the kernel's record said, and who wrote it where the line says so.
//!
//! A line counts as the kernel's only when it has the form that `dmesg`, `journalctl -k`, a syslog file, `/dev/kmsg` or our own
//! `kernel.log` give it; a program whose log line has the driver's words further on is not taken for it. Messages of the driver
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

/// The kernel's text in a line, and who wrote it.
pub fn message(line: &str) -> (&str, Author) {
    let line = line.trim_end_matches(['\n', '\r']);
    of_our_log(line)
        .or_else(|| of_kmsg(line))
        .or_else(|| of_syslog(line))
        .or_else(|| of_dmesg(line))
        .unwrap_or((line, Author::Unknown))
}

/// Reads the lines of a log one after the other.
#[derive(Debug, Default)]
pub struct Reader {
    /// The device of a message that began in an earlier line, and for how many lines it may go on.
    began: Option<(PciAddress, u8)>,
}

/// In how many lines a message ends that began with the device: the driver's has three.
const GOES_ON: u8 = 3;

impl Reader {
    /// What a line reports, if it is one of the NVIDIA driver, and who wrote it.
    pub fn line<'a>(&mut self, line: &'a str) -> Option<(NvidiaLine<'a>, Author)> {
        let (text, author) = message(line);
        Some((self.record(text)?, author))
    }

    /// The same of the text of a record, with nothing before it.
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
    let mut rest = if rest.starts_with("facility=") { rest } else { rest.split_once(" kernel ")?.1 };
    let facility = word(&mut rest, "facility=")?.parse().ok()?;
    for known in ["level=", "seq="] {
        word(&mut rest, known)?;
    }
    for known in ["caller=", "fragment="] {
        word(&mut rest, known);
    }
    word(&mut rest, "user=")?;
    Some((rest, Author::of_facility(facility)))
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
            let (found, by) = Reader::default().line(&line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!((found.code(), found.pid, by), (Some(79), Some(1234), author), "{line}");
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
            assert!(Reader::default().line(&line).is_none(), "{line}");
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
        let found: Vec<_> = lines.iter().filter_map(|line| reader.line(line)).collect();
        let [(found, _)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((found.code(), found.pci.as_ref().unwrap().to_string().as_str()), (Some(79), "0000:b3:00.0"));
        // Alone, its last line says that one fell off, and not which.
        let (alone, _) =
            reader.line("[ 1900.000000] NVRM: fallen off the bus and is not responding to commands.").unwrap();
        assert!(alone.pci.is_none(), "{alone:?}");
        // What came in between was another message.
        reader.line(lines[0]);
        reader.line("[ 1901.000000] eth0: link up");
        assert!(reader.line(lines[2]).is_none());
        // Nor does an indented line of anything else count.
        reader.line(lines[0]);
        assert!(reader.line("   NVRM: Xid (PCI:0000:b3:00): 48, x").is_none());
    }

    #[test]
    fn two_xids_within_a_second_are_two() {
        let mut reader = Reader::default();
        let codes: Vec<_> = [
            "[12345.100000] NVRM: Xid (PCI:0000:84:00): 62, pid=77, name=train, 0000(0000) 00000000 00000000",
            "[12345.900000] NVRM: Xid (PCI:0000:84:00): 45, pid=77, name=train, Ch 00000010",
        ]
        .iter()
        .filter_map(|line| reader.line(line)?.0.code())
        .collect();
        assert_eq!(codes, [62, 45]);
    }

    proptest! {
        #[test]
        fn no_line_ends_it(lines in prop::collection::vec(any::<String>(), 0..8)) {
            let mut reader = Reader::default();
            for line in &lines {
                let _any = reader.line(line);
            }
        }

        #[test]
        fn the_text_of_a_line_is_its_end(line in "[ -~]{0,80}") {
            prop_assert!(line.ends_with(message(&line).0));
        }
    }
}
