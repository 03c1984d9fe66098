//! What the documents say of the tree is there. Needs no server.

use std::{collections::BTreeSet, fs, path::Path};

use regex::Regex;

use crate::architecture::{files, relative, root};

fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A file with its path from the root.
struct Text {
    path: String,
    text: String,
}

fn sources(directories: &[&str]) -> Vec<Text> {
    let all = files(directories).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    all.map(|path| Text { path: relative(&path), text: fs::read_to_string(&path).expect("a source file") }).collect()
}

/// Each name of a test in the guarantees is one: `file::test`, or `file` for all of its tests.
#[test]
fn every_guarantee_names_tests_that_exist() {
    let sources = sources(&["src", "sinks", "tests"]);
    let simulation: String = sources.iter().filter(|source| source.path.starts_with("tests/simulation")).map(|source| source.text.as_str()).collect();
    let (name, fault) = (Regex::new("`([a-z0-9_:]+)`(?: \\(([A-Za-z, ]+)\\))?").expect("an expression"), Regex::new("[A-Za-z]+").expect("an expression"));
    let guarantees = document("docs/guarantees.md");
    let table = guarantees.split("## What each fault does").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the table of faults");
    let mut missing = BTreeSet::new();
    let mut named = 0;
    let is_head = |line: &str| ["| ---", "| fault", "| backend"].iter().any(|head| line.starts_with(head));
    let test = Regex::new("`([a-z0-9_]+(?:::[a-z0-9_]+)+)`").expect("an expression");
    for row in table.lines().filter(|line| line.starts_with("| ") && !is_head(line)) {
        missing.extend(test.captures_iter(row).map(|found| found[1].to_owned()).filter(|name| !exists(&sources, name)));
        let shown_by = row.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default();
        assert!(name.is_match(shown_by), "no test shows: {row}");
        for found in name.captures_iter(shown_by) {
            named += 1;
            if !exists(&sources, &found[1]) {
                missing.insert(found[1].to_owned());
            }
            let faults = found.get(2).map_or("", |faults| faults.as_str());
            missing.extend(fault.find_iter(faults).map(|fault| fault.as_str().to_owned()).filter(|fault| !simulation.contains(&format!("{fault},"))));
        }
    }
    assert!(named > 40, "the tests are found: {named}");
    assert!(missing.is_empty(), "docs/guarantees.md names {missing:?}, which are not there");
}

/// `a::b::test` is a function below the file or directory `a`; `a` or `a::b` alone is a file or directory with tests.
fn exists(sources: &[Text], name: &str) -> bool {
    let segments: Vec<&str> = name.split("::").collect();
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return false };
    let has = |path: &str, segment: &str| Path::new(path).with_extension("").components().any(|part| part.as_os_str().to_str() == Some(segment));
    let is_test = |source: &Text| source.text.contains("#[test]") || source.text.contains("#[tokio::test");
    sources.iter().any(|source| {
        let is_there = segments.iter().all(|segment| has(&source.path, segment)) && is_test(source);
        is_there || (segments.len() > 1 && has(&source.path, first) && source.text.contains(&format!("fn {last}(")))
    })
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").expect("an expression");
    let mut found = 0;
    for path in files(&["docs"]).into_iter().chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name))) {
        let text = fs::read_to_string(&path).expect("a document");
        for target in link.captures_iter(&text) {
            found += 1;
            let target = path.parent().expect("a directory").join(&target[1]);
            assert!(target.exists(), "{} links to {}, which is not there", relative(&path), target.display());
        }
    }
    assert!(found > 10, "the links are found: {found}");
}

/// The picture of a lane has every state of the code, and no other.
#[test]
fn the_picture_of_a_lane_has_its_states() {
    let lane = document("src/engine/lane.rs");
    let body = lane.split("pub enum State {").nth(1).and_then(|rest| rest.split("\n}").next()).expect("the states");
    let variant = Regex::new(r"(?m)^    ([A-Z]\w+)").expect("an expression");
    let states: BTreeSet<&str> = variant.captures_iter(body).map(|found| found.get(1).expect("a name").as_str()).collect();
    let architecture = document("docs/architecture.md");
    let picture = architecture.split("```mermaid").nth(1).and_then(|rest| rest.split("```").next()).expect("the picture");
    let word = Regex::new(r"\b[A-Z][a-z]+\b").expect("an expression");
    let drawn: BTreeSet<&str> =
        picture.lines().filter_map(|line| line.split(" : ").next()).flat_map(|line| word.find_iter(line)).map(|found| found.as_str()).collect();
    assert_eq!(drawn, states);
}
