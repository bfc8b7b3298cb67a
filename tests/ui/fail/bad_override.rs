mnc::mobilenet_net! {
    pub struct A<alfa = 0.5> = "specs/tiny.toml";
    pub struct B<input.height = "tall"> = "specs/tiny.toml";
    pub struct C<alpha = -1.0> = "specs/tiny.toml";
}

fn main() {}
