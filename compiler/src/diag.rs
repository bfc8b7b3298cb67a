//! Diagnostics: the one form in which anything wrong with an input reaches a user.
//!
//! Core code collects [`Diagnostic`]s and prints nothing. A diagnostic points into a [`Source`] (a spec file, the text of a
//! `--set`, a macro's tokens); [`render`] draws it as rustc draws its own errors, the macro crate turns it into a `syn::Error`.

use std::ops::Range;
use std::sync::Arc;

/// A named piece of input text that spans point into.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// What the user calls it: a path, `--set`, or the macro's name.
    pub name: String,
    /// The whole text. Empty for a source whose spans are indices into a table of tokens.
    pub text: String,
}

/// A place in a [`Source`]: a byte range of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Where the range points.
    pub source: Arc<Source>,
    /// Bytes of `source.text`, or token indices where that text is empty.
    pub range: Range<usize>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The job cannot be done.
    Error,
    /// The job is done; the user should know.
    Warning,
}

/// One thing wrong with an input: the place, what was expected, and the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// One sentence, lower case, without a full stop.
    pub message: String,
    /// The offending text, where there is one, and what to write under it.
    pub label: Option<(Span, String)>,
    /// How to mend it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place in a text (a missing file, say).
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), label: None, help: None }
    }

    /// A warning without a place in a text.
    #[must_use]
    pub fn warning(message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message) }
    }

    /// The same, pointing at `span` with `label` written under it.
    #[must_use]
    pub fn at(mut self, span: &Span, label: impl Into<String>) -> Self {
        self.label = Some((span.clone(), label.into()));
        self
    }

    /// The same, with a suggestion.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All the mistakes of one input.
pub type Diagnostics = Vec<Diagnostic>;

/// Draws `diagnostics` as text, one after another, with the offending lines underlined; `color` adds ANSI colours.
#[must_use]
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for d in diagnostics {
        let level = match d.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level.primary_title(d.message.as_str()).elements(std::iter::empty::<annotate_snippets::Element<'_>>());
        if let Some((span, label)) = &d.label {
            if span.source.text.is_empty() {
                group = group.element(annotate_snippets::Origin::path(span.source.name.as_str()));
            } else {
                let end = span.range.end.min(span.source.text.len());
                let range = span.range.start.min(end)..end;
                group = group.element(
                    Snippet::source(span.source.text.as_str())
                        .path(span.source.name.as_str())
                        .annotation(AnnotationKind::Primary.span(range).label(label.as_str())),
                );
            }
        }
        if let Some(help) = &d.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        out.push_str(&renderer.render(&[group]));
        out.push('\n');
    }
    out
}

/// Longest word, in bytes, that is compared with others: the work grows with the square.
const MAX_WORD: usize = 256;

/// The candidate nearest to `word`, if it is near enough to be a slip of the pen.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let short = |c: &&str| c.len() <= MAX_WORD && word.len() <= MAX_WORD;
    candidates
        .into_iter()
        .filter(short)
        .map(|c| (edit_distance(word, c), c))
        .filter(|&(d, c)| d <= 1 + c.len().min(word.len()) / 4)
        .min_by_key(|&(d, _)| d)
        .map(|(_, c)| c)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let next = (diagonal + usize::from(ca != cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}
