//! `syncline import`: a file of rows, whole or not at all: a JSON array, one JSON object a line, or CSV.
//!
//! The file is read as a stream, so its size is no limit; everything happens in one database transaction, cut into
//! replication transactions of a thousand rows. A row without an id gets one made of the file's name and its place in it, so
//! that a second import of the same file changes nothing.

mod comma_separated;
mod progress;

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::de::{DeserializeSeed, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use syncline_protocol::{EntityName, ErrorCode, IdError, RowId, ValueError, limits, parse_row};

use crate::import::progress::Counted;
pub use crate::import::progress::Progress;
use crate::store::{ImportRefusal, ImportedRow, RowImport, Store, StoreError};

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Rows that are new.
    pub inserted: u64,
    /// Rows that differed from what was stored.
    pub updated: u64,
    /// Rows that were stored like this already.
    pub unchanged: u64,
    /// Rows whose id was deleted once; they stay deleted.
    pub deleted: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl ImportReport {
    /// Rows read.
    pub const fn rows(&self) -> u64 {
        self.inserted + self.updated + self.unchanged + self.deleted
    }

    /// Rows a second.
    pub fn rows_per_s(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rows = self.rows() as f64;
        rows / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inserted, updated, unchanged, deleted, elapsed } = self;
        write!(f, "{inserted} rows inserted, {updated} updated, {unchanged} unchanged")?;
        if *deleted > 0 {
            write!(f, ", {deleted} left out because they were deleted")?;
        }
        write!(f, " in {:.1} s ({:.0} rows/s)", elapsed.as_secs_f64(), self.rows_per_s())
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither a JSON array nor one JSON object a line.
    #[error(
        "the file is neither a JSON array of objects nor one JSON object a line; CSV is told by the ending .csv, or .tsv with tabs"
    )]
    Shape,
    /// A line of CSV that does not read as one.
    #[error("{place}: {message}; nothing was imported")]
    Text {
        /// Where.
        place: Place,
        /// Why.
        message: String,
    },
    /// The text is no JSON from here on.
    #[error("{place}: {message}; nothing was imported")]
    Json {
        /// Where.
        place: Place,
        /// Why.
        message: String,
    },
    /// A row cannot be stored.
    #[error("{place}: {code}: {message}; nothing was imported", code = code.code())]
    Row {
        /// Where.
        place: Place,
        /// Stable code of the reason.
        code: ErrorCode,
        /// The reason.
        message: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where in the file a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In an array, counted from 0.
    Index(u64),
    /// In a file of lines, counted from 1.
    Line(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "row at index {index}"),
            Self::Line(line) => write!(f, "line {line}"),
        }
    }
}

impl Place {
    const fn number(self) -> u64 {
        match self {
            Self::Index(number) | Self::Line(number) => number,
        }
    }
}

/// Imports a file's rows as one entity's, telling `progress` how far it is.
///
/// # Errors
/// When the file cannot be read, a row cannot be stored, or the database fails; nothing is kept then.
pub async fn import(
    store: &Store,
    path: &Path,
    entity: &EntityName,
    tenant: Option<&str>,
    progress: Progress,
) -> Result<ImportReport, ImportError> {
    let path = path.to_owned();
    let began = Instant::now();
    let mut report = store.import(entity, tenant, move |rows| read_file(&path, rows, progress)).await?;
    report.elapsed = began.elapsed();
    Ok(report)
}

/// Bytes one row may take in the file: twice what it may when stored, because a file may be indented.
const ROW_TEXT_MAX: usize = 2 * limits::ROW_BYTES_MAX;

fn read_file(path: &Path, rows: &mut RowImport<'_>, progress: Progress) -> Result<ImportReport, ImportError> {
    let failed = |source| ImportError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    progress.begin(file.metadata().map_err(failed)?.len());
    let mut reader = BufReader::with_capacity(64 * 1024, Counted { reader: file, progress: progress.clone() });
    let mut file = FileImport { path, prefix: id_prefix(path), rows, report: ImportReport::default(), progress };
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    match (first_byte(&mut reader).map_err(failed)?, extension.as_str()) {
        (None, _) => {}
        (Some(_), "csv") => file.comma_separated(reader, b',')?,
        (Some(_), "tsv") => file.comma_separated(reader, b'\t')?,
        (Some(b'['), _) => file.array(reader)?,
        (Some(b'{'), _) => file.lines(reader)?,
        (Some(_), _) => return Err(ImportError::Shape),
    }
    let report = file.report;
    rows.finish()?;
    Ok(report)
}

