//! One function a target: bytes in, a panic where mnc does what it must not.
//!
//! Most only ask that nothing panics, hangs or takes memory without end. Beyond that: what is accepted must compile, its plan must
//! pass `certify`, what `mnc import` writes of it must load again, and every engine must agree with the reference.

mod draw;
mod net;
mod picture;
mod spec;
mod tokens;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use mnc_compiler::diag::{self, Diagnostics};
use mnc_compiler::front::{self, Net};
use mnc_compiler::plan::certify::certify;
use mnc_compiler::{CompileError, compile};

pub use net::{engines, planner};
pub use picture::picture;
pub use spec::{checkpoint, spec};
pub use tokens::tokens;

/// A target's name and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const ALL: [Target; 8] = [
    ("spec", spec),
    ("tokens", tokens),
    ("checkpoint", checkpoint),
    ("onnx", onnx),
    ("tflite", tflite),
    ("picture", picture),
    ("planner", planner),
    ("engines", engines),
];

/// An ONNX model's bytes: read, compiled, written as a spec and read again.
pub fn onnx(data: &[u8]) {
    model(data, "onnx");
}

/// The same of a TFLite model's.
pub fn tflite(data: &[u8]) {
    model(data, "tflite");
}

fn model(data: &[u8], extension: &str) {
    let scratch = Scratch::take();
    let file = scratch.file(&format!("model.{extension}"), data);
    match front::load(&file, &[], None) {
        Err(mistakes) => shown(&mistakes),
        Ok((net, warnings)) => {
            shown(&warnings);
            if is_small(&net) {
                rewritten(&net, &scratch);
                planned(net);
            }
        }
    }
}

/// Whether compiling is a matter of milliseconds.
fn is_small(net: &Net) -> bool {
    let elements: usize = net.graph.nodes().into_iter().map(|id| net.graph.shape(id).elements()).sum();
    net.graph.len() <= 150 && elements <= 1 << 20 && net.graph.params() <= 1 << 18 && net.graph.macs() <= 1 << 27
}

/// Mistakes are drawn without a panic, and there is at least one where something was refused.
fn shown(mistakes: &Diagnostics) {
    for d in mistakes {
        assert!(!d.message.is_empty(), "a diagnostic that says nothing");
    }
    let _ = diag::render(mistakes, false);
}

/// What `mnc import` writes of a net is a spec of the same net, as layers and as blocks.
fn rewritten(net: &Net, scratch: &Scratch) {
    if let Ok(files) = front::write(net, Path::new(""), "fuzzing")
        && files.blocks > 0
    {
        let spec = scratch.file("written.toml", &files.spec.1);
        scratch.file(files.weights.0.to_str().expect("a name"), &files.weights.1);
        let (again, _) = front::load(&spec, &[], None).unwrap_or_else(|d| panic!("{}", diag::render(&d, false)));
        assert_eq!(net.graph.macs(), again.graph.macs(), "another net came back");
    }
    // A net of nothing but inputs is refused.
    let Ok(files) = front::write_layers(net, Path::new(""), "fuzzing") else { return };
    let spec = scratch.file("written.toml", &files.spec.1);
    scratch.file(files.weights.0.to_str().expect("a name"), &files.weights.1);
    match front::load(&spec, &[], None) {
        Ok((again, _)) => {
            let print = mnc_compiler::ir::print::text;
            assert_eq!(print(&net.graph), print(&again.graph), "another net came back");
        }
        Err(mistakes) => {
            panic!("{}\n{}", diag::render(&mistakes, false), String::from_utf8_lossy(&files.spec.1));
        }
    }
}

/// Every net that was accepted compiles, and its plan is sound.
fn planned(net: Net) {
    match compile(net) {
        Ok(compiled) => certify(&compiled.plan).unwrap_or_else(|e| panic!("{}", e.join("\n"))),
        Err(CompileError::Plan(e)) => drop(e.to_string()),
        Err(CompileError::Pass(e)) => match e {
            mnc_compiler::pass::PassError::Unknown { .. } => {}
            e => panic!("{e}"),
        },
    }
}

/// A folder of this thread's own for the files that a target reads.
struct Scratch(PathBuf);

impl Scratch {
    /// The thread's, made when it is first asked for.
    fn take() -> Self {
        thread_local!(static FOLDER: RefCell<Option<PathBuf>> = const { RefCell::new(None) });
        let folder = FOLDER.with_borrow_mut(|known| {
            let make = || {
                let thread = format!("{:?}", std::thread::current().id());
                let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
                let folder = std::env::temp_dir().join(format!("mnc-fuzz-{}-{digits}", std::process::id()));
                std::fs::create_dir_all(&folder).expect("a folder for temporary files");
                folder
            };
            known.get_or_insert_with(make).clone()
        });
        Self(folder)
    }

    /// Writes a file of it.
    fn file(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, data).expect("room for a temporary file");
        path
    }
}
