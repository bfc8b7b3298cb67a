//! ONNX models of a few bytes that ask for gigabytes, or for hours.

use crate::{MODEL, Scratch, assert_within, hostile, load, refused};

/// A message of protobuf.
#[derive(Debug, Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 127 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, number: u64, value: i64) -> Self {
        self.varint(number << 3);
        self.varint(value.cast_unsigned());
        self
    }

    fn bytes(mut self, number: u64, bytes: &[u8]) -> Self {
        self.varint(number << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn text(self, number: u64, text: &str) -> Self {
        self.bytes(number, text.as_bytes())
    }

    fn message(self, number: u64, inner: &Message) -> Self {
        self.bytes(number, &inner.0)
    }

    fn ints(self, number: u64, all: &[i64]) -> Self {
        let packed = all.iter().fold(Message::default(), |mut m, &i| {
            m.varint(i.cast_unsigned());
            m
        });
        self.message(number, &packed)
    }
}

fn message() -> Message {
    Message::default()
}

/// An attribute of a number, or of a list of them.
fn int(name: &str, value: i64) -> Message {
    message().text(1, name).int(3, value)
}

fn ints(name: &str, values: &[i64]) -> Message {
    message().text(1, name).ints(8, values)
}

const FLOAT: i64 = 1;
const UINT8: i64 = 2;
const INT64: i64 = 7;

/// A graph being made: its input is the picture `x`, its output `y`.
#[derive(Debug, Clone)]
pub struct Graph(Message);

impl Graph {
    fn new(input: &[i64]) -> Self {
        let dims = input.iter().fold(message(), |m, &d| m.message(1, &message().int(1, d)));
        let kind = message().message(1, &message().int(1, FLOAT).message(2, &dims));
        let input = message().text(1, "x").message(2, &kind);
        Self(message().message(11, &input).message(12, &message().text(1, "y")))
    }

    fn node(mut self, op: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Self {
        let node = inputs.iter().fold(message(), |m, i| m.text(1, i)).text(4, op);
        let node = output.split(' ').fold(node, |m, o| m.text(2, o));
        let node = attributes.iter().fold(node, |m, a| m.message(5, a));
        self.0 = self.0.message(1, &node);
        self
    }

    fn raw(mut self, name: &str, kind: i64, dims: &[i64], data: &[u8]) -> Self {
        self.0 = self.0.message(5, &message().ints(1, dims).int(2, kind).text(8, name).bytes(9, data));
        self
    }

    fn list(self, name: &str, values: &[i64]) -> Self {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(name, INT64, &[values.len() as i64], &data)
    }

    fn file(&self) -> Vec<u8> {
        message().int(1, 8).message(7, &self.0).message(8, &message().int(2, 17)).0
    }

    /// `n` times what `add` does to it, with the number.
    fn repeat(self, n: usize, add: impl FnMut(Self, usize) -> Self) -> Self {
        (0..n).fold(self, add)
    }
}

fn picture() -> Graph {
    Graph::new(&[1, 4, 8, 8])
}

fn name(i: usize) -> String {
    format!("v{i}")
}

pub fn all() {
    claims();
    folding();
    sharing();
    computed();
    lists();
    beside();
}

/// Constants that are not there.
fn claims() {
    let over = |graph: Graph| graph.node("Add", &["x", "k"], "y", &[]).file();
    hostile("huge dimensions without data", "onnx", &over(picture().raw("k", FLOAT, &[1 << 26], &[])), "bytes of data");
    hostile("dimensions that overflow", "onnx", &over(picture().raw("k", FLOAT, &[1 << 40, 1 << 40], &[])), "too large");
    hostile("an empty tensor of huge dimensions", "onnx", &over(picture().raw("k", FLOAT, &[0, 1 << 27], &[])), "constants");
    let empty = picture().raw("k", INT64, &[0, 1 << 27], &[]).list("s", &[0]).list("e", &[1 << 27]).list("a", &[1]);
    hostile(
        "a slice of an empty tensor",
        "onnx",
        &empty.node("Slice", &["k", "s", "e", "a"], "c", &[]).node("Add", &["x", "c"], "y", &[]).file(),
        "bytes",
    );
    let flat = vec![1; 100_000];
    hostile("a constant of many axes", "onnx", &over(picture().raw("k", FLOAT, &flat, &[0; 4])), "axes");
}

/// Sizes that grow while constants are computed.
fn folding() {
    let sum = |graph: Graph, last: &str| {
        graph
            .node("ReduceSum", &[last], "s", &[int("keepdims", 0)])
            .node("Cast", &["s"], "f", &[int("to", 1)])
            .node("Add", &["x", "f"], "y", &[])
            .file()
    };
    let large = "constant";
    let seed = || picture().list("v0", &[1; 16]).list("two", &[2]).list("one", &[1]);
    for (what, op, inputs) in [("Concat", "Concat", ["", ""]), ("Tile", "Tile", ["two", ""])] {
        let graph = seed().repeat(40, |g, i| {
            let (from, to) = (name(i), name(i + 1));
            let other = if inputs[0].is_empty() { from.clone() } else { inputs[0].into() };
            g.node(op, &[&from, &other], &to, &[int("axis", 0)])
        });
        hostile(&format!("forty doublings by {what}"), "onnx", &sum(graph, "v40"), "large");
    }
    // The exponent doubles: sizes of 2^40 are numbers of a few bytes.
    let graph = seed().repeat(40, |g, i| {
        let from = if i == 0 { "two".into() } else { name(100 + i) };
        g.node("Add", &[&from, &from], &name(101 + i), &[])
    });
    hostile("a shape of forty doublings", "onnx", &sum(graph.clone().node("ConstantOfShape", &["v140"], "c", &[]), "c"), large);
    hostile(
        "an expansion of forty doublings",
        "onnx",
        &sum(graph.clone().node("Expand", &["one", "v140"], "c", &[]), "c"),
        large,
    );
    let scalar = |g: Graph| g.node("Squeeze", &["v140"], "n", &[]).node("Squeeze", &["one"], "o", &[]);
    hostile("a range of forty doublings", "onnx", &sum(scalar(graph).node("Range", &["o", "n", "o"], "c", &[]), "c"), "large");
    // Each of these is harmless.
    let megabytes = seed().list("n", &[1 << 20]).repeat(2000, |g, i| g.node("ConstantOfShape", &["n"], &name(i), &[]));
    let names: Vec<String> = (0..2000).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    hostile("many shapes of megabytes", "onnx", &sum(megabytes.node("Concat", &names, "c", &[int("axis", 0)]), "c"), large);
    let crossed = seed().list("h", &[4096, 1]).list("w", &[1, 4096]).node("ConstantOfShape", &["h"], "a", &[]).node(
        "ConstantOfShape",
        &["w"],
        "b",
        &[],
    );
    for (op, inputs) in [("Add", &["a", "b"][..]), ("Less", &["a", "b"]), ("Where", &["t", "a", "b"]), ("Pow", &["a", "b"])] {
        let graph = crossed.clone().node("Less", &["a", "a"], "t", &[]).repeat(100, |g, i| g.node(op, inputs, &name(i), &[]));
        let graph = graph.repeat(100, |g, i| g.node("Cast", &[&name(i)], &format!("w{i}"), &[int("to", 7)]));
        let graph = graph.repeat(99, |g, i| {
            g.node(
                "Add",
                &[&if i == 0 { "w0".into() } else { format!("u{i}") }, &format!("w{}", i + 1)],
                &format!("u{}", i + 1),
                &[],
            )
        });
        hostile(&format!("rows by columns, {op}"), "onnx", &sum(graph, "u99"), large);
    }
    // A little is made of much, again and again.
    let data = vec![0; 4 << 20];
    let long = picture()
        .raw("k", FLOAT, &[1 << 20], &data)
        .repeat(20_000, |g, i| g.node("ReduceSum", &["k"], &name(i), &[int("keepdims", 0)]));
    let long = long.repeat(19_999, |g, i| {
        g.node("Add", &[&if i == 0 { "v0".into() } else { format!("u{i}") }, &name(i + 1)], &format!("u{}", i + 1), &[])
    });
    hostile("twenty thousand sums of megabytes", "onnx", &long.node("Add", &["x", "u19999"], "y", &[]).file(), "goes through");
    // What there is of the file itself may be turned and turned again.
    let bytes = vec![1; 1 << 20];
    let casts = picture().raw("k", UINT8, &[1 << 20], &bytes).node("Cast", &["k"], "f", &[int("to", 1)]);
    hostile(
        "a megabyte of bytes as floats",
        "onnx",
        &casts.node("ReduceMean", &["f"], "m", &[int("keepdims", 0)]).node("Add", &["x", "m"], "y", &[]).file(),
        "",
    );
}

/// One constant for many nodes.
fn sharing() {
    let weight = vec![0; 4 * 256 * 256];
    let dense = Graph::new(&[1, 256]).raw("w", FLOAT, &[256, 256], &weight);
    let dense =
        dense.repeat(5000, |g, i| g.node("MatMul", &[&if i == 0 { "x".into() } else { name(i) }, "w"], &name(i + 1), &[]));
    hostile("a weight of five thousand layers", "onnx", &dense.node("Relu", &["v5000"], "y", &[]).file(), "constants");
    let wide = Graph::new(&[1, 16384, 2, 2]).raw("k", FLOAT, &[], &1.5f32.to_le_bytes());
    let wide = wide.repeat(5000, |g, i| g.node("Add", &[&if i == 0 { "x".into() } else { name(i) }, "k"], &name(i + 1), &[]));
    hostile("a number of many channels", "onnx", &wide.node("Relu", &["v5000"], "y", &[]).file(), "constants");
}

/// Tensors that the net computes cost nothing, until something is made for each of their elements.
fn computed() {
    let huge = |op: &str, inputs: &[&str], attributes: &[Message]| {
        let flat = picture().list("to", &[1, 1, 1 << 15, 1 << 13]).list("flat", &[-1]).list("deep", &[1, 1 << 28]);
        let flat = flat.node("GlobalAveragePool", &["x"], "p", &[]).list("one", &[1, 1, 1, 1]);
        let flat =
            flat.list("s", &[0]).list("e", &[1 << 27]).list("a", &[1]).list("pads", &[0, 1, 0, 1]).raw("k", FLOAT, &[], &[0; 4]);
        let flat = flat.raw("c", FLOAT, &[], &2f32.to_le_bytes()).list("sizes", &[1, 4, 16384, 16384]);
        let flat = flat
            .node("Resize", &["x", "", "", "sizes"], "z", &[])
            .node("Reshape", &["z", "deep4"], "d", &[])
            .list("deep4", &[1, 1 << 30]);
        flat.node(op, inputs, "y", attributes).file()
    };
    // [1, 4, 16384, 16384] is as large as a tensor may be, or above it.
    hostile("a huge tensor", "onnx", &huge("Relu", &["d"], &[]), "too large");
    let big = |op: &str, inputs: &[&str], attributes: &[Message]| {
        let g = Graph::new(&[1, 1, 16384, 16384]).list("deep", &[1, 1 << 28]).node("Reshape", &["x", "deep"], "d", &[]);
        let g = g.list("s", &[0]).list("e", &[(1 << 28) - 1]).list("a", &[1]).list("pads", &[0, 1, 0, 1]);
        let g = g.raw("c", FLOAT, &[], &2f32.to_le_bytes()).list("parts", &[1, (1 << 28) - 1]).list("more", &[4, 1 << 28]);
        let g = g.list("deep5", &[1, 2, 1 << 13, 2, 1 << 13]).node("Reshape", &["x", "deep5"], "t", &[]);
        g.node(op, inputs, if op == "Split" { "y z" } else { "y" }, attributes).file()
    };
    hostile("a slice of a huge axis", "onnx", &big("Slice", &["d", "s", "e", "a"], &[]), "more than");
    hostile(
        "padding of a huge axis",
        "onnx",
        &big("Pad", &["d", "pads"], &[message().text(1, "mode").text(4, "edge")]),
        "more than",
    );
    hostile("a number added to a huge axis", "onnx", &big("Add", &["d", "c"], &[]), "");
    hostile("a huge axis with its sign turned", "onnx", &big("Neg", &["d"], &[]), "");
    hostile("a split of a huge axis", "onnx", &big("Split", &["d", "parts"], &[int("axis", 1)]), "more than");
    hostile("a huge axis, more than once", "onnx", &big("Expand", &["d", "more"], &[]), "too large");
    hostile("a huge axis turned", "onnx", &big("Transpose", &["t"], &[ints("perm", &[0, 3, 2, 1, 4])]), "");
    // Each of these tables has as many entries as there may be.
    let sizes = picture().list("wide", &[1, 4, 1, 16384]).list("small", &[1, 4, 1, 8]);
    let tables = |mode: &str| {
        let mode = message().text(1, "mode").text(4, mode);
        let g = sizes.clone().repeat(4000, |g, i| {
            let from = if i == 0 { "x".into() } else { name(i) };
            g.node(
                "Resize",
                &[&from, "", "", if i % 2 == 0 { "wide" } else { "small" }],
                &name(i + 1),
                std::slice::from_ref(&mode),
            )
        });
        g.node("Relu", &["v4000"], "y", &[]).file()
    };
    hostile("tables of nearest resizing", "onnx", &tables("nearest"), "constants");
    hostile("tables of linear resizing", "onnx", &tables("linear"), "constants");
    // Every node says all axes of its input.
    let flat = picture().list("axes", &[1; 100_000]).node("Reshape", &["x", "axes"], &name(0), &[]);
    let flat = flat.repeat(5000, |g, i| g.node("Relu", &[&name(i)], &name(i + 1), &[]));
    hostile("many axes", "onnx", &flat.node("Relu", &["v5000"], "y", &[]).file(), "axes");
    let growing = picture()
        .list("0", &[0])
        .repeat(5000, |g, i| g.node("Unsqueeze", &[&if i == 0 { "x".into() } else { name(i) }, "0"], &name(i + 1), &[]));
    hostile("an axis more at every node", "onnx", &growing.node("Relu", &["v5000"], "y", &[]).file(), "axes");
    // A shuffle of seven axes is searched for among thousands of orders.
    let shuffled =
        Graph::new(&[1, 8, 4, 4]).list("many", &[1, 2, 2, 2, 2, 2, 2, 2]).list("one", &[1, 8, 4, 4]).repeat(2000, |g, i| {
            let [a, b, c] = ["a", "b", "c"].map(|n| format!("{n}{i}"));
            let mut perm: Vec<i64> = (0..8).collect();
            let mut k = 17 * i;
            (1..8).for_each(|n| {
                perm.swap(n, n + k % (8 - n));
                k /= 8 - n;
            });
            let g = g.node("Reshape", &[&if i == 0 { "x".into() } else { name(i) }, "many"], &a, &[]);
            let g = g.node("Transpose", &[&a], &b, &[ints("perm", &perm)]).node("Reshape", &[&b, "one"], &c, &[]);
            g.node("MaxPool", &[&c], &name(i + 1), &[ints("kernel_shape", &[1, 1])])
        });
    hostile("two thousand shuffles", "onnx", &shuffled.node("Relu", &["v2000"], "y", &[]).file(), "mixes axes");
    // A weight that is nearly all there may be, and is turned, scaled and put into the graph.
    let weight = Graph::new(&[1, 4000]).list("dims", &[4000, 4000]).node("ConstantOfShape", &["dims"], "w", &[]);
    let scaled = message().text(1, "alpha").0;
    let alpha = Message([scaled, vec![2 << 3 | 5], 2f32.to_le_bytes().to_vec()].concat());
    hostile(
        "a weight of nothing",
        "onnx",
        &weight.node("Gemm", &["x", "w"], "y", &[int("transB", 1), alpha]).file(),
        "constants",
    );
}

/// Names, lists and messages.
fn lists() {
    let mut graph = picture();
    graph.0 = (0..99_000).fold(graph.0, |m, _| m.bytes(1, &[]));
    hostile("a hundred thousand empty nodes", "onnx", &graph.file(), "made by no node");
    let node = (0..95_000).fold(message(), |m, _| m.bytes(1, b"x")).text(2, "y").text(4, "Sum");
    let mut graph = picture();
    graph.0 = graph.0.message(1, &node);
    hostile("a node of many inputs", "onnx", &graph.file(), "layers");
    let nodes = (0..40_000).fold(picture().0, |m, i| {
        let node = (0..10).fold(message(), |m, k| m.text(2, &format!("{i}.{k}"))).text(1, "x").text(2, "y").text(4, "Relu");
        m.message(1, &node)
    });
    hostile("many results", "onnx", &Graph(nodes).file(), "inputs, outputs and attributes");
    let mut graph = picture().node("Relu", &["x"], "y", &[]);
    graph.0 = (0..3000).fold(graph.0, |m, _| m.message(12, &message().text(1, "y")));
    hostile("many outputs of one name", "onnx", &graph.file(), "outputs");
    let mut graph = picture().node("Relu", &["x"], "y", &[]);
    graph.0 = (0..90_000).fold(graph.0, |m, i| m.message(11, &message().text(1, &format!("i{i}"))));
    hostile("many inputs", "onnx", &graph.file(), "inputs");
    // A byte each in the file.
    let million = vec![0; 1 << 20];
    let packed = message().ints(1, &[1 << 20]).int(2, INT64).ints(7, &million).text(8, "k");
    let mut graph = picture().node("ReduceSum", &["k"], "s", &[int("keepdims", 0)]).node("Cast", &["s"], "f", &[int("to", 1)]);
    graph.0 = graph.0.message(5, &packed);
    hostile("a million packed integers", "onnx", &graph.node("Add", &["x", "f"], "y", &[]).file(), "");
    let graph = picture().node("Constant", &[], "k", &[ints("value_ints", &million)]).node(
        "ReduceSum",
        &["k"],
        "s",
        &[int("keepdims", 0)],
    );
    hostile(
        "a million integers of a node",
        "onnx",
        &graph.node("Cast", &["s"], "f", &[int("to", 1)]).node("Add", &["x", "f"], "y", &[]).file(),
        "",
    );
    for (op, list) in
        [("MaxPool", "kernel_shape"), ("Transpose", "perm"), ("Squeeze", "axes"), ("Split", "split"), ("Conv", "pads")]
    {
        let graph = picture().raw("w", FLOAT, &[4, 4, 1, 1], &[0; 64]);
        let inputs: &[&str] = if op == "Conv" { &["x", "w"] } else { &["x"] };
        hostile(
            &format!("a million integers of {op}"),
            "onnx",
            &graph.node(op, inputs, "y", &[ints(list, &million)]).file(),
            "`y`",
        );
    }
    let long = "n".repeat(1 << 20);
    let graph = picture().node("Erf", &["x"], &long, &[]).node("Relu", &[&long], "y", &[]);
    hostile("a long name", "onnx", &graph.file(), "Erf (at `nnn");
    let unknown =
        picture().repeat(50_000, |g, i| g.node("Erf", &[&if i == 0 { "x".into() } else { name(i) }], &name(i + 1), &[]));
    hostile("many nodes that are not supported", "onnx", &unknown.node("Relu", &["v50000"], "y", &[]).file(), "50000 nodes");
}

/// A file beside the model is a part of it, once.
fn beside() {
    let scratch = Scratch::new();
    let data = scratch.file("much.data", &vec![0; 1 << 20]);
    let constant = |i: usize| {
        let entry = |key: &str, value: &str| message().text(1, key).text(2, value);
        message().ints(1, &[1 << 18]).int(2, FLOAT).text(8, &name(i)).message(13, &entry("location", "much.data")).int(14, 1)
    };
    let names: Vec<String> = (0..2000).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut graph = picture();
    graph.0 = (0..2000).fold(graph.0, |m, i| m.message(5, &constant(i)));
    let graph = graph.node("Concat", &names, "c", &[int("axis", 0)]).node("ReduceSum", &["c"], "s", &[int("keepdims", 0)]);
    let bytes = graph.node("Add", &["x", "s"], "y", &[]).file();
    let model = scratch.file("model.onnx", &bytes);
    let size = bytes.len() + crate::size(&data);
    refused("two thousand names of one megabyte", &model, size, "constants");
    // One of them is no more than that.
    let mut graph = picture();
    graph.0 = graph.0.message(5, &constant(0));
    let bytes = graph.node("ReduceSum", &["v0"], "s", &[int("keepdims", 0)]).node("Add", &["x", "s"], "y", &[]).file();
    let (loaded, taken) = load(&scratch.file("one.onnx", &bytes));
    assert!(loaded.is_ok(), "{loaded:?}");
    assert_within(MODEL, "a megabyte beside the model", bytes.len() + crate::size(&data), taken);
}
