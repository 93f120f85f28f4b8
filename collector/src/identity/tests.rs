//! Tokens, certificates and the owner: what is given once, to whom, and until when.

use casefile_proto::identity::PersonName;
use casefile_proto::time::{BootTime, Stamp};
use rcgen::{CertificateParams, KeyPair};
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::audit;
use crate::store::sqlite::SqliteStore;

/// An identity over a directory, and its clock in seconds.
struct Rig {
    dir: tempfile::TempDir,
    now: Arc<AtomicI64>,
    tokens: Arc<SqliteStore>,
}

impl Rig {
    fn new() -> Self {
        let now = Arc::new(AtomicI64::new(1_795_000_000));
        Self { dir: tempfile::tempdir().unwrap(), now, tokens: Arc::new(SqliteStore::in_memory()) }
    }

    fn open(&self) -> Identity {
        let now = Arc::clone(&self.now);
        let clock: Clock = Arc::new(move || Stamp {
            wall: WallTime::from_secs(now.load(Ordering::Relaxed)),
            boot: BootTime::from_nanos(1),
        });
        let audit = Arc::new(Audit::open(&self.dir.path().join("audit"), Arc::clone(&clock)).unwrap());
        let tokens = Arc::clone(&self.tokens) as _;
        Identity::open(self.dir.path(), tokens, audit, clock, CERTIFICATE_LIFE).unwrap()
    }

    fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    fn audited(&self) -> Vec<(String, Verb, Outcome)> {
        let mut lines = Vec::new();
        let each = |line: &audit::Line| lines.push((line.entry.who.clone(), line.entry.verb, line.entry.outcome));
        audit::read(&self.dir.path().join("audit"), each).unwrap();
        lines
    }
}

fn caller(who: Who) -> Caller {
    Caller { who, from: "192.0.2.1:7".parse().unwrap() }
}

fn kim(roles: &[Role]) -> Subject {
    let name: PersonName = "kim".parse().unwrap();
    Subject::Person(Person { name, roles: roles.to_vec() })
}

fn token(subject: Subject, seconds: u64) -> TokenAsk {
    TokenAsk { subject, ttl: Duration::from_secs(seconds) }
}

fn request() -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    // What a request asks for beside its key is not given.
    CertificateParams::new(vec!["casefile-collector".to_owned()])
        .unwrap()
        .serialize_request(&key)
        .unwrap()
        .der()
        .to_vec()
}

fn join(token: &str) -> EnrolAsk {
    EnrolAsk { credential: Credential::Join(token.to_owned()), request: request() }
}

#[test]
fn a_join_token_gives_one_certificate_of_its_node_and_nobody_else_another() {
    let rig = Rig::new();
    let identity = rig.open();
    let admin = caller(Who::Nobody);
    let made = identity.create(token(Subject::Node("web-1".parse().unwrap()), 600), &admin).unwrap();
    let enrolled = identity.enrol(join(&made.token), &caller(Who::Nobody)).unwrap();
    assert_eq!((enrolled.node.as_str(), enrolled.certificates.len()), ("web-1", 2));
    let holder = casefile_identity::authority::holder(&enrolled.certificates[0].clone().into()).unwrap();
    assert_eq!((holder.node.as_str(), holder.issued, holder.expires), ("web-1", enrolled.issued, enrolled.expires));
    assert_eq!(enrolled.expires.nanos_since(enrolled.issued), 24 * 3_600 * 1_000_000_000);
    assert!(matches!(identity.enrol(join(&made.token), &caller(Who::Nobody)), Err(Denied::Token)), "twice");
    let again = EnrolAsk { credential: Credential::Certificate, request: request() };
    assert!(matches!(identity.enrol(again.clone(), &caller(Who::Nobody)), Err(Denied::NoCredential)));
    let renewed = identity.enrol(again, &caller(Who::Node(Arc::new(holder)))).unwrap();
    assert_eq!(renewed.node.as_str(), "web-1");
    let verbs = [
        ("nobody".to_owned(), Verb::CreateToken, Outcome::Granted),
        ("node web-1".to_owned(), Verb::Enrol, Outcome::Granted),
        ("nobody".to_owned(), Verb::Enrol, Outcome::Denied),
    ];
    assert_eq!(rig.audited(), verbs);
}

