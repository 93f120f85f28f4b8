//! The index in one SQLite file, write-ahead logged and synced at every commit.
//!
//! One connection behind a mutex: calls are rare (an incident changes its state a handful of times) and short. What
//! needs to be searched is a column, the rest is JSON.

#[path = "sqlite_copies.rs"]
mod copies;
#[path = "sqlite_resources.rs"]
mod resources;
#[path = "sqlite_tokens.rs"]
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use casefile_proto::coverage::{Coverage, SourceKind};
use casefile_proto::ids::{IncidentId, NodeName, RequestId};
use casefile_proto::incident::{IncidentAsk, IncidentPage, IncidentState, ListAsk, NodePhase};
use casefile_proto::session::Collectable;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{MAX_NODES, MemberRecord, Record, Requests, Store, StoreError};
use crate::incident::machine::{Plan, is_missing};
use crate::last_words::{NoNumber, NodeNumbers};

/// The version of the tables below. A newer collector migrates an older index; the other way is refused.
const SCHEMA: i64 = 4;

/// How long to wait for another process that reads the file (a backup, a person with `sqlite3`).
const BUSY: Duration = Duration::from_secs(5);

/// The most names of nodes on one page of incidents, so that the answer fits into a message: a longer page ends early.
const MAX_NAMES_ON_PAGE: usize = 20_000;

/// Numbers are never used twice (AUTOINCREMENT): paths and names of archives are built from them.
const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE nodes (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    collectable TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE TABLE incidents (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    state   TEXT NOT NULL,
    ask     TEXT NOT NULL,
    plan    TEXT NOT NULL,
    failure TEXT,
    over    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE requests (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    incident INTEGER NOT NULL REFERENCES incidents(id),
    node     INTEGER NOT NULL REFERENCES nodes(number),
    phase    TEXT NOT NULL,
    answer   TEXT,
    asked    TEXT,
    UNIQUE (incident, node)
) STRICT;
CREATE TABLE archives (
    incident INTEGER NOT NULL REFERENCES incidents(id),
    revision INTEGER NOT NULL,
    archive  TEXT NOT NULL,
    coverage TEXT NOT NULL,
    PRIMARY KEY (incident, revision)
) STRICT;
";

/// What makes the tables of version 1 those of version 2: an incident may have more than one archive, and is not over when
/// it is sealed. Incidents that were sealed by then were promised nothing more.
const TO_VERSION_2: &str = "
ALTER TABLE incidents ADD COLUMN over INTEGER NOT NULL DEFAULT 0;
UPDATE incidents SET over = 1 WHERE state = 'sealed';
ALTER TABLE archives RENAME TO archives_1;
CREATE TABLE archives (
    incident INTEGER NOT NULL REFERENCES incidents(id),
    revision INTEGER NOT NULL,
    archive  TEXT NOT NULL,
    coverage TEXT NOT NULL,
    PRIMARY KEY (incident, revision)
) STRICT;
INSERT INTO archives SELECT incident, 1, archive, coverage FROM archives_1;
DROP TABLE archives_1;
UPDATE meta SET value = 2 WHERE key = 'schema';
";

/// The index in one file.
pub struct SqliteStore {
    connection: Mutex<Connection>,
}

impl SqliteStore {
    /// Opens the index, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::with(Connection::open(path).map_err(database("open"))?)
    }

    /// An index that is gone with the value.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self::with(Connection::open_in_memory().unwrap()).unwrap()
    }

    fn with(mut connection: Connection) -> Result<Self, StoreError> {
        prepare(&mut connection)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held rolled its transaction back: what is there is whole.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    connection.busy_timeout(BUSY).map_err(database("open"))?;
    // Answers "wal", or "memory" for one in memory; neither is a failure.
    connection.pragma_update(None, "journal_mode", "wal").map_err(database("open"))?;
    connection.pragma_update(None, "synchronous", "full").map_err(database("open"))?;
    connection.pragma_update(None, "foreign_keys", true).map_err(database("open"))?;
    let tx = connection.transaction().map_err(database("open"))?;
    tx.execute_batch(tokens::TABLE).map_err(database("make"))?;
    let tables: i64 = tx
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |row| row.get(0))
        .map_err(database("open"))?;
    if tables == 0 {
        tx.execute_batch(TABLES).map_err(database("make"))?;
        tx.execute_batch(resources::TABLE).map_err(database("make"))?;
        tx.execute_batch(copies::TABLE).map_err(database("make"))?;
        tx.execute("INSERT INTO meta VALUES ('schema', ?1)", [SCHEMA]).map_err(database("make"))?;
        return tx.commit().map_err(database("make"));
    }
    let found: i64 =
        tx.query_row("SELECT value FROM meta WHERE key = 'schema'", [], |row| row.get(0)).map_err(database("open"))?;
    if found > SCHEMA {
        return Err(StoreError::Newer { found, known: SCHEMA });
    }
    if found < 2 {
        tx.execute_batch(TO_VERSION_2).map_err(database("migrate"))?;
    }
    if found < 3 {
        // Incidents may be opened by resources from then on, which an older collector does not know.
        tx.execute_batch(resources::TABLE).map_err(database("migrate"))?;
        tx.execute("UPDATE meta SET value = 3 WHERE key = 'schema'", []).map_err(database("migrate"))?;
    }
    if found < 4 {
        // An archive may lie in an archive store alone from then on, where an older collector does not look.
        tx.execute_batch(copies::TABLE).map_err(database("migrate"))?;
        tx.execute("UPDATE meta SET value = 4 WHERE key = 'schema'", []).map_err(database("migrate"))?;
    }
    tx.commit().map_err(database("make"))
}

