//! The test data that is too large or too foreign for this repository: real checkpoints, photographs, reference vectors.

use std::path::{Path, PathBuf};

/// The folder in `MNC_TEST_DATA`, else `../shared/data` beside the workspace. Without it prints that `test` is skipped and why.
pub fn dir(test: &str) -> Option<PathBuf> {
    let dir = match std::env::var_os("MNC_TEST_DATA") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    if dir.is_dir() {
        return Some(dir);
    }
    println!("{test}: skipped, no test data at {} (set MNC_TEST_DATA)", dir.display());
    None
}

/// A JSON file of the data.
pub fn json(path: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
