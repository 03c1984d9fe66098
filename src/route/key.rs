//! Which unique key tells the rows of a route apart.

use std::collections::BTreeSet;

use oncesink_sinks::model::{Kind, Table, WriteMode};

use super::RouteConfig;

/// Why a route has no key, and how it can get one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoKey {
    pub(super) reason: &'static str,
    pub(super) detail: String,
    pub(super) mend: String,
}

/// Positions in [`Table::columns`]; none under `append`.
pub(super) fn resolve(config: &RouteConfig, table: &Table) -> Result<Vec<usize>, NoKey> {
    if config.write == WriteMode::Append {
        return Ok(Vec::new());
    }
    if let Some(names) = &config.key_columns {
        return by_name(config, table, names);
    }
    match table.keys.iter().find(|key| key.primary).or(match table.keys.as_slice() {
        [only] => Some(only),
        _ => None,
    }) {
        Some(key) => Ok(once_each(&key.columns)),
        None if table.keys.is_empty() => Err(keyless(config, table)),
        None => Err(NoKey {
            reason: "no-key",
            detail: format!("{} has several unique keys and no primary key, so {} can't tell which one means the row", table.name, a_write(config)),
            mend: format!("say which with one of:\n{}", known_keys(table)),
        }),
    }
}

fn by_name(config: &RouteConfig, table: &Table, names: &[String]) -> Result<Vec<usize>, NoKey> {
    let position = |name: &String| table.columns.iter().position(|column| column.name.as_str() == name);
    if let Some(missing) = names.iter().find(|name| position(name).is_none()) {
        return Err(NoKey {
            reason: "missing-column",
            detail: format!("`key_columns` names {missing}, which {} has not", table.name),
            mend: columns_of(table),
        });
    }
    let wanted: BTreeSet<usize> = names.iter().filter_map(position).collect();
    if wanted.is_empty() {
        return Err(keyless(config, table));
    }
    if let Some(key) = table.keys.iter().find(|key| key.columns.iter().copied().collect::<BTreeSet<_>>() == wanted) {
        return Ok(once_each(&key.columns));
    }
    // It looks for the row itself; `plan` says what a unique key would stop beyond that.
    if config.write == WriteMode::InsertIfNew {
        return Ok(wanted.into_iter().collect());
    }
    let names: Vec<String> = wanted.iter().filter_map(|index| table.columns.get(*index)).map(|column| quoted(column.name.as_str())).collect();
    let mut mend = format!("make them one, if nothing repeats:\n{}", sql(table, &names, false));
    if !table.keys.is_empty() {
        mend.push_str("or use a key that is there:\n");
        mend.push_str(&known_keys(table));
    }
    Err(NoKey { reason: "no-key", detail: format!("`key_columns` ({}) are not exactly a unique key of {}", names.join(", "), table.name), mend })
}

/// An index may name a column twice; a row has it once.
fn once_each(columns: &[usize]) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    columns.iter().copied().filter(|column| seen.insert(*column)).collect()
}

fn keyless(config: &RouteConfig, table: &Table) -> NoKey {
    let guess = match guess(table) {
        Some((name, why)) => {
            format!("either give it a key (`{name}` {why}; a guess, so look for repeats first):\n{}", sql(table, &[quoted(name)], true))
        }
        None => "either give it a primary key\n".to_owned(),
    };
    let left_out: String = table.warnings.iter().filter(|warning| warning.contains(" is left out: ")).map(|warning| format!("{warning}\n")).collect();
    let usable = if left_out.is_empty() { "" } else { " that can be used" };
    let by_columns = match config.write {
        WriteMode::InsertIfNew => "or say which columns tell rows apart:   key_columns: [id]\n",
        _ => "",
    };
    NoKey {
        reason: "no-key",
        detail: format!("{} has no primary key or unique constraint{usable}, so {} can't tell which row a record means", table.name, a_write(config)),
        mend: format!("{left_out}{guess}{by_columns}or keep each record as its own row:   write: append"),
    }
}

