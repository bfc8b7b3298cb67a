//! What a strict user's crate needs to hold: no unsafe, no missing docs, no warnings, and names of its own.
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings)]

mod kernel {
    pub fn infer() {}
}

/// The user's own, not the runtime's.
pub mod nets {
    mnc::mobilenet_net! {
        /// A net.
        #[derive(Debug, Clone)]
        pub struct Tiny<alpha = 0.5, input = { height = 9, width = 11 }> = "specs/tiny.toml";

        struct Hidden {
            net { input.height: 8, input.width: 8, }
            weights { seed: 1 }
            block conv { kernel: 3, out: 4 }
        }
    }

    /// Runs both.
    pub fn run() -> usize {
        let (x, mut y) = ([0.5; Hidden::INPUT_LEN], [0.0; Hidden::OUTPUT_LEN]);
        Hidden::boxed().run(&x, &mut y);
        y.len()
    }
}

static NET: std::sync::Mutex<nets::Tiny> = std::sync::Mutex::new(nets::Tiny::new());

fn main() {
    kernel::infer();
    let mut y = [0.0; nets::Tiny::OUTPUT_LEN];
    NET.lock().unwrap().run(&[0.5; nets::Tiny::INPUT_LEN], &mut y);
    assert_eq!(nets::Tiny::INPUT_SHAPE, [1, 9, 11, 3]);
    assert_eq!(nets::Tiny::LABELS, ["cat", "dog \"rex\""]);
    assert_eq!(nets::run(), 8 * 8 * 4);
    let boxed: Box<dyn mnc::Net> = nets::Tiny::boxed();
    assert_eq!(boxed.output_shape(), [1, 1, 1, 2]);
}
