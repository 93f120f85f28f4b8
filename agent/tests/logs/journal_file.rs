//! Journal files made by hand: a small writer of the format, so that tests need no systemd and can make what systemd would
//! not. It writes everything that journald writes but the contents of the hash tables, which no reader of ours looks at.

use std::collections::HashMap;

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) compact: bool,
    pub(crate) keyed: bool,
    pub(crate) packed: Packed,
}

/// How long values are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packed {
    No,
    Xz,
    Lz4,
    Zstd,
}

/// As systemd of today writes them.
pub(crate) const COMPACT: Layout = Layout { compact: true, keyed: true, packed: Packed::Zstd };
/// As systemd wrote them before 246.
pub(crate) const REGULAR: Layout = Layout { compact: false, keyed: false, packed: Packed::Lz4 };

/// Values from this length on are compressed.
pub(crate) const PACKED_FROM: usize = 200;

pub(crate) const BOOT: [u8; 16] = *b"\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08\x07\x06\x05\x04\x03\x02\x01\x00";

pub(crate) const HEADER: usize = 272;

/// One entry to be written.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// Microseconds.
    pub(crate) realtime: u64,
    pub(crate) monotonic: u64,
    pub(crate) seqnum: u64,
    /// `NAME=value`.
    pub(crate) fields: Vec<Vec<u8>>,
}

/// A file in the making; `bytes` are whole after every entry.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    layout: Layout,
    data: HashMap<Vec<u8>, usize>,
    names: HashMap<Vec<u8>, usize>,
    /// The current array: where it is, how many places it has, how many are used.
    array: Option<(usize, usize, usize)>,
    objects: u64,
    /// Where the entries are.
    pub(crate) entries: Vec<usize>,
    /// Where the arrays are.
    pub(crate) arrays: Vec<usize>,
}

