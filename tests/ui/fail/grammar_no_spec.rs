mnc::mobilenet_net! {
    pub struct Net;
}

fn main() {}
