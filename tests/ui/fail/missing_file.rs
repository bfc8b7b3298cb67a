mnc::mobilenet_net! {
    pub struct Net = "specs/absent.toml";
}

fn main() {}
