//! Every way to get a program wrong is refused, with the place of the mistake.

use mnc_runtime::params::{Activation, Conv, Depthwise, Method, Pointwise, Pool, PoolKind};
use mnc_runtime::program::{Added, Checked, Op, Owned, Place, Program, Split, Stage, Step, View};

use super::net::Tables;

const ACT: Activation = Activation::None;

#[rustfmt::skip]
const CONV: Conv = Conv {
    in_h: 9, in_w: 8, in_c: 3, out_h: 9, out_w: 8, out_c: 5, groups: 1, kernel_h: 3, kernel_w: 3, stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1,
    pad_top: 1, pad_left: 1, act: ACT, method: mnc_runtime::params::Method::Direct };
#[rustfmt::skip]
const DEPTHWISE: Depthwise = Depthwise {
    in_h: 9, in_w: 8, in_c: 5, multiplier: 1, out_h: 9, out_w: 8, kernel_h: 3, kernel_w: 3, stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1, pad_top: 1,
    pad_left: 1, act: ACT,
};
const POINTWISE: Pointwise = Pointwise { h: 9, w: 8, in_c: 5, out_c: 5, act: ACT, pool: false, method: Method::Direct };
#[rustfmt::skip]
const POOL: Pool = Pool {
    kind: PoolKind::Max, in_h: 9, in_w: 8, c: 5, out_h: 4, out_w: 4, kernel_h: 2, kernel_w: 2, stride_h: 2, stride_w: 2, pad_top: 0,
    pad_left: 0, count_padding: false,
};

/// A tensor of the block.
const fn whole(place: Place) -> View {
    View::whole(place, 9, 8, 5)
}

/// Floats of such a tensor.
const FLOATS: usize = 9 * 8 * 5;

/// A ring with pixels 6 floats apart; three threads have one each.
const fn ring(first: usize, rows: usize) -> View {
    View { place: Place::Ring { first, apart: rows * 8 * 6 + 1 }, rows, width: 8, channels: 5, pitch: 6 }
}

/// A stem; a streamed block whose last step adds the stem's tensor; a pool, a normalisation, a scale, an activation, a softmax.
fn good() -> Tables {
    let (stem, other) = (whole(Place::Arena(0)), whole(Place::Arena(FLOATS)));
    let rings = [ring(2 * FLOATS, 4), ring(2 * FLOATS + 600, 2)];
    let small = |place| View::whole(place, 4, 4, 5);
    let scales = View::whole(Place::Arena(2 * FLOATS + 100), 1, 1, 5);
    let step = |op, x, y| Step { op, x, y };
    let pointwise = |added| Op::Pointwise { params: POINTWISE, weight: 0, bias: 0, added };
    let steps = vec![
        step(
            Op::Conv { params: CONV, weight: 0, bias: 0, pad_value: Some(7), added: Added::Nothing },
            View::whole(Place::Input(0), 9, 8, 3),
            stem,
        ),
        step(pointwise(Added::Nothing), stem, rings[0]),
        step(Op::Depthwise { params: DEPTHWISE, weight: 0, bias: 0, pad_value: None }, rings[0], rings[1]),
        step(pointwise(Added::From(stem)), rings[1], other),
        step(Op::Add { other: stem, act: ACT }, other, other),
        step(Op::Pool(POOL), other, small(Place::Arena(0))),
        step(Op::GlobalPool, small(Place::Arena(0)), scales),
        step(Op::Scale { scale: scales, act: ACT }, small(Place::Arena(0)), small(Place::Arena(0))),
        step(Op::Act(ACT), small(Place::Arena(0)), small(Place::Arena(200))),
        step(Op::Normalize { order: 0, scale: 3, shift: 8 }, small(Place::Arena(200)), small(Place::Arena(0))),
        step(Op::Pad { top: 1, left: 0, value: Some(1) }, small(Place::Arena(0)), View::whole(Place::Arena(200), 6, 4, 5)),
        step(Op::Constant { value: 2 }, View::whole(Place::Input(0), 1, 1, 1), small(Place::Arena(0))),
        step(Op::Copy, small(Place::Arena(0)), small(Place::Output(0))),
        step(Op::Softmax, small(Place::Output(0)), small(Place::Output(0))),
    ];
    let stage = |steps, split| Stage { steps, strip: 2, split };
    let alone = |_| stage(1, Split::Alone);
    let mut stages = vec![stage(1, Split::Channels), stage(3, Split::Rows), stage(1, Split::Rows), stage(1, Split::Channels)];
    stages.extend((6..steps.len()).map(alone));
    let arena = 2 * FLOATS + 600 + 3 * (2 * 8 * 6 + 1) - 1;
    Tables { stages, steps, orders: vec![4, 3, 2, 1, 0], input: 9 * 8 * 3, output: 80, arena, weights: 448, threads: 3 }
}

