//! The grammar around a spec: attributes, visibility, name, settings, and the spec itself.
//!
//! ```text
//! input   = net*
//! net     = attribute* visibility "struct" name settings? ( "=" string ";" | "{" section* "}" )
//! settings= "<" ( key "=" value ),* ">"        key = word ( "." word )*
//! ```
//! Sections and values are in [`super::inline`].

use std::ops::Range;

use mnc_compiler::front::value::{Kind, Value};
use proc_macro2::{Ident, Span, TokenStream};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, LitStr, Token, Visibility, braced};

use super::inline::{self, Tokens};
use super::nesting;

/// One struct to make.
pub struct NetInput {
    /// Doc comments and others, for the struct.
    pub attrs: Vec<Attribute>,
    /// Of the struct.
    pub vis: Visibility,
    /// Of the struct.
    pub name: Ident,
    /// Changes to the spec, in order.
    pub sets: Vec<Setting>,
    /// Where the weights come from, if that is set here.
    pub weights: Option<WeightsSetting>,
    /// The spec.
    pub spec: Spec,
    /// The user's tokens that spans of [`Spec::Inline`] point into.
    pub tokens: Tokens,
}

/// `alpha = 0.25`
pub struct Setting {
    /// Dotted.
    pub key: String,
    /// As TOML.
    pub value: String,
    /// Tokens of the key.
    pub key_tokens: Range<usize>,
    /// Tokens of the value.
    pub value_tokens: Range<usize>,
}

/// `weights = "…"`
pub struct WeightsSetting {
    /// The checkpoint; `None` for `"extern"`.
    pub file: Option<String>,
    /// Of the string.
    pub span: Span,
}

/// A spec in a file or in place.
pub enum Spec {
    /// Its path.
    File(LitStr),
    /// Its tree.
    Inline(Value),
}

/// All structs of one macro call.
pub struct Input {
    /// In the order they are written.
    pub nets: Vec<NetInput>,
}

/// Parses a macro call's tokens.
///
/// # Errors
/// They are nested too deep, or not of the grammar.
pub fn parse(tokens: TokenStream) -> syn::Result<Input> {
    nesting::check(&tokens)?;
    syn::parse2(tokens)
}

impl Parse for Input {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        if input.is_empty() {
            return Err(input.error("expected a struct: `pub struct Name = \"spec.toml\";`"));
        }
        let mut nets = Vec::new();
        while !input.is_empty() {
            nets.push(input.parse()?);
        }
        Ok(Self { nets })
    }
}

impl Parse for NetInput {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        input.parse::<Token![struct]>()?;
        let name: Ident = input.parse()?;
        let mut tokens = Tokens::default();
        let (mut sets, mut weights) = (Vec::new(), None);
        if input.peek(Token![<]) {
            parse_settings(input, &mut tokens, &mut sets, &mut weights)?;
        }
        let spec = if input.peek(syn::token::Brace) {
            let body;
            braced!(body in input);
            Spec::Inline(inline::root(&body, &name, &mut tokens)?)
        } else {
            if !input.peek(Token![=]) {
                return Err(input.error("expected `= \"spec.toml\";` or the spec in braces"));
            }
            input.parse::<Token![=]>()?;
            let path = input.parse()?;
            input.parse::<Token![;]>()?;
            Spec::File(path)
        };
        Ok(Self { attrs, vis, name, sets, weights, spec, tokens })
    }
}

fn parse_settings(
    input: ParseStream,
    tokens: &mut Tokens,
    sets: &mut Vec<Setting>,
    weights: &mut Option<WeightsSetting>,
) -> syn::Result<()> {
    input.parse::<Token![<]>()?;
    while !input.peek(Token![>]) {
        let key = inline::key(input, tokens)?;
        input.parse::<Token![=]>()?;
        let span = input.span();
        let value = inline::value(input, tokens)?;
        if key.name() == "weights" {
            let Kind::String(file) = value.kind else {
                return Err(syn::Error::new(span, "expected the path of a checkpoint, or \"extern\""));
            };
            *weights = Some(WeightsSetting { file: (file != "extern").then_some(file), span });
        } else {
            sets.push(Setting {
                key: key.name(),
                value: inline::toml(&value),
                key_tokens: key.tokens(),
                value_tokens: value.span.range,
            });
        }
        if !input.peek(Token![>]) {
            input.parse::<Token![,]>()?;
        }
    }
    input.parse::<Token![>]>()?;
    Ok(())
}