impl Writer {
    /// An empty file of this row of sequence numbers.
    pub(crate) fn new(layout: Layout, row: u8) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[..8].copy_from_slice(b"LPKSHHRH");
        let packed = match layout.packed {
            Packed::No => 0,
            Packed::Xz => 1,
            Packed::Lz4 => 2,
            Packed::Zstd => 8,
        };
        bytes[12] = packed | u8::from(layout.keyed) << 2 | u8::from(layout.compact) << 4;
        bytes[24..40].fill(7);
        bytes[72..88].fill(row);
        let mut writer = Self {
            bytes,
            layout,
            data: HashMap::new(),
            names: HashMap::new(),
            array: None,
            objects: 0,
            entries: Vec::new(),
            arrays: Vec::new(),
        };
        writer.put(88, HEADER as u64);
        for (kind, places, at) in [(5, 4, 120), (4, 16, 104)] {
            let table = writer.object(kind, 0, &vec![0; places * 16]);
            writer.put(at, table as u64 + 16);
            writer.put(at + 8, places as u64 * 16);
        }
        writer.count();
        writer
    }

    /// Says that it is being written to.
    pub(crate) fn online(mut self) -> Self {
        self.bytes[16] = 1;
        self
    }

    pub(crate) fn put(&mut self, at: usize, number: u64) {
        self.bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn get(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.bytes[at..].first_chunk().unwrap())
    }

    fn object(&mut self, kind: u8, flags: u8, payload: &[u8]) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend_from_slice(&(payload.len() as u64 + 16).to_le_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.objects += 1;
        self.put(136, at as u64);
        at
    }

    fn count(&mut self) {
        self.put(96, (self.bytes.len() - HEADER) as u64);
        self.put(144, self.objects);
        self.put(152, self.entries.len() as u64);
    }

    /// Adds an entry.
    pub(crate) fn entry(&mut self, record: &Record) {
        let offsets: Vec<usize> = record.fields.iter().map(|f| self.field(f)).collect();
        let mut payload = Vec::new();
        for number in [record.seqnum, record.realtime, record.monotonic] {
            payload.extend_from_slice(&number.to_le_bytes());
        }
        payload.extend_from_slice(&BOOT);
        payload.extend_from_slice(&record.fields.iter().fold(0, |h, f| h ^ hash(f)).to_le_bytes());
        for (offset, field) in offsets.iter().zip(&record.fields) {
            if self.layout.compact {
                payload.extend_from_slice(&u32::try_from(*offset).unwrap().to_le_bytes());
            } else {
                payload.extend_from_slice(&(*offset as u64).to_le_bytes());
                payload.extend_from_slice(&hash(field).to_le_bytes());
            }
        }
        let at = self.object(3, 0, &payload);
        for offset in offsets {
            self.put(offset + 56, self.get(offset + 56) + 1);
        }
        self.link(at);
        if self.entries.is_empty() {
            self.put(168, record.seqnum);
            self.put(184, record.realtime);
        }
        self.entries.push(at);
        self.put(160, record.seqnum);
        self.put(192, record.realtime);
        self.put(200, record.monotonic);
        self.count();
    }

    fn link(&mut self, entry: usize) {
        let width = if self.layout.compact { 4 } else { 8 };
        if self.array.is_none_or(|(_, places, used)| used == places) {
            let places = self.array.map_or(4, |(_, places, _)| places * 2);
            let at = self.object(6, 0, &vec![0; 8 + places * width]);
            match self.array {
                None => self.put(176, at as u64),
                Some((before, ..)) => self.put(before + 16, at as u64),
            }
            self.array = Some((at, places, 0));
            self.arrays.push(at);
        }
        let Some((at, _, used)) = &mut self.array else { unreachable!() };
        let place = *at + 24 + *used * width;
        *used += 1;
        self.bytes[place..place + width].copy_from_slice(&(entry as u64).to_le_bytes()[..width]);
    }

    /// Where the DATA of a field is; made when it is new.
    pub(crate) fn field(&mut self, field: &[u8]) -> usize {
        if let Some(at) = self.data.get(field) {
            return *at;
        }
        let long = field.len() >= PACKED_FROM;
        let (flags, bytes) = match self.layout.packed {
            Packed::Xz if long => (1, b"\xfd7zXZ\0 not really".to_vec()),
            Packed::Lz4 if long => {
                (2, [&(field.len() as u64).to_le_bytes()[..], &lz4_flex::block::compress(field)].concat())
            }
            Packed::Zstd if long => {
                (4, ruzstd::encoding::compress_to_vec(field, ruzstd::encoding::CompressionLevel::Fastest))
            }
            _ => (0, field.to_vec()),
        };
        let at = self.data_object(flags, hash(field), &bytes);
        self.data.insert(field.to_vec(), at);
        let name = field.split(|b| *b == b'=').next().unwrap().to_vec();
        if !self.names.contains_key(&name) {
            let payload = [&hash(&name).to_le_bytes()[..], &[0; 16], &name].concat();
            let at = self.object(2, 0, &payload);
            self.names.insert(name, at);
        }
        at
    }

    /// A DATA object with this content, whatever it is.
    pub(crate) fn data_object(&mut self, flags: u8, hash: u64, bytes: &[u8]) -> usize {
        let mut payload = hash.to_le_bytes().to_vec();
        payload.resize(if self.layout.compact { 56 } else { 48 }, 0);
        payload.extend_from_slice(bytes);
        self.object(1, flags, &payload)
    }

    /// Lets entries that say this point to another DATA object.
    pub(crate) fn replace(&mut self, field: &[u8], at: usize) {
        self.data.insert(field.to_vec(), at);
    }
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// 2026-11-23T02:44:10Z in microseconds.
pub(crate) const BEGIN: u64 = 1_795_401_850_000_000;

/// The entry of this number, so many seconds after [`BEGIN`].
pub(crate) fn record(seqnum: u64, seconds: u64, fields: &[&str]) -> Record {
    Record {
        realtime: BEGIN + seconds * 1_000_000,
        monotonic: seconds * 1_000_000 + 77,
        seqnum,
        fields: fields.iter().map(|f| f.as_bytes().to_vec()).collect(),
    }
}

/// An entry of a service.
pub(crate) fn said(seqnum: u64, seconds: u64, message: &str) -> Record {
    let message = format!("MESSAGE={message}");
    record(
        seqnum,
        seconds,
        &["_SYSTEMD_UNIT=a.service", "SYSLOG_IDENTIFIER=a", "_PID=7", "PRIORITY=6", "_TRANSPORT=stdout", &message],
    )
}

/// How [`said`] reads as text.
pub(crate) fn text_of(record: &Record) -> String {
    let find = |name: &str| record.fields.iter().find_map(|f| f.strip_prefix(name.as_bytes()));
    let at = casefile_proto::time::WallTime::from_nanos(i64::try_from(record.realtime).unwrap() * 1000);
    let micros = record.realtime % 1_000_000;
    let message = String::from_utf8_lossy(find("MESSAGE=").unwrap_or_default()).replace('\n', "\n ");
    format!("{}.{micros:06}Z <6> a[7]: {message}\n", at.to_seconds_text().trim_end_matches('Z'))
}
