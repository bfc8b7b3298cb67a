//! TFLite models whose tables, names and buffers stand at one place for many.

use crate::hostile;

/// A file being written: tables first, what they point to behind them.
#[derive(Debug, Default)]
struct Flat(Vec<u8>);

/// A field of a table.
#[derive(Debug, Clone, Copy)]
enum Field {
    Byte(i8),
    Int(i32),
    /// An offset that is filled in later.
    Offset,
}

impl Flat {
    fn word(&mut self, value: usize) {
        self.0.extend((value as u32).to_le_bytes());
    }

    /// Writes a table of `fields`, by number; gives its position and those of its offsets.
    fn table(&mut self, fields: &[(usize, Field)]) -> (usize, Vec<usize>) {
        let slots = fields.iter().map(|f| f.0 + 1).max().unwrap_or(0);
        let mut places = vec![0u16; slots];
        fields.iter().enumerate().for_each(|(i, f)| places[f.0] = 4 + 4 * i as u16);
        let start = self.0.len();
        for value in [4 + 2 * slots as u16, 4 + 4 * fields.len() as u16].iter().chain(&places) {
            self.0.extend(value.to_le_bytes());
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let at = self.0.len();
        self.word(at - start);
        let mut offsets = Vec::new();
        for (_, field) in fields {
            match field {
                Field::Byte(b) => self.0.extend([b.cast_unsigned(), 0, 0, 0]),
                Field::Int(i) => self.0.extend(i.to_le_bytes()),
                Field::Offset => {
                    offsets.push(self.0.len());
                    self.word(0);
                }
            }
        }
        (at, offsets)
    }

    /// Fills in the offset at `place`.
    fn link(&mut self, place: usize, target: usize) {
        self.0[place..place + 4].copy_from_slice(&((target - place) as u32).to_le_bytes());
    }

    /// A list of bytes for the offset at `place`; text has a zero behind it, which does not harm data.
    fn bytes(&mut self, place: usize, bytes: &[u8]) {
        let at = self.0.len();
        self.link(place, at);
        self.word(bytes.len());
        self.0.extend(bytes);
        self.0.push(0);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn ints(&mut self, place: usize, all: impl ExactSizeIterator<Item = i32>) {
        let at = self.0.len();
        self.link(place, at);
        self.word(all.len());
        all.for_each(|i| self.0.extend(i.to_le_bytes()));
    }

    /// A list of `n` tables; gives the places of their offsets.
    fn tables(&mut self, place: usize, n: usize) -> Vec<usize> {
        let at = self.0.len();
        self.link(place, at);
        self.word(n);
        (0..n)
            .map(|_| {
                self.word(0);
                self.0.len() - 4
            })
            .collect()
    }
}

/// A tensor: how many of it there are, its name, element type, dimensions and buffer (0: none; 1: the data).
struct Tensor<'a> {
    count: usize,
    name: &'a str,
    kind: i8,
    dims: &'a [i32],
    buffer: i32,
}

/// Operators: how many, of which code, between which tensors.
struct Operators<'a> {
    count: usize,
    inputs: Vec<i32>,
    outputs: Vec<i32>,
    code: i32,
    custom: &'a str,
}

