//! The tree against the schema: unknown keys, wrong kinds, words and numbers, every one of them. What passes has the document's types.

use std::collections::BTreeSet;

use serde_json::{Map, Number, Value};

use super::{
    foreign,
    mask::MASK,
    nearest::{nearest, plain},
    properties,
    tree::{Content, Node, Origins, Source, below},
    values,
};

/// Something wrong with the node of an origin.
#[derive(Debug)]
pub(super) struct Finding {
    pub origin: usize,
    /// At the key rather than the value.
    pub at_key: bool,
    pub message: String,
    pub label: Option<String>,
    pub notes: Vec<String>,
    /// The path of a key that is not there. It is no problem if another one accounts for it.
    pub missing: Option<String>,
}

impl Finding {
    pub fn new(origin: usize, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self {
            origin,
            at_key: false,
            message: message.into(),
            label: Some(label.into()).filter(|label: &String| !label.is_empty()),
            notes: Vec::new(),
            missing: None,
        }
    }
}

/// Walks the tree.
pub(super) struct Reading<'a> {
    pub schema: &'a Value,
    pub origins: &'a Origins,
    pub findings: Vec<Finding>,
    /// Keys that have their problem already, or that a foreign key meant.
    pub accounted: BTreeSet<String>,
}

impl Reading<'_> {
    /// The typed value of `node`, without what is wrong in it.
    pub fn read(&mut self, node: &Node, schema: &Value, path: &str) -> Option<Value> {
        if self.origins.is_broken(node.origin) {
            self.accounted.insert(path.to_owned());
            return None;
        }
        let schema = &*branch(schema, &node.content);
        match &node.content {
            Content::Nothing => None,
            Content::Table(_) if is_table(schema) => self.table(node, schema, path),
            Content::List(items) if is_list(schema) => Some(self.list(node, items, schema, path)),
            Content::Text(text) if is_list(schema) && !is_table(&schema["items"]) => {
                let items: Vec<Node> = self.split(node.origin, text, schema).into_iter().map(|text| Node::text(node.origin, text)).collect();
                Some(self.list(node, &items, schema, path))
            }
            Content::Text(_) if !is_table(schema) && !is_list(schema) => self.scalar(node, schema, path),
            content => {
                self.wrong_kind(node.origin, content, schema, path);
                None
            }
        }
    }

    fn list(&mut self, node: &Node, items: &[Node], schema: &Value, path: &str) -> Value {
        let item_schema = with_format(&schema["items"], schema);
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if matches!(item.content, Content::Nothing) {
                self.find(Finding::new(node.origin, format!("`{path}` is empty"), "the entries of a list are counted from 0, without a gap"), &path);
            }
            let value = self.read(item, &item_schema, &path);
            // An entry at fault keeps its number, so that the others keep theirs.
            read.extend(value.or_else(|| is_table(&item_schema).then(|| Value::Object(Map::new()))));
        }
        Value::Array(read)
    }

    /// A text where a list belongs: of several entries where it cannot be a list (environment, `--set`), else of one.
    fn split(&self, origin: usize, text: &str, schema: &Value) -> Vec<String> {
        let told = self.origins.get(origin).is_some_and(|origin| matches!(origin.source, Source::Environment(_) | Source::Set(_)));
        let text = if told { text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text) } else { text };
        // A comma belongs to an expression: ^a{1,2}$.
        if (told || schema["format"] == "broker") && !text.starts_with('^') {
            return text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        }
        vec![text.to_owned()]
    }

    fn wrong_kind(&mut self, origin: usize, content: &Content, schema: &Value, path: &str) {
        let found = match content {
            Content::Table(_) => "a table",
            Content::List(_) => "a list",
            Content::Text(_) | Content::Nothing => "a text",
        };
        let later = match content {
            Content::Table(table) => table.keys().find_map(|word| foreign::word(last_key(path), word)),
            _ => None,
        };
        let label = later.unwrap_or_else(|| {
            if is_table(schema) {
                "write `key: value` lines below it".to_owned()
            } else if is_list(schema) {
                if is_table(&schema["items"]) { "begin each entry with `- `".to_owned() } else { "write [a, b]".to_owned() }
            } else {
                words(schema).map_or_else(|| "write one text or number".to_owned(), |words| format!("one of {}", words.join(", ")))
            }
        });
        self.find(Finding::new(origin, format!("`{}` cannot be {found}", shown(path)), label), path);
    }

    fn table(&mut self, node: &Node, schema: &Value, path: &str) -> Option<Value> {
        let mut read = Map::new();
        for (key, child) in node.table()? {
            let path_below = below(path, key);
            if let Some(known) = schema["properties"].get(key) {
                read.extend(self.read(child, known, &path_below).map(|value| (key.clone(), value)));
            } else if schema["additionalProperties"].is_object() {
                let value_schema = with_format(&schema["additionalProperties"], schema);
                read.extend(self.read(child, &value_schema, &path_below).map(|value| (key.clone(), value)));
            } else {
                self.unknown(key, child, schema, path);
            }
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let present = node.table().and_then(|table| table.get(required)).is_some_and(|node| !matches!(node.content, Content::Nothing));
            if !present {
                self.missing(node.origin, path, required);
            }
        }
        Some(Value::Object(read))
    }

    fn unknown(&mut self, key: &str, child: &Node, schema: &Value, path: &str) {
        let known: Vec<&str> = schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let mut finding = Finding::new(child.origin, format!("unknown key `{key}`"), "");
        finding.at_key = true;
        let same = known.iter().find(|known| plain(known) == plain(key)).copied();
        let answer = if same.is_some() { None } else { foreign::key(key) };
        if let Some(answer) = answer {
            if let Some(means) = answer.means {
                // In a route, what a route's key is called is meant of this very route.
                let here = means.strip_prefix("routes[].").filter(|_| path.starts_with("routes[")).map(|key| below(path, key));
                self.accounted.insert(here.unwrap_or_else(|| means.to_owned()));
            }
            finding.label = Some(answer.label);
        } else if let Some(near) = same.or_else(|| nearest(key, known.iter().copied())) {
            self.accounted.insert(below(path, near));
            finding.label = Some(format!("did you mean `{near}`?"));
        } else if let Some(elsewhere) = elsewhere(self.schema, key) {
            self.accounted.insert(elsewhere.clone());
            finding.label = Some(match elsewhere.strip_prefix("routes[].") {
                Some(_) => format!("`{key}` belongs into a route"),
                None => format!("it belongs elsewhere: `{elsewhere}`"),
            });
        } else if !known.is_empty() {
            finding.label = Some(format!("known here: {}", known.join(", ")));
        }
        finding.notes.push(match section(path) {
            "" => "all keys: docs/configuration.md".to_owned(),
            "routes" | "defaults" => "all keys of a route: docs/configuration.md#routes".to_owned(),
            section => format!("all keys of {section}: docs/configuration.md#{section}"),
        });
        self.find(finding, &below(path, key));
    }

    /// Everything found, without keys that are only missing because of another problem: one mistake is one problem.
    pub fn finish(self) -> Vec<Finding> {
        let accounted = |missing: &String| {
            self.accounted.iter().any(|other| other.strip_prefix(missing).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
        };
        self.findings.into_iter().filter(|finding| finding.missing.as_ref().is_none_or(|missing| !accounted(missing))).collect()
    }

    /// Says that a key is not there.
    pub fn missing(&mut self, parent: usize, path: &str, key: &str) {
        let full = below(path, key);
        let label = match full.as_str() {
            "name" => "add `name: orders`: the pipeline's name, and its group is oncesink-orders",
            "kafka" | "kafka.brokers" => "add `kafka: host:9092`",
            "database" | "database.url" => "add `database: \"${DATABASE_URL}\"`, which is set to postgres://… or sqlite:…",
            "routes" => "add `routes: [ { topic: orders, table: public.orders } ]`",
            _ if key == "topic" => "add `topic: orders`",
            _ if key == "table" => "add `table: public.orders`",
            _ if key == "mark" => "add `mark: deleted_at`",
            _ => "",
        };
        let finding = Finding::new(parent, format!("`{}` is missing", shown(&full)), label);
        self.findings.push(Finding { missing: Some(full), ..finding });
    }

    fn scalar(&mut self, node: &Node, schema: &Value, path: &str) -> Option<Value> {
        let Content::Text(text) = &node.content else { return None };
        // What came from a file may be anything that nobody should see.
        let hidden = self.origins.get(node.origin).is_some_and(|origin| origin.from_file);
        let said = if hidden { MASK } else { text };
        if let Some(words) = words(schema) {
            if words.contains(&text.as_str()) {
                return Some(Value::String(text.clone()));
            }
            let key = last_key(path);
            let label = match words.iter().find(|word| plain(word) == plain(text)).copied() {
                Some(same) => format!("did you mean `{same}`?"),
                None => foreign::word(key, text)
                    .or_else(|| nearest(text, words.iter().copied()).map(|near| format!("did you mean `{near}`?")))
                    .unwrap_or_else(|| format!("one of {}", words.join(", "))),
            };
            let mut finding = Finding::new(node.origin, format!("`{key}` cannot be `{said}`"), label);
            if finding.label.as_deref().is_some_and(|label| !label.starts_with("one of")) {
                finding.notes.push(format!("it is one of {}", words.join(", ")));
            }
            self.find(finding, path);
            return None;
        }
        if schema["type"] == "integer" {
            let (least, most) = (schema["minimum"].as_u64().unwrap_or(0), schema["maximum"].as_u64().unwrap_or(u64::MAX));
            let number = text.trim().parse::<u64>().ok().filter(|number| (least..=most).contains(number));
            if number.is_none() {
                self.find(
                    Finding::new(node.origin, format!("`{}` cannot be `{said}`", last_key(path)), format!("a whole number from {least} to {most}")),
                    path,
                );
            }
            return number.map(|number| Value::Number(Number::from(number)));
        }
        let judged = if path.starts_with("kafka.properties.") {
            properties::judge(path.trim_start_matches("kafka.properties."), text)
        } else {
            values::judge(schema["format"].as_str().unwrap_or_default(), text)
        };
        if let Err(wrong) = judged {
            let masked = |said: String| if hidden && !text.is_empty() { said.replace(text, MASK) } else { said };
            let mut finding = Finding::new(node.origin, masked(wrong.message), masked(wrong.label));
            finding.at_key = path.starts_with("kafka.properties.");
            self.find(finding, path);
            return None;
        }
        Some(Value::String(text.clone()))
    }

    fn find(&mut self, finding: Finding, path: &str) {
        self.accounted.insert(path.to_owned());
        self.findings.push(finding);
    }
}

