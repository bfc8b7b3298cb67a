//! Photographs decoded, resized and cropped by us against the same made by Pillow.

use std::path::Path;

use mnc_compiler::front::{ColorOrder, Filter, Preprocess, Resize};
use mnc_compiler::image::{self, Picture};
use mnc_compiler::ir::random::Random;

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

/// Every kind of file in `tests/pictures` against what Pillow reads in it: sampling, progression, restarts, orientation, colour types.
#[test]
fn files_are_read_as_pillow_reads_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let want = entry.path();
        let Some(name) = want.to_str().and_then(|p| p.strip_suffix(".want.png")) else { continue };
        let (got, want) = (image::open(Path::new(name)).expect("a picture"), image::open(&want).expect("a picture"));
        let (most, mean) = difference(&got, &want);
        assert_eq!(most, 0, "{name}: largest difference {most}, mean {mean:.4}");
        seen += 1;
    }
    assert!(seen > 30, "{seen} pictures");
}

/// Damaged files give an error or a picture, nothing else.
#[test]
fn damaged_files_do_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let mut random = Random::new(3);
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let bytes = std::fs::read(entry.path()).expect("a file");
        for _ in 0..60 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            if let Ok(picture) = image::decode(&bytes) {
                assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
            }
        }
    }
}

/// Decoding and resampling are Pillow's to the bit, so every photograph gives the very crop.
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
            assert_eq!(most, 0, "{name} {folder}: largest difference {most}, mean {mean:.4}");
            seen += 1;
        }
    }
    assert_eq!(seen, 62, "31 photographs, two crops each");
}
