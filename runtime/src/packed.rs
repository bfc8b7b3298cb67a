//! Weights given at run time: a view of the bytes of a weight file, checked without a heap.
//!
//! A weight file is a safetensors file as `mnc compile --emit rust-extern` writes it: eight bytes with the
//! length of the header (little endian), the header (JSON), the data. The one tensor is called `packed`, has type F32 and one
//! dimension, and holds the constants as kernels read them; of the metadata, `mnc.format` is [`FORMAT`], `mnc.layout` says
//! for which code, and `mnc.hash` is the [`xxh64`] of the constants. Other tensors and entries are ignored.
//! A file as programs embed it ([`crate::blob`]) is taken as well.

use core::fmt;
use core::marker::PhantomData;

use crate::blob::{HEADER_BYTES, Header as Blob, MAGIC};
use crate::hash::xxh64;
use crate::stamp::FORMAT;

/// The packed weights of a net of type `N`, borrowed from the bytes of its weight file.
pub struct PackedWeights<'a, N> {
    floats: &'a [f32],
    /// The same.
    bytes: &'a [u8],
    /// Of the bytes when they were written.
    hash: u64,
    net: PhantomData<fn() -> N>,
}

impl<N> Clone for PackedWeights<'_, N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for PackedWeights<'_, N> {}

impl<N> fmt::Debug for PackedWeights<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedWeights").field("len", &self.floats.len()).field("hash", &self.hash).finish()
    }
}

impl<'a, N> PackedWeights<'a, N> {
    /// Checks `bytes`, the whole content of a weight file, and finds the `len` elements in it. Emitted code calls this with
    /// the layout and length of its net. Nothing is copied, and no weight is looked at, so that it takes no time: [`Self::intact`]
    /// does. Kernels are fastest where the bytes start at a multiple of 64.
    ///
    /// # Errors
    /// If `bytes` are not such a file, are for another net, or start at an address that f32 cannot be read from.
    pub fn read(bytes: &'a [u8], layout: &str, len: usize) -> Result<Self, WeightError> {
        if bytes.starts_with(&MAGIC) {
            let hash = Blob::check(bytes, layout, len)?.hash;
            return Self::of(&bytes[HEADER_BYTES..], hash);
        }
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(WeightError::Truncated)?;
        let size = usize::try_from(u64::from_le_bytes(*size)).map_err(|_| WeightError::Truncated)?;
        let (header, data) = rest.split_at_checked(size).ok_or(WeightError::Truncated)?;
        let header = parse_header(header)?;
        let Some(packed) = header.packed else {
            return Err(WeightError::NoPackedTensor);
        };
        if header.format != Some(FORMAT as usize) {
            return Err(WeightError::Format { expected: FORMAT, found: header.format.unwrap_or(0) as u32 });
        }
        if header.layout != Some(layout.as_bytes()) {
            return Err(WeightError::OtherNet);
        }
        if packed.dtype != Some(b"F32") {
            return Err(WeightError::NotF32);
        }
        let (Some(start), Some(end)) = (packed.start, packed.end) else {
            return Err(WeightError::Header { at: 0 });
        };
        let data = data.get(start..end).ok_or(WeightError::Truncated)?;
        if data.len() != len * 4 {
            return Err(WeightError::Length { expected: len * 4, found: data.len() });
        }
        let hash = header.hash.and_then(|text| u64::from_str_radix(core::str::from_utf8(text).ok()?, 16).ok());
        Self::of(data, hash.ok_or(WeightError::Header { at: 0 })?)
    }

    fn of(bytes: &'a [u8], hash: u64) -> Result<Self, WeightError> {
        let floats = crate::weights::floats(bytes).ok_or(WeightError::Misaligned)?;
        Ok(Self { floats, bytes, hash, net: PhantomData })
    }

    /// The constants as kernels read them.
    #[must_use]
    pub fn floats(self) -> &'a [f32] {
        self.floats
    }

    /// What their hash was when they were written ([`xxh64`] of their bytes): tells which weights these are.
    #[must_use]
    pub const fn hash(self) -> u64 {
        self.hash
    }

    /// Reads all of the weights and says whether they are those that were written. Not part of [`Self::read`], for it takes as
    /// long as memory takes.
    ///
    /// # Errors
    /// [`WeightError::Damaged`].
    pub fn intact(self) -> Result<(), WeightError> {
        if xxh64(self.bytes) == self.hash { Ok(()) } else { Err(WeightError::Damaged) }
    }
}

/// Why bytes are not the weights of a net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightError {
    /// The bytes end before the file does.
    Truncated,
    /// The header is not the JSON of a safetensors file.
    Header {
        /// Byte of the header where reading stopped.
        at: usize,
    },
    /// There is no tensor `packed`: a checkpoint as a library saves it, not a weight file.
    NoPackedTensor,
    /// `packed` is of another type than F32.
    NotF32,
    /// `packed` has another size.
    Length {
        /// Bytes that the net needs.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The bytes are no weight file at all.
    NotWeights,
    /// The file was written in the format of another version of mnc.
    Format {
        /// The format of this one.
        expected: u32,
        /// That of the file; 0 where it does not say.
        found: u32,
    },
    /// The weights are not those that were written.
    Damaged,
    /// The file was made for a net with other layers, sizes or passes.
    OtherNet,
    /// The data do not stand at a multiple of four bytes in memory.
    Misaligned,
}

