//! The spec written in place: tokens to the tree that the front end checks.
//!
//! ```text
//! section = word table                    net { … }   weights { … }   passes { … }   plan { … }
//!         | "block" word table            block conv { kernel: 3, out: 32 }
//!         | "layer" word table            layer conv { name: stem, kernel: 3, out: 32 }
//! table   = "{" ( key (":" | "=") value ),* "}"
//! value   = table | "[" value,* "]" | string | number | "true" | "false" | word
//! key     = ( word | string ) ( "." ( word | number ) )*
//! ```
//! A span of the tree is a range of indices into [`Tokens`].

use std::ops::Range;
use std::sync::Arc;

use mnc_compiler::diag::{Source, Span as TreeSpan};
use mnc_compiler::front::value::{Kind, Table, Value};
use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{Lit, LitInt, LitStr, Token, braced, bracketed};

use super::nesting::MAX_DEPTH;

/// The name of the source that token spans point into.
pub const SOURCE: &str = "mobilenet_net!";

/// Where the user's tokens stand.
pub struct Tokens {
    spans: Vec<Span>,
    source: Arc<Source>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { spans: Vec::new(), source: Arc::new(Source { name: SOURCE.into(), text: String::new() }) }
    }
}

impl Tokens {
    /// Remembers a token.
    fn add(&mut self, span: Span) -> Range<usize> {
        self.spans.push(span);
        self.spans.len() - 1..self.spans.len()
    }

    fn tree_span(&self, range: Range<usize>) -> TreeSpan {
        TreeSpan { source: self.source.clone(), range }
    }

    /// First and last token of `range`.
    pub fn ends(&self, range: &Range<usize>) -> Option<(Span, Span)> {
        let spans = self.spans.get(range.clone())?;
        Some((*spans.first()?, *spans.last()?))
    }
}

/// A dotted key.
pub struct Key {
    segments: Vec<(String, Range<usize>)>,
}

impl Key {
    /// The segments with dots between them.
    pub fn name(&self) -> String {
        self.segments.iter().map(|s| s.0.as_str()).collect::<Vec<_>>().join(".")
    }

    /// All its tokens.
    pub fn tokens(&self) -> Range<usize> {
        match (self.segments.first(), self.segments.last()) {
            (Some(first), Some(last)) => first.1.start..last.1.end,
            _ => 0..0,
        }
    }
}

/// The sections between a struct's braces. `net.name` is the struct's name where it is not given.
pub fn root(input: ParseStream, name: &Ident, tokens: &mut Tokens) -> syn::Result<Value> {
    let mut root = Table::default();
    // lists of what has a kind or an op in front of its braces
    let mut lists = [("block", "kind", Vec::new(), None), ("layer", "op", Vec::new(), None)];
    while !input.is_empty() {
        let section = input.call(Ident::parse_any)?;
        let key = tokens.add(section.span());
        if let Some((what, key_of_kind, items, first)) = lists.iter_mut().find(|l| section == l.0) {
            if !input.peek(syn::Ident::peek_any) && !input.peek(LitStr) {
                return Err(input.error(format!("expected the {key_of_kind} of the {what}: `{what} conv {{ … }}`")));
            }
            let kind = word_or_string(input)?;
            let at = tokens.add(kind.1);
            let mut block = table(input, tokens)?;
            if let Kind::Table(table) = &mut block.kind {
                let value = Value::string(tokens.tree_span(at.clone()), kind.0);
                table.push(*key_of_kind, tokens.tree_span(at), value);
            }
            block.span = tokens.tree_span(key.clone());
            items.push(block);
            first.get_or_insert(key);
        } else {
            let mut value = table(input, tokens)?;
            value.span = tokens.tree_span(key.clone());
            root.push(section.to_string(), tokens.tree_span(key), value);
        }
        if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
        }
    }
    let name_at = tokens.add(name.span());
    if let Some(net) = root.entries.iter_mut().find(|e| e.key == "net")
        && let Kind::Table(net) = &mut net.value.kind
        && net.get("name").is_none()
    {
        let value = Value::string(tokens.tree_span(name_at.clone()), snake_case(&name.to_string()));
        net.push("name", tokens.tree_span(name_at.clone()), value);
    }
    for (what, _, items, first) in lists {
        if let Some(key) = first {
            let items = Value::array(tokens.tree_span(key.clone()), items);
            root.push(what, tokens.tree_span(key), items);
        }
    }
    Ok(Value::table(tokens.tree_span(name_at), root))
}

