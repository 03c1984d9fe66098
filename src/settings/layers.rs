//! The layers of the settings, each a source of the `config` crate: defaults, file, environment, `--set`.

use config::{Config, ConfigError, Map, Value, ValueKind};

use super::tree::{Node, Path, Step};

/// The settings are the only entry of a list under this key. `config` reads the keys of its root as paths and would cut `bootstrap.servers`
/// in two, and it forgets where a table came from; a list it takes as it is.
const ROOT: &str = "pipeline";

/// What one source says, in its order.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer(pub Vec<(Path, Node)>);

impl config::Source for Layer {
    fn clone_into_box(&self) -> Box<dyn config::Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut cache = Value::new(None, ValueKind::Table(Map::new()));
        self.collect_to(&mut cache)?;
        cache.into_table()
    }

    fn collect_to(&self, cache: &mut Value) -> Result<(), ConfigError> {
        for (path, node) in &self.0 {
            let path = [vec![Step::Key(ROOT.to_owned()), Step::Index(0)], path.0.clone()].concat();
            put(cache, &path, node.clone().into_value());
        }
        Ok(())
    }
}

/// Lays the layers over each other, the last one on top.
pub(super) fn merge(layers: impl IntoIterator<Item = Layer>, unwritten: usize) -> Result<Node, ConfigError> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let root = builder.build()?.cache.into_table()?.remove(ROOT).map(Value::into_array).transpose()?.and_then(|mut roots| roots.pop());
    Ok(Node::from_value(root.unwrap_or_else(nothing), unwritten))
}

/// Tables merge key by key; anything else replaces what was there.
fn put(at: &mut Value, path: &[Step], value: Value) {
    match path {
        [] => match value.kind {
            // `null` says nothing, so what a lower layer says stays.
            ValueKind::Nil if !matches!(at.kind, ValueKind::Nil) => {}
            ValueKind::Table(_) => {
                // The table is where it was written last, not where its defaults are.
                let origin = value.origin().or(at.origin()).map(str::to_owned);
                let before = if matches!(at.kind, ValueKind::Table(_)) { std::mem::take(&mut at.kind) } else { ValueKind::Table(Map::new()) };
                *at = Value::new(origin.as_ref(), before);
                let ValueKind::Table(incoming) = value.kind else { return };
                if let ValueKind::Table(table) = &mut at.kind {
                    #[allow(clippy::iter_over_hash_type, reason = "each key goes to its own place, whatever the order")]
                    for (key, value) in incoming {
                        put(table.entry(key).or_insert_with(nothing), &[], value);
                    }
                }
            }
            _ => *at = value,
        },
        [Step::Key(key), rest @ ..] => {
            if !matches!(at.kind, ValueKind::Table(_)) {
                at.kind = ValueKind::Table(Map::new());
            }
            if let ValueKind::Table(table) = &mut at.kind {
                put(table.entry(key.clone()).or_insert_with(nothing), rest, value);
            }
        }
        [Step::Index(index), rest @ ..] => {
            if !matches!(at.kind, ValueKind::Array(_)) {
                at.kind = ValueKind::Array(Vec::new());
            }
            if let ValueKind::Array(values) = &mut at.kind {
                while values.len() <= *index {
                    values.push(nothing());
                }
                if let Some(slot) = values.get_mut(*index) {
                    put(slot, rest, value);
                }
            }
        }
    }
}

fn nothing() -> Value {
    Value::new(None, ValueKind::Nil)
}
