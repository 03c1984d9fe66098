//! `ONCESINK__KAFKA__GROUP=x` and `--set kafka.group=x`: texts that are laid over the file.

use std::collections::BTreeMap;

use super::{
    layers::Layer,
    problem::{Place, Problem},
    tree::{Node, Origins, Path, Source, Step},
    written,
};

const PREFIX: &str = "ONCESINK__";
/// More entries than any list of a file has; an index beyond it is a slip.
const MOST_ENTRIES: usize = 1000;

/// One override.
#[derive(Clone, Debug)]
pub(super) struct Override {
    /// Only for the pipeline of this name.
    pub pipeline: Option<String>,
    path: Path,
    value: String,
    source: Source,
}

/// Reads all overrides, environment first.
pub(super) fn read(environment: &BTreeMap<String, String>, sets: &[String], files: usize, problems: &mut Vec<Problem>) -> Vec<Override> {
    let mut overrides = Vec::new();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let place = || Place::Named(format!("environment {name}"));
        let keys = name.trim_start_matches(PREFIX).to_lowercase();
        match path_of(keys.split("__"), ' ') {
            Some(path) => overrides.push(Override { pipeline: None, path, value: value.clone(), source: Source::Environment(name.clone()) }),
            None => problems
                .push(Problem::new(format!("`{name}` names no key"), place()).with_label("such as ONCESINK__KAFKA__GROUP or ONCESINK__ROUTES__0__TABLE")),
        }
    }
    for set in sets {
        let Some((key, value)) = set.split_once('=') else {
            // Not the text itself: it may be a secret whose key was forgotten.
            problems.push(Problem::new("a --set without `=`", Place::Named("--set".to_owned())).with_label("write --set kafka.group=x"));
            continue;
        };
        let (pipeline, keys) = key.split_once(':').map_or((None, key), |(pipeline, keys)| (Some(pipeline.to_owned()), keys));
        // An index is written routes.0.table or routes[0].table.
        let keys = keys.replace('[', ".").replace(']', "");
        match path_of(keys.split('.'), '.') {
            Some(path) => overrides.push(Override { pipeline, path, value: value.to_owned(), source: Source::Set(key.to_owned()) }),
            None => problems
                .push(Problem::new(format!("`{key}` names no key"), Place::Named("--set".to_owned())).with_label("such as kafka.group or routes.0.table")),
        }
    }
    if files > 1 {
        for single in overrides.iter().filter(|single| single.pipeline.is_none() && ["name", "kafka.group"].contains(&single.path.to_string().as_str())) {
            let path = single.path.to_string();
            problems.push(
                Problem::new(format!("`{path}` cannot be the same for {files} files"), named(&single.source))
                    .with_path(path.clone())
                    .with_label(format!("say which pipeline: --set orders:{path}=…")),
            );
        }
    }
    overrides
}

/// A prefix that no pipeline has is a slip.
pub(super) fn judge_prefixes(overrides: &[Override], names: &[String], problems: &mut Vec<Problem>) {
    for single in overrides {
        if let Some(pipeline) = &single.pipeline
            && !names.contains(pipeline)
        {
            let message = format!("no file has the name `{pipeline}`");
            problems.push(Problem::new(message, named(&single.source)).with_label(format!("there is {}", names.join(", "))));
        }
    }
}

/// The overrides of one pipeline, as two layers: environment, `--set`.
pub(super) fn layers(overrides: &[Override], name: Option<&str>, origins: &mut Origins) -> [Layer; 2] {
    let mut layers = [Layer::default(), Layer::default()];
    for single in overrides.iter().filter(|single| single.pipeline.is_none() || single.pipeline.as_deref() == name) {
        let path = written::long(single.path.clone());
        let origin = origins.add(path.to_string(), single.source.clone());
        let [environment, set] = &mut layers;
        let layer = if matches!(single.source, Source::Environment(_)) { environment } else { set };
        layer.0.push((path, Node::text(origin, single.value.clone())));
    }
    layers
}

pub(super) fn named(source: &Source) -> Place {
    match source {
        Source::Environment(name) => Place::Named(format!("environment {name}")),
        Source::Set(key) => Place::Named(format!("--set {key}")),
        Source::File { .. } | Source::Default => Place::Nowhere,
    }
}

/// After `kafka.properties` the rest is one name, in which the environment writes `_` for `.`.
fn path_of<'a>(keys: impl Iterator<Item = &'a str>, separator: char) -> Option<Path> {
    let keys: Vec<&str> = keys.collect();
    if let ["kafka", "properties", rest @ ..] = keys.as_slice()
        && !rest.is_empty()
    {
        let name = if separator == '.' { rest.join(".") } else { rest.join(".").replace('_', ".") };
        return Some(Path(["kafka".to_owned(), "properties".to_owned(), name].map(Step::Key).into()));
    }
    let step = |key: &str| match key.parse::<usize>() {
        Ok(index) => (index < MOST_ENTRIES).then_some(Step::Index(index)),
        Err(_) => (!key.is_empty()).then(|| Step::Key(key.to_owned())),
    };
    let path = Path(keys.into_iter().map(step).collect::<Option<Vec<_>>>()?);
    matches!(path.0.first(), Some(Step::Key(_))).then_some(path)
}
