//! Choices of stages that were measured instead of modelled, and the file beside the spec that keeps them.
//!
//! `mnc compile net.toml --tune` writes `net.tune.toml`:
//!
//! ```toml
//! mnc = "0.1.0"               # version of the compiler; another one may plan otherwise
//! network = "5f0c…"           # hash of the graph that is planned, weights apart
//! cpu = "AMD EPYC"
//! isa = "avx512"
//! threads = 1
//! date = "2026-11-23"
//! before_ms = 3.2             # an inference as the model chose, and as measurement did
//! after_ms = 3.1
//! gaps = true                 # whether pixels that would collide in the cache stand further apart
//!
//! [[stage]]                   # layers that are in no stage are stages of their own
//! last = "block2.0.project"
//! layers = 3
//! strip = 2
//! split = "alone"             # or "rows", "channels"
//! ```
//! The file is used by whoever compiles the spec while version, network, threads and `[plan]` fit; else it is ignored with a
//! warning. Weights may change: time does not depend on them.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::{Net, PlanOptions, Prefer, Stream, check, read_text, value};
use crate::diag::{Diagnostic, Diagnostics, Severity};
use crate::ir::{self, Graph};

/// The compiler's version, as tuning files name it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Longest file that is read.
const MAX_BYTES: u64 = 1 << 20;
/// The mend of whatever is wrong with a tuning file.
const MEND: &str = "tune again with `mnc compile SPEC --tune`, or delete the file";

/// How threads share a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// The first thread does it alone.
    Alone,
    /// A band of output rows of the last step each.
    Rows,
    /// A band of output channels each, in units of [`mnc_runtime::pack::PANEL`]; stages of one step only.
    Channels,
}

impl Split {
    /// The words of the file.
    pub const WORDS: [(&'static str, Self); 3] = [("alone", Self::Alone), ("rows", Self::Rows), ("channels", Self::Channels)];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Rows => "rows",
            Self::Channels => "channels",
        }
    }
}

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Its last layer.
    pub last: String,
    /// How many layers it has, that one included.
    pub layers: usize,
    /// Output rows of the last layer computed at a time; all of them in a stage of one layer, whatever stands here.
    pub strip: usize,
    /// How threads share it.
    pub split: Split,
}

/// What the planner need not choose itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Decisions {
    /// Whether tensors get gaps between pixels where they would collide in the cache.
    pub gaps: bool,
    /// Layers that are in none of these are stages of their own, shared as the model thinks best.
    pub stages: Vec<Decision>,
}

/// Decisions with what they were made for and on.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// Version of the compiler.
    pub mnc: String,
    /// [`network`] of the graph.
    pub network: String,
    /// Name of the CPU.
    pub cpu: String,
    /// Name of the instruction set.
    pub isa: String,
    /// Threads of the plan.
    pub threads: usize,
    /// Day, `2026-11-23`.
    pub date: String,
    /// Milliseconds of an inference as the model chose.
    pub before_ms: f64,
    /// Milliseconds of an inference with the decisions.
    pub after_ms: f64,
    /// What was decided.
    pub decisions: Decisions,
}

/// Hash of what a plan depends on in `graph`: everything but the content of its weights.
#[must_use]
pub fn network(graph: &Graph) -> String {
    format!("{:032x}", xxh3_128(ir::print::text(graph).as_bytes()))
}

/// Where the decisions for the spec at `spec` are kept: `net.tune.toml` beside `net.toml`.
#[must_use]
pub fn path(spec: &Path) -> PathBuf {
    spec.with_extension("tune.toml")
}

impl Tuned {
    /// The file.
    #[must_use]
    pub fn text(&self) -> String {
        // Rust's escapes of text are TOML's but for those of what cannot be printed, which no name has.
        let quoted =
            |s: &str| format!("\"{}\"", s.replace(|c: char| c.is_control(), " ").replace('\\', "\\\\").replace('"', "\\\""));
        let mut out = String::from(
            "# Stages chosen by measurement: `mnc compile --tune` wrote this, and whoever compiles the spec beside it reads it.\n",
        );
        for (key, text) in [("mnc", &self.mnc), ("network", &self.network), ("cpu", &self.cpu), ("isa", &self.isa)] {
            let _ = writeln!(out, "{key} = {}", quoted(text));
        }
        let Decisions { gaps, stages } = &self.decisions;
        let _ = writeln!(out, "threads = {}\ndate = {}", self.threads, quoted(&self.date));
        let _ = writeln!(out, "before_ms = {:.4}\nafter_ms = {:.4}\ngaps = {gaps}", self.before_ms, self.after_ms);
        for Decision { last, layers, strip, split } in stages {
            let (last, split) = (quoted(last), split.word());
            let _ = writeln!(out, "\n[[stage]]\nlast = {last}\nlayers = {layers}\nstrip = {strip}\nsplit = \"{split}\"");
        }
        out
    }