/// `MobilenetV1` as a spec would be named: `mobilenet_v1`.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// `{ key: value, … }`
fn table(input: ParseStream, tokens: &mut Tokens) -> syn::Result<Value> {
    let body;
    let brace = braced!(body in input);
    let span = tokens.add(brace.span.join());
    let mut table = Table::default();
    while !body.is_empty() {
        let key = key(&body, tokens)?;
        if body.peek(Token![:]) {
            body.parse::<Token![:]>()?;
        } else if body.peek(Token![=]) {
            body.parse::<Token![=]>()?;
        } else {
            return Err(body.error(format!("expected `: value` after `{}`", key.name())));
        }
        let value = value(&body, tokens)?;
        insert(&mut table, &key.segments, value, tokens);
        if !body.is_empty() {
            body.parse::<Token![,]>()?;
        }
    }
    Ok(Value::table(tokens.tree_span(span), table))
}

/// Adds `key = value`, going into (or making) a table for every segment but the last.
fn insert(table: &mut Table, key: &[(String, Range<usize>)], value: Value, tokens: &Tokens) {
    let [(first, at), rest @ ..] = key else { return };
    let span = tokens.tree_span(at.clone());
    if rest.is_empty() {
        table.push(first, span, value);
        return;
    }
    let place = table.entries.iter().position(|e| e.key == *first && e.value.as_table().is_some());
    let place = place.unwrap_or_else(|| {
        table.push(first, span.clone(), Value::table(span, Table::default()));
        table.entries.len() - 1
    });
    if let Kind::Table(inner) = &mut table.entries[place].value.kind {
        insert(inner, rest, value, tokens);
    }
}

/// A key, dotted or not.
pub fn key(input: ParseStream, tokens: &mut Tokens) -> syn::Result<Key> {
    if !input.peek(syn::Ident::peek_any) && !input.peek(LitStr) {
        return Err(input.error("expected a key"));
    }
    let (first, span) = word_or_string(input)?;
    let mut segments = vec![(first, tokens.add(span))];
    while input.peek(Token![.]) {
        input.parse::<Token![.]>()?;
        let (segment, span) = if input.peek(LitInt) {
            let number: LitInt = input.parse()?;
            (number.to_string(), number.span())
        } else {
            word_or_string(input)?
        };
        // Each is a table within the one before.
        if segments.len() == MAX_DEPTH {
            return Err(syn::Error::new(span, format!("a key of more than {MAX_DEPTH} parts")));
        }
        segments.push((segment, tokens.add(span)));
    }
    Ok(Key { segments })
}

fn word_or_string(input: ParseStream) -> syn::Result<(String, Span)> {
    if input.peek(LitStr) {
        let text: LitStr = input.parse()?;
        return Ok((text.value(), text.span()));
    }
    let word = input.call(Ident::parse_any)?;
    Ok((word.unraw().to_string(), word.span()))
}

