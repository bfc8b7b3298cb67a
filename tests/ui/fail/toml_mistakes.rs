mnc::mobilenet_net! {
    pub struct Net = "specs/mistakes.toml";
    pub struct Other = "specs/not_toml.toml";
}

fn main() {}
