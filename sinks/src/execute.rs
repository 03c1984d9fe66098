//! The one place where SQL text made at run time is declared safe, and where names are quoted.
//!
//! Names come from the settings or the catalogue only, and are quoted by doubling; values are always bound.

use std::sync::Arc;

use sqlx::AssertSqlSafe;

use crate::model::{Identifier, TableName};

/// Text put together of constants and [`quoted`] names.
pub(crate) fn text(sql: &Arc<str>) -> AssertSqlSafe<Arc<str>> {
    AssertSqlSafe(sql.clone())
}

/// The same, for text that is run once.
pub(crate) fn once(sql: String) -> AssertSqlSafe<Arc<str>> {
    text(&Arc::from(sql))
}

pub(crate) fn quoted(name: &Identifier) -> String {
    quoted_text(name.as_str())
}

pub(crate) fn quoted_text(name: &str) -> String {
    // A NUL ends a statement's text on the wire; no name can hold one, so nothing is lost by leaving it out.
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}

/// As MySQL quotes a name.
pub(crate) fn backticked(name: &Identifier) -> String {
    backticked_text(name.as_str())
}

pub(crate) fn backticked_text(name: &str) -> String {
    format!("`{}`", name.replace('\0', "").replace('`', "``"))
}

pub(crate) fn qualified(name: &TableName) -> String {
    match &name.schema {
        Some(schema) => format!("{}.{}", quoted(schema), quoted(&name.name)),
        None => quoted(&name.name),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quoted(&Identifier::new("a\"b")), "\"a\"\"b\"");
        assert_eq!(qualified(&TableName::parse("s.t")), "\"s\".\"t\"");
    }

    proptest! {
        #[test]
        fn no_name_ends_its_quotes(name in ".*") {
            let text = quoted_text(&name);
            let inside = &text[1..text.len() - 1];
            prop_assert_eq!(inside.replace("\"\"", "").matches('"').count(), 0);
            prop_assert_eq!(inside.replace("\"\"", "\""), name.replace('\0', ""));
            let text = backticked_text(&name);
            let inside = &text[1..text.len() - 1];
            prop_assert_eq!(inside.replace("``", "").matches('`').count(), 0);
            prop_assert_eq!(inside.replace("``", "`"), name.replace('\0', ""));
        }
    }
}
