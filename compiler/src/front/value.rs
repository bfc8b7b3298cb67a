//! A spec as a tree of values, each with the place it stands at; not yet known to mean anything.
//!
//! The tree is made from TOML text ([`parse_toml`]) or, by the macro, from tokens ([`Value::table`], [`Value::array`], …).
//! Checking (`front/check/`) sees only this tree, so both inputs accept the same grammar and get the same diagnostics.
//! Keys may repeat in a table made from tokens; the checker reports that.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diag::{Diagnostic, Diagnostics, Source, Span};

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The value's own text, without its key. For a table under a header: the header.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a [`Value`] is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// `{ key = value, … }` or the lines under a `[header]`.
    Table(Table),
    /// `[value, …]`, or all the tables under one `[[header]]`.
    Array(Vec<Value>),
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// Any other number, infinite and NaN included.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
}

impl Kind {
    /// What the user would call it: "a string".
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Table(_) => "a table",
            Kind::Array(_) => "an array",
            Kind::String(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a float",
            Kind::Bool(_) => "a boolean",
        }
    }
}

/// Keys with values, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// All of them; a key that stands here twice is a mistake which the checker reports.
    pub entries: Vec<Entry>,
}

/// One `key = value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, unquoted, one segment (`a.b = 1` is a table in a table).
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Value,
}

impl Table {
    /// The first value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|e| e.key == key).map(|e| &e.value)
    }

    /// Adds `key = value` at the end, even if the key is there already.
    pub fn push(&mut self, key: impl Into<String>, key_span: Span, value: Value) {
        self.entries.push(Entry { key: key.into(), key_span, value });
    }
}

impl Value {
    /// A table at `span`.
    #[must_use]
    pub fn table(span: Span, table: Table) -> Self {
        Self { span, kind: Kind::Table(table) }
    }

    /// An array at `span`.
    #[must_use]
    pub fn array(span: Span, items: Vec<Value>) -> Self {
        Self { span, kind: Kind::Array(items) }
    }

    /// A string at `span`.
    #[must_use]
    pub fn string(span: Span, text: impl Into<String>) -> Self {
        Self { span, kind: Kind::String(text.into()) }
    }

    /// An integer at `span`.
    #[must_use]
    pub fn integer(span: Span, number: i64) -> Self {
        Self { span, kind: Kind::Integer(number) }
    }

    /// A float at `span`.
    #[must_use]
    pub fn float(span: Span, number: f64) -> Self {
        Self { span, kind: Kind::Float(number) }
    }

    /// A boolean at `span`.
    #[must_use]
    pub fn bool(span: Span, truth: bool) -> Self {
        Self { span, kind: Kind::Bool(truth) }
    }

    /// The table, if it is one.
    #[must_use]
    pub fn as_table(&self) -> Option<&Table> {
        match &self.kind {
            Kind::Table(table) => Some(table),
            Kind::Array(_) | Kind::String(_) | Kind::Integer(_) | Kind::Float(_) | Kind::Bool(_) => None,
        }
    }
}

/// Parses TOML `text` that the user calls `name` (its path).
///
/// # Errors
/// Everything that is not TOML, with its place; dates, and integers beyond 64 bits.
pub fn parse_toml(text: &str, name: &str) -> Result<Value, Diagnostics> {
    let source = Arc::new(Source { name: name.into(), text: text.into() });
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(errors
            .iter()
            .take(MAX_SYNTAX_ERRORS)
            .map(|e| {
                let range = e.span().unwrap_or(0..0);
                let span = Span { source: source.clone(), range };
                Diagnostic::error(format!("this is not TOML: {}", e.message())).at(&span, "")
            })
            .collect());
    }
    let mut diagnostics = Diagnostics::new();
    let span = Span { source: source.clone(), range: 0..0 };
    let root = Value::table(span, convert_table(table.get_ref(), &source, &mut diagnostics));
    if diagnostics.is_empty() { Ok(root) } else { Err(diagnostics) }
}

/// After so many the rest are consequences of the first.
const MAX_SYNTAX_ERRORS: usize = 5;

fn convert_table(table: &DeTable<'_>, source: &Arc<Source>, diagnostics: &mut Diagnostics) -> Table {
    let mut out = Table::default();
    for (key, value) in table {
        let key_span = Span { source: source.clone(), range: key.span() };
        if let Some(value) = convert(value, source, diagnostics) {
            out.push(key.get_ref().as_ref(), key_span, value);
        }
    }
    out.entries.sort_by_key(|e| e.key_span.range.start);
    out
}

fn convert(value: &Spanned<DeValue<'_>>, source: &Arc<Source>, diagnostics: &mut Diagnostics) -> Option<Value> {
    let span = Span { source: source.clone(), range: value.span() };
    let kind = match value.get_ref() {
        DeValue::String(s) => Kind::String(s.as_ref().into()),
        DeValue::Integer(i) => match i64::from_str_radix(i.as_str(), i.radix()) {
            Ok(i) => Kind::Integer(i),
            Err(_) => {
                diagnostics.push(Diagnostic::error("this integer does not fit in 64 bits").at(&span, "too large"));
                return None;
            }
        },
        DeValue::Float(f) => match f.as_str().parse() {
            Ok(f) => Kind::Float(f),
            Err(_) => {
                diagnostics.push(Diagnostic::error("this is not a number").at(&span, ""));
                return None;
            }
        },
        DeValue::Boolean(b) => Kind::Bool(*b),
        DeValue::Datetime(_) => {
            diagnostics.push(Diagnostic::error("a spec has no dates").at(&span, "expected a number, a string or a table"));
            return None;
        }
        DeValue::Array(items) => Kind::Array(items.iter().filter_map(|v| convert(v, source, diagnostics)).collect()),
        DeValue::Table(table) => Kind::Table(convert_table(table, source, diagnostics)),
    };
    Some(Value { span, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_point_at_values_and_keys() {
        let text = "[net]\nalpha = 0.5\n[[block]]\nkind = \"conv\"\n";
        let root = parse_toml(text, "x.toml").unwrap();
        let net = root.as_table().unwrap().get("net").unwrap();
        let alpha = &net.as_table().unwrap().entries[0];
        assert_eq!(&text[alpha.key_span.range.clone()], "alpha");
        assert_eq!(&text[alpha.value.span.range.clone()], "0.5");
        assert_eq!(&text[net.span.range.clone()], "[net]");
        let Kind::Array(blocks) = &root.as_table().unwrap().get("block").unwrap().kind else { panic!("an array") };
        assert_eq!(&text[blocks[0].span.range.clone()], "[[block]]");
    }

    #[test]
    fn syntax_errors_dates_and_huge_integers_are_diagnostics() {
        for text in ["a = = 1", "a = [", "a = 1979-05-27", "a = 99999999999999999999", "a = 1\na = 2", "\u{0}"] {
            assert!(parse_toml(text, "x.toml").is_err(), "{text}");
        }
        let Kind::Float(f) = parse_toml("a = inf", "x").unwrap().as_table().unwrap().get("a").unwrap().kind else {
            panic!("a float")
        };
        assert!(f.is_infinite());
    }
}
