//! The tables of TFLite's `schema.fbs`, as far as they are read: borrowed from the file's bytes, looked up on demand.
//!
//! The wire format is `planus`'s, which checks every offset and length where it is followed, so nothing of a hostile file reaches
//! beyond it; here stand the field numbers (github.com/tensorflow/tensorflow, `tensorflow/lite/schema/schema.fbs`, version 3). A
//! table need not be read whole: what a newer version adds is not looked at. Lists take no more memory than the file has bytes
//! for them, but many tables, lists and names may stand at one place: all are counted.

use planus::errors::ErrorKind;
use planus::table_reader::Table as Wire;
use planus::{SliceWithStartOffset, TableRead};

use crate::front::check::MAX_ENDS;
use crate::front::onnx::proto::MAX_OPERANDS;

/// Bytes 4 to 8 of every file.
const IDENTIFIER: &[u8] = b"TFL3";
/// Most operators, tensors or buffers.
pub(super) const MAX_ENTRIES: usize = 50_000;
/// Most axes of a tensor.
pub(super) const MAX_RANK: usize = 32;
/// Most bytes of a name, and of all names.
const MAX_TEXT: usize = 1024;
const MAX_TEXTS: usize = 16 << 20;

/// Why bytes are not the table they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

impl From<planus::Error> for Malformed {
    fn from(e: planus::Error) -> Self {
        Malformed(e.to_string())
    }
}

impl From<ErrorKind> for Malformed {
    fn from(e: ErrorKind) -> Self {
        Malformed(e.to_string())
    }
}

/// Where a field stands in the file.
struct Position(usize);

impl<'a> TableRead<'a> for Position {
    fn from_buffer(buffer: SliceWithStartOffset<'a>, offset: usize) -> Result<Self, ErrorKind> {
        buffer.offset_from_start.checked_add(offset).map(Position).ok_or(ErrorKind::InvalidOffset)
    }
}

/// A table of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    file: &'a [u8],
    wire: Wire<'a>,
}

impl<'a> Table<'a> {
    /// The table whose offset stands at `position` of `file`.
    fn at(file: &'a [u8], position: usize) -> Result<Self, Malformed> {
        let wire = Wire::from_buffer(SliceWithStartOffset { buffer: file, offset_from_start: 0 }, position)?;
        Ok(Self { file, wire })
    }

    fn field<T: TableRead<'a>>(&self, number: usize) -> Result<Option<T>, Malformed> {
        Ok(self.wire.access(number, "table", "field")?)
    }

    /// A number, `default` where it is left out.
    pub(super) fn int(&self, number: usize, default: i32) -> Result<i32, Malformed> {
        Ok(self.field(number)?.unwrap_or(default))
    }

    /// A number of one byte.
    pub(super) fn byte(&self, number: usize) -> Result<i8, Malformed> {
        Ok(self.field(number)?.unwrap_or(0))
    }

    pub(super) fn flag(&self, number: usize) -> Result<bool, Malformed> {
        Ok(self.field(number)?.unwrap_or(false))
    }

    pub(super) fn float(&self, number: usize) -> Result<f32, Malformed> {
        Ok(self.field(number)?.unwrap_or(0.0))
    }

    fn long(&self, number: usize) -> Result<u64, Malformed> {
        Ok(self.field(number)?.unwrap_or(0))
    }

    pub(super) fn bytes(&self, number: usize) -> Result<Option<&'a [u8]>, Malformed> {
        self.field(number)
    }

    /// Text, or what can be read of it; of an absurd one its beginning.
    pub(super) fn text(&self, number: usize) -> Result<String, Malformed> {
        let bytes = self.bytes(number)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT)]).into_owned())
    }

    /// A list of integers; `None` where it is left out.
    pub(super) fn ints(&self, number: usize) -> Result<Option<planus::Vector<'a, i32>>, Malformed> {
        self.field(number)
    }

    pub(super) fn table(&self, number: usize) -> Result<Option<Table<'a>>, Malformed> {
        let position: Option<Position> = self.field(number)?;
        position.map(|p| Table::at(self.file, p.0)).transpose()
    }

    /// A list of tables; empty where it is left out.
    pub(super) fn tables(&self, number: usize) -> Result<Vec<Table<'a>>, Malformed> {
        let Some(Position(at)) = self.field(number)? else { return Ok(Vec::new()) };
        let word = |at: usize| -> Result<usize, Malformed> {
            let bytes = self.file.get(at..).and_then(|b| b.first_chunk()).ok_or(ErrorKind::InvalidOffset)?;
            Ok(u32::from_le_bytes(*bytes) as usize)
        };
        let list = at.checked_add(word(at)?).ok_or(ErrorKind::InvalidOffset)?;
        let count = word(list)?;
        if count > MAX_ENTRIES {
            return Err(Malformed(format!("a list has {count} entries, more than {MAX_ENTRIES}")));
        }
        // Each is an offset from its own place.
        (0..count).map(|i| Table::at(self.file, list + 4 + 4 * i)).collect()
    }
}

