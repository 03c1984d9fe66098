//! The bookkeeping tables of oncesink, per database, as embedded and versioned SQL.
//!
//! Migrations only expand: a binary that knows version `needs` of the newest one runs beside it.

/// One step of the bookkeeping tables. Never changed once released; a change is another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    pub version: i64,
    pub description: &'static str,
    /// The oldest version that a binary must know to run beside this one.
    pub needs: i64,
    /// Statements that end with `;` at the end of a line. `{schema}` stands for the quoted schema, where the database has schemas.
    pub sql: &'static str,
}

pub const POSTGRES: &[Migration] = &[
    Migration { version: 1, description: "checkpoints", needs: 1, sql: include_str!("../postgres/0001_checkpoints.sql") },
    Migration { version: 2, description: "processed events", needs: 1, sql: include_str!("../postgres/0002_processed_events.sql") },
    Migration { version: 3, description: "tombstones", needs: 1, sql: include_str!("../postgres/0003_tombstones.sql") },
];

pub const MYSQL: &[Migration] = &[
    Migration { version: 1, description: "checkpoints", needs: 1, sql: include_str!("../mysql/0001_checkpoints.sql") },
    Migration { version: 2, description: "processed events", needs: 1, sql: include_str!("../mysql/0002_processed_events.sql") },
    Migration { version: 3, description: "tombstones", needs: 1, sql: include_str!("../mysql/0003_tombstones.sql") },
];

pub const SQLITE: &[Migration] = &[
    Migration { version: 1, description: "checkpoints", needs: 1, sql: include_str!("../sqlite/0001_checkpoints.sql") },
    Migration { version: 2, description: "processed events", needs: 1, sql: include_str!("../sqlite/0002_processed_events.sql") },
    Migration { version: 3, description: "tombstones", needs: 1, sql: include_str!("../sqlite/0003_tombstones.sql") },
];

/// What is there, against what this binary knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Current,
    /// Still to be applied, in this order.
    Behind(Vec<Migration>),
    /// Made by a newer oncesink that this one must not run beside.
    TooNew {
        found: i64,
        known: i64,
    },
}

/// Judges a history: the highest version applied (`None`: no tables yet), and the highest `needs` in it.
#[must_use]
pub fn standing(migrations: &[Migration], applied: Option<i64>, needs: i64) -> Standing {
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or(0);
    let found = applied.unwrap_or(0);
    if found > known {
        return if needs <= known { Standing::Current } else { Standing::TooNew { found, known } };
    }
    let missing: Vec<Migration> = migrations.iter().filter(|migration| migration.version > found).copied().collect();
    if missing.is_empty() { Standing::Current } else { Standing::Behind(missing) }
}

impl Migration {
    /// The statements, each without its `;`, for the schema given already quoted.
    #[must_use]
    pub fn statements(&self, schema: &str) -> Vec<String> {
        let end = |line: &str| line.trim_end().ends_with(';') && !line.trim_start().starts_with("--");
        let mut statements = Vec::new();
        let mut statement = String::new();
        for line in self.sql.lines() {
            statement.push_str(line);
            statement.push('\n');
            if end(line) {
                statements.push(statement.trim().trim_end_matches(';').replace("{schema}", schema));
                statement.clear();
            }
        }
        statements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_current_behind_or_too_new() {
        let first = &POSTGRES[..1];
        assert_eq!(standing(first, Some(1), 1), Standing::Current);
        assert_eq!(standing(POSTGRES, None, 0), Standing::Behind(POSTGRES.to_vec()));
        assert_eq!(standing(POSTGRES, Some(1), 1), Standing::Behind(POSTGRES[1..].to_vec()));
        assert_eq!(standing(first, Some(2), 2), Standing::TooNew { found: 2, known: 1 });
        assert_eq!(standing(first, Some(2), 1), Standing::Current, "a newer one that an older binary may run beside");
    }

    #[test]
    fn every_statement_is_found_whole() {
        for migrations in [POSTGRES, MYSQL, SQLITE] {
            let statements: Vec<String> = migrations.iter().flat_map(|migration| migration.statements("\"s\"")).collect();
            assert_eq!(statements.len(), if migrations == MYSQL { 16 } else { 14 });
            for statement in statements {
                assert!(
                    ["CREATE TABLE", "CREATE INDEX", "INSERT INTO"].iter().any(|start| statement.contains(start))
                        && statement.matches('(').count() == statement.matches(')').count(),
                    "{statement}"
                );
                assert!(!statement.contains("{schema}"), "{statement}");
            }
        }
    }
}