/// Looks at the first byte that is no blank, behind a byte order mark if there is one.
fn first_byte(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        let Some(first) = buffer.first().copied() else { return Ok(None) };
        let skip = if buffer.starts_with(b"\xef\xbb\xbf") {
            3
        } else if first.is_ascii_whitespace() {
            1
        } else {
            return Ok(Some(first));
        };
        reader.consume(skip);
    }
}

fn id_prefix(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let digest = Sha256::digest(stem.as_bytes());
    let first_eight = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("import-{first_eight:016x}-")
}

struct FileImport<'a, 'b> {
    path: &'a Path,
    prefix: String,
    rows: &'a mut RowImport<'b>,
    report: ImportReport,
    progress: Progress,
}

impl FileImport<'_, '_> {
    fn lines(&mut self, mut reader: impl BufRead) -> Result<(), ImportError> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let place = Place::Line(number);
            let mut limited = (&mut reader).take(ROW_TEXT_MAX as u64);
            let read = limited.read_until(b'\n', &mut line);
            if read.map_err(|source| ImportError::Read { path: self.path.to_owned(), source })? == 0 {
                break;
            }
            if line.len() == ROW_TEXT_MAX {
                return Err(too_long(place));
            }
            let text = str::from_utf8(&line).map_err(|error| json(place, &error))?.trim();
            if !text.is_empty() {
                self.row(place, text)?;
            }
        }
        Ok(())
    }

    fn array(&mut self, reader: impl BufRead) -> Result<(), ImportError> {
        let mut failure = None;
        let budget = std::cell::Cell::new(ROW_TEXT_MAX);
        let mut deserializer = serde_json::Deserializer::from_reader(Budgeted { reader, budget: &budget });
        let seed = Elements { file: self, budget: &budget, failure: &mut failure, next: 0 };
        let parsed = seed.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        match (failure, parsed) {
            (Some(failure), _) => Err(failure),
            (None, Ok(())) => Ok(()),
            (None, Err(error)) => Err(json(Place::Index(self.report.rows()), &error)),
        }
    }

    fn row(&mut self, place: Place, text: &str) -> Result<(), ImportError> {
        let mut data = parse_row(text).map_err(|error: ValueError| refused(place, error.code(), &error))?;
        let id = match data.remove("id") {
            None => format!("{}{:08}", self.prefix, place.number()),
            Some(Value::String(id)) => id,
            Some(Value::Number(id)) if id.is_i64() || id.is_u64() => id.to_string(),
            Some(other) => {
                return Err(refused(place, ErrorCode::InvalidRowId, &format!("{other} is no row id")));
            }
        };
        let id = RowId::parse(id).map_err(|error: IdError| refused(place, error.code(), &error))?;
        match self.rows.put(&id, &data) {
            Ok(ImportedRow::Inserted) => self.report.inserted += 1,
            Ok(ImportedRow::Updated) => self.report.updated += 1,
            Ok(ImportedRow::Unchanged) => self.report.unchanged += 1,
            Ok(ImportedRow::Deleted) => self.report.deleted += 1,
            Err(ImportRefusal::Row { code, message }) => return Err(refused(place, code, &message)),
            Err(ImportRefusal::Store(error)) => return Err(error.into()),
        }
        self.progress.row();
        Ok(())
    }
}

fn refused(place: Place, code: ErrorCode, reason: &impl ToString) -> ImportError {
    ImportError::Row { place, code, message: reason.to_string() }
}

fn json(place: Place, reason: &impl ToString) -> ImportError {
    ImportError::Json { place, message: reason.to_string() }
}

fn too_long(place: Place) -> ImportError {
    refused(place, ErrorCode::RowTooLarge, &format!("one row may take {ROW_TEXT_MAX} bytes in the file"))
}

/// A reader that fails when one element takes more bytes than its budget: a file without an end must not fill the memory.
struct Budgeted<'a, R> {
    reader: R,
    budget: &'a std::cell::Cell<usize>,
}

impl<R: Read> Read for Budgeted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let left = self.budget.get().checked_sub(read);
        self.budget.set(left.ok_or_else(|| io::Error::other(format!("a row takes more than {ROW_TEXT_MAX} bytes")))?);
        Ok(read)
    }
}

/// Takes an array's elements one by one.
struct Elements<'a, 'b, 'c> {
    file: &'a mut FileImport<'b, 'c>,
    budget: &'a std::cell::Cell<usize>,
    failure: &'a mut Option<ImportError>,
    next: u64,
}

impl<'de> DeserializeSeed<'de> for Elements<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            let place = Place::Index(self.next);
            self.next += 1;
            self.budget.set(ROW_TEXT_MAX);
            if let Err(error) = self.file.row(place, element.get()) {
                *self.failure = Some(error);
                return Err(serde::de::Error::custom("a row was refused"));
            }
        }
        Ok(())
    }
}
