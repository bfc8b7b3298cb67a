//! The model's nodes one after the other: constants are computed, everything else becomes nodes of the graph.
//!
//! Only what the outputs need is looked at. What cannot be converted is noted and the work goes on, so that one look names all of
//! it; a node that reads something unconverted is passed over in silence, unless its operator is unknown too.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::attrs::Attrs;
use super::budget::Budget;
use super::fold::{Call, few, fold};
use super::proto::{Constant, Model, Node};
use super::tensor::{self, External, Tensor, decode};
use super::view::{View, row_major};
use crate::diag::{Diagnostic, Diagnostics};
use crate::front::Preprocess;
use crate::front::ast::{MAX_ELEMENTS, MAX_NODES, MAX_WEIGHTS};
use crate::front::graph::{name_chains, simplify, table_bytes};
use crate::front::lower::normalize;
use crate::ir::{ConstId, Graph, NodeId, Op, Shape};

/// Longest name of a layer, and of anything in a message.
const MAX_NAME: usize = 150;
/// Most mistakes that are told of, and nodes that are not supported: a hostile file shall not fill the screen.
const MAX_TOLD: (usize, usize) = (20, 1000);

/// A value of the model.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Known now.
    Constant(Rc<Tensor>),
    /// Computed by the graph.
    Computed(View),
    /// Made by a node that could not be converted.
    Unknown,
}

impl Value {
    fn rank(&self) -> usize {
        match self {
            Value::Constant(t) => t.dims.len(),
            Value::Computed(view) => view.axes.len(),
            Value::Unknown => 0,
        }
    }
}

/// Why a node is not converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A thing that mnc cannot do; the text follows the operator's name: "with dilations".
    Unsupported(String),
    /// A thing that is wrong with the model; the text follows the node's name.
    Wrong(String),
    /// More memory or time than the size of the model's files allows ([`Budget`]); the text as of `Wrong`.
    Large(String),
    /// An input is unknown: nothing to say.
    Silent,
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Refusal::Wrong(text)
    }
}

impl From<&str> for Refusal {
    fn from(text: &str) -> Self {
        Refusal::Wrong(text.into())
    }
}

impl From<super::proto::Malformed> for Refusal {
    fn from(e: super::proto::Malformed) -> Self {
        Refusal::Wrong(e.0)
    }
}

/// `Err` with a formatted reason for a lack of support.
macro_rules! unsupported { ($($t:tt)*) => { Err($crate::front::onnx::import::Refusal::Unsupported(format!($($t)*))) } }
pub(super) use unsupported;

/// A node being converted.
pub(super) struct At<'n, 'a> {
    /// The node.
    pub(super) node: &'n Node<'a>,
    /// Its attributes.
    pub(super) attrs: Attrs<'a>,
    /// What its nodes in the graph are called.
    pub(super) name: String,
}

/// The state of an import.
pub(super) struct Import<'a> {
    /// The network so far.
    pub(super) graph: Graph,
    /// Version of ONNX's operators.
    pub(super) opset: i64,
    /// Pictures are `[1, h, w, c]` throughout.
    pub(super) channels_last: bool,
    /// Everything computed so far, by name.
    values: HashMap<&'a str, Value>,
    /// Constants of the file that nobody has asked for yet.
    initializers: HashMap<&'a str, &'a Constant<'a>>,
    external: External,
    /// Names of nodes, each with the number that the last one called so got.
    names: HashMap<String, usize>,
    pub(super) budget: Budget,
    /// Elements of weights so far, and of constants that were read.
    weights: usize,
    read: usize,
    /// How transposes bring axes from one order to another.
    pub(super) moves: super::layout::Moves,
    /// Operators with what of them is not supported, and the nodes.
    refused: Refused,
    mistakes: Diagnostics,
    /// Whether it was said already that the model is too large.
    large: bool,
}

/// Nodes that are not supported, by operator and what of it is not.
#[derive(Default)]
struct Refused {
    nodes: BTreeMap<String, Vec<String>>,
    /// All of them, also those that are not told of.
    count: usize,
}

