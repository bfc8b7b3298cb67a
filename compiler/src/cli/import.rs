//! `mnc import`: a model of another tool as a spec and a checkpoint, for people to read and edit.

use super::Failure;
use super::args::Import;
use super::console::{Console, file_error};
use super::output;
use crate::diag::Diagnostic;
use crate::front;

pub(super) fn run(args: &Import, console: &mut Console) -> Result<(), Failure> {
    let net = console.load(&args.spec)?;
    console.spin("writing");
    // The same file in another folder gives the same spec.
    let path = &args.spec.path;
    let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let from = net.weights_from.replace(&path.display().to_string(), &name);
    let write = if args.layers { front::write_layers } else { front::write };
    let written = write(&net, &args.out_dir, &from);
    console.progress_done();
    let written = written.map_err(|e| Failure::job(Diagnostic::error(e)))?;
    for (path, _) in [&written.spec, &written.weights] {
        // The model itself must not be lost, nor the checkpoint that it is made of.
        if net.files.iter().any(|f| same_file(f, path)) {
            let d = Diagnostic::error(format!("`{}` would be overwritten, which is being imported", path.display()));
            return Err(Failure::input(d.help("choose another folder with `-o DIR`, or another `--set name=…`")));
        }
    }
    std::fs::create_dir_all(&args.out_dir).map_err(|e| Failure::job(file_error("write to", &args.out_dir, e)))?;
    if !args.layers {
        match written.blocks {
            0 => console.note("not recognised as a net of the family: written as plain layers"),
            n => console.note(format_args!("recognised as a net of the family: written as {n} blocks")),
        }
    }
    // The spec last: where it is, its weights are.
    let files = [written.weights, written.spec];
    output::write_all(&files)?;
    files
        .iter()
        .rev()
        .try_for_each(|(path, bytes)| console.line(format_args!("{:>9}  {}", output::size(bytes.len()), path.display())))
}

/// Whether both paths lead to one file that is there.
fn same_file(a: &std::path::Path, b: &std::path::Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
