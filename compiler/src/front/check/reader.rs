//! Reads typed values out of a table and collects what is wrong with them.
//!
//! A getter returns `None` for a missing key and for a bad value alike, after reporting the latter, so that checking goes on
//! with a default. [`Reader::finish`] reports the keys nobody asked for.

use std::ops::RangeInclusive;

use crate::diag::{Diagnostic, Diagnostics, Span, nearest};
use crate::front::value::{Kind, Table, Value};

/// One table being read.
pub(crate) struct Reader<'a> {
    table: &'a Table,
    /// Where the table stands, for missing keys.
    pub(super) span: &'a Span,
    /// What the user would call it: "`[net]`".
    pub(super) what: String,
    known: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(table: &'a Table, span: &'a Span, what: impl Into<String>) -> Self {
        Self { table, span, what: what.into(), known: Vec::new() }
    }

    /// The value of `key`, which from now on is a known key.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.table.get(key)
    }

    /// The value of `key`, or an error that it is missing.
    pub(super) fn need(&mut self, key: &'static str, example: &str, out: &mut Diagnostics) -> Option<&'a Value> {
        let value = self.get(key);
        if value.is_none() {
            let message = format!("{} needs the key `{key}`", self.what);
            out.push(Diagnostic::error(message).at(self.span, "").help(format!("for example `{example}`")));
        }
        value
    }

    /// Reports unknown and repeated keys.
    pub(super) fn finish(self, out: &mut Diagnostics) {
        for (index, entry) in self.table.entries.iter().enumerate() {
            let key = entry.key.as_str();
            if !self.known.contains(&key) {
                let d = Diagnostic::error(format!("{} has no key `{key}`", self.what)).at(&entry.key_span, "unknown key");
                out.push(match nearest(key, self.known.iter().copied()) {
                    Some(near) => d.help(format!("did you mean `{near}`?")),
                    None => d.help(format!("its keys are {}", list(&self.known))),
                });
            } else if self.table.entries[..index].iter().any(|e| e.key == key) {
                out.push(Diagnostic::error(format!("`{key}` is there twice")).at(&entry.key_span, "again here"));
            }
        }
    }
}

/// `a, b and c`, each quoted.
pub(super) fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        None => "none".into(),
        Some((one, [])) => one.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// Reports a value of the wrong type.
fn wrong(value: &Value, expected: &str, out: &mut Diagnostics) {
    let message = format!("expected {expected}, found {}", value.kind.name());
    out.push(Diagnostic::error(message).at(&value.span, format!("this should be {expected}")));
}

/// A whole number within `range`.
pub(super) fn int(value: &Value, range: RangeInclusive<usize>, out: &mut Diagnostics) -> Option<usize> {
    let Kind::Integer(i) = value.kind else {
        wrong(value, "an integer", out);
        return None;
    };
    match usize::try_from(i) {
        Ok(i) if range.contains(&i) => Some(i),
        _ => {
            let message = format!("{i} is not within {} to {}", range.start(), range.end());
            out.push(Diagnostic::error(message).at(&value.span, "out of range"));
            None
        }
    }
}

/// A number for which `ok` holds; `expected` says which numbers those are.
pub(super) fn number(value: &Value, expected: &str, ok: impl Fn(f64) -> bool, out: &mut Diagnostics) -> Option<f64> {
    let number = match value.kind {
        Kind::Integer(i) => i as f64,
        Kind::Float(f) => f,
        Kind::Table(_) | Kind::Array(_) | Kind::String(_) | Kind::Bool(_) => {
            wrong(value, "a number", out);
            return None;
        }
    };
    if number.is_finite() && ok(number) {
        return Some(number);
    }
    out.push(Diagnostic::error(format!("expected {expected}, found {number}")).at(&value.span, "out of range"));
    None
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value, out: &mut Diagnostics) -> Option<bool> {
    if let Kind::Bool(b) = value.kind {
        return Some(b);
    }
    wrong(value, "true or false", out);
    None
}

/// Text.
pub(super) fn string<'a>(value: &'a Value, out: &mut Diagnostics) -> Option<&'a str> {
    if let Kind::String(s) = &value.kind {
        return Some(s);
    }
    wrong(value, "a string", out);
    None
}

/// A table.
pub(super) fn table<'a>(value: &'a Value, out: &mut Diagnostics) -> Option<&'a Table> {
    let table = value.as_table();
    if table.is_none() {
        wrong(value, "a table", out);
    }
    table
}

/// An array.
pub(super) fn array<'a>(value: &'a Value, expected: &str, out: &mut Diagnostics) -> Option<&'a [Value]> {
    if let Kind::Array(items) = &value.kind {
        return Some(items);
    }
    wrong(value, expected, out);
    None
}

/// One of the words of `choices`.
pub(super) fn word<T: Copy>(value: &Value, choices: &[(&'static str, T)], out: &mut Diagnostics) -> Option<T> {
    let word = string(value, out)?;
    if let Some(&(_, choice)) = choices.iter().find(|(name, _)| *name == word) {
        return Some(choice);
    }
    let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
    let d = Diagnostic::error(format!("`{word}` is none of {}", list(&names))).at(&value.span, "unknown word");
    out.push(match nearest(&word.to_lowercase(), names) {
        Some(near) => d.help(format!("did you mean `{near}`?")),
        None => d,
    });
    None
}

/// A number for rows and columns alike, or `[rows, columns]`.
pub(super) fn pair(value: &Value, range: RangeInclusive<usize>, out: &mut Diagnostics) -> Option<[usize; 2]> {
    match &value.kind {
        Kind::Integer(_) => int(value, range, out).map(|i| [i, i]),
        Kind::Array(items) if items.len() == 2 => {
            let y = int(&items[0], range.clone(), out);
            let x = int(&items[1], range, out);
            Some([y?, x?])
        }
        Kind::Array(_) | Kind::Table(_) | Kind::String(_) | Kind::Float(_) | Kind::Bool(_) => {
            wrong(value, "an integer or [rows, columns]", out);
            None
        }
    }
}
