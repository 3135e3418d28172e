//! YAML to [`Node`]: the one place that knows the YAML parser. It takes plain documents only – one of them, no
//! anchors, aliases or tags – so that a small file cannot become a large tree, and bounds depth and number of nodes.

mod diagnosis;

use crate::farm::node::{Entry, Node, Scalar, Span, Style, Value};
use crate::farm::problem::{Problem, Problems};
use saphyr_parser::{Event, Parser, ScalarStyle, Span as Marks};

/// The deepest nesting: a farm needs seven levels.
const DEEPEST: usize = 32;

/// The most nodes.
const MOST: usize = 20_000;

/// The document in `text`; `None` where it cannot be read, and `problems` then says why.
pub(super) fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    let mut builder = Builder {
        places: Places::new(text),
        problems,
        open: Vec::new(),
        root: None,
        nodes: 0,
        documents: 0,
        refused: false,
    };
    let mut parser = Parser::new_from_str(text);
    loop {
        let (event, marks) = match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                let at = builder.places.byte(error.marker().index());
                builder.problems.push(syntax(text, at, error.info()));
                return None;
            }
        };
        if builder.take(event, marks).is_err() {
            return None;
        }
    }
    let Builder { root, refused, .. } = builder;
    let root = root.unwrap_or_else(Node::nothing);
    (!refused).then_some(root)
}

/// A mistake in the YAML itself. The parser's own words are for mistakes that nobody has met so far.
fn syntax(text: &str, at: usize, info: &str) -> Problem {
    let info: String = info.chars().flat_map(harmless).collect();
    let problem = Problem::error(Span { start: at, end: at }, format!("this is not YAML: {info}"));
    let before = text.get(..at).unwrap_or_default();
    let line = text
        .get(before.rfind('\n').map_or(0, |end| end.saturating_add(1))..)
        .unwrap_or_default();
    let indent: String = line.chars().take_while(|c| matches!(c, ' ' | '\t')).collect();
    if indent.contains('\t') || info.contains(" tab") {
        return problem.hint("YAML is indented by spaces, never by tabs");
    }
    diagnosis::diagnose(text, at).unwrap_or(problem)
}

/// A character of the parser's message, which may quote the file.
fn harmless(c: char) -> Vec<char> {
    if c.is_control() {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

/// Reading must stop; the problem has been reported.
struct Stop;

struct Builder<'a, 'p> {
    places: Places<'a>,
    problems: &'p mut Problems,
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
    documents: usize,
    /// Whether something stood in it that a farm does not use; the tree is then read to the end for more of it.
    refused: bool,
}

/// A list or mapping whose end has not come.
struct Open {
    start: usize,
    what: Collection,
}

enum Collection {
    Seq(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<(String, Span)>,
    },
}

impl Builder<'_, '_> {
    fn take(&mut self, event: Event<'_>, marks: Marks) -> Result<(), Stop> {
        let span = self.places.span(&marks);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_only(anchor, tag.is_some(), span);
                let style = if style == ScalarStyle::Plain {
                    Style::Plain
                } else {
                    Style::Quoted
                };
                let value = Value::Scalar(Scalar {
                    text: text.into_owned(),
                    style,
                });
                self.add(Node { span, value })?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_only(anchor, tag.is_some(), span);
                self.open(span, Collection::Seq(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_only(anchor, tag.is_some(), span);
                let entries = Vec::new();
                self.open(span, Collection::Map { entries, key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { start, what }) = self.open.pop() {
                    let value = match what {
                        Collection::Seq(items) => Value::Seq(items),
                        Collection::Map { entries, .. } => Value::Map(entries),
                    };
                    let end = span.end.max(start);
                    self.add(Node {
                        span: Span { start, end },
                        value,
                    })?;
                }
            }
            Event::Alias(_) => {
                self.refuse(span, "a farm must not have aliases (`*name`)");
                self.add(Node {
                    span,
                    ..Node::nothing()
                })?;
            }
            Event::DocumentStart(_) => {
                self.documents = self.documents.saturating_add(1);
                if self.documents > 1 {
                    self.problems
                        .error(span, "a second document starts here, and a farm is one document");
                    return Err(Stop);
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn plain_only(&mut self, anchor: usize, tagged: bool, span: Span) {
        if anchor != 0 {
            self.refuse(span, "a farm must not have anchors (`&name`)");
        }
        if tagged {
            self.refuse(span, "a farm must not have tags (`!name`)");
        }
    }

    fn refuse(&mut self, span: Span, message: &str) {
        self.refused = true;
        let problem = Problem::error(span, message);
        self.problems
            .push(problem.hint("write the value out where it belongs"));
    }

    fn open(&mut self, span: Span, what: Collection) -> Result<(), Stop> {
        if self.open.len() >= DEEPEST {
            self.problems
                .error(span, format!("this is nested more than {DEEPEST} levels deep"));
            return Err(Stop);
        }
        self.open.push(Open {
            start: span.start,
            what,
        });
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MOST {
            self.problems
                .error(node.span, format!("the file has more than {MOST} values"));
            return Err(Stop);
        }
        match self.open.last_mut().map(|open| &mut open.what) {
            None => self.root = Some(node),
            Some(Collection::Seq(items)) => items.push(node),
            Some(Collection::Map { entries, key }) => match (key.take(), node.value) {
                (Some((key, key_span)), value) => {
                    // The parser puts a value that is not written where the next token is.
                    let empty =
                        matches!(&value, Value::Scalar(scalar) if scalar.is_null() && scalar.text.is_empty());
                    let span = if empty { key_span } else { node.span };
                    let value = Node { span, value };
                    entries.push(Entry { key, key_span, value });
                }
                (None, Value::Scalar(scalar)) => *key = Some((scalar.text, node.span)),
                (None, _) => {
                    *key = Some((String::new(), node.span));
                    self.refuse(node.span, "a list or mapping stands where a key belongs");
                }
            },
        }
        Ok(())
    }
}

/// From characters, which the parser counts, to bytes.
struct Places<'a> {
    text: &'a str,
    /// The byte at which every [`Self::STRIDE`]th character starts; empty where all characters are bytes.
    marks: Vec<usize>,
}

impl<'a> Places<'a> {
    const STRIDE: usize = 256;

    fn new(text: &'a str) -> Self {
        let marks = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices()
                .step_by(Self::STRIDE)
                .map(|(byte, _)| byte)
                .collect()
        };
        Self { text, marks }
    }

    /// The byte at which the character with this number starts; past the end: the end.
    fn byte(&self, character: usize) -> usize {
        if self.marks.is_empty() {
            return character.min(self.text.len());
        }
        let Some(mark) = self.marks.get(character / Self::STRIDE) else {
            return self.text.len();
        };
        let rest = self.text.get(*mark..).unwrap_or_default();
        rest.char_indices()
            .nth(character % Self::STRIDE)
            .map_or(self.text.len(), |(byte, _)| mark.saturating_add(byte))
    }

    fn span(&self, marks: &Marks) -> Span {
        let start = self.byte(marks.start.index());
        let end = self.byte(marks.end.index()).max(start);
        let written = self.text.get(start..end).unwrap_or_default();
        Span {
            start,
            end: start.saturating_add(written.trim_end().len()),
        }
    }
}
