//! Embedded weights: bytes of a file, aligned in the binary and read as floats where they stand.

use crate::blob::{HEADER_BYTES, Header};
use crate::packed::WeightError;

/// Puts a value at the alignment of a cache line: `static W: &Aligned<[u8]> = &Aligned(*include_bytes!("net.weights"));`
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Aligned<T: ?Sized>(pub T);

/// The `elements` floats of an embedded weight file ([`crate::blob`]), without a copy.
///
/// Exists on little-endian targets only: on others the bytes would have to be turned round first.
///
/// # Panics
/// While the program is compiled, for emitted code calls this in a `const`: where the file was made by another version of mnc or for
/// another net, or is none.
#[cfg(target_endian = "little")]
#[must_use]
pub const fn embedded<'a>(file: &'a Aligned<[u8]>, layout: &str, elements: usize) -> &'a [f32] {
    match Header::check(&file.0, layout, elements) {
        Ok(_) => {}
        Err(WeightError::NotWeights) => panic!("the file of weights beside this code is not one that mnc wrote"),
        Err(WeightError::Truncated) => panic!("the file of weights beside this code is cut short"),
        Err(WeightError::Format { .. }) => panic!(
            "the file of weights beside this code was written by another version of mnc: write both anew by `mnc compile SPEC`"
        ),
        Err(WeightError::OtherNet) => panic!(
            "the file of weights beside this code was made for another net, or for another plan of it: write both anew by \
             `mnc compile SPEC`"
        ),
        Err(_) => panic!("the file of weights beside this code has another length than the net needs"),
    }
    // SAFETY: `check` found the header and `elements` elements behind it; `Aligned` puts the first byte at a multiple of 64, and
    // the header has 64, so the elements are aligned; every bit pattern is an f32; the lifetime stays that of the borrow.
    unsafe { core::slice::from_raw_parts(file.0.as_ptr().add(HEADER_BYTES).cast(), elements) }
}

/// The hash of an embedded file's elements, as its header says: tells which weights a program holds.
///
/// # Panics
/// While the program is compiled, where `file` is not what [`embedded`] takes.
#[must_use]
pub const fn hash(file: &Aligned<[u8]>) -> u64 {
    match Header::read(&file.0) {
        Ok(header) => header.hash,
        Err(_) => panic!("the file of weights beside this code is not one that mnc wrote"),
    }
}

/// Bytes as the floats that stand in them, without a copy; `None` where they do not start at a multiple of four or are not
/// whole elements. Little-endian targets only, as [`embedded`].
#[cfg(target_endian = "little")]
#[must_use]
pub fn floats(bytes: &[u8]) -> Option<&[f32]> {
    // SAFETY: every bit pattern is an f32, and `align_to` puts into the middle only what is aligned and whole.
    match unsafe { bytes.align_to() } {
        ([], floats, []) => Some(floats),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn floats_are_read_where_they_stand() {
        let data = [0, 0, 128, 63, 0, 0, 0, 192];
        let mut file = Aligned([0; HEADER_BYTES + 8]);
        file.0[..HEADER_BYTES].copy_from_slice(&Header::of([0, 1, 0], LAYOUT, &data).to_bytes());
        file.0[HEADER_BYTES..].copy_from_slice(&data);
        let file: &Aligned<[u8]> = &file;
        let floats = embedded(file, LAYOUT, 2);
        assert_eq!(floats, [1.0, -2.0]);
        assert_eq!(floats.as_ptr() as usize % 64, 0);
        assert_eq!(hash(file), crate::hash::xxh64(&data));
    }
}