fn a_write(config: &RouteConfig) -> &'static str {
    match config.write {
        WriteMode::Update => "an update",
        WriteMode::InsertIfNew => "insert-if-new",
        WriteMode::Accumulate => "accumulate",
        WriteMode::Upsert | WriteMode::Append => "an upsert",
    }
}

/// The SQL that makes columns a unique key, for a person to run.
pub(super) fn to_make_unique(table: &Table, columns: &[usize]) -> String {
    let names: Vec<String> = columns.iter().filter_map(|index| table.columns.get(*index)).map(|column| quoted(column.name.as_str())).collect();
    unique(table, &names, false)
}

/// The column that most likely tells rows apart.
fn guess(table: &Table) -> Option<(&str, &'static str)> {
    let of_table = format!("{}_id", table.name.name);
    let singular = of_table.replacen("s_id", "_id", usize::from(of_table.ends_with("s_id")));
    let named = ["id", of_table.as_str(), singular.as_str()]
        .iter()
        .find_map(|wanted| table.columns.iter().find(|column| column.name.as_str() == *wanted))
        .map(|column| (column, if column.nullable { "has the name of one" } else { "is NOT NULL and has the name of one" }));
    let first = || {
        let fits = |kind: &Kind| matches!(kind, Kind::Int { .. } | Kind::Uuid);
        table.columns.iter().find(|column| !column.nullable && fits(&column.kind)).map(|column| (column, "is the first NOT NULL number or uuid"))
    };
    named.or_else(first).map(|(column, why)| (column.name.as_str(), why))
}

fn sql(table: &Table, columns: &[String], primary: bool) -> String {
    let (list, name) = (columns.join(", "), qualified(table));
    let add = unique(table, columns, primary);
    format!("    SELECT {list}, count(*) FROM {name} GROUP BY {list} HAVING count(*) > 1 LIMIT 10;\n    {add}\n")
}

fn qualified(table: &Table) -> String {
    match &table.name.schema {
        Some(schema) => format!("{}.{}", quoted(schema.as_str()), quoted(table.name.name.as_str())),
        None => quoted(table.name.name.as_str()),
    }
}

fn unique(table: &Table, columns: &[String], primary: bool) -> String {
    let (list, name) = (columns.join(", "), qualified(table));
    // SQLite, whose tables stand in no schema or in `main`, cannot add a key to a table, only an index.
    let in_schema = table.name.schema.as_ref().is_some_and(|schema| schema.as_str() != "main");
    match (in_schema, primary) {
        (true, true) => format!("ALTER TABLE {name} ADD PRIMARY KEY ({list});"),
        (true, false) => format!("ALTER TABLE {name} ADD UNIQUE ({list});"),
        (false, _) => {
            let index: String = columns.iter().fold(table.name.name.to_string(), |index, column| format!("{index}_{}", column.trim_matches('"')));
            format!("CREATE UNIQUE INDEX {} ON {} ({list});", quoted(&format!("{index}_key")), quoted(table.name.name.as_str()))
        }
    }
}

fn known_keys(table: &Table) -> String {
    let names = |columns: &[usize]| columns.iter().filter_map(|index| table.columns.get(*index)).map(|column| column.name.to_string()).collect::<Vec<_>>();
    table.keys.iter().map(|key| format!("    key_columns: [{}]   # {}\n", names(&key.columns).join(", "), key.name)).collect()
}

pub(super) fn columns_of(table: &Table) -> String {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    format!("its columns are {}", names.join(", "))
}

/// A name as SQL for a person to paste: quoted only where it must be.
fn quoted(name: &str) -> String {
    let plain = name.bytes().enumerate().all(|(at, byte)| byte == b'_' || byte.is_ascii_lowercase() || (at > 0 && byte.is_ascii_digit()));
    if plain && !name.is_empty() { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