/// A model of `tensors`, of which the first is the input and the second the output, and of one kind of operator.
fn model(tensors: &[Tensor<'_>], data: &[u8], operators: &Operators<'_>) -> Vec<u8> {
    use Field::{Byte, Int, Offset};
    let mut f = Flat::default();
    f.word(0);
    f.0.extend(b"TFL3");
    let (root, offsets) = f.table(&[(0, Int(3)), (1, Offset), (2, Offset), (4, Offset)]);
    f.link(0, root);
    let [codes, graphs, buffers] = offsets[..] else { unreachable!("three offsets") };

    let place = f.tables(codes, 1)[0];
    let (at, offsets) = f.table(&[(0, Byte(operators.code.min(127) as i8)), (1, Offset), (3, Int(operators.code))]);
    f.link(place, at);
    f.bytes(offsets[0], operators.custom.as_bytes());

    let places = f.tables(buffers, 2);
    let (at, _) = f.table(&[]);
    f.link(places[0], at);
    let (at, offsets) = f.table(&[(0, Offset)]);
    f.link(places[1], at);
    f.bytes(offsets[0], data);

    let place = f.tables(graphs, 1)[0];
    let (at, offsets) = f.table(&[(0, Offset), (1, Offset), (2, Offset), (3, Offset)]);
    f.link(place, at);
    f.ints(offsets[1], [0].into_iter());
    f.ints(offsets[2], [1].into_iter());
    let mut places = f.tables(offsets[0], tensors.iter().map(|t| t.count).sum()).into_iter();
    for t in tensors {
        let (at, offsets) = f.table(&[(0, Offset), (1, Byte(t.kind)), (2, Int(t.buffer)), (3, Offset)]);
        places.by_ref().take(t.count).collect::<Vec<_>>().into_iter().for_each(|place| f.link(place, at));
        f.ints(offsets[0], t.dims.iter().copied());
        f.bytes(offsets[1], t.name.as_bytes());
    }
    let places = f.tables(offsets[3], operators.count);
    let (at, offsets) = f.table(&[(0, Int(0)), (1, Offset), (2, Offset)]);
    places.into_iter().for_each(|place| f.link(place, at));
    f.ints(offsets[0], operators.inputs.iter().copied());
    f.ints(offsets[1], operators.outputs.iter().copied());
    f.0
}

const FLOAT: i8 = 0;
const UINT8: i8 = 3;
/// Operators' numbers.
const ADD: i32 = 0;
const CONCATENATION: i32 = 2;
const CUSTOM: i32 = 32;
const PACK: i32 = 83;
const UNPACK: i32 = 88;

pub fn all() {
    let x = || Tensor { count: 1, name: "x", kind: FLOAT, dims: &[1, 4, 4, 4], buffer: 0 };
    let y = || Tensor { count: 1, name: "y", kind: FLOAT, dims: &[1, 4, 4, 4], buffer: 0 };
    let one = |code: i32, inputs: Vec<i32>| Operators { count: 1, inputs, outputs: vec![1], code, custom: "" };
    let many = |n: usize, name: &'static str, kind: i8, dims: &'static [i32]| Tensor { count: n, name, kind, dims, buffer: 1 };

    let good = model(&[x(), y(), many(1, "k", FLOAT, &[4])], &[0; 16], &one(ADD, vec![0, 2]));
    hostile("a small model", "tflite", &good, "");
    let huge = model(&[x(), y(), many(1, "k", FLOAT, &[100_000, 100_000])], &[0; 16], &one(ADD, vec![0, 2]));
    hostile("a tensor of a huge shape", "tflite", &huge, "too large");
    let huge = model(&[x(), y(), many(1, "k", FLOAT, &[10_000, 10_000])], &[0; 16], &one(ADD, vec![0, 2]));
    hostile("a tensor of a large shape", "tflite", &huge, "bytes of data");
    let shared = one(CONCATENATION, (2..20_002).collect());
    let shared = model(&[x(), y(), many(20_000, "k", UINT8, &[65_536])], &vec![0; 65_536], &shared);
    hostile("twenty thousand tensors of one buffer", "tflite", &shared, "constants");
    let long: &'static str = Box::leak("n".repeat(1024).into_boxed_str());
    let named = model(&[x(), y(), many(49_000, long, FLOAT, &[4])], &[0; 16], &one(ADD, vec![0, 2]));
    hostile("many tensors of one long name", "tflite", &named, "names");
    let tensors = || [x(), y(), many(10, long, FLOAT, &[4])];
    let operators = |code: i32, custom: &'static str, inputs: usize, outputs: usize, count: usize| Operators {
        count,
        inputs: (0..inputs).map(|i| (i % 10) as i32 + 2).collect(),
        outputs: (0..outputs).map(|_| 1).collect(),
        code,
        custom,
    };
    let read = model(&tensors(), &[0; 16], &operators(CUSTOM, "", 40, 1, 49_000));
    hostile("many operators that read long names", "tflite", &read, "operands");
    let read = model(&tensors(), &[0; 16], &operators(CUSTOM, long, 5, 1, 49_000));
    hostile("many operators of a long name", "tflite", &read, "not support");
    for (what, code, inputs, outputs) in [("packs", PACK, 40_000, 1), ("unpacks", UNPACK, 1, 40_000)] {
        let read = model(&tensors(), &[0; 16], &operators(code, "", inputs, outputs, 9));
        hostile(&format!("many nodes of a few {what}"), "tflite", &read, "more than 50000 nodes");
    }
}
