//! What the user writes: YAML, environment and `--set`, layered, validated, every problem at once.
//!
//! A file goes through these stages, each in its own file: [`yaml`] (texts with places) → [`written`] (variables put in, short forms
//! written out) → [`layers`] (defaults, file, environment, `--set`) → [`structure`] (against the schema) → [`validate`], [`routes`],
//! [`write`](mod@write), [`dedup`] and [`redis`] (what a value means, and with which others) → [`Pipeline`].

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

mod dedup;
mod document;
mod expand;
mod foreign;
mod layers;
mod mask;
mod nearest;
mod overrides;
mod pipeline;
mod problem;
mod process;
mod properties;
mod property_names;
mod redis;
mod reference;
mod routes;
mod schema;
mod show;
mod structure;
mod tombstone;
mod tree;
mod validate;
mod values;
mod words;
mod write;
mod written;
mod yaml;

#[cfg(test)]
mod tests;

pub use pipeline::{
    BatchLimits, DatabaseKind, DatabaseSettings, LogFormat, LogLevel, Migrate, NamedStatements, Observe, Pipeline, ProcessSettings, RetryPolicy, Tls,
};
pub use problem::{Place, Problem, Problems, Snippet};
pub use reference::reference;
pub use schema::schema;
pub use show::show;

/// Reads the pipelines of one process, one a file.
///
/// `environment` is what `${…}` and the overrides (`ONCESINK__KAFKA__GROUP`) are taken from; `sets` are the `--set` texts
/// (`kafka.group=x`, or `orders:kafka.group=x` for one of several pipelines), which win.
///
/// # Errors
/// Everything that is wrong with any of the files.
pub fn load(files: &[PathBuf], environment: impl Iterator<Item = (String, String)>, sets: &[String]) -> Result<Vec<Pipeline>, Problems> {
    load_by(|file| fs::read(file), files, environment, sets)
}

fn load_by(
    open: impl Fn(&Path) -> io::Result<Vec<u8>>,
    files: &[PathBuf],
    environment: impl Iterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Vec<Pipeline>, Problems> {
    let environment: BTreeMap<String, String> = environment.collect();
    let mut problems = Vec::new();
    let overrides = overrides::read(&environment, sets, files.len(), &mut problems);
    let mut names = Vec::new();
    let mut pipelines = Vec::new();
    for file in files {
        let read = written::read(file, open(file), &environment, &mut problems);
        names.extend(read.as_ref().and_then(|written| written.name.clone()));
        pipelines.extend(read.and_then(|written| validate::pipeline(file, written, &overrides, &mut problems)));
    }
    // A file that could not be read may be the one that was meant.
    if names.len() == files.len() {
        overrides::judge_prefixes(&overrides, &names, &mut problems);
    }
    process::agree(&pipelines, &mut problems);
    if problems.is_empty() { Ok(pipelines) } else { Err(Problems::new(problems)) }
}

/// A file with every key of this version, explained.
#[must_use]
pub fn example() -> &'static str {
    include_str!("example.yaml")
}
