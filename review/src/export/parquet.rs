//! Parquet, one file a table, and `views.sql` for DuckDB; also for pandas, Polars and Spark.
//!
//! Written without arrow: rows are gathered as columns, a bounded group of them at a time. Snappy, because every reader has it
//! and it is written in Rust. Times are nanoseconds in UTC.

use std::fs::File;
use std::io::{self, BufWriter};
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};

use crate::casefile::CaseFile;
use crate::display::safe;

use super::cells::{Cell, Kind, Rows, Table};
use super::tables::GROUPS;
use super::{Ask, ExportError, Form, Shape, Target};

mod views;

/// The form.
pub(super) static FORM: Form = Form {
    name: "parquet",
    about: "every table as Parquet, and views.sql for DuckDB, with a view and rates for each metric",
    then: "cd PATH && duckdb -init views.sql",
    shape: Shape::Directory,
    write,
};

/// The most rows of a row group: about 20 MiB while it is gathered.
const ROWS: usize = 1 << 18;

/// The most text of a row group.
const TEXT: usize = 16 << 20;

fn write(casefile: &mut CaseFile, ask: &Ask, target: &mut Target) -> Result<(), ExportError> {
    let properties = properties(casefile);
    let mut written = Vec::new();
    let mut seen = views::Metrics::default();
    for group in GROUPS {
        if !(group.there)(casefile) {
            continue;
        }
        let mut files = Files { files: Vec::new(), seen: &mut seen };
        for table in group.tables {
            files.files.push(OneFile::new(table, target, &properties)?);
        }
        (group.fill)(casefile, ask, &mut target.done, &mut files)?;
        for file in files.files {
            written.push(file.table);
            file.close(target)?;
        }
    }
    let sql = views::sql(&safe(&casefile.incident.title), &written, &seen);
    let mut file = target.create(views::FILE)?;
    io::Write::write_all(&mut file, sql.as_bytes()).map_err(ExportError::write(views::FILE))?;
    target.finish(views::FILE, file, sql.lines().count() as u64)
}

/// The same for every file. What made it is said without the time at which it was made.
fn properties(casefile: &CaseFile) -> WriterPropertiesPtr {
    let incident = casefile.incident.id.map(|id| id.to_string());
    let said = [
        ("casefile.incident", incident.unwrap_or_default()),
        ("casefile.title", safe(&casefile.incident.title)),
        ("casefile.window", casefile.coverage.window.to_string()),
    ];
    let said = said.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect();
    Arc::new(
        WriterProperties::builder()
            .set_created_by(concat!("casefile ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_key_value_metadata(Some(said))
            .build(),
    )
}

/// The files of a group.
struct Files<'s> {
    files: Vec<OneFile>,
    seen: &'s mut views::Metrics,
}

impl Rows for Files<'_> {
    fn row(&mut self, table: usize, cells: &[Cell<'_>]) -> Result<(), ExportError> {
        let Some(file) = self.files.get_mut(table) else { return Ok(()) };
        if file.table.name == views::METRICS {
            self.seen.take(cells);
        }
        file.row(cells)
    }
}

struct OneFile {
    table: &'static Table,
    name: String,
    writer: SerializedFileWriter<BufWriter<File>>,
    columns: Vec<Values>,
    /// Rows and bytes of text that are gathered.
    rows: usize,
    text: usize,
    written: u64,
}

impl OneFile {
    fn new(table: &'static Table, target: &Target, properties: &WriterPropertiesPtr) -> Result<Self, ExportError> {
        let name = format!("{}.parquet", table.name);
        let schema = schema(table).map_err(failed(&name))?;
        let file = target.create(&name)?;
        let writer = SerializedFileWriter::new(file, schema, Arc::clone(properties)).map_err(failed(&name))?;
        let columns = table.columns.iter().map(|(_, kind)| Values::new(*kind)).collect();
        Ok(Self { table, name, writer, columns, rows: 0, text: 0, written: 0 })
    }

    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), ExportError> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            self.text += column.push(cell);
        }
        self.rows += 1;
        if self.rows >= ROWS || self.text >= TEXT { self.flush() } else { Ok(()) }
    }

    /// A row group.
    fn flush(&mut self) -> Result<(), ExportError> {
        let fail = failed(&self.name);
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(&fail)?;
        for values in &mut self.columns {
            let Some(column) = group.next_column().map_err(&fail)? else { break };
            values.write(column).map_err(&fail)?;
        }
        group.close().map_err(&fail)?;
        self.written += self.rows as u64;
        (self.rows, self.text) = (0, 0);
        Ok(())
    }

    fn close(mut self, target: &mut Target) -> Result<(), ExportError> {
        self.flush()?;
        let file = self.writer.into_inner().map_err(failed(&self.name))?;
        target.finish(&self.name, file, self.written)
    }
}

