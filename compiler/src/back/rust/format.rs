//! Emitted tokens as text: prettyplease's, with comments and blank lines, and tables that fill their lines.

use std::iter::Peekable;

use proc_macro2::TokenStream;
use quote::quote;

use super::int;

/// Tables are broken to this width.
const WIDTH: usize = 120;

/// How the text of a table begins and, at the same indent, ends.
const TABLE: [&str; 2] = ["mod table {", "}"];

/// Comments on their way through the token stream, which has none: a macro call with a number stands for each.
#[derive(Debug, Default)]
pub(super) struct Comments {
    /// Whether there are to be any.
    pub wanted: bool,
    /// In the order of their numbers.
    pub all: Vec<String>,
}

impl Comments {
    /// The mark of a comment line before an element of a list.
    pub fn mark(&mut self, text: String) -> TokenStream {
        if !self.wanted {
            return TokenStream::new();
        }
        self.all.push(text.replace(char::is_control, " "));
        let number = int(self.all.len() - 1);
        quote! { mnc_comment!(#number), }
    }
}

/// The comment that a line is the mark of.
fn comment<'a>(code: &str, comments: &'a [String]) -> Option<&'a str> {
    let number = code.strip_prefix("mnc_comment!(")?.strip_suffix("),")?;
    comments.get(number.parse::<usize>().ok()?).map(String::as_str)
}

/// Formats items nearly as rustfmt would, and puts `comments` where their marks are.
///
/// # Panics
/// If `items` are not Rust items: a mistake in this back end.
#[must_use]
pub fn format(items: TokenStream, comments: &[String]) -> String {
    let file = syn::parse2::<syn::File>(items).expect("the Rust back end emits items");
    let text = prettyplease::unparse(&file);
    let mut out = String::with_capacity(text.len());
    let mut previous = "";
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        // prettyplease leaves no line between items
        let after_item = previous == format!("{indent}}}") && indent.len() <= 4 && code != "}";
        let after_use = indent.is_empty() && previous.ends_with(';') && !previous.starts_with(' ');
        if after_item || after_use {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
        previous = line;
        if code == TABLE[0] {
            Table { out: &mut out, comments }.items(&read(&mut lines), indent.len() + 4);
        }
    }
    out
}

/// What prettyplease broke into lines.
enum Piece<'a> {
    /// A line by itself.
    Line(&'a str),
    /// Lines between brackets.
    Group { open: &'a str, inner: Vec<Piece<'a>>, close: &'a str },
}

/// Reads up to the closing bracket, which stays.
fn read<'a>(lines: &mut Peekable<impl Iterator<Item = &'a str>>) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    while let Some(line) = lines.next_if(|l| !l.trim_start().starts_with(['}', ']', ')'])) {
        let line = line.trim();
        pieces.push(if line.ends_with(['{', '[', '(']) {
            let inner = read(lines);
            Piece::Group { open: line, inner, close: lines.next().unwrap_or_default().trim() }
        } else {
            Piece::Line(line)
        });
    }
    pieces
}

impl Piece<'_> {
    /// All of it on one line, where it is an element of a list without comments.
    fn flat(&self) -> Option<String> {
        match self {
            Self::Line(line) => (line.ends_with(',') && !line.starts_with("mnc_comment!")).then(|| (*line).to_owned()),
            Self::Group { open, inner, close } => {
                let inner = inner.iter().map(Self::flat).collect::<Option<Vec<_>>>()?.join(" ");
                let inner = inner.trim_end_matches(',');
                Some(if open.ends_with('{') && !open.starts_with("use ") {
                    format!("{open} {inner} {close}")
                } else {
                    format!("{open}{inner}{close}")
                })
            }
        }
    }
}

/// Writes what is in a table.
struct Table<'a> {
    out: &'a mut String,
    comments: &'a [String],
}

impl Table<'_> {
    fn line(&mut self, indent: usize, text: &str) {
        self.out.extend(std::iter::repeat_n(' ', indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    /// Items, with a blank line behind those of several lines.
    fn items(&mut self, pieces: &[Piece<'_>], indent: usize) {
        for (i, piece) in pieces.iter().enumerate() {
            if i > 0 && matches!(piece, Piece::Line(l) if l.starts_with("///")) {
                self.out.push('\n');
            }
            self.list(std::slice::from_ref(piece), indent);
        }
    }

    /// Elements: as many short ones on a line as fit, groups on lines of their own.
    fn list(&mut self, pieces: &[Piece<'_>], indent: usize) {
        let mut short = String::new();
        for piece in pieces {
            match (piece, piece.flat()) {
                (Piece::Line(_), Some(text)) => {
                    if indent + short.len() + 1 + text.len() > WIDTH {
                        self.flush(&mut short, indent);
                    }
                    if !short.is_empty() {
                        short.push(' ');
                    }
                    short.push_str(&text);
                }
                (Piece::Line(line), None) => {
                    self.flush(&mut short, indent);
                    match comment(line, self.comments) {
                        Some(text) => self.line(indent, &format!("// {text}")),
                        None => self.line(indent, line),
                    }
                }
                (Piece::Group { .. }, Some(text)) if indent + text.len() <= WIDTH => {
                    self.flush(&mut short, indent);
                    self.line(indent, &text);
                }
                (Piece::Group { open, inner, close }, _) => {
                    self.flush(&mut short, indent);
                    self.line(indent, open);
                    self.list(inner, indent + 4);
                    self.line(indent, close);
                }
            }
        }
        self.flush(&mut short, indent);
    }

    /// Ends a line of short elements.
    fn flush(&mut self, short: &mut String, indent: usize) {
        if !short.is_empty() {
            self.line(indent, short);
            short.clear();
        }
    }
}
