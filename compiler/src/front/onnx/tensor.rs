//! Constants of a model: read from the file or one beside it, kept as one of three element types.
//!
//! All floats become f32, all integers i64. Elements stand in ONNX's own order, the last dimension fastest.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::budget::Budget;
use super::import::Refusal;
use super::proto::{Constant, TensorData};
use crate::front::half;

/// Most elements of one constant.
pub(super) const MAX_ELEMENTS: usize = 1 << 27;
/// Most axes of a tensor: numpy has no more. Every node says all of them again.
pub(super) const MAX_RANK: usize = 32;

/// Elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    Float(Vec<f32>),
    Int(Vec<i64>),
    Bool(Vec<bool>),
}

impl Data {
    /// Bytes of an element in memory.
    pub(super) fn each(&self) -> usize {
        match self {
            Data::Float(_) => size_of::<f32>(),
            Data::Int(_) => size_of::<i64>(),
            Data::Bool(_) => size_of::<bool>(),
        }
    }
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) dims: Vec<usize>,
    pub(super) data: Data,
}

impl Tensor {
    pub(super) fn float(dims: Vec<usize>, data: Vec<f32>) -> Self {
        Self { dims, data: Data::Float(data) }
    }

    pub(super) fn int(dims: Vec<usize>, data: Vec<i64>) -> Self {
        Self { dims, data: Data::Int(data) }
    }

    /// A list of sizes, as `Shape` gives it.
    pub(super) fn sizes(sizes: &[usize]) -> Self {
        Self::int(vec![sizes.len()], sizes.iter().map(|&s| s as i64).collect())
    }

    pub(super) fn len(&self) -> usize {
        match &self.data {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
            Data::Bool(v) => v.len(),
        }
    }

    /// Bytes that it counts for: of an empty one what its other dimensions make room for.
    pub(super) fn bytes(&self) -> usize {
        room_of(&self.dims).saturating_mul(self.data.each())
    }

    pub(super) fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Float(v) => Some(v),
            Data::Int(_) | Data::Bool(_) => None,
        }
    }

    pub(super) fn ints(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Int(v) => Some(v),
            Data::Float(_) | Data::Bool(_) => None,
        }
    }

    /// The only element, as a float.
    pub(super) fn scalar(&self) -> Option<f32> {
        match &self.data {
            Data::Float(v) if v.len() == 1 => Some(v[0]),
            Data::Int(v) if v.len() == 1 => Some(v[0] as f32),
            Data::Float(_) | Data::Int(_) | Data::Bool(_) => None,
        }
    }
}

/// The product of `dims`, if a constant may be that large.
pub(super) fn count(dims: &[usize]) -> Option<usize> {
    bounded(dims, MAX_ELEMENTS)
}

/// The product of `dims` if it is at most `max`; an empty tensor must not have large dimensions either, so that parts of the product
/// are bounded too.
pub(super) fn bounded(dims: &[usize], max: usize) -> Option<usize> {
    let room = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))?;
    (room <= max).then(|| dims.iter().product())
}

/// The product of `dims` with 1 for 0.
fn room_of(dims: &[usize]) -> usize {
    dims.iter().fold(1, |n, &d| n.saturating_mul(d.max(1)))
}

/// The beginning of `all` for a message: a hostile file's lists have no end.
pub(super) fn shown<T: std::fmt::Debug>(all: &[T]) -> String {
    if all.len() <= MAX_RANK { format!("{all:?}") } else { format!("{:?} and {} more", &all[..MAX_RANK], all.len() - MAX_RANK) }
}

/// The name of an element type and its bytes in raw data.
fn kind(number: i64) -> (&'static str, usize) {
    match number {
        1 => ("float", 4),
        2 => ("uint8", 1),
        3 => ("int8", 1),
        4 => ("uint16", 2),
        5 => ("int16", 2),
        6 => ("int32", 4),
        7 => ("int64", 8),
        8 => ("string", 0),
        9 => ("bool", 1),
        10 => ("float16", 2),
        11 => ("double", 8),
        12 => ("uint32", 4),
        13 => ("uint64", 8),
        14 | 15 => ("complex", 0),
        16 => ("bfloat16", 2),
        17..=20 | 24 => ("float8", 0),
        21 | 22 => ("int4", 0),
        23 => ("float4", 0),
        _ => ("unknown", 0),
    }
}

