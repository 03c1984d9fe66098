//! A pipeline file for one test.

use std::{collections::BTreeMap, fs, path::PathBuf};

use crate::{
    database::Database,
    servers::{fresh_directory, unique},
    topic::Topic,
};

/// A pipeline file as text, and where it was written last.
#[derive(Clone, Debug)]
pub struct PipelineFile {
    pub name: String,
    pub path: PathBuf,
    kafka: Vec<String>,
    properties: BTreeMap<String, String>,
    database: String,
    rest: String,
}

impl PipelineFile {
    /// `routes` is the text from `routes:` on. Sessions are as short as the broker lets them be.
    pub fn new(label: &str, topic: &Topic, database: &Database, routes: &str) -> Self {
        Self::with(label, &topic.brokers, &database.url(), routes)
    }

    pub fn with(label: &str, brokers: &str, database: &str, routes: &str) -> Self {
        let name = unique(label).replace('_', "-");
        let path = fresh_directory(label).join("pipeline.yaml");
        let properties = [("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let brokers = brokers.split(',').map(|broker| format!("\"{broker}\"")).collect::<Vec<_>>().join(", ");
        Self { name, path, kafka: vec![format!("brokers: [{brokers}]")], properties, database: format!("\"{database}\""), rest: routes.to_owned() }.written()
    }

    /// A key below `kafka:`.
    pub fn kafka(mut self, line: &str) -> Self {
        self.kafka.push(line.to_owned());
        self.written()
    }

    /// One of librdkafka's own properties.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.insert(name.to_owned(), value.to_owned());
        self.written()
    }

    /// What stands behind `database:`.
    pub fn database(mut self, value: &str) -> Self {
        value.clone_into(&mut self.database);
        self.written()
    }

    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.written()
    }

    /// Keys at the top level.
    pub fn also(mut self, text: &str) -> Self {
        self.rest = format!("{text}\n{}", self.rest);
        self.written()
    }

    /// The group that the worker uses where the file names none.
    pub fn group(&self) -> String {
        format!("oncesink-{}", self.name)
    }

    fn written(self) -> Self {
        let kafka: String = self.kafka.iter().map(|line| format!("  {line}\n")).collect();
        let properties: String = self.properties.iter().map(|(name, value)| format!("    {name}: \"{value}\"\n")).collect();
        let text = format!("name: {}\nkafka:\n{kafka}  properties:\n{properties}database: {}\n{}", self.name, self.database, self.rest);
        fs::write(&self.path, text).expect("the pipeline file is written");
        self
    }
}

/// A file with exactly this text.
pub fn write(label: &str, text: &str) -> PathBuf {
    let path = fresh_directory(label).join("pipeline.yaml");
    fs::write(&path, text).expect("the pipeline file is written");
    path
}
