//! What TFLite's operators are written as: nodes as ONNX has them, which own their text, for the ONNX front end to import.

use std::collections::HashMap;
use std::rc::Rc;

use super::names;
use super::schema::{MAX_ENTRIES, MAX_RANK, Malformed, Model, Operator, Table};

/// What a value is called. A small file can read one long name many times.
pub(super) type Name = Rc<str>;
/// Longest name of an operator that is not supported.
const MAX_OP: usize = 200;

/// An attribute's value.
#[derive(Debug, Clone)]
pub(super) enum Attr {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

/// A node as ONNX has them.
#[derive(Debug)]
pub(super) struct Node {
    /// ONNX's operator.
    pub(super) op: String,
    /// TFLite's.
    pub(super) called: Name,
    /// The tensor whose name users know it by: its first result.
    pub(super) result: Option<usize>,
    /// Names of values; empty for an optional one that is absent.
    pub(super) inputs: Vec<Name>,
    /// Names of values.
    pub(super) outputs: Vec<Name>,
    pub(super) attrs: Vec<(&'static str, Attr)>,
}

/// A list of integers that the file does not have as a constant.
#[derive(Debug)]
pub(super) struct Ints {
    /// Of the value.
    pub(super) name: Name,
    /// No axes for a single number.
    pub(super) dims: Vec<i64>,
    pub(super) values: Vec<i64>,
}

/// What an operator asks that cannot be written as nodes; the text follows its name.
pub(super) enum Refusal {
    Unsupported(String),
    Malformed(Malformed),
}

impl From<Malformed> for Refusal {
    fn from(e: Malformed) -> Self {
        Refusal::Malformed(e)
    }
}

/// `Err` with a formatted reason for a lack of support.
macro_rules! unsupported { ($($t:tt)*) => { Err($crate::front::tflite::nodes::Refusal::Unsupported(format!($($t)*))) } }
pub(super) use unsupported;

/// The nodes so far.
pub(super) struct Writer<'m, 'a> {
    pub(super) model: &'m Model<'a>,
    /// Names of all tensors, each unlike the others.
    pub(super) names: Vec<Name>,
    /// TFLite's names of the model's codes.
    called: Vec<Name>,
    pub(super) nodes: Vec<Node>,
    pub(super) ints: Vec<Ints>,
    /// Values made so far that no tensor of the file is.
    fresh: usize,
}

/// An operator being written.
pub(super) struct At<'m, 'a> {
    pub(super) op: &'m Operator<'a>,
    /// Its options; every field is at its default where there are none.
    pub(super) options: Options<'a>,
    /// TFLite's name.
    pub(super) called: Name,
    /// Its first result.
    result: Option<usize>,
}

/// A table of options, or none.
#[derive(Clone, Copy)]
pub(super) struct Options<'a>(Option<Table<'a>>);

impl Options<'_> {
    pub(super) fn int(&self, number: usize, default: i32) -> Result<i32, Malformed> {
        self.0.map_or(Ok(default), |t| t.int(number, default))
    }

    pub(super) fn byte(&self, number: usize) -> Result<i8, Malformed> {
        self.0.map_or(Ok(0), |t| t.byte(number))
    }

    pub(super) fn flag(&self, number: usize) -> Result<bool, Malformed> {
        self.0.map_or(Ok(false), |t| t.flag(number))
    }

    pub(super) fn float(&self, number: usize, default: f32) -> Result<f32, Malformed> {
        self.0.map_or(Ok(default), |t| t.float(number))
    }

    pub(super) fn ints(&self, number: usize) -> Result<Vec<i64>, Malformed> {
        let list = self.0.map(|t| t.ints(number)).transpose()?.flatten();
        let Some(list) = list else { return Ok(Vec::new()) };
        if list.len() > 32 {
            return Err(Malformed(format!("options list {} axes", list.len())));
        }
        Ok(list.iter().map(i64::from).collect())
    }
}

impl<'m, 'a> Writer<'m, 'a> {
    pub(super) fn new(model: &'m Model<'a>) -> Self {
        let called = model.codes.iter().map(|code| match names::name(code.builtin) {
            Some("CUSTOM") => format!("custom operator {}", code.custom).into(),
            Some(name) => name.into(),
            None => format!("operator number {}", code.builtin).into(),
        });
        Self { names: unique_names(model), called: called.collect(), model, nodes: Vec::new(), ints: Vec::new(), fresh: 0 }
    }