/// `Model` with its main graph.
pub(super) struct Model<'a> {
    /// Who made it, in the file's words.
    pub(super) description: String,
    /// By [`Operator::code`].
    pub(super) codes: Vec<Code>,
    pub(super) tensors: Vec<Tensor<'a>>,
    /// Sorted: an operator reads only what stands above it.
    pub(super) operators: Vec<Operator<'a>>,
    /// Tensors of the graph, with the names that the model's signature gives them.
    pub(super) inputs: Vec<(usize, Option<String>)>,
    /// The same.
    pub(super) outputs: Vec<(usize, Option<String>)>,
}

/// `OperatorCode`
pub(super) struct Code {
    /// `BuiltinOperator`
    pub(super) builtin: i32,
    /// Name of a custom operator.
    pub(super) custom: String,
}

/// `Tensor`
pub(super) struct Tensor<'a> {
    pub(super) name: String,
    /// [`ElementType`]'s number.
    pub(super) kind: i8,
    /// Sizes; open ones as 1.
    pub(super) dims: Vec<i32>,
    /// Sizes; open ones as -1.
    pub(super) signature: Vec<i32>,
    /// Elements of a constant.
    pub(super) data: Option<&'a [u8]>,
    /// It has scales.
    pub(super) quantised: bool,
    /// Its elements are not all in the file.
    pub(super) sparse: bool,
}

/// `Operator`
pub(super) struct Operator<'a> {
    /// Index of a [`Code`].
    pub(super) code: usize,
    /// Tensors; `None` for an optional one that is absent.
    pub(super) inputs: Vec<Option<usize>>,
    pub(super) outputs: Vec<usize>,
    /// The table of its options.
    pub(super) options: Option<Table<'a>>,
}

impl<'a> Model<'a> {
    pub(super) fn read(file: &'a [u8]) -> Result<Self, Malformed> {
        if file.get(4..8) != Some(IDENTIFIER) {
            return Err(Malformed("it does not begin as such files do".into()));
        }
        let model = Table::at(file, 0)?;
        if model.int(0, 0)? != 3 {
            return Err(Malformed(format!("it is of version {} of the format, not 3", model.int(0, 0)?)));
        }
        let mut texts = 0;
        let mut count = |text: &str| {
            texts += text.len();
            if texts > MAX_TEXTS { Err(Malformed(format!("its names have more than {MAX_TEXTS} bytes"))) } else { Ok(()) }
        };
        let mut codes = Vec::new();
        for table in model.tables(1)? {
            let code = Code::read(&table)?;
            count(&code.custom)?;
            codes.push(code);
        }
        let buffers = model.tables(4)?;
        let buffers: Vec<Option<&[u8]>> = buffers.iter().map(|b| buffer(file, b)).collect::<Result<_, _>>()?;
        let graphs = model.tables(2)?;
        let Some(graph) = graphs.first() else { return Err(Malformed("it has no graph".into())) };
        let mut tensors: Vec<Tensor<'a>> = Vec::new();
        for table in graph.tables(0)? {
            let tensor = Tensor::read(&table, &buffers)?;
            count(&tensor.name)?;
            tensors.push(tensor);
        }
        let index = |i: i32| {
            let at = usize::try_from(i).ok().filter(|&i| i < tensors.len());
            at.ok_or_else(|| Malformed(format!("there is no tensor {i} among {}", tensors.len())))
        };
        let mut operands = 0;
        let mut operators = Vec::new();
        for op in graph.tables(3)? {
            let operator = Operator::read(&op, &index)?;
            operands += operator.inputs.len() + operator.outputs.len();
            if operands > MAX_OPERANDS {
                return Err(Malformed(format!("its operators have more than {MAX_OPERANDS} operands")));
            }
            operators.push(operator);
        }
        let (named_inputs, named_outputs) = signature(&model)?;
        let ends = |number: usize, named: &[(u32, String)]| -> Result<Vec<_>, Malformed> {
            let Some(list) = graph.ints(number)? else { return Ok(Vec::new()) };
            if list.len() > MAX_ENTRIES {
                return Err(Malformed(format!("it has {} inputs or outputs", list.len())));
            }
            let name = |i: usize| named.iter().find(|(n, _)| *n as usize == i).map(|(_, name)| name.clone());
            list.iter().map(|i| index(i).map(|i| (i, name(i)))).collect()
        };
        let (inputs, outputs) = (ends(1, &named_inputs)?, ends(2, &named_outputs)?);
        Ok(Self { description: model.text(3)?, codes, tensors, operators, inputs, outputs })
    }

