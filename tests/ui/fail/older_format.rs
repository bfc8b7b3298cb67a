// What an older mnc left in a file: code for another runtime.
mnc::runtime::made_for_format!(3, "0.0.9");

fn main() {}
