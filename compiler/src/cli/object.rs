//! A net as an object file in a C program, so that `mnc verify` runs what `mnc compile --emit obj` writes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::console::file_error;
use super::{Failure, output};
use crate::Compiled;
use crate::back::clif::{Object, ObjectOptions, RUNTIME_FILE, object};
use crate::diag::Diagnostic;

/// The C compiler.
const CC: &str = "cc";

/// What the program is called.
const PROGRAM: &str = "net";

/// Reads inputs and what the outputs hold before from standard input, and writes the outputs. For the net `@n`, in capitals `@N`.
const MAIN: &str = r#"#include <stdio.h>
#include "@n.h"
static float file[@N_WEIGHTS_FILE_BYTES / 4], input[@N_INPUT_LEN], output[@N_OUTPUT_LEN];
static struct { _Alignas(@N_ALIGN) float floats[@N_ARENA_BYTES / 4 + 1]; } arena;
int main(void) {
    const float *weights;
    const char *wrong = NULL;
    FILE *f = fopen("@n.weights", "rb");
    size_t size = f ? fread(file, 1, sizeof file, f) : 0;
    if ((wrong = @n_weights(file, size, &weights)) || (wrong = @n_weights_intact(file))) {
        fprintf(stderr, "%s\n", wrong);
        return 3;
    }
    if (fread(input, sizeof input, 1, stdin) != 1 || fread(output, sizeof output, 1, stdin) != 1) return 4;
    @n_run(weights, input, output, arena.floats);
    return fwrite(output, sizeof output, 1, stdout) == 1 ? 0 : 5;
}
"#;

/// A program that runs a net once, in a folder that goes with it.
pub(super) struct ObjectNet {
    folder: TempDir,
    self_contained: bool,
}

/// A program, or why there can be none on this machine.
pub(super) enum Built {
    Program(ObjectNet),
    Skipped(String),
}

impl ObjectNet {
    /// Compiles, links and starts it once.
    pub fn build(net: &Compiled, self_contained: bool) -> Result<Built, Failure> {
        let known = cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")));
        if !known {
            return Ok(Built::Skipped("they are for Linux on x86-64 and aarch64, and this is another machine".to_owned()));
        }
        if !Command::new(CC).arg("--version").output().is_ok_and(|o| o.status.success()) {
            return Ok(Built::Skipped(format!("there is no C compiler (`{CC}`) here to link them")));
        }
        let failed = |text: String| Failure::job(Diagnostic::error(text));
        let options = ObjectOptions { target: None, self_contained };
        let layered;
        let plan = if options.wants_layers().map_err(|e| Failure::job(e.diagnostic()))? {
            layered = net.layered().map_err(|e| failed(e.to_string()))?;
            &layered
        } else {
            &net.plan
        };
        let Object { bytes, header, weights, runtime, .. } = object(plan, options).map_err(|e| Failure::job(e.diagnostic()))?;
        let folder = output::folder().map_err(|e| Failure::job(file_error("write to", &std::env::temp_dir(), e)))?;
        let name = &plan.name;
        let main = MAIN.replace("@N", &name.to_uppercase()).replace("@n", name);
        let write = |file: &str, content: &[u8]| {
            let path = folder.path().join(file);
            std::fs::write(&path, content).map_err(|e| Failure::job(file_error("write", &path, e)))
        };
        write("main.c", main.as_bytes())?;
        write(&format!("{name}.o"), &bytes)?;
        write(&format!("{name}.h"), header.as_bytes())?;
        write(&format!("{name}.weights"), &weights)?;
        let mut cc = Command::new(CC);
        cc.args(["-std=c11", "-o", PROGRAM, "main.c"]).arg(format!("{name}.o")).current_dir(folder.path());
        if let Some(library) = runtime {
            write(RUNTIME_FILE, library)?;
            cc.arg(RUNTIME_FILE);
        }
        let linked = cc.output().map_err(|e| failed(format!("cannot run `{CC}`: {e}")))?;
        if !linked.status.success() {
            let said = String::from_utf8_lossy(&linked.stderr);
            return Err(failed(format!("`{CC}` cannot link the object file:\n{}", said.trim_end())));
        }
        let net = Self { folder, self_contained };
        // With nothing to read it ends at once.
        let started = net.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        Ok(match started {
            Ok(_) => Built::Program(net),
            Err(e) => Built::Skipped(format!("a program in {} cannot be started: {e}", std::env::temp_dir().display())),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.folder.path().join(PROGRAM));
        command.current_dir(self.folder.path());
        command
    }

    /// What reports call it.
    pub fn name(&self) -> &'static str {
        if self.self_contained { "object-self-contained" } else { "object" }
    }

    /// One inference; `output` holds what the program finds in its output.
    pub fn run(&self, input: &[f32], output: &mut [f32]) -> Result<(), Failure> {
        let failed = |text: String| Failure::job(Diagnostic::error(format!("the program of the object file {text}")));
        let bytes: Vec<u8> = input.iter().chain(&*output).flat_map(|v| v.to_le_bytes()).collect();
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(format!("cannot be started: {e}")))?;
        // It reads everything before it writes, and closes its end when it is done; where it dies before, its status says so.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(&bytes);
        }
        let done = child.wait_with_output().map_err(|e| failed(format!("cannot be waited for: {e}")))?;
        if !done.status.success() || done.stdout.len() != output.len() * 4 {
            let said = String::from_utf8_lossy(&done.stderr);
            return Err(failed(format!("failed ({}): {}", done.status, said.trim_end())));
        }
        for (y, bytes) in output.iter_mut().zip(done.stdout.as_chunks().0) {
            *y = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}
