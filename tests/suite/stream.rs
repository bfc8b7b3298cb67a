//! Streamed plans: memory of the family, what is streamed and split, and a certificate that notices every broken ring.

use std::path::Path;

use mnc_compiler::front::{self, Net};
use mnc_compiler::ir::{Graph, Op};
use mnc_compiler::pass;
use mnc_compiler::plan::certify::certify;
use mnc_compiler::plan::{self, Kernel, Options, Place, Plan, Prefer, Residual, Split, Stage, Stream, print, svg};

use crate::r#gen;
use crate::plan::{PEAKS, breaks, meta, shipped, small};

fn build(graph: &Graph, threads: usize, prefer: Prefer, stream: Stream) -> Plan {
    plan::build(graph, meta("net"), &Options { threads, prefer, stream, grouped: true, winograd: true, strassen: true }).unwrap()
}

fn mib(bytes: usize) -> String {
    format!("{:.3}", bytes as f64 / f64::from(1 << 20))
}

/// Arena, and peak with the caller's input, of plans for memory by one thread, in the order of [`PEAKS`].
const STREAMED: [(&str, &str); 18] = [
    ("1.422", "1.518"),
    ("1.066", "1.282"),
    ("0.711", "1.046"),
    ("0.355", "0.810"),
    ("1.340", "1.914"),
    ("0.526", "1.101"),
    ("0.742", "1.316"),
    ("0.311", "0.885"),
    ("0.694", "1.012"),
    ("0.324", "0.786"),
    ("0.383", "0.878"),
    ("1.070", "1.217"),
    ("1.355", "1.578"),
    ("1.418", "1.559"),
    ("2.039", "3.322"),
    ("0.461", "1.025"),
    ("0.194", "0.768"),
    ("0.629", "1.032"),
];

