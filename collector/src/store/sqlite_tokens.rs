//! Tokens in the index: the digest of each secret, never the secret. A join token is gone when it was used.

use casefile_proto::identity::{Subject, TokenId, TokenInfo};
use casefile_proto::ids::NodeName;
use casefile_proto::item::Digest;
use casefile_proto::time::WallTime;
use rusqlite::{OptionalExtension, Row, params};

use super::{SqliteStore, database, json, json_at};
use crate::store::{StoreError, Tokens};

/// The most tokens that are of use at a time: more is a mistake, or somebody's who should not be an admin.
const MAX_TOKENS: i64 = 10_000;

/// Made where it is missing: an older collector knows nothing of it, and does not mind.
pub(super) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS tokens (
    digest  TEXT PRIMARY KEY,
    subject TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked (
    node  TEXT PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS node_uids (
    node     TEXT PRIMARY KEY,
    uid      TEXT NOT NULL,
    enrolled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The most nodes of which it is known which one they are in the cluster.
const MAX_UIDS: i64 = 20_000;

impl Tokens for SqliteStore {
    fn add_token(&self, digest: &Digest, kept: &TokenInfo) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let tx = connection.transaction().map_err(database("write"))?;
        // What was made later has expired no earlier, so this is when the old ones are forgotten.
        tx.execute("DELETE FROM tokens WHERE expires <= ?1", [kept.created.nanos()]).map_err(database("write"))?;
        let many: i64 = tx.query_row("SELECT count(*) FROM tokens", [], |r| r.get(0)).map_err(database("read"))?;
        if many >= MAX_TOKENS {
            return Err(StoreError::TooManyTokens);
        }
        tx.execute(
            "INSERT INTO tokens (digest, subject, created, expires) VALUES (?1, ?2, ?3, ?4)",
            params![digest.to_string(), json(&kept.subject)?, kept.created.nanos(), kept.expires.nanos()],
        )
        .map_err(database("write"))?;
        tx.commit().map_err(database("write"))
    }

    fn spend_token(&self, digest: &Digest, now: WallTime) -> Result<Option<TokenInfo>, StoreError> {
        let connection = self.lock();
        // One statement: two that come at the same time cannot both have it.
        let sql = "DELETE FROM tokens WHERE digest = ?1 AND expires > ?2 AND subject LIKE '{\"node\":%'
                   RETURNING digest, subject, created, expires";
        let spent = connection.query_row(sql, params![digest.to_string(), now.nanos()], token).optional();
        Ok(spent.map_err(database("write"))?.map(|(_, kept)| kept))
    }

    fn tokens(&self, now: WallTime) -> Result<Vec<(Digest, TokenInfo)>, StoreError> {
        let connection = self.lock();
        let all = || {
            let sql =
                "SELECT digest, subject, created, expires FROM tokens WHERE expires > ?1 ORDER BY created, digest";
            let mut query = connection.prepare_cached(sql)?;
            query.query_map([now.nanos()], token)?.collect::<rusqlite::Result<_>>()
        };
        all().map_err(database("read"))
    }

    fn remove_token(&self, id: &TokenId) -> Result<Option<Subject>, StoreError> {
        let sql = "DELETE FROM tokens WHERE digest LIKE ?1 || '%' RETURNING subject";
        let connection = self.lock();
        let removed = connection.query_row(sql, [id.as_str()], |row| json_at(row, 0));
        removed.optional().map_err(database("write"))
    }

    fn revoke_node(&self, node: &NodeName, until: WallTime, forget: WallTime) -> Result<bool, StoreError> {
        let mut connection = self.lock();
        let subject = json(&Subject::Node(node.clone()))?;
        let mut revoke = || -> rusqlite::Result<bool> {
            let tx = connection.transaction()?;
            tx.execute("DELETE FROM revoked WHERE until <= ?1", [forget.nanos()])?;
            tx.execute(
                "INSERT OR REPLACE INTO revoked (node, until) VALUES (?1, ?2)",
                params![node.as_str(), until.nanos()],
            )?;
            tx.execute("DELETE FROM tokens WHERE subject = ?1", [subject.as_str()])?;
            let known = tx.query_row("SELECT 1 FROM nodes WHERE name = ?1", [node.as_str()], |_| Ok(())).optional()?;
            tx.commit()?;
            Ok(known.is_some())
        };
        revoke().map_err(database("write"))
    }

    fn node_uid(&self, node: &NodeName) -> Result<Option<String>, StoreError> {
        let sql = "SELECT uid FROM node_uids WHERE node = ?1";
        let found = self.lock().query_row(sql, [node.as_str()], |row| row.get(0)).optional();
        found.map_err(database("read"))
    }

    fn set_node_uid(&self, node: &NodeName, uid: &str, now: WallTime) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let mut set = || -> rusqlite::Result<()> {
            let tx = connection.transaction()?;
            tx.execute(
                "INSERT OR REPLACE INTO node_uids (node, uid, enrolled) VALUES (?1, ?2, ?3)",
                params![node.as_str(), uid, now.nanos()],
            )?;
            tx.execute(
                "DELETE FROM node_uids WHERE node IN
                 (SELECT node FROM node_uids ORDER BY enrolled DESC, node LIMIT -1 OFFSET ?1)",
                [MAX_UIDS],
            )?;
            tx.commit()
        };
        set().map_err(database("write"))
    }

    fn revoked_nodes(&self) -> Result<Vec<(NodeName, WallTime)>, StoreError> {
        let connection = self.lock();
        let all = || {
            let mut query = connection.prepare_cached("SELECT node, until FROM revoked")?;
            let row = |row: &Row<'_>| {
                let name: String = row.get(0)?;
                let node = name.parse().map_err(|e: casefile_proto::ids::InvalidId| {
                    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, e.into())
                })?;
                Ok((node, WallTime::from_nanos(row.get(1)?)))
            };
            query.query_map([], row)?.collect::<rusqlite::Result<_>>()
        };
        all().map_err(database("read"))
    }
}