fn failed(file: &str) -> impl Fn(ParquetError) -> ExportError + use<> {
    let file = file.to_owned();
    move |error| ExportError::Write { file: file.clone(), source: io::Error::other(error) }
}

fn schema(table: &Table) -> Result<TypePtr, ParquetError> {
    let field = |(name, kind): &(&str, Kind)| {
        let (physical, logical) = match kind {
            Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Integer => (Physical::INT64, None),
            Kind::Real => (Physical::DOUBLE, None),
        };
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let fields = table.columns.iter().map(field).collect::<Result<_, _>>()?;
    Type::group_type_builder(table.name).with_fields(fields).build().map(Arc::new)
}

/// The cells of one column that are gathered, and for each row whether it has one.
struct Values {
    there: Vec<i16>,
    cells: Cells,
}

enum Cells {
    Time(Vec<i64>),
    Integer(Vec<i64>),
    Real(Vec<f64>),
    /// Texts that follow one another and are the same are held once.
    Text {
        texts: Vec<ByteArray>,
        which: Vec<u32>,
    },
}

impl Values {
    fn new(kind: Kind) -> Self {
        let cells = match kind {
            Kind::Time => Cells::Time(Vec::new()),
            Kind::Integer => Cells::Integer(Vec::new()),
            Kind::Real => Cells::Real(Vec::new()),
            Kind::Text => Cells::Text { texts: Vec::new(), which: Vec::new() },
        };
        Self { there: Vec::new(), cells }
    }

    /// One more; how many bytes of text are held for it.
    fn push(&mut self, cell: &Cell<'_>) -> usize {
        let mut held = 0;
        let there = match (&mut self.cells, cell) {
            (Cells::Time(all), Cell::Time(at)) => {
                all.push(at.nanos());
                1
            }
            (Cells::Integer(all), Cell::Integer(number)) => {
                all.push(*number);
                1
            }
            (Cells::Real(all), Cell::Real(number)) => {
                all.push(*number);
                1
            }
            (Cells::Text { texts, which }, Cell::Text(text)) => {
                if texts.last().is_none_or(|last| last.data() != text.as_bytes()) {
                    texts.push(ByteArray::from(text.as_bytes().to_vec()));
                    held = text.len() + size_of::<ByteArray>();
                }
                which.push(u32::try_from(texts.len() - 1).unwrap_or(u32::MAX));
                1
            }
            // A table gives each column what it declares, and otherwise nothing.
            _ => 0,
        };
        self.there.push(there);
        held
    }

    fn write(&mut self, mut column: SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
        let there = Some(self.there.as_slice());
        match &mut self.cells {
            Cells::Time(all) | Cells::Integer(all) => {
                column.typed::<Int64Type>().write_batch(all, there, None)?;
                all.clear();
            }
            Cells::Real(all) => {
                column.typed::<DoubleType>().write_batch(all, there, None)?;
                all.clear();
            }
            Cells::Text { texts, which } => {
                let all: Vec<ByteArray> = which.iter().filter_map(|n| texts.get(*n as usize).cloned()).collect();
                column.typed::<ByteArrayType>().write_batch(&all, there, None)?;
                texts.clear();
                which.clear();
            }
        }
        self.there.clear();
        column.close()
    }
}

#[cfg(test)]
mod tests;
