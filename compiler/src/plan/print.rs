//! The text form of a plan: stages with their cost, steps with their kernels and places, buffers, a map of the arena, and what is
//! proved of it.

use std::fmt::Write;

use super::{Buffer, Kernel, Memory, Place, Plan, Prefer, Proof, Residual, Split, Stage, Step};
use mnc_runtime::params::{Activation, Method, PoolKind};

/// Columns of the memory map at most, and its rows.
const MAP: (usize, usize) = (120, 24);

/// The whole plan for people to read. Stable from run to run; not meant to be parsed.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    write_all(plan, &mut out).expect("a String takes everything");
    out
}

fn write_all(plan: &Plan, out: &mut String) -> std::fmt::Result {
    writeln!(out, "plan {}", plan.name)?;
    for (what, ports) in [("input ", &plan.inputs), ("output", &plan.outputs)] {
        for port in ports {
            let name = if ports.len() > 1 { format!("  {} at {}", port.name, port.offset) } else { String::new() };
            writeln!(out, "  {what}   {} {}{name}", port.tensor.shape, port.tensor.dtype)?;
        }
    }
    let (stages, steps) = (plan.stages.len(), plan.steps().count());
    writeln!(out, "  compute  {steps} steps in {stages} stages, {:.1} M multiply-adds", plan.macs as f64 / 1e6)?;
    let sum = |cycles: fn(&Stage) -> u64| plan.stages.iter().map(cycles).sum::<u64>() as f64 / 1e6;
    let (cycles, layered) = (sum(|s| s.estimate.cycles), sum(|s| s.estimate.layered));
    writeln!(out, "  cost     {cycles:.2} M cycles by the model, {layered:.2} M layer by layer; for {}", made_for(plan))?;
    if let Some(measured) = measured(plan) {
        writeln!(out, "           {measured}")?;
    }
    writeln!(out, "  weights  {} in {} constants", size(plan.weights.bytes()), plan.weights.entries.len())?;
    writeln!(out, "  arena    {}, {}", size(plan.memory.arena_bytes), proof(&plan.memory))?;
    let (with_input, layerwise) = (size(plan.memory.peak_with_input_bytes), size(plan.memory.layerwise_bound_bytes));
    writeln!(out, "           {with_input} with the caller's input; layer by layer at best {layerwise}")?;

    writeln!(out, "\nstages (thousands of cycles by the model)")?;
    let columns = ["#", "stage", "steps", "strip", "split", "rings (rows x width x channels)", "cycles", "by layers"];
    let mut rows = vec![columns.map(str::to_owned)];
    for (t, stage) in plan.stages.iter().enumerate() {
        let thousands = |cycles: u64| format!("{:.1}", cycles as f64 / 1e3);
        rows.push([
            t.to_string(),
            stage.name.clone(),
            stage.steps.len().to_string(),
            stage.strip_rows.to_string(),
            split(stage.split).to_owned(),
            stage.steps.iter().filter_map(ring).collect::<Vec<_>>().join(", "),
            thousands(stage.estimate.cycles),
            thousands(stage.estimate.layered),
        ]);
    }
    table(&rows, out)?;

    writeln!(out, "\nsteps")?;
    let mut rows = vec![["stage", "step", "kernel", "reads", "writes", "M mult-adds"].map(str::to_owned)];
    for (t, step) in plan.stages.iter().enumerate().flat_map(|(t, stage)| stage.steps.iter().map(move |step| (t, step))) {
        rows.push([
            t.to_string(),
            step.name.clone(),
            kernel(&step.kernel),
            reads(step),
            format!("{} {}", place(step.output), step.output_shape),
            if step.macs == 0 { String::new() } else { format!("{:.2}", step.macs as f64 / 1e6) },
        ]);
    }
    table(&rows, out)?;

    writeln!(out, "\nbuffers")?;
    let mut rows = vec![["", "offset", "bytes", "alive", "pitch", "first holds"].map(str::to_owned)];
    for (i, b) in plan.memory.buffers.iter().enumerate() {
        rows.push([
            format!("b{i} {}", letter(i)),
            b.offset.to_string(),
            b.bytes.to_string(),
            format!("{}..={}", b.first, b.last),
            if b.pitch == 0 { "any".to_owned() } else { b.pitch.to_string() },
            holds(b, plan.threads),
        ]);
    }
    table(&rows, out)?;

    writeln!(out, "\nmemory map (time to the right, address up)")?;
    out.push_str(&map(plan));
    Ok(())
}

/// `speed, 2 threads`
fn made_for(plan: &Plan) -> String {
    let prefer = match plan.prefer {
        Prefer::Speed => "speed",
        Prefer::Memory => "memory",
    };
    match plan.threads {
        1 => format!("{prefer}, one thread"),
        n => format!("{prefer}, {n} threads"),
    }
}

/// `stages chosen by measurement on AMD EPYC`, where they were.
pub fn measured(plan: &Plan) -> Option<String> {
    plan.tuned_on.as_ref().map(|cpu| format!("stages chosen by measurement on {cpu}"))
}