impl NodeNumbers for SqliteStore {
    fn number(&self, node: &NodeName) -> Result<u64, NoNumber> {
        let mut connection = self.lock();
        let numbered = connection.transaction().map_err(database("write")).and_then(|tx| {
            let number = number(&tx, node)?;
            tx.commit().map_err(database("write")).map(|()| number)
        });
        numbered.map_err(|e| NoNumber(Box::new(e)))
    }

    fn known(&self) -> Result<Vec<(NodeName, u64)>, NoNumber> {
        let connection = self.lock();
        let known = || {
            let mut query = connection.prepare_cached("SELECT name, number FROM nodes ORDER BY name")?;
            let rows = query.query_map([], |row| Ok((name_at(row, 0)?, number_at(row, 1)?)))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        known().map_err(|e| NoNumber(Box::new(e)))
    }
}

impl Store for SqliteStore {
    fn open_incident(&self, ask: &IncidentAsk, plan: &Plan, nodes: &[NodeName]) -> Result<Record, StoreError> {
        let mut connection = self.lock();
        let tx = connection.transaction().map_err(database("write"))?;
        tx.execute(
            "INSERT INTO incidents (state, ask, plan) VALUES (?1, ?2, ?3)",
            params![word(&IncidentState::Open)?, json(ask)?, json(plan)?],
        )
        .map_err(database("write"))?;
        let row = tx.last_insert_rowid();
        let mut members = BTreeMap::new();
        for node in nodes {
            let number = number(&tx, node)?;
            tx.execute(
                "INSERT INTO requests (incident, node, phase) VALUES (?1, ?2, ?3)",
                params![row, signed(number), word(&NodePhase::Waiting)?],
            )
            .map_err(database("write"))?;
            let request = RequestId(tx.last_insert_rowid().unsigned_abs());
            let member = MemberRecord { number, request, phase: NodePhase::Waiting, answer: None, asked: None };
            members.insert(node.clone(), member);
        }
        if let Some(resource) = &ask.resource {
            resources::bind(&tx, resource, IncidentId(row.unsigned_abs()))?;
        }
        tx.commit().map_err(database("write"))?;
        Ok(Record {
            id: IncidentId(row.unsigned_abs()),
            ask: ask.clone(),
            plan: *plan,
            state: IncidentState::Open,
            members,
            archive: None,
            earlier: Vec::new(),
            failure: None,
            over: false,
        })
    }

    fn save(&self, record: &Record) -> Result<(), StoreError> {
        let mut connection = self.lock();
        let tx = connection.transaction().map_err(database("write"))?;
        save(&tx, record)?;
        tx.commit().map_err(database("write"))
    }

    fn save_sealed(&self, record: &Record, coverage: &Coverage) -> Result<Requests, StoreError> {
        let mut connection = self.lock();
        let tx = connection.transaction().map_err(database("write"))?;
        save(&tx, record)?;
        let revision = record.archive.as_ref().map_or(1, |a| a.revision);
        // Sealed anew, it is another file than the one that was copied.
        copies::forget(&tx, record.id, revision)?;
        tx.execute(
            "INSERT OR REPLACE INTO archives (incident, revision, archive, coverage) VALUES (?1, ?2, ?3, ?4)",
            params![signed(record.id.0), revision, json(&record.archive)?, json(coverage)?],
        )
        .map_err(database("write"))?;
        let mut requests = Requests::new();
        for (node, member) in record.members.iter().filter(|(_, m)| is_missing(m.phase)) {
            requests.insert(node.clone(), renew(&tx, member.request)?);
        }
        tx.commit().map_err(database("write"))?;
        Ok(requests)
    }