/// A value.
pub fn value(input: ParseStream, tokens: &mut Tokens) -> syn::Result<Value> {
    if input.peek(syn::token::Brace) {
        return table(input, tokens);
    }
    if input.peek(syn::token::Bracket) {
        let body;
        let bracket = bracketed!(body in input);
        let span = tokens.add(bracket.span.join());
        let mut items = Vec::new();
        while !body.is_empty() {
            items.push(value(&body, tokens)?);
            if !body.is_empty() {
                body.parse::<Token![,]>()?;
            }
        }
        return Ok(Value::array(tokens.tree_span(span), items));
    }
    let minus: Option<Token![-]> = input.parse()?;
    let start = minus.map(|m| tokens.add(m.span).start);
    if minus.is_none() && !input.peek(Lit) && input.peek(syn::Ident::peek_any) {
        let (word, span) = word_or_string(input)?;
        let at = tokens.add(span);
        return Ok(Value::string(tokens.tree_span(at), word));
    }
    let Ok(literal) = input.parse::<Lit>() else {
        return Err(input.error("expected a value: a number, a string, a word, `[…]` or `{…}`"));
    };
    let at = tokens.add(literal.span());
    let span = tokens.tree_span(start.unwrap_or(at.start)..at.end);
    let sign = if minus.is_some() { "-" } else { "" };
    match &literal {
        Lit::Int(n) if n.suffix().is_empty() => match format!("{sign}{}", n.base10_digits()).parse() {
            Ok(n) => Ok(Value::integer(span, n)),
            Err(_) => Err(syn::Error::new(literal.span(), "this integer does not fit in 64 bits")),
        },
        Lit::Float(f) if f.suffix().is_empty() => match format!("{sign}{}", f.base10_digits()).parse() {
            Ok(f) => Ok(Value::float(span, f)),
            Err(_) => Err(syn::Error::new(literal.span(), "this is not a number")),
        },
        Lit::Str(s) if minus.is_none() => Ok(Value::string(span, s.value())),
        Lit::Bool(b) if minus.is_none() => Ok(Value::bool(span, b.value)),
        _ => Err(syn::Error::new(literal.span(), "expected a number without suffix, a string, `true` or `false`")),
    }
}

/// `value` as TOML text, for the settings.
pub fn toml(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match &value.kind {
        Kind::Table(table) => {
            let entries = table.entries.iter().map(|e| format!("{} = {}", toml_string(&e.key), toml(&e.value))).collect();
            format!("{{ {} }}", list(entries))
        }
        Kind::Array(items) => format!("[{}]", list(items.iter().map(toml).collect())),
        Kind::String(text) => toml_string(text),
        Kind::Integer(n) => n.to_string(),
        Kind::Float(f) => format!("{f:?}"),
        Kind::Bool(b) => b.to_string(),
    }
}

fn toml_string(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> syn::Result<Value> {
        let mut tokens = Tokens::default();
        let name = Ident::new("TinyNet", Span::call_site());
        syn::parse::Parser::parse_str(|input: ParseStream| root(input, &name, &mut tokens), text)
    }

    #[test]
    fn sections_blocks_and_dotted_keys_make_the_tree_of_the_same_toml() {
        let value = parse(
            r#"net { input.height: 32, input = { width: -1.5 }, activation: relu6 }
               block conv { kernel: 3, sizes: [1, 2,], }
               weights { "a b": true }
               block "dense" {}"#,
        )
        .unwrap();
        assert_eq!(
            toml(&value),
            r#"{ "net" = { "input" = { "height" = 32 }, "input" = { "width" = -1.5 }, "activation" = "relu6", "name" = "tiny_net" }, "weights" = { "a b" = true }, "block" = [{ "kernel" = 3, "sizes" = [1, 2], "kind" = "conv" }, { "kind" = "dense" }] }"#
        );
    }

    #[test]
    fn what_is_not_the_grammar_is_refused_with_what_was_expected() {
        for (text, expected) in [
            ("net", "braces"),
            ("block { out: 3 }", "kind of the block"),
            ("net { a 1 }", "expected `: value` after `a`"),
            ("net { a: }", "expected a value"),
            ("net { a: 1u8 }", "without suffix"),
            ("net { a: 'c' }", "expected a number"),
            ("net { a: 99999999999999999999 }", "64 bits"),
            ("net { a: -true }", "expected a number"),
            ("net { 3: 1 }", "expected a key"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = parse(&format!("net {{ a{}: 1 }}", ".a".repeat(1000))).unwrap_err().to_string();
        assert!(long.contains("more than 64 parts"), "{long}");
    }
}
