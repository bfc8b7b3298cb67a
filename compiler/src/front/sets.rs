//! `--set KEY=VALUE`: changes to a spec's tree before it is checked.
//!
//! A key is a dotted path. It starts at the root if its first segment is one of the root's keys (`passes.separate`,
//! `block.3.out`), else in `[net]` (`alpha`, `input.height`); a number picks an element of an array. The value is TOML
//! (`0.5`, `[1, 2]`, `"text"`); what is not TOML is taken as a string (`structure`). Whether the key means anything is for
//! the checker to say, which points into the text of the `--set`.

use std::ops::Range;
use std::sync::Arc;

use super::value::{Entry, Kind, Table, Value, parse_toml};
use crate::diag::{Diagnostic, Diagnostics, Source, Span};

/// Tables of the root that a key may start with.
const ROOTS: [&str; 6] = ["net", "weights", "passes", "plan", "block", "layer"];

/// Applies `sets` in order to `root`.
///
/// # Errors
/// One diagnostic a set that goes nowhere: an empty key, a path through something that is not a table.
pub fn apply(root: &mut Value, sets: &[(String, String)]) -> Result<(), Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    for (key, value) in sets {
        if let Err(d) = apply_one(root, key, value) {
            diagnostics.push(d);
        }
    }
    if diagnostics.is_empty() { Ok(()) } else { Err(diagnostics) }
}

/// Splits the text of one `--set` at the first `=`.
///
/// # Errors
/// Without an `=`, or with nothing before it.
pub fn split(text: &str) -> Result<(String, String), Diagnostic> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().into(), value.trim().into())),
        _ => {
            let source = Arc::new(Source { name: "--set".into(), text: text.into() });
            let span = Span { source, range: 0..text.len() };
            Err(Diagnostic::error("a setting has the form KEY=VALUE").at(&span, "").help("for example `--set alpha=0.5`"))
        }
    }
}

fn apply_one(root: &mut Value, key: &str, text: &str) -> Result<(), Diagnostic> {
    let source = Arc::new(Source { name: "--set".into(), text: format!("{key}={text}") });
    let at = |range: Range<usize>| Span { source: source.clone(), range };
    let value_span = at(key.len() + 1..source.text.len());
    let mut segments = Vec::new();
    let mut start = 0;
    for segment in key.split('.') {
        if segment.trim().is_empty() {
            return Err(Diagnostic::error("this setting has an empty key").at(&at(0..key.len()), "expected KEY=VALUE"));
        }
        segments.push((segment.trim(), at(start..start + segment.len())));
        start += segment.len() + 1;
    }
    if !ROOTS.contains(&segments[0].0) {
        segments.insert(0, ("net", at(0..key.len())));
    }
    let value = parse_value(text, &value_span);
    let (last, path) = segments.split_last().expect("a key has a segment");
    let mut place = root;
    for (segment, span) in path {
        place = step(place, segment, span)?;
    }
    put(place, last.0, &last.1, value)
}

/// The value at `segment` of `place`; a table is made where there is nothing.
fn step<'a>(place: &'a mut Value, segment: &str, span: &Span) -> Result<&'a mut Value, Diagnostic> {
    let what = place.kind.name();
    match &mut place.kind {
        Kind::Table(table) => {
            let index = match table.entries.iter().position(|e| e.key == segment) {
                Some(index) => index,
                None => {
                    table.push(segment, span.clone(), Value::table(span.clone(), Table::default()));
                    table.entries.len() - 1
                }
            };
            Ok(&mut table.entries[index].value)
        }
        Kind::Array(items) => {
            let n = items.len();
            let item = segment.parse::<usize>().ok().and_then(|i| items.get_mut(i));
            item.ok_or_else(|| Diagnostic::error(format!("`{segment}` is no index from 0 to {}", n.max(1) - 1)).at(span, ""))
        }
        Kind::String(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_) => {
            let message = format!("`{segment}` would be inside {what}");
            Err(Diagnostic::error(message).at(span, "there are no keys here"))
        }
    }
}

/// Replaces or adds `key` in `place`.
fn put(place: &mut Value, key: &str, span: &Span, value: Value) -> Result<(), Diagnostic> {
    if let Kind::Table(table) = &mut place.kind {
        match table.entries.iter_mut().find(|e| e.key == key) {
            Some(entry) => *entry = Entry { key: key.into(), key_span: span.clone(), value },
            None => table.push(key, span.clone(), value),
        }
        Ok(())
    } else {
        *step(place, key, span)? = value;
        Ok(())
    }
}

/// `text` as TOML, every span being `span`; as a string if it is not TOML.
fn parse_value(text: &str, span: &Span) -> Value {
    let parsed = parse_toml(&format!("v = {text}"), "--set").ok();
    let value = parsed.and_then(|root| match root.kind {
        Kind::Table(mut table) if table.entries.len() == 1 => table.entries.pop().filter(|e| e.key == "v").map(|e| e.value),
        _ => None,
    });
    let mut value = value.unwrap_or_else(|| Value::string(span.clone(), text));
    respan(&mut value, span);
    value
}

fn respan(value: &mut Value, span: &Span) {
    value.span = span.clone();
    match &mut value.kind {
        Kind::Table(table) => {
            for entry in &mut table.entries {
                entry.key_span = span.clone();
                respan(&mut entry.value, span);
            }
        }
        Kind::Array(items) => items.iter_mut().for_each(|v| respan(v, span)),
        Kind::String(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        parse_toml("[net]\nalpha = 1.0\ninput = { height = 224 }\n[[block]]\nkind = \"conv\"\n", "x.toml").unwrap()
    }

    fn get<'a>(root: &'a Value, path: &[&str]) -> &'a Kind {
        let mut value = root;
        for key in path {
            value = match &value.kind {
                Kind::Array(items) => &items[key.parse::<usize>().unwrap()],
                _ => value.as_table().unwrap().get(key).unwrap(),
            };
        }
        &value.kind
    }

    #[test]
    fn keys_are_relative_to_net_or_absolute() {
        let mut root = spec();
        let sets = [
            ("alpha", "0.5"),
            ("input.height", "160"),
            ("passes.separate", "structure"),
            ("net.name", "\"x\""),
            ("block.0.out", "[1, 2]"),
        ];
        apply(&mut root, &sets.map(|(k, v)| (k.to_string(), v.to_string()))).unwrap();
        assert_eq!(get(&root, &["net", "alpha"]), &Kind::Float(0.5));
        assert_eq!(get(&root, &["net", "input", "height"]), &Kind::Integer(160));
        assert_eq!(get(&root, &["passes", "separate"]), &Kind::String("structure".into()));
        assert_eq!(get(&root, &["net", "name"]), &Kind::String("x".into()));
        assert_eq!(get(&root, &["block", "0", "out", "1"]), &Kind::Integer(2));
    }

    #[test]
    fn nonsense_is_refused() {
        for key in ["", ".", "alpha.x", "block.7.out", "block.x.out", "net..alpha"] {
            assert!(apply(&mut spec(), &[(key.into(), "1".into())]).is_err(), "{key}");
        }
        assert!(split("alpha").is_err());
        assert!(split("=1").is_err());
        assert_eq!(split("a=b=c").unwrap(), ("a".into(), "b=c".into()));
    }
}