impl fmt::Display for WeightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightError::Truncated => f.write_str("the weight file is cut short"),
            WeightError::Header { at } => {
                write!(f, "not a safetensors file: byte {at} of the header is not what the format says")
            }
            WeightError::NoPackedTensor => f.write_str(
                "no tensor `packed`: a checkpoint must first be packed, by `mnc compile SPEC --weights FILE --emit rust-extern`",
            ),
            WeightError::NotF32 => f.write_str("the tensor `packed` is not F32"),
            WeightError::Length { expected, found } => {
                write!(f, "the tensor `packed` has {found} bytes, the net needs {expected}")
            }
            WeightError::NotWeights => f.write_str("not a weight file of mnc"),
            WeightError::Format { expected, found } => write!(
                f,
                "the weight file has format {found}, which another version of mnc wrote; this one needs {expected}: write it anew by \
                 `mnc compile`"
            ),
            WeightError::Damaged => f.write_str("the weights are damaged: they are not those that mnc wrote"),
            WeightError::OtherNet => {
                f.write_str("the weight file was made for another net: its `mnc.layout` is not the net's WEIGHT_LAYOUT")
            }
            WeightError::Misaligned => {
                f.write_str("the weights must start at a multiple of 4 bytes in memory (64 for full speed)")
            }
        }
    }
}

impl core::error::Error for WeightError {}

/// What the header says that matters here.
#[derive(Default)]
struct Header<'a> {
    layout: Option<&'a [u8]>,
    format: Option<usize>,
    hash: Option<&'a [u8]>,
    packed: Option<Tensor<'a>>,
}

/// One tensor's entry. The range is in bytes of the data.
#[derive(Default)]
struct Tensor<'a> {
    dtype: Option<&'a [u8]>,
    start: Option<usize>,
    end: Option<usize>,
}

fn parse_header(text: &[u8]) -> Result<Header<'_>, WeightError> {
    let mut json = Json { text, at: 0 };
    let mut header = Header::default();
    json.object(|json, key| {
        match key {
            b"__metadata__" => json.object(|json, key| {
                match key {
                    b"mnc.format" => header.format = number(json.string()?),
                    b"mnc.hash" => header.hash = Some(json.string()?),
                    b"mnc.layout" => header.layout = Some(json.string()?),
                    _ => json.skip()?,
                }
                Ok(())
            })?,
            b"packed" => header.packed = Some(tensor(json)?),
            _ => json.skip()?,
        }
        Ok(())
    })?;
    Ok(header)
}

/// Digits, few enough for any machine.
fn number(text: &[u8]) -> Option<usize> {
    core::str::from_utf8(text).ok()?.parse::<u16>().ok().map(usize::from)
}

fn tensor<'a>(json: &mut Json<'a>) -> Result<Tensor<'a>, WeightError> {
    let mut tensor = Tensor::default();
    json.object(|json, key| {
        match key {
            b"dtype" => tensor.dtype = Some(json.string()?),
            b"data_offsets" => {
                json.expect(b'[')?;
                tensor.start = Some(json.integer()?);
                json.expect(b',')?;
                tensor.end = Some(json.integer()?);
                json.expect(b']')?;
            }
            _ => json.skip()?,
        }
        Ok(())
    })?;
    Ok(tensor)
}

