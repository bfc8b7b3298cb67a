//! A plan as functions of a cranelift module, the same for code in memory and for object files.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::ops::Range;

use cranelift_codegen::ir::{AbiParam, ExternalName, GlobalValue, InstBuilder, Type, Value, types};
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable, Flags};
use cranelift_codegen::{Context, FinalizedRelocTarget};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, FuncId, Linkage, Module, default_libcall_names};

use super::ClifError;
use super::class::{Call, Class, Operand};
use super::emit::{Emit, FLOAT, Target};
use super::lower;
use crate::plan::{Kernel, Place, Plan};
use mnc_runtime::params::Method;

/// Pointer arguments of the entry function, in order: weights, input, output, arena.
const ENTRY_POINTERS: usize = 4;

/// Flags that do not depend on the target. `pic`: position-independent, as objects must be and code in memory must not.
pub(super) fn flags(pic: bool) -> Result<Flags, ClifError> {
    let mut builder = settings::builder();
    for (name, value) in [
        ("opt_level", "speed"),
        ("is_pic", if pic { "true" } else { "false" }),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
        // Frames are small: nothing to probe, and no symbol to link for it.
        ("enable_probestack", "false"),
        ("use_colocated_libcalls", "false"),
    ] {
        builder.set(name, value).map_err(|e| ClifError::Code(e.to_string()))?;
    }
    Ok(Flags::new(builder))
}

/// What the emitter must know of `isa`.
fn target(isa: &dyn TargetIsa) -> Target {
    let x86 = matches!(isa.triple().architecture, target_lexicon::Architecture::X86_64);
    Target { x86, fma: !x86 || (has(isa, "has_fma") && has(isa, "has_avx")) }
}

/// Whether a flag of the target is set.
pub(super) fn has(isa: &dyn TargetIsa, flag: &str) -> bool {
    isa.isa_flags().iter().any(|f| f.name == flag && f.as_bool() == Some(true))
}

/// What [`define`] made.
pub(super) struct Defined {
    /// The entry function.
    pub entry: FuncId,
    /// Symbols that the code calls and the module does not hold.
    pub externals: BTreeSet<String>,
    /// Every function as cranelift's text.
    pub text: String,
}

/// Whether [`define`] also writes the functions down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// Nobody asked.
    None,
    /// As they were before optimisation.
    Record,
}

/// The state that compiling functions shares.
pub(super) struct Compiler<'m, M> {
    pub module: &'m mut M,
    pub context: Context,
    builder_context: FunctionBuilderContext,
    target: Target,
    externals: BTreeSet<String>,
    record: Text,
    text: String,
}

/// Compiles every distinct kernel of `plan` and the entry function `symbol`, which calls them in order, on one thread:
/// `void symbol(const float *weights, const float *input, float *output, float *arena)`.
pub(super) fn define<M: Module>(module: &mut M, plan: &Plan, symbol: &str, record: Text) -> Result<Defined, ClifError> {
    check_layers(plan)?;
    let mut compiler = Compiler::new(module, record);
    let mut functions: HashMap<Class, FuncId> = HashMap::new();
    let mut calls = Vec::new();
    for stage in &plan.stages {
        for step in &stage.steps {
            if matches!(step.kernel, Kernel::Copy { .. }) && step.input == step.output {
                continue; // it stands there already
            }
            let call = Call::of(step);
            call.check(plan, step)?;
            let Call { class, operands } = call;
            let rows = class.rows();
            // A step of a chain has a whole buffer here, so it may as well run alone.
            let strip = if stage.steps.len() == 1 { stage.strip_rows.max(1) } else { rows };
            let id = match functions.get(&class) {
                Some(&id) => id,
                None => {
                    let id = compiler.kernel(&class, &format!("{symbol}.{}.{}", functions.len(), class.name()))?;
                    functions.insert(class, id);
                    id
                }
            };
            calls.extend((0..rows).step_by(strip).map(|row| (id, operands.clone(), row..rows.min(row + strip))));
        }
    }
    let entry = compiler.entry(plan, &calls, symbol)?;
    Ok(compiler.defined(entry))
}

/// Whether these kernels can run `plan`: they know whole tensors without gaps, no groups of channels, and one thread.
///
/// # Errors
/// [`ClifError::Streamed`] with what they do not know.
pub(super) fn check_layers(plan: &Plan) -> Result<(), ClifError> {
    let refuse = |step: &str, what| Err(ClifError::Streamed { step: step.to_owned(), what });
    if plan.threads > 1 {
        return refuse("", "several threads");
    }
    // What is read was written by some step, or is the input.
    for step in plan.steps() {
        match step.output {
            Place::Ring { .. } => return refuse(&step.name, "a ring of rows"),
            Place::Arena(id) if plan.memory.buffers[id.0].pitch > step.output_shape.c => {
                return refuse(&step.name, "gaps between pixels");
            }
            Place::Arena(_) | Place::Input(_) | Place::Output(_) => {}
        }
        let direct = |method| match method {
            Method::Direct => Ok(()),
            Method::Winograd2 | Method::Winograd4 | Method::Strassen => refuse(&step.name, "transformed weights"),
        };
        if let Kernel::Pointwise { params, .. } = &step.kernel {
            direct(params.method)?;
        }
        if let Kernel::Conv { params, .. } = &step.kernel {
            direct(params.method)?;
            if params.groups != 1 {
                return refuse(&step.name, "groups of channels");
            }
        }
    }
    Ok(())
}

impl<'m, M: Module> Compiler<'m, M> {
    /// With nothing compiled yet.
    pub fn new(module: &'m mut M, record: Text) -> Self {
        Self {
            target: target(module.isa()),
            context: module.make_context(),
            builder_context: FunctionBuilderContext::new(),
            externals: BTreeSet::new(),
            record,
            text: String::new(),
            module,
        }
    }

