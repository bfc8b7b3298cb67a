//! How deep a macro call's tokens may be nested, seen before anything goes down into them.
//!
//! syn parses what is nested by recursion without a limit, as does the grammar of specs here, and the end of the stack is the end of
//! the compiler. Two bounds, found without recursion, keep both from it: groups lie in few others, and what syn parses as an
//! expression, the value of an attribute, has few tokens: each level of an expression needs one, whatever it is made of.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// Most groups around a token. A spec needs four.
pub const MAX_DEPTH: usize = 64;
/// Most tokens of an attribute's value, but for what it gives to a macro.
pub const MAX_VALUE: usize = 100;

/// Whether `tokens` may be parsed.
///
/// # Errors
/// The first token that is too deep, or one too many.
pub fn check(tokens: &TokenStream) -> syn::Result<()> {
    let mut open = vec![(tokens.clone(), 0)];
    while let Some((tokens, depth)) = open.pop() {
        let mut after_pound = false;
        for token in flat(tokens)? {
            let is_attribute = std::mem::replace(&mut after_pound, is_punct(&token, '#'));
            if let TokenTree::Group(group) = token {
                if depth == MAX_DEPTH {
                    return Err(too_deep(&group));
                }
                if is_attribute {
                    check_attribute(group.stream())?;
                }
                open.push((group.stream(), depth + 1));
            }
        }
    }
    Ok(())
}

/// Whether the value of the attribute `tokens` is short. Lists (`derive(…)`) are not parsed, but for that of `unsafe(…)`.
fn check_attribute(tokens: TokenStream) -> syn::Result<()> {
    let all = flat(tokens)?;
    let is_unsafe = matches!(all.first(), Some(TokenTree::Ident(i)) if i == "unsafe");
    if !is_unsafe && !all.iter().any(|t| is_punct(t, '=')) {
        return Ok(());
    }
    let mut count = 0;
    let mut open = vec![all];
    while let Some(tokens) = open.pop() {
        let mut after_bang = false;
        for token in tokens {
            count += 1;
            if count > MAX_VALUE {
                let message = format!("the value of an attribute has more than {MAX_VALUE} tokens");
                return Err(syn::Error::new(token.span(), message));
            }
            let is_call = std::mem::replace(&mut after_bang, is_punct(&token, '!'));
            if let TokenTree::Group(group) = token
                && !is_call
            {
                open.push(flat(group.stream())?);
            }
        }
    }
    Ok(())
}

fn is_punct(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(p) if p.as_char() == c)
}

/// The tokens with what stands in groups without delimiters, as macros put around what they were given, in their place.
fn flat(tokens: TokenStream) -> syn::Result<Vec<TokenTree>> {
    let mut out = Vec::new();
    let mut open = vec![tokens.into_iter()];
    while let Some(last) = open.last_mut() {
        match last.next() {
            None => drop(open.pop()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::None => {
                if open.len() > MAX_DEPTH {
                    return Err(too_deep(&group));
                }
                open.push(group.stream().into_iter());
            }
            Some(token) => out.push(token),
        }
    }
    Ok(out)
}

fn too_deep(group: &Group) -> syn::Error {
    syn::Error::new(group.span_open(), format!("tokens are nested in more than {MAX_DEPTH} groups"))
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn error(text: &str) -> Option<String> {
        check(&TokenStream::from_str(text).unwrap()).err().map(|e| e.to_string())
    }

    #[test]
    fn what_is_nested_deep_is_refused() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(error(&nested(MAX_DEPTH)), None);
        assert!(error(&nested(MAX_DEPTH + 1)).unwrap().contains("more than 64 groups"));
        assert!(error(&format!("struct A {{ a {{ b: {} }} }}", nested(2000))).is_some());
        let hidden = |n: usize| {
            let bare = |tokens, _| TokenTree::Group(Group::new(Delimiter::None, tokens)).into();
            check(&(0..n).fold(TokenStream::from_str("#[a = 1]").unwrap(), bare))
        };
        assert!(hidden(10).is_ok() && hidden(1000).is_err());
    }

    #[test]
    fn values_of_attributes_are_short() {
        for prefix in ["= <", "<", "-", "!", "&", "| |", "return", "fn() ->", "a = ", "if", "a::<"] {
            let run = format!("{prefix} ").repeat(300);
            for attribute in [format!("#[a = {run}]"), format!("#[unsafe(a = {run})]"), format!("#[a = (({run}))]")] {
                // What proc-macro2 has no tokens for cannot come here.
                let Ok(tokens) = TokenStream::from_str(&format!("{attribute} struct A {{}}")) else { continue };
                let error = check(&tokens).expect_err(&attribute).to_string();
                assert!(error.contains("attribute"), "{attribute}: {error}");
            }
        }
        // What a macro was given stands in groups that are not seen.
        let value = TokenStream::from_str(&format!("a = {}", "-".repeat(300))).unwrap();
        let hidden = TokenStream::from(TokenTree::Group(Group::new(Delimiter::None, value)));
        let attribute = TokenTree::Group(Group::new(Delimiter::Bracket, hidden));
        let pound = TokenStream::from_str("#").unwrap();
        assert!(check(&pound.into_iter().chain([attribute]).collect()).is_err());
        let long = "Clone, ".repeat(300);
        for fine in [
            &format!("#[derive({long})] struct A {{}}"),
            &format!("#[doc = concat!({long})] struct A {{}}"),
            "#[doc = \"a\"] struct A {}",
        ] {
            assert_eq!(error(fine), None, "{fine}");
        }
    }
}
