//! The arguments. Names and meanings are a contract that scripts rely on.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Compile MobileNet specs, ONNX and TFLite models to Rust, to object files or into memory, and run them.
#[derive(Debug, Parser)]
#[command(name = "mnc", version, max_term_width = 100)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write the compiled net as Rust source, an object file, or one of its intermediate forms.
    Compile(Compile),
    /// Classify pictures, or run the net on a raw tensor.
    Run(Run),
    /// Measure the speed of the net.
    Bench(Bench),
    /// Write a model of another tool as a spec and a checkpoint that can be read and edited.
    Import(Import),
    /// Show layers, parameters, multiply-adds, memory, and what the passes did.
    Show(Show),
    /// Compare every pass and every engine with the reference, or the reference with outputs of yours; exit code 1 beyond the bound.
    ///
    /// Inputs are seeded pictures and the edges of what f32 can hold: zeros, tiny, denormal, huge, the largest numbers, NaN and
    /// infinities. The bound is derived for every element from the roundings on its way. Object files are linked and run where there
    /// is a C compiler (`cc`). The macro's nets run the same code as the engines here; `cargo test` runs those.
    Verify(Verify),
    /// Say of compiled files which mnc wrote them and of what, and whether they are whole and belong together; exit code 1 if not.
    Inspect(Inspect),
}

/// What every command asks for.
#[derive(Debug, clap::Args)]
pub(super) struct Spec {
    /// The spec (TOML), or a model (ONNX, TFLite).
    #[arg(value_name = "SPEC")]
    pub path: PathBuf,
    /// Checkpoint (safetensors) to use instead of the spec's.
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Override a scalar of the spec: `alpha=0.5`, `input.height=160`, `passes.separate=structure`. May be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub sets: Vec<(String, String)>,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected KEY=VALUE, for example alpha=0.5".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Compile {
    #[command(flatten)]
    pub spec: Spec,
    /// What to write, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "rust", value_name = "KIND")]
    pub emit: Vec<Emit>,
    /// Folder to write to; made if absent. `-` prints a single text form (ir, plan, clif, dot) instead.
    #[arg(short, long = "out-dir", default_value = ".", value_name = "DIR")]
    pub out_dir: PathBuf,
    /// Make `obj` and `clif` need nothing else: by cranelift's own kernels instead of the static library libmnc_rt.a, which is
    /// faster and which only x86-64 Linux has. Other targets are always self-contained.
    #[arg(long)]
    pub self_contained: bool,
    /// Target of `obj` and `clif`, `aarch64-unknown-linux-gnu` for example; this machine by default.
    #[arg(long, value_name = "TRIPLE")]
    pub target: Option<String>,
    /// First choose the stages by measurement on this machine, for about so many seconds (20), and keep the choice beside the spec
    /// as SPEC's name with `.tune.toml`, where every later compilation finds it.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "20")]
    pub tune: Option<f64>,
}

/// What `compile` can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Emit {
    /// NAME.rs and NAME.weights
    Rust,
    /// NAME.rs that is given its weights at run time, and NAME.weights.safetensors to give it
    RustExtern,
    /// NAME.o, NAME.h, NAME.weights and (on x86-64) libmnc_rt.a
    Obj,
    /// NAME.clif: cranelift's intermediate form
    Clif,
    /// NAME.ir.txt: the graph after all passes
    Ir,
    /// NAME.plan.txt and NAME.plan.svg: kernels and memory
    Plan,
    /// NAME.dot: the graph for Graphviz
    Dot,
}

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    pub spec: Spec,
    /// JPEG or PNG pictures to classify.
    #[arg(value_name = "IMAGE", required_unless_present = "input", conflicts_with = "input")]
    pub images: Vec<PathBuf>,
    /// How many labels to print for each picture.
    #[arg(long, default_value = "5", value_name = "N")]
    pub top: NonZeroUsize,
    /// Class names, one a line, instead of the spec's.
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    #[command(flatten)]
    pub engine: Engine,
    /// A raw NHWC f32 tensor (.npy, [H,W,C] or [1,H,W,C]), already preprocessed, instead of pictures. Once for each input of the net,
    /// in its order (`mnc show` lists them).
    #[arg(long, value_name = "X.npy", requires = "output")]
    pub input: Vec<PathBuf>,
    /// Where the raw output goes: [1,C] for a class vector, else [1,H,W,C]. Of a net of several outputs: once for each, in its order,
    /// or once for all, which makes Y.NAME.npy of every one.
    #[arg(long, value_name = "Y.npy", requires = "input")]
    pub output: Vec<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// What computes, and on how many threads.