    /// Writes one operator.
    pub(super) fn operator(&mut self, op: &'m Operator<'a>) -> Result<(), Malformed> {
        let Some(code) = self.model.codes.get(op.code) else {
            return Err(Malformed(format!("there is no operator code {} among {}", op.code, self.model.codes.len())));
        };
        let builtin = names::name(code.builtin);
        let called = self.called[op.code].clone();
        let at = At { op, options: Options(op.options), called, result: op.outputs.first().copied() };
        let first = self.nodes.len();
        let results = match super::ops::convert(self, &at, builtin.unwrap_or_default()) {
            Ok(results) => results,
            Err(Refusal::Malformed(e)) => return Err(e),
            Err(Refusal::Unsupported(what)) => {
                self.nodes.truncate(first);
                // The import says so, together with all else that is not supported.
                let op_name = if what.is_empty() { at.called.to_string() } else { format!("{} {what}", at.called) };
                let op_name: String = op_name.chars().take(MAX_OP).collect();
                let inputs = op.inputs.iter().flatten().map(|&i| self.names[i].clone()).collect();
                let outputs = op.outputs.iter().map(|&o| self.names[o].clone()).collect();
                self.push(&at, &op_name, inputs, outputs, Vec::new());
                return Ok(());
            }
        };
        let mut made: HashMap<Name, (usize, usize)> = HashMap::new();
        for (node, of) in self.nodes.iter().enumerate().skip(first) {
            made.extend(of.outputs.iter().enumerate().map(|(i, output)| (output.clone(), (node, i))));
        }
        for (result, &tensor) in results.into_iter().zip(&op.outputs) {
            let name = self.names[tensor].clone();
            // Nobody reads a last value yet, so it can have another name; but one only.
            match made.remove(&result) {
                Some((node, i)) => self.nodes[node].outputs[i] = name,
                None => self.push(&at, "Identity", vec![result], vec![name], Vec::new()),
            }
        }
        if self.nodes.len() > MAX_ENTRIES {
            return Err(Malformed(format!("its operators are more than {MAX_ENTRIES} nodes")));
        }
        Ok(())
    }

