//! YAML into texts, lists and tables with the place of each. No scalar gets a type here: `0123` and `yes` stay what was written.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Marker, ParseResult, Parser, ScalarStyle, Span};

use super::tree::Range;

/// Deeper or larger is no configuration but an attack, or an alias that holds itself.
const DEEPEST: usize = 32;
const MOST_NODES: usize = 50_000;

/// A value as YAML has it.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub range: Range,
    pub content: RawContent,
}

#[derive(Clone, Debug)]
pub(super) enum RawContent {
    /// `plain`: without quotes.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Raw>),
    Map(Vec<(Raw, Raw)>),
}

/// The file is not YAML, or uses what settings have no use for.
#[derive(Debug)]
pub(super) struct Invalid {
    pub range: Range,
    pub message: String,
    pub label: Option<String>,
}

/// Reads one document. `None`: it is empty.
pub(super) fn parse(text: &str) -> Result<Option<Raw>, Invalid> {
    let mut reader = Reader { events: Parser::new_from_str(text), anchors: BTreeMap::new(), nodes: 0 };
    reader.document().map_err(|invalid| unquoted_variable(text).unwrap_or(invalid))
}

struct Reader<I> {
    events: I,
    anchors: BTreeMap<usize, Raw>,
    nodes: usize,
}

impl<'a, I: Iterator<Item = ParseResult<'a>>> Reader<I> {
    fn document(&mut self) -> Result<Option<Raw>, Invalid> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd | Event::StreamEnd => {}
                _ if root.is_some() => {
                    return Err(invalid(&span, "a second document begins here", Some("write each pipeline into a file of its own")));
                }
                event => root = self.node(event, &span, 0)?,
            }
        }
        Ok(root.filter(|raw| !matches!(&raw.content, RawContent::Scalar { text, plain: true } if text.is_empty() || text == "~")))
    }

    /// The next event that is not a comment.
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Invalid> {
        loop {
            match self.events.next() {
                None => return Ok(None),
                Some(Ok((Event::Comment(..), _))) => {}
                Some(Ok(next)) => return Ok(Some(next)),
                Some(Err(error)) => {
                    let at = *error.marker();
                    return Err(invalid(&Span::new(at, at), &format!("this is not YAML: {}", error.kind()), None));
                }
            }
        }
    }

    /// The value that begins with `event`; `None` where no value can begin.
    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Option<Raw>, Invalid> {
        self.nodes += 1;
        if depth > DEEPEST || self.nodes > MOST_NODES {
            return Err(invalid(span, "this is nested too deeply, or too large", None));
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag) | Event::SequenceStart(_, anchor, tag) | Event::MappingStart(_, anchor, tag) => (*anchor, tag.clone()),
            _ => (0, None),
        };
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
            return Err(invalid(span, "a tag (`!…`) means nothing here", Some("leave the tag out, or put the text in quotes")));
        }
        let (content, end) = match event {
            Event::Scalar(text, style, ..) => (RawContent::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, span.end),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        None => break (RawContent::List(items), span.end),
                        Some((Event::SequenceEnd, end)) => break (RawContent::List(items), end.end),
                        Some((event, span)) => items.extend(self.node(event, &span, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                loop {
                    match self.next()? {
                        None => break (RawContent::Map(entries), span.end),
                        Some((Event::MappingEnd, end)) => break (RawContent::Map(entries), end.end),
                        Some((event, span)) => {
                            let key = self.node(event, &span, depth + 1)?;
                            let value = match self.next()? {
                                Some((event, span)) => self.node(event, &span, depth + 1)?,
                                None => None,
                            };
                            entries.extend(key.zip(value));
                        }
                    }
                }
            }
            Event::Alias(anchor) => return self.alias(anchor, span, depth).map(Some),
            _ => return Ok(None),
        };
        let raw = Raw { range: range(span.start, end), content };
        if anchor != 0 {
            self.anchors.insert(anchor, raw.clone());
        }
        Ok(Some(raw))
    }

    fn alias(&mut self, anchor: usize, span: &Span, depth: usize) -> Result<Raw, Invalid> {
        let Some(raw) = self.anchors.get(&anchor) else {
            return Err(invalid(span, "this alias stands inside of what it names", None));
        };
        let (nodes, deepest) = raw.extent();
        self.nodes += nodes;
        if depth + deepest > DEEPEST || self.nodes > MOST_NODES {
            return Err(invalid(span, "this is nested too deeply, or too large", None));
        }
        Ok(raw.clone())
    }
}