    /// What was made, with its entry function.
    pub fn defined(self, entry: FuncId) -> Defined {
        Defined { entry, externals: self.externals, text: self.text }
    }

    /// A function from elsewhere, of `arguments` 64-bit numbers.
    pub fn import(&mut self, name: &str, arguments: usize, result: Option<Type>) -> Result<FuncId, ClifError> {
        let mut signature = self.module.make_signature();
        signature.params.extend(vec![AbiParam::new(types::I64); arguments]);
        signature.returns.extend(result.map(AbiParam::new));
        self.externals.insert(name.to_owned());
        Ok(self.module.declare_function(name, Linkage::Import, &signature)?)
    }

    /// Compiles the function of one class.
    fn kernel(&mut self, class: &Class, name: &str) -> Result<FuncId, ClifError> {
        let id = self.declare(name, Linkage::Local, class.pointers() + 2)?;
        let table = class.table();
        let table = if table.is_empty() { None } else { Some(self.table(&table, name)?) };
        self.emit(|e, arguments| {
            let (pointers, rows) = arguments.split_at(class.pointers());
            let table = table.map(|t| e.b.ins().symbol_value(types::I64, t));
            lower::body(e, class, pointers, [rows[0], rows[1]], table);
        });
        self.finish(id, name)
    }

    /// Numbers as data of the module, for the function being compiled.
    fn table(&mut self, numbers: &[i64], name: &str) -> Result<GlobalValue, ClifError> {
        let data = self.module.declare_data(&format!("{name}.table"), Linkage::Local, false, false)?;
        let mut description = DataDescription::new();
        description.define(numbers.iter().flat_map(|n| n.to_le_bytes()).collect());
        description.set_align(size_of::<i64>() as u64);
        self.module.define_data(data, &description)?;
        Ok(self.module.declare_data_in_func(data, &mut self.context.func))
    }

    /// Compiles the function that calls the others.
    fn entry(&mut self, plan: &Plan, calls: &[(FuncId, Vec<Operand>, Range<usize>)], symbol: &str) -> Result<FuncId, ClifError> {
        let id = self.declare(symbol, Linkage::Export, ENTRY_POINTERS)?;
        let mut references = HashMap::new();
        for (callee, ..) in calls {
            references.entry(*callee).or_insert_with(|| self.module.declare_func_in_func(*callee, &mut self.context.func));
        }
        self.emit(|e, bases| {
            for (callee, operands, rows) in calls {
                let mut arguments: Vec<Value> = operands.iter().map(|&o| address(e, plan, bases, o)).collect();
                arguments.extend([e.val(rows.start), e.val(rows.end)]);
                e.b.ins().call(references[callee], &arguments);
            }
        });
        self.finish(id, symbol)
    }

    /// Starts a function of `arguments` 64-bit numbers without a result.
    pub fn declare(&mut self, name: &str, linkage: Linkage, arguments: usize) -> Result<FuncId, ClifError> {
        let mut signature = self.module.make_signature();
        signature.params.extend(vec![AbiParam::new(types::I64); arguments]);
        let id = self.module.declare_function(name, linkage, &signature)?;
        self.context.func.signature = signature;
        Ok(id)
    }

    /// Fills in its body.
    pub fn emit(&mut self, body: impl FnOnce(&mut Emit<'_>, &[Value])) {
        let mut b = FunctionBuilder::new(&mut self.context.func, &mut self.builder_context);
        let block = b.create_block();
        b.append_block_params_for_function_params(block);
        b.switch_to_block(block);
        b.seal_block(block);
        let arguments = b.block_params(block).to_vec();
        let mut e = Emit { b, target: self.target };
        body(&mut e, &arguments);
        e.b.ins().return_(&[]);
        e.b.finalize(self.module.isa().frontend_config());
    }

    /// Compiles it.
    pub fn finish(&mut self, id: FuncId, name: &str) -> Result<FuncId, ClifError> {
        if self.record == Text::Record {
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "; {name}\n{}", self.context.func.display());
        }
        self.module.define_function(id, &mut self.context)?;
        let names = default_libcall_names();
        let relocations = self.context.compiled_code().into_iter().flat_map(|code| code.buffer.relocs());
        self.externals.extend(relocations.filter_map(|r| match &r.target {
            FinalizedRelocTarget::ExternalName(ExternalName::LibCall(call)) => Some(names(*call)),
            FinalizedRelocTarget::ExternalName(_) | FinalizedRelocTarget::Func(_) => None,
        }));
        self.module.clear_context(&mut self.context);
        Ok(id)
    }
}

/// Where an operand stands, from the entry function's pointers.
fn address(e: &mut Emit<'_>, plan: &Plan, bases: &[Value], operand: Operand) -> Value {
    let (base, offset) = match operand {
        Operand::Weight(id) => (bases[0], plan.weights.entries[id.0].offset as i64 * FLOAT),
        Operand::Place(Place::Input(at)) => (bases[1], at as i64 * FLOAT),
        Operand::Place(Place::Output(at)) => (bases[2], at as i64 * FLOAT),
        Operand::Place(Place::Arena(id) | Place::Ring { buffer: id, .. }) => (bases[3], plan.memory.buffers[id.0].offset as i64),
    };
    e.at(base, offset)
}

/// The instruction set of this machine, with everything it can do.
pub(super) fn host() -> Result<OwnedTargetIsa, ClifError> {
    let builder = cranelift_native::builder().map_err(|e| ClifError::Host(e.to_owned()))?;
    builder.finish(flags(false)?).map_err(|e| ClifError::Code(e.to_string()))
}