/// How threads share a stage, in a word.
pub(super) fn split(split: Split) -> &'static str {
    match split {
        Split::Alone => "alone",
        Split::Rows => "rows",
        Split::Channels => "channels",
    }
}

/// `4 x 56 x 144`: the ring that a step writes, if it writes one.
pub(super) fn ring(step: &Step) -> Option<String> {
    step.ring_rows().map(|rows| format!("{rows} x {} x {}", step.output_shape.w, step.output_shape.c))
}

/// What a buffer first holds: `block1.expand`, `block1.expand, 4 rows for each of 2 threads`.
fn holds(b: &Buffer, threads: usize) -> String {
    match (b.ring_rows, threads) {
        (None, _) => b.name.clone(),
        (Some(rows), 1) => format!("{}, {rows} rows", b.name),
        (Some(rows), n) => format!("{}, {rows} rows for each of {n} threads", b.name),
    }
}

/// `optimal: equal to the lower bound` and so on, as one clause.
pub(super) fn proof(memory: &Memory) -> String {
    let bound = size(memory.lower_bound_bytes);
    let order = if memory.order_is_best { "no order of the stages has a lower one" } else { "of this order of the stages" };
    match memory.proof {
        Proof::MeetsBound => format!("optimal: equal to the lower bound ({order})"),
        Proof::Exhausted => format!("optimal by exhaustive search; the lower bound is {bound} ({order})"),
        Proof::Stopped => {
            let above = (memory.arena_bytes - memory.lower_bound_bytes) as f64 / memory.lower_bound_bytes.max(1) as f64;
            format!("at most {:.2} % above the best, the lower bound being {bound} ({order})", 100.0 * above)
        }
    }
}

/// `5.742 MiB`, `12.5 KiB`, `96 B`
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.3} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// `input`, `output+1000` or `b7`
fn place(place: Place) -> String {
    match place {
        Place::Input(0) => "input".to_owned(),
        Place::Input(at) => format!("input+{at}"),
        Place::Output(0) => "output".to_owned(),
        Place::Output(at) => format!("output+{at}"),
        Place::Arena(id) => format!("b{}", id.0),
        Place::Ring { buffer, rows } => format!("b{}[{rows} rows]", buffer.0),
    }
}

fn reads(step: &Step) -> String {
    let mut out = format!("{} {}", place(step.input), step.input_shape);
    let mut residual = |r: &Residual| match r {
        Residual::None => {}
        Residual::InPlace => out.push_str(", + in place"),
        Residual::From(p) => out.push_str(&format!(", + {}", place(*p))),
    };
    match &step.kernel {
        Kernel::Conv { residual: r, .. } | Kernel::Pointwise { residual: r, .. } => residual(r),
        Kernel::Add { other, .. } => out.push_str(&format!(", {}", place(*other))),
        Kernel::Scale { scale, .. } => out.push_str(&format!(", {}", place(*scale))),
        Kernel::Binary { other, other_shape, .. } => out.push_str(&format!(", {} {other_shape}", place(*other))),
        Kernel::Concat { axis: _, parts } => {
            out.extend(parts.iter().skip(1).map(|&(part, shape)| format!(", {} {shape}", place(part))));
        }
        Kernel::Constant { .. } => out.clear(),
        Kernel::Depthwise { .. }
        | Kernel::Pool(_)
        | Kernel::GlobalPool { .. }
        | Kernel::Act { .. }
        | Kernel::Softmax { .. }
        | Kernel::Normalize { .. }
        | Kernel::Pad { .. }
        | Kernel::PRelu { .. }
        | Kernel::Gather { .. }
        | Kernel::Transpose { .. }
        | Kernel::Mean { .. }
        | Kernel::Interpolate { .. }
        | Kernel::ConvTranspose { .. }
        | Kernel::Copy { .. } => {}
    }
    out
}

