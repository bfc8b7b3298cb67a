//! The module `table` of emitted code: the program of a plan as constants, one commented line a stage and a few a step.

use mnc_runtime::params::{Activation, Axis, BinaryKind, Conv, Depthwise, Method, Pointwise, Pool, PoolKind, Real};
use mnc_runtime::program::{Added, Op, Place, Program, Split, Stage, Step, View};
use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::quote;

use super::format::Comments;
use super::int;
use crate::back::program::Tables;
use crate::ir::Shape;
use crate::plan::{self, Kernel, Plan, Residual};

/// `mod table { … static NET: Checked = …; }`: a module, so that none of its names meets one of the user's.
pub(super) fn tokens(plan: &Plan, comments: &mut Comments) -> TokenStream {
    let tables = Tables::new(plan);
    // Destructured, so that nothing new can be forgotten.
    let Program { stages, steps, orders, input, output, arena, weights, threads } = tables.program();
    let [n_stages, n_steps, n_orders] = [stages.len(), steps.len(), orders.len()].map(int);
    let [input, output, arena, weights, threads] = [input, output, arena, weights, threads].map(int);
    let mut listed = |text: String, value: TokenStream| {
        let mark = comments.mark(text);
        quote! { #mark #value }
    };
    let stages: Vec<_> = plan.stages.iter().zip(stages).map(|(p, s)| listed(describe_stage(p), stage(s))).collect();
    let steps: Vec<_> = plan.steps().zip(steps).map(|(p, s)| listed(describe(p), step(s))).collect();
    let orders = orders.iter().map(|&c| int(c));
    quote! {
        /// The net as data: what is computed, in which order, and where it stands. Checked while it is compiled.
        mod table {
            #[allow(unused_imports, reason = "which ones are needed depends on the net")]
            use ::mnc::runtime::params::{self, Activation, PoolKind, Real};
            #[allow(unused_imports, reason = "which ones are needed depends on the net")]
            use ::mnc::runtime::program::{Added, Checked, Op, Place, Program, Split, Stage, Step, View};

            /// Chains of steps, each streamed over strips of rows.
            static STAGES: [Stage; #n_stages] = [#(#stages,)*];
            /// Kernel calls of all stages. Positions are in floats: weights from the start of the blob, places in the arena.
            static STEPS: [Step; #n_steps] = [#(#steps,)*];
            /// Numbers that steps name by their position: channel orders, index tables, taps, parts of joined tensors.
            static ORDERS: [usize; #n_orders] = [#(#orders),*];
            /// The whole net.
            pub(super) static NET: Checked<'static> = Checked::expect(Program {
                stages: &STAGES,
                steps: &STEPS,
                orders: &ORDERS,
                input: #input,
                output: #output,
                arena: #arena,
                weights: #weights,
                threads: #threads,
            });
        }
    }
}

fn stage(stage: &Stage) -> TokenStream {
    let Stage { steps, strip, split } = *stage;
    let [steps, strip] = [steps, strip].map(int);
    let split = match split {
        Split::Alone => quote! { Alone },
        Split::Rows => quote! { Rows },
        Split::Channels => quote! { Channels },
    };
    quote! { Stage { steps: #steps, strip: #strip, split: Split::#split } }
}

fn step(step: &Step) -> TokenStream {
    let Step { op: o, x, y } = step;
    let (op, x, y) = (op(o), view(x), view(y));
    quote! { Step { op: Op::#op, x: #x, y: #y } }
}

fn view(view: &View) -> TokenStream {
    let View { place, rows, width, channels, pitch } = *view;
    let place = match place {
        Place::Input(at) => {
            let at = int(at);
            quote! { Input(#at) }
        }
        Place::Output(at) => {
            let at = int(at);
            quote! { Output(#at) }
        }
        Place::Arena(at) => {
            let at = int(at);
            quote! { Arena(#at) }
        }
        Place::Ring { first, apart } => {
            let [first, apart] = [first, apart].map(int);
            quote! { Ring { first: #first, apart: #apart } }
        }
    };
    let [rows, width, channels, pitch] = [rows, width, channels, pitch].map(int);
    quote! { View { place: Place::#place, rows: #rows, width: #width, channels: #channels, pitch: #pitch } }
}

fn added(added: &Added) -> TokenStream {
    match added {
        Added::Nothing => quote! { Added::Nothing },
        Added::InPlace => quote! { Added::InPlace },
        Added::From(from) => {
            let from = view(from);
            quote! { Added::From(#from) }
        }
    }
}

/// A position that need not be there: `Some(3)`.
fn position(at: Option<usize>) -> TokenStream {
    match at.map(int) {
        Some(at) => quote! { Some(#at) },
        None => quote! { None },
    }
}

/// The variant with its fields.
fn op(op: &Op) -> TokenStream {
    match op {
        Op::Conv { params, weight, bias, pad_value, added: a } => {
            let (params, weight, bias, pad_value, added) =
                (conv(params), int(*weight), int(*bias), position(*pad_value), added(a));
            quote! { Conv { params: #params, weight: #weight, bias: #bias, pad_value: #pad_value, added: #added } }
        }
        Op::Depthwise { params, weight, bias, pad_value } => {
            let (params, weight, bias, pad_value) = (depthwise(params), int(*weight), int(*bias), position(*pad_value));
            quote! { Depthwise { params: #params, weight: #weight, bias: #bias, pad_value: #pad_value } }
        }
        Op::Pointwise { params, weight, bias, added: a } => {
            let (params, weight, bias, added) = (pointwise(params), int(*weight), int(*bias), added(a));
            quote! { Pointwise { params: #params, weight: #weight, bias: #bias, added: #added } }
        }
        Op::Pool(params) => {
            let params = pool(params);
            quote! { Pool(#params) }
        }
        Op::GlobalPool => quote! { GlobalPool },
        Op::Add { other, act } => {
            let (other, act) = (view(other), activation(*act));
            quote! { Add { other: #other, act: #act } }
        }
        Op::Scale { scale, act } => {
            let (scale, act) = (view(scale), activation(*act));
            quote! { Scale { scale: #scale, act: #act } }
        }
        Op::Act(act) => {
            let act = activation(*act);
            quote! { Act(#act) }
        }
        Op::Softmax => quote! { Softmax },
        Op::Normalize { order, scale, shift } => {
            let [order, scale, shift] = [*order, *scale, *shift].map(int);
            quote! { Normalize { order: #order, scale: #scale, shift: #shift } }
        }
        Op::Pad { top, left, value } => {
            let ([top, left], value) = ([*top, *left].map(int), position(*value));
            quote! { Pad { top: #top, left: #left, value: #value } }
        }
        Op::Concat { axis, parts, count } => {
            let axis = match axis {
                Axis::H => quote!(H),
                Axis::W => quote!(W),
                Axis::C => quote!(C),
            };
            let [parts, count] = [*parts, *count].map(int);
            quote! { Concat { axis: params::Axis::#axis, parts: #parts, count: #count } }
        }
        Op::Gather { rows, columns, channels, fill } => {
            let ([rows, columns, channels], fill) = ([*rows, *columns, *channels].map(position), real(*fill));
            quote! { Gather { rows: #rows, columns: #columns, channels: #channels, fill: #fill } }
        }
        Op::Binary { kind, other, act } => {
            let kind = match kind {
                BinaryKind::Add => quote!(Add),
                BinaryKind::Sub => quote!(Sub),
                BinaryKind::Mul => quote!(Mul),
                BinaryKind::Div => quote!(Div),
            };
            let (other, act) = (view(other), activation(*act));
            quote! { Binary { kind: params::BinaryKind::#kind, other: #other, act: #act } }
        }
        Op::PRelu { slope } => {
            let slope = int(*slope);
            quote! { PRelu { slope: #slope } }
        }
        Op::Transpose { order } => {
            let order = order.map(int);
            quote! { Transpose { order: [#(#order),*] } }
        }
        Op::Mean { axes } => quote! { Mean { axes: [#(#axes),*] } },
        Op::Interpolate { rows, columns } => {
            let [rows, columns] = [*rows, *columns].map(int);
            quote! { Interpolate { rows: #rows, columns: #columns } }
        }
        Op::ConvTranspose { params, weight, bias } => {
            let (params, weight, bias) = (conv(params), int(*weight), int(*bias));
            quote! { ConvTranspose { params: #params, weight: #weight, bias: #bias } }
        }
        Op::Copy => quote! { Copy },
        Op::Constant { value } => {
            let value = int(*value);
            quote! { Constant { value: #value } }
        }
    }
}

/// `Activation::Relu6`
fn activation(act: Activation) -> TokenStream {
    let variant = match act {
        Activation::None => quote!(None),
        Activation::Relu => quote!(Relu),
        Activation::Relu6 => quote!(Relu6),
        Activation::HSwish => quote!(HSwish),
        Activation::HSigmoid => quote!(HSigmoid),
        Activation::Sigmoid => quote!(Sigmoid),
        Activation::Tanh => quote!(Tanh),
        Activation::Silu => quote!(Silu),
        Activation::LeakyRelu(slope) => {
            let slope = real(slope);
            quote!(LeakyRelu(#slope))
        }
        Activation::Clip(least, most) => {
            let [least, most] = [least, most].map(real);
            quote!(Clip(#least, #most))
        }
        Activation::HardSigmoid(alpha, beta) => {
            let [alpha, beta] = [alpha, beta].map(real);
            quote!(HardSigmoid(#alpha, #beta))
        }
    };
    quote! { Activation::#variant }
}

/// `Real::new(-0.5)`; what no literal is has a name, or its bits.
fn real(x: Real) -> TokenStream {
    let x = x.get();
    let size = match x.abs() {
        size if size.is_finite() => {
            let literal = Literal::f32_unsuffixed(size);
            quote!(#literal)
        }
        size if size.is_infinite() => quote!(f32::INFINITY),
        size => {
            let bits = Literal::u32_unsuffixed(size.to_bits());
            quote!(f32::from_bits(#bits))
        }
    };
    let minus = x.is_sign_negative().then(|| quote!(-));
    quote! { Real::new(#minus #size) }
}

/// `name: 3,` for each.
fn fields<const N: usize>(all: [(&str, usize); N]) -> TokenStream {
    let fields = all.iter().map(|&(name, value)| {
        let (name, value) = (Ident::new(name, Span::call_site()), int(value));
        quote! { #name: #value, }
    });
    quote! { #(#fields)* }
}

/// The named variables as fields of a literal.
macro_rules! fields {
    ($($name:ident),*) => { fields([$((stringify!($name), $name)),*]) };
}

fn conv(params: &Conv) -> TokenStream {
    let Conv {
        in_h,
        in_w,
        in_c,
        out_h,
        out_w,
        out_c,
        groups,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        pad_top,
        pad_left,
        act,
        method,
    } = *params;
    let fields = fields!(
        in_h, in_w, in_c, out_h, out_w, out_c, groups, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top,
        pad_left
    );
    let act = activation(act);
    let method = self::method(method);
    quote! { params::Conv { #fields act: #act, method: params::Method::#method } }
}

fn method(method: Method) -> TokenStream {
    match method {
        Method::Direct => quote!(Direct),
        Method::Winograd2 => quote!(Winograd2),
        Method::Winograd4 => quote!(Winograd4),
        Method::Strassen => quote!(Strassen),
    }
}

fn depthwise(params: &Depthwise) -> TokenStream {
    let Depthwise {
        in_h,
        in_w,
        in_c,
        multiplier,
        out_h,
        out_w,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        dilation_h,
        dilation_w,
        pad_top,
        pad_left,
        act,
    } = *params;
    let fields = fields!(
        in_h, in_w, in_c, multiplier, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top,
        pad_left
    );
    let act = activation(act);
    quote! { params::Depthwise { #fields act: #act } }
}

fn pointwise(params: &Pointwise) -> TokenStream {
    let Pointwise { h, w, in_c, out_c, act, pool, method } = *params;
    let (fields, act, method) = (fields!(h, w, in_c, out_c), activation(act), self::method(method));
    quote! { params::Pointwise { #fields act: #act, pool: #pool, method: params::Method::#method } }
}

fn pool(params: &Pool) -> TokenStream {
    let Pool { kind, in_h, in_w, c, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, count_padding } =
        *params;
    let kind = match kind {
        PoolKind::Max => quote! { Max },
        PoolKind::Average => quote! { Average },
    };
    let fields = fields!(in_h, in_w, c, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left);
    quote! { params::Pool { kind: PoolKind::#kind, #fields count_padding: #count_padding } }
}

/// `112x112x16`
fn hwc(shape: Shape) -> String {
    format!("{}x{}x{}", shape.h, shape.w, shape.c)
}

/// `block3.expand`, or `block3.expand to block3.project, streamed`
fn describe_stage(stage: &plan::Stage) -> String {
    match &stage.steps[..] {
        [first, .., last] => format!("{} to {}, streamed", first.name, last.name),
        [only] => only.name.clone(),
        [] => stage.name.clone(),
    }
}

/// `block3.expand: 28x28x32 -> 28x28x192, pointwise, relu6`
fn describe(step: &plan::Step) -> String {
    let (kind, act) = match &step.kernel {
        Kernel::Conv { params: p, .. } => {
            let groups = if p.groups == 1 { String::new() } else { format!(" in {} groups", p.groups) };
            (format!("convolution {}x{} stride {}x{}{groups}", p.kernel_h, p.kernel_w, p.stride_h, p.stride_w), p.act)
        }
        Kernel::Depthwise { params: p, .. } => {
            (format!("depthwise {}x{} stride {}x{}", p.kernel_h, p.kernel_w, p.stride_h, p.stride_w), p.act)
        }
        Kernel::Pointwise { params: p, .. } if (p.h, p.w) == (1, 1) => ("dense".to_owned(), p.act),
        Kernel::Pointwise { params: p, .. } if p.pool => ("pointwise and mean".to_owned(), p.act),
        Kernel::Pointwise { params: p, .. } => ("pointwise".to_owned(), p.act),
        Kernel::Pool(p) => (format!("pool {}x{} stride {}x{}", p.kernel_h, p.kernel_w, p.stride_h, p.stride_w), Activation::None),
        Kernel::GlobalPool { .. } => ("mean over all pixels".to_owned(), Activation::None),
        Kernel::Add { act, .. } => ("sum".to_owned(), *act),
        Kernel::Scale { act, .. } => ("scale per channel".to_owned(), *act),
        Kernel::Act { act, .. } => ("activation".to_owned(), *act),
        Kernel::Softmax { .. } => ("softmax".to_owned(), Activation::None),
        Kernel::Normalize { .. } => ("normalise pixels".to_owned(), Activation::None),
        Kernel::Pad { .. } => ("pad".to_owned(), Activation::None),
        Kernel::Concat { parts, .. } => (format!("{} tensors joined", parts.len()), Activation::None),
        Kernel::Gather { .. } => ("picked elements".to_owned(), Activation::None),
        Kernel::Binary { kind, act, .. } => (format!("{kind:?}").to_lowercase(), *act),
        Kernel::PRelu { .. } => ("prelu".to_owned(), Activation::None),
        Kernel::Transpose { .. } => ("transpose".to_owned(), Activation::None),
        Kernel::Mean { .. } => ("mean over axes".to_owned(), Activation::None),
        Kernel::Interpolate { .. } => ("linear interpolation".to_owned(), Activation::None),
        Kernel::ConvTranspose { params: p, .. } => {
            (format!("transposed convolution {}x{} stride {}x{}", p.kernel_h, p.kernel_w, p.stride_h, p.stride_w), p.act)
        }
        Kernel::Copy { .. } => ("copy".to_owned(), Activation::None),
        Kernel::Constant { .. } => ("constant".to_owned(), Activation::None),
    };
    let act = if act == Activation::None { String::new() } else { format!(", {act}") };
    let residual = match &step.kernel {
        Kernel::Conv { residual: Residual::InPlace | Residual::From(_), .. }
        | Kernel::Pointwise { residual: Residual::InPlace | Residual::From(_), .. } => ", residual added",
        Kernel::Conv { .. }
        | Kernel::Pointwise { .. }
        | Kernel::Depthwise { .. }
        | Kernel::Pool(_)
        | Kernel::GlobalPool { .. }
        | Kernel::Add { .. }
        | Kernel::Scale { .. }
        | Kernel::Act { .. }
        | Kernel::Softmax { .. }
        | Kernel::Normalize { .. }
        | Kernel::Pad { .. }
        | Kernel::PRelu { .. }
        | Kernel::Binary { .. }
        | Kernel::Concat { .. }
        | Kernel::Gather { .. }
        | Kernel::Transpose { .. }
        | Kernel::Mean { .. }
        | Kernel::Interpolate { .. }
        | Kernel::ConvTranspose { .. }
        | Kernel::Copy { .. }
        | Kernel::Constant { .. } => "",
    };
    format!("{}: {} -> {}, {kind}{residual}{act}", step.name, hwc(step.input_shape), hwc(step.output_shape))
}