    fn incident(&self, id: IncidentId) -> Result<Option<Record>, StoreError> {
        record(&self.lock(), id).map_err(database("read"))
    }

    fn unfinished(&self) -> Result<Vec<Record>, StoreError> {
        let connection = self.lock();
        let all = || {
            let mut query = connection.prepare_cached("SELECT id FROM incidents WHERE over = 0 ORDER BY id")?;
            let ids = query.query_map([], |row| number_at(row, 0))?.collect::<rusqlite::Result<Vec<u64>>>()?;
            let records = ids.into_iter().filter_map(|id| record(&connection, IncidentId(id)).transpose());
            records.collect::<rusqlite::Result<_>>()
        };
        all().map_err(database("read"))
    }

    fn list(&self, ask: ListAsk) -> Result<IncidentPage, StoreError> {
        page(&self.lock(), ask).map_err(database("read"))
    }

    fn coverage(&self, id: IncidentId) -> Result<Option<Coverage>, StoreError> {
        let sql = "SELECT coverage FROM archives WHERE incident = ?1 ORDER BY revision DESC LIMIT 1";
        let connection = self.lock();
        connection.query_row(sql, [signed(id.0)], |row| json_at(row, 0)).optional().map_err(database("read"))
    }

    fn count_by_state(&self) -> Result<Vec<(IncidentState, u64)>, StoreError> {
        let connection = self.lock();
        let count = || {
            let mut query = connection.prepare_cached("SELECT state, count(*) FROM incidents GROUP BY state")?;
            let rows = query.query_map([], |row| Ok((word_at(row, 0)?, number_at(row, 1)?)))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        count().map_err(database("read"))
    }

    fn collectable(&self, node: &NodeName) -> Result<Vec<Collectable>, StoreError> {
        let sql = "SELECT collectable FROM nodes WHERE name = ?1";
        let connection = self.lock();
        let found: Option<Vec<(String, SourceKind)>> =
            connection.query_row(sql, [node.as_str()], |row| json_at(row, 0)).optional().map_err(database("read"))?;
        // A node without a row was never heard.
        Ok(found.unwrap_or_default().into_iter().map(|(name, kind)| Collectable { name, kind }).collect())
    }

    fn set_collectable(&self, node: &NodeName, collectable: &[Collectable]) -> Result<(), StoreError> {
        let list: Vec<_> = collectable.iter().map(|c| (&c.name, c.kind)).collect();
        let mut connection = self.lock();
        let tx = connection.transaction().map_err(database("write"))?;
        let number = number(&tx, node)?;
        tx.execute("UPDATE nodes SET collectable = ?2 WHERE number = ?1", params![signed(number), json(&list)?])
            .map_err(database("write"))?;
        tx.commit().map_err(database("write"))
    }

    fn numbers(self: Arc<Self>) -> Arc<dyn NodeNumbers> {
        self
    }
}

fn number(tx: &Transaction<'_>, node: &NodeName) -> Result<u64, StoreError> {
    let found = tx
        .query_row("SELECT number FROM nodes WHERE name = ?1", [node.as_str()], |row| number_at(row, 0))
        .optional()
        .map_err(database("read"))?;
    if let Some(number) = found {
        return Ok(number);
    }
    let many = tx.query_row("SELECT count(*) FROM nodes", [], |row| number_at(row, 0)).map_err(database("read"))?;
    if many >= MAX_NODES {
        return Err(StoreError::TooManyNodes);
    }
    tx.execute("INSERT INTO nodes (name) VALUES (?1)", [node.as_str()]).map_err(database("write"))?;
    Ok(tx.last_insert_rowid().unsigned_abs())
}

fn save(tx: &Transaction<'_>, record: &Record) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE incidents SET state = ?2, failure = ?3, over = ?4 WHERE id = ?1",
        params![signed(record.id.0), word(&record.state)?, record.failure, record.over],
    )
    .map_err(database("write"))?;
    let mut query = tx
        .prepare_cached("UPDATE requests SET phase = ?2, answer = ?3, asked = ?4 WHERE id = ?1")
        .map_err(database("write"))?;
    for member in record.members.values() {
        let answer = member.answer.as_ref().map(json).transpose()?;
        let asked = member.asked.as_ref().map(json).transpose()?;
        query
            .execute(params![signed(member.request.0), word(&member.phase)?, answer, asked])
            .map_err(database("write"))?;
    }
    Ok(())
}

/// The same node of the same incident under another, new number.
fn renew(tx: &Transaction<'_>, request: RequestId) -> Result<RequestId, StoreError> {
    let taken = tx.query_row(
        "DELETE FROM requests WHERE id = ?1 RETURNING incident, node, phase, asked",
        [signed(request.0)],
        |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, Option<String>>(3)?,
            ))
        },
    );
    let (incident, node, phase, asked) = taken.map_err(database("write"))?;
    tx.execute(
        "INSERT INTO requests (incident, node, phase, asked) VALUES (?1, ?2, ?3, ?4)",
        params![incident, node, phase, asked],
    )
    .map_err(database("write"))?;
    Ok(RequestId(tx.last_insert_rowid().unsigned_abs()))
}

