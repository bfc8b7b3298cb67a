//! From the macro's tokens to the struct's: compile the spec, or take what an earlier expansion left in the cache.

use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use mnc_compiler::back::rust::{self, WeightSource};
use mnc_compiler::diag::{Diagnostic, Diagnostics, Severity, render};
use mnc_compiler::front::value::{Value, parse_toml};
use mnc_compiler::front::{self, Net};
use proc_macro2::{Literal, TokenStream};
use quote::quote;

use crate::cache::{self, Entry, Slot};
use crate::input::{self, NetInput, Spec};
use crate::{inline, report};

/// Expands a whole macro call.
///
/// # Errors
/// All mistakes of all structs, each at its tokens.
pub fn expand(input: TokenStream) -> syn::Result<TokenStream> {
    let input = input::parse(input)?;
    let mut out = TokenStream::new();
    let mut errors: Option<syn::Error> = None;
    for net in &input.nets {
        match expand_net(net) {
            Ok(tokens) => out.extend(tokens),
            Err(error) => match &mut errors {
                Some(errors) => errors.combine(error),
                None => errors = Some(error),
            },
        }
    }
    errors.map_or(Ok(out), Err)
}

fn expand_net(net: &NetInput) -> syn::Result<TokenStream> {
    let dir = crate_dir();
    let (spec, base, spec_text) = match &net.spec {
        Spec::File(path) => {
            let file = dir.join(path.value());
            // A model, which may be large, is among the net's files: its content is looked at with theirs.
            let text = if front::is_model(&file) { Ok(path.value()) } else { std::fs::read_to_string(&file) };
            let text = text.map_err(|e| report::error(net, &[unreadable(&path.value(), &file, &e)]))?;
            (Some(file.clone()), file.parent().unwrap_or(&dir).to_owned(), text)
        }
        Spec::Inline(value) => (None, dir.clone(), inline::toml(value)),
    };
    let sets: Vec<(String, String)> = net.sets.iter().map(|s| (s.key.clone(), s.value.clone())).collect();
    let checkpoint = net.weights.as_ref().and_then(|w| w.file.as_ref()).map(|f| dir.join(f));
    let is_extern = net.weights.as_ref().is_some_and(|w| w.file.is_none());

    let name = net.name.to_string();
    let base_text = base.to_string_lossy();
    let checkpoint_text = checkpoint.as_ref().map_or("", |c| c.to_str().unwrap_or("?"));
    let sets_text = format!("{sets:?} {is_extern}");
    // A file that was not there when the net was compiled is in no list of files.
    let tuning = spec.as_ref().and_then(|s| std::fs::read_to_string(front::tune::path(s)).ok()).unwrap_or_default();
    let slot = Slot::new(&name, &dir, &[&spec_text, &base_text, checkpoint_text, &sets_text, &tuning]);
    let entry = match slot.find() {
        Some(entry) => entry,
        None => {
            let load = || -> Result<(Net, Diagnostics), Diagnostics> {
                let parsed: Value;
                if let Some(model) = spec.as_ref().filter(|s| front::is_model(s)) {
                    return front::load(model, &sets, checkpoint.as_deref());
                }
                let root = match &net.spec {
                    Spec::Inline(value) => value,
                    Spec::File(path) => {
                        parsed = parse_toml(&spec_text, &path.value())?;
                        &parsed
                    }
                };
                let (mut net, mut warnings) = front::check_and_lower(root, &base, &sets, checkpoint.as_deref())?;
                if let Some(spec) = &spec {
                    front::tune::attach(&mut net, spec, &mut warnings);
                }
                Ok((net, warnings))
            };
            let (compiled_net, warnings) = load().map_err(|d| report::error(net, &d))?;
            compile(compiled_net, warnings, &slot, &name, spec, is_extern).map_err(|d| report::error(net, &d))?
        }
    };
    tokens(net, &entry, is_extern)
}