impl Raw {
    /// How many values this is, and how deep.
    fn extent(&self) -> (usize, usize) {
        let sum = |parts: &mut dyn Iterator<Item = &Self>| {
            parts.map(Self::extent).fold((1, 1), |(nodes, deepest), (more, deeper)| (nodes + more, deepest.max(deeper + 1)))
        };
        match &self.content {
            RawContent::Scalar { .. } => (1, 1),
            RawContent::List(items) => sum(&mut items.iter()),
            RawContent::Map(entries) => sum(&mut entries.iter().flat_map(|(key, value)| [key, value])),
        }
    }
}

fn invalid(span: &Span, message: &str, label: Option<&str>) -> Invalid {
    Invalid { range: range(span.start, span.end), message: message.to_owned(), label: label.map(str::to_owned) }
}

fn range(start: Marker, end: Marker) -> Range {
    Range { line: start.line().max(1), column: start.col() + 1, end_line: end.line().max(1), end_column: end.col() + 1 }
}

/// `{ url: ${X} }` is no YAML, and what a parser says of it helps nobody: finds the first `${…}` without quotes inside of braces or brackets.
fn unquoted_variable(text: &str) -> Option<Invalid> {
    let mut depth = 0_usize;
    let mut quote: Option<char> = None;
    for (line_index, line) in text.lines().enumerate() {
        let characters: Vec<char> = line.chars().collect();
        let mut before = ' ';
        let mut column = 0;
        while let Some(character) = characters.get(column).copied() {
            let next = characters.get(column + 1).copied();
            match quote {
                Some('"') if character == '\\' => column += 1,
                Some(open) if character == open => quote = None,
                Some(_) => {}
                None => match character {
                    '#' if before.is_whitespace() => break,
                    '"' | '\'' if before.is_whitespace() || "[{,:".contains(before) => quote = Some(character),
                    '$' if next == Some('{') => {
                        let length = characters.get(column..)?.iter().position(|character| *character == '}').map_or(2, |end| end + 1);
                        let variable: String = characters.get(column..column + length)?.iter().collect();
                        if depth > 0 {
                            let line = line_index + 1;
                            return Some(Invalid {
                                range: Range { line, column: column + 1, end_line: line, end_column: column + 1 + length },
                                message: format!("line {line}: put quotes round \"{variable}\" inside {{ }}"),
                                label: Some("braces without quotes are YAML's own".to_owned()),
                            });
                        }
                        column += length - 1;
                    }
                    '{' | '[' if depth > 0 || before.is_whitespace() => depth += 1,
                    '}' | ']' => depth = depth.saturating_sub(1),
                    _ => {}
                },
            }
            before = character;
            column += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(raw: &Raw) -> String {
        match &raw.content {
            RawContent::Scalar { text, plain } => format!("{}{text}", if *plain { "" } else { "'" }),
            RawContent::List(items) => format!("[{}]", items.iter().map(flat).collect::<Vec<_>>().join(" ")),
            RawContent::Map(entries) => {
                format!("{{{}}}", entries.iter().map(|(key, value)| format!("{}={}", flat(key), flat(value))).collect::<Vec<_>>().join(" "))
            }
        }
    }

    fn read(text: &str) -> String {
        parse(text).unwrap().map(|raw| flat(&raw)).unwrap_or_default()
    }

    #[test]
    fn texts_stay_as_they_are_written() {
        assert_eq!(read("a: 0123\nb: yes\nc: 1e3\nd: \"0x1\"\ne: ~\nf:\n"), "{a=0123 b=yes c=1e3 d='0x1 e=~ f=~}");
        assert_eq!(read("a: [x, 'y', \"${Z}\"]\nb: ${Z}"), "{a=[x 'y '${Z}] b=${Z}}");
    }

    #[test]
    fn anchors_are_copied() {
        assert_eq!(read("a: &x { k: 1 }\nb: *x\nc: { <<: *x, l: 2 }\n"), "{a={k=1} b={k=1} c={<<={k=1} l=2}}");
    }

    #[test]
    fn nothing_is_nothing() {
        for text in ["", "\n\n", "# only a comment\n", "---\n"] {
            assert!(parse(text).unwrap().is_none(), "{text:?}");
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut text = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..30 {
            text += &format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1);
        }
        assert!(parse(&text).unwrap_err().message.contains("too large"));
        assert!(parse(&"[".repeat(200)).is_err());
        assert!(parse("a: &a [*a]").is_err());
    }

    #[test]
    fn an_unquoted_variable_in_braces_is_named() {
        let invalid = parse("name: x\nkafka: k:1\ndatabase: { url: ${DATABASE_URL} }\n").unwrap_err();
        assert_eq!(invalid.message, "line 3: put quotes round \"${DATABASE_URL}\" inside { }");
        assert_eq!((invalid.range.line, invalid.range.column, invalid.range.end_column), (3, 18, 33));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[-a-c:{}\\[\\]\"'#&*!|>%@` \n\t$?,<]{0,60}") {
            let _ = parse(&text);
        }
    }
}
