//! The messages of `onnx.proto`, as far as they are read: borrowed from the file's bytes, sub-messages taken apart on demand.
//!
//! The wire format is `buffa`'s; here stand the field numbers (github.com/onnx/onnx, `onnx/onnx.proto`, IR version 13). Nothing of a
//! message that may be large is copied but packed integers, which grow from a byte to eight; nodes and names, which may be of two
//! bytes each, are counted. What a newer version adds is skipped.

use buffa::DecodeError;
use buffa::encoding::{Tag, WireType, decode_varint, skip_field};
use buffa::types::{borrow_bytes, decode_fixed32, decode_fixed64};

/// Most nodes or initialisers of a graph.
const MAX_ENTRIES: usize = 100_000;
/// Most inputs, outputs and attributes of all nodes together.
pub(in crate::front) const MAX_OPERANDS: usize = 400_000;

/// Why bytes are not the message they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

impl From<DecodeError> for Malformed {
    fn from(e: DecodeError) -> Self {
        Malformed(e.to_string())
    }
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            Field::Varint(_) | Field::Fixed32(_) | Field::Fixed64(_) => {
                Err(Malformed("a number stands where text or data belongs".into()))
            }
        }
    }

    fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a name is not UTF-8".into()))
    }

    fn int(self) -> Result<i64, Malformed> {
        match self {
            Field::Varint(v) => Ok(v.cast_signed()),
            Field::Bytes(_) | Field::Fixed32(_) | Field::Fixed64(_) => Err(Malformed("an integer has another wire type".into())),
        }
    }
}

/// Calls `each` for every field of the message `bytes`.
fn fields<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u32, Field<'a>) -> Result<(), Malformed>) -> Result<(), Malformed> {
    let buf = &mut bytes;
    while !buf.is_empty() {
        let tag = Tag::decode(buf)?;
        let field = match tag.wire_type() {
            WireType::Varint => Field::Varint(decode_varint(buf)?),
            WireType::Fixed32 => Field::Fixed32(decode_fixed32(buf)?),
            WireType::Fixed64 => Field::Fixed64(decode_fixed64(buf)?),
            WireType::LengthDelimited => Field::Bytes(borrow_bytes(buf)?),
            _ => {
                skip_field(tag, buf)?;
                continue;
            }
        };
        each(tag.field_number(), field)?;
    }
    Ok(())
}

/// Adds to a list that must not grow without bounds.
fn push<T>(list: &mut Vec<T>, item: T, what: &str) -> Result<(), Malformed> {
    if list.len() >= MAX_ENTRIES {
        return Err(Malformed(format!("it has more than {MAX_ENTRIES} {what}")));
    }
    list.push(item);
    Ok(())
}

/// A repeated scalar, packed or not: `one` reads an element off the front of packed bytes, of which there are `count`.
fn repeated<T>(
    list: &mut Vec<T>,
    field: Field<'_>,
    count: impl Fn(&[u8]) -> usize,
    one: impl Fn(&mut &[u8]) -> Result<T, Malformed>,
    single: impl Fn(Field<'_>) -> Result<T, Malformed>,
) -> Result<(), Malformed> {
    if let Field::Bytes(mut packed) = field {
        list.reserve_exact(count(packed));
        while !packed.is_empty() {
            list.push(one(&mut packed)?);
        }
    } else {
        list.push(single(field)?);
    }
    Ok(())
}

fn ints(list: &mut Vec<i64>, field: Field<'_>) -> Result<(), Malformed> {
    // The last byte of each has no highest bit.
    let count = |packed: &[u8]| packed.iter().filter(|&&b| b < 128).count();
    repeated(list, field, count, |b| Ok(decode_varint(b)?.cast_signed()), |f| f.int())
}

fn floats(list: &mut Vec<f32>, field: Field<'_>) -> Result<(), Malformed> {
    let wrong = || Malformed("a float has another wire type".into());
    repeated(
        list,
        field,
        |packed| packed.len() / 4,
        |b| Ok(f32::from_bits(decode_fixed32(b)?)),
        |f| if let Field::Fixed32(bits) = f { Ok(f32::from_bits(bits)) } else { Err(wrong()) },
    )
}

fn doubles(list: &mut Vec<f64>, field: Field<'_>) -> Result<(), Malformed> {
    let wrong = || Malformed("a double has another wire type".into());
    repeated(
        list,
        field,
        |packed| packed.len() / 8,
        |b| Ok(f64::from_bits(decode_fixed64(b)?)),
        |f| if let Field::Fixed64(bits) = f { Ok(f64::from_bits(bits)) } else { Err(wrong()) },
    )
}

/// `ModelProto`
#[derive(Debug, Default)]
pub(in crate::front) struct Model<'a> {
    /// Version of the format.
    pub(in crate::front) ir_version: i64,
    /// What wrote the file.
    pub(in crate::front) producer: &'a str,
    /// Version of ONNX's own operators; 0 where none is stated.
    pub(in crate::front) opset: i64,
    /// Names of the model's own functions, `domain` and `name`.
    pub(in crate::front) functions: Vec<(&'a str, &'a str)>,
    /// The network.
    pub(in crate::front) graph: Graph<'a>,
    /// Whether there was a graph at all.
    pub(in crate::front) has_graph: bool,
    /// Pictures have rows, columns and channels in this order.
    pub(in crate::front) channels_last: bool,
    /// Length of the file.
    pub(in crate::front) bytes: usize,
}

