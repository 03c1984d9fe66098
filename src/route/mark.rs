//! The column that tombstones set instead of deleting the row.

use oncesink_sinks::{
    fault::Fault,
    model::{Generated, Kind, Table, WriteMode},
};

use super::{
    RouteConfig,
    bind::{halt, index_of, missing},
};
use crate::decode::Tombstone;

/// Its position in the table; none where tombstones do something else. `key`, `version`: positions in the table.
pub(super) fn column(config: &RouteConfig, table: &Table, key: &[usize], version: Option<usize>) -> Result<Option<usize>, Fault> {
    let name = match &config.tombstone {
        Tombstone::Mark(name) if config.write != WriteMode::Append => &**name,
        _ => return Ok(None),
    };
    let index = index_of(table, name).ok_or_else(|| missing(config, table, "tombstone: { mark: … }", name))?;
    let Some(column) = table.columns.get(index) else { return Ok(None) };
    let refused = |reason, detail: String, mend: &str| Err(halt(config, reason, detail, mend).with_column(name));
    if key.contains(&index) {
        return refused("mark-key", format!("`mark` names {name}, which is in the key of {}: it tells rows apart and never changes", table.name), MEND);
    }
    if version == Some(index) {
        return refused("mark-version", format!("`mark` names {name}, which is the version of {}", table.name), MEND);
    }
    if column.generated == Generated::Always {
        return refused("generated-column", format!("`mark` names {name}, which {} makes itself", table.name), MEND);
    }
    match column.kind {
        Kind::Bool => Ok(Some(index)),
        Kind::Timestamp { .. } | Kind::TimestampTz { .. } if column.nullable => Ok(Some(index)),
        Kind::Timestamp { .. } | Kind::TimestampTz { .. } => {
            let detail = format!("`mark` names {name}, which may not be NULL: then every row would be marked");
            refused("mark-type", detail, "let it be NULL, or take a boolean column")
        }
        _ => {
            let detail =
                format!("`mark` names {name}, which is {}; it can be a timestamp, which becomes the time of the tombstone, or a boolean", column.declared);
            refused("mark-type", detail, "give the column one of these types, or name another one")
        }
    }
}

const MEND: &str = "name a column that nothing else writes, such as deleted_at";
