//! The table of copies in the index: which archive lies in which archive store, checked there.
//!
//! A row is written when the copy was read back and is what was sealed, and goes when the store has it no more. An archive
//! has one row: the store that it was copied to last.

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::SealedArchive;
use rusqlite::{Connection, Row, params};

use super::{SqliteStore, database, json_at, number_at, signed};
use crate::store::{Copies, Copy, Sealed, StoreError};

pub(super) const TABLE: &str = "
CREATE TABLE copies (
    incident INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    store    TEXT NOT NULL,
    PRIMARY KEY (incident, revision),
    FOREIGN KEY (incident, revision) REFERENCES archives(incident, revision)
) STRICT, WITHOUT ROWID;
";

const UNCOPIED: &str = "
SELECT archives.incident, archive, store
FROM archives LEFT JOIN copies USING (incident, revision)
WHERE store IS NULL OR store <> ?1 ORDER BY archives.incident, archives.revision
";

/// The newest archive of an incident that may still be amended is needed for that.
const SPARE: &str = "
SELECT archives.incident, archive, store
FROM archives JOIN copies USING (incident, revision) JOIN incidents ON incidents.id = archives.incident
WHERE store = ?1 AND (over = 1 OR revision < (SELECT max(revision) FROM archives AS a WHERE a.incident = incidents.id))
ORDER BY archives.incident, archives.revision
";

fn sealed(row: &Row<'_>) -> rusqlite::Result<Sealed> {
    let (incident, archive): (_, SealedArchive) = (IncidentId(number_at(row, 0)?), json_at(row, 1)?);
    Ok(Sealed { incident, archive, store: row.get(2)? })
}

/// There is no copy of this archive any more.
pub(super) fn forget(connection: &Connection, incident: IncidentId, revision: u32) -> Result<(), StoreError> {
    let sql = "DELETE FROM copies WHERE incident = ?1 AND revision = ?2";
    let done = connection.execute(sql, params![signed(incident.0), revision]);
    done.map(|_| ()).map_err(database("write"))
}

impl SqliteStore {
    fn sealed(&self, sql: &str, store: &str) -> Result<Vec<Sealed>, StoreError> {
        let connection = self.lock();
        let all = || {
            let mut query = connection.prepare_cached(sql)?;
            query.query_map([store], sealed)?.collect::<rusqlite::Result<_>>()
        };
        all().map_err(database("read"))
    }
}

impl Copies for SqliteStore {
    fn uncopied(&self, store: &str) -> Result<Vec<Sealed>, StoreError> {
        self.sealed(UNCOPIED, store)
    }

    fn spare(&self, store: &str) -> Result<Vec<Sealed>, StoreError> {
        self.sealed(SPARE, store)
    }

    fn copies(&self, incident: IncidentId) -> Result<Vec<Copy>, StoreError> {
        let connection = self.lock();
        let all = || {
            let mut query = connection.prepare_cached("SELECT revision, store FROM copies WHERE incident = ?1")?;
            let rows =
                query.query_map([signed(incident.0)], |row| Ok(Copy { revision: row.get(0)?, store: row.get(1)? }))?;
            rows.collect::<rusqlite::Result<_>>()
        };
        all().map_err(database("read"))
    }

    fn copied(&self, incident: IncidentId, revision: u32, store: &str) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO copies (incident, revision, store) VALUES (?1, ?2, ?3)";
        let done = self.lock().execute(sql, params![signed(incident.0), revision, store]);
        done.map(|_| ()).map_err(database("write"))
    }

    fn copy_lost(&self, incident: IncidentId, revision: u32) -> Result<(), StoreError> {
        forget(&self.lock(), incident, revision)
    }
}