/// `GraphProto`
#[derive(Debug, Default)]
pub(in crate::front) struct Graph<'a> {
    /// Its name.
    pub(in crate::front) name: &'a str,
    /// Sorted: a node reads only what stands above it.
    pub(in crate::front) nodes: Vec<Node<'a>>,
    /// Constants by name.
    pub(in crate::front) initializers: Vec<(&'a str, Constant<'a>)>,
    /// Graph inputs; older files list initialisers here too.
    pub(in crate::front) inputs: Vec<ValueInfo<'a>>,
    /// Graph outputs.
    pub(in crate::front) outputs: Vec<ValueInfo<'a>>,
    /// How many sparse constants there are.
    pub(in crate::front) sparse: usize,
}

/// `NodeProto`
#[derive(Debug, Default)]
pub(in crate::front) struct Node<'a> {
    /// May be empty.
    pub(in crate::front) name: &'a str,
    /// The operator.
    pub(in crate::front) op: &'a str,
    /// Whose operator; empty for ONNX's own.
    pub(in crate::front) domain: &'a str,
    /// Names of values; empty for an optional one that is absent.
    pub(in crate::front) inputs: Vec<&'a str>,
    /// Names of values.
    pub(in crate::front) outputs: Vec<&'a str>,
    /// `AttributeProto`s.
    pub(in crate::front) attributes: Vec<&'a [u8]>,
    /// Further attributes, of nodes that stand in no file.
    pub(in crate::front) given: Vec<Attribute<'a>>,
    /// What the user's file calls the operator, where that is not `op`.
    pub(in crate::front) called: &'a str,
}

/// A constant.
#[derive(Debug)]
pub(in crate::front) enum Constant<'a> {
    /// A `TensorProto`.
    Message(&'a [u8]),
    /// What such a message would say.
    Given(TensorData<'a>),
}

/// `ValueInfoProto` of a tensor.
#[derive(Debug, Default, Clone)]
pub(in crate::front) struct ValueInfo<'a> {
    /// The value's name.
    pub(in crate::front) name: &'a str,
    /// [`TensorData::kind`]'s numbers.
    pub(in crate::front) kind: i64,
    /// Dimensions, `None` where the file leaves them open; without the list even their number is open.
    pub(in crate::front) dims: Option<Vec<Option<i64>>>,
}

/// `TensorProto`, its data as it stands in the file.
#[derive(Debug, Default, Clone)]
pub(in crate::front) struct TensorData<'a> {
    pub(in crate::front) dims: Vec<i64>,
    /// Element type, by ONNX's numbers.
    pub(in crate::front) kind: i64,
    pub(in crate::front) raw: Option<&'a [u8]>,
    /// Which of the typed lists below counts follows from `kind`.
    pub(in crate::front) floats: Vec<f32>,
    pub(in crate::front) ints: Vec<i64>,
    pub(in crate::front) doubles: Vec<f64>,
    /// `(key, value)` of a tensor that stands in another file.
    pub(in crate::front) external: Vec<(&'a str, &'a str)>,
    pub(in crate::front) is_external: bool,
}

/// `AttributeProto`
#[derive(Debug, Default, Clone)]
pub(in crate::front) struct Attribute<'a> {
    pub(in crate::front) name: &'a str,
    pub(in crate::front) f: Option<f32>,
    pub(in crate::front) i: Option<i64>,
    pub(in crate::front) s: Option<&'a [u8]>,
    pub(in crate::front) t: Option<&'a [u8]>,
    pub(in crate::front) ints: Vec<i64>,
    pub(in crate::front) floats: Vec<f32>,
    pub(in crate::front) strings: Vec<&'a [u8]>,
}