/// Just enough of a JSON reader: it walks objects, reads strings and integers, and steps over everything else.
struct Json<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Json<'a> {
    fn error<T>(&self) -> Result<T, WeightError> {
        Err(WeightError::Header { at: self.at })
    }

    /// The next byte that is not white space, not consumed.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn expect(&mut self, byte: u8) -> Result<(), WeightError> {
        if self.peek() != Some(byte) {
            return self.error();
        }
        self.at += 1;
        Ok(())
    }

    /// Calls `entry` with each key, in front of its value, which it must consume.
    fn object(&mut self, mut entry: impl FnMut(&mut Self, &'a [u8]) -> Result<(), WeightError>) -> Result<(), WeightError> {
        self.expect(b'{')?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            entry(self, key)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.error(),
            }
        }
    }

    /// What stands between quotes, escapes as written: no name that matters here needs one.
    fn string(&mut self) -> Result<&'a [u8], WeightError> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return self.error(),
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at - 1])
    }

    fn integer(&mut self) -> Result<usize, WeightError> {
        self.peek();
        let mut value: usize = 0;
        let start = self.at;
        while let Some(digit @ b'0'..=b'9') = self.text.get(self.at) {
            let next = value.checked_mul(10).and_then(|v| v.checked_add(usize::from(digit - b'0')));
            let Some(next) = next else {
                return self.error();
            };
            value = next;
            self.at += 1;
        }
        if self.at == start { self.error() } else { Ok(value) }
    }

    /// Steps over one value by counting brackets.
    fn skip(&mut self) -> Result<(), WeightError> {
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'{' | b'[') => {
                    depth += 1;
                    self.at += 1;
                }
                Some(b'}' | b']') => {
                    let Some(less) = depth.checked_sub(1) else {
                        return self.error();
                    };
                    depth = less;
                    self.at += 1;
                }
                Some(b',' | b':') if depth > 0 => self.at += 1,
                Some(b',' | b':') | None => return self.error(),
                Some(_) => {
                    while self.text.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) {
                        self.at += 1;
                    }
                    if !self.text.get(self.at).is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b',' | b'}' | b']')) {
                        return self.error();
                    }
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    /// Bytes at a multiple of 64.
    #[repr(align(64))]
    struct Buffer([u8; 1024]);

    /// A file with `header` and `floats`, at the start of `buffer`.
    fn file<'a>(buffer: &'a mut Buffer, header: &str, floats: &[f32]) -> &'a [u8] {
        let data: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
        let mut header = header.replace('@', &std::format!("{:016x}", xxh64(&data)));
        while !(8 + header.len()).is_multiple_of(64) {
            header.push(' ');
        }
        let mut bytes: Vec<u8> = (header.len() as u64).to_le_bytes().into();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        buffer.0[..bytes.len()].copy_from_slice(&bytes);
        &buffer.0[..bytes.len()]
    }

    const GOOD: &str = r#"{"__metadata__":{"by":"a \"b\" {","mnc.layout":"k1","mnc.format":"6","mnc.hash":"@"},"other":{"dtype":"I8","shape":[1,{"x":[null,-1.5e3]}]},
        "packed" : {"shape":[3],"dtype":"F32","data_offsets":[0, 12]}}"#;

    fn read(bytes: &[u8]) -> Result<Vec<f32>, WeightError> {
        let weights = PackedWeights::<()>::read(bytes, "k1", 3)?;
        weights.intact()?;
        Ok(weights.floats().to_vec())
    }

    #[test]
    fn reads_the_packed_tensor_among_others() {
        let mut buffer = Buffer([0; 1024]);
        assert_eq!(read(file(&mut buffer, GOOD, &[1.0, -2.0, 3.5])).unwrap(), [1.0, -2.0, 3.5]);
    }

    #[test]
    fn each_fault_has_its_error() {
        let mut buffer = Buffer([0; 1024]);
        let data = [1.0, 2.0, 3.0];
        let mut with = |from: &str, to: &str| read(file(&mut buffer, &GOOD.replace(from, to), &data)).unwrap_err();
        assert_eq!(with("k1", "k2"), WeightError::OtherNet);
        assert_eq!(with("mnc.layout", "layout"), WeightError::OtherNet);
        assert_eq!(with("\"6\"", "\"3\""), WeightError::Format { expected: FORMAT, found: 3 });
        assert_eq!(with("mnc.format", "format"), WeightError::Format { expected: FORMAT, found: 0 });
        assert_eq!(with("@", "00"), WeightError::Damaged);
        assert!(matches!(with("@", "none"), WeightError::Header { .. }));
        assert_eq!(with("\"packed\"", "\"conv.weight\""), WeightError::NoPackedTensor);
        assert_eq!(with("F32", "F16"), WeightError::NotF32);
        assert_eq!(with("[0, 12]", "[0, 8]"), WeightError::Length { expected: 12, found: 8 });
        assert_eq!(with("[0, 12]", "[4, 16]"), WeightError::Truncated);
        assert_eq!(with("[0, 12]", "[12, 0]"), WeightError::Truncated);
        assert!(matches!(with("[0, 12]", "[0, 99999999999999999999999]"), WeightError::Header { .. }));
        assert!(matches!(with("[0, 12]", "[0]"), WeightError::Header { .. }));
        assert!(matches!(with("\"packed\" :", "packed:"), WeightError::Header { .. }));
        assert_eq!(read(&[1, 2, 3]).unwrap_err(), WeightError::Truncated);
        let whole = file(&mut buffer, GOOD, &data).len();
        buffer.0.copy_within(0..whole, 1);
        assert_eq!(read(&buffer.0[1..=whole]).unwrap_err(), WeightError::Misaligned);
    }

    #[test]
    fn no_cut_and_no_flipped_byte_panics() {
        let mut buffer = Buffer([0; 1024]);
        let good: Vec<u8> = file(&mut buffer, GOOD, &[1.0, 2.0, 3.0]).into();
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err());
        }
        for i in (0..good.len() - 12).step_by(if cfg!(miri) { 5 } else { 1 }) {
            for byte in [0, b'"', b'\\', b'{', b'}', b'[', b']', b'9', 0xff] {
                let mut bad = good.clone();
                bad[i] = byte;
                let _ = read(&bad);
            }
        }
    }
}
