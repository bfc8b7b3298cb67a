//! A program that answers once: MobileNet V1 on a grey picture, with its weights inside. `compare.py --cold` times it.
//!
//! It prints the class with the highest score. With any argument it also prints what /proc says of its memory.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mnc::mobilenet_net! {
    struct V1 = "../../../examples/nets/mobilenet_v1.toml";
}

fn main() -> ExitCode {
    let mut net = V1::boxed();
    let (input, mut scores) = (vec![0.25; V1::INPUT_LEN], [0.0; V1::OUTPUT_LEN]);
    if let Err(error) = mnc::Net::run(&mut *net, &input, &mut scores) {
        eprintln!("cold: {error}");
        return ExitCode::FAILURE;
    }
    let best = (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
    println!("class {best}");
    if std::env::args().len() > 1 {
        println!("weight_bytes {}\narena_bytes {}", V1::WEIGHT_BYTES, V1::ARENA_BYTES);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().filter(|l| l.starts_with("VmHWM")).for_each(|l| println!("{l}"));
    }
    ExitCode::SUCCESS
}