fn token(row: &Row<'_>) -> rusqlite::Result<(Digest, TokenInfo)> {
    let digest: Digest = row
        .get::<_, String>(0)?
        .parse()
        .map_err(|e: String| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, e.into()))?;
    let kept = TokenInfo {
        id: casefile_identity::token::id(&digest),
        subject: json_at(row, 1)?,
        created: WallTime::from_nanos(row.get(2)?),
        expires: WallTime::from_nanos(row.get(3)?),
    };
    Ok((digest, kept))
}

#[cfg(test)]
mod tests {
    use casefile_proto::identity::{Person, Role};

    use super::*;

    fn kept(digest: &Digest, subject: Subject, created: i64, expires: i64) -> TokenInfo {
        let id = casefile_identity::token::id(digest);
        TokenInfo { id, subject, created: WallTime::from_secs(created), expires: WallTime::from_secs(expires) }
    }

    fn person() -> Subject {
        Subject::Person(Person { name: "kim".parse().unwrap(), roles: vec![Role::Viewer, Role::Exporter] })
    }

    #[test]
    fn a_join_token_is_spent_once_and_not_after_its_time() {
        let store = SqliteStore::in_memory();
        let (a, b) = (Digest([1; 32]), Digest([2; 32]));
        let node = Subject::Node("n".parse().unwrap());
        store.add_token(&a, &kept(&a, node.clone(), 0, 10)).unwrap();
        store.add_token(&b, &kept(&b, node.clone(), 0, 10)).unwrap();
        assert_eq!(store.spend_token(&a, WallTime::from_secs(10)).unwrap(), None, "too late");
        assert_eq!(store.spend_token(&a, WallTime::from_secs(9)).unwrap().unwrap().subject, node);
        assert_eq!(store.spend_token(&a, WallTime::from_secs(9)).unwrap(), None, "twice");
        assert_eq!(store.tokens(WallTime::from_secs(1)).unwrap().len(), 1);
    }

