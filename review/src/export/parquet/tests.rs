//! What is written is read again with the crate's own reader. DuckDB reads it in `tests/exports/run`.

use std::fs::File;

use casefile_proto::time::WallTime;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::*;
use crate::export::Exported;

static TABLE: Table = Table {
    name: "t",
    about: "a test",
    columns: &[("time", Kind::Time), ("text", Kind::Text), ("number", Kind::Integer), ("value", Kind::Real)],
};

fn written(rows: &[[Cell<'_>; 4]]) -> (tempfile::TempDir, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let mut target = Target { dir: dir.path().to_owned(), done: Exported::default() };
    let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
    let mut file = OneFile::new(&TABLE, &target, &properties).unwrap();
    for row in rows {
        file.row(row).unwrap();
    }
    file.close(&mut target).unwrap();
    assert_eq!(target.done.files[0].rows, rows.len() as u64);
    let bytes = std::fs::read(dir.path().join("t.parquet")).unwrap();
    (dir, bytes)
}

fn read(dir: &tempfile::TempDir) -> (usize, Vec<Vec<Field>>) {
    let reader = SerializedFileReader::new(File::open(dir.path().join("t.parquet")).unwrap()).unwrap();
    let groups = reader.metadata().num_row_groups();
    let rows = reader.get_row_iter(None).unwrap();
    (groups, rows.map(|row| row.unwrap().into_columns().into_iter().map(|(_, field)| field).collect()).collect())
}

#[test]
fn what_is_missing_is_null_and_the_rest_is_what_was_given() {
    let at = WallTime::from_nanos(1_795_405_450_123_456_789);
    let rows = [
        [Cell::Time(at), Cell::Text("a"), Cell::Integer(-1), Cell::Real(0.5)],
        [Cell::None, Cell::None, Cell::None, Cell::None],
        [Cell::Time(at), Cell::Text("a"), Cell::Integer(i64::MAX), Cell::Real(f64::NEG_INFINITY)],
        [Cell::Time(WallTime::MIN), Cell::Text(""), Cell::Integer(0), Cell::Real(-0.0)],
    ];
    let (dir, bytes) = written(&rows);
    let (_, back) = read(&dir);
    let text = |text: &str| Field::Str(text.to_owned());
    assert_eq!(back.len(), 4);
    assert_eq!(back[0][1..], [text("a"), Field::Long(-1), Field::Double(0.5)]);
    assert_eq!(back[1], [Field::Null, Field::Null, Field::Null, Field::Null]);
    assert_eq!(back[2][1..], [text("a"), Field::Long(i64::MAX), Field::Double(f64::NEG_INFINITY)]);
    assert_eq!(back[3][1..3], [text(""), Field::Long(0)]);
    assert_eq!(written(&rows).1, bytes, "the same rows give the same bytes");
}

#[test]
fn a_row_group_ends_before_memory_does() {
    let long = "x".repeat(TEXT / 2);
    let other = "y".repeat(TEXT / 2);
    let rows: Vec<_> = (0..6)
        .map(|n| [Cell::None, Cell::Text(if n % 2 == 0 { &long } else { &other }), Cell::None, Cell::None])
        .collect();
    let (dir, _) = written(&rows);
    let (groups, back) = read(&dir);
    assert_eq!((groups, back.len()), (3, 6));
    assert_eq!(back[5][1], Field::Str(other));
}
