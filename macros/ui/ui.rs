//! The macro as users see it: programs that compile, and the errors of those that do not (`tests/ui` of the workspace).

use std::fs;
use std::path::Path;

#[test]
fn ui() {
    let ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/ui");
    // Paths in a macro call are relative to the package's Cargo.toml; trybuild makes a package of its own here.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    let specs = target.join("tests/trybuild").join(env!("CARGO_PKG_NAME")).join("specs");
    fs::create_dir_all(&specs).expect("the target directory can be written");
    for entry in fs::read_dir(ui.join("specs")).expect("the specs are there") {
        let path = entry.expect("a file").path();
        fs::copy(&path, specs.join(path.file_name().expect("a name"))).expect("the target directory can be written");
    }
    let cases = trybuild::TestCases::new();
    cases.pass(ui.join("pass/*.rs"));
    cases.compile_fail(ui.join("fail/*.rs"));
}
