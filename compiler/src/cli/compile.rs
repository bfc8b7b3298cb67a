//! `mnc compile`: the compiled net as files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mnc_runtime::isa::Isa;

use super::args::{Compile, Emit};
use super::console::{Console, file_error};
use super::{Failure, output};
use crate::Compiled;
use crate::back::{clif, rust};
use crate::diag::Diagnostic;
use crate::front::{self, Prefer, Stream};
use crate::tune::{Outcome, tune};
use crate::{ir, plan};

/// Steps of the progress bar of `--tune`.
const PROGRESS: usize = 1000;

pub(super) fn run(args: &Compile, console: &mut Console) -> Result<(), Failure> {
    let to_stdout = args.out_dir == Path::new("-");
    let wants = |kind| args.emit.contains(&kind);
    if (args.target.is_some() || args.self_contained) && !wants(Emit::Obj) && !wants(Emit::Clif) {
        return Err(Failure::input(
            Diagnostic::error("`--target` and `--self-contained` only matter for object files and cranelift's form")
                .help("add `--emit obj`"),
        ));
    }
    if wants(Emit::Rust) && wants(Emit::RustExtern) {
        return Err(Failure::input(
            Diagnostic::error("`rust` and `rust-extern` both write NAME.rs").help("emit them into two folders"),
        ));
    }
    let options = clif::ObjectOptions { target: args.target.as_deref(), self_contained: args.self_contained };
    let files = |net: &Compiled| -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for &kind in &args.emit {
            for file in emit(kind, net, options)? {
                // Rust source and object read the same weights, if they are made from the same plan.
                match files.iter().find(|(name, _)| *name == file.0) {
                    None => files.push(file),
                    Some(same) if same.1 == file.1 => {}
                    Some((name, _)) => {
                        return Err(Failure::input(
                            Diagnostic::error(format!("Rust and this object need different files `{name}`"))
                                .help("emit them into two folders"),
                        ));
                    }
                }
            }
        }
        Ok(files)
    };
    if to_stdout {
        let [Emit::Ir | Emit::Plan | Emit::Clif | Emit::Dot] = args.emit[..] else {
            return Err(Failure::input(
                Diagnostic::error("only a single text form can go to standard output")
                    .help("write `--emit ir` (or plan, clif, dot) with `-o -`, or give a folder"),
            ));
        };
        let net = compiled(args, console)?;
        let files = files(&net)?;
        return console.line(String::from_utf8_lossy(&files[0].1).trim_end());
    }
    let net = compiled(args, console)?;
    console.spin("generating code");
    let files = files(&net);
    console.progress_done();
    let files: Vec<(PathBuf, Vec<u8>)> = files?.into_iter().map(|(name, bytes)| (args.out_dir.join(name), bytes)).collect();
    std::fs::create_dir_all(&args.out_dir).map_err(|e| Failure::job(file_error("write to", &args.out_dir, e)))?;
    output::write_all(&files)?;
    for (path, bytes) in &files {
        console.line(format_args!("{:>9}  {}", output::size(bytes.len()), path.display()))?;
    }
    Ok(())
}

/// The net, tuned first where that is asked for.
fn compiled(args: &Compile, console: &mut Console) -> Result<Compiled, Failure> {
    let Some(seconds) = args.tune else { return console.compile(&args.spec) };
    let limit = Duration::try_from_secs_f64(seconds).ok().filter(|l| !l.is_zero()).ok_or_else(|| {
        let d = Diagnostic::error(format!("`--tune={seconds}` is not a time limit"));
        Failure::input(d.help("write the seconds that it may take, `--tune=20` for example"))
    })?;
    let mut net = console.load(&args.spec)?;
    if (net.plan.prefer, net.plan.stream) != (Prefer::Speed, Stream::Auto) {
        let d = Diagnostic::error("only plans that prefer speed and stream where it serves that can be tuned");
        return Err(Failure::input(d.help("leave `prefer` and `stream` out of `[plan]`, or leave out `--tune`")));
    }
    net.tuned = None;
    let untuned = console.compile_net(net.clone())?;
    console.progress(PROGRESS);
    let found = tune(&untuned, Isa::detect(), limit, &mut |share, what| console.at((share * PROGRESS as f64) as u64, what));
    console.progress_done();
    let Outcome { tuned, tried, kept, withdrawn, cut_short } =
        found.map_err(|e| Failure::job(Diagnostic::error(e.to_string())))?;
    let path = front::tune::path(&args.spec.path);
    output::write_all(&[(path.clone(), tuned.text().into_bytes())])?;
    let mut end = String::new();
    if withdrawn > 0 {
        end += &format!(", {withdrawn} given up because they did not win together");
    }
    end += if cut_short { ", the time was up" } else { "" };
    console.note(format_args!(
        "{tried} changes tried, {} kept{end}: {:.3} ms, {:.3} ms as the model chose; decisions in {}",
        kept.len(),
        tuned.after_ms,
        tuned.before_ms,
        path.display()
    ));
    kept.iter().for_each(|what| console.note(format_args!("kept {what}")));
    net.tuned = Some(tuned);
    console.compile_net(net)
}

/// The files of one kind, name and content.
fn emit(kind: Emit, net: &Compiled, options: clif::ObjectOptions<'_>) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let plan = &net.plan;
    let file = |extension: &str, content: Vec<u8>| (format!("{}.{extension}", plan.name), content);
    let clif_failure = |e: clif::ClifError| match e {
        e @ clif::ClifError::Target { .. } => Failure::input(e.diagnostic()),
        e @ (clif::ClifError::Host(_)
        | clif::ClifError::TooLarge { .. }
        | clif::ClifError::Streamed { .. }
        | clif::ClifError::Code(_)) => Failure::job(e.diagnostic()),
    };
    // Self-contained code needs a plan of its own.
    let suited = || {
        Ok(if options.wants_layers().map_err(clif_failure)? {
            Cow::Owned(net.layered().map_err(|e| Failure::job(Diagnostic::error(e.to_string())))?)
        } else {
            Cow::Borrowed(plan)
        })
    };
    Ok(match kind {
        Emit::Rust | Emit::RustExtern => {
            let weights = if kind == Emit::RustExtern {
                rust::WeightSource::Extern
            } else {
                rust::WeightSource::Embedded(format!("{}.weights", plan.name))
            };
            let options = rust::Options {
                type_name: rust::type_name(&plan.name),
                docs: Vec::new(),
                weights,
                weights_from: net.weights_from.clone(),
            };
            let weights = rust::weight_file(plan, &options.weights);
            vec![file("rs", rust::source(plan, &options).into_bytes()), file(weights.extension, weights.bytes)]
        }
        Emit::Obj => {
            let object = clif::object(&*suited()?, options).map_err(clif_failure)?;
            let mut files = vec![file("o", object.bytes), file("h", object.header.into_bytes()), file("weights", object.weights)];
            files.extend(object.runtime.map(|library| (clif::RUNTIME_FILE.to_owned(), library.to_vec())));
            files
        }
        Emit::Clif => vec![file("clif", clif::text(&*suited()?, options).map_err(clif_failure)?.into_bytes())],
        Emit::Ir => vec![file("ir.txt", ir::print::text(&net.graph).into_bytes())],
        Emit::Plan => {
            vec![file("plan.txt", plan::print::text(plan).into_bytes()), file("plan.svg", plan::svg::svg(plan).into_bytes())]
        }
        Emit::Dot => vec![file("dot", ir::dot::dot(&net.graph).into_bytes())],
    })
}
