//! The arrows of the architecture, held by reading the sources. Needs no server.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use regex::Regex;

/// A source file without its comments.
struct Source {
    /// From the root of the workspace, with `/`.
    path: String,
    code: String,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below these directories, build output and version control aside.
pub fn files(directories: &[&str]) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = directories.iter().map(|directory| root().join(directory)).collect();
    let mut found = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().unwrap_or_default();
            if name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources(directories: &[&str]) -> Vec<Source> {
    let comment = Regex::new(r"(?m)(^|\s)//.*$").expect("an expression");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        Source { path: relative(&path), code: comment.replace_all(&text, "").into_owned() }
    };
    files(directories).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).map(read).collect()
}

pub fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Panics with every file of `sources` that names `what` and is not below one of `allowed`.
#[track_caller]
fn only_named_in(sources: &[Source], what: &str, allowed: &[&str]) {
    let expression = Regex::new(what).expect("an expression");
    let wrong: Vec<&str> = sources
        .iter()
        .filter(|source| expression.is_match(&source.code) && !allowed.iter().any(|place| source.path.starts_with(place)))
        .map(|source| source.path.as_str())
        .collect();
    assert!(wrong.is_empty(), "`{what}` may only be named in {allowed:?}, and is in {wrong:?}");
}

#[test]
fn clients_are_named_in_their_own_rooms_only() {
    let product = sources(&["src", "sinks/src", "migrations/src"]);
    assert!(product.len() > 20, "the sources are found");
    // The demo makes the embedded cluster that it reads from.
    only_named_in(&product, r"\brdkafka(_sys)?::", &["src/source/kafka", "src/cli/demo"]);
    only_named_in(&product, r"\bsqlx::", &["sinks/src/", "migrations/src/"]);
    // The client by its name alone; this product's own module of that name is named through its crate.
    only_named_in(&product, r"^use redis::|\n\s*use redis::|[^:]\bredis::(cmd|Client|aio|cluster)", &["sinks/src/redis/"]);
}

/// It would turn what does not fit into what does, and leave out rows without a word.
#[test]
fn no_statement_ignores_errors() {
    let product = sources(&["src", "sinks/src", "migrations/src"]);
    only_named_in(&product, r"(?i)(INSERT|UPDATE|DELETE|REPLACE)\s+IGNORE\b|\bREPLACE\s+INTO\b|\bINSERT\s+OR\b", &[]);
}

