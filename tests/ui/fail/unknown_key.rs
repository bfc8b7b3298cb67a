mnc::mobilenet_net! {
    pub struct Net {
        net { input: { height: 16, width: 16 } }
        weights { seed: 1 }
        block conv { kernal: 3, out: 8 }
        block conv { kernel: 3, out: "many" }
    }
}

fn main() {}
