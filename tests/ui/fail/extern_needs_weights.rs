mnc::mobilenet_net! {
    pub struct Net<weights = "extern"> = "specs/tiny.toml";
    pub struct Other = "specs/tiny.toml";
}

fn main() {
    let (x, mut y) = ([0.0; Net::INPUT_LEN], [0.0; Net::OUTPUT_LEN]);
    let other = Other::weights(&[]);
    Net::boxed().run(&x, &mut y);
}
