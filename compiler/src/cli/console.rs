//! The two output streams: results that may meet a closed pipe, and diagnostics with colour where a terminal shows them.

use std::io::{BufWriter, ErrorKind, IsTerminal, Stdout, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};

use super::Failure;
use super::args::Spec;
use crate::Compiled;
use crate::diag::{self, Diagnostic};
use crate::front::Net;

/// Standard output and standard error.
pub(super) struct Console {
    out: BufWriter<Stdout>,
    color: bool,
    bar: ProgressBar,
}

impl Console {
    pub fn new() -> Self {
        let variable = |name| std::env::var_os(name).unwrap_or_default();
        let color = std::io::stderr().is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb";
        Self { out: BufWriter::new(std::io::stdout()), color, bar: ProgressBar::hidden() }
    }

    /// Writes `text` and a line end to standard output.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        // On a terminal each answer is seen as soon as it is there.
        let now = std::io::stdout().is_terminal();
        let written = self.bar.suspend(|| {
            writeln!(self.out, "{text}")?;
            if now { self.out.flush() } else { Ok(()) }
        });
        written.map_err(|e| stream_failure(&e))
    }

    /// One JSON object on a line of its own.
    pub fn json(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        self.line(value)
    }

    /// Hands everything to the system.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|e| stream_failure(&e))
    }

    /// Draws `diagnostics` on standard error, after the results that came before them.
    pub fn diagnostics(&mut self, diagnostics: &[Diagnostic]) {
        let _ = self.out.flush();
        let text = diag::render(diagnostics, self.color);
        self.bar.suspend(|| {
            let _ = write!(std::io::stderr(), "{text}");
        });
    }

    /// A remark for the user on standard error.
    pub fn note(&mut self, text: impl std::fmt::Display) {
        let _ = self.out.flush();
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "note: {text}");
        });
    }

    /// Starts a progress bar of `steps` if standard error is a terminal; [`Console::step`] advances it.
    pub fn progress(&mut self, steps: usize) {
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").expect("a valid template");
            self.bar = ProgressBar::new(steps as u64).with_style(style);
        }
    }

    /// Says what the bar is waiting for.
    pub fn doing(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// One step further.
    pub fn step(&self) {
        self.bar.inc(1);
    }

    /// So many steps in all, and what is done now.
    pub fn at(&self, steps: u64, what: &str) {
        self.bar.set_position(steps);
        self.bar.set_message(what.to_owned());
    }

    /// Takes the bar away.
    pub fn progress_done(&mut self) {
        std::mem::replace(&mut self.bar, ProgressBar::hidden()).finish_and_clear();
    }

    /// Shows a spinner until [`Console::progress_done`] if standard error is a terminal.
    pub fn spin(&mut self, what: &str) {
        if std::io::stderr().is_terminal() {
            self.bar = ProgressBar::new_spinner().with_message(what.to_owned());
            self.bar.enable_steady_tick(std::time::Duration::from_millis(100));
        }
    }

    /// Reads the spec with its checkpoint, says what should be known of it, and returns it.
    pub fn load(&mut self, spec: &Spec) -> Result<Net, Failure> {
        self.spin("reading");
        let loaded = crate::front::load(&spec.path, &spec.sets, spec.weights.as_deref());
        self.progress_done();
        let (net, warnings) = loaded.map_err(Failure::Input)?;
        self.diagnostics(&warnings);
        if net.weights_from.contains("seed") {
            self.note(format_args!("{}: {}", net.name, net.weights_from));
        }
        Ok(net)
    }

    /// [`Console::load`], then all passes and the plan.
    pub fn compile(&mut self, spec: &Spec) -> Result<Compiled, Failure> {
        let net = self.load(spec)?;
        self.compile_net(net)
    }

    /// All passes and the plan.
    pub fn compile_net(&mut self, net: Net) -> Result<Compiled, Failure> {
        self.spin("compiling");
        let compiled = crate::compile(net);
        self.progress_done();
        let compiled = compiled.map_err(|e| Failure::job(Diagnostic::error(e.to_string())))?;
        self.diagnostics(&compiled.warnings);
        Ok(compiled)
    }
}

/// A closed pipe is no failure; a full disk is.
fn stream_failure(e: &std::io::Error) -> Failure {
    match e.kind() {
        ErrorKind::BrokenPipe => Failure::Closed,
        _ => Failure::job(Diagnostic::error(format!("cannot write to standard output: {e}"))),
    }
}

/// A diagnostic about the file or folder `path`.
pub(super) fn file_error(what: &str, path: &Path, e: impl std::fmt::Display) -> Diagnostic {
    Diagnostic::error(format!("cannot {what} `{}`: {e}", path.display()))
}
