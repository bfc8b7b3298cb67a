//! The command line `mnc`: the only place that prints, reads arguments and writes files.
//!
//! Results go to standard output, one JSON object a line with `--json`; everything else goes to standard error. Exit code 0: done,
//! 1: the job failed, 2: bad usage or bad input; 128 and the signal's number after Ctrl-C (130), SIGTERM or SIGHUP, which leave no
//! file half written behind. A reader that closes standard output early ends the program quietly.
//!
//! One file a command (`compile`, `run`, `bench`, `import`, `show`, `verify`, `inspect`) with a `pub(super) fn run`; to add one: a file, a
//! variant of `args::Command` and an arm in [`run`](fn@run).

mod against;
mod args;
mod bench;
mod compile;
mod console;
mod engine;
mod import;
mod inspect;
mod npy;
mod object;
mod output;
mod profile;
mod run;
mod show;
mod table;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use mnc_runtime::isa::Isa;

use crate::diag::{Diagnostic, Diagnostics};
use console::Console;

/// Why a command did not finish.
enum Failure {
    /// Bad usage or bad input: exit code 2.
    Input(Diagnostics),
    /// The job failed: exit code 1.
    Job(Diagnostics),
    /// The job failed and has already said why.
    Reported,
    /// Nobody reads standard output any more: the end, but no failure.
    Closed,
}

impl Failure {
    fn input(d: Diagnostic) -> Self {
        Failure::Input(vec![d])
    }

    fn job(d: Diagnostic) -> Self {
        Failure::Job(vec![d])
    }
}

/// Refuses an `MNC_ISA` that the kernels would pass over in silence.
fn check_environment() -> Result<(), Failure> {
    let known = || Isa::available().map(Isa::name).collect::<Vec<_>>().join(", ");
    Isa::requested().map(|_| ()).map_err(|e| {
        let d = Diagnostic::error(e.to_string());
        Failure::input(d.help(format!("this machine has {}; without the variable the best is taken", known())))
    })
}

/// Ends the program on Ctrl-C and the like, without what is half written.
#[cfg(unix)]
fn end_on_signals() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

    // A file that grows beyond the limit is an error of the write that a diagnostic tells of, not the end of the program.
    let _ = signal_hook::flag::register(SIGXFSZ, std::sync::Arc::default());
    // Without the thread, signals end the program as they always do.
    let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]) else { return };
    let wait = move || {
        if let Some(signal) = signals.forever().next() {
            output::clean_up();
            // As a shell says of a program that a signal ended.
            std::process::exit(128 + signal);
        }
    };
    drop(std::thread::Builder::new().name("signals".to_owned()).spawn(wait));
}

#[cfg(not(unix))]
fn end_on_signals() {}

/// Runs `mnc` with `args`, the program's name first, and returns its exit code.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match args::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(e) => {
            // Nothing can be done about a closed stream here.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    end_on_signals();
    let mut console = Console::new();
    let done = check_environment().and_then(|()| match &args.command {
        args::Command::Compile(a) => compile::run(a, &mut console),
        args::Command::Run(a) => run::run(a, &mut console),
        args::Command::Bench(a) => bench::run(a, &mut console),
        args::Command::Import(a) => import::run(a, &mut console),
        args::Command::Show(a) => show::run(a, &mut console),
        args::Command::Verify(a) => verify::run(a, &mut console),
        args::Command::Inspect(a) => inspect::run(a, &mut console),
    });
    match done.and_then(|()| console.flush()) {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Reported) => ExitCode::from(1),
        Err(Failure::Job(d)) => {
            console.diagnostics(&d);
            ExitCode::from(1)
        }
        Err(Failure::Input(d)) => {
            console.diagnostics(&d);
            ExitCode::from(2)
        }
    }
}