    #[test]
    fn a_token_of_a_person_is_not_spent_by_a_node_and_can_be_revoked() {
        let store = SqliteStore::in_memory();
        let a = Digest([1; 32]);
        let made = kept(&a, person(), 0, 10);
        store.add_token(&a, &made).unwrap();
        assert_eq!(store.spend_token(&a, WallTime::from_secs(1)).unwrap(), None);
        assert_eq!(store.tokens(WallTime::from_secs(1)).unwrap(), [(a, made.clone())]);
        assert_eq!(store.remove_token(&made.id).unwrap(), Some(person()));
        assert_eq!(store.remove_token(&made.id).unwrap(), None);
        assert!(store.tokens(WallTime::from_secs(1)).unwrap().is_empty());
    }

    #[test]
    fn a_node_is_revoked_with_its_tokens_until_no_certificate_of_before_can_count() {
        let store = SqliteStore::in_memory();
        let (a, b) = (Digest([1; 32]), Digest([2; 32]));
        let name = |name: &str| -> NodeName { name.parse().unwrap() };
        store.add_token(&a, &kept(&a, Subject::Node(name("n")), 0, 10)).unwrap();
        store.add_token(&b, &kept(&b, Subject::Node(name("nn")), 0, 10)).unwrap();
        assert!(!store.revoke_node(&name("n"), WallTime::from_secs(3), WallTime::from_secs(-1)).unwrap());
        assert_eq!(store.spend_token(&a, WallTime::from_secs(4)).unwrap(), None);
        assert!(store.spend_token(&b, WallTime::from_secs(4)).unwrap().is_some(), "another node's");
        assert_eq!(store.revoked_nodes().unwrap(), [(name("n"), WallTime::from_secs(3))]);
        crate::last_words::NodeNumbers::number(&store, &name("m")).unwrap();
        assert!(store.revoke_node(&name("m"), WallTime::from_secs(9), WallTime::from_secs(3)).unwrap());
        assert_eq!(store.revoked_nodes().unwrap(), [(name("m"), WallTime::from_secs(9))]);
    }

    #[test]
    fn of_a_node_in_a_cluster_it_is_known_which_one_enrolled_last_and_of_too_many_the_oldest_are_forgotten() {
        let store = SqliteStore::in_memory();
        let name = |n: i64| -> NodeName { format!("n{n}").parse().unwrap() };
        assert_eq!(store.node_uid(&name(1)).unwrap(), None);
        for (uid, at) in [("a", 1), ("b", 2)] {
            store.set_node_uid(&name(1), uid, WallTime::from_secs(at)).unwrap();
            assert_eq!(store.node_uid(&name(1)).unwrap().as_deref(), Some(uid));
        }
        let fill = "WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + 8)
                    INSERT INTO node_uids SELECT 'n' || i, 'u', i FROM n";
        store.lock().execute(fill, [MAX_UIDS]).unwrap();
        store.set_node_uid(&name(0), "c", WallTime::from_secs(1)).unwrap();
        let left: i64 = store.lock().query_row("SELECT count(*) FROM node_uids", [], |r| r.get(0)).unwrap();
        assert_eq!(left, MAX_UIDS);
        assert_eq!(store.node_uid(&name(10)).unwrap(), None, "it enrolled longest ago");
        assert_eq!(store.node_uid(&name(0)).unwrap().as_deref(), Some("c"));
    }

    #[test]
    fn tokens_that_have_expired_are_forgotten() {
        let store = SqliteStore::in_memory();
        for n in 0..4 {
            let digest = Digest([n; 32]);
            store.add_token(&digest, &kept(&digest, person(), i64::from(n), i64::from(n) + 2)).unwrap();
        }
        let left: i64 = store.lock().query_row("SELECT count(*) FROM tokens", [], |r| r.get(0)).unwrap();
        assert_eq!(left, 2);
    }
}
