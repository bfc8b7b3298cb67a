//! The macro's grammar. The files are the macro crate's own, which as a procedural macro exports nothing else.

use std::str::FromStr;

use proc_macro2::TokenStream;

#[expect(dead_code, reason = "the macro reads more of it")]
#[path = "../../../macros/src/inline.rs"]
mod inline;
#[expect(dead_code, reason = "the macro reads more of it")]
#[path = "../../../macros/src/input.rs"]
mod input;
#[path = "../../../macros/src/nesting.rs"]
mod nesting;

/// A macro call's text as tokens: parsed, and an inline spec the way of any spec, with the settings.
pub fn tokens(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(stream) = TokenStream::from_str(&text) else { return };
    let input = match input::parse(stream) {
        Ok(input) => input,
        Err(e) => return drop(e.to_compile_error()),
    };
    for net in &input.nets {
        let sets: Vec<(String, String)> = net.sets.iter().map(|s| (s.key.clone(), s.value.clone())).collect();
        if let input::Spec::Inline(root) = &net.spec {
            inline::toml(root);
            super::spec::tree(root, &sets);
        }
    }
}
