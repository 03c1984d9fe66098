//! `${VAR}`, `${VAR:-default}` and `${file:/path}` in a text, whatever its quotes. What is put in is never looked at again.

use std::{collections::BTreeMap, fs};

/// A text with everything put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    pub text: String,
    /// A part of it came from a file.
    pub from_file: bool,
}

/// Why a text could not be completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Unset { variable: String },
    Unreadable { path: String, reason: String },
    Unclosed,
    NotAName { text: String },
}

/// Only the braced form means anything: `pa$word` is itself. `$${` is the one escape, and stands for `${`.
pub(super) fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<Expanded, Failure> {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), from_file: false };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            expanded.text.push_str(escaped);
            expanded.text.push_str("${");
            rest = from.get(2..).unwrap_or_default();
            continue;
        }
        expanded.text.push_str(before);
        let (inside, after) = from.get(2..).and_then(|from| from.split_once('}')).ok_or(Failure::Unclosed)?;
        if let Some(path) = inside.strip_prefix("file:") {
            let content = fs::read_to_string(path).map_err(|error| Failure::Unreadable { path: path.to_owned(), reason: error.to_string() })?;
            // Editors and `echo` end a file with a line break that is no part of a password.
            expanded.text.push_str(content.trim_end_matches(['\n', '\r']));
            expanded.from_file = true;
        } else {
            let (variable, default) = inside.split_once(":-").map_or((inside, None), |(variable, default)| (variable, Some(default)));
            if !is_name(variable) {
                return Err(Failure::NotAName { text: inside.to_owned() });
            }
            // As in a shell: `:-` also stands in for an empty value.
            match (environment.get(variable).filter(|value| default.is_none() || !value.is_empty()), default) {
                (Some(value), _) => expanded.text.push_str(value),
                (None, Some(default)) => expanded.text.push_str(default),
                (None, None) => return Err(Failure::Unset { variable: variable.to_owned() }),
            }
        }
        rest = after;
    }
    expanded.text.push_str(rest);
    Ok(expanded)
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit()) && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Failure> {
        let environment = [("HOST", "db"), ("EMPTY", ""), ("TRICK", "${HOST}: [x]")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        expand(text, &environment.into()).map(|expanded| expanded.text)
    }

    #[test]
    fn only_the_braced_form_means_anything() {
        for (text, expected) in [
            ("pa$word", "pa$word"),
            ("pa$$word", "pa$$word"),
            ("$HOST", "$HOST"),
            ("${HOST}:${HOST}", "db:db"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("${NOPE:-x}", "x"),
            ("${NOPE:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${TRICK}", "${HOST}: [x]"),
            ("ü${HOST}ü", "üdbü"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_a_failure() {
        assert_eq!(expanded("${NOPE}"), Err(Failure::Unset { variable: "NOPE".to_owned() }));
        assert_eq!(expanded("a${HOST"), Err(Failure::Unclosed));
        assert_eq!(expanded("${HO ST}"), Err(Failure::NotAName { text: "HO ST".to_owned() }));
        assert!(matches!(expanded("${file:/does/not/exist}"), Err(Failure::Unreadable { .. })));
    }

    #[test]
    fn a_file_loses_its_last_line_break_only() {
        let path = std::env::temp_dir().join(format!("oncesink-expand-{}", std::process::id()));
        fs::write(&path, "ge heim$\n\r\n").unwrap();
        let expanded = expand(&format!("<${{file:{}}}>", path.display()), &BTreeMap::new()).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(expanded, Expanded { text: "<ge heim$>".to_owned(), from_file: true });
    }
}
