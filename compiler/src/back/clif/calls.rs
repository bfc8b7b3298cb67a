//! A plan as a list of calls of the runtime's kernels, the widest that the CPU has when the code runs.
//!
//! Every stage is a record of words in the module's data ([`mnc_runtime::program::encode`]); the entry function hands one after
//! the other to [`abi::stage`]. The runtime's kernels know AVX2, AVX-512 and NEON, cranelift knows 128-bit vectors, so this is the
//! faster code wherever the runtime can be called; and it compiles in no time, for nothing but the list is generated.

use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, TrapCode, types};
use cranelift_module::{DataDescription, FuncId, Linkage, Module};
use mnc_runtime::abi;
use mnc_runtime::program::{Checked, Records, encode};

use super::ClifError;
use super::emit::FLOAT;
use super::module::{Compiler, Defined, Text};

/// The name that [`super::exec`] gives the function that waits at a barrier.
pub(super) const WAIT: &str = "mnc_wait";

/// Bytes of a record's word.
const WORD: i64 = 2 * FLOAT;

/// Who calls the entry function, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A thread of a team: `void (const mnc_rt_memory *memory, uint64_t thread, uint64_t threads, barrier *)`. Between two stages it
    /// waits for the others if `team` says that there may be any.
    Thread {
        /// Several threads run the plan.
        team: bool,
    },
    /// C: `void (const float *weights, const float *input, float *output, float *arena)`, on one thread.
    Function,
}

/// Compiles the entry function `symbol`, which runs `program`'s stages in order.
pub(super) fn define<M: Module>(
    module: &mut M,
    program: Checked<'_>,
    symbol: &str,
    caller: Caller,
    record: Text,
) -> Result<Defined, ClifError> {
    let Records { words, starts } = encode(program);
    let data = module.declare_data(&format!("{symbol}.stages"), Linkage::Local, false, false)?;
    let mut description = DataDescription::new();
    description.define(words.iter().flat_map(|w| w.to_le_bytes()).collect());
    description.set_align(WORD as u64);
    module.define_data(data, &description)?;

    let mut compiler = Compiler::new(module, record);
    let stage = compiler.import(abi::STAGE, 4, Some(types::I32))?;
    let (begin, wait) = match caller {
        Caller::Function => (Some(compiler.import(abi::BEGIN, 5, None)?), None),
        Caller::Thread { team: true } => (None, Some(compiler.import(WAIT, 1, None)?)),
        Caller::Thread { team: false } => (None, None),
    };
    let entry = compiler.declare(symbol, Linkage::Export, 4)?;
    let data = compiler.module.declare_data_in_func(data, &mut compiler.context.func);
    let mut local = |id: FuncId| compiler.module.declare_func_in_func(id, &mut compiler.context.func);
    let (stage, begin, wait) = (local(stage), begin.map(&mut local), wait.map(&mut local));
    compiler.emit(|e, arguments| {
        let (memory, thread, threads) = match begin {
            Some(begin) => {
                let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, abi::MEMORY_BYTES as u32, 3);
                let slot = e.b.create_sized_stack_slot(slot);
                let memory = e.b.ins().stack_addr(types::I64, slot, 0);
                let operands: Vec<_> = [memory].iter().chain(arguments).copied().collect();
                e.b.ins().call(begin, &operands);
                (memory, e.b.ins().iconst(types::I64, 0), e.b.ins().iconst(types::I64, 1))
            }
            None => (arguments[0], arguments[1], arguments[2]),
        };
        let records = e.b.ins().symbol_value(types::I64, data);
        for (i, &start) in starts.iter().enumerate() {
            if let (Some(wait), 1..) = (wait, i) {
                e.b.ins().call(wait, &arguments[3..]);
            }
            let record = e.at(records, start as i64 * WORD);
            let call = e.b.ins().call(stage, &[memory, record, thread, threads]);
            // The records were written by this very version: only broken memory gets here.
            let wrong = e.b.inst_results(call)[0];
            e.b.ins().trapnz(wrong, TrapCode::unwrap_user(1));
        }
    });
    compiler.finish(entry, symbol)?;
    Ok(compiler.defined(entry))
}