/// Compiles `net` and puts it into the cache.
fn compile(
    net: Net,
    mut warnings: Diagnostics,
    slot: &Slot,
    name: &str,
    spec: Option<PathBuf>,
    is_extern: bool,
) -> Result<Entry, Diagnostics> {
    let mut files: Vec<PathBuf> = spec.into_iter().chain(net.files.iter().cloned()).map(|f| cache::absolute(&f)).collect();
    files.sort();
    files.dedup();
    let compiled = mnc_compiler::compile(net).map_err(|e| vec![Diagnostic::error(e.to_string())])?;
    warnings.extend(compiled.warnings.iter().cloned());
    let failed = |e: std::io::Error| {
        vec![
            Diagnostic::error(format!("the compiled net cannot be kept: {e}"))
                .help("set MNC_CACHE_DIR to a directory that can be written"),
        ]
    };
    let mut source = if is_extern { WeightSource::Extern } else { WeightSource::Embedded(String::new()) };
    let weights = rust::weight_file(&compiled.plan, &source);
    let path = slot.weights_path(&files, weights.extension).map_err(failed)?;
    if let WeightSource::Embedded(embedded) = &mut source {
        *embedded = path.to_string_lossy().into_owned();
    }
    let options = rust::Options {
        type_name: name.to_owned(),
        docs: Vec::new(),
        weights: source,
        weights_from: compiled.weights_from.clone(),
    };
    let parts = rust::parts(&compiled.plan, &options);
    let entry = Entry {
        arena_floats: parts.arena_floats,
        docs: parts.docs,
        warnings: warnings
            .iter()
            .filter(|d| d.severity == Severity::Warning)
            .map(|d| render(std::slice::from_ref(d), false))
            .collect(),
        files,
        weights: path,
        body: rust::format(parts.body, &parts.comments),
    };
    slot.store(&entry, &weights.bytes).map_err(failed)?;
    Ok(entry)
}

/// The struct with the user's own tokens, the emitted items out of the way of the user's names, and a mention of every file
/// for cargo to watch.
fn tokens(net: &NetInput, entry: &Entry, is_extern: bool) -> syn::Result<TokenStream> {
    let NetInput { attrs, vis, name, .. } = net;
    let body = TokenStream::from_str(&entry.body)
        .map_err(|e| syn::Error::new(name.span(), format!("the cached net cannot be read: {e}")))?;
    let floats = Literal::usize_unsuffixed(entry.arena_floats);
    let mut docs = entry.docs.clone();
    if attrs.iter().any(|a| a.path().is_ident("doc")) {
        docs.insert(0, String::new());
    }
    let files = entry.files.iter().filter_map(|f| f.to_str());
    let warnings = entry.warnings.iter().map(|w| report::warning(report::home(net), w));
    let weight_file = is_extern.then(|| {
        let path = entry.weights.to_string_lossy();
        quote! {
            #[allow(dead_code, reason = "no program needs every item of a net")]
            impl #name {
                /// The weight file that belongs to this net, on the machine that the net was compiled on.
                pub const WEIGHT_FILE: &'static str = #path;
            }
        }
    });
    Ok(quote! {
        #(#attrs)*
        #(#[doc = #docs])*
        #vis struct #name {
            arena: ::mnc::runtime::arena::Arena<#floats>,
        }
        const _: () = {
            #body
            #weight_file
            #(const _: &[u8] = include_bytes!(#files);)*
        };
        #(#warnings)*
    })
}

/// The directory of the user's `Cargo.toml`.
pub fn crate_dir() -> PathBuf {
    cache::absolute(Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into())))
}

fn unreadable(name: &str, path: &Path, error: &std::io::Error) -> Diagnostic {
    let at = path.display();
    Diagnostic::error(format!("cannot read the spec `{name}`: {error}"))
        .help(format!("the path is relative to the directory of Cargo.toml; this is `{at}`"))
}