/// `conv 3x3 /2 relu6`, `conv 3x3 in 3 groups relu`: the kernel in a few words.
pub(super) fn kernel(kernel: &Kernel) -> String {
    let window = |name: &str, k: [usize; 2], s: [usize; 2]| {
        let stride = match s {
            [1, 1] => String::new(),
            [a, b] if a == b => format!(" /{a}"),
            [a, b] => format!(" /{a}x{b}"),
        };
        format!("{name} {}x{}{stride}", k[0], k[1])
    };
    let (name, act) = match kernel {
        Kernel::Conv { params: p, .. } => {
            let mut name = window("conv", [p.kernel_h, p.kernel_w], [p.stride_h, p.stride_w]);
            name += &dilation([p.dilation_h, p.dilation_w]);
            if p.groups != 1 {
                name += &format!(" in {} groups", p.groups);
            }
            match p.method {
                Method::Direct | Method::Strassen => {}
                Method::Winograd2 => name += ", Winograd 2x2",
                Method::Winograd4 => name += ", Winograd 4x4",
            }
            (name, p.act)
        }
        Kernel::Depthwise { params: p, .. } => {
            let mut name = window("depthwise", [p.kernel_h, p.kernel_w], [p.stride_h, p.stride_w]);
            name += &dilation([p.dilation_h, p.dilation_w]);
            if p.multiplier != 1 {
                name += &format!(" x{}", p.multiplier);
            }
            (name, p.act)
        }
        Kernel::Pointwise { params: p, .. } => {
            let name = match (p.pool, p.method) {
                (true, _) => "pointwise + mean",
                (false, Method::Strassen) => "pointwise, Strassen",
                (false, Method::Direct | Method::Winograd2 | Method::Winograd4) => "pointwise",
            };
            (name.to_owned(), p.act)
        }
        Kernel::Pool(p) => {
            let name = match p.kind {
                PoolKind::Max => "max_pool",
                PoolKind::Average => "avg_pool",
            };
            (window(name, [p.kernel_h, p.kernel_w], [p.stride_h, p.stride_w]), Activation::None)
        }
        Kernel::GlobalPool { .. } => ("global_pool".to_owned(), Activation::None),
        Kernel::Add { act, .. } => ("add".to_owned(), *act),
        Kernel::Scale { act, .. } => ("scale".to_owned(), *act),
        Kernel::Act { act, .. } => return activation(*act).unwrap_or("identity".to_owned()),
        Kernel::Softmax { .. } => ("softmax".to_owned(), Activation::None),
        Kernel::Normalize { .. } => ("normalize".to_owned(), Activation::None),
        Kernel::Pad { .. } => ("pad".to_owned(), Activation::None),
        Kernel::Concat { axis, .. } => (format!("concat {axis:?}").to_lowercase(), Activation::None),
        Kernel::Gather { .. } => ("gather".to_owned(), Activation::None),
        Kernel::Binary { kind, act, .. } => (format!("{kind:?}").to_lowercase(), *act),
        Kernel::PRelu { .. } => ("prelu".to_owned(), Activation::None),
        Kernel::Transpose { order } => {
            (format!("transpose {}", order.map(|axis| ["h", "w", "c"][axis.min(2)]).concat()), Activation::None)
        }
        Kernel::Mean { .. } => ("mean".to_owned(), Activation::None),
        Kernel::Interpolate { .. } => ("interpolate".to_owned(), Activation::None),
        Kernel::ConvTranspose { params: p, .. } => {
            let mut name = window("transposed conv", [p.kernel_h, p.kernel_w], [p.stride_h, p.stride_w]);
            name += &dilation([p.dilation_h, p.dilation_w]);
            if p.groups != 1 {
                name += &format!(" in {} groups", p.groups);
            }
            (name, p.act)
        }
        Kernel::Copy { .. } => ("copy".to_owned(), Activation::None),
        Kernel::Constant { .. } => ("constant".to_owned(), Activation::None),
    };
    match activation(act) {
        Some(act) => format!("{name} {act}"),
        None => name,
    }
}

/// ` dilated 2`, or nothing.
fn dilation([y, x]: [usize; 2]) -> String {
    match (y, x) {
        (1, 1) => String::new(),
        (y, x) if y == x => format!(" dilated {y}"),
        (y, x) => format!(" dilated {y}x{x}"),
    }
}

fn activation(act: Activation) -> Option<String> {
    (act != Activation::None).then(|| act.to_string())
}

/// Columns as wide as their widest cell, two spaces apart; a column of numbers is ranged right.
fn table<const N: usize>(rows: &[[String; N]], out: &mut String) -> std::fmt::Result {
    let width: [usize; N] = std::array::from_fn(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0));
    let right: [bool; N] =
        std::array::from_fn(|c| rows[1..].iter().all(|r| r[c].chars().all(|ch| ch.is_ascii_digit() || ch == '.')));
    for row in rows {
        let mut line = String::new();
        for c in 0..N {
            let (cell, w) = (&row[c], width[c]);
            if right[c] { write!(line, "  {cell:>w$}")? } else { write!(line, "  {cell:<w$}")? }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// What stands for a buffer in the memory map.
fn letter(buffer: usize) -> char {
    const NAMES: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    char::from(NAMES[buffer % NAMES.len()])
}

/// The arena as characters: a column one or more stages, a row a band of addresses, a letter a buffer that fills most of it.
fn map(plan: &Plan) -> String {
    let (stages, height) = (plan.stages.len(), plan.memory.arena_bytes);
    if height == 0 {
        return "  (nothing)\n".to_owned();
    }
    let per_column = stages.div_ceil(MAP.0);
    let band = height.div_ceil(MAP.1);
    let mut out = String::new();
    for row in (0..MAP.1).rev() {
        let middle = row * band + band / 2;
        let mut line = format!("  {:>10} |", size(row * band));
        for column in 0..stages.div_ceil(per_column) {
            let times = column * per_column..(column + 1) * per_column;
            let there =
                plan.memory.buffers.iter().position(|b| {
                    (b.offset..b.offset + b.bytes).contains(&middle) && b.first < times.end && times.start <= b.last
                });
            line.push(there.map_or(' ', letter));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push_str(&format!("  {:>10} +{}\n", "", "-".repeat(stages.div_ceil(per_column))));
    out.push_str(&format!("  {:>10}  stages 0 to {}", "", stages.saturating_sub(1)));
    out.push_str(if per_column > 1 { ", several a column\n" } else { "\n" });
    out
}
