//! What is wrong with a text that the YAML parser has given up: which bracket or quote is not closed, which line is
//! indented by an odd number, where a colon is missing. It reads the text line by line, as a person does, and only ever
//! explains: whether a text is YAML is for the parser to say. Nothing that it says repeats a value of the text.

mod flow;

use flow::{Flow, Inside};

use crate::farm::node::Span;
use crate::farm::problem::Problem;

/// The mistake in `text` at which the parser stopped at the byte `stopped`; `None`: not one that is known here.
pub(super) fn diagnose(text: &str, stopped: usize) -> Option<Problem> {
    let mut reader = Reader {
        levels: vec![Level {
            indent: None,
            kind: Kind::Root,
            line: 0,
            key: String::new(),
            has_value: false,
            bare: None,
        }],
        flow: Flow::default(),
        block: None,
    };
    let mut start = 0_usize;
    for (index, whole) in text.split_inclusive('\n').enumerate() {
        let line = Line {
            number: index + 1,
            start,
            text: whole.trim_end_matches(['\n', '\r']),
        };
        start = start.saturating_add(whole.len());
        match reader.read(&line) {
            Ok(()) => {}
            // The parser had no fault to find that early, or stopped before it.
            Err(Stop::Found(problem)) => {
                return Some(*problem).filter(|found| found.span.start <= stopped_line(text, stopped))
            }
            Err(Stop::Unknown) => return None,
        }
    }
    reader.flow.unclosed()
}

/// The end of the line after the one with the byte `stopped`: the parser often notices a mistake one line late or early.
fn stopped_line(text: &str, stopped: usize) -> usize {
    let rest = text.get(stopped..).unwrap_or_default();
    let lines: usize = rest.split_inclusive('\n').take(2).map(str::len).sum();
    stopped.saturating_add(lines)
}

/// Why reading ends.
enum Stop {
    Found(Box<Problem>),
    /// Something that is not looked into here: documents, directives, complex keys, tabs.
    Unknown,
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Found(Box::new(problem))
    }
}

/// A line without its end.
#[derive(Clone, Copy)]
struct Line<'t> {
    /// From 1.
    number: usize,
    /// Its first byte in the text.
    start: usize,
    text: &'t str,
}

