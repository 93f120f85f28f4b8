//! The table of resources in the index: which incident answers for which resource of Kubernetes.
//!
//! A uid is in it once and is never changed to another incident, whatever happens elsewhere: that is what keeps one resource
//! at one incident.

use casefile_proto::ids::IncidentId;
use casefile_proto::incident::Resource;
use rusqlite::{Connection, OptionalExtension, params};

use super::{SqliteStore, database, number_at, signed, word_at};
use crate::store::{Bound, Resources, StoreError};

pub(super) const TABLE: &str = "
CREATE TABLE resources (
    uid        TEXT PRIMARY KEY,
    namespace  TEXT NOT NULL,
    name       TEXT NOT NULL,
    generation INTEGER NOT NULL,
    incident   INTEGER NOT NULL REFERENCES incidents(id),
    gone       INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
";

const BOUND: &str = "
SELECT uid, namespace, name, generation, incident, state,
       (SELECT max(revision) FROM archives WHERE archives.incident = resources.incident)
FROM resources JOIN incidents ON incidents.id = incident
WHERE gone = 0 ORDER BY uid
";

/// Binds a resource that is bound to nothing.
pub(super) fn bind(connection: &Connection, resource: &Resource, incident: IncidentId) -> Result<(), StoreError> {
    let Resource { namespace, name, uid, generation } = resource;
    connection
        .execute(
            "INSERT INTO resources (uid, namespace, name, generation, incident) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![uid, namespace, name, signed(*generation), signed(incident.0)],
        )
        .map_err(database("write"))?;
    Ok(())
}

impl Resources for SqliteStore {
    fn opened_for(&self, uid: &str) -> Result<Option<IncidentId>, StoreError> {
        let sql = "SELECT incident FROM resources WHERE uid = ?1";
        let found = self.lock().query_row(sql, [uid], |row| number_at(row, 0)).optional();
        Ok(found.map_err(database("read"))?.map(IncidentId))
    }

    fn bind(&self, resource: &Resource, incident: IncidentId) -> Result<(), StoreError> {
        bind(&self.lock(), resource, incident)
    }

    fn bound(&self) -> Result<Vec<Bound>, StoreError> {
        let connection = self.lock();
        let all = || {
            let mut query = connection.prepare_cached(BOUND)?;
            let rows = query.query_map([], |row| {
                let resource = Resource {
                    uid: row.get(0)?,
                    namespace: row.get(1)?,
                    name: row.get(2)?,
                    generation: number_at(row, 3)?,
                };
                let incident = IncidentId(number_at(row, 4)?);
                Ok(Bound { resource, incident, state: word_at(row, 5)?, revision: row.get(6)? })
            })?;
            rows.collect::<rusqlite::Result<_>>()
        };
        all().map_err(database("read"))
    }

    fn resource_gone(&self, uid: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE resources SET gone = 1 WHERE uid = ?1 AND gone = 0";
        Ok(self.lock().execute(sql, [uid]).map_err(database("write"))? > 0)
    }
}