impl<'a> Model<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut model = Model { bytes: bytes.len(), ..Model::default() };
        fields(bytes, |number, field| {
            match number {
                1 => model.ir_version = field.int()?,
                2 => model.producer = field.text()?,
                7 => {
                    model.graph = Graph::read(field.bytes()?)?;
                    model.has_graph = true;
                }
                8 => {
                    let (mut domain, mut version) = ("", 0);
                    fields(field.bytes()?, |number, field| {
                        match number {
                            1 => domain = field.text()?,
                            2 => version = field.int()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    if matches!(domain, "" | "ai.onnx") {
                        model.opset = version;
                    }
                }
                25 => {
                    let (mut name, mut domain) = ("", "");
                    fields(field.bytes()?, |number, field| {
                        match number {
                            1 => name = field.text()?,
                            10 => domain = field.text()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    push(&mut model.functions, (domain, name), "functions")?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(model)
    }
}

impl<'a> Graph<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut graph = Graph::default();
        let mut operands = 0;
        fields(bytes, |number, field| {
            match number {
                1 => {
                    let node = Node::read(field.bytes()?)?;
                    operands += node.inputs.len() + node.outputs.len() + node.attributes.len();
                    if operands > MAX_OPERANDS {
                        return Err(Malformed(format!("its nodes have more than {MAX_OPERANDS} inputs, outputs and attributes")));
                    }
                    push(&mut graph.nodes, node, "nodes")?;
                }
                2 => graph.name = field.text()?,
                5 => {
                    let tensor = field.bytes()?;
                    push(&mut graph.initializers, (tensor_name(tensor)?, Constant::Message(tensor)), "constants")?;
                }
                11 => push(&mut graph.inputs, ValueInfo::read(field.bytes()?)?, "inputs")?,
                12 => push(&mut graph.outputs, ValueInfo::read(field.bytes()?)?, "outputs")?,
                15 => graph.sparse += 1,
                _ => {}
            }
            Ok(())
        })?;
        Ok(graph)
    }
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut node = Node::default();
        fields(bytes, |number, field| {
            match number {
                1 => push(&mut node.inputs, field.text()?, "inputs at one node")?,
                2 => push(&mut node.outputs, field.text()?, "outputs at one node")?,
                3 => node.name = field.text()?,
                4 => node.op = field.text()?,
                5 => push(&mut node.attributes, field.bytes()?, "attributes at one node")?,
                7 => node.domain = field.text()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(node)
    }

    /// What users know it by: its name, else that of its first result.
    pub(super) fn shown(&self) -> &'a str {
        if self.name.is_empty() { self.outputs.first().copied().unwrap_or(self.op) } else { self.name }
    }

    /// What users know its operator by.
    pub(super) fn called(&self) -> &'a str {
        if self.called.is_empty() { self.op } else { self.called }
    }

    /// All its attributes.
    pub(super) fn attributes(&self) -> Result<Vec<Attribute<'a>>, Malformed> {
        let mut all: Vec<Attribute<'a>> = self.attributes.iter().map(|bytes| Attribute::read(bytes)).collect::<Result<_, _>>()?;
        all.extend(self.given.iter().cloned());
        Ok(all)
    }
}

impl<'a> ValueInfo<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut info = ValueInfo::default();
        fields(bytes, |number, field| {
            match number {
                1 => info.name = field.text()?,
                // TypeProto
                2 => fields(field.bytes()?, |number, field| {
                    // .tensor_type
                    if number == 1 {
                        fields(field.bytes()?, |number, field| {
                            match number {
                                1 => info.kind = field.int()?,
                                2 => info.dims = Some(dimensions(field.bytes()?)?),
                                _ => {}
                            }
                            Ok(())
                        })?;
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(info)
    }
}

/// `TensorShapeProto`
fn dimensions(bytes: &[u8]) -> Result<Vec<Option<i64>>, Malformed> {
    let mut dims = Vec::new();
    fields(bytes, |number, field| {
        if number == 1 {
            let mut size = None;
            fields(field.bytes()?, |number, field| {
                if number == 1 {
                    size = Some(field.int()?);
                }
                Ok(())
            })?;
            push(&mut dims, size, "dimensions")?;
        }
        Ok(())
    })?;
    Ok(dims)
}

fn tensor_name(bytes: &[u8]) -> Result<&str, Malformed> {
    let mut name = "";
    fields(bytes, |number, field| {
        if number == 8 {
            name = field.text()?;
        }
        Ok(())
    })?;
    Ok(name)
}

impl<'a> TensorData<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut tensor = TensorData::default();
        fields(bytes, |number, field| {
            match number {
                1 => ints(&mut tensor.dims, field)?,
                2 => tensor.kind = field.int()?,
                4 => floats(&mut tensor.floats, field)?,
                // int32_data, int64_data and uint64_data: one of them is used, by the element type
                5 | 7 | 11 => ints(&mut tensor.ints, field)?,
                9 => tensor.raw = Some(field.bytes()?),
                10 => doubles(&mut tensor.doubles, field)?,
                13 => {
                    let (mut key, mut value) = ("", "");
                    fields(field.bytes()?, |number, field| {
                        match number {
                            1 => key = field.text()?,
                            2 => value = field.text()?,
                            _ => {}
                        }
                        Ok(())
                    })?;
                    push(&mut tensor.external, (key, value), "entries of external data")?;
                }
                14 => tensor.is_external = field.int()? == 1,
                _ => {}
            }
            Ok(())
        })?;
        Ok(tensor)
    }
}

impl<'a> Attribute<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut attribute = Attribute::default();
        fields(bytes, |number, field| {
            match number {
                1 => attribute.name = field.text()?,
                2 => {
                    if let Field::Fixed32(bits) = field {
                        attribute.f = Some(f32::from_bits(bits));
                    }
                }
                3 => attribute.i = Some(field.int()?),
                4 => attribute.s = Some(field.bytes()?),
                5 => attribute.t = Some(field.bytes()?),
                7 => floats(&mut attribute.floats, field)?,
                8 => ints(&mut attribute.ints, field)?,
                9 => push(&mut attribute.strings, field.bytes()?, "strings in one attribute")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(attribute)
    }
}
