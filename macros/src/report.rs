//! Diagnostics as rustc errors: at the user's tokens where they are about tokens, otherwise at the spec's path with the
//! offending line shown in the message.

use mnc_compiler::diag::{Diagnostic, render};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;

use crate::inline::SOURCE;
use crate::input::{NetInput, Spec};

/// Where an error of `net` goes that is about nothing more precise: the path of the spec, or the struct's name.
pub fn home(net: &NetInput) -> Span {
    match &net.spec {
        Spec::File(path) => path.span(),
        Spec::Inline(_) => net.name.span(),
    }
}

/// All of `diagnostics` as one error, each at its place.
pub fn error(net: &NetInput, diagnostics: &[Diagnostic]) -> syn::Error {
    let mut all: Option<syn::Error> = None;
    for d in diagnostics {
        let error = one(net, d);
        match &mut all {
            Some(all) => all.combine(error),
            None => all = Some(error),
        }
    }
    all.unwrap_or_else(|| syn::Error::new(home(net), "the net could not be compiled"))
}

fn one(net: &NetInput, d: &Diagnostic) -> syn::Error {
    match token_ends(net, d) {
        Some(ends) => at(ends, &plain(d)),
        None => {
            let mut text = render(std::slice::from_ref(d), false);
            let mut span = home(net);
            // what is wrong with a checkpoint named in the settings is shown there, under the name that the user gave it
            if let Some(weights) = &net.weights
                && let Some(file) = weights.file.as_ref().filter(|_| d.label.is_none())
                && let Some(path) = crate::expand::crate_dir().join(file).to_str().filter(|p| text.contains(p))
            {
                text = text.replace(path, file);
                span = weights.span;
            }
            // rustc writes `error: ` itself
            syn::Error::new(span, text.strip_prefix("error: ").unwrap_or(&text).trim_end())
        }
    }
}

/// The tokens that `d` is about: its own, or those of the setting whose text it points into.
fn token_ends(net: &NetInput, d: &Diagnostic) -> Option<(Span, Span)> {
    let (span, _) = d.label.as_ref()?;
    if span.source.name == SOURCE && span.source.text.is_empty() {
        return net.tokens.ends(&span.range);
    }
    let set = net.sets.iter().find(|s| span.source.name == "--set" && span.source.text == format!("{}={}", s.key, s.value))?;
    let in_value = span.range.start > set.key.len();
    net.tokens.ends(if in_value { &set.value_tokens } else { &set.key_tokens })
}

/// The message in words alone: the place is shown by rustc.
fn plain(d: &Diagnostic) -> String {
    let mut text = d.message.clone();
    if let Some((_, label)) = &d.label
        && !label.is_empty()
    {
        text.push_str(": ");
        text.push_str(label);
    }
    if let Some(help) = &d.help {
        text.push_str("\n\n  help: ");
        text.push_str(help);
    }
    text
}

/// An error from the first token to the last.
fn at((first, last): (Span, Span), message: &str) -> syn::Error {
    let mut tokens = TokenStream::new();
    for span in [first, last] {
        tokens.extend([proc_macro2::TokenTree::Ident(Ident::new("_place", span))]);
    }
    syn::Error::new_spanned(tokens, message)
}

/// Items that make rustc warn with `text` at `span`: a use of something deprecated is the one warning a macro can cause.
pub fn warning(span: Span, text: &str) -> TokenStream {
    quote_spanned! { span =>
        const _: () = {
            #[deprecated(note = #text)]
            const SPEC: () = ();
            SPEC
        };
    }
}
