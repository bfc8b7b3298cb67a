//! A MobileNet where there is no operating system: no `std`, no heap, no `unsafe`; all memory is one `static` of known size.
//!
//! ```sh
//! cargo build -p mnc-example-no-std --release
//! cargo test -p mnc-example-no-std
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mnc::mobilenet_net! {
    /// A sketch of a person detector for a small camera: V1 at an eighth of its width on 96 x 96 grey pixels.
    pub struct Detector {
        net {
            input: { height: 96, width: 96, channels: 1, mean: 0.5, std: 0.5 },
            alpha: 0.125, round_to: 8, padding: same, activation: relu6, bn_eps: 1e-3,
        }
        weights { seed: 1 }
        block conv { kernel: 3, stride: 2, out: 32 }
        block separable { out: 64 }
        block separable { out: 128, stride: 2, repeat: 2 }
        block separable { out: 256, stride: 2, repeat: 2 }
        block separable { out: 512, stride: 2, repeat: 4 }
        block global_avg_pool {}
        block dense { out: 2 }
        block softmax {}
    }
}

/// Everything that a detection writes to.
pub struct Camera {
    net: Detector,
    input: [f32; Detector::INPUT_LEN],
}

/// Its size is known while the program is compiled, so a linker script can place it.
pub const CAMERA_BYTES: usize = size_of::<Camera>();

impl Camera {
    /// A camera for a `static`: all zeros, so it takes no space in the program's image.
    #[must_use]
    pub const fn new() -> Self {
        Self { net: Detector::new(), input: [0.0; Detector::INPUT_LEN] }
    }

    /// The probability that the picture shows a person.
    pub fn detect(&mut self, picture: &[u8; Detector::INPUT_LEN]) -> f32 {
        let mut scores = [0.0; Detector::OUTPUT_LEN];
        Detector::normalize(picture, &mut self.input);
        self.net.run(&self.input, &mut scores);
        scores[1]
    }
}

impl Default for Camera {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    static CAMERA: Mutex<Camera> = Mutex::new(Camera::new());

    #[test]
    fn a_static_camera_answers_with_a_probability() {
        let mut picture = [0; Detector::INPUT_LEN];
        picture.iter_mut().enumerate().for_each(|(i, p)| *p = (i % 251) as u8);
        let mut camera = CAMERA.lock().unwrap();
        let first = camera.detect(&picture);
        assert!((0.0..=1.0).contains(&first), "{first}");
        assert_eq!(camera.detect(&picture), first, "nothing is left behind in the arena");
        assert_eq!(CAMERA_BYTES, size_of::<Detector>() + 4 * Detector::INPUT_LEN);
    }
}