#[derive(Debug, clap::Args)]
pub(super) struct Engine {
    /// What computes.
    #[arg(long, value_enum, default_value = "jit")]
    pub engine: EngineName,
    /// Let the JIT use cranelift's own kernels (128-bit vectors, layer by layer, one thread) instead of the runtime's.
    #[arg(long)]
    pub self_contained: bool,
    #[command(flatten)]
    pub threads: Threads,
}

/// How many threads share an inference.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Threads {
    /// Threads that share an inference, from 1 to 64, instead of the spec's `plan.threads`.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// The engines that `--engine` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum EngineName {
    /// Code in memory, made by cranelift
    Jit,
    /// The runtime's own kernels for this CPU (`MNC_ISA=avx2` and so on chooses)
    Native,
    /// Naive loops on the unoptimised graph: the oracle, slow
    Reference,
}

#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    #[command(flatten)]
    pub spec: Spec,
    #[command(flatten)]
    pub engine: Engine,
    /// Measured runs, after a warm-up.
    #[arg(long, default_value = "50", value_name = "N")]
    pub runs: NonZeroUsize,
    /// Also the time of every stage and what bounds it (always by the runtime's kernels); on several threads, how much faster they are
    /// than one.
    #[arg(long)]
    pub profile: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    #[command(flatten)]
    pub spec: Spec,
    /// Folder to write NAME.toml and NAME.safetensors to; made if absent.
    #[arg(short, long = "out-dir", value_name = "DIR")]
    pub out_dir: PathBuf,
    /// Write plain layers even where the model is recognised as blocks of the family.
    #[arg(long)]
    pub layers: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    pub spec: Spec,
    /// The graph after this pass instead of the network as specified.
    #[arg(long, value_name = "PASS")]
    pub after: Option<String>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    pub spec: Spec,
    #[command(flatten)]
    pub threads: Threads,
    /// How many seeded inputs to try.
    #[arg(long, default_value = "3", value_name = "N", conflicts_with = "against")]
    pub seeds: NonZeroU32,
    /// Compare with this output of another program (.npy, NHWC f32) at `--input`, instead of mnc with itself. Once for each output
    /// of the net, in its order.
    #[arg(long, value_name = "Y.npy", requires = "input")]
    pub against: Vec<PathBuf>,
    /// The input that `--against` is the answer to (.npy, NHWC f32), already preprocessed. Once for each input of the net.
    #[arg(long, value_name = "X.npy", requires = "against")]
    pub input: Vec<PathBuf>,
    /// What `--against` may be off, relative to the output's largest magnitude, instead of the bound of f32 rounding.
    #[arg(long, value_name = "T", requires = "against")]
    pub tolerance: Option<f64>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// What `mnc compile` wrote: NAME.rs, NAME.o, NAME.h, NAME.weights, NAME.weights.safetensors, libmnc_rt.a, or a program that an
    /// object was linked into.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn overrides_split_at_the_first_equals_sign() {
        assert_eq!(key_value("net.name = a=b"), Ok(("net.name".into(), "a=b".into())));
        assert!(key_value("alpha").is_err());
        assert!(key_value("=1").is_err());
    }
}