/// Of a short form and a long one, that which the content is.
fn branch<'a>(schema: &'a Value, content: &Content) -> std::borrow::Cow<'a, Value> {
    use std::borrow::Cow;
    let Some(branches) = schema["anyOf"].as_array() else { return Cow::Borrowed(schema) };
    let fits = |branch: &&Value| match content {
        Content::Table(_) => is_table(branch),
        Content::List(_) => branch["type"] == "array",
        Content::Text(_) | Content::Nothing => branch["type"] == "array" || branch["type"] == "string",
    };
    let list = branches.iter().find(|branch| branch["type"] == "array");
    let fitting = branches.iter().find(fits);
    // A text where a list may stand is read as a list of one.
    match (content, list) {
        (Content::Text(_), Some(list)) => Cow::Owned(with_format(list, schema)),
        _ => fitting.or_else(|| branches.last()).map_or(Cow::Borrowed(schema), |branch| Cow::Owned(with_format(branch, schema))),
    }
}

/// The format of a list or map is that of its values.
fn with_format(inner: &Value, outer: &Value) -> Value {
    let mut inner = inner.clone();
    if let (Some(table), Some(format)) = (inner.as_object_mut(), outer.get("format")) {
        table.insert("format".to_owned(), format.clone());
    }
    inner
}