/// What a user calls the element type `number`.
pub(super) fn kind_name(number: i64) -> &'static str {
    kind(number).0
}

/// Files beside the model that hold constants.
pub(super) struct External {
    folder: PathBuf,
    /// The folder of the model file itself, links resolved: where links of its data may lead.
    home: Option<PathBuf>,
    /// Those in use: open, with their length.
    open: HashMap<String, (File, u64)>,
    /// All paths that were read, for rebuild tracking.
    pub(super) files: Vec<PathBuf>,
    /// Bytes of all of them.
    held: usize,
}

impl External {
    /// For the model at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(p) if p != Path::new("") => p.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let home = path.canonicalize().ok().and_then(|p| Some(p.parent()?.to_path_buf()));
        Self { folder, home, open: HashMap::new(), files: Vec::new(), held: 0 }
    }

    /// The bytes that `entries` of a tensor of `need` bytes name.
    fn read(&mut self, entries: &[(&str, &str)], need: usize) -> Result<Vec<u8>, String> {
        let get = |key: &str| entries.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        let location = get("location").ok_or("its external data has no location")?;
        let number = |key: &str| {
            get(key).map(|v| v.parse::<u64>().map_err(|_| format!("its external {key} `{v}` is no number"))).transpose()
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if length.is_some_and(|l| l != need as u64) {
            return Err(format!("its external data has {} bytes where its shape needs {need}", length.unwrap_or(0)));
        }
        if !self.open.contains_key(location) {
            let opened = self.open(location)?;
            self.held = self.held.saturating_add(usize::try_from(opened.1).unwrap_or(usize::MAX));
            self.open.insert(location.to_owned(), opened);
        }
        let (file, size) = self.open.get_mut(location).expect("just opened");
        if offset.checked_add(need as u64).is_none_or(|end| end > *size) {
            return Err(format!("its data ends behind the end of `{location}` ({size} bytes): is that file whole?"));
        }
        let mut bytes = vec![0; need];
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut bytes));
        read.map_err(|e| format!("`{location}` cannot be read: {e}"))?;
        Ok(bytes)
    }

    /// Opens a data file; it must be in the model's folder or below it.
    fn open(&mut self, location: &str) -> Result<(File, u64), String> {
        let relative = Path::new(location);
        let inside = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside || location.is_empty() {
            return Err(format!("its data is in `{location}`, which is not below the model's folder: that is not allowed"));
        }
        let path = self.folder.join(relative);
        let failed = |e: std::io::Error| format!("its data file `{}` cannot be read: {e}", path.display());
        let real = path.canonicalize().map_err(failed)?;
        let folder = self.folder.canonicalize().map_err(failed)?;
        if !real.starts_with(folder) && !self.home.as_ref().is_some_and(|home| real.starts_with(home)) {
            return Err(format!("its data file `{location}` is a link out of the model's folder: that is not allowed"));
        }
        let file = File::open(&path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() {
            return Err(format!("its data `{location}` is not a file"));
        }
        self.files.push(path);
        Ok((file, about.len()))
    }
}

/// The constant that `bytes` (a `TensorProto`) stands for.
///
/// # Errors
/// What is wrong with it, to be read after its name.
pub(super) fn decode(bytes: &[u8], external: &mut External, budget: &mut Budget) -> Result<Tensor, Refusal> {
    tensor(TensorData::read(bytes)?, external, budget)
}

/// The same of a constant of the model.
///
/// # Errors
/// As [`decode`].
pub(super) fn read(constant: &Constant<'_>, external: &mut External, budget: &mut Budget) -> Result<Tensor, Refusal> {
    match constant {
        Constant::Message(bytes) => decode(bytes, external, budget),
        // Its data is borrowed.
        Constant::Given(data) => tensor(data.clone(), external, budget),
    }
}

