//! Values in brackets and quotes, which may go over several lines: what of them is open, and what is wrong inside them.

use super::Line;
use crate::farm::node::Span;
use crate::farm::problem::Problem;

/// What is wrong inside brackets or quotes.
pub(super) struct Inside(pub(super) Box<Problem>);

impl From<Problem> for Inside {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

/// A value in brackets or quotes, as far as it has been read.
#[derive(Default)]
pub(super) struct Flow {
    brackets: Vec<Bracket>,
    quote: Option<(char, Span)>,
    /// A quote has just been closed: only an end, a comma or a colon can follow.
    after_quote: bool,
}

struct Bracket {
    open: char,
    at: Span,
    /// Whether the entry that is being read has its colon.
    has_key: bool,
}

impl Flow {
    pub(super) fn is_open(&self) -> bool {
        !self.brackets.is_empty() || self.quote.is_some()
    }

    pub(super) fn is_quoted(&self) -> bool {
        self.quote.is_some()
    }

    /// What is open at the end of the text, or where something else begins.
    pub(super) fn unclosed(&self) -> Option<Problem> {
        if let Some((quote, at)) = self.quote {
            let hint = format!("write another {quote} where the value ends");
            return Some(Problem::error(at, format!("the quote {quote} is never closed")).hint(hint));
        }
        let last = self.brackets.last()?;
        Some(
            Problem::error(last.at, format!("`{}` is never closed", last.open)).hint(format!(
                "write `{}` where the {} ends",
                closer(last.open),
                kind(last.open)
            )),
        )
    }

    /// Read on in `line` from `column`, to its end.
    pub(super) fn go_on(&mut self, line: &Line<'_>, column: usize) -> Result<(), Inside> {
        let mut word: Option<usize> = None;
        let mut chars = line
            .text
            .char_indices()
            .skip_while(|(at, _)| *at < column)
            .peekable();
        let mut before = ' ';
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, next)| *next);
            if let Some((quote, _)) = self.quote {
                match (quote, c) {
                    ('"', '\\') => drop(chars.next()),
                    ('\'', '\'') if next == Some('\'') => drop(chars.next()),
                    _ if c == quote => (self.quote, self.after_quote) = (None, true),
                    _ => {}
                }
                before = c;
                continue;
            }
            if c == '#' && before == ' ' {
                break;
            }
            let here = line.span(at, at + c.len_utf8());
            match c {
                ' ' => {}
                '"' | '\'' if word.is_none() && !self.after_quote => self.quote = Some((c, here)),
                '[' | '{' if word.is_none() && !self.after_quote => self.brackets.push(Bracket {
                    open: c,
                    at: here,
                    has_key: false,
                }),
                ']' | '}' if !self.brackets.is_empty() => {
                    ends_in_colon(line, word, at)?;
                    self.close(c)?;
                    (word, self.after_quote) = (None, true);
                }
                ',' if !self.brackets.is_empty() => {
                    ends_in_colon(line, word, at)?;
                    (word, self.after_quote) = (None, false);
                    if let Some(last) = self.brackets.last_mut() {
                        last.has_key = false;
                    }
                }
                ':' if next.is_none_or(|next| " ,]}".contains(next)) && !self.brackets.is_empty() => {
                    let Some(last) = self.brackets.last_mut() else {
                        continue;
                    };
                    let is_within = word
                        .is_some_and(|start| line.text.get(start..at).is_some_and(|word| word.contains(':')));
                    let ends = next.is_none_or(|next| next != ' ');
                    if ends && (is_within || last.has_key) {
                        return Err(in_quotes(line, word.unwrap_or(at), at + 1));
                    }
                    if last.has_key && last.open == '{' {
                        return Err(no_comma(line, word.unwrap_or(at), at));
                    }
                    last.has_key = true;
                    (word, self.after_quote) = (None, false);
                }
                ']' | '}' => {
                    let message =
                        format!("`{c}` closes nothing: its opening bracket is missing or was closed before");
                    return Err(Problem::error(here, message)
                        .hint("take it out, or open it")
                        .into());
                }
                _ if self.after_quote => {
                    let message = "text follows a value that has ended";
                    let hint = if self.brackets.is_empty() {
                        "put the whole value in quotes; a quote within '…' is written twice, and one within \"…\" as \\\""
                    } else {
                        "write a comma before it; if a quote is missing in this line, add it"
                    };
                    return Err(Problem::error(here, message).hint(hint).into());
                }
                _ => word = word.or(Some(at)),
            }
            before = c;
        }
        if !self.is_open() {
            self.after_quote = false;
        }
        Ok(())
    }

    fn close(&mut self, c: char) -> Result<(), Inside> {
        let Some(last) = self.brackets.pop() else {
            return Ok(());
        };
        if closer(last.open) == c {
            return Ok(());
        }
        let message = format!("`{}` is not closed before the `{c}` that comes next", last.open);
        let hint = format!("write `{}` where the {} ends", closer(last.open), kind(last.open));
        Err(Problem::error(last.at, message).hint(hint).into())
    }
}

/// A value such as `fe80::` right before its end.
fn ends_in_colon(line: &Line<'_>, word: Option<usize>, end: usize) -> Result<(), Inside> {
    let Some(start) = word else { return Ok(()) };
    let is_one = line
        .text
        .get(start..end)
        .is_some_and(|word| word.trim_end().ends_with(':'));
    if is_one {
        return Err(in_quotes(line, start, end));
    }
    Ok(())
}

fn in_quotes(line: &Line<'_>, start: usize, end: usize) -> Inside {
    let problem = Problem::error(
        line.span(start, end),
        "this value ends in a colon, which makes a key of it",
    );
    problem
        .hint("put the value in quotes, as an IPv6 address such as \"fe80::\"")
        .into()
}

/// `a: 1 b: 2`: the second colon of an entry, at `colon`.
fn no_comma(line: &Line<'_>, start: usize, colon: usize) -> Inside {
    let word = line.text.get(start..colon).unwrap_or_default();
    let from = word.rfind(' ').map_or(start, |blank| start + blank + 1);
    let problem = Problem::error(line.span(from, colon), "there is no comma before this key");
    problem
        .hint("write a comma before it, or put the value in quotes if `: ` is a part of it")
        .into()
}

fn closer(open: char) -> char {
    if open == '[' {
        ']'
    } else {
        '}'
    }
}

fn kind(open: char) -> &'static str {
    if open == '[' {
        "list"
    } else {
        "mapping"
    }
}
