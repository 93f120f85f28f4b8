//! Made-up secrets by kind, written as programs write them: what the tests of those who redact plant and look for.
//!
//! Deterministic, so that two crates plant the same ones. Nothing here opens anything anywhere.

/// A secret in a text.
#[derive(Debug, Clone)]
pub struct Plant {
    /// What it is: `github token`.
    pub kind: &'static str,
    /// How it is written: `logfmt`.
    pub context: &'static str,
    /// The bytes that must not be left, nor any 8 of them in a row.
    pub secret: Vec<u8>,
    /// The records of the text, each without its line end.
    pub records: Vec<Vec<u8>>,
}

impl Plant {
    /// What of the secret is left in a text: a stretch of 8 bytes, or all of a shorter one. Zero bytes are looked through.
    pub fn left_in(&self, text: &[u8]) -> Option<Vec<u8>> {
        let plain: Vec<u8> = text.iter().copied().filter(|b| *b != 0).collect();
        let length = self.secret.len().min(8);
        self.secret.windows(length).find(|w| memchr::memmem::find(&plain, w).is_some()).map(<[u8]>::to_vec)
    }
}

/// A source of numbers that is the same each time (splitmix64, Vigna 2015).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.throw() >> 33).unwrap_or(0) % n.max(1)
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// So many of these letters.
    pub fn word(&mut self, letters: &str, length: usize) -> String {
        let letters = letters.as_bytes();
        (0..length).map(|_| char::from(letters[self.below(letters.len())])).collect()
    }
}

const HEX: &str = "0123456789abcdef";
const DIGITS: &str = "0123456789";
const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const PRINTED: &str = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789!#*+-_.~@^";