#[test]
fn streaming_goes_below_the_layerwise_bound() {
    let mut wrong = Vec::new();
    for ((name, alpha, side, layerwise), want) in PEAKS.into_iter().zip(STREAMED) {
        let graph = shipped(name, alpha, side);
        let plan = build(&graph, 1, Prefer::Memory, Stream::Auto);
        let memory = &plan.memory;
        let found = (mib(memory.arena_bytes), mib(memory.peak_with_input_bytes));
        println!("(\"{}\", \"{}\"), // {name} x {alpha} at {side}", found.0, found.1);
        assert_eq!(mib(memory.layerwise_bound_bytes), layerwise, "{name} x {alpha} at {side}");
        if found != (want.0.to_owned(), want.1.to_owned()) {
            wrong.push(format!("{name} x {alpha} at {side}: {found:?}"));
        }
        let fast = build(&graph, 1, Prefer::Speed, Stream::Auto);
        assert!(fast.memory.peak_with_input_bytes >= memory.peak_with_input_bytes, "{name} x {alpha} at {side}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The peaks of the three large ones by hand: the input, the rows between the steps of the first stages, and what those write.
#[test]
fn peaks_are_those_of_a_calculation_by_hand() {
    let input = 224 * 224 * 3;
    let rings = |rows: &[[usize; 3]]| rows.iter().map(|[n, w, c]| n * w * c).sum::<usize>();
    // V1: stem, depthwise, pointwise, depthwise to 56x56x64, a row at a time: the second window wants 3 rows, and the first one
    // 4, for it takes 2 rows at once.
    let v1 = input + 56 * 56 * 64 + rings(&[[4, 112, 32], [3, 112, 32], [3, 112, 64]]);
    // V2: the same up to the projection to 56x56x24.
    let v2 = input + 56 * 56 * 24 + rings(&[[4, 112, 32], [2, 112, 32], [2, 112, 16], [3, 112, 96], [1, 56, 96]]);
    // V3: the same to 56x56x24; the first block adds the stem's rows out of the ring that its own depthwise step reads.
    let v3 = input + 56 * 56 * 24 + rings(&[[4, 112, 16], [2, 112, 16], [2, 112, 16], [3, 112, 64], [1, 56, 64]]);
    for (name, floats, most) in [("mobilenet_v1", v1, 2.3), ("mobilenet_v2", v2, 1.45), ("mobilenet_v3_large", v3, 1.45)] {
        let plan = build(&shipped(name, "1.0", 224), 1, Prefer::Memory, Stream::Auto);
        assert_eq!(plan.memory.peak_with_input_bytes, 4 * floats, "{name}");
        assert!((4 * floats) as f64 / f64::from(1 << 20) < most, "{name}");
    }
}

fn streamed(plan: &Plan) -> impl Iterator<Item = &Stage> {
    plan.stages.iter().filter(|s| s.steps.len() > 1)
}

fn residual(stage: &Stage) -> Residual {
    match stage.steps.last().map(|s| &s.kernel) {
        Some(Kernel::Pointwise { residual, .. } | Kernel::Conv { residual, .. }) => *residual,
        _ => Residual::None,
    }
}

#[test]
fn speed_streams_the_large_layers_alone() {
    let plan = build(&shipped("mobilenet_v2", "1.0", 224), 1, Prefer::Speed, Stream::Auto);
    let height = |s: &Stage| s.steps.last().unwrap().output_shape.h;
    assert!(streamed(&plan).all(|s| height(s) >= 28) && streamed(&plan).count() >= 5);
    assert!(plan.stages.iter().filter(|s| height(s) == 112).all(|s| s.steps.len() == 3));
    assert!(plan.memory.arena_bytes < plan.memory.layerwise_bound_bytes / 3);
    for s in &plan.stages {
        assert!(s.estimate.cycles <= s.estimate.layered, "{}", s.name);
    }
    // The residual of a block is added where it stands, by one thread; several would overwrite what others read.
    assert!(streamed(&plan).filter(|s| residual(s) == Residual::InPlace).count() >= 3);
    let two = build(&shipped("mobilenet_v2", "1.0", 224), 2, Prefer::Speed, Stream::Auto);
    assert!(streamed(&two).all(|s| s.split == Split::Rows && residual(s) != Residual::InPlace));
}

#[test]
fn threads_share_rows_where_there_are_many_and_channels_where_not() {
    let plan = build(&shipped("mobilenet_v1", "1.0", 224), 2, Prefer::Speed, Stream::Auto);
    for stage in &plan.stages {
        let (step, shape) = (&stage.steps[0], stage.steps.last().unwrap().output_shape);
        let want = match step.kernel {
            Kernel::Softmax { .. } => Split::Alone,
            _ if shape.h >= 14 => Split::Rows,
            _ => Split::Channels,
        };
        assert_eq!(stage.split, want, "{}", stage.name);
    }
    // What `split_pool` makes of a mean, each thread takes of its own rows.
    let gated = build(&shipped("mobilenet_v3_large", "1.0", 224), 2, Prefer::Speed, Stream::Auto);
    let rows: Vec<_> = gated.stages.iter().filter(|s| s.name.ends_with(".pool.rows")).map(|s| s.split).collect();
    assert_eq!(rows, [Split::Rows; 5]);
    // Fewer than two panels a thread are not shared.
    let many = build(&small(), 8, Prefer::Speed, Stream::Auto);
    assert!(many.stages.iter().any(|s| s.split == Split::Alone));
    assert!(build(&small(), 1, Prefer::Speed, Stream::Auto).stages.iter().all(|s| s.split == Split::Alone));
}

/// The room of 64 pixels, or of the tensor where it has fewer, a MiB at most, is empty behind every tensor and every thread's ring.
#[test]
fn threads_stand_apart_for_speed() {
    let mut wide = crate::plan::Net::new(16, 16, 3);
    wide.conv(1, 1, 5000, None);
    wide.conv(1, 1, 8, None);
    for (graph, least) in [(shipped("mobilenet_v2", "1.0", 224), [5, 21]), (wide.classifier(None), [0, 2])] {
        for (threads, prefer, wanted) in [(1, Prefer::Speed, false), (2, Prefer::Speed, true), (2, Prefer::Memory, false)] {
            let plan = build(&graph, threads, prefer, Stream::Auto);
            let mut seen = [0; 2];
            for step in plan.steps() {
                let (Place::Arena(id) | Place::Ring { buffer: id, .. }) = step.output else { continue };
                let (buffer, shape) = (&plan.memory.buffers[id.0], step.output_shape);
                let bytes = |rows: usize| (rows * shape.w * buffer.pitch * 4).next_multiple_of(64);
                let (kind, empty) = match buffer.ring_rows {
                    Some(rows) => (0, buffer.apart - bytes(rows)),
                    None => (1, buffer.bytes - bytes(shape.h)),
                };
                let want = if wanted { (64 * buffer.pitch * 4).min(bytes(shape.h)).min(1 << 20) } else { 0 };
                assert_eq!(empty, want, "{}, {threads} threads, {prefer:?}", buffer.name);
                seen[kind] += 1;
            }
            assert!(prefer == Prefer::Memory || seen.iter().zip(least).all(|(&n, least)| n >= least), "{seen:?}");
        }
    }
}

#[test]
fn pixels_get_a_gap_where_they_would_collide() {
    let graph = shipped("mobilenet_v1", "1.0", 224);
    let pitches = |plan: &Plan| {
        let homes = plan.steps().filter_map(|s| match s.output {
            Place::Arena(id) | Place::Ring { buffer: id, .. } => Some((s.output_shape, plan.memory.buffers[id.0].pitch)),
            Place::Input(_) | Place::Output(_) => None,
        });
        homes.collect::<Vec<_>>()
    };
    let fast = build(&graph, 1, Prefer::Speed, Stream::Auto);
    for (shape, pitch) in pitches(&fast) {
        // The last pointwise layer takes the mean; every other result of so many channels is beside a depthwise one.
        let gap = if shape.c.is_multiple_of(256) && shape.h > 1 { 16 } else { 0 };
        assert_eq!(pitch, shape.c + gap, "{shape}");
    }
    for plan in [build(&graph, 1, Prefer::Memory, Stream::Auto), build(&graph, 1, Prefer::Speed, Stream::Never)] {
        assert!(pitches(&plan).iter().all(|(shape, pitch)| *pitch == shape.c));
    }
}

/// `build` certifies each.
#[test]
fn random_nets_are_streamed() {
    let (mut rings, mut in_place) = (0, 0);
    for seed in 0..120 {
        let case = r#gen::seeded(seed);
        let mut optimised = case.graph.clone();
        pass::run(&mut optimised, &Default::default(), None, None).unwrap();
        for graph in [&case.graph, &optimised] {
            let layered = build(graph, 1, Prefer::Memory, Stream::Never);
            let mut names: Vec<&str> = layered.steps().map(|s| s.name.as_str()).collect();
            names.sort_unstable();
            for threads in [1, 2, 3] {
                for (prefer, stream) in [
                    (Prefer::Speed, Stream::Auto),
                    (Prefer::Memory, Stream::Auto),
                    (Prefer::Speed, Stream::Always),
                    (Prefer::Memory, Stream::Always),
                ] {
                    let plan = build(graph, threads, prefer, stream);
                    let mut same: Vec<&str> = plan.steps().map(|s| s.name.as_str()).collect();
                    same.sort_unstable();
                    assert_eq!(same, names, "seed {seed}");
                    assert_eq!(plan.macs, layered.macs);
                    assert_eq!(plan.memory.layerwise_bound_bytes, layered.memory.lower_bound_bytes);
                    rings += plan.memory.buffers.iter().filter(|b| b.ring_rows.is_some()).count();
                    in_place += streamed(&plan).filter(|s| residual(s) == Residual::InPlace).count();
                    assert!(print::text(&plan).contains("memory map") && svg::svg(&plan).ends_with("</svg>\n"));
                }
            }
            let small = build(graph, 1, Prefer::Memory, Stream::Auto);
            assert!(small.memory.peak_with_input_bytes <= layered.memory.peak_with_input_bytes, "seed {seed}");
        }
    }
    assert!(rings > 1000 && in_place > 10, "{rings} {in_place}");
}

/// A small net of all kinds of chains, with every possible ring in it.
fn ringed(threads: usize) -> Plan {
    let mut net = crate::plan::Net::new(32, 32, 3);
    net.conv(3, 2, 8, None);
    net.inverted(3, 24, 12, false, 2);
    net.inverted(3, 48, 12, false, 1);
    net.inverted(3, 48, 12, false, 1);
    // What stands as a whole is added from there.
    net.add("turned", Op::Transpose([1, 0, 2]), &[net.x]);
    net.inverted(5, 48, 12, false, 1);
    net.inverted(5, 48, 12, true, 1);
    net.inverted(3, 72, 20, false, 2);
    let plan = build(&net.classifier(Some(40)), threads, Prefer::Memory, Stream::Always);
    assert!(streamed(&plan).count() >= 4);
    plan
}

/// Stage and step of every ring, with its buffer and rows.
fn rings(plan: &Plan) -> Vec<(usize, usize, usize, usize)> {
    let steps = plan.stages.iter().enumerate().flat_map(|(t, s)| s.steps.iter().enumerate().map(move |(i, s)| (t, i, s)));
    let rings = steps.filter_map(|(t, i, s)| match s.output {
        Place::Ring { buffer, rows } => Some((t, i, buffer.0, rows)),
        Place::Input(_) | Place::Output(_) | Place::Arena(_) => None,
    });
    rings.collect()
}

#[test]
fn every_ring_that_is_too_small_is_noticed() {
    for threads in [1, 2] {
        let plan = ringed(threads);
        for (t, i, buffer, rows) in rings(&plan) {
            let resize = |p: &mut Plan, rows: usize| {
                let place = Place::Ring { buffer: plan::BufferId(buffer), rows };
                p.stages[t].steps[i].output = place;
                p.stages[t].steps[i + 1].input = place;
                for step in &mut p.stages[t].steps {
                    if let Kernel::Pointwise { residual: Residual::From(from), .. } = &mut step.kernel
                        && matches!(from, Place::Ring { buffer: b, .. } if b.0 == buffer)
                    {
                        *from = place;
                    }
                }
                p.memory.buffers[buffer].ring_rows = Some(rows);
            };
            // The planner's rings are as small as can be: one row fewer is a row too few, and none is no ring.
            breaks(&plan, "a ring of one row fewer", if rows > 1 { "is not in the ring" } else { "no ring" }, |p| {
                resize(p, rows - 1);
            });
            let all = rows == plan.stages[t].steps[i].output_shape.h;
            breaks(&plan, "a ring larger than its room", if all { "no ring" } else { "does not fit" }, |p| resize(p, rows + 1));
            breaks(&plan, "rows that are not the buffer's", "no ring of", |p| {
                p.memory.buffers[buffer].ring_rows = Some(rows + 1)
            });
            breaks(&plan, "a ring that is a tensor", "neither a tensor nor rings", |p| p.memory.buffers[buffer].ring_rows = None);
            breaks(&plan, "rings in one another", "does not fit", |p| p.memory.buffers[buffer].apart -= 64);
            breaks(&plan, "rings for fewer threads", "no room for the rings", |p| p.threads += 1);
            breaks(&plan, "pixels in one another", "floats a pixel", |p| p.memory.buffers[buffer].pitch -= 1);
            for other in plan
                .memory
                .buffers
                .iter()
                .filter(|b| b.first <= t && t <= b.last && b.offset != plan.memory.buffers[buffer].offset)
            {
                breaks(&plan, "another buffer's place", "", |p| p.memory.buffers[buffer].offset = other.offset);
            }
        }
        breaks(&plan, "no threads", "no thread", |p| p.threads = 0);
    }
}

#[test]
fn every_wrong_chain_is_noticed() {
    for threads in [1, 2] {
        let plan = ringed(threads);
        for (t, i, buffer, _) in rings(&plan) {
            let stage = &plan.stages[t];
            let last = stage.steps.len() - 1;
            breaks(&plan, "a strip that the rings cannot feed", "", |p| p.stages[t].strip_rows = stage.strip_rows + 1);
            breaks(&plan, "no rows at a time", "strips of 0", |p| p.stages[t].strip_rows = 0);
            breaks(&plan, "a chain shared by channels", "cannot be split", |p| p.stages[t].split = Split::Channels);
            breaks(&plan, "a ring that no step before writes", "", |p| {
                p.stages[t].steps[i + 1].input = Place::Ring { buffer: plan::BufferId(buffer), rows: 99 };
            });
            breaks(&plan, "a whole tensor within a chain", "but the last write rings", |p| {
                p.stages[t].steps[i].output = Place::Arena(plan::BufferId(buffer));
                p.stages[t].steps[i + 1].input = Place::Arena(plan::BufferId(buffer));
            });
            breaks(&plan, "a ring that leaves its stage", "but the last write rings", |p| {
                p.stages[t].steps[last].output = stage.steps[i].output;
            });
            breaks(&plan, "a chain begun with a ring", "", |p| p.stages[t].steps[0].input = stage.steps[i].output);
            breaks(&plan, "a step left out", "", |p| {
                p.stages[t].steps.remove(i);
            });
            breaks(&plan, "steps exchanged", "", |p| p.stages[t].steps.swap(i, i + 1));
        }
        for (t, stage) in plan.stages.iter().enumerate() {
            if let Kernel::Softmax { .. } | Kernel::GlobalPool { .. } = stage.steps[0].kernel {
                breaks(&plan, "a mean by rows", "cannot be split", |p| p.stages[t].split = Split::Rows);
            }
        }
        breaks(&plan, "a false peak", "with the input", |p| p.memory.peak_with_input_bytes += 64);
    }
    let layered = build(&small(), 1, Prefer::Memory, Stream::Never);
    breaks(&layered, "a false bound", "layer by layer", |p| p.memory.layerwise_bound_bytes -= 64);
}

/// A step adds the rows of a ring of its own stage, while they are there.
#[test]
fn residuals_that_are_not_in_their_ring_are_noticed() {
    for threads in [1, 2] {
        let plan = ringed(threads);
        let all = rings(&plan);
        let mut tried = 0;
        for (t, stage) in plan.stages.iter().enumerate() {
            for (i, step) in stage.steps.iter().enumerate() {
                let Kernel::Pointwise { residual: Residual::From(Place::Ring { .. }), .. } = &step.kernel else {
                    continue;
                };
                tried += 1;
                let set = |p: &mut Plan, place| {
                    let Kernel::Pointwise { residual, .. } = &mut p.stages[t].steps[i].kernel else { unreachable!() };
                    *residual = Residual::From(place);
                };
                for &(other, _, buffer, rows) in all.iter().filter(|r| r.0 != t) {
                    let place = Place::Ring { buffer: plan::BufferId(buffer), rows };
                    breaks(&plan, &format!("a ring of stage {other}"), "a ring that no step before it", |p| set(p, place));
                }
                // With its windows farther up the depthwise step between asks for rows only after they are to be added.
                breaks(&plan, "a residual that comes too late", "adds it", |p| {
                    let before = p.stages[t].steps[..i].iter_mut().rev();
                    let mut windows = before
                        .filter_map(|s| if let Kernel::Depthwise { params, .. } = &mut s.kernel { Some(params) } else { None });
                    let params = windows.next().unwrap();
                    params.pad_top += params.kernel_h;
                });
            }
        }
        assert!(tried > 0, "{threads} threads");
    }
}

/// What one thread may do in place, several must not.
#[test]
fn threads_that_overwrite_what_others_read_are_noticed() {
    let plan = ringed(1);
    let in_place = streamed(&plan).filter(|s| residual(s) == Residual::InPlace).count();
    assert!(in_place > 0);

    let plan = ringed(2);
    let mut tried = 0;
    for (t, stage) in plan.stages.iter().enumerate() {
        let Residual::From(place) = residual(stage) else { continue };
        if stage.split == Split::Rows && stage.steps[0].input == place {
            tried += 1;
            breaks(&plan, "a block in place by two threads", "another one overwrites", |p| {
                let last = p.stages[t].steps.last_mut().unwrap();
                last.output = place;
                let Kernel::Pointwise { residual, .. } = &mut last.kernel else { unreachable!() };
                *residual = Residual::InPlace;
            });
        }
    }
    assert!(tried > 0);
}

/// A window that reaches back farther than the ones behind it reach ahead reads rows that are overwritten.
#[test]
fn rows_overwritten_too_early_are_noticed() {
    let plan = ringed(1);
    let t = plan.stages.iter().position(|s| s.steps.len() == 3 && residual(s) == Residual::InPlace).unwrap();
    let mut alone = plan.clone();
    certify(&alone).unwrap();
    // With its windows farther up the depthwise step wants its rows so late that the result has overtaken them.
    breaks(&plan, "an input read too late", "is overwritten when", |p| {
        let Kernel::Depthwise { params, .. } = &mut p.stages[t].steps[1].kernel else { unreachable!() };
        params.pad_top += 3;
    });
    alone.stages[t].split = Split::Rows;
    certify(&alone).expect("with one thread there is one band");
}

#[test]
fn plans_show_what_is_streamed() {
    let plan = build(&shipped("mobilenet_v2", "1.0", 224), 2, Prefer::Speed, Stream::Auto);
    let text = print::text(&plan);
    for part in
        ["for speed, 2 threads", "layer by layer at best 5.742 MiB", "x 112 x 96", "rows for each of 2 threads", "channels"]
    {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let picture = svg::svg(&plan);
    for part in ["a ring of ", "in strips of ", "layer by layer at best 5.742 MiB"] {
        assert!(picture.contains(part), "{part}");
    }
    assert_eq!(picture.matches("class=\"b ").count(), plan.memory.buffers.len());
}

/// `[plan]` in a spec, as it is and by `--set`.
#[test]
fn a_spec_says_what_its_plan_is_for() {
    let load = |sets: &[(&str, &str)]| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets/mobilenet_v1.toml");
        let small = [("alpha", "0.25"), ("input.height", "32"), ("input.width", "32")];
        let sets: Vec<_> = small.iter().chain(sets).map(|(k, v)| (k.to_string(), v.to_string())).collect();
        front::load(&path, &sets, None).map(|(net, _): (Net, _)| net.plan).map_err(|d| mnc_compiler::diag::render(&d, false))
    };
    assert_eq!(load(&[]), Ok(Options::default()));
    let set = load(&[("plan.threads", "2"), ("plan.prefer", "memory"), ("plan.stream", "always")]);
    let want = Options { threads: 2, prefer: Prefer::Memory, stream: Stream::Always, ..Options::default() };
    assert_eq!(set, Ok(want));
    assert_eq!(load(&[("plan.strassen", "true")]), Ok(Options { strassen: true, ..Options::default() }));
    assert_eq!(load(&[("plan.winograd", "false")]), Ok(Options { winograd: false, ..Options::default() }));
    for (key, value, part) in [
        ("plan.winograd", "maybe", "expected"),
        ("plan.threads", "0", "0 is not within 1 to 64"),
        ("plan.threads", "two", "expected an integer"),
        ("plan.prefer", "quick", "quick"),
        ("plan.stream", "sometimes", "sometimes"),
        ("plan.thread", "2", "did you mean `threads`?"),
    ] {
        let error = load(&[(key, value)]).expect_err(key);
        assert!(error.contains(part), "{key}={value}: {error}");
    }
}
