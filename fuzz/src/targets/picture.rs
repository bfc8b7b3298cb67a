//! Pictures, the way of `mnc run`.

use mnc_compiler::front::{ColorOrder, Filter, Preprocess, Resize};
use mnc_compiler::image;
use mnc_compiler::ir::Shape;

/// A file's bytes: decoded, turned, resized, cropped and normalised for nets of several sizes. The last byte chooses how.
pub fn picture(data: &[u8]) {
    let how = data.last().copied().unwrap_or(0);
    let picture = match image::decode(data) {
        Ok(picture) => picture,
        Err(e) => {
            assert!(!e.to_string().is_empty(), "an error that says nothing");
            return;
        }
    };
    assert_eq!(picture.rgb.len(), picture.width * picture.height * 3, "three bytes a pixel");
    assert!(picture.width > 0 && picture.height > 0, "a picture of nothing");
    // Resizing is work in proportion to the pixels.
    if picture.rgb.len() > 1 << 20 {
        return;
    }
    let channels = if how & 1 == 0 { 3 } else { 1 };
    let (height, width) = [(8, 8), (1, 1), (17, 5), (5, 17)][usize::from(how >> 1 & 3)];
    let preprocess = Preprocess {
        resize: if how & 8 == 0 { Resize::Squash } else { Resize::ShorterSide(usize::from(how >> 4) + 1) },
        filter: if how & 16 == 0 { Filter::Bilinear } else { Filter::Bicubic },
        order: if how & 32 == 0 { ColorOrder::Rgb } else { ColorOrder::Bgr },
        mean: vec![0.5; channels],
        std: vec![0.25; channels],
        in_graph: how & 64 != 0,
    };
    let x = image::input(&picture, &preprocess, Shape::hwc(height, width, channels)).expect("one or three channels");
    assert_eq!(x.len(), height * width * channels, "the tensor's length");
    assert!(x.iter().all(|v| v.is_finite()), "a pixel that is no number");
}
