//! docs/configuration.md, made from the schema: what users read is what the types say.

use std::fmt::Write;

use serde_json::Value;

use super::schema;

const HEAD: &str = "# Configuration

One YAML file is one pipeline. The shortest one is complete:

```yaml
";

const RULES: &str = "
## How a file is read

- Unknown keys are errors, and so is everything else that is wrong: all of it is said at once, before anything starts.
- `${NAME}`, `${NAME:-default}` and `${file:/path}` are put into any value, with or without quotes; inside of `{ }` and `[ ]` YAML itself needs quotes round them. A variable that is not set is an error. `$${` stands for `${`. What is put in is not looked at again.
- A value is the text that is written: `0123` stays `0123`. Durations have a unit (`250ms`, `30s`, `5m`), and so have sizes (`8MiB`).
- `null`, or nothing after the colon, is as if the key were not written; in a route it also keeps `defaults` away.
- Anchors, aliases and merge keys (`<<`) work as in any YAML.
- The environment overrides any key: `ONCESINK__KAFKA__GROUP=x`, `ONCESINK__ROUTES__0__TABLE=x`, `ONCESINK__KAFKA__PROPERTIES__SSL_CA_LOCATION=x` for `ssl.ca.location`. `--set kafka.group=x` overrides both; after `kafka.properties.` the rest is one name. A list is written `a,b` there.
- With several files, `--set orders:kafka.group=x` is for the pipeline `orders` only; `name` and `kafka.group` are set in this way only. `observe`, `log`, `shutdown_timeout` and `max_buffer` belong to the process and are equal in all files.
- Passwords are never printed. `oncesink check --show` prints the merged file with where each value comes from.
- `oncesink config-schema` prints the JSON Schema, with which an editor completes the file.
";

/// The four lines that everything else is optional to.
pub(super) const SHORTEST: &str = include_str!("../../examples/orders.yaml");

/// The reference of all keys, as Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = schema::shared();
    let mut page = format!("{HEAD}{SHORTEST}```\n{RULES}\n## All keys\n\n");
    table(&mut page, schema);
    for (key, inner) in schema::properties(schema).into_iter().flatten() {
        let inner = if key == "routes" { &inner["items"] } else { inner };
        if key == "defaults" || schema::properties(inner).is_none() {
            continue;
        }
        let _ = write!(page, "\n## {key}\n\n{}\n\n", text(&schema["properties"][key]["description"]));
        table(&mut page, inner);
    }
    page
}

fn table(page: &mut String, schema: &Value) {
    page.push_str("| key | holds | default | |\n| --- | --- | --- | --- |\n");
    let required: Vec<&str> = branch(schema)["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, inner) in schema::properties(schema).into_iter().flatten() {
        let default = match inner.get("default") {
            Some(default) => format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned)),
            None if required.contains(&key.as_str()) => "required".to_owned(),
            None => String::new(),
        };
        let section = if key != "defaults" && (key == "routes" || schema::properties(inner).is_some() && words_of(inner).is_none()) {
            format!("[`{key}`](#{key})")
        } else {
            format!("`{key}`")
        };
        let _ = writeln!(page, "| {section} | {} | {default} | {} |", holds(key, inner), text(&inner["description"]).replace('|', "\\|").replace('\n', " "));
    }
    for (key, inner) in schema::properties(schema).into_iter().flatten() {
        let choices = [&inner["items"], &inner["additionalProperties"], inner].into_iter().find_map(words_of);
        if let Some(choices) = choices {
            let _ = write!(page, "\n`{key}`:\n\n");
            for choice in choices.iter().filter(|choice| choice["const"].is_string()) {
                let _ = writeln!(page, "- `{}`: {}", text(&choice["const"]), text(&choice["description"]));
            }
            // A table that may stand for a word.
            for (key, inner) in schema::properties(inner).into_iter().flatten() {
                let _ = writeln!(page, "- `{{ {key}: … }}`: {}", text(&inner["description"]));
            }
        }
    }
}

fn holds(key: &str, schema: &Value) -> String {
    let choices =
        words_of(schema).map(|choices| choices.iter().filter_map(|choice| Some(format!("`{}`", choice["const"].as_str()?))).collect::<Vec<_>>().join(", "));
    if let Some(choices) = choices {
        let tables = schema::properties(schema).into_iter().flatten().map(|(key, _)| format!(", `{{ {key}: … }}`"));
        return choices + &tables.collect::<String>();
    }
    let short = schema["anyOf"].as_array().is_some_and(|branches| branches.iter().any(|branch| branch["type"] == "string"));
    let kind = match (schema["format"].as_str(), schema["type"].as_str()) {
        (Some("duration"), _) => "duration",
        (Some("give-up"), _) => "`never` or a duration",
        (Some("size"), _) => "size",
        (Some("secret"), _) => "secret",
        (Some("database-url" | "redis-url"), Some("string")) => "address",
        (Some("listen"), _) => "address and port",
        _ if key == "defaults" => "keys of a route",
        _ if key == "columns" || key == "properties" => "table of texts",
        _ if key == "accumulate" => "table of rules",
        _ if schema::properties(schema).is_some() => return if short { "text or table".to_owned() } else { "table".to_owned() },
        _ if short => "text or list",
        (_, Some("array")) => "list",
        (_, Some("integer")) => return format!("{} to {}", schema["minimum"], schema["maximum"]),
        _ => "text",
    };
    kind.to_owned()
}

/// The words that a key takes, also where a table may stand for one.
fn words_of(schema: &Value) -> Option<&Vec<Value>> {
    let branches = schema["anyOf"].as_array();
    schema["oneOf"].as_array().or_else(|| branches?.iter().find_map(|branch| branch["oneOf"].as_array()))
}

fn branch(schema: &Value) -> &Value {
    schema["anyOf"].as_array().and_then(|branches| branches.iter().find(|branch| branch.get("properties").is_some())).unwrap_or(schema)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
