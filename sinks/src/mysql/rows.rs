//! The rows of a step, written by the session.

use std::sync::Arc;

use sqlx::{Row, mysql::MySqlRow};

use super::{
    session::MySqlSession,
    statement::{LIMITS, Met, Statements, are_as_described, checks, unique_indexes},
    value::{MySqlQuery, bind, size},
};
use crate::{
    chunks::chunks,
    execute,
    fault::{During, Fault, FaultClass, reason},
    model::WriteMode,
    session::{Step, Written},
    session_state::SessionState,
    write_plan::{RowsToWrite, WritePlan},
};

impl MySqlSession {
    pub async fn write_rows(&mut self, step: &Step<'_>) -> Result<Written, Fault> {
        self.state.ensure_open()?;
        let statements = Statements { rows: RowsToWrite::of(step), flavour: self.flavour };
        // A key column that numbers itself would make up a number for NULL.
        statements.rows.ensure_keys(step).inspect_err(|fault| self.state = SessionState::Failed(fault.class))?;
        let plan = statements.rows.plan(step.operation);
        if matches!(plan, WritePlan::InsertAbsent | WritePlan::Upsert | WritePlan::UpsertGuarded | WritePlan::UpdateElseInsert | WritePlan::Accumulate) {
            self.ensure_keys_are_as_described(step).await?;
        }
        match plan {
            WritePlan::Nothing => Ok(Written::default()),
            WritePlan::Defaults => {
                let table = &step.rows.target.table.name;
                for _ in step.selection {
                    self.execute(sqlx::query(execute::once(statements.defaults())), During::Write { table }).await?;
                }
                Ok(Written::default())
            }
            WritePlan::Insert => self.insert(step, &statements, step.selection, Met::Fails).await.map(|_| Written::default()),
            WritePlan::InsertAbsent if !statements.has_one_key() => self.look_else_insert(step, &statements).await,
            WritePlan::InsertAbsent => {
                // An upsert that sets nothing does not tell: an inserted row counts once, and so does one that stays as it is.
                let is_asked = step.rows.target.write == WriteMode::InsertIfNew;
                let there = if is_asked { self.count(step, &statements).await? } else { 0 };
                self.insert(step, &statements, step.selection, Met::IsSet).await?;
                Ok(statements.rows.found(there))
            }
            WritePlan::LookElseInsert => self.look_else_insert(step, &statements).await,
            WritePlan::Upsert | WritePlan::UpsertGuarded if !statements.has_one_key() => self.update_else_insert(step, &statements).await,
            WritePlan::Upsert => self.insert(step, &statements, step.selection, Met::IsSet).await.map(|_| Written::default()),
            WritePlan::UpsertGuarded => {
                let written = self.insert(step, &statements, step.selection, Met::IsSet).await?;
                // An inserted row counts once, a changed one twice, and one that is left as it is once.
                let all_changed = written == 2 * step.selection.len() as u64;
                Ok(Written { stale: if all_changed { 0 } else { self.count(step, &statements).await? }, ..Written::default() })
            }
            WritePlan::Accumulate if statements.has_one_key() && !self.has_checks(step).await? => {
                self.insert(step, &statements, step.selection, Met::IsSet).await.map(|_| Written::default())
            }
            WritePlan::UpdateElseInsert | WritePlan::Accumulate => self.update_else_insert(step, &statements).await,
            WritePlan::Update => self.update(step, &statements).await.map(|_| Written::default()),
            WritePlan::UpdateGuarded => self.update(step, &statements).await.map(|(_, stale)| Written { stale, ..Written::default() }),
            WritePlan::Delete => self.delete(step, &statements).await.map(|()| Written::default()),
            WritePlan::DeleteGuarded => self.delete_guarded(step, &statements).await,
        }
    }

    /// Runs a statement on the given columns of some rows, in statements of many rows. Tells what `each` tells of every one, in sum.
    async fn run_rows(&mut self, step: &Step<'_>, positions: &[usize], selection: &[u32], text: impl Fn(usize) -> String) -> Result<u64, Fault> {
        let table = &step.rows.target.table.name;
        let mut affected = 0;
        for chunk in self.chunks(step, positions, selection) {
            let query = self.bind_rows(step, positions, chunk, text(chunk.len()))?;
            affected += self.execute(query, During::Write { table }).await?;
        }
        Ok(affected)
    }

