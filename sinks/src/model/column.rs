use super::Kind;

/// Whether a record gave a column a value. Absent is not null: an absent column keeps what it holds on update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Presence {
    Absent,
    Null,
    Value,
}

/// Texts or byte strings, end to end in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    pub fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    /// Appends in place: `write` extends the buffer, and what it added is the value.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start..self.ends[row]]
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// The values of one column in the form in which the database takes them. A row without a value has a placeholder here.
#[derive(Clone, Debug)]
pub enum Values {
    Bool(Vec<bool>),
    /// Integers as they are; dates as days, times and timestamps as microseconds, all since the Unix epoch.
    Int(Vec<i64>),
    Float(Vec<f64>),
    /// UTF-8 text; also decimals, JSON, and all that the database reads from text.
    Text(Strings),
    Bytes(Strings),
    Uuid(Vec<[u8; 16]>),
}

impl Values {
    #[must_use]
    pub fn for_kind(kind: &Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(Vec::new()),
            Kind::Int { .. } | Kind::Date | Kind::Time { .. } | Kind::Timestamp { .. } | Kind::TimestampTz { .. } => Self::Int(Vec::new()),
            Kind::Float { .. } => Self::Float(Vec::new()),
            Kind::Bytes { .. } => Self::Bytes(Strings::default()),
            Kind::Uuid => Self::Uuid(Vec::new()),
            Kind::Text { .. } | Kind::Decimal { .. } | Kind::Json | Kind::Enum { .. } | Kind::Array { .. } | Kind::Other => Self::Text(Strings::default()),
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Text(values) | Self::Bytes(values) => values.len(),
            Self::Uuid(values) => values.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the placeholder of a row without a value.
    pub fn push_nothing(&mut self) {
        match self {
            Self::Bool(values) => values.push(false),
            Self::Int(values) => values.push(0),
            Self::Float(values) => values.push(0.0),
            Self::Text(values) | Self::Bytes(values) => values.push(&[]),
            Self::Uuid(values) => values.push([0; 16]),
        }
    }

    pub fn truncate(&mut self, rows: usize) {
        match self {
            Self::Bool(values) => values.truncate(rows),
            Self::Int(values) => values.truncate(rows),
            Self::Float(values) => values.truncate(rows),
            Self::Text(values) | Self::Bytes(values) => values.truncate(rows),
            Self::Uuid(values) => values.truncate(rows),
        }
    }

    /// Memory held, spare room included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bool(values) => values.capacity(),
            Self::Int(values) => values.capacity() * 8,
            Self::Float(values) => values.capacity() * 8,
            Self::Text(values) | Self::Bytes(values) => values.bytes(),
            Self::Uuid(values) => values.capacity() * 16,
        }
    }
}

/// One value, borrowed from its column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    Absent,
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid([u8; 16]),
}

/// One column of the rows of a batch.
#[derive(Clone, Debug)]
pub struct Column {
    pub values: Values,
    pub presence: Vec<Presence>,
}

impl Column {
    #[must_use]
    pub fn for_kind(kind: &Kind) -> Self {
        Self { values: Values::for_kind(kind), presence: Vec::new() }
    }

    #[must_use]
    pub fn cell(&self, row: usize) -> Cell<'_> {
        match self.presence[row] {
            Presence::Absent => Cell::Absent,
            Presence::Null => Cell::Null,
            Presence::Value => match &self.values {
                Values::Bool(values) => Cell::Bool(values[row]),
                Values::Int(values) => Cell::Int(values[row]),
                Values::Float(values) => Cell::Float(values[row]),
                // Only text that was checked to be UTF-8 is ever pushed; an empty text stands in for anything else.
                Values::Text(values) => Cell::Text(std::str::from_utf8(values.get(row)).unwrap_or_default()),
                Values::Bytes(values) => Cell::Bytes(values.get(row)),
                Values::Uuid(values) => Cell::Uuid(values[row]),
            },
        }
    }

    /// Gives the current row of this column no value.
    pub fn push_nothing(&mut self, presence: Presence) {
        self.values.push_nothing();
        self.presence.push(presence);
    }

    pub fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.presence.truncate(rows);
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.values.bytes() + self.presence.capacity()
    }
}
