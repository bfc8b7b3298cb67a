//! Stage functions: each step is one kernel call on views of the arena.

use std::collections::HashSet;
use std::ops::Range;

use mnc_runtime::params::Activation;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};

use super::shape::{Class, Shapes, act};
use super::{Comments, int};
use crate::ir::Shape;
use crate::plan::{Kernel, Place, Plan, Residual, Step, WeightId};

/// One function per block of the spec, and `infer`, which calls them in order.
pub(super) fn stages(plan: &Plan, shapes: &mut Shapes, comments: &mut Comments) -> TokenStream {
    let mut functions = Vec::new();
    let mut calls = Vec::new();
    let mut used: HashSet<String> = HashSet::from(["infer".to_owned()]);
    let mut uses_of_all = Uses::default();
    for (block, steps) in blocks(plan) {
        let mut uses = Uses::default();
        let body: Vec<_> = steps.iter().map(|step| step_tokens(plan, step, shapes, &mut uses, comments)).collect();
        let name = unique(function_name(&block), &mut used);
        let doc = match (steps.first(), steps.last()) {
            (Some(first), Some(last)) => format!(" {block}: {} -> {}", hwc(first.input_shape), hwc(last.output_shape)),
            _ => format!(" {block}"),
        };
        let (params, args) = (uses.params(), uses.args());
        functions.push(quote! {
            #[doc = #doc]
            fn #name(#(#params),*) {
                #(#body)*
            }
        });
        calls.push(quote! { #name(#(#args),*); });
        uses_of_all.join(&uses);
    }
    let params = uses_of_all.all_params();
    quote! {
        #(#functions)*

        /// The whole net, block by block.
        fn infer(#(#params),*) {
            #(#calls)*
        }
    }
}

/// Steps that follow each other and are of one block: `block3` of `block3.expand`, `block3.1` of `block3.1.expand`.
fn blocks(plan: &Plan) -> Vec<(String, Vec<&Step>)> {
    let mut blocks: Vec<(String, Vec<&Step>)> = Vec::new();
    for step in plan.steps() {
        let is_number = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        let mut dots = step.name.match_indices('.').map(|(at, _)| at);
        let (first, second) = (dots.next().unwrap_or(step.name.len()), dots.next().unwrap_or(step.name.len()));
        let repetition = step.name.get(first + 1..second).is_some_and(is_number);
        let block = &step.name[..if repetition { second } else { first }];
        match blocks.last_mut() {
            Some((name, steps)) if name == block => steps.push(step),
            _ => blocks.push((block.to_owned(), vec![step])),
        }
    }
    blocks
}

/// `28x28x32`
fn hwc(shape: Shape) -> String {
    format!("{}x{}x{}", shape.h, shape.w, shape.c)
}

/// A snake case identifier made of a block's name.
fn function_name(block: &str) -> String {
    let mut name = String::new();
    for c in block.chars() {
        if c.is_ascii_uppercase() && name.ends_with(|p: char| p.is_ascii_lowercase()) {
            name.push('_');
        }
        name.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    if syn::parse_str::<Ident>(&name).is_err() || name.starts_with('_') {
        name.insert_str(0, "block");
    }
    name
}

/// `name`, or `name_2`, `name_3` … where it is taken.
fn unique(name: String, used: &mut HashSet<String>) -> Ident {
    let mut out = name.clone();
    let mut n = 2;
    while !used.insert(out.clone()) {
        out = format!("{name}_{n}");
        n += 1;
    }
    Ident::new(&out, Span::call_site())
}

/// Which of the arguments of `infer` a block needs.
#[derive(Debug, Clone, Copy, Default)]
struct Uses {
    isa: bool,
    weights: bool,
    arena: bool,
    input: bool,
    output: bool,
}

impl Uses {
    fn join(&mut self, other: &Uses) {
        self.isa |= other.isa;
        self.weights |= other.weights;
        self.arena |= other.arena;
        self.input |= other.input;
        self.output |= other.output;
    }

    /// Name, type and use of every argument, in order.
    fn table(self) -> [(Ident, TokenStream, bool); 5] {
        let name = |n| Ident::new(n, Span::call_site());
        [
            (name("isa"), quote! { Isa }, self.isa),
            (name("weights"), quote! { &[f32] }, self.weights),
            (name("arena"), quote! { &mut [f32] }, self.arena),
            (name("input"), quote! { &[f32] }, self.input),
            (name("output"), quote! { &mut [f32] }, self.output),
        ]
    }

    fn params(self) -> Vec<TokenStream> {
        self.table().into_iter().filter(|a| a.2).map(|(name, ty, _)| quote! { #name: #ty }).collect()
    }

    fn args(self) -> Vec<Ident> {
        self.table().into_iter().filter(|a| a.2).map(|a| a.0).collect()
    }

    /// All parameters; unused ones with an underscore, so that `infer` is called the same way for every net.
    fn all_params(self) -> Vec<TokenStream> {
        let named = |(name, ty, used): (Ident, TokenStream, bool)| {
            let name = if used { name } else { format_ident!("_{name}") };
            quote! { #name: #ty }
        };
        self.table().into_iter().map(named).collect()
    }
}

/// What one step binds: a view of the arena for each distinct place, named in order of appearance.
struct Operands<'a> {
    plan: &'a Plan,
    uses: &'a mut Uses,
    views: Vec<(Place, Ident, Range<usize>)>,
}

impl Operands<'_> {
    /// The name under which `place`, of `len` elements, is known in the step.
    fn bind(&mut self, place: Place, len: usize, name: &str) -> Ident {
        match place {
            Place::Input => {
                self.uses.input = true;
                format_ident!("input")
            }
            Place::Output => {
                self.uses.output = true;
                format_ident!("output")
            }
            Place::Arena(id) | Place::Ring { buffer: id, .. } => {
                if let Some((_, name, range)) = self.views.iter_mut().find(|(p, ..)| *p == place) {
                    range.end = range.end.max(range.start + len);
                    return name.clone();
                }
                self.uses.arena = true;
                let start = self.plan.memory.buffers[id.0].offset / 4;
                let name = format_ident!("{name}");
                self.views.push((place, name.clone(), start..start + len));
                name
            }
        }
    }

    /// The slice of the weights that `id` names.
    fn weight(&mut self, id: WeightId) -> TokenStream {
        self.uses.weights = true;
        let entry = &self.plan.weights.entries[id.0];
        let (start, end) = (int(entry.offset), int(entry.offset + entry.len));
        quote! { &weights[#start..#end] }
    }

    /// `let (w, b) = …;`
    fn weights(&mut self, weight: WeightId, bias: WeightId) -> TokenStream {
        let (w, b) = (self.weight(weight), self.weight(bias));
        quote! { let (w, b) = (#w, #b); }
    }

    fn weight_or_none(&mut self, id: Option<WeightId>) -> TokenStream {
        match id {
            Some(id) => {
                let weight = self.weight(id);
                quote! { Some(#weight) }
            }
            None => quote! { None },
        }
    }

    fn residual(&mut self, residual: Residual, len: usize) -> TokenStream {
        match residual {
            Residual::None => quote! { Residual::None },
            Residual::InPlace => quote! { Residual::InPlace },
            Residual::From(place) => {
                let from = self.bind(place, len, "residual");
                quote! { Residual::From(#from) }
            }
        }
    }

    /// `let [x, y] = arena::views(arena, [0..100, 100..300]);`
    fn lets(&self, output: Place) -> TokenStream {
        let range = |r: &Range<usize>| {
            let (start, end) = (int(r.start), int(r.end));
            quote! { #start..#end }
        };
        match &self.views[..] {
            [] => TokenStream::new(),
            [(place, name, r)] => {
                let (mutable, range) = ((*place == output).then(|| quote! { mut }), range(r));
                quote! { let #name = &#mutable arena[#range]; }
            }
            views => {
                let (names, ranges) = (views.iter().map(|v| &v.1), views.iter().map(|v| range(&v.2)));
                quote! { let [#(#names),*] = arena::views(arena, [#(#ranges),*]); }
            }
        }
    }
}

/// One step: a comment, the views, the call.
fn step_tokens(plan: &Plan, step: &Step, shapes: &mut Shapes, uses: &mut Uses, comments: &mut Comments) -> TokenStream {
    let (in_len, out_len) = (step.input_shape.elements(), step.output_shape.elements());
    let in_place = step.input == step.output;
    let mut o = Operands { plan, uses, views: Vec::new() };
    // A constant reads nothing; everything else binds its input first, its output second.
    let reads = !matches!(step.kernel, Kernel::Constant { .. });
    let x = if reads { o.bind(step.input, in_len, "x") } else { format_ident!("x") };
    let y = o.bind(step.output, out_len, "y");
    let mut wants_isa = true;
    let call = match &step.kernel {
        Kernel::Conv { params, weight, bias, pad_value, residual } => {
            let shape = shapes.name(Class::Conv(*params), false);
            let (weights, pad, r) = (o.weights(*weight, *bias), o.weight_or_none(*pad_value), o.residual(*residual, out_len));
            quote! { #weights conv::<#shape>(isa, #x, w, b, #pad, #r, #y); }
        }
        Kernel::Depthwise { params, weight, bias, pad_value } => {
            let shape = shapes.name(Class::Depthwise(*params), false);
            let (weights, pad) = (o.weights(*weight, *bias), o.weight_or_none(*pad_value));
            quote! { #weights depthwise::<#shape>(isa, #x, w, b, #pad, #y); }
        }
        Kernel::Pointwise { params, weight, bias, residual } => {
            let shape = shapes.name(Class::Pointwise(*params), false);
            let (weights, r) = (o.weights(*weight, *bias), o.residual(*residual, out_len));
            quote! { #weights pointwise::<#shape>(isa, #x, w, b, #r, #y); }
        }
        Kernel::Pool(params) => {
            let shape = shapes.name(Class::Pool(*params), false);
            quote! { pool::<#shape>(isa, #x, #y); }
        }
        Kernel::GlobalPool { pixels, c } => {
            let (pixels, c) = (int(*pixels), int(*c));
            quote! { kernel::global_pool(isa, #pixels, #c, #x, #y); }
        }
        Kernel::Add { other, len, act: a } => {
            let (other_name, act) = (o.bind(*other, *len, "other"), act(*a));
            if in_place {
                quote! { kernel::add_in_place(isa, #act, #other_name, #y); }
            } else if *other == step.output {
                quote! { kernel::add_in_place(isa, #act, #x, #y); }
            } else {
                quote! { kernel::add(isa, #act, #x, #other_name, #y); }
            }
        }
        Kernel::Scale { scale, pixels, c, act: a } => {
            let (scale, act) = (o.bind(*scale, *c, "scale"), act(*a));
            let (pixels, c) = (int(*pixels), int(*c));
            if in_place {
                quote! { kernel::scale_in_place(isa, #act, #pixels, #c, #scale, #y); }
            } else {
                quote! { kernel::scale(isa, #act, #pixels, #c, #x, #scale, #y); }
            }
        }
        Kernel::Act { len: _, act: a } => {
            let act = act(*a);
            if in_place {
                quote! { kernel::act_in_place(isa, #act, #y); }
            } else {
                quote! { kernel::act(isa, #act, #x, #y); }
            }
        }
        Kernel::Softmax { c: _ } => {
            wants_isa = false;
            if in_place {
                quote! { kernel::softmax_in_place(#y); }
            } else {
                quote! { kernel::softmax(#x, #y); }
            }
        }
        Kernel::Normalize { pixels, order, scale, shift } => {
            wants_isa = false;
            let order = order.iter().map(|&c| int(c));
            let (pixels, scale, shift) = (int(*pixels), o.weight(*scale), o.weight(*shift));
            quote! { kernel::normalize(#pixels, &[#(#order),*], #scale, #shift, #x, #y); }
        }
        Kernel::Pad { top, left, value } => {
            wants_isa = false;
            let (i, out) = (step.input_shape, step.output_shape);
            let [in_h, in_w, c, top, left, out_h, out_w] = [i.h, i.w, i.c, *top, *left, out.h, out.w].map(int);
            let value = o.weight_or_none(*value);
            quote! { kernel::pad(#in_h, #in_w, #c, #top, #left, #out_h, #out_w, #value, #x, #y); }
        }
        Kernel::Copy { len: _ } => {
            wants_isa = false;
            if in_place {
                TokenStream::new()
            } else {
                quote! { #y.copy_from_slice(#x); }
            }
        }
        Kernel::Constant { value, len: _ } => {
            wants_isa = false;
            let value = o.weight(*value);
            quote! { #y.copy_from_slice(#value); }
        }
    };
    let lets = o.lets(step.output);
    uses.isa |= wants_isa;
    let note = comments.mark(describe(step));
    quote! { #note #lets #call }
}

/// `block3.expand: 28x28x32 -> 28x28x192, pointwise, relu6`
fn describe(step: &Step) -> String {
    let (kind, act) = match &step.kernel {
        Kernel::Conv { params: p, .. } => {
            (format!("convolution {}x{} stride {}x{}", p.kernel_h, p.kernel_w, p.stride_h, p.stride_w), p.act)
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
        Kernel::Copy { .. } => ("copy".to_owned(), Activation::None),
        Kernel::Constant { .. } => ("constant".to_owned(), Activation::None),
    };
    let act = match act {
        Activation::None => "",
        Activation::Relu => ", relu",
        Activation::Relu6 => ", relu6",
        Activation::HSwish => ", hswish",
        Activation::HSigmoid => ", hsigmoid",
        Activation::Sigmoid => ", sigmoid",
    };
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
        | Kernel::Copy { .. }
        | Kernel::Constant { .. } => "",
    };
    format!("{}: {} -> {}, {kind}{residual}{act}", step.name, hwc(step.input_shape), hwc(step.output_shape))
}