    /// Whether the tensor is a constant.
    pub(super) fn is_constant(&self, tensor: usize) -> bool {
        self.tensors[tensor].data.is_some()
    }
}

/// What the first signature calls the graph's inputs and outputs.
#[expect(clippy::type_complexity, reason = "two lists of one kind")]
fn signature(model: &Table<'_>) -> Result<(Vec<(u32, String)>, Vec<(u32, String)>), Malformed> {
    let all = model.tables(7)?;
    let Some(first) = all.first() else { return Ok((Vec::new(), Vec::new())) };
    if first.int(4, 0)? != 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let names = |number: usize| {
        first.tables(number)?.iter().take(MAX_ENDS).map(|map| Ok((map.int(1, 0)?.cast_unsigned(), map.text(0)?))).collect()
    };
    let (inputs, outputs): (Result<Vec<_>, Malformed>, Result<Vec<_>, Malformed>) = (names(0), names(1));
    Ok((inputs?, outputs?))
}

/// The bytes of a `Buffer`; none where it has none.
fn buffer<'a>(file: &'a [u8], table: &Table<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    if let Some(data) = table.bytes(0)? {
        return Ok(Some(data).filter(|d| !d.is_empty()));
    }
    // Of files of 2 GiB and more the constants stand behind the tables.
    let (offset, size) = (table.long(1)?, table.long(2)?);
    if offset <= 1 {
        return Ok(None);
    }
    let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
    let data = range.and_then(|(at, n)| file.get(at..at.checked_add(n)?));
    data.map(Some).ok_or_else(|| Malformed("a constant stands behind its end".into()))
}

impl Code {
    fn read(table: &Table<'_>) -> Result<Self, Malformed> {
        // The byte is all that old files have; it stops at 127.
        let builtin = i32::from(table.byte(0)?).max(table.int(3, 0)?);
        Ok(Self { builtin, custom: table.text(1)? })
    }
}

impl<'a> Tensor<'a> {
    fn read(table: &Table<'a>, buffers: &[Option<&'a [u8]>]) -> Result<Self, Malformed> {
        let list = |number: usize| -> Result<Option<Vec<i32>>, Malformed> {
            let Some(list) = table.ints(number)? else { return Ok(None) };
            if list.len() > MAX_RANK {
                return Err(Malformed(format!("a tensor has {} axes", list.len())));
            }
            Ok(Some(list.iter().collect()))
        };
        let dims = list(0)?.unwrap_or_default();
        let signature = list(7)?.filter(|s| s.len() == dims.len()).unwrap_or_else(|| dims.clone());
        let at = table.int(2, 0)?.cast_unsigned() as usize;
        let data = buffers.get(at).copied();
        let Some(data) = data.or((at == 0).then_some(None)) else {
            return Err(Malformed(format!("there is no buffer {at} among {}", buffers.len())));
        };
        let scales: Option<planus::Vector<'_, f32>> = table.table(4)?.map(|q| q.field(2)).transpose()?.flatten();
        Ok(Self {
            name: table.text(3)?,
            kind: table.byte(1)?,
            dims,
            signature,
            data,
            quantised: scales.is_some_and(|s| !s.is_empty()),
            sparse: table.table(6)?.is_some() || table.int(10, 0)? != 0,
        })
    }
}

impl<'a> Operator<'a> {
    fn read(table: &Table<'a>, index: &impl Fn(i32) -> Result<usize, Malformed>) -> Result<Self, Malformed> {
        let code = table.int(0, 0)?.cast_unsigned() as usize;
        let list = |number: usize| -> Result<Vec<i32>, Malformed> {
            let Some(list) = table.ints(number)? else { return Ok(Vec::new()) };
            if list.len() > MAX_ENTRIES {
                return Err(Malformed(format!("an operator has {} operands", list.len())));
            }
            Ok(list.iter().collect())
        };
        let inputs = list(1)?.into_iter().map(|i| if i == -1 { Ok(None) } else { index(i).map(Some) });
        let outputs = list(2)?.into_iter().map(index);
        Ok(Self {
            code,
            inputs: inputs.collect::<Result<_, _>>()?,
            outputs: outputs.collect::<Result<_, _>>()?,
            options: table.table(4)?,
        })
    }
}
