//! The settings from outside: texts in, a pipeline or the printed problems out.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::*;

mod examples;
mod problems;
mod values;

/// The four-line file.
const SHORTEST: &str = reference::SHORTEST;

struct Process<'a> {
    files: &'a [(&'a str, &'a str)],
    environment: &'a [(&'a str, &'a str)],
    sets: &'a [&'a str],
}

impl Process<'_> {
    fn load(&self) -> Result<Vec<Pipeline>, Problems> {
        let names: Vec<PathBuf> = self.files.iter().map(|(name, _)| PathBuf::from(name)).collect();
        let open = |file: &Path| match self.files.iter().find(|(name, _)| Path::new(name) == file) {
            Some((_, text)) => Ok(text.as_bytes().to_vec()),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        let environment = self.environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sets: Vec<String> = self.sets.iter().map(|set| (*set).to_owned()).collect();
        load_by(open, &names, environment, &sets)
    }

    fn one(&self) -> Pipeline {
        let mut pipelines = self.load().unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(pipelines.len(), 1);
        pipelines.remove(0)
    }

    fn refused(&self) -> String {
        self.load().expect_err("there are problems").to_string()
    }
}

const DATABASE: &[(&str, &str)] = &[("DATABASE_URL", "postgres://app:geheim@db:5432/shop")];

fn loaded(text: &str) -> Pipeline {
    loaded_with(text, &[], &[])
}

fn loaded_with(text: &str, environment: &[(&str, &str)], sets: &[&str]) -> Pipeline {
    let environment = [DATABASE, environment].concat();
    Process { files: &[("orders.yaml", text)], environment: &environment, sets }.one()
}

fn refused(text: &str) -> String {
    refused_with(text, &[], &[])
}

fn refused_with(text: &str, environment: &[(&str, &str)], sets: &[&str]) -> String {
    let environment = [DATABASE, environment].concat();
    Process { files: &[("orders.yaml", text)], environment: &environment, sets }.refused()
}
