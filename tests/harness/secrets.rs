//! Secrets to plant in logs, and the search for what is left of them.
//!
//! Made at run time and of no service: right in form, random in content, the same in every run. They are an oracle of
//! their own: nothing here is shared with the rules that must find them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// Pieces of a secret that are looked for. A shorter piece is no secret any more, and turns up by chance.
const PIECE: usize = 12;

/// One planted secret.
#[derive(Debug, Clone)]
pub struct Planted {
    /// What kind it is, for the message of an assertion.
    pub kind: &'static str,
    /// The lines that hold it, one after the other in a log.
    pub lines: Vec<String>,
    /// What must not be found again.
    pub secret: String,
}

/// A fixed sequence of numbers.
pub struct Sequence(u64);

impl Sequence {
    /// Begins; another seed gives another sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// So many characters out of an alphabet.
    pub fn text(&mut self, length: usize, alphabet: &str) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        let range = u64::try_from(letters.len()).expect("an alphabet is small");
        (0..length).map(|_| letters[usize::try_from((self.next() >> 33) % range).expect("a position")]).collect()
    }
}

const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz0123456789";
const HEX: &str = "0123456789abcdef";
const BASE64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL64: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A kind: its name, how a secret of it is made, and the lines that it stands in (`{}` is the secret).
type Kind = (&'static str, fn(&mut Sequence) -> String, &'static [&'static str]);

/// Every kind, each with the contexts in which logs really have it.
const KINDS: &[Kind] = &[
    ("aws access key", |s| format!("AKIA{}", s.text(16, UPPER)), &["using key {} for s3", "AWS_ACCESS_KEY_ID={}"]),
    ("aws secret key", |s| s.text(40, BASE64), &["aws_secret_access_key = {}", "{\"SecretAccessKey\":\"{}\"}"]),
    ("google api key", |s| format!("AIza{}", s.text(35, URL64)), &["GET /maps/api?key={}&v=3", "key: {}"]),
    (
        "github token",
        |s| format!("ghp_{}", s.text(36, ALNUM)),
        &["remote: https://x:{}@github.com/a/b", "token {} expired"],
    ),
    ("github fine-grained", |s| format!("github_pat_{}_{}", s.text(22, ALNUM), s.text(59, ALNUM)), &["with {}"]),
    ("gitlab token", |s| format!("glpat-{}", s.text(20, URL64)), &["PRIVATE-TOKEN: {}", "clone failed ({})"]),
    (
        "slack token",
        |s| format!("xoxb-{}-{}-{}", s.text(12, "123456789"), s.text(12, "123456789"), s.text(24, ALNUM)),
        &["slack: {}"],
    ),
    (
        "slack webhook",
        |s| {
            format!(
                "https://hooks.slack.com/services/T{}/B{}/{}",
                s.text(9, UPPER),
                s.text(9, UPPER),
                s.text(24, ALNUM)
            )
        },
        &["posting to {} failed"],
    ),
    ("stripe key", |s| format!("sk_live_{}", s.text(24, ALNUM)), &["charge with {}", "\"stripe\": \"{}\""]),
    ("sendgrid key", |s| format!("SG.{}.{}", s.text(22, URL64), s.text(43, URL64)), &["mailer key {}"]),
    ("npm token", |s| format!("npm_{}", s.text(36, ALNUM)), &["//registry.npmjs.org/:_authToken={}"]),
    ("hugging face token", |s| format!("hf_{}", s.text(34, ALNUM)), &["HF_TOKEN={}", "login with {} ok"]),
    (
        "jwt",
        |s| format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIi{}.{}", s.text(40, URL64), s.text(43, URL64)),
        &["token={}", "Cookie: session={}; path=/", "validating {}"],
    ),
    ("bearer header", |s| s.text(40, URL64), &["> Authorization: Bearer {}", "headers={authorization: bearer {}}"]),
    ("basic header", |s| format!("{}==", s.text(26, ALNUM)), &["Authorization: Basic {}"]),
    (
        "password in a URL",
        |s| s.text(18, ALNUM),
        &["dial postgres://app:{}@db:5432/shop", "amqp://svc:{}@mq.local//", "redis://:{}@cache:6379/0"],
    ),
    (
        "password by key",
        |s| s.text(16, ALNUM),
        &["login failed user=bob password={} from 10.0.0.1", "DB_PASSWORD={}", "password: {}", "Password:{} Host:db"],
    ),
    (
        "password in JSON",
        |s| s.text(16, ALNUM),
        &["{\"user\":\"bob\",\"password\":\"{}\"}", "{\"m\":\"{\\\"passwd\\\":\\\"{}\\\"}\"}"],
    ),
    (
        "flag",
        |s| s.text(20, ALNUM),
        &["exec: backup --password {} --host db", "exec: x --token={} -v", "mysql -uroot -p{} shop"],
    ),
    ("api key by key", |s| s.text(32, HEX), &["api_key={}", "X-Api-Key: {}", "\"apiKey\": \"{}\""]),
    ("coloured key", |s| s.text(24, ALNUM), &["\x1b[36mINFO\x1b[0m login \x1b[36mpassword\x1b[0m={}"]),
    (
        "azure account key",
        |s| format!("{}==", s.text(86, BASE64)),
        &["DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};x"],
    ),
    ("password hash", |s| format!("$6${}${}", s.text(8, ALNUM), s.text(86, ALNUM)), &["bob:{}:19000:0:99999:7:::"]),
    ("vault token", |s| format!("hvs.{}", s.text(90, URL64)), &["vault login {}", "X-Vault-Token: {}"]),
    ("digitalocean token", |s| format!("dop_v1_{}", s.text(64, HEX)), &["doctl auth {}"]),
    (
        "bootstrap token",
        |s| format!("{}.{}", s.text(6, LOWER), s.text(16, LOWER)),
        &["kubeadm join 10.0.0.1:6443 --token {}"],
    ),
    (
        "kubeconfig key",
        |s| format!("LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQo{}", s.text(200, ALNUM)),
        &["    client-key-data: {}"],
    ),
    (
        "private key",
        |s| s.text(64, BASE64),
        &["-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq\n{}\n-----END RSA PRIVATE KEY-----"],
    ),
    (
        "private key in JSON",
        |s| s.text(64, BASE64),
        &["{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----\\n\"}"],
    ),
];

/// How many kinds there are.
pub const KIND_COUNT: usize = KINDS.len();

/// So many secrets, of all kinds in turn and in all contexts of each. The same for the same seed.
pub fn planted(seed: u64, count: usize) -> Vec<Planted> {
    let mut sequence = Sequence::new(seed);
    (0..count)
        .map(|n| {
            let (kind, make, contexts) = KINDS[n % KINDS.len()];
            let secret = make(&mut sequence);
            let context = contexts[n / KINDS.len() % contexts.len()];
            let text = context.replace("{}", &secret);
            Planted { kind, lines: text.lines().map(str::to_owned).collect(), secret }
        })
        .collect()
}

/// Looks for pieces of secrets in files.
pub struct Search<'a> {
    pieces: HashMap<[u8; PIECE], &'a Planted>,
}

impl<'a> Search<'a> {
    /// For these. What every secret of a kind begins with is no piece of one.
    pub fn new(planted: &'a [Planted]) -> Self {
        let mut pieces: HashMap<[u8; PIECE], &Planted> = HashMap::new();
        let mut shared = Vec::new();
        for one in planted {
            for piece in one.secret.as_bytes().windows(PIECE) {
                let piece: [u8; PIECE] = piece.try_into().expect("a window has its length");
                match pieces.get(&piece) {
                    Some(other) if other.secret != one.secret => shared.push(piece),
                    _ => drop(pieces.insert(piece, one)),
                }
            }
        }
        pieces.retain(|piece, _| !shared.contains(piece));
        Self { pieces }
    }

    /// What is left in these bytes: kind and secret, each once.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<&'a Planted> {
        let mut found: Vec<&Planted> = Vec::new();
        for piece in bytes.windows(PIECE) {
            let piece: [u8; PIECE] = piece.try_into().expect("a window has its length");
            if let Some(one) = self.pieces.get(&piece)
                && found.last().is_none_or(|last| last.secret != one.secret)
            {
                found.push(one);
            }
        }
        found
    }

    /// What is left in the files below a directory, with the file; how many bytes were searched.
    pub fn tree(&self, dir: &Path) -> (u64, Vec<String>) {
        let (mut searched, mut found, mut dirs) = (0, Vec::new(), vec![dir.to_owned()]);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).expect("list a directory") {
                let entry = entry.expect("an entry");
                if entry.file_type().expect("its kind").is_dir() {
                    dirs.push(entry.path());
                    continue;
                }
                let mut bytes = Vec::new();
                File::open(entry.path()).and_then(|mut f| f.read_to_end(&mut bytes)).expect("read a file");
                searched += bytes.len() as u64;
                let left = self.bytes(&bytes);
                found.extend(left.iter().map(|one| format!("{}: {} {}", entry.path().display(), one.kind, one.secret)));
            }
        }
        (searched, found)
    }
}
