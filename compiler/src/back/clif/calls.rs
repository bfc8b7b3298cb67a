//! A plan as a list of calls of the runtime's kernels, the widest that the CPU has when the code runs.
//!
//! In an object file every stage is a record of words in the module's data ([`mnc_runtime::program::encode`]); the entry function hands
//! one after the other to [`abi::stage`]. The JIT's code has the program itself at hand, for [`abi::stage_of`]. The runtime's kernels know AVX2, AVX-512 and NEON, cranelift knows 128-bit vectors, so this is the
//! faster code wherever the runtime can be called; and it compiles in no time, for nothing but the list is generated.

use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, TrapCode, types};
use cranelift_module::{DataDescription, FuncId, Linkage, Module};
use mnc_runtime::abi;
use mnc_runtime::program::{Checked, Owned, Records, encode};

use super::ClifError;
use super::emit::FLOAT;
use super::module::{Compiler, Defined, Text};

/// The name that [`super::exec`] gives the function that waits at a barrier.
pub(super) const WAIT: &str = "mnc_wait";

/// Bytes of a record's word.
const WORD: i64 = 2 * FLOAT;

/// The name that [`super::exec`] gives [`abi::stage_of`].
pub(super) const STAGE_OF: &str = "mnc_stage_of";

/// Compiles `void symbol(const float *weights, const float *input, float *output, float *arena)` for C, which runs `program`'s
/// stages in order on one thread.
pub(super) fn function<M: Module>(
    module: &mut M,
    program: Checked<'_>,
    symbol: &str,
    record: Text,
) -> Result<Defined, ClifError> {
    let Records { words, starts } = encode(program);
    let data = module.declare_data(&format!("{symbol}.stages"), Linkage::Local, false, false)?;
    let mut description = DataDescription::new();
    description.define(words.iter().flat_map(|w| w.to_le_bytes()).collect());
    description.set_align(WORD as u64);
    module.define_data(data, &description)?;

    let mut compiler = Compiler::new(module, record);
    let (begin, stage) = (compiler.import(abi::BEGIN, 5, None)?, compiler.import(abi::STAGE, 4, Some(types::I32))?);
    let entry = compiler.declare(symbol, Linkage::Export, 4)?;
    let data = compiler.module.declare_data_in_func(data, &mut compiler.context.func);
    let mut local = |id: FuncId| compiler.module.declare_func_in_func(id, &mut compiler.context.func);
    let (begin, stage) = (local(begin), local(stage));
    compiler.emit(|e, arguments| {
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, abi::MEMORY_BYTES as u32, 3);
        let slot = e.b.create_sized_stack_slot(slot);
        let memory = e.b.ins().stack_addr(types::I64, slot, 0);
        let operands: Vec<_> = [memory].iter().chain(arguments).copied().collect();
        e.b.ins().call(begin, &operands);
        let (thread, threads) = (e.b.ins().iconst(types::I64, 0), e.b.ins().iconst(types::I64, 1));
        let records = e.b.ins().symbol_value(types::I64, data);
        for &start in &starts {
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

/// Compiles `void symbol(const mnc_rt_memory *memory, uint64_t thread, uint64_t threads, barrier *)` for a thread of a team, which runs
/// its part of `program`'s stages in order. Between two of them it waits for the others, if `team` says that there may be any. The
/// program stays where it is as long as the code lives.
pub(super) fn thread<M: Module>(
    module: &mut M,
    program: &Owned,
    symbol: &str,
    team: bool,
    record: Text,
) -> Result<Defined, ClifError> {
    let mut compiler = Compiler::new(module, record);
    let stage = compiler.import(STAGE_OF, 6, None)?;
    let wait = if team { Some(compiler.import(WAIT, 1, None)?) } else { None };
    let entry = compiler.declare(symbol, Linkage::Export, 4)?;
    let mut local = |id: FuncId| compiler.module.declare_func_in_func(id, &mut compiler.context.func);
    let (stage, wait) = (local(stage), wait.map(&mut local));
    compiler.emit(|e, arguments| {
        let (memory, thread, threads) = (arguments[0], arguments[1], arguments[2]);
        let owned = e.b.ins().iconst(types::I64, std::ptr::from_ref(program).addr() as i64);
        let mut first = 0;
        for (i, s) in program.checked().get().stages.iter().enumerate() {
            if let (Some(wait), 1..) = (wait, i) {
                e.b.ins().call(wait, &arguments[3..]);
            }
            let (at, steps) = (e.b.ins().iconst(types::I64, i as i64), e.b.ins().iconst(types::I64, first as i64));
            e.b.ins().call(stage, &[memory, owned, at, steps, thread, threads]);
            first += s.steps;
        }
    });
    compiler.finish(entry, symbol)?;
    Ok(compiler.defined(entry))
}