/// The conv of a step, to be spoilt.
fn conv(t: &mut Tables) -> &mut Conv {
    match &mut t.steps[0].op {
        Op::Conv { params, .. } => params,
        _ => unreachable!(),
    }
}

fn depthwise(t: &mut Tables) -> &mut Depthwise {
    match &mut t.steps[2].op {
        Op::Depthwise { params, .. } => params,
        _ => unreachable!(),
    }
}

fn pointwise(t: &mut Tables, step: usize) -> &mut Pointwise {
    match &mut t.steps[step].op {
        Op::Pointwise { params, .. } => params,
        _ => unreachable!(),
    }
}

fn pool(t: &mut Tables) -> &mut Pool {
    match &mut t.steps[5].op {
        Op::Pool(params) => params,
        _ => unreachable!(),
    }
}

/// A stem of five groups, with room for its weights.
fn grouped(t: &mut Tables) {
    (t.steps[0].x, t.input, t.weights) = (whole(Place::Input(0)), FLOATS, 4000);
    (conv(t).in_c, conv(t).groups) = (5, 5);
}

/// Whole tensors in place of rings for the block's steps, each a stage of its own, shared by rows.
fn unchained(t: &mut Tables) {
    t.stages.splice(1..2, [Stage { steps: 1, strip: 9, split: Split::Rows }; 3]);
    let at = |i: usize| whole(Place::Arena(t_arena(i)));
    fn t_arena(i: usize) -> usize {
        (2 + i) * FLOATS
    }
    (t.steps[1].y, t.steps[2].x, t.steps[2].y, t.steps[3].x) = (at(0), at(0), at(1), at(1));
    t.arena = t.arena.max(4 * FLOATS);
}

type Spoil = fn(&mut Tables);

