//! What each column of a bound route becomes under `accumulate`.

use oncesink_sinks::{
    fault::Fault,
    model::{Generated, Kind, Rule, Table, TableColumn, WriteMode},
};

use super::{
    RouteConfig,
    bind::{halt, index_of, missing},
};

/// A rule for each of `columns` (positions in the table); none where the route does not accumulate. `key`: positions in `columns`.
pub(super) fn rules(config: &RouteConfig, table: &Table, columns: &[usize], key: &[usize]) -> Result<Vec<Rule>, Fault> {
    if config.write != WriteMode::Accumulate {
        return Ok(Vec::new());
    }
    let mut rules = vec![Rule::Replace; columns.len()];
    for (name, rule) in &config.accumulate {
        let index = index_of(table, name).ok_or_else(|| missing(config, table, "accumulate", name))?;
        let Some(column) = table.columns.get(index) else { continue };
        if let Some(refusal) = refusal(*rule, column) {
            return Err(halt(config, refusal.reason, refusal.detail, refusal.mend).with_column(name));
        }
        let position = columns.iter().position(|written| *written == index);
        match position.and_then(|position| Some((position, rules.get_mut(position)?))) {
            Some((position, _)) if key.contains(&position) => {
                let detail = format!("`accumulate` names {name}, which is in the key of {}: it tells rows apart and never changes", table.name);
                return Err(halt(config, "accumulate-key", detail, format!("take {name} out of `accumulate`")).with_column(name));
            }
            Some((_, place)) => *place = *rule,
            None => {
                let detail = format!("`accumulate` names {name}, which the route never writes");
                let mend = "it is `none` in `columns`, or has no source; give it one, or take it out of `accumulate`";
                return Err(halt(config, "column-not-written", detail, mend).with_column(name));
            }
        }
    }
    Ok(rules)
}

struct Refusal {
    reason: &'static str,
    detail: String,
    mend: &'static str,
}

/// Why a column cannot have this rule.
fn refusal(rule: Rule, column: &TableColumn) -> Option<Refusal> {
    let TableColumn { name, declared, kind, .. } = column;
    if column.generated == Generated::Always {
        let detail = format!("`accumulate` names {name}, which the database makes itself");
        return Some(Refusal { reason: "generated-column", detail, mend: "take it out of `accumulate`" });
    }
    let (detail, mend) = match rule {
        Rule::Add if !matches!(kind, Kind::Int { .. } | Kind::Decimal { .. } | Kind::Float { .. }) => (
            format!("{name} is {declared}, which is no number, so `add` cannot add to it"),
            "take coalesce, first or replace, or give the column a number's type",
        ),
        Rule::Max | Rule::Min if matches!(kind, Kind::Json | Kind::Array { .. } | Kind::Bytes { .. } | Kind::Enum { .. } | Kind::Other) => (
            format!("{name} is {declared}, which has no order that all databases share, so `{rule}` cannot compare it"),
            "take coalesce, first or replace, or a number, a date, a time, a text, a uuid or a boolean",
        ),
        Rule::Add | Rule::Max | Rule::Min | Rule::Coalesce | Rule::First | Rule::Replace => return None,
    };
    Some(Refusal { reason: "accumulate-type", detail, mend })
}
