//! Classifies pictures of handwritten digits with a net that was compiled into this program.
//!
//! ```sh
//! cargo run --release --example classify examples/digits/samples/*.png
//! ```
//! Nothing is read but the pictures: weights, labels and code are in the program, and a run allocates nothing.

use std::error::Error;
use std::process::ExitCode;

mnc::mobilenet_net! {
    /// Reads one handwritten digit.
    pub struct Digits = "examples/digits/digits.toml";
}

fn main() -> ExitCode {
    let mut net = Digits::boxed();
    let mut all_read = true;
    for path in std::env::args().skip(1) {
        match classify(&mut net, &path) {
            Ok((label, probability)) => println!("{path}: {label} ({:.1} %)", 100.0 * probability),
            Err(error) => {
                eprintln!("{path}: {error}");
                all_read = false;
            }
        }
    }
    if all_read { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The most probable class of the picture in a file, and its probability.
fn classify(net: &mut Digits, path: &str) -> Result<(&'static str, f32), Box<dyn Error>> {
    let [_, height, width, _] = Digits::INPUT_SHAPE;
    let picture = image::open(path)?.resize_exact(width as u32, height as u32, image::imageops::CatmullRom);
    let pixels: [u8; Digits::INPUT_LEN] = picture.into_luma8().into_raw().try_into().map_err(|_| "not the size of the input")?;

    let (mut input, mut scores) = ([0.0; Digits::INPUT_LEN], [0.0; Digits::OUTPUT_LEN]);
    Digits::normalize(&pixels, &mut input);
    net.run(&input, &mut scores);

    let largest = scores.iter().fold(f32::NEG_INFINITY, |m, &s| m.max(s));
    let sum: f32 = scores.iter().map(|s| (s - largest).exp()).sum();
    let best = scores.iter().position(|&s| s == largest).ok_or("the net gave no numbers")?;
    Ok((Digits::LABELS[best], 1.0 / sum))
}