/// What is done to the good program, and where and how it is refused.
const WRONG: &[(usize, usize, &str, Spoil)] = &[
    // the program
    (0, 0, "a program without a thread", |t| t.threads = 0),
    (11, 0, "a stage of more steps than there are", |t| t.stages[11].steps = 2),
    (0, 0, "a stage without steps, with too many, or with strips of no rows", |t| t.stages[0].steps = 0),
    (1, 0, "a stage without steps, with too many, or with strips of no rows", |t| t.stages[1].strip = 0),
    // memory
    (0, 0, "an input outside of its memory", |t| t.input -= 1),
    (0, 0, "an input outside of its memory", |t| t.steps[0].x.place = Place::Input(1)),
    (0, 0, "an input outside of its memory", |t| t.steps[0].x.place = Place::Input(usize::MAX - 3)),
    (10, 0, "an output outside of its memory", |t| t.steps[12].y.place = Place::Output(1)),
    (0, 0, "an input outside of its memory", |t| t.steps[0].x.pitch = 4),
    (0, 0, "an output outside of its memory", |t| t.arena = FLOATS - 1),
    (1, 1, "an output outside of its memory", |t| t.arena -= 1),
    (1, 1, "an output outside of its memory", |t| t.threads = 4),
    (10, 0, "an output outside of its memory", |t| t.output = 79),
    (0, 0, "an output outside of its memory", |t| t.steps[0].y.pitch = 4),
    (0, 0, "an output outside of its memory", |t| t.steps[0].y.rows = 0),
    (0, 0, "an output outside of its memory", |t| t.steps[0].y.place = Place::Arena(usize::MAX - 3)),
    (0, 0, "an output outside of its memory", |t| t.steps[0].y.pitch = usize::MAX / 4),
    (1, 0, "an output outside of its memory", |t| {
        for view in t.steps[1..3].iter_mut().zip([true, false]).map(|(s, y)| if y { &mut s.y } else { &mut s.x }) {
            view.place = Place::Ring { first: 2 * FLOATS, apart: 4 * 8 * 6 - 1 };
        }
    }),
    (1, 0, "an output outside of its memory", |t| t.steps[1].y.place = Place::Ring { first: 0, apart: usize::MAX }),
    (0, 0, "a step that writes the input", |t| t.steps[0].y = View::whole(Place::Input(0), 9, 8, 3)),
    // rings
    (1, 0, "a ring that is no link between two steps", |t| t.steps[1].y = whole(Place::Arena(2 * FLOATS))),
    (1, 2, "a ring that is no link between two steps", |t| t.steps[3].y = ring(2 * FLOATS, 4)),
    (2, 0, "a ring that nothing wrote", |t| t.steps[4].x = ring(2 * FLOATS, 4)),
    (1, 1, "a step that does not read what the one before wrote", |t| t.steps[2].x = ring(2 * FLOATS + 1, 4)),
    (1, 1, "a step that does not read what the one before wrote", |t| t.steps[2].x = ring(2 * FLOATS, 3)),
    (1, 2, "a step that does not read what the one before wrote", |t| t.steps[3].x = t.steps[0].y),
    (1, 2, "a chain through a kernel that needs all rows", |t| t.steps[3].op = Op::Copy),
    (1, 1, "rows that do not follow from those before", |t| depthwise(t).in_h = 8),
    (1, 1, "rows that do not follow from those before", |t| depthwise(t).in_h = 10),
    (1, 2, "rows that do not follow from those before", |t| depthwise(t).out_h = 8),
    (1, 2, "rows that do not follow from those before", |t| {
        t.steps[3].op = added(Added::Nothing);
        pointwise(t, 3).h = 7;
        t.steps[3].y.rows = 7;
    }),
    (1, 2, "rows that do not follow from those before", |t| {
        t.steps[3].op = Op::Act(ACT);
        t.steps[3].y = View { rows: 20, width: 8, ..whole(Place::Arena(4000)) };
        t.arena = 8000;
    }),
    (1, 1, "rows that do not follow from those before", |t| {
        t.steps[2].op = Op::Add { other: View { rows: 8, ..whole(Place::Arena(0)) }, act: ACT };
    }),
    // threads
    (1, 0, "bands of channels of a chain", |t| t.stages[1].split = Split::Channels),
    (4, 0, "bands of rows of a kernel that needs all rows", |t| t.stages[4].split = Split::Rows),
    (11, 0, "bands of channels of a kernel that needs all channels", |t| t.stages[11].split = Split::Channels),
    (7, 0, "bands of rows of a kernel that needs all rows", |t| t.stages[7].split = Split::Rows),
    (0, 0, "bands of channels of a kernel that needs all channels", grouped),
    (1, 2, "a method that cannot compute the layer", |t| pointwise(t, 3).method = Method::Strassen),
    (1, 2, "a method that cannot compute the layer", |t| pointwise(t, 3).method = Method::Winograd2),
    // what is read where it is written
    (0, 0, "an input where the stage writes", |t| {
        t.steps[0].x = whole(Place::Arena(4));
        (conv(t).in_c, t.weights) = (5, 4000);
    }),
    (1, 2, "an input where the stage writes", |t| t.steps[3].y = t.steps[0].y),
    (1, 2, "an input where the stage writes", |t| t.steps[3].y = whole(Place::Arena(8))),
    (2, 0, "an input where the stage writes", |t| t.steps[4].y = whole(Place::Arena(FLOATS + 5))),
    (7, 0, "an input where the stage writes", |t| t.steps[9].y = t.steps[9].x),
    (1, 0, "two steps that write the same place", |t| {
        t.steps[2].y.place = Place::Ring { first: 2 * FLOATS + 100, apart: 97 };
        t.steps[3].x = t.steps[2].y;
    }),
    (1, 2, "an operand where the stage writes", |t| t.steps[3].op = added(Added::From(whole(Place::Arena(FLOATS - 1))))),
    (5, 0, "an operand where the stage writes", |t| {
        t.steps[7].op = Op::Scale { scale: View::whole(Place::Arena(3), 1, 1, 5), act: ACT };
    }),
    (2, 0, "an operand where the stage writes", |t| {
        t.steps[4].op = Op::Add { other: whole(Place::Arena(FLOATS + 5)), act: ACT };
    }),
    // sizes
    (0, 0, "a convolution's input of another shape", |t| conv(t).in_w = 7),
    (0, 0, "a convolution's output of another shape", |t| conv(t).out_h = 8),
    (0, 0, "windows that make no sense", |t| conv(t).kernel_h = 0),
    (0, 0, "windows that make no sense", |t| conv(t).stride_w = 0),
    (0, 0, "windows that make no sense", |t| conv(t).pad_left = usize::MAX - 1),
    (0, 0, "windows that make no sense", |t| conv(t).stride_h = usize::MAX / 2),
    (0, 0, "weights outside of the blob", |t| t.weights = 431),
    (0, 0, "weights outside of the blob", |t| conv(t).kernel_w = 1 << 40),
    (0, 0, "groups that do not divide the channels", |t| {
        t.stages[0].split = Split::Rows;
        conv(t).groups = 2;
    }),
    (0, 0, "groups that do not divide the channels", |t| {
        t.stages[0].split = Split::Alone;
        conv(t).groups = 0;
    }),
    (0, 0, "weights outside of the blob", |t| {
        grouped(t);
        (t.stages[0].split, t.weights) = (Split::Rows, 5 * 16 * 9 - 1);
    }),
    (0, 0, "a bias outside of the blob", |t| {
        grouped(t);
        (t.stages[0].split, t.weights) = (Split::Rows, 5 * 16 * 9);
        if let Op::Conv { bias, .. } = &mut t.steps[0].op {
            *bias = 5 * 16 * 9 - 79;
        }
    }),
    (0, 0, "a bias outside of the blob", |t| {
        if let Op::Conv { bias, .. } = &mut t.steps[0].op {
            *bias = 448 - 15;
        }
    }),
    (0, 0, "padding outside of the blob", |t| {
        if let Op::Conv { pad_value, .. } = &mut t.steps[0].op {
            *pad_value = Some(446);
        }
    }),
    (1, 1, "a depthwise convolution's input of another shape", |t| depthwise(t).in_c = 4),
    (1, 1, "a depthwise convolution's output of another shape", |t| depthwise(t).multiplier = 2),
    (1, 1, "windows that make no sense", |t| depthwise(t).stride_w = 0),
    (1, 1, "weights outside of the blob", |t| depthwise(t).kernel_h = 11),
    (1, 0, "a pointwise convolution's input of another shape", |t| pointwise(t, 1).in_c = 6),
    (1, 0, "a pointwise convolution's output of another shape", |t| pointwise(t, 1).out_c = 6),
    (3, 0, "a pointwise convolution's output of another shape", |t| {
        unchained(t);
        t.stages[3].split = Split::Alone;
        pointwise(t, 3).pool = true;
    }),
    (1, 0, "a fused pool with a residual", |t| {
        unchained(t);
        t.stages[1].split = Split::Alone;
        t.steps[1].y = View::whole(Place::Arena(2 * FLOATS), 1, 1, 5);
        t.steps[1].op = added(Added::InPlace);
        pointwise(t, 1).pool = true;
    }),
    (1, 0, "a residual in a ring", |t| t.steps[1].op = added(Added::InPlace)),
    (1, 2, "a residual outside of its memory", |t| t.steps[3].op = added(Added::From(whole(Place::Arena(4 * FLOATS))))),
    (1, 2, "a residual from a ring that no step before it wrote", |t| t.steps[3].op = added(Added::From(ring(2 * FLOATS, 3)))),
    (1, 0, "a residual from a ring that no step before it wrote", |t| t.steps[1].op = added(Added::From(ring(2 * FLOATS, 4)))),
    // As wide, but nine rows for five.
    (1, 2, "a residual from a ring that no step before it wrote", |t| {
        (depthwise(t).stride_h, depthwise(t).out_h) = (2, 5);
        t.steps[3].op = added(Added::From(ring(2 * FLOATS, 4)));
        t.steps[3].y = View::whole(Place::Arena(FLOATS), 5, 8, 5);
        pointwise(t, 3).h = 5;
    }),
    (1, 2, "a residual of another shape", |t| t.steps[3].op = added(Added::From(View::whole(Place::Arena(0), 9, 7, 5)))),
    (3, 0, "a pool's input of another shape", |t| pool(t).c = 4),
    (3, 0, "a pool's output of another shape", |t| pool(t).out_h = 3),
    (3, 0, "a pool's window outside of the input", |t| pool(t).stride_h = 3),
    (3, 0, "a pool's window outside of the input", |t| pool(t).pad_left = 2),
    (3, 0, "windows that make no sense", |t| pool(t).kernel_w = 0),
    (4, 0, "a mean of another shape", |t| t.steps[6].y.channels = 4),
    (2, 0, "addends of different shapes", |t| t.steps[4].op = Op::Add { other: View::whole(Place::Arena(0), 9, 8, 4), act: ACT }),
    (2, 0, "an addend outside of its memory", |t| t.steps[4].op = Op::Add { other: whole(Place::Output(0)), act: ACT }),
    (5, 0, "factors of another shape", |t| {
        t.steps[7].op = Op::Scale { scale: View::whole(Place::Arena(700), 1, 1, 4), act: ACT };
    }),
    (5, 0, "factors outside of their memory", |t| {
        t.steps[7].op = Op::Scale { scale: View::whole(Place::Arena(1 << 20), 1, 1, 5), act: ACT };
    }),
    (6, 0, "an activation of another shape", |t| t.steps[8].y.rows = 3),
    (11, 0, "a softmax of another shape, or with gaps", |t| t.steps[13].y.width = 3),
    (7, 0, "a normalisation of another shape, or with gaps", |t| t.orders.truncate(4)),
    (7, 0, "a normalisation of another shape, or with gaps", |t| t.steps[9].y.pitch = 6),
    (7, 0, "constants outside of the blob", |t| t.steps[9].op = Op::Normalize { order: 0, scale: 444, shift: 0 }),
    (7, 0, "a channel that is not there", |t| t.orders[4] = 5),
    (8, 0, "padding of another shape, or with gaps", |t| t.steps[10].x.channels = 4),
    (8, 0, "padding that does not hold the input", |t| t.steps[10].op = Op::Pad { top: 3, left: 0, value: None }),
    (8, 0, "padding that does not hold the input", |t| t.steps[10].op = Op::Pad { top: 0, left: usize::MAX, value: None }),
    (8, 0, "padding outside of the blob", |t| t.steps[10].op = Op::Pad { top: 0, left: 0, value: Some(444) }),
    (10, 0, "a copy of another length, or with gaps", |t| t.steps[12].x.rows = 3),
    (9, 0, "a constant outside of the blob", |t| t.steps[11].op = Op::Constant { value: 448 - 79 }),
];

