//! Half-precision numbers of checkpoints as f32, exactly.
//!
//! Twenty lines here instead of a crate: everything that the compiler depends on is also built for every user of the macro.

/// IEEE 754 binary16.
pub(super) fn f16(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let (sign, exponent, mantissa) = (bits >> 15 << 31, bits >> 10 & 31, bits & 1023);
    match exponent {
        // subnormal: a multiple of the smallest, 2^-24
        0 => f32::from_bits(sign | (mantissa as f32 * f32::powi(2.0, -24)).to_bits()),
        31 => f32::from_bits(sign | 255 << 23 | mantissa << 13),
        // the exponent's bias is 15 there and 127 here
        _ => f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13),
    }
}

/// The upper half of an f32.
pub(super) fn bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_what_the_half_crate_says() {
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        for bits in 0..=u16::MAX {
            let bytes = bits.to_le_bytes();
            assert!(same(f16(bytes), half::f16::from_bits(bits).to_f32()), "f16 {bits:#x}");
            assert!(same(bf16(bytes), half::bf16::from_bits(bits).to_f32()), "bf16 {bits:#x}");
        }
    }
}
