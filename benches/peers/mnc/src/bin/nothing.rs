//! A program that does nothing: what starting and ending any program costs. With any argument it prints its peak memory.

fn main() {
    if std::env::args().len() > 1 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().filter(|l| l.starts_with("VmHWM")).for_each(|l| println!("{l}"));
    }
}