fn added(added: Added) -> Op {
    Op::Pointwise { params: POINTWISE, weight: 0, bias: 0, added }
}

#[test]
fn each_mistake_is_refused_where_it_is() {
    let right = good();
    Checked::new(right.program()).unwrap();
    assert_eq!(Owned::new(right.program()).unwrap().checked().get(), &right.program());
    let mut whole = good();
    unchained(&mut whole);
    Checked::new(whole.program()).unwrap();
    let mut other = Vec::new();
    for (i, &(stage, step, what, spoil)) in WRONG.iter().enumerate() {
        let mut tables = good();
        spoil(&mut tables);
        let found = Checked::new(tables.program()).map(drop);
        let Err(error) = found else {
            other.push(format!("{i}: let through, not `{what}`"));
            continue;
        };
        if (error.stage, error.step, error.what) != (stage, step, what) {
            other.push(format!("{i}: `{error}`, not `stage {stage}, step {step}: {what}`"));
        }
        assert_eq!(Owned::new(tables.program()).unwrap_err(), error);
    }
    assert!(other.is_empty(), "{}", other.join("\n"));
}

/// What one thread may do and several may not: a block's result over its input.
#[test]
fn a_block_over_its_input_is_for_one_thread() {
    let over = |threads: usize, split: Split| {
        let mut tables = good();
        tables.threads = threads;
        tables.stages[1].split = split;
        tables.steps[3].y = tables.steps[0].y;
        tables.steps[3].op = added(Added::InPlace);
        Checked::new(tables.program()).map(drop).map_err(|e| (e.stage, e.step, e.what))
    };
    assert_eq!(over(1, Split::Rows), Ok(()));
    assert_eq!(over(3, Split::Alone), Ok(()));
    assert_eq!(over(2, Split::Rows), Err((1, 2, "an input where the stage writes")));
}