fn record(connection: &Connection, id: IncidentId) -> rusqlite::Result<Option<Record>> {
    let mut query = connection.prepare_cached("SELECT state, ask, plan, failure, over FROM incidents WHERE id = ?1")?;
    let found = query.query_row([signed(id.0)], |row| {
        Ok(Record {
            id,
            state: word_at(row, 0)?,
            ask: json_at(row, 1)?,
            plan: json_at(row, 2)?,
            failure: row.get(3)?,
            over: row.get(4)?,
            archive: None,
            earlier: Vec::new(),
            members: BTreeMap::new(),
        })
    });
    let Some(mut record) = found.optional()? else { return Ok(None) };
    let mut query = connection.prepare_cached(
        "SELECT name, number, id, phase, answer, asked FROM requests JOIN nodes ON node = number WHERE incident = ?1",
    )?;
    let members = query.query_map([signed(id.0)], |row| {
        let member = MemberRecord {
            number: number_at(row, 1)?,
            request: RequestId(number_at(row, 2)?),
            phase: word_at(row, 3)?,
            answer: optional_json_at(row, 4)?,
            asked: optional_json_at(row, 5)?,
        };
        Ok((name_at(row, 0)?, member))
    })?;
    record.members = members.collect::<rusqlite::Result<_>>()?;
    let mut query = connection.prepare_cached("SELECT archive FROM archives WHERE incident = ?1 ORDER BY revision")?;
    let archives = query.query_map([signed(id.0)], |row| json_at(row, 0))?;
    record.earlier = archives.collect::<rusqlite::Result<_>>()?;
    record.archive = record.earlier.pop();
    Ok(Some(record))
}

fn page(connection: &Connection, ask: ListAsk) -> rusqlite::Result<IncidentPage> {
    let mut query = connection.prepare_cached("SELECT id FROM incidents WHERE id < ?1 ORDER BY id DESC LIMIT ?2")?;
    let before = ask.before.map_or(i64::MAX, |id| signed(id.0));
    // One more than the page, to know whether there are older ones.
    let ids = query
        .query_map(params![before, i64::from(ask.page) + 1], |row| number_at(row, 0))?
        .collect::<rusqlite::Result<Vec<u64>>>()?;
    let full = usize::try_from(ask.page).unwrap_or(usize::MAX);
    let (mut incidents, mut names) = (Vec::new(), 0);
    for id in &ids {
        let Some(record) = record(connection, IncidentId(*id))? else { continue };
        names += record.members.len();
        if incidents.len() >= full || (names > MAX_NAMES_ON_PAGE && !incidents.is_empty()) {
            break;
        }
        incidents.push(record.summary());
    }
    let more = incidents.len() < ids.len();
    Ok(IncidentPage { incidents, more })
}

/// Whether an error of the database means that the disk is full.
pub(super) fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    code == Some(rusqlite::ErrorCode::DiskFull)
}

fn database<E: Into<Box<dyn std::error::Error + Send + Sync>>>(doing: &'static str) -> impl Fn(E) -> StoreError {
    move |source| StoreError::Database { doing, source: source.into() }
}

/// Row numbers are given out by SQLite from 1 up and never reach the sign bit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number_at(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

fn name_at(row: &Row<'_>, column: usize) -> rusqlite::Result<NodeName> {
    row.get::<_, String>(column)?.parse().map_err(|e| unreadable(column, e))
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(database("write"))
}

fn json_at<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(&row.get::<_, String>(column)?).map_err(|e| unreadable(column, e))
}

fn optional_json_at<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|e| unreadable(column, e))).transpose()
}

/// A member of a closed list as its own bare word, so that a person can search for it.
fn word<T: Serialize>(value: &T) -> Result<String, StoreError> {
    json(value).map(|quoted| quoted.trim_matches('"').to_owned())
}

fn word_at<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let word: String = row.get(column)?;
    serde_json::from_value(serde_json::Value::String(word)).map_err(|e| unreadable(column, e))
}

fn unreadable(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

#[cfg(test)]
#[path = "sqlite_tests.rs"]
mod tests;
