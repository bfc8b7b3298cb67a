mnc::mobilenet_net! {
    pub struct Net {
        block conv { kernel 3 }
    }
}

fn main() {}