/// An addend may be where the sum goes, element by element.
#[test]
fn a_sum_may_replace_either_addend() {
    let mut tables = good();
    tables.steps[4] = Step { op: Op::Add { other: whole(Place::Arena(FLOATS)), act: ACT }, ..tables.steps[4] };
    tables.steps[4].x = whole(Place::Arena(0));
    Checked::new(tables.program()).unwrap();
}

/// A layer that Strassen's method can compute, with room for its weights: its channels are joined, so no thread may take some of them, and it
/// has no place for a residual.
#[test]
fn strassens_method_takes_all_channels_and_no_residual() {
    let params = Pointwise { h: 4, w: 4, in_c: 6, out_c: 64, act: ACT, pool: false, method: Method::Strassen };
    let (x, y) = (View::whole(Place::Input(0), 4, 4, 6), View::whole(Place::Output(0), 4, 4, 64));
    let refused = |split, added, weights| {
        let steps = [Step { op: Op::Pointwise { params, weight: 0, bias: 672, added }, x, y }];
        let stages = [Stage { steps: 1, strip: 4, split }];
        let program =
            Program { stages: &stages, steps: &steps, orders: &[], input: 96, output: 1024, arena: 0, weights, threads: 2 };
        Checked::new(program).err().map(|e| e.what)
    };
    assert_eq!(refused(Split::Rows, Added::Nothing, 736), None);
    assert_eq!(refused(Split::Rows, Added::Nothing, 735), Some("a bias outside of the blob"));
    assert_eq!(refused(Split::Channels, Added::Nothing, 736), Some("bands of channels of a kernel that needs all channels"));
    assert_eq!(refused(Split::Rows, Added::InPlace, 736), Some("a method that takes no residual"));
}
