mnc::mobilenet_net! {
    pub struct Misshapen<weights = "specs/misshapen.safetensors"> = "specs/tiny.toml";
    pub struct Absent<weights = "specs/absent.safetensors"> = "specs/tiny.toml";
    pub struct Broken<weights = "specs/tiny.toml"> = "specs/tiny.toml";
}

fn main() {}
