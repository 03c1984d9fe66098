//! The JSON Schema of the file, made from its types.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{
    document::Document,
    layers::Layer,
    tree::{Node, Origins, Path, Source, Step},
};

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut settings = SchemaSettings::draft2020_12();
    // One document without references: what walks it, walks straight down.
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<Document>().to_value();
    without_null(&mut schema);
    schema
});

/// The JSON Schema of a pipeline's file, for editors.
#[must_use]
pub fn schema() -> Value {
    SCHEMA.clone()
}

pub(super) fn shared() -> &'static Value {
    &SCHEMA
}

/// Every key may be left out, so the types are optional; but `null` is nothing that a user should be offered.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(table) => {
            if let Some(Value::Array(types)) = table.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    table.insert("type".to_owned(), only);
                }
            }
            if table.get("default") == Some(&Value::Null) {
                table.remove("default");
            }
            if let Some(Value::Array(branches)) = table.get_mut("anyOf") {
                branches.retain(|branch| branch["type"] != "null");
                if let [only] = branches.as_slice() {
                    let only = only.clone();
                    table.remove("anyOf");
                    for (key, value) in only.as_object().into_iter().flatten() {
                        // What the field says of itself holds before what its type says.
                        table.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                }
            }
            // Formats of our own have no meaning for others, but do no harm; unsigned widths only confuse.
            if table.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                table.remove("format");
            }
            table.values_mut().for_each(without_null);
            // Here `null` is a word, and YAML reads it as one of its own where it has no quotes.
            if let Some(Value::Array(words)) = table.get_mut("missing_fields").and_then(|key| key.get_mut("oneOf")) {
                words.push(serde_json::json!({ "const": null, "description": "The same." }));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// The lowest layer: what holds unless it is written. Routes get theirs later, each of them.
pub(super) fn defaults(origins: &mut Origins) -> Layer {
    let mut layer = Layer::default();
    gather(shared(), &Path::default(), origins, &mut layer);
    layer
}

/// The defaults of every route.
pub(super) fn route_defaults() -> impl Iterator<Item = (&'static String, String)> {
    properties(&shared()["properties"]["routes"]["items"]).into_iter().flatten().filter_map(|(key, schema)| Some((key, text(schema.get("default")?))))
}

fn gather(schema: &'static Value, path: &Path, origins: &mut Origins, layer: &mut Layer) {
    for (key, inner) in properties(schema).into_iter().flatten() {
        let mut path = path.clone();
        path.0.push(Step::Key(key.clone()));
        if path.0.first() == Some(&Step::Key("defaults".to_owned())) {
            continue;
        }
        if let Some(default) = inner.get("default") {
            let origin = origins.add(path.to_string(), Source::Default);
            layer.0.push((path, Node::text(origin, text(default))));
        } else {
            gather(inner, &path, origins, layer);
        }
    }
}

/// The keys of a table, also where a text may stand for it.
pub(super) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    let branches = schema["anyOf"].as_array();
    branches.and_then(|branches| branches.iter().find(|branch| branch.get("properties").is_some())).unwrap_or(schema)["properties"].as_object()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
