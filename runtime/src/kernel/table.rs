//! The kernels that a program calls, as pointers to functions.
//!
//! A program that is made while a user's crate compiles has a table of its own kernels: nothing else refers to the others, and the
//! linker leaves them out, with all their variants for all instruction sets. A kernel that is not small is a function that does one
//! thing: a method, or a window of one size.

use super::{broadcast, conv, conv_transpose, depthwise, eltwise, pointwise, pool};
use crate::params;
use crate::program::{Op, Program};

/// Kernels by families. One that is absent is called by no step of the program that the table is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernels {
    /// By [`conv::which`].
    conv: [Option<conv::Kernel>; conv::KERNELS.len()],
    /// By [`depthwise::which`].
    depthwise: [Option<depthwise::Kernel>; depthwise::KERNELS.len()],
    /// By [`pointwise::which`].
    pointwise: [Option<pointwise::Kernel>; pointwise::KERNELS.len()],
    /// By [`super::Binary`].
    map: [Option<eltwise::Kernel>; eltwise::KERNELS.len()],
    broadcast: Option<broadcast::Kernel>,
    conv_transpose: Option<conv_transpose::Kernel>,
    window: Option<pool::WindowKernel>,
    mean: Option<pool::MeanKernel>,
}

impl Kernels {
    const NONE: Self = Self {
        conv: [None; _],
        depthwise: [None; _],
        pointwise: [None; _],
        map: [None; _],
        broadcast: None,
        conv_transpose: None,
        window: None,
        mean: None,
    };

    /// All, for programs that are known at run time alone.
    pub(crate) const ALL: Self = Self {
        conv: all(conv::KERNELS),
        depthwise: all(depthwise::KERNELS),
        pointwise: all(pointwise::KERNELS),
        map: all(eltwise::KERNELS),
        broadcast: Some(broadcast::run),
        conv_transpose: Some(conv_transpose::run),
        window: Some(pool::windows),
        mean: Some(pool::mean_of),
    };

    /// Those that the steps of `program` call.
    pub(crate) const fn of(program: &Program<'_>) -> Self {
        let mut kernels = Self::NONE;
        let mut i = 0;
        while i < program.steps.len() {
            kernels.add(&program.steps[i].op);
            i += 1;
        }
        kernels
    }

    const fn add(&mut self, op: &Op) {
        match op {
            Op::Conv { params, .. } => {
                let i = conv::which(params);
                self.conv[i] = Some(conv::KERNELS[i]);
            }
            Op::Depthwise { params, .. } => {
                let i = depthwise::which(params);
                self.depthwise[i] = Some(depthwise::KERNELS[i]);
            }
            Op::Pointwise { params, .. } => {
                let i = pointwise::which(params);
                self.pointwise[i] = Some(pointwise::KERNELS[i]);
            }
            Op::Add { .. } => self.add_map(super::Binary::Sum),
            Op::Scale { .. } => self.add_map(super::Binary::Product),
            Op::Act(_) => self.add_map(super::Binary::First),
            Op::PRelu { .. } => self.add_map(super::Binary::Slope),
            Op::Binary { .. } => self.broadcast = Some(broadcast::run),
            Op::ConvTranspose { .. } => self.conv_transpose = Some(conv_transpose::run),
            Op::Pool(_) => self.window = Some(pool::windows),
            Op::GlobalPool => self.mean = Some(pool::mean_of),
            // Small, in portable code: called by name.
            Op::Softmax
            | Op::Normalize { .. }
            | Op::Pad { .. }
            | Op::Concat { .. }
            | Op::Gather { .. }
            | Op::Transpose { .. }
            | Op::Mean { .. }
            | Op::Interpolate { .. }
            | Op::Copy
            | Op::Constant { .. } => {}
        }
    }

    const fn add_map(&mut self, f: super::Binary) {
        self.map[f as usize] = Some(eltwise::KERNELS[f as usize]);
    }

    pub(crate) fn conv(&self, p: &params::Conv) -> conv::Kernel {
        present(self.conv[conv::which(p)])
    }

    pub(crate) fn depthwise(&self, p: &params::Depthwise) -> depthwise::Kernel {
        present(self.depthwise[depthwise::which(p)])
    }

    pub(crate) fn pointwise(&self, p: &params::Pointwise) -> pointwise::Kernel {
        present(self.pointwise[pointwise::which(p)])
    }

    pub(crate) fn map(&self, f: super::Binary) -> eltwise::Kernel {
        present(self.map[f as usize])
    }

    pub(crate) fn broadcast(&self) -> broadcast::Kernel {
        present(self.broadcast)
    }

    pub(crate) fn conv_transpose(&self) -> conv_transpose::Kernel {
        present(self.conv_transpose)
    }

    pub(crate) fn window(&self) -> pool::WindowKernel {
        present(self.window)
    }

    pub(crate) fn mean(&self) -> pool::MeanKernel {
        present(self.mean)
    }
}

const fn all<K: Copy, const N: usize>(kernels: [K; N]) -> [Option<K>; N] {
    let mut all = [None; N];
    let mut i = 0;
    while i < N {
        all[i] = Some(kernels[i]);
        i += 1;
    }
    all
}

/// A kernel of a step of the program that the table is of: it is there.
#[inline(always)]
fn present<K>(kernel: Option<K>) -> K {
    kernel.expect("a checked program has its kernels")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Activation;
    use crate::program::{Place, Step, View};

    impl Kernels {
        fn count(&self) -> usize {
            let tables = [self.conv.iter().flatten().count(), self.depthwise.iter().flatten().count()];
            let more = [self.pointwise.iter().flatten().count(), self.map.iter().flatten().count()];
            let single = [self.broadcast.is_some(), self.conv_transpose.is_some(), self.window.is_some(), self.mean.is_some()];
            tables.iter().chain(&more).sum::<usize>() + single.iter().filter(|&&s| s).count()
        }
    }

    #[test]
    fn a_program_has_the_kernels_of_its_steps_alone() {
        let view = View::whole(Place::Arena(0), 1, 1, 1);
        let steps = |ops: &[Op]| ops.iter().map(|&op| Step { op, x: view, y: view }).collect::<Vec<_>>();
        let of = |steps: &[Step]| {
            Kernels::of(&Program { stages: &[], steps, orders: &[], input: 0, output: 0, arena: 0, weights: 0, threads: 1 })
        };
        assert_eq!(of(&[]).count(), 0);
        assert_eq!(of(&steps(&[Op::Softmax, Op::Copy])).count(), 0);
        let two = of(&steps(&[Op::GlobalPool, Op::Act(Activation::None), Op::GlobalPool]));
        assert_eq!(two.count(), 2);
        let _ = (two.mean(), two.map(crate::kernel::Binary::First));
        let all = Kernels::ALL.count();
        assert_eq!(all, conv::KERNELS.len() + depthwise::KERNELS.len() + pointwise::KERNELS.len() + eltwise::KERNELS.len() + 4);
    }
}
