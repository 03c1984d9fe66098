//! What is wrong with the settings, all of it at once, each with its place and a way out.

use std::{fmt, sync::Arc};

use super::{mask, tree::Range};

/// One thing that a person must edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub message: String,
    pub place: Place,
    /// `routes[0].tabel`.
    pub path: Option<String>,
    /// What stands beside the marks: the way out in a few words.
    pub label: Option<String>,
    /// Further lines.
    pub notes: Vec<String>,
}

/// Where the problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Nowhere,
    File {
        file: String,
        /// Counted from 1.
        line: usize,
        column: usize,
        snippet: Option<Snippet>,
    },
    /// A file as a whole, an environment variable, a `--set`.
    Named(String),
}

/// The line at fault without its secrets, and which part of it to mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    pub text: String,
    /// Characters before the marks.
    pub indent: usize,
    pub width: usize,
}

/// Everything that is wrong; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

/// A file's lines and the parts of them that are never printed.
#[derive(Clone, Debug, Default)]
pub(super) struct SourceText {
    pub name: Arc<str>,
    pub lines: Vec<String>,
    pub hidden: Vec<Range>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>, place: Place) -> Self {
        Self { message: message.into(), place, path: None, label: None, notes: Vec::new() }
    }

    pub(super) fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into()).filter(|path: &String| !path.is_empty());
        self
    }

    pub(super) fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    fn render(&self, f: &mut fmt::Formatter<'_>, colour: Colour) -> fmt::Result {
        writeln!(f, "{}: {}", colour.red("error"), colour.bold(&self.message))?;
        let path = self.path.as_deref().map(|path| format!("  {path}")).unwrap_or_default();
        let mut label = self.label.as_deref();
        match &self.place {
            Place::Nowhere => {
                if let Some(path) = &self.path {
                    writeln!(f, "  {} {path}", colour.blue("-->"))?;
                }
            }
            Place::Named(name) => writeln!(f, "  {} {name}{path}", colour.blue("-->"))?,
            Place::File { file, line, column, snippet } => {
                writeln!(f, "  {} {file}:{line}:{column}{path}", colour.blue("-->"))?;
                if let Some(Snippet { text, indent, width }) = snippet {
                    let number = line.to_string();
                    let bar = colour.blue("|");
                    writeln!(f, "{} {bar} {text}", colour.blue(&number))?;
                    let said = label.take().map(|label| format!(" {label}")).unwrap_or_default();
                    let marks = colour.red(&format!("{}{said}", "^".repeat((*width).max(1))));
                    writeln!(f, "{} {bar} {}{marks}", " ".repeat(number.len()), " ".repeat(*indent))?;
                }
            }
        }
        for line in label.into_iter().chain(self.notes.iter().map(String::as_str)) {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

impl Problems {
    /// In the order of the files; the same thing twice (a value that several routes inherit) is one problem.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        let position = |problem: &Problem| match &problem.place {
            Place::Nowhere => (0, String::new(), 0, 0),
            Place::File { file, line, column, .. } => (1, file.clone(), *line, *column),
            Place::Named(name) => (2, name.clone(), 0, 0),
        };
        problems.sort_by_key(position);
        let mut kept: Vec<Problem> = Vec::new();
        for problem in problems {
            if !kept.iter().any(|other| other.place == problem.place && other.message == problem.message) {
                kept.push(problem);
            }
        }
        Self(kept)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For people; ends with how many problems there are.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        struct Rendered<'a>(&'a Problems, Colour);
        impl fmt::Display for Rendered<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for problem in self.0.iter() {
                    problem.render(f, self.1)?;
                }
                let count = self.0.len();
                writeln!(f, "{count} problem{}; nothing was started", if count == 1 { "" } else { "s" })
            }
        }
        Rendered(self, Colour(colour)).to_string()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl SourceText {
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), lines: text.lines().map(str::to_owned).collect(), hidden: Vec::new() }
    }

    pub fn place(&self, range: Range) -> Place {
        let snippet = self.lines.get(range.line - 1).map(|line| {
            let end = if range.end_line == range.line { range.end_column } else { usize::MAX };
            let length = line.trim_end().chars().count();
            mask::snippet(line, range.column - 1, end.saturating_sub(1).min(length), &self.hidden_of(range.line))
        });
        Place::File { file: self.name.to_string(), line: range.line, column: range.column, snippet }
    }

    /// The hidden stretches of one line, in characters from 0.
    fn hidden_of(&self, line: usize) -> Vec<(usize, usize)> {
        let within = |range: &&Range| (range.line..=range.end_line).contains(&line);
        let stretch = |range: &Range| {
            let from = if range.line == line { range.column - 1 } else { 0 };
            let to = if range.end_line == line { range.end_column - 1 } else { usize::MAX };
            (from, to)
        };
        self.hidden.iter().filter(within).map(stretch).collect()
    }
}

#[derive(Clone, Copy)]
struct Colour(bool);

impl Colour {
    fn paint(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn blue(self, text: &str) -> String {
        self.paint("1;34", text)
    }

    fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }
}
