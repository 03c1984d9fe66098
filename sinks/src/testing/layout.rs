use std::fmt;

/// A table that a check writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLayout {
    pub name: &'static str,
    pub columns: Vec<ColumnLayout>,
    /// So many columns, from the first on, are the primary key. 0: there is none.
    pub key: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnLayout {
    pub name: &'static str,
    pub column_type: ColumnType,
    /// It takes no NULL, and has no default. Columns of the key take none either.
    pub required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ColumnType {
    Bool,
    /// 64 bits, signed.
    Int,
    /// Of at most 200 characters.
    Text,
}

/// One cell of a row, as a plain value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Text(String),
}

impl TableLayout {
    /// SQL that makes the table on PostgreSQL, MySQL, MariaDB and SQLite, and on most others.
    #[must_use]
    pub fn create_table(&self) -> String {
        let is_key = |position: usize| position < self.key;
        let mut parts: Vec<String> = self.columns.iter().enumerate().map(|(position, column)| column.definition(is_key(position))).collect();
        if self.key > 0 {
            let key: Vec<&str> = self.columns.iter().take(self.key).map(|column| column.name).collect();
            parts.push(format!("PRIMARY KEY ({})", key.join(", ")));
        }
        format!("CREATE TABLE {} ({})", self.name, parts.join(", "))
    }
}

impl ColumnLayout {
    fn definition(&self, is_key: bool) -> String {
        let declared = match self.column_type {
            ColumnType::Bool => "BOOLEAN",
            ColumnType::Int => "BIGINT",
            ColumnType::Text => "VARCHAR(200)",
        };
        format!("{} {declared}{}", self.name, if self.required || is_key { " NOT NULL" } else { "" })
    }
}

impl Value {
    /// Reads what SQL's cast of a column of this type to a text gives. `None`: no such text.
    #[must_use]
    pub fn parse(text: Option<&str>, column_type: ColumnType) -> Option<Self> {
        let Some(text) = text else { return Some(Self::Null) };
        match column_type {
            ColumnType::Text => Some(Self::Text(text.to_owned())),
            ColumnType::Int => text.parse().ok().map(Self::Int),
            ColumnType::Bool => match text {
                "1" | "t" | "true" => Some(Self::Bool(true)),
                "0" | "f" | "false" => Some(Self::Bool(false)),
                _ => None,
            },
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("-"),
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_made_by_sql_that_all_databases_know() {
        let column = |name, column_type, required| ColumnLayout { name, column_type, required };
        let columns = vec![column("id", ColumnType::Int, false), column("note", ColumnType::Text, true), column("gone", ColumnType::Bool, false)];
        let keyed = TableLayout { name: "orders", columns, key: 1 };
        assert_eq!(keyed.create_table(), "CREATE TABLE orders (id BIGINT NOT NULL, note VARCHAR(200) NOT NULL, gone BOOLEAN, PRIMARY KEY (id))");
        assert_eq!(TableLayout { key: 0, ..keyed }.create_table(), "CREATE TABLE orders (id BIGINT, note VARCHAR(200) NOT NULL, gone BOOLEAN)");
    }

    #[test]
    fn a_value_is_read_from_whatever_text_a_database_makes_of_it() {
        assert_eq!(Value::parse(None, ColumnType::Int), Some(Value::Null));
        assert_eq!(Value::parse(Some("-7"), ColumnType::Int), Some(Value::Int(-7)));
        assert_eq!(Value::parse(Some("seven"), ColumnType::Int), None);
        for (text, value) in [("1", true), ("true", true), ("0", false), ("false", false)] {
            assert_eq!(Value::parse(Some(text), ColumnType::Bool), Some(Value::Bool(value)));
        }
        assert_eq!(Value::parse(Some(""), ColumnType::Text), Some(Value::Text(String::new())));
    }
}
