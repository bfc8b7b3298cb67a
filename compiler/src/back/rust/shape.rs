//! Shape classes: one type per distinct set of kernel parameters, whose kernel is compiled once with them as constants.

use std::collections::HashSet;

use mnc_runtime::params::{Activation, Conv, Depthwise, Pointwise, Pool, PoolKind};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use super::int;

/// Parameters of a kernel that the runtime has in a form with constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Conv(Conv),
    Depthwise(Depthwise),
    Pointwise(Pointwise),
    Pool(Pool),
}

/// The distinct classes of a net in the order of their first use, each with its name.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    all: Vec<Entry>,
    names: HashSet<String>,
}

#[derive(Debug)]
struct Entry {
    class: Class,
    name: Ident,
    /// Some layer of the class scales its input channels.
    scaled: bool,
}

impl Shapes {
    /// The type that stands for `class`, used by a layer that is `scaled` or not.
    pub fn name(&mut self, class: Class, scaled: bool) -> Ident {
        if let Some(entry) = self.all.iter_mut().find(|e| e.class == class) {
            entry.scaled |= scaled;
            return entry.name.clone();
        }
        let base = class_name(class);
        let mut name = base.clone();
        let mut n = 2;
        while !self.names.insert(name.clone()) {
            name = format!("{base}V{n}");
            n += 1;
        }
        let ident = Ident::new(&name, Span::call_site());
        self.all.push(Entry { class, name: ident.clone(), scaled });
        ident
    }

    /// The types with their constants.
    pub fn tokens(&self) -> TokenStream {
        let items = self.all.iter().map(|Entry { class, name, scaled }| {
            let (params, value) = class_tokens(*class);
            let scaled = scaled.then(|| quote! { scaled });
            quote! { ::mnc::runtime::shape! { #name: #scaled #params #value } }
        });
        quote! { #(#items)* }
    }
}

/// `Conv3x3S2In224x224x3Out32Relu6`: what tells layers of usual nets apart; where it does not, a number follows.
fn class_name(class: Class) -> String {
    let stride = |h: usize, w: usize| if h == w { format!("S{h}") } else { format!("S{h}x{w}") };
    match class {
        Class::Conv(p) => format!(
            "Conv{}x{}{}In{}x{}x{}Out{}{}",
            p.kernel_h,
            p.kernel_w,
            stride(p.stride_h, p.stride_w),
            p.in_h,
            p.in_w,
            p.in_c,
            p.out_c,
            act_suffix(p.act)
        ),
        Class::Depthwise(p) => format!(
            "Depthwise{}x{}{}In{}x{}x{}{}{}",
            p.kernel_h,
            p.kernel_w,
            stride(p.stride_h, p.stride_w),
            p.in_h,
            p.in_w,
            p.in_c,
            if p.multiplier == 1 { String::new() } else { format!("Times{}", p.multiplier) },
            act_suffix(p.act)
        ),
        Class::Pointwise(p) => {
            let pool = if p.pool { "Mean" } else { "" };
            if (p.h, p.w) == (1, 1) {
                format!("DenseIn{}Out{}{}{pool}", p.in_c, p.out_c, act_suffix(p.act))
            } else {
                format!("Pointwise{}x{}In{}Out{}{}{pool}", p.h, p.w, p.in_c, p.out_c, act_suffix(p.act))
            }
        }
        Class::Pool(p) => {
            let kind = match p.kind {
                PoolKind::Max => "Max",
                PoolKind::Average => "Average",
            };
            format!("{kind}Pool{}x{}{}In{}x{}x{}", p.kernel_h, p.kernel_w, stride(p.stride_h, p.stride_w), p.in_h, p.in_w, p.c)
        }
    }
}

/// The variant's name, or nothing for no activation.
fn act_suffix(act: Activation) -> &'static str {
    match act {
        Activation::None => "",
        Activation::Relu => "Relu",
        Activation::Relu6 => "Relu6",
        Activation::HSwish => "HSwish",
        Activation::HSigmoid => "HSigmoid",
        Activation::Sigmoid => "Sigmoid",
    }
}

/// `params::Activation::Relu6`
pub(super) fn act(act: Activation) -> TokenStream {
    let variant = match act {
        Activation::None => quote!(None),
        Activation::Relu => quote!(Relu),
        Activation::Relu6 => quote!(Relu6),
        Activation::HSwish => quote!(HSwish),
        Activation::HSigmoid => quote!(HSigmoid),
        Activation::Sigmoid => quote!(Sigmoid),
    };
    quote! { params::Activation::#variant }
}

/// The parameter type and the fields of a literal of it. Destructured, so that a new parameter cannot be forgotten.
fn class_tokens(class: Class) -> (TokenStream, TokenStream) {
    match class {
        Class::Conv(p) => {
            let Conv { in_h, in_w, in_c, out_h, out_w, out_c, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, act: a } =
                p;
            let fields = fields(&[
                ("in_h", in_h),
                ("in_w", in_w),
                ("in_c", in_c),
                ("out_h", out_h),
                ("out_w", out_w),
                ("out_c", out_c),
                ("kernel_h", kernel_h),
                ("kernel_w", kernel_w),
                ("stride_h", stride_h),
                ("stride_w", stride_w),
                ("pad_top", pad_top),
                ("pad_left", pad_left),
            ]);
            let act = act(a);
            (quote! { Conv }, quote! { { #fields act: #act } })
        }
        Class::Depthwise(p) => {
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
                pad_top,
                pad_left,
                act: a,
            } = p;
            let fields = fields(&[
                ("in_h", in_h),
                ("in_w", in_w),
                ("in_c", in_c),
                ("multiplier", multiplier),
                ("out_h", out_h),
                ("out_w", out_w),
                ("kernel_h", kernel_h),
                ("kernel_w", kernel_w),
                ("stride_h", stride_h),
                ("stride_w", stride_w),
                ("pad_top", pad_top),
                ("pad_left", pad_left),
            ]);
            let act = act(a);
            (quote! { Depthwise }, quote! { { #fields act: #act } })
        }
        Class::Pointwise(p) => {
            let Pointwise { h, w, in_c, out_c, act: a, pool } = p;
            let fields = fields(&[("h", h), ("w", w), ("in_c", in_c), ("out_c", out_c)]);
            let act = act(a);
            (quote! { Pointwise }, quote! { { #fields act: #act, pool: #pool } })
        }
        Class::Pool(p) => {
            let Pool { kind, in_h, in_w, c, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left } = p;
            let kind = match kind {
                PoolKind::Max => quote! { params::PoolKind::Max },
                PoolKind::Average => quote! { params::PoolKind::Average },
            };
            let fields = fields(&[
                ("in_h", in_h),
                ("in_w", in_w),
                ("c", c),
                ("out_h", out_h),
                ("out_w", out_w),
                ("kernel_h", kernel_h),
                ("kernel_w", kernel_w),
                ("stride_h", stride_h),
                ("stride_w", stride_w),
                ("pad_top", pad_top),
                ("pad_left", pad_left),
            ]);
            (quote! { Pool }, quote! { { kind: #kind, #fields } })
        }
    }
}

/// `name: 3,` for each.
fn fields(all: &[(&str, usize)]) -> TokenStream {
    let fields = all.iter().map(|&(name, value)| {
        let (name, value) = (Ident::new(name, Span::call_site()), int(value));
        quote! { #name: #value, }
    });
    quote! { #(#fields)* }
}
