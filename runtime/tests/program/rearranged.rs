//! Steps that move elements by tables, join tensors, spread operands: run in place and beside, refused where anything is beyond.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::FILL;
use mnc_runtime::params::{Activation, Axis, BinaryKind, Conv, Real, Tap};
use mnc_runtime::program::{Checked, Op, Place, Program, Split, Stage, Step, View};

const ACT: Activation = Activation::None;

#[rustfmt::skip]
const TRANSPOSED: Conv = Conv {
    in_h: 2, in_w: 3, in_c: 4, out_h: 4, out_w: 6, out_c: 2, groups: 1, kernel_h: 2, kernel_w: 2, stride_h: 2, stride_w: 2, dilation_h: 1,
    dilation_w: 1, pad_top: 0, pad_left: 0, act: ACT, method: mnc_runtime::params::Method::Direct };

/// Two rows, three columns, four channels of the caller's.
const X: View = View::whole(Place::Input(0), 2, 3, 4);

fn y(h: usize, w: usize, c: usize) -> View {
    View::whole(Place::Output(0), h, w, c)
}

/// Checks a program of one step and runs it on 0, 1, 2, …: the result, or what is wrong.
fn run(op: Op, x: View, y: View, split: Split, orders: &[usize]) -> Result<Vec<f32>, &'static str> {
    let stage = Stage { steps: 1, strip: 1, split };
    let step = Step { op, x, y };
    let (stages, steps) = (&[stage][..], &[step][..]);
    let program = Program { stages, steps, orders, input: 24, output: 60, arena: 60, weights: 40, threads: 2 };
    let checked = Checked::new(program).map_err(|e| e.what)?;
    let input: Vec<f32> = (0..24u8).map(f32::from).collect();
    let mut output = vec![0.0; 60];
    checked
        .run(Isa::detect(), &[0.5; 40], &mut input.iter().copied().chain([0.0; 36]).collect::<Vec<_>>(), &input, &mut output)
        .unwrap();
    output.truncate(y.span());
    Ok(output)
}

fn alone(op: Op, y: View, orders: &[usize]) -> Result<Vec<f32>, &'static str> {
    run(op, X, y, Split::Alone, orders)
}

fn gather(rows: Option<usize>, columns: Option<usize>, channels: Option<usize>) -> Op {
    Op::Gather { rows, columns, channels, fill: Real::new(-1.0) }
}

#[test]
fn tables_of_indices() {
    let orders = [1, FILL, 2, 0, 3];
    assert_eq!(alone(gather(Some(0), Some(2), Some(4)), y(2, 2, 1), &orders), Ok(vec![23.0, 15.0, -1.0, -1.0]));
    assert!(alone(gather(None, None, None), y(2, 3, 4), &[]).is_ok());
    let rows = "row indices that are not there, or name rows that are not";
    assert_eq!(alone(gather(None, None, None), y(1, 3, 4), &[]), Err(rows));
    assert_eq!(alone(gather(Some(4), None, None), y(2, 3, 4), &orders), Err(rows));
    assert_eq!(alone(gather(Some(usize::MAX), None, None), y(2, 3, 4), &orders), Err(rows));
    assert_eq!(alone(gather(Some(2), None, None), y(2, 3, 4), &orders), Err(rows));
    let columns = "column indices that are not there, or name columns that are not";
    assert_eq!(alone(gather(None, Some(3), None), y(2, 2, 4), &orders), Err(columns));
    let channels = "channel indices that are not there, or name channels that are not";
    assert_eq!(alone(gather(None, None, Some(0)), y(2, 3, 1), &[4]), Err(channels));
    assert_eq!(
        alone(gather(None, None, None), View { pitch: 5, place: Place::Arena(24), ..X }, &[]),
        Err("a gathering with gaps")
    );
    assert_eq!(run(gather(None, None, None), X, X, Split::Alone, &[]), Err("a step that writes the input"));
    let over = View { place: Place::Arena(3), ..X };
    assert_eq!(run(gather(None, None, None), over, over, Split::Alone, &[]), Err("an input where the stage writes"));
    assert_eq!(
        run(gather(None, None, None), X, y(2, 3, 4), Split::Rows, &[]),
        Err("bands of rows of a kernel that needs all rows")
    );
}