    fn push(&mut self, at: &At<'_, '_>, op: &str, inputs: Vec<Name>, outputs: Vec<Name>, attrs: Vec<(&'static str, Attr)>) {
        let (op, called, result) = (op.to_owned(), at.called.clone(), at.result);
        self.nodes.push(Node { op, called, result, inputs, outputs, attrs });
    }

    fn fresh(&mut self) -> Name {
        self.fresh += 1;
        // No tensor's name has this character.
        format!("\u{1}{}", self.fresh).into()
    }

    /// A node of several results.
    pub(super) fn nodes(
        &mut self,
        at: &At<'_, '_>,
        op: &str,
        inputs: Vec<Name>,
        n: usize,
        attrs: Vec<(&'static str, Attr)>,
    ) -> Vec<Name> {
        let outputs: Vec<Name> = (0..n).map(|_| self.fresh()).collect();
        self.push(at, op, inputs, outputs.clone(), attrs);
        outputs
    }

    /// A node of one result.
    pub(super) fn node(&mut self, at: &At<'_, '_>, op: &str, inputs: Vec<Name>, attrs: Vec<(&'static str, Attr)>) -> Name {
        let output = self.fresh();
        self.push(at, op, inputs, vec![output.clone()], attrs);
        output
    }

    /// A constant list of integers.
    pub(super) fn list(&mut self, values: Vec<i64>) -> Name {
        let (name, dims) = (self.fresh(), vec![values.len() as i64]);
        self.ints.push(Ints { name: name.clone(), dims, values });
        name
    }

    /// A constant integer.
    pub(super) fn number(&mut self, value: i64) -> Name {
        let name = self.fresh();
        self.ints.push(Ints { name: name.clone(), dims: Vec::new(), values: vec![value] });
        name
    }

    /// The tensor that is input `i`, if it is there.
    pub(super) fn tensor(&self, at: &At<'_, '_>, i: usize) -> Option<usize> {
        at.op.inputs.get(i).copied().flatten()
    }

    /// The name of input `i`, empty where it is absent.
    pub(super) fn optional(&self, at: &At<'_, '_>, i: usize) -> Name {
        self.tensor(at, i).map_or_else(|| "".into(), |t| self.names[t].clone())
    }

    /// The tensor that is input `i`.
    pub(super) fn given(&self, at: &At<'_, '_>, i: usize) -> Result<usize, Malformed> {
        self.tensor(at, i).ok_or_else(|| Malformed(format!("{} `{}` has no input {i}", at.called, shown(&self.names, at.result))))
    }

    /// The name of input `i`.
    pub(super) fn input(&self, at: &At<'_, '_>, i: usize) -> Result<Name, Malformed> {
        self.given(at, i).map(|t| self.names[t].clone())
    }

    /// All inputs.
    pub(super) fn inputs(&self, at: &At<'_, '_>) -> Vec<Name> {
        (0..at.op.inputs.len()).map(|i| self.optional(at, i)).collect()
    }

    /// The sizes of a tensor; open ones are 1.
    pub(super) fn dims(&self, tensor: usize) -> &'m [i32] {
        &self.model.tensors[tensor].dims
    }

    /// Input `i`, which must be constant integers.
    pub(super) fn constant(&self, at: &At<'_, '_>, i: usize, what: &str) -> Result<Vec<i64>, Refusal> {
        let tensor = &self.model.tensors[self.given(at, i)?];
        let Some(data) = tensor.data else { return unsupported!("with computed {what}") };
        // No list is longer than the axes or results that it is of, and all operators may read one.
        if data.len() > 8 * at.op.outputs.len().max(2 * MAX_RANK) {
            return Err(Malformed(format!("the {what} of a {} are {} bytes", at.called, data.len())).into());
        }
        match tensor.kind {
            INT32 => Ok(data.as_chunks().0.iter().map(|&b| i64::from(i32::from_le_bytes(b))).collect()),
            INT64 => Ok(data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect()),
            kind => unsupported!("with {what} of element type {kind}"),
        }
    }
}

/// `TensorType`
pub(super) const FLOAT32: i8 = 0;
/// See [`FLOAT32`].
pub(super) const FLOAT16: i8 = 1;
/// See [`FLOAT32`].
pub(super) const INT32: i8 = 2;
/// See [`FLOAT32`].
pub(super) const UINT8: i8 = 3;
/// See [`FLOAT32`].
pub(super) const INT64: i8 = 4;
/// See [`FLOAT32`].
pub(super) const BOOL: i8 = 6;
/// See [`FLOAT32`].
pub(super) const INT16: i8 = 7;
/// See [`FLOAT32`].
pub(super) const INT8: i8 = 9;
/// See [`FLOAT32`].
pub(super) const FLOAT64: i8 = 10;
/// See [`FLOAT32`].
pub(super) const INT4: i8 = 17;

/// ONNX's number of an element type; 0 for those that are not supported.
pub(super) fn onnx_kind(kind: i8) -> i64 {
    match kind {
        FLOAT32 => 1,
        UINT8 => 2,
        INT8 => 3,
        INT16 => 5,
        INT32 => 6,
        INT64 => 7,
        BOOL => 9,
        FLOAT16 => 10,
        FLOAT64 => 11,
        _ => 0,
    }
}

/// A name for every tensor: its own, those of inputs and outputs as the signature has them, and a number where another has it too.
fn unique_names(model: &Model<'_>) -> Vec<Name> {
    let mut names: Vec<Name> = model.tensors.iter().map(|t| t.name.replace('\u{1}', "_").into()).collect();
    for (i, name) in model.inputs.iter().chain(&model.outputs) {
        if let Some(name) = name {
            names[*i] = name.replace('\u{1}', "_").into();
        }
    }
    let mut seen = std::collections::HashSet::new();
    for (i, name) in names.iter_mut().enumerate() {
        if name.is_empty() || !seen.insert(name.clone()) {
            *name = format!("{name}#{i}").into();
            seen.insert(name.clone());
        }
    }
    names
}

/// What users know an operator by whose first result is `result`. One that was fused is called after all that it was made of; the
/// first will do.
pub(super) fn shown(names: &[Name], result: Option<usize>) -> &str {
    result.map_or("", |o| names[o].split(';').next().unwrap_or_default())
}