#[test]
fn a_join_token_that_expired_or_is_anothers_or_for_people_gives_nothing() {
    let rig = Rig::new();
    let identity = rig.open();
    let nobody = caller(Who::Nobody);
    let old = identity.create(token(Subject::Node("a".parse().unwrap()), 60), &nobody).unwrap();
    let person = identity.create(token(kim(&[Role::Admin]), 600), &nobody).unwrap();
    let other = Rig::new();
    let theirs = other.open().create(token(Subject::Node("a".parse().unwrap()), 600), &nobody).unwrap();
    rig.pass(60);
    let same_secret = person.token.replace("casefile_api_", "casefile_join_");
    for bad in [old.token, person.token, same_secret, theirs.token, "casefile_join_".to_owned(), String::new()] {
        assert!(matches!(identity.enrol(join(&bad), &nobody), Err(Denied::Token)), "{bad}");
    }
    assert!(matches!(
        identity.create(token(Subject::Node("a".parse().unwrap()), 25 * 3_600), &nobody),
        Err(Denied::TooLong)
    ));
}

#[test]
fn a_request_that_is_none_does_not_use_the_token_up() {
    let rig = Rig::new();
    let identity = rig.open();
    let nobody = caller(Who::Nobody);
    let made = identity.create(token(Subject::Node("a".parse().unwrap()), 60), &nobody).unwrap();
    let mut forged = request();
    // Another key than the one that signed: 65 bytes of a point of P-256 stand in it.
    let at = forged.windows(3).position(|w| w == [0x42, 0x00, 0x04]).unwrap() + 10;
    forged[at] ^= 1;
    for request in [Vec::new(), vec![0x30; 300], forged] {
        let ask = EnrolAsk { credential: Credential::Join(made.token.clone()), request };
        assert!(matches!(identity.enrol(ask, &nobody), Err(Denied::Authority(AuthorityError::Request))));
    }
    identity.enrol(join(&made.token), &nobody).unwrap();
}

#[test]
fn a_person_is_known_by_the_token_until_it_expires_or_is_revoked_also_after_a_restart() {
    let rig = Rig::new();
    let identity = rig.open();
    let nobody = caller(Who::Nobody);
    let short = identity.create(token(kim(&[Role::Viewer]), 60), &nobody).unwrap();
    let long = identity.create(token(kim(&[Role::Viewer, Role::Exporter]), 600), &nobody).unwrap();
    assert!(identity.person(&short.token).unwrap().may(Role::Viewer));
    let identity = rig.open();
    assert!(identity.person(&short.token).is_some());
    rig.pass(60);
    assert!(identity.person(&short.token).is_none());
    let person = identity.person(&long.token).unwrap();
    assert!(person.may(Role::Exporter) && !person.may(Role::Requester));
    assert_eq!(identity.list().unwrap().len(), 1);
    identity.revoke(&long.kept.id, &nobody).unwrap();
    assert!(identity.person(&long.token).is_none() && rig.open().person(&long.token).is_none());
    assert!(matches!(identity.revoke(&long.kept.id, &nobody), Err(Denied::NoToken(_))));
}

#[test]
fn the_owner_has_a_token_in_a_file_of_his_own_and_another_one_after_a_restart() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new();
    let path = rig.dir.path().join("owner.token");
    let identity = rig.open();
    let first = Token::load(&path).unwrap().reveal();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(Role::ALL.iter().all(|role| identity.person(&first).unwrap().may(*role)));
    let identity = rig.open();
    assert!(identity.person(&first).is_none());
    assert_eq!(identity.person(&Token::load(&path).unwrap().reveal()).unwrap().name.as_str(), OWNER);
}

#[test]
fn nothing_is_given_when_it_cannot_be_recorded() {
    let rig = Rig::new();
    let identity = rig.open();
    let nobody = caller(Who::Nobody);
    let made = identity.create(token(Subject::Node("a".parse().unwrap()), 60), &nobody).unwrap();
    identity.audit.spoil(&rig.dir.path().join("aside"));
    assert!(matches!(identity.create(token(kim(&[Role::Viewer]), 60), &nobody), Err(Denied::Audit(_))));
    assert!(matches!(identity.enrol(join(&made.token), &nobody), Err(Denied::Audit(_))));
    assert_eq!(identity.list().unwrap().len(), 0, "the token was used up, and no certificate was given");
}
