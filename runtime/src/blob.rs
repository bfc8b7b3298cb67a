//! Files of packed weights: 64 bytes that say what they are, then little-endian f32.
//!
//! ```text
//! at  0   8 bytes   0x89 "mncw" CR LF 0x1a: no text, and broken by whoever takes it for text
//!     8   u32       format: [`crate::stamp::FORMAT`]
//!    12   4 bytes   version of mnc that wrote it: major, minor, patch (u16)
//!    16  32 bytes   layout, in hexadecimal: hash of the arrangement; code and file must agree on it
//!    48   u64       bytes behind these 64
//!    56   u64       XXH64 of the bytes behind these 64
//! ```
//! All numbers are little endian. The elements start at a multiple of 64 bytes where the file does.
//!
//! [`Header::check`] compares the 64 bytes with what the code needs, which costs nothing; [`Header::intact`] reads all of the
//! weights, for who does not trust the way that the file took.

use crate::hash::xxh64;
use crate::packed::WeightError;
use crate::stamp::FORMAT;

/// Bytes in front of the elements.
pub const HEADER_BYTES: usize = 64;

/// What a file begins with.
pub const MAGIC: [u8; 8] = *b"\x89mncw\r\n\x1a";

/// What the first 64 bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// [`FORMAT`] of the mnc that wrote it.
    pub format: u32,
    /// Its version: major, minor, patch.
    pub version: [u16; 3],
    /// Hash of the arrangement, in hexadecimal.
    pub layout: [u8; 32],
    /// Bytes of the elements.
    pub bytes: u64,
    /// [`xxh64`] of them.
    pub hash: u64,
}

impl Header {
    /// Of a file of these elements, in the present format.
    ///
    /// # Panics
    /// If `layout` is not of 32 bytes.
    #[must_use]
    pub fn of(version: [u16; 3], layout: &str, elements: &[u8]) -> Self {
        let layout = layout.as_bytes().try_into().expect("a layout has 32 digits");
        Self { format: FORMAT, version, layout, bytes: elements.len() as u64, hash: xxh64(elements) }
    }

    /// As the file has it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.format.to_le_bytes());
        let [major, minor, patch] = self.version;
        bytes[12..14].copy_from_slice(&[major as u8, minor as u8]);
        bytes[14..16].copy_from_slice(&patch.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.layout);
        bytes[48..56].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[56..].copy_from_slice(&self.hash.to_le_bytes());
        bytes
    }

    /// Of the file whose content `file` is, or begins as.
    ///
    /// # Errors
    /// [`WeightError::NotWeights`], or [`WeightError::Truncated`] where not even the header is whole.
    pub const fn read(file: &[u8]) -> Result<Self, WeightError> {
        let mut i = 0;
        while i < MAGIC.len() && i < file.len() {
            if file[i] != MAGIC[i] {
                return Err(WeightError::NotWeights);
            }
            i += 1;
        }
        let Some((head, _)) = file.split_first_chunk::<HEADER_BYTES>() else { return Err(WeightError::Truncated) };
        Ok(Self {
            format: word(head, 8) as u32,
            version: [head[12] as u16, head[13] as u16, (word(head, 14) & 0xffff) as u16],
            layout: {
                let mut layout = [0; 32];
                let mut i = 0;
                while i < 32 {
                    layout[i] = head[16 + i];
                    i += 1;
                }
                layout
            },
            bytes: word(head, 48),
            hash: word(head, 56),
        })
    }

    /// Compares `file` with what a net needs: this format, the layout, `elements` elements and no byte more.
    ///
    /// # Errors
    /// What differs, the first of format, layout and length.
    pub const fn check(file: &[u8], layout: &str, elements: usize) -> Result<Self, WeightError> {
        let header = match Self::read(file) {
            Ok(header) => header,
            Err(error) => return Err(error),
        };
        if header.format != FORMAT {
            return Err(WeightError::Format { expected: FORMAT, found: header.format });
        }
        let layout = layout.as_bytes();
        let mut i = 0;
        while i < header.layout.len() {
            if i >= layout.len() || layout[i] != header.layout[i] {
                return Err(WeightError::OtherNet);
            }
            i += 1;
        }
        let data = file.len() - HEADER_BYTES;
        if header.bytes != elements as u64 * 4 {
            return Err(WeightError::Length { expected: elements * 4, found: header.bytes as usize });
        }
        if data < elements * 4 {
            return Err(WeightError::Truncated);
        }
        if data > elements * 4 {
            return Err(WeightError::Length { expected: elements * 4, found: data });
        }
        Ok(header)
    }

    /// Whether `elements`, the bytes behind the header, are those that were written.
    ///
    /// # Errors
    /// [`WeightError::Damaged`].
    pub fn intact(&self, elements: &[u8]) -> Result<(), WeightError> {
        if xxh64(elements) == self.hash { Ok(()) } else { Err(WeightError::Damaged) }
    }
}

/// The eight bytes of the header from `at` on, or as many as there are.
const fn word(head: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut value = 0;
    let mut i = 0;
    while i < 8 && at + i < HEADER_BYTES {
        value |= (head[at + i] as u64) << (8 * i);
        i += 1;
    }
    value
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    const LAYOUT: &str = "0123456789abcdef0123456789abcdef";

    fn file() -> Vec<u8> {
        let data: Vec<u8> = [1.0f32, -2.0, 3.5].iter().flat_map(|f| f.to_le_bytes()).collect();
        let mut file = Vec::from(Header::of([0, 1, 300], LAYOUT, &data).to_bytes());
        file.extend(data);
        file
    }

    #[test]
    fn headers_go_round() {
        let file = file();
        let header = Header::check(&file, LAYOUT, 3).expect("a good file");
        assert_eq!((header.format, header.version, header.bytes), (FORMAT, [0, 1, 300], 12));
        assert_eq!(header.to_bytes(), file[..HEADER_BYTES]);
        assert_eq!(header.intact(&file[HEADER_BYTES..]), Ok(()));
    }

    #[test]
    fn each_fault_has_its_error() {
        let with = |at: usize, byte: u8| {
            let mut file = file();
            file[at] ^= byte;
            Header::check(&file, LAYOUT, 3).map(|_| ())
        };
        for at in 0..8 {
            assert_eq!(with(at, 1), Err(WeightError::NotWeights));
        }
        assert_eq!(with(8, 1), Err(WeightError::Format { expected: FORMAT, found: FORMAT ^ 1 }));
        assert_eq!(with(11, 1), Err(WeightError::Format { expected: FORMAT, found: FORMAT ^ 1 << 24 }));
        for at in 16..48 {
            assert_eq!(with(at, 1), Err(WeightError::OtherNet));
        }
        assert_eq!(with(48, 4), Err(WeightError::Length { expected: 12, found: 8 }));
        assert_eq!(Header::check(&file(), LAYOUT, 4).unwrap_err(), WeightError::Length { expected: 16, found: 12 });
        let mut long = file();
        long.push(0);
        assert_eq!(Header::check(&long, LAYOUT, 3).unwrap_err(), WeightError::Length { expected: 12, found: 13 });
        for cut in 0..file().len() {
            assert_eq!(Header::check(&file()[..cut], LAYOUT, 3).unwrap_err(), WeightError::Truncated, "cut at {cut}");
        }
        let file = file();
        let header = Header::read(&file).expect("a header");
        for at in HEADER_BYTES..file.len() {
            for bit in 0..8 {
                let mut file = file.clone();
                file[at] ^= 1 << bit;
                assert_eq!(header.intact(&file[HEADER_BYTES..]), Err(WeightError::Damaged));
            }
        }
    }
}