#[test]
fn parts() {
    let joined = |axis, views: &[View], y: View| {
        let orders: Vec<usize> = views.iter().flat_map(View::words).collect();
        alone(Op::Concat { axis, parts: 0, count: views.len() }, y, &orders)
    };
    let pixel = View::whole(Place::Input(5), 1, 1, 4);
    assert_eq!(
        joined(Axis::W, &[View { width: 1, rows: 1, ..X }, pixel], y(1, 2, 4)),
        Ok(vec![0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0])
    );
    assert!(joined(Axis::H, &[X, X], y(4, 3, 4)).is_ok() && joined(Axis::C, &[X, X], y(2, 3, 8)).is_ok());
    assert_eq!(joined(Axis::C, &[X, X], y(2, 3, 9)), Err("parts that are not the whole"));
    assert_eq!(joined(Axis::C, &[], y(2, 3, 4)), Err("parts that are not the whole"));
    assert_eq!(joined(Axis::C, &[X, pixel], y(2, 3, 8)), Err("a part of other rows"));
    assert_eq!(joined(Axis::H, &[X, pixel], y(3, 3, 4)), Err("a part of other columns"));
    assert_eq!(joined(Axis::W, &[X, View { channels: 3, pitch: 3, ..X }], y(2, 6, 4)), Err("a part of other channels"));
    let outside = "a part outside of its memory, or with gaps";
    assert_eq!(joined(Axis::H, &[X, View { place: Place::Input(1), ..X }], y(4, 3, 4)), Err(outside));
    assert_eq!(joined(Axis::H, &[X, View { place: Place::Arena(0), pitch: 5, ..X }], y(4, 3, 4)), Err(outside));
    let beside = View { place: Place::Output(40), rows: 1, width: 3, ..X };
    assert_eq!(joined(Axis::H, &[X, beside], y(3, 3, 4)).map(|y| y.len()), Ok(36));
    let within = View { place: Place::Output(30), ..beside };
    assert_eq!(joined(Axis::H, &[X, within], y(3, 3, 4)), Err("an operand where the stage writes"));
    let not_there = "parts that are not there";
    assert_eq!(alone(Op::Concat { axis: Axis::H, parts: 1, count: 1 }, y(2, 3, 4), &X.words()), Err(not_there));
    assert_eq!(alone(Op::Concat { axis: Axis::H, parts: 0, count: usize::MAX }, y(2, 3, 4), &X.words()), Err(not_there));
    let no_place = [[4usize, 0, 0].as_slice(), &X.words()[3..]].concat();
    assert_eq!(alone(Op::Concat { axis: Axis::H, parts: 0, count: 1 }, y(2, 3, 4), &no_place), Err(not_there));
}

#[test]
fn spread_operands() {
    let binary = |x: View, other, y, split| run(Op::Binary { kind: BinaryKind::Sub, other, act: ACT }, x, y, split, &[]);
    let (row, pixel) = (View { rows: 1, ..X }, View { rows: 1, width: 1, ..X });
    let want: Vec<f32> = (0..24u8).map(|i| f32::from(i) - f32::from(i % 4)).collect();
    for split in [Split::Alone, Split::Rows, Split::Channels] {
        assert_eq!(binary(X, pixel, y(2, 3, 4), split), Ok(want.clone()), "{split:?}");
        assert!(binary(pixel, X, y(2, 3, 4), split).is_ok() && binary(row, row, y(2, 3, 4), split).is_ok());
    }
    let cannot = "operands that cannot be spread over the result";
    assert_eq!(binary(X, View { width: 2, ..X }, y(2, 3, 4), Split::Alone), Err(cannot));
    assert_eq!(binary(View { channels: 2, pitch: 2, ..X }, X, y(2, 3, 4), Split::Alone), Err(cannot));
    assert_eq!(binary(X, X, y(1, 3, 4), Split::Alone), Err(cannot));
    assert_eq!(binary(X, View { rows: 2, ..X }, y(4, 3, 4), Split::Alone), Err(cannot));
    assert_eq!(binary(row, View { rows: 2, ..X }, y(4, 3, 4), Split::Alone), Err(cannot));
    let outside = "an operand outside of its memory";
    assert_eq!(binary(X, View { place: Place::Input(1), ..X }, y(2, 3, 4), Split::Alone), Err(outside));
    let shifted = View { place: Place::Output(4), ..X };
    assert_eq!(binary(X, shifted, y(2, 3, 4), Split::Alone), Err("an operand where the stage writes"));
    // In place of the first operand, of the second, and of itself.
    let here = View { place: Place::Arena(0), ..X };
    assert!(binary(here, X, here, Split::Rows).is_ok() && binary(here, here, here, Split::Rows).is_ok());
}