fn tensor(proto: TensorData<'_>, external: &mut External, budget: &mut Budget) -> Result<Tensor, Refusal> {
    if proto.dims.len() > MAX_RANK {
        return Err(format!("it has {} axes, more than {MAX_RANK}", proto.dims.len()).into());
    }
    let dims: Option<Vec<usize>> = proto.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let dims = dims.ok_or("it has a negative dimension")?;
    let n = count(&dims).ok_or_else(|| format!("a constant of shape {dims:?} is too large"))?;
    let (name, size) = kind(proto.kind);
    if size == 0 {
        return Err(format!("constants of type {name} (number {}) are not supported", proto.kind).into());
    }
    let owned;
    let raw = if proto.is_external {
        let held = external.held;
        owned = external.read(&proto.external, n * size)?;
        budget.hold(external.held - held);
        Some(owned.as_slice())
    } else {
        proto.raw
    };
    let there = match (raw, proto.kind) {
        (Some(raw), _) if raw.len() != n * size => {
            return Err(format!("it has {} bytes of data where {n} elements of {name} need {}", raw.len(), n * size).into());
        }
        (Some(_), _) => n,
        (None, 1) => proto.floats.len(),
        (None, 11) => proto.doubles.len(),
        (None, _) => proto.ints.len(),
    };
    if there != n {
        return Err(format!("its list of {there} elements does not have the {n} that its shape {dims:?} needs").into());
    }
    let each = match proto.kind {
        1 | 10 | 11 | 16 => size_of::<f32>(),
        9 => size_of::<bool>(),
        _ => size_of::<i64>(),
    };
    budget.take(room_of(&dims).saturating_mul(each))?;
    let data = match raw {
        Some(raw) => from_raw(proto.kind, raw),
        None => typed(proto),
    };
    Ok(Tensor { dims, data })
}

/// Little-endian elements of the type `kind`.
fn from_raw(kind: i64, raw: &[u8]) -> Data {
    macro_rules! all {
        ($n:literal, $f:expr) => {
            raw.as_chunks::<$n>().0.iter().map(|&b| $f(b)).collect()
        };
    }
    match kind {
        1 => Data::Float(all!(4, f32::from_le_bytes)),
        10 => Data::Float(all!(2, half::f16)),
        11 => Data::Float(all!(8, |b| f64::from_le_bytes(b) as f32)),
        16 => Data::Float(all!(2, half::bf16)),
        9 => Data::Bool(raw.iter().map(|&b| b != 0).collect()),
        2 => Data::Int(raw.iter().map(|&b| i64::from(b)).collect()),
        3 => Data::Int(raw.iter().map(|&b| i64::from(b.cast_signed())).collect()),
        4 => Data::Int(all!(2, |b| i64::from(u16::from_le_bytes(b)))),
        5 => Data::Int(all!(2, |b| i64::from(i16::from_le_bytes(b)))),
        6 => Data::Int(all!(4, |b| i64::from(i32::from_le_bytes(b)))),
        12 => Data::Int(all!(4, |b| i64::from(u32::from_le_bytes(b)))),
        // Beyond i64 nothing that counts elements goes.
        _ => Data::Int(all!(8, i64::from_le_bytes)),
    }
}

/// Elements from the typed list that the element type stands in.
fn typed(proto: TensorData<'_>) -> Data {
    // Halves are written as the integers that their bits are.
    let halves = |f: fn([u8; 2]) -> f32| Data::Float(proto.ints.iter().map(|&i| f((i as u16).to_le_bytes())).collect());
    match proto.kind {
        1 => Data::Float(proto.floats),
        11 => Data::Float(proto.doubles.iter().map(|&d| d as f32).collect()),
        10 => halves(half::f16),
        16 => halves(half::bf16),
        9 => Data::Bool(proto.ints.iter().map(|&i| i != 0).collect()),
        _ => Data::Int(proto.ints),
    }
}