impl Line<'_> {
    fn span(&self, from: usize, to: usize) -> Span {
        Span {
            start: self.start.saturating_add(from),
            end: self.start.saturating_add(to),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Root,
    Map,
    List,
}

/// A list or mapping that is written in lines of its own, while it is open.
struct Level {
    /// In blanks; `None`: the document itself.
    indent: Option<usize>,
    kind: Kind,
    /// Where its last key or item is.
    line: usize,
    /// Its last key, as it may be shown; empty: it may not, or this is a list.
    key: String,
    /// Whether the last key has a value in its line, or the last item has begun.
    has_value: bool,
    /// A line below the last key that is neither key nor item: its column, its place, and its first word.
    bare: Option<(usize, Span, String)>,
}

struct Reader {
    levels: Vec<Level>,
    flow: Flow,
    /// Inside a block scalar (`|`, `>`): the least indentation of its lines.
    block: Option<usize>,
}

impl Reader {
    fn read(&mut self, line: &Line<'_>) -> Result<(), Stop> {
        let column = line.text.len() - line.text.trim_start_matches(' ').len();
        let rest = line.text.get(column..).unwrap_or_default();
        if rest.starts_with('\t') {
            return Err(Stop::Unknown);
        }
        if let Some(least) = self.block {
            if rest.is_empty() || column >= least {
                return Ok(());
            }
            self.block = None;
        }
        if rest.is_empty() || (rest.starts_with('#') && !self.flow.is_quoted()) {
            return Ok(());
        }
        if self.flow.is_open() {
            let owner = self.levels.last().and_then(|level| level.indent);
            let is_outside = owner.is_some_and(|owner| column <= owner);
            let begins_another = key(rest).is_some() || rest.starts_with("- ");
            if is_outside && (self.flow.is_quoted() || begins_another) {
                return self.flow.unclosed().map_or(Ok(()), |found| Err(found.into()));
            }
            return Ok(self.flow.go_on(line, column)?);
        }
        let is_special = ["---", "...", "%", "? ", ": "]
            .iter()
            .any(|mark| rest.starts_with(mark));
        if is_special {
            return Err(Stop::Unknown);
        }
        self.entries(line, column)
    }

    /// A line with a key, with items, or with neither.
    fn entries(&mut self, line: &Line<'_>, mut column: usize) -> Result<(), Stop> {
        loop {
            let rest = line.text.get(column..).unwrap_or_default();
            let Some(item) = rest
                .strip_prefix('-')
                .filter(|item| item.is_empty() || item.starts_with(' '))
            else {
                break;
            };
            self.enter(line, column, Kind::List, "")?;
            column += 1 + item.len() - item.trim_start_matches(' ').len();
            if item.trim_start().is_empty() || item.trim_start().starts_with('#') {
                return Ok(());
            }
        }
        let rest = line.text.get(column..).unwrap_or_default();
        let Some((name, after)) = key(rest) else {
            return self.without_key(line, column);
        };
        self.enter(line, column, Kind::Map, name)?;
        let value = rest.get(after..).unwrap_or_default();
        let blank = value.len() - value.trim_start_matches(' ').len();
        self.value(line, column + after + blank, true)
    }

    /// A key or an item begins at `column`: it belongs to what is open there, or opens something.
    fn enter(&mut self, line: &Line<'_>, column: usize, kind: Kind, name: &str) -> Result<(), Stop> {
        let mut deeper = None;
        while let Some(level) = self
            .levels
            .pop_if(|level| level.indent.is_some_and(|indent| indent > column))
        {
            deeper = Some(level);
        }
        // A list may stand at the indentation of its key, and ends with the next key there.
        let below = self
            .levels
            .len()
            .checked_sub(2)
            .and_then(|at| self.levels.get(at));
        let is_list_of_key =
            below.is_some_and(|below| below.indent == Some(column) && below.kind == Kind::Map);
        if kind == Kind::Map && is_list_of_key {
            self.levels.pop();
        }
        let end = line.text.trim_end().len();
        let here = line.span(column, end.min(column.saturating_add(name.len().max(1))));
        let Some(top) = self.levels.last_mut() else {
            return Err(Stop::Unknown);
        };
        if top.indent == Some(column) {
            if top.kind == kind {
                (top.line, top.key) = (line.number, shown(name));
                (top.has_value, top.bare) = (kind == Kind::List, None);
                return Ok(());
            }
            if kind == Kind::Map {
                let message = format!("a key stands among the items of a list (line {})", top.line);
                let problem = Problem::error(here, message);
                return Err(problem
                    .hint("begin it with `- `, or indent it as the keys of the item above")
                    .into());
            }
            if top.has_value {
                let message = format!(
                    "a list item (`- `) stands among keys{}",
                    beside(&top.key, top.line)
                );
                let hint = "write it as the others, `NAME: …` without `- `, or indent it below the key whose list it is";
                return Err(Problem::error(here, message).hint(hint).into());
            }
        } else if let Some(deeper) = deeper {
            return Err(odd(here, column, top, &deeper).into());
        } else if let Some((_, at, word)) = top.bare.take().filter(|(bare, ..)| *bare == column) {
            return Err(no_colon(at, &word).into());
        } else if top.has_value && top.kind == Kind::Map {
            let indent = top.indent.unwrap_or_default();
            let message = format!(
                "this line is indented by {column}, and the key above it by {indent}{}",
                beside(&top.key, top.line)
            );
            let hint =
                format!("indent it by {indent}, too: a key with a value in its line has no keys below it");
            return Err(Problem::error(here, message).hint(hint).into());
        }
        top.has_value = true;
        self.levels.push(Level {
            indent: Some(column),
            kind,
            line: line.number,
            key: shown(name),
            has_value: kind == Kind::List,
            bare: None,
        });
        Ok(())
    }

    /// A line, or the rest of one after `- `, without a key.
    fn without_key(&mut self, line: &Line<'_>, column: usize) -> Result<(), Stop> {
        let rest = line.text.get(column..).unwrap_or_default();
        let is_plain = !rest.starts_with(['[', '{', '"', '\'', '|', '>']);
        let word = rest.split([' ', ':']).next().unwrap_or_default();
        let at = line.span(column, line.text.trim_end().len());
        let is_after_item = line.text.get(..column).is_some_and(|before| before.contains('-'));
        if is_plain && !is_after_item {
            while self
                .levels
                .pop_if(|level| level.indent.is_some_and(|indent| indent > column))
                .is_some()
            {}
            let Some(top) = self.levels.last_mut() else {
                return Err(Stop::Unknown);
            };
            if top.indent == Some(column) && top.kind == Kind::Map {
                return Err(no_colon(at, &word_and_mark(rest, word)).into());
            }
            if rest.starts_with('-') && top.indent == Some(column) {
                let problem = Problem::error(at, "there is no blank after the dash of this item");
                return Err(problem.hint("begin each item with `- `").into());
            }
            if !top.has_value || top.kind == Kind::Root {
                top.bare = top.bare.take().or(Some((column, at, word_and_mark(rest, word))));
            }
        }
        self.value(line, column, false)
    }

    /// The value that begins at `column`.
    fn value(&mut self, line: &Line<'_>, column: usize, is_of_key: bool) -> Result<(), Stop> {
        let rest = line.text.get(column..).unwrap_or_default();
        if rest.is_empty() || rest.starts_with('#') {
            return Ok(());
        }
        let indent = self.levels.last().and_then(|level| level.indent);
        if is_of_key {
            if let Some(top) = self.levels.last_mut() {
                top.has_value = true;
            }
        }
        match rest.chars().next() {
            Some('|' | '>') => {
                self.block = Some(indent.map_or(0, |indent| indent + 1));
                Ok(())
            }
            Some('[' | '{' | '"' | '\'') => Ok(self.flow.go_on(line, column)?),
            Some(mark @ ('@' | '`' | '%')) => {
                let at = line.span(column, line.text.trim_end().len());
                let problem = Problem::error(at, format!("a value cannot begin with `{mark}`"));
                Err(problem.hint("put the value in quotes").into())
            }
            Some('-') if is_of_key && rest.starts_with("- ") => {
                let at = line.span(column, column + 1);
                let problem = Problem::error(at, "a list item (`- `) stands in the line of its key");
                Err(problem
                    .hint("begin each item on a line of its own below the key, or write [A, B]")
                    .into())
            }
            _ => Ok(plain(line, column)?),
        }
    }
}

/// A value without quotes, to the end of its line.
fn plain(line: &Line<'_>, column: usize) -> Result<(), Inside> {
    let rest = line.text.get(column..).unwrap_or_default();
    let value = rest.split(" #").next().unwrap_or_default().trim_end();
    let at = line.span(column, column + value.len());
    let whole = "put the whole value in quotes";
    if value.ends_with(':') {
        return Err(
            Problem::error(at, "this value ends in a colon, which makes a key of it")
                .hint(whole)
                .into(),
        );
    }
    if value.contains(": ") {
        let message = "there is a second `: ` in this line, which makes a key of the value";
        return Err(Problem::error(at, message).hint(whole).into());
    }
    Ok(())
}

impl From<Inside> for Stop {
    fn from(Inside(problem): Inside) -> Self {
        Self::Found(problem)
    }
}

/// The key that `rest` begins with, and the byte after its colon.
fn key(rest: &str) -> Option<(&str, usize)> {
    let end = match rest.chars().next()? {
        quote @ ('"' | '\'') => {
            let close = rest.get(1..)?.find(quote)? + 2;
            let after = rest.get(close..)?;
            close + after.len() - after.trim_start_matches(' ').len()
        }
        '[' | '{' | '#' | '|' | '>' | '@' | '`' => return None,
        _ => {
            let text = rest.split(" #").next().unwrap_or_default().trim_end();
            match text.find(": ") {
                Some(colon) => colon,
                None => text.strip_suffix(':')?.len(),
            }
        }
    };
    let after = rest.get(end..)?.strip_prefix(':')?;
    let name = rest.get(..end)?.trim_end().trim_matches(['"', '\'']);
    (after.is_empty() || after.starts_with(' ')).then_some((name, end + 1))
}

/// A key as it may be shown: a word that is no secret. Empty: it may not.
fn shown(name: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let is_shown = !name.is_empty() && name.len() <= 40 && name.chars().all(is_word);
    if is_shown {
        name.to_owned()
    } else {
        String::new()
    }
}

/// The first word of a line, with the colon that stands right behind it.
fn word_and_mark(rest: &str, word: &str) -> String {
    let colon = rest.get(word.len()..).is_some_and(|after| after.starts_with(':'));
    let mark = if colon { ":" } else { "" };
    Some(shown(word))
        .filter(|word| !word.is_empty())
        .map_or_else(String::new, |word| format!("{word}{mark}"))
}

/// Where the key is that was last: ` (`run`, line 21)`.
fn beside(key: &str, line: usize) -> String {
    if key.is_empty() {
        format!(" (line {line})")
    } else {
        format!(" (`{key}` in line {line})")
    }
}

fn no_colon(at: Span, word: &str) -> Problem {
    if let Some(word) = word.strip_suffix(':') {
        let problem = Problem::error(at, format!("there is no blank after the colon of `{word}`"));
        return problem.hint(format!("write `{word}: …`"));
    }
    if word.is_empty() {
        return Problem::error(
            at,
            "this line has no colon, and it is neither a list item nor a part of a value",
        )
        .hint("write `NAME: …`");
    }
    Problem::error(at, format!("there is no colon after `{word}`")).hint(format!("write `{word}: …`"))
}

/// A line that is indented less than what stands above it, and more than what that stands in.
fn odd(at: Span, column: usize, outer: &Level, deeper: &Level) -> Problem {
    let inner = deeper.indent.unwrap_or_default();
    let message = format!(
        "this line is indented by {column}, and {} above it by {inner}{}",
        if deeper.kind == Kind::List {
            "the items"
        } else {
            "the keys"
        },
        beside(&deeper.key, deeper.line)
    );
    let hint = match outer.indent {
        Some(outer_indent) if outer.kind == Kind::Map => format!(
            "indent it by {inner} if it belongs with them, or by {outer_indent}{}",
            beside(&outer.key, outer.line)
        ),
        _ => format!("indent it by {inner}, too"),
    };
    Problem::error(at, message).hint(hint)
}