    /// Reads the `text` of a file that the user calls `name`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, name: &str) -> Result<Self, Diagnostics> {
        check::tuned(&value::parse_toml(text, name)?)
    }

    /// Why these are not decisions for a plan of `graph` by `options`.
    #[must_use]
    pub fn stale(&self, graph: &Graph, options: &PlanOptions) -> Option<String> {
        if self.mnc != VERSION {
            return Some(format!("it was made by mnc {}, this is {VERSION}", self.mnc));
        }
        if self.network != network(graph) {
            return Some("it was made for another network: the spec, its overrides or its passes have changed".to_owned());
        }
        if self.threads != options.threads {
            return Some(format!("it was made for threads = {}, the plan has {}", self.threads, options.threads));
        }
        let fits = options.prefer == Prefer::Speed && options.stream == Stream::Auto;
        (!fits).then(|| "it is for plans that prefer speed and stream where it serves that; `[plan]` says otherwise".to_owned())
    }

    /// The warning that a file with these decisions is ignored.
    #[must_use]
    pub fn ignored(why: &str) -> Diagnostic {
        Diagnostic::warning(format!("the measured choice of stages is not used: {why}")).help(MEND)
    }
}

/// Gives `net`, made of the spec at `spec`, what stands in the tuning file beside it, if there is one, and lists the file among the
/// net's; what is wrong with it are warnings.
pub fn attach(net: &mut Net, spec: &Path, warnings: &mut Diagnostics) {
    let path = path(spec);
    let shown = path.display();
    let text = match read_text(&path, MAX_BYTES) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
        Err(e) => {
            warnings.push(Tuned::ignored(&format!("`{shown}` cannot be read: {e}")));
            return;
        }
    };
    net.files.push(path.clone());
    match Tuned::parse(&text, &shown.to_string()) {
        Ok(tuned) => net.tuned = Some(tuned),
        Err(mistakes) => {
            // One is enough to know that the file was not written by the tuner.
            let first = mistakes.into_iter().next().unwrap_or_else(|| Diagnostic::warning("it says nothing"));
            let message = format!("the measured choice of stages is not used: {}", first.message);
            warnings.push(Diagnostic { severity: Severity::Warning, message, label: first.label, help: Some(MEND.to_owned()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuned() -> Tuned {
        let stage = |last: &str, layers, strip, split| Decision { last: last.into(), layers, strip, split };
        Tuned {
            mnc: VERSION.into(),
            network: "00ff".into(),
            cpu: "a \"fast\" CPU\\2".into(),
            isa: "avx2".into(),
            threads: 2,
            date: "2026-11-23".into(),
            before_ms: 3.25,
            after_ms: 3.125,
            decisions: Decisions {
                gaps: false,
                stages: vec![stage("block1.project", 3, 2, Split::Rows), stage("dense", 1, 1, Split::Channels)],
            },
        }
    }

    #[test]
    fn decisions_go_round() {
        assert_eq!(Tuned::parse(&tuned().text(), "net.tune.toml"), Ok(tuned()));
        let none = Tuned { decisions: Decisions { gaps: true, stages: Vec::new() }, ..tuned() };
        assert_eq!(Tuned::parse(&none.text(), "net.tune.toml"), Ok(none));
        assert_eq!(path(Path::new("nets/a.b.toml")), Path::new("nets/a.b.tune.toml"));
    }

    #[test]
    fn garbled_files_name_the_place() {
        for (from, to, message) in [
            ("gaps = false", "gaps = 7", "expected true or false"),
            ("split = \"rows\"", "split = \"row\"", "`row` is none of"),
            ("strip = 2", "strip = 0", "0 is not within"),
            ("layers = 3", "layer = 3", "needs the key `layers`"),
            ("threads = 2", "threads = 1000", "1000 is not within"),
            ("mnc = ", "mnc ", "expected"),
        ] {
            let text = tuned().text().replacen(from, to, 1);
            let mistakes = Tuned::parse(&text, "net.tune.toml").expect_err(from);
            let found = mistakes.iter().any(|d| d.message.contains(message) || message == "expected");
            assert!(found && mistakes.iter().all(|d| d.label.is_some()), "{from}: {mistakes:?}");
        }
    }
}