    /// Of the rows of a step, those whose key is in the table, locked, with what `read` tells of each. `Some`: the number of the row comes first.
    pub async fn versions<T>(
        &mut self,
        step: &Step<'_>,
        version: usize,
        read: impl Fn(&MySqlRow, usize) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<(u32, T)>, Fault> {
        self.state.ensure_open()?;
        let statements = Statements { rows: RowsToWrite::of(step), flavour: self.flavour };
        let (key, during) = (&step.rows.target.key, During::Write { table: &step.rows.target.table.name });
        let mut versions = Vec::new();
        if statements.versions(1, version).is_none() {
            for row in step.selection {
                let query = self.bind_rows(step, key, &[*row], statements.version(version))?;
                versions.extend(self.fetch(query, during, |found| read(found, 0)).await?.into_iter().map(|version| (*row, version)));
            }
            return Ok(versions);
        }
        for chunk in self.chunks(step, key, step.selection) {
            let mut query = sqlx::query(execute::once(statements.versions(chunk.len(), version).unwrap_or_default()));
            for row in chunk {
                query = self.bind_row(query.bind(i64::from(*row)), step, key, *row)?;
            }
            let found = self.fetch(query, during, |found| Ok((found.try_get::<i64, _>(0)?, read(found, 1)?))).await?;
            versions.extend(found.into_iter().filter_map(|(row, version)| Some((u32::try_from(row).ok()?, version))));
        }
        Ok(versions)
    }

    /// Runs of rows that fit into one statement and one message. A row that fits into none goes alone, and the server refuses it.
    fn chunks<'r>(&self, step: &Step<'_>, positions: &[usize], selection: &'r [u32]) -> Vec<&'r [u32]> {
        let bytes = |row: &u32| -> usize {
            let cells = positions.iter().filter_map(|position| step.rows.columns.get(*position));
            cells.map(|column| size(column.cell(*row as usize))).sum()
        };
        let mut open: Vec<&[u32]> = chunks(selection, positions.len(), LIMITS);
        open.reverse();
        let mut fitting = Vec::new();
        while let Some(chunk) = open.pop() {
            if chunk.len() > 1 && chunk.iter().map(bytes).sum::<usize>() > self.packet / 2 {
                let (left, right) = chunk.split_at(chunk.len() / 2);
                open.extend([right, left]);
            } else {
                fitting.push(chunk);
            }
        }
        fitting
    }

    fn bind_rows<'q>(&mut self, step: &Step<'q>, positions: &[usize], rows: &[u32], text: String) -> Result<MySqlQuery<'q>, Fault> {
        let mut query = sqlx::query(execute::once(text));
        for row in rows {
            query = self.bind_row(query, step, positions, *row)?;
        }
        Ok(query)
    }

    fn bind_row<'q>(&mut self, mut query: MySqlQuery<'q>, step: &Step<'q>, positions: &[usize], row: u32) -> Result<MySqlQuery<'q>, Fault> {
        for position in positions {
            let column = step.rows.columns.get(*position);
            let bound = match column {
                Some(column) => bind(query, column.cell(row as usize), step.rows.target.column(*position)),
                None => Err(Fault::new(FaultClass::Changed, "type-changed", "a row has fewer columns than its target")),
            };
            query = bound.inspect_err(|fault| self.state = SessionState::Failed(fault.class))?;
        }
        Ok(query)
    }

    /// Runs a statement on one row for the number of rows it found.
    async fn run_row(&mut self, step: &Step<'_>, positions: &[usize], row: u32, text: &str) -> Result<u64, Fault> {
        let query = self.bind_rows(step, positions, &[row], text.to_owned())?;
        self.execute(query, During::Write { table: &step.rows.target.table.name }).await
    }

    async fn exists(&mut self, step: &Step<'_>, text: String, row: u32) -> Result<bool, Fault> {
        let query = self.bind_rows(step, &step.rows.target.key, &[row], text)?;
        Ok(!self.fetch(query, During::Write { table: &step.rows.target.table.name }, |_| Ok(())).await?.is_empty())
    }

    /// An upsert here names no key: without the one it is meant for it would write every row anew, and with another one the wrong row.
    async fn ensure_keys_are_as_described(&mut self, step: &Step<'_>) -> Result<(), Fault> {
        let table = &step.rows.target.table;
        if self.checked.iter().any(|checked| Arc::ptr_eq(checked, table)) {
            return Ok(());
        }
        let during = During::Write { table: &table.name };
        let query = sqlx::query(execute::once(unique_indexes(&table.name)))
            .bind(table.name.schema.as_ref().map(|schema| schema.as_str().to_owned()))
            .bind(table.name.name.as_str().to_owned());
        let parts = self.fetch(query, during, |row| Ok((row.try_get::<String, _>(0)?, row.try_get::<Option<String>, _>(1)?))).await?;
        if are_as_described(table, &parts) {
            self.checked.push(table.clone());
            return Ok(());
        }
        self.state = SessionState::Failed(FaultClass::Changed);
        Err(Fault::new(FaultClass::Changed, "missing-key", format!("the unique keys of {} are not what they were", table.name))
            .with_mend(format!("give {} a primary key or a unique constraint on the key columns", table.name)))
    }

    async fn insert(&mut self, step: &Step<'_>, statements: &Statements<'_>, selection: &[u32], met: Met) -> Result<u64, Fault> {
        let inserted = self.run_rows(step, &statements.rows.written(), selection, |rows| statements.insert(rows, met)).await;
        let is_known = |name: &str| step.rows.target.table.columns.iter().any(|column| column.name.as_str() == name);
        inserted.map_err(|fault| match &fault.column {
            // A column that was added since, without a default: the table's fault, not the record's.
            Some(column) if fault.reason == reason::NOT_NULL && !is_known(column) => {
                Fault { class: FaultClass::Changed, reason: "missing-column".into(), ..fault }
            }
            _ => fault,
        })
    }

    async fn has_checks(&mut self, step: &Step<'_>) -> Result<bool, Fault> {
        let table = &step.rows.target.table;
        if let Some((_, has_checks)) = self.checks.iter().find(|(asked, _)| Arc::ptr_eq(asked, table)) {
            return Ok(*has_checks);
        }
        let name = &table.name;
        let query = sqlx::query(checks(self.flavour)).bind(name.schema.as_ref().map(|schema| schema.as_str().to_owned())).bind(name.name.as_str().to_owned());
        let has_checks = self.fetch_one(query, During::Write { table: name }, |row| row.try_get::<i64, _>(0)).await? > 0;
        self.checks.push((table.clone(), has_checks));
        Ok(has_checks)
    }

    /// Of the rows of a step, those that lost against a newer version; without a version those that are there.
    async fn count(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<u64, Fault> {
        let positions = statements.sent_for_delete();
        let mut count = 0;
        for chunk in self.chunks(step, &positions, step.selection) {
            let query = self.bind_rows(step, &positions, chunk, statements.count(chunk.len()))?;
            let counted = self.fetch_one(query, During::Write { table: &step.rows.target.table.name }, |row| row.try_get::<i64, _>(0)).await?;
            count += u64::try_from(counted).unwrap_or(0);
        }
        Ok(count)
    }

    /// Sets the rows that are there, by their key alone; gives those that are not, and how many lost.
    async fn update(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<(Vec<u32>, u64), Fault> {
        let (sent, text) = (statements.sent_for_update(), statements.update());
        let (mut absent, mut stale) = (Vec::new(), 0);
        for row in step.selection {
            if self.run_row(step, &sent, *row, &text).await? > 0 {
                continue;
            }
            // Without a guard an update finds every row that is there.
            if step.guard.is_none() || !self.exists(step, statements.exists(), *row).await? {
                absent.push(*row);
            } else if self.run_row(step, &sent, *row, &text).await? == 0 {
                // Only now is it certain: between the two another writer may have made the row, with an older version.
                stale += 1;
            }
        }
        Ok((absent, stale))
    }

    /// Inserts the rows whose key is not there. Nothing is locked by the look: where no index leads to a key, two writers would wait for each
    /// other's new rows in a circle.
    async fn look_else_insert(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<Written, Fault> {
        let mut absent = Vec::new();
        for row in step.selection {
            if !self.exists(step, statements.is_there(), *row).await? {
                absent.push(*row);
            }
        }
        let there = (step.selection.len() - absent.len()) as u64;
        self.insert_absent_rows(step, statements, &absent).await?;
        Ok(statements.rows.found(there))
    }

    async fn update_else_insert(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<Written, Fault> {
        let (absent, stale) = self.update(step, statements).await?;
        self.insert_absent_rows(step, statements, &absent).await?;
        Ok(Written { stale, ..Written::default() })
    }

    /// Inserts rows that were looked for and not found.
    async fn insert_absent_rows(&mut self, step: &Step<'_>, statements: &Statements<'_>, absent: &[u32]) -> Result<(), Fault> {
        let code = format!("{} 1364", self.flavour);
        match self.insert(step, statements, absent, Met::Fails).await {
            Ok(_) => Ok(()),
            // Another writer made the row after it was looked for: the next attempt finds it.
            Err(fault) if self.met_key.as_deref().is_some_and(|key| statements.is_own_key(key)) => {
                Err(Fault { class: FaultClass::Retry, reason: "row-made-meanwhile".into(), ..fault })
            }
            Err(fault) => Err(statements.rows.required(fault, &code)),
        }
    }

    async fn delete(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<(), Fault> {
        let key = &step.rows.target.key;
        if statements.delete_several(1).is_some() {
            self.run_rows(step, key, step.selection, |rows| statements.delete_several(rows).unwrap_or_default()).await?;
            return Ok(());
        }
        let text = statements.delete();
        for row in step.selection {
            self.run_row(step, key, *row, &text).await?;
        }
        Ok(())
    }

    async fn delete_guarded(&mut self, step: &Step<'_>, statements: &Statements<'_>) -> Result<Written, Fault> {
        let (sent, text) = (statements.sent_for_delete(), statements.delete_guarded());
        let mut stale = 0;
        for row in step.selection {
            if self.run_row(step, &sent, *row, &text).await? == 0 && self.exists(step, statements.exists(), *row).await? {
                stale += 1;
            }
        }
        Ok(Written { stale, ..Written::default() })
    }
}
