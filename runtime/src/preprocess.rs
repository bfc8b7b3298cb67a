//! Pixels of a decoded picture to the floats a net was trained on.

/// `out[c] = (p / 255 - mean[c]) / std[c]` for every pixel, in f64 and rounded once.
///
/// `pixels` and `out` are interleaved with as many channels as `mean` has elements; `mean` and `std` are in the order of `out`.
/// With `bgr` the channels of a pixel are reversed on the way (RGB pixels to a net that was trained on BGR). Panics where the
/// lengths do not fit each other.
pub fn normalize_pixels(pixels: &[u8], mean: &[f64], std: &[f64], bgr: bool, out: &mut [f32]) {
    let c = mean.len();
    assert!(c > 0 && std.len() == c, "{c} means and {} deviations", std.len());
    assert!(pixels.len() == out.len(), "{} samples for {} elements", pixels.len(), out.len());
    assert!(pixels.len().is_multiple_of(c), "{} samples are not whole pixels of {c} channels", pixels.len());
    for (pixel, out) in pixels.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
        for i in 0..c {
            let p = pixel[if bgr { c - 1 - i } else { i }];
            out[i] = ((f64::from(p) / 255.0 - mean[i]) / std[i]) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formula_by_hand() {
        let mut out = [0.0; 6];
        normalize_pixels(&[0, 255, 51, 255, 0, 102], &[0.5, 0.0, 0.2], &[0.5, 1.0, 0.1], false, &mut out);
        assert_eq!(out, [-1.0, 1.0, 0.0, 1.0, 0.0, 2.0]);
        normalize_pixels(&[0, 255, 51, 255, 0, 102], &[0.0, 0.5, 0.0], &[1.0, 0.5, 1.0], true, &mut out);
        assert_eq!(out, [0.2, 1.0, 0.0, 0.4, -1.0, 1.0]);
        let mut grey = [0.0; 2];
        normalize_pixels(&[0, 255], &[0.0], &[1.0], true, &mut grey);
        assert_eq!(grey, [0.0, 1.0]);
    }
}