/// How a secret is known to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// By its own form, wherever it stands.
    Form,
    /// By this name before it.
    Name(&'static str),
    /// By what is around it: the text is written whole, the secret stands at `{}`.
    Text(&'static str),
}

/// A kind of secret.
struct Kind {
    name: &'static str,
    known: Known,
    make: fn(&mut Dice) -> String,
}

const fn kind(name: &'static str, known: Known, make: fn(&mut Dice) -> String) -> Kind {
    Kind { name, known, make }
}

use Known::{Form, Name, Text};

const KINDS: &[Kind] = &[
    kind("password", Name("password"), |d| d.word(PRINTED, 14)),
    kind("password of a variable", Name("DB_PASSWORD"), |d| d.word(ALNUM, 12)),
    kind("short password", Name("passwd"), |d| d.word(LOWER, 8)),
    kind("api key", Name("api_key"), |d| d.word(HEX, 40)),
    kind("client secret", Name("clientSecret"), |d| d.word(URL64, 32)),
    kind("opaque token", Name("token"), |d| d.word(ALNUM, 40)),
    kind("aws secret key", Name("aws_secret_access_key"), |d| d.word(BASE64, 40)),
    kind("azure storage key", Name("AccountKey"), |d| d.word(BASE64, 86) + "=="),
    kind("wireguard key", Name("PrivateKey"), |d| d.word(BASE64, 43) + "="),
    kind("session", Name("JSESSIONID"), |d| d.word("0123456789ABCDEF", 32)),
    kind("aws access key id", Form, |d| format!("AK{}{}", "IA", d.word(BASE32, 16))),
    kind("google api key", Form, |d| format!("AI{}{}", "za", d.word(URL64, 34) + "x")),
    kind("azure client secret", Form, |d| format!("{}8Q{}{}", d.word(ALNUM, 3), "~", d.word(ALNUM, 34))),
    kind("github token", Form, |d| format!("gh{}_{}", d.pick(&["p", "o", "s"]), d.word(ALNUM, 36))),
    kind("gitlab token", Form, |d| format!("gl{}-{}", "pat", d.word(URL64, 19) + "x")),
    kind("slack token", Form, |d| format!("xo{}-{}-{}", "xb", d.word(DIGITS, 12), d.word(ALNUM, 24))),
    kind("stripe key", Form, |d| format!("sk_{}_{}", "live", d.word(ALNUM, 24))),
    kind("sendgrid key", Form, |d| format!("SG.{}x.{}x", d.word(URL64, 21), d.word(URL64, 42))),
    kind("npm token", Form, |d| format!("np{}_{}", "m", d.word(ALNUM, 36))),
    kind("pypi token", Form, |d| format!("py{}-AgEIcHlwaS5vcmc{}x", "pi", d.word(URL64, 60))),
    kind("hugging face token", Form, |d| format!("h{}_{}", "f", d.word(ALNUM, 34))),
    kind("model key", Form, |d| format!("sk-{}-{}x1", "proj", d.word(URL64, 40))),
    kind("vault token", Form, |d| format!("hv{}.{}x", "s", d.word(URL64, 24))),
    kind("digitalocean token", Form, |d| format!("dop_{}_{}", "v1", d.word(HEX, 64))),
    kind("jwt", Form, |d| format!("ey{}{}.eyJ{}.{}x", "Jhb", d.word(URL64, 30), d.word(URL64, 90), d.word(URL64, 42))),
    kind("age key", Form, |d| format!("AGE-SECRET-{}-1{}", "KEY", d.word("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58))),
    kind("encoded private key", Form, |d| {
        format!("LS0tLS1CRUdJTiBSU0EgU{}S0tLS0t{}", "FJJVkFURSBLRVkt", d.word(BASE64, 400))
    }),
    kind("bearer", Text("Authorization: Bearer {}"), |d| d.word(URL64, 39) + "x"),
    kind("basic login", Text("authorization: Basic {}"), |d| d.word(BASE64, 22) + "=="),
    kind("cookie", Text("Cookie: theme=dark; sid={}"), |d| d.word(ALNUM, 26)),
    kind("database address", Text("postgres://app:{}@db.shop:5432/orders"), |d| d.word(ALNUM, 16)),
    kind("slack webhook", Text("https://hooks.slack.com/services/{}"), |d| {
        format!("T{}/B{}/{}", d.word(DIGITS, 9), d.word(DIGITS, 9), d.word(ALNUM, 24))
    }),
    kind("registry login", Text(r#"{"auths":{"r.example.org":{"auth":"{}"}}}"#), |d| d.word(BASE64, 32)),
    kind("bootstrap token", Text("kubeadm join 10.0.0.1:6443 --token {}"), |d| {
        format!("{}.{}", d.word(LOWER, 6), d.word(LOWER, 16))
    }),
    kind("password hash", Text("root:{}:19000:0:99999:7:::"), |d| {
        format!("$6${}${}", d.word(ALNUM, 16), d.word(ALNUM, 86))
    }),
    kind("object secret", Text(r#"{"kind":"Secret","data":{"app.conf":"{}"}}"#), |d| d.word(BASE64, 36)),
    kind("sql password", Text("CREATE USER 'app'@'%' IDENTIFIED BY '{}'"), |d| d.word(ALNUM, 16)),
    kind("command line", Text("exec sshpass -p {} ssh node-7"), |d| d.word(ALNUM, 14)),
    kind("curl login", Text("curl -sS -u admin:{} https://x.example.org/"), |d| d.word(ALNUM, 14)),
    kind("telegram token", Text("POST https://api.telegram.org/bot1234567890:{}/sendMessage"), |d| {
        format!("AA{}x", d.word(URL64, 32))
    }),
];

/// Ways to write a pair, for what is known by its name: `{k}`, `{v}`.
const PAIRS: &[(&str, &str)] = &[
    ("logfmt", "level=info {k}={v} user=app"),
    ("quoted logfmt", "level=info {k}=\"{v}\" user=app"),
    ("json", r#"{"level":"info","{k}":"{v}","user":"app"}"#),
    ("spaced json", r#"{"level": "info", "{k}": "{v}"}"#),
    ("json in json", r#"{"log":"{\"{k}\":\"{v}\",\"user\":\"app\"}\n","stream":"stdout"}"#),
    ("json in json in json", r#"{"a":"{\"b\":\"{\\\"{k}\\\":\\\"{v}\\\",\\\"x\\\":1}\"}"}"#),
    ("yaml", "  {k}: {v}"),
    ("option", "exec: /bin/app --{k} {v} --verbose"),
    ("option with a sign", "exec: /bin/app --{k}={v} --verbose"),
    ("array of arguments", r#"args: ["/bin/app","--{k}","{v}","--verbose"]"#),
    ("go struct", "config {Host:db {k}:{v} Port:5432}"),
    ("go map", "config map[host:db {k}:{v}]"),
    ("go pointer struct", r#"config &main.Config{Host:"db", {k}:"{v}", Port:5432}"#),
    ("rust struct", r#"config Config { host: "db", {k}: Some("{v}") }"#),
    ("python dict", "config {'host': 'db', '{k}': '{v}'}"),
    ("query", "GET /login?user=app&{k}={v}&next=%2Fhome HTTP/1.1"),
    ("connection string", "Server=db;{k}={v};Database=shop;"),
    ("colours", "\u{1b}[36mINFO\u{1b}[0m start \u{1b}[36m{k}\u{1b}[0m={v} \u{1b}[36muser\u{1b}[0m=app"),
    ("colours in json", r#"{"log":"\u001b[36m{k}\u001b[0m={v} \u001b[36muser\u001b[0m=app\n"}"#),
    ("environment in a pod", r#"{"env":[{"name":"{k}","value":"{v}"},{"name":"X","value":"1"}]}"#),
    ("environment in yaml", "  - name: {k}\n    value: {v}\n  - name: X"),
    ("xml", "<config><{k}>{v}</{k}></config>"),
    ("ini", "{k} = {v}"),
    ("in brackets", "connecting ({k}={v})"),
    ("at the end", "failed to connect with {k}={v}"),
    ("escapes around", r"a\n{k}={v}\nb"),
];

/// Ways to write what is known by its form.
const PLACES: &[(&str, &str)] = &[
    ("sentence", "cannot log in with {v}, trying again"),
    ("alone", "{v}"),
    ("pair", "level=info value={v} user=app"),
    ("json", r#"{"level":"info","value":"{v}","user":"app"}"#),
    ("json in json", r#"{"log":"{\"value\":\"{v}\"}\n"}"#),
    ("query", "GET /x?value={v}&y=1 HTTP/1.1"),
    ("path", "GET /hook/{v} HTTP/1.1"),
    ("brackets", "call({v}) = [{v}]"),
    ("colours", "value=\u{1b}[31m{v}\u{1b}[0m"),
    ("after an escape", r#"{"log":"value:\n{v}\n"}"#),
    ("address", "https://{v}@git.example.org/x.git"),
];

/// Every kind in every way of writing it, each with another secret.
pub fn every(seed: u64) -> Vec<Plant> {
    let mut dice = Dice::new(seed);
    let mut all = Vec::new();
    for kind in KINDS {
        let (ways, name): (&[(&'static str, &'static str)], _) = match kind.known {
            Name(name) => (PAIRS, name),
            Form => (PLACES, ""),
            Text(_) => (&[("as it is", ""), ("in json", ""), ("behind a time", "")], ""),
        };
        for (context, way) in ways {
            let secret = (kind.make)(&mut dice);
            let text = match (kind.known, *context) {
                (Text(text), "in json") => {
                    format!("{{\"log\":\"{}\\n\"}}", escaped(&text.replacen("{}", &secret, 1)))
                }
                (Text(text), "behind a time") => {
                    format!("2026-11-23T02:00:00.000000001Z stdout F {}", text.replacen("{}", &secret, 1))
                }
                (Text(text), _) => text.replacen("{}", &secret, 1),
                _ => way.replace("{k}", name).replace("{v}", &secret),
            };
            all.push(Plant { kind: kind.name, context, secret: secret.into_bytes(), records: vec![text.into_bytes()] });
        }
        // As a program with another idea of text writes it, and as a browser does.
        let secret = (kind.make)(&mut dice);
        let text = match kind.known {
            Name(name) => format!("{name}={secret}"),
            Form => format!("value={secret}"),
            Text(text) => text.replacen("{}", &secret, 1),
        };
        let wide = text.bytes().flat_map(|b| [b, 0]).collect();
        all.push(Plant {
            kind: kind.name,
            context: "utf-16",
            secret: secret.clone().into_bytes(),
            records: vec![wide],
        });
        if !matches!(kind.known, Text(_)) {
            let encoded = format!("GET /x?y=1&z={} HTTP/1.1", percent(&text)).into_bytes();
            all.push(Plant {
                kind: kind.name,
                context: "percent",
                secret: secret.into_bytes(),
                records: vec![encoded],
            });
        }
    }
    for context in ["lines", "lines of cri", "lines of docker", "one line", "one record", "putty"] {
        all.push(block(&mut dice, context));
    }
    all
}

/// `count` secrets, spread evenly over all kinds and over the ways of writing them.
pub fn planted(seed: u64, count: usize) -> Vec<Plant> {
    let all = every(seed);
    // A step that has no divisor in common with the number of plants meets each of them before any one twice.
    let step = (all.len() / 3..all.len()).find(|s| gcd(*s, all.len()) == 1).unwrap_or(1);
    (0..count.min(all.len())).map(|n| all[n * step % all.len()].clone()).collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A private key as a block of lines. The secret is what its lines hold, without their ends.
fn block(dice: &mut Dice, context: &'static str) -> Plant {
    let lines: Vec<String> = (0..12).map(|n| dice.word(BASE64, if n == 11 { 24 } else { 64 })).collect();
    let (begin, end) = ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----");
    let all: Vec<String> =
        [begin.to_owned()].into_iter().chain(lines.iter().cloned()).chain([end.to_owned()]).collect();
    let records = match context {
        "lines of cri" => all.iter().map(|l| format!("2026-11-23T02:00:00.000000001Z stderr F {l}")).collect(),
        "lines of docker" => all.iter().map(|l| format!(r#"{{"log":"{l}\n","stream":"stdout"}}"#)).collect(),
        "one line" => vec![format!(r#"{{"key":"{}\n","x":1}}"#, all.join("\\n"))],
        "one record" => vec![all.join("\n")],
        "putty" => ["PuTTY-User-Key-File-3: ssh-rsa".to_owned(), "Private-Lines: 12".to_owned()]
            .into_iter()
            .chain(lines.iter().cloned())
            .chain(["Private-MAC: 00".to_owned()])
            .collect(),
        _ => all,
    };
    // Lines are looked for one by one: what stands between them is not the key's.
    let secret = lines.concat().into_bytes();
    Plant { kind: "private key", context, secret, records: records.into_iter().map(String::into_bytes).collect() }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
