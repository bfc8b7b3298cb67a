//! Embedded weights: bytes of a file, aligned in the binary and read as floats where they stand.

/// Puts a value at the alignment of a cache line: `static W: &Aligned<[u8]> = &Aligned(*include_bytes!("net.weights"));`
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Aligned<T: ?Sized>(pub T);

/// A blob of little-endian f32 as a slice, without a copy. Panics (while compiling, in a `const`) where the length is not
/// a multiple of four.
///
/// Exists on little-endian targets only: on others the bytes would have to be turned round first.
#[cfg(target_endian = "little")]
#[must_use]
pub const fn as_floats(bytes: &Aligned<[u8]>) -> &[f32] {
    assert!(bytes.0.len().is_multiple_of(4), "a weight blob is whole f32 elements");
    // SAFETY: `Aligned` puts the first byte at a multiple of 64, so of 4; the length covers whole elements of one
    // allocation; every bit pattern is an f32; the lifetime stays that of the borrow.
    unsafe { core::slice::from_raw_parts(bytes.0.as_ptr().cast(), bytes.0.len() / 4) }
}

/// Bytes as the floats that stand in them, without a copy; `None` where they do not start at a multiple of four or are not
/// whole elements. Little-endian targets only, as [`as_floats`].
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

    static BLOB: &Aligned<[u8]> = &Aligned([0, 0, 128, 63, 0, 0, 0, 192]);
    static FLOATS: &[f32] = as_floats(BLOB);

    #[test]
    fn floats_are_read_where_they_stand() {
        assert_eq!(FLOATS, [1.0, -2.0]);
        assert_eq!(FLOATS.as_ptr() as usize % 64, 0);
        let bits: Vec<u8> = FLOATS.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(bits, BLOB.0);
    }
}
