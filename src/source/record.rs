use oncesink_sinks::model::{LastRecord, Partition};
use xxhash_rust::xxh3::Xxh3;

use super::Sequence;

/// Records of one partition, their bytes end to end in one buffer: no allocation a record.
#[derive(Debug)]
pub struct Records {
    pub partition: Partition,
    pub sequence: Sequence,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<HeaderEntry>,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    timestamp: i64,
    start: usize,
    key: Option<usize>,
    value: Option<usize>,
    /// End of this record's headers in `headers`.
    headers_end: usize,
}

#[derive(Debug)]
struct HeaderEntry {
    start: usize,
    name: usize,
    value: Option<usize>,
}

/// One record, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    pub offset: i64,
    /// Milliseconds since the Unix epoch; negative where the record has none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    records: &'a Records,
    headers: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub name: &'a str,
    pub value: Option<&'a [u8]>,
}

impl Records {
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What [`super::Buffer`] counts for these records until they are decoded.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Entry>() + self.headers.len() * size_of::<HeaderEntry>()
    }

    pub fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        (0..self.entries.len()).map(|index| self.get(index))
    }

    fn get(&self, index: usize) -> RecordRef<'_> {
        let entry = &self.entries[index];
        let key_end = entry.start + entry.key.unwrap_or(0);
        RecordRef {
            offset: entry.offset,
            timestamp: entry.timestamp,
            key: entry.key.map(|_| &self.bytes[entry.start..key_end]),
            value: entry.value.map(|length| &self.bytes[key_end..key_end + length]),
            records: self,
            headers: (if index == 0 { 0 } else { self.entries[index - 1].headers_end }, entry.headers_end),
        }
    }
}

impl<'a> RecordRef<'a> {
    /// The headers in their order; a name may occur several times.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let records = self.records;
        records.headers[self.headers.0..self.headers.1].iter().map(move |header| {
            let name_end = header.start + header.name;
            Header {
                // Kafka's header names are UTF-8 by protocol; one that is not finds no column.
                name: std::str::from_utf8(&records.bytes[header.start..name_end]).unwrap_or_default(),
                value: header.value.map(|length| &records.bytes[name_end..name_end + length]),
            }
        })
    }

    /// The last header of this name, as Kafka's own clients answer it.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Option<&'a [u8]>> {
        self.headers().filter(|header| header.name == name).last().map(|header| header.value)
    }

    #[must_use]
    pub fn partition(&self) -> &'a Partition {
        &self.records.partition
    }

    /// How this record is known again: a topic that was recreated has another one at its offset.
    #[must_use]
    pub fn identity(&self) -> LastRecord {
        let mut hash = Xxh3::new();
        for part in [self.key, self.value] {
            // The length keeps apart what the parts alone would not: no key from an empty one, a byte of the key from one of the value.
            hash.update(&part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
            hash.update(part.unwrap_or_default());
        }
        LastRecord { offset: self.offset, timestamp: self.timestamp, hash: hash.digest().cast_signed() }
    }
}

/// Gathers records of one partition.
#[derive(Debug)]
pub struct RecordsBuilder {
    records: Records,
}

impl RecordsBuilder {
    #[must_use]
    pub fn new(partition: Partition, sequence: Sequence) -> Self {
        Self { records: Records { partition, sequence, bytes: Vec::new(), entries: Vec::new(), headers: Vec::new() } }
    }

    pub fn push<'a>(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        let records = &mut self.records;
        let start = records.bytes.len();
        records.bytes.extend_from_slice(key.unwrap_or_default());
        records.bytes.extend_from_slice(value.unwrap_or_default());
        for (name, value) in headers {
            records.headers.push(HeaderEntry { start: records.bytes.len(), name: name.len(), value: value.map(<[u8]>::len) });
            records.bytes.extend_from_slice(name.as_bytes());
            records.bytes.extend_from_slice(value.unwrap_or_default());
        }
        records.entries.push(Entry { offset, timestamp, start, key: key.map(<[u8]>::len), value: value.map(<[u8]>::len), headers_end: records.headers.len() });
    }

    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.records.partition
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    #[must_use]
    pub fn cost(&self) -> usize {
        self.records.cost()
    }

    #[must_use]
    pub fn finish(self) -> Records {
        self.records
    }
}