#[test]
fn slopes_orders_means() {
    let slope = |at| alone(Op::PRelu { slope: at }, y(2, 3, 4), &[]);
    assert!(slope(36).is_ok());
    assert_eq!(slope(37), Err("slopes outside of the blob"));
    assert_eq!(alone(Op::PRelu { slope: 0 }, y(2, 2, 4), &[]), Err("an activation of another shape"));
    let transpose = |order, y| alone(Op::Transpose { order }, y, &[]);
    assert_eq!(transpose([2, 0, 1], y(4, 2, 3)).map(|y| y[..4].to_vec()), Ok(vec![0.0, 4.0, 8.0, 12.0]));
    for order in [[0, 0, 3], [1, 1, 1], [0, 1, 3], [usize::MAX, 1, 0]] {
        assert_eq!(transpose(order, y(2, 3, 4)), Err("an order of axes that is no permutation"));
    }
    assert_eq!(transpose([1, 0, 2], y(2, 3, 4)), Err("a transposition of another shape, or with gaps"));
    let mean = |axes, y| alone(Op::Mean { axes }, y, &[]);
    assert_eq!(mean([true, true, false], y(1, 1, 4)), Ok(vec![10.0, 11.0, 12.0, 13.0]));
    assert_eq!(mean([true, false, false], y(1, 1, 4)), Err("a mean of another shape, or with gaps"));
    let nothing = View { width: 0, ..X };
    let op = Op::Mean { axes: [false, true, false] };
    assert_eq!(run(op, nothing, y(2, 1, 4), Split::Alone, &[]), Err("a mean of no elements"));
}

#[test]
fn taps() {
    let tap = |low, high| Tap { low, high, weight: Real::new(0.5) }.words();
    let orders = [tap(0, 1), tap(2, 0), tap(1, 1)].concat();
    let linear = |rows, columns, y| alone(Op::Interpolate { rows, columns }, y, &orders);
    assert_eq!(linear(0, 3, y(1, 2, 4)).map(|y| y[0]), Ok(10.0));
    let rows = "taps that are not there, or name rows that are not";
    assert_eq!(linear(3, 3, y(1, 1, 4)), Err(rows));
    assert_eq!(linear(0, 3, y(4, 1, 4)), Err(rows));
    assert_eq!(linear(usize::MAX, 3, y(1, 1, 4)), Err(rows));
    let columns = "taps that are not there, or name columns that are not";
    assert_eq!(linear(0, 6, y(1, 2, 4)), Err(columns));
    assert_eq!(linear(0, 3, y(1, 1, 3)), Err("an interpolation of another shape, or with gaps"));
    let wide = [tap(0, 1), [0, 0, 1 << 32]].concat();
    assert_eq!(alone(Op::Interpolate { rows: 0, columns: 3 }, y(1, 1, 4), &wide), Err(columns));
}

#[test]
fn transposed_convolutions() {
    let sized = |change: fn(&mut Conv), weights| {
        let mut params = TRANSPOSED;
        change(&mut params);
        let program = Program {
            stages: &[Stage { steps: 1, strip: 1, split: Split::Alone }],
            steps: &[Step { op: Op::ConvTranspose { params, weight: 0, bias: 0 }, x: X, y: y(4, 6, 2) }],
            orders: &[],
            input: 24,
            output: 48,
            arena: 0,
            weights,
            threads: 1,
        };
        Checked::new(program).map(drop).map_err(|e| e.what)
    };
    assert_eq!(sized(|_| {}, 256), Ok(()));
    assert_eq!(sized(|_| {}, 255), Err("weights outside of the blob"));
    assert_eq!(sized(|p| p.groups = 2, 256), Ok(()));
    assert_eq!(sized(|p| p.groups = 3, 256), Err("groups that do not divide the channels"));
    assert_eq!(sized(|p| p.in_c = 3, 256), Err("a transposed convolution's input of another shape"));
    assert_eq!(sized(|p| p.out_h = 5, 256), Err("a transposed convolution's output of another shape"));
    const SPOILS: [fn(&mut Conv); 5] =
        [|p| p.stride_h = 0, |p| p.kernel_w = 0, |p| p.dilation_w = 0, |p| p.pad_left = usize::MAX, |p| p.stride_w = usize::MAX];
    for spoil in SPOILS {
        assert_eq!(sized(spoil, 256), Err("windows that make no sense"));
    }
}

/// A tensor in another shape stands where it stood.
#[test]
fn a_reshaped_tensor_is_left_alone() {
    let here = View { place: Place::Arena(0), ..X };
    let flat = View::whole(Place::Arena(0), 1, 1, 24);
    assert!(run(Op::Copy, here, flat, Split::Alone, &[]).is_ok());
    let shifted = View { place: Place::Arena(1), ..flat };
    assert_eq!(run(Op::Copy, here, shifted, Split::Alone, &[]), Err("an input where the stage writes"));
    assert_eq!(
        run(Op::Copy, here, View { channels: 23, pitch: 23, ..flat }, Split::Alone, &[]),
        Err("a copy of another length, or with gaps")
    );
}
