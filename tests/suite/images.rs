//! Photographs decoded, resized and cropped by us against the same made by Pillow.

use mnc_compiler::front::{ColorOrder, Filter, Preprocess, Resize};
use mnc_compiler::image::{self, Picture};

use crate::data;

fn shorter_side(side: usize) -> Preprocess {
    Preprocess {
        resize: Resize::ShorterSide(side),
        filter: Filter::Bilinear,
        order: ColorOrder::Rgb,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        in_graph: false,
    }
}

/// Largest and mean absolute difference in levels.
fn difference(a: &Picture, b: &Picture) -> (u8, f64) {
    assert_eq!((a.width, a.height), (b.width, b.height));
    let all: Vec<u8> = a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b)).collect();
    (all.iter().copied().max().unwrap_or(0), all.iter().map(|&d| f64::from(d)).sum::<f64>() / all.len() as f64)
}

/// Our resampling is Pillow's to the bit, so a PNG gives the very crop; JPEG decoders differ by a few levels in few samples
/// (measured here: at most 3 levels in one sample, at most 0.18 levels in the mean of a picture).
#[test]
fn crops_are_pillows() {
    let Some(dir) = data::dir("images::crops_are_pillows") else { return };
    let images = data::json(&dir.join("images/images.json"));
    let mut seen = 0;
    for (name, entry) in images.as_object().expect("a map of pictures") {
        let file = dir.join("images").join(entry["file"].as_str().expect("a file name"));
        let original = image::open(&file).expect("a readable photograph");
        for (folder, size, side) in [("crop224", 224, 256), ("crop96", 96, 96)] {
            let path = dir.join("images").join(folder).join(format!("{name}.png"));
            let Ok(want) = image::open(&path) else { continue };
            let (most, mean) = difference(&image::fit(&original, &shorter_side(side), size, size), &want);
            println!("{name:16} {folder:8} largest {most}, mean {mean:.4}");
            if file.extension().is_some_and(|e| e == "png") {
                assert_eq!(most, 0, "{name} {folder}");
            }
            assert!(most <= 3 && mean <= 0.2, "{name} {folder}: largest {most}, mean {mean:.4}");
            seen += 1;
        }
    }
    assert_eq!(seen, 62, "31 photographs, two crops each");
}