/// The modules of the crate's root that this code names, alone (`crate::x::y`) and in groups (`crate::{x::y, z}`).
fn named_modules(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.trim_start().chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect::<String>();
    let mut named = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            named.insert(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut begins = true;
        for (at, character) in group.char_indices() {
            if begins && depth == 1 && !character.is_whitespace() {
                named.insert(word(&group[at..]));
                begins = false;
            }
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => begins = true,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    named.remove("");
    named
}

#[test]
fn grouped_imports_are_seen() {
    let code = "use crate::{\n    decode::{Bad, rule},\n    route::{self, OnBadRecord},\n};\nfn x() { crate::cli::run() }";
    assert_eq!(named_modules(code).into_iter().collect::<Vec<_>>(), ["cli", "decode", "route"]);
}

/// What each module may know of the others of its crate. A module that is not listed may know all.
const MAY_NAME: [(&str, &[&str]); 23] = [
    ("src/telemetry", &[]),
    ("src/source", &["telemetry"]),
    ("src/decode", &["source"]),
    ("src/route", &["decode", "source"]),
    ("src/engine", &["decode", "route", "source", "telemetry"]),
    ("src/settings", &["decode", "guarantee", "route", "source"]),
    ("src/guarantee", &[]),
    ("sinks/src/model", &["planted"]),
    ("sinks/src/outcome", &["model"]),
    ("sinks/src/refusal", &["model"]),
    ("sinks/src/claim", &["fault", "model", "refusal"]),
    ("sinks/src/checkpoint", &["claim", "fault", "model", "outcome"]),
    ("sinks/src/fence", &["checkpoint", "model", "outcome", "planted"]),
    ("sinks/src/start", &["checkpoint", "claim", "model", "planted", "refusal"]),
    ("sinks/src/compact", &["model", "planted"]),
    ("sinks/src/marks", &["model"]),
    ("sinks/src/generation", &["planted"]),
    ("sinks/src/processed_events", &["fault", "generation", "model"]),
    ("sinks/src/version", &["as_text", "model"]),
    ("sinks/src/row_key", &["model", "version"]),
    ("sinks/src/tombstones", &["compact", "model", "planted", "row_key", "version"]),
    ("sinks/src/tombstone_table", &["fault", "session", "version"]),
    ("sinks/src/session", &["checkpoint", "fault", "model", "processed_events", "tombstone_table"]),
];

#[test]
fn arrows_point_one_way() {
    let all = sources(&["src", "sinks/src"]);
    for (module, may) in MAY_NAME {
        let own = module.rsplit('/').next().expect("a name");
        let of_module: Vec<&Source> =
            all.iter().filter(|source| source.path.starts_with(&format!("{module}/")) || source.path == format!("{module}.rs")).collect();
        assert!(!of_module.is_empty(), "{module} is gone");
        for source in of_module {
            let names = named_modules(&source.code);
            let wrong: Vec<&String> = names.iter().filter(|name| *name != own && !may.contains(&name.as_str())).collect();
            assert!(wrong.is_empty(), "{} may name {may:?}, and names {wrong:?}", source.path);
        }
    }
    for one in DATABASES {
        for other in DATABASES.iter().filter(|other| **other != one) {
            only_named_in(&sources(&[&format!("sinks/src/{one}")]), &format!(r"\b{other}\b"), &[]);
        }
    }
    for module in ["src/engine", "src/decode", "src/route"] {
        only_named_in(&sources(&[module]), r"\bkafka::", &[]);
    }
    let manifest = fs::read_to_string(root().join("sinks/Cargo.toml")).expect("the manifest");
    assert!(!manifest.contains("rdkafka"), "the database half builds without Kafka's client");
}

#[test]
fn text_becomes_a_statement_in_one_place() {
    let product = sources(&["src", "sinks/src", "migrations/src"]);
    let places: Vec<&str> = product.iter().flat_map(|source| source.code.matches("AssertSqlSafe(").map(|_| source.path.as_str())).collect();
    assert_eq!(places.len(), 1, "one place builds statements of text, not {places:?}");
    only_named_in(&product, r"\bQueryBuilder\b", &[]);
}

const DATABASES: [&str; 3] = ["postgres", "mysql", "sqlite"];

/// A reader who knows one database finds the way in the others. Each may have rooms of its own beside these.
#[test]
fn every_database_has_the_same_rooms() {
    for database in DATABASES {
        for room in
            ["mod", "bookkeeping", "catalogue", "checkpoint", "database", "fault", "kind", "options", "processed_events", "session", "statement", "tombstones"]
        {
            let path = format!("sinks/src/{database}/{room}.rs");
            assert!(root().join(&path).exists(), "{path} is missing");
        }
    }
}

#[test]
fn the_checker_shares_no_code_with_what_it_checks() {
    only_named_in(&sources(&["tests/it"]), concat!(r"\bonce", r"sink(_sinks|_migrations)?::\w"), &[]);
}

#[test]
fn nothing_is_left_for_later() {
    let all = sources(&["src", "sinks", "migrations", "tests"]);
    only_named_in(&all, concat!(r"#\[igno", r"re\b"), &[]);
    only_named_in(&all, concat!(r"\b(to", r"do|unimpl", r"emented|dbg)!\("), &[]);
}

/// Files name no machine that they were written on.
#[test]
fn no_path_of_a_machine() {
    let foreign = Regex::new(concat!(r"\.\./sha", r"red\b|/ro", r"ot/|/home/\w+/\.|/wo", r"rk/[a-z]")).expect("an expression");
    let wrong: Vec<String> =
        files(&[""]).into_iter().filter(|path| fs::read_to_string(path).is_ok_and(|text| foreign.is_match(&text))).map(|path| relative(&path)).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_dependency_has_its_reason() {
    let documented = fs::read_to_string(root().join("docs/dependencies.md")).expect("the list of dependencies");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let table = manifest.split("[workspace.dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("the table of dependencies");
    let named: BTreeSet<&str> =
        table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim()).collect();
    let reasons: BTreeSet<&str> = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    assert_eq!(named, reasons);
}