fn is_list(schema: &Value) -> bool {
    schema["type"] == "array"
}

fn is_table(schema: &Value) -> bool {
    schema.get("properties").is_some() || schema["additionalProperties"].is_object()
}

/// The words that an enum takes.
fn words(schema: &Value) -> Option<Vec<&str>> {
    let words: Vec<&str> = match (schema["oneOf"].as_array(), schema["enum"].as_array()) {
        (Some(choices), _) => choices.iter().filter_map(|choice| choice["const"].as_str()).collect(),
        (None, Some(choices)) => choices.iter().filter_map(Value::as_str).collect(),
        (None, None) => return None,
    };
    Some(words)
}

/// Where else in the file this key is known.
fn elsewhere(schema: &Value, key: &str) -> Option<String> {
    schema["properties"].as_object()?.iter().find_map(|(section, inner)| {
        let table = inner["anyOf"].as_array().and_then(|branches| branches.iter().find(|branch| is_table(branch))).unwrap_or(inner);
        let (table, prefix) = if section == "routes" { (&inner["items"], "routes[]".to_owned()) } else { (table, section.clone()) };
        (section != "defaults").then(|| table["properties"].get(key).map(|_| format!("{prefix}.{key}")))?
    })
}

/// `table` of `routes[0].table`, `dedup` of `routes[0].dedup[1]`.
fn last_key(path: &str) -> &str {
    let path = path.rsplit_once('.').map_or(path, |(_, key)| key);
    path.split_once('[').map_or(path, |(key, _)| key)
}

fn section(path: &str) -> &str {
    path.split(['.', '[']).next().unwrap_or_default()
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "the file" } else { path }
}