/// What an import gives.
pub(super) struct Imported {
    pub(super) graph: Graph,
    /// Data files that were read.
    pub(super) files: Vec<std::path::PathBuf>,
    /// Elements of constants that were read.
    pub(super) read: usize,
}

/// A graph input: its name in the model, its dimensions, and its view of a node of `shape`.
pub(super) struct Port<'a> {
    pub(super) name: &'a str,
    /// In the graph.
    pub(super) shown: String,
    pub(super) shape: Shape,
    /// Of the node that will be added.
    pub(super) view: fn(NodeId, Shape, &[usize]) -> View,
    pub(super) dims: Vec<usize>,
    /// The graph starts with pixels, which it brings to the model's scale itself.
    pub(super) normalize: Option<&'a Preprocess>,
}

/// Converts `model` with `inputs` to a graph that computes `outputs` (names of values).
///
/// # Errors
/// Everything of it that is wrong or not supported.
pub(super) fn import<'a>(
    model: &'a Model<'a>,
    inputs: &[Port<'a>],
    outputs: &[(String, &'a str)],
    external: External,
) -> Result<Imported, Diagnostics> {
    let mut import = Import {
        graph: Graph::default(),
        opset: model.opset,
        channels_last: model.channels_last,
        values: HashMap::new(),
        initializers: model.graph.initializers.iter().map(|(name, c)| (*name, c)).collect(),
        external,
        names: HashMap::new(),
        budget: Budget::of(model.bytes),
        weights: 0,
        read: 0,
        moves: super::layout::Moves::default(),
        refused: Refused::default(),
        mistakes: Diagnostics::new(),
        large: false,
    };
    for port in inputs {
        let name = import.unique(&port.shown);
        let mut id = import.graph.add_input(name, port.shape);
        if let Some(preprocess) = port.normalize {
            let op = normalize(preprocess, port.shape.c, &mut import.graph.consts);
            let name = import.unique("normalize");
            id = import.graph.add(name, op, &[id]).map_err(|e| vec![Diagnostic::error(e.to_string())])?;
        }
        import.values.insert(port.name, Value::Computed((port.view)(id, port.shape, &port.dims)));
    }
    let wanted = needed(model, outputs);
    let functions = model.functions.iter().copied().collect();
    for (node, _) in model.graph.nodes.iter().zip(&wanted).filter(|(_, wanted)| **wanted) {
        import.node(node, &functions);
    }
    import.finish(outputs)
}

/// Which nodes the outputs need.
fn needed(model: &Model<'_>, outputs: &[(String, &str)]) -> Vec<bool> {
    let mut open: HashSet<&str> = outputs.iter().map(|(_, name)| *name).collect();
    let mut wanted = vec![false; model.graph.nodes.len()];
    for (node, wanted) in model.graph.nodes.iter().zip(&mut wanted).rev() {
        *wanted = node.outputs.iter().any(|o| !o.is_empty() && open.contains(o));
        if *wanted {
            open.extend(node.inputs.iter().filter(|i| !i.is_empty()));
        }
    }
    wanted
}

/// `name` with nothing in it but letters, digits, `_`, `-` and single dots between them. PyTorch's exporter says every scope with all
/// that are around it (`/blocks/blocks.0/blocks.0.1/Add`): those are said once.
pub(super) fn clean(name: &str) -> String {
    let scopes: Vec<&str> = name.split('/').filter(|s| !s.is_empty()).collect();
    let said_again =
        |i: usize| scopes.get(i + 1).is_some_and(|next| next.strip_prefix(scopes[i]).is_some_and(|r| r.starts_with('.')));
    let kept = (0..scopes.len()).filter(|&i| !said_again(i)).flat_map(|i| scopes[i].split(['.', ':']));
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
    let parts: Vec<String> = kept.filter(|p| !p.is_empty()).map(|p| p.chars().map(allowed).collect()).collect();
    // Names have an end, for messages and files.
    let all: String = parts.join(".").chars().take(MAX_NAME).collect();
    if all.is_empty() { "_".to_owned() } else { all }
}

impl<'a> Import<'a> {
    fn node(&mut self, node: &Node<'a>, functions: &HashSet<(&str, &str)>) {
        let result = self.convert(node, functions).and_then(|outputs| {
            // Every node says the axes of what it reads again.
            let axes = outputs.iter().map(Value::rank).max().unwrap_or(0);
            few(axes).map(|()| outputs).map_err(Refusal::Wrong)
        });
        let outputs = match result {
            Ok(outputs) => outputs,
            Err(refusal) => {
                self.refuse(node, refusal);
                Vec::new()
            }
        };
        let mut outputs = outputs.into_iter();
        for name in node.outputs.iter().filter(|n| !n.is_empty()) {
            self.values.insert(name, outputs.next().unwrap_or(Value::Unknown));
        }
    }

    /// Notes why `node` is not converted.
    fn refuse(&mut self, node: &Node<'a>, refusal: Refusal) {
        let (what, help) = match refusal {
            Refusal::Unsupported(what) => {
                let op = if matches!(node.domain, "" | "ai.onnx") {
                    short(node.called())
                } else {
                    format!("{}.{}", short(node.domain), short(node.op))
                };
                let key = if what.is_empty() { op } else { format!("{op} {}", short(&what)) };
                self.refused.count += 1;
                if self.refused.count <= MAX_TOLD.1 {
                    self.refused.nodes.entry(key).or_default().push(short(node.shown()));
                }
                return;
            }
            Refusal::Silent => return,
            Refusal::Wrong(what) => (what, None),
            // The first says it all.
            Refusal::Large(_) if self.large => return,
            Refusal::Large(what) => {
                self.large = true;
                (what, Some(self.budget.help()))
            }
        };
        if self.mistakes.len() < MAX_TOLD.0 {
            let what: String = what.chars().take(1000).collect();
            let d = Diagnostic::error(format!("{} node `{}`: {what}", short(node.called()), short(node.shown())));
            self.mistakes.push(Diagnostic { help, ..d });
        }
    }

    fn convert(&mut self, node: &Node<'a>, functions: &HashSet<(&str, &str)>) -> Result<Vec<Value>, Refusal> {
        if !matches!(node.domain, "" | "ai.onnx") {
            let own = functions.contains(&(node.domain, node.op));
            return unsupported!("{}", if own { "(a function of the model; inline it first)" } else { "" });
        }
        if !super::ops::known(node.op) {
            return unsupported!("");
        }
        let attrs = Attrs::of(node)?;
        let at = At { node, attrs, name: self.name_of(node) };
        if let Some(value) = self.shape_of(&at)? {
            return Ok(vec![value]);
        }
        let mut constants = Vec::with_capacity(node.inputs.len());
        let mut all = true;
        for i in 0..node.inputs.len() {
            match self.value(&at, i)? {
                None => constants.push(None),
                Some(Value::Constant(t)) => constants.push(Some(t)),
                Some(Value::Computed(_)) => all = false,
                Some(Value::Unknown) => return Err(Refusal::Silent),
            }
        }
        if all {
            if node.op == "Constant" {
                return Ok(vec![self.constant_node(&at)?]);
            }
            if node.op == "ConstantOfShape"
                && let Some(bytes) = at.attrs.tensor("value")
            {
                constants.push(Some(Rc::new(decode(bytes, &mut self.external, &mut self.budget)?)));
            }
            if let Some(folded) = self.folded(&at, &constants)? {
                return Ok(folded);
            }
        }
        super::ops::convert(self, &at)
    }

    /// What the node's layer is called: as its weights, where they are called as PyTorch and Keras do, for that is what people know.
    fn name_of(&self, node: &Node<'a>) -> String {
        let weighted = matches!(node.op, "Conv" | "ConvTranspose" | "Gemm" | "MatMul");
        let weight =
            node.inputs.get(1).filter(|_| weighted).and_then(|w| w.strip_suffix(".weight").or(w.strip_suffix("/weight")));
        match weight.map(clean) {
            Some(name) if name != "_" && !self.names.contains_key(&name) => name,
            _ => clean(node.shown()),
        }
    }

    /// The node's results where all its inputs are constants and folding knows the operator.
    fn folded(&mut self, at: &At<'_, 'a>, constants: &[Option<Rc<Tensor>>]) -> Result<Option<Vec<Value>>, Refusal> {
        let inputs: Vec<Option<&Tensor>> = constants.iter().map(Option::as_deref).collect();
        self.budget.work(inputs.iter().flatten().fold(0, |sum: usize, t| sum.saturating_add(t.bytes())))?;
        let (opset, attrs, budget) = (self.opset, &at.attrs, self.budget.left());
        let call = Call { op: at.node.op, opset, attrs, outputs: at.node.outputs.len(), budget };
        let Some(results) = fold(&call, &inputs)? else { return Ok(None) };
        let bytes = results.iter().fold(0, |sum: usize, t| sum.saturating_add(t.bytes()));
        self.budget.take(bytes)?;
        self.budget.work(bytes)?;
        Ok(Some(results.into_iter().map(|t| Value::Constant(Rc::new(t))).collect()))
    }

    /// `Shape` and `Size` of anything: sizes are static.
    fn shape_of(&mut self, at: &At<'_, 'a>) -> Result<Option<Value>, Refusal> {
        let op = at.node.op;
        if !matches!(op, "Shape" | "Size") {
            return Ok(None);
        }
        let dims = match self.value(at, 0)? {
            Some(Value::Constant(t)) => t.dims.clone(),
            Some(Value::Computed(view)) => view.dims(),
            Some(Value::Unknown) => return Err(Refusal::Silent),
            None => return Err(Refusal::Wrong("its input is missing".into())),
        };
        let tensor = if op == "Size" {
            Tensor::int(Vec::new(), vec![dims.iter().product::<usize>() as i64])
        } else {
            let rank = dims.len() as i64;
            let clamp = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
            let (start, end) = (clamp(at.attrs.int_or("start", 0)), clamp(at.attrs.int_or("end", rank)));
            Tensor::sizes(&dims[start..end.max(start)])
        };
        Ok(Some(Value::Constant(Rc::new(tensor))))
    }

    fn constant_node(&mut self, at: &At<'_, 'a>) -> Result<Value, Refusal> {
        let a = &at.attrs;
        let tensor = if let Some(bytes) = a.tensor("value") {
            let tensor = decode(bytes, &mut self.external, &mut self.budget)?;
            self.read += tensor.len();
            tensor
        } else if let Some(f) = a.float("value_float") {
            Tensor::float(Vec::new(), vec![f])
        } else if let Some(i) = a.int("value_int") {
            Tensor::int(Vec::new(), vec![i])
        } else if let Some(list) = a.floats("value_floats") {
            self.budget.take(size_of_val(list))?;
            Tensor::float(vec![list.len()], list.to_vec())
        } else if let Some(list) = a.ints("value_ints") {
            self.budget.take(size_of_val(list))?;
            Tensor::int(vec![list.len()], list.to_vec())
        } else {
            return unsupported!("of a type that is no tensor of numbers");
        };
        Ok(Value::Constant(Rc::new(tensor)))
    }

    /// Input `i`; `None` where it is left out.
    pub(super) fn value(&mut self, at: &At<'_, 'a>, i: usize) -> Result<Option<Value>, Refusal> {
        let Some(&name) = at.node.inputs.get(i).filter(|n| !n.is_empty()) else { return Ok(None) };
        if let Some(value) = self.values.get(name) {
            return Ok(Some(value.clone()));
        }
        let Some(&constant) = self.initializers.get(name) else {
            return Err(Refusal::Wrong(format!("it reads `{name}`, which no node before it makes")));
        };
        let tensor = tensor::read(constant, &mut self.external, &mut self.budget).map_err(|e| match e {
            Refusal::Wrong(e) => Refusal::Wrong(format!("its constant `{}`: {e}", short(name))),
            e @ (Refusal::Large(_) | Refusal::Unsupported(_) | Refusal::Silent) => e,
        })?;
        self.read += tensor.len();
        let value = Value::Constant(Rc::new(tensor));
        self.values.insert(name, value.clone());
        Ok(Some(value))
    }

    /// Input `i`, which must be there, in the graph.
    pub(super) fn computed(&mut self, at: &At<'_, 'a>, i: usize) -> Result<View, Refusal> {
        match self.value(at, i)? {
            Some(Value::Computed(view)) => Ok(view),
            Some(Value::Constant(t)) => self.constant_view(at, &t),
            Some(Value::Unknown) => Err(Refusal::Silent),
            None => Err(Refusal::Wrong(format!("its input {i} is missing"))),
        }
    }

    /// Input `i` if it is there; it must be a constant.
    pub(super) fn constant(&mut self, at: &At<'_, 'a>, i: usize, what: &str) -> Result<Option<Rc<Tensor>>, Refusal> {
        match self.value(at, i)? {
            Some(Value::Constant(t)) => {
                self.budget.work(t.bytes())?;
                Ok(Some(t))
            }
            Some(Value::Computed(_)) => unsupported!("with computed {what}"),
            Some(Value::Unknown) => Err(Refusal::Silent),
            None => Ok(None),
        }
    }

    /// Input `i` as a constant list of floats, which must be there.
    pub(super) fn weights(&mut self, at: &At<'_, 'a>, i: usize, what: &str) -> Result<Rc<Tensor>, Refusal> {
        let tensor = self.constant(at, i, what)?.ok_or_else(|| Refusal::Wrong(format!("its {what} are missing")))?;
        if tensor.floats().is_none() {
            return Err(Refusal::Wrong(format!("its {what} are not floats")));
        }
        self.copied(&tensor)?;
        Ok(tensor)
    }

    /// Sees that a constant may be turned, scaled and put into the graph: each step is a copy.
    pub(super) fn copied(&mut self, tensor: &Tensor) -> Result<(), Refusal> {
        self.budget.work(tensor.bytes())?;
        self.budget.spare(tensor.bytes().saturating_mul(4))
    }

    /// A constant as a node of the graph.
    pub(super) fn constant_view(&mut self, at: &At<'_, 'a>, tensor: &Tensor) -> Result<View, Refusal> {
        let Some(data) = tensor.floats() else { return unsupported!("of constant integers") };
        if data.is_empty() {
            return unsupported!("of an empty tensor");
        }
        self.copied(tensor)?;
        // Rows and columns of pictures lie as pictures do.
        if let [1, c, h, w] = tensor.dims[..] {
            let nhwc = super::fold::transpose(tensor, Some(&[0, 2, 3, 1]))?;
            let shape = Shape::hwc(h, w, c);
            let id = self.constant_node_of(at, shape, nhwc.floats().unwrap_or_default().to_vec())?;
            return Ok(View::nchw(id, shape));
        }
        let id = self.constant_node_of(at, row_major(&tensor.dims), data.to_vec())?;
        Ok(View::plain(id, &tensor.dims))
    }

    /// Adds a constant of `shape`.
    pub(super) fn constant_node_of(&mut self, at: &At<'_, 'a>, shape: Shape, data: Vec<f32>) -> Result<NodeId, Refusal> {
        self.weigh(data.len())?;
        let name = self.unique(&format!("{}.constant", at.name));
        Ok(self.graph.add_constant(name, shape, data))
    }

    /// A weight of the graph.
    pub(super) fn consts(&mut self, data: Vec<f32>) -> Result<ConstId, Refusal> {
        self.weigh(data.len())?;
        if !data.iter().all(|x| x.is_finite()) {
            return Err(Refusal::Wrong("its weights have infinite or undefined elements".into()));
        }
        Ok(self.graph.consts.add(data))
    }

    fn weigh(&mut self, n: usize) -> Result<(), Refusal> {
        self.weights = self.weights.saturating_add(n);
        if self.weights > MAX_WEIGHTS {
            return Err(Refusal::Wrong(format!("the model has more than {MAX_WEIGHTS} weights")));
        }
        self.budget.take(n.saturating_mul(size_of::<f32>()))
    }

    /// `name`, or with a number behind it where it is taken.
    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_owned();
        while self.names.contains_key(&unique) {
            let n = self.names.get_mut(name).expect("the first one is called so");
            *n += 1;
            unique = format!("{name}_{n}");
        }
        self.names.insert(unique.clone(), 1);
        unique
    }

    /// Adds a node called after `at`, with `.part` behind that if there is one.
    pub(super) fn add(&mut self, at: &At<'_, 'a>, part: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId, Refusal> {
        if self.graph.len() >= MAX_NODES {
            return Err(Refusal::Wrong(format!("the model has more than {MAX_NODES} layers")));
        }
        self.budget.take(table_bytes(&op))?;
        let name = if part.is_empty() { at.name.clone() } else { format!("{}.{part}", at.name) };
        let name = self.unique(&name);
        let id = self.graph.add(name, op, inputs).map_err(|e| Refusal::Wrong(e.to_string()))?;
        let shape = self.graph.shape(id);
        if shape.checked_elements().is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(Refusal::Wrong(format!("a tensor of {shape} is too large")));
        }
        Ok(id)
    }

    fn finish(mut self, outputs: &[(String, &'a str)]) -> Result<Imported, Diagnostics> {
        if self.refused.count > 0 {
            self.mistakes.insert(0, unsupported_nodes(&self.refused));
        }
        if !self.mistakes.is_empty() {
            return Err(self.mistakes);
        }
        for (called, name) in outputs {
            let name = *name;
            let wrong = |what: &str| vec![Diagnostic::error(format!("the model's output `{}` {what}", short(name)))];
            let view = match self.values.get(name) {
                Some(Value::Computed(view)) => view.clone(),
                Some(Value::Constant(_)) => return Err(wrong("is a constant: it does not depend on the input")),
                Some(Value::Unknown) => return Err(wrong("is a further result of a node, which mnc does not compute")),
                None => return Err(wrong("is made by no node")),
            };
            let node = Node { name, op: "output", ..Node::default() };
            let attrs = Attrs::of(&node).map_err(|e| wrong(&e.0))?;
            let at = At { node: &node, attrs, name: clean(name) };
            let id = match self.delivered(&at, &view) {
                Ok(id) => id,
                Err(Refusal::Unsupported(what) | Refusal::Wrong(what) | Refusal::Large(what)) => {
                    return Err(wrong(&format!("cannot be given: {what}")));
                }
                Err(Refusal::Silent) => return Err(wrong("cannot be given")),
            };
            self.graph.outputs.push(id);
            self.graph.output_names.push(called.clone());
        }
        simplify(&mut self.graph);
        name_chains(&mut self.graph);
        Ok(Imported { graph: self.graph, files: self.external.files, read: self.read })
    }
}

/// The beginning of a name, for messages.
fn short(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// One diagnostic for all that is not supported: every operator with the nodes that use it.
fn unsupported_nodes(refused: &Refused) -> Diagnostic {
    let count = refused.count;
    let each: Vec<String> = refused
        .nodes
        .iter()
        .map(|(op, nodes)| {
            let quoted: Vec<String> = nodes.iter().map(|n| format!("`{n}`")).collect();
            format!("{op} (at {})", quoted.join(", "))
        })
        .collect();
    let nodes = if count == 1 { "a node".to_owned() } else { format!("{count} nodes") };
    let more = if count > MAX_TOLD.1 { format!("; and {} more", count - MAX_TOLD.1) } else { String::new() };
    let d = Diagnostic::error(format!("the model has {nodes} that mnc does not support: {}{more}", each.join("; ")));
    d.help("`--set outputs=[\"NAME\"]` cuts the model at a value before them")
}
