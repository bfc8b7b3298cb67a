//! House rules that neither the compiler nor clippy knows, read off the sources as text.

use std::path::{Path, PathBuf};

/// Files and folders (with a `/` behind) that may say `unsafe`.
const UNSAFE_ISLANDS: [&str; 13] = [
    "runtime/src/isa/",
    "runtime/src/kernel/",
    "runtime/src/arena.rs",
    "runtime/src/pages.rs", // memory by the page
    "runtime/src/weights.rs",
    "runtime/src/abi.rs",         // what machine code calls
    "runtime/src/program/run.rs", // bands of a program that was checked as a whole
    "runtime/src/team.rs",        // a borrowed closure handed to threads
    "runtime/tests/fence/",       // pages that cannot be touched
    "runtime/benches/kernels.rs", // the peak, measured with bare instructions
    "compiler/src/back/clif/exec.rs",
    "tests/allocation/main.rs", // an allocator that counts
    "tests/ui/",                // programs of imagined users
];

/// A file of the repository: its path from the root with `/`, and its text.
struct Text {
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below the root but for what builds leave behind.
fn files() -> Vec<PathBuf> {
    let (mut all, mut open) = (Vec::new(), vec![root().to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|n| n.to_str()).expect("a UTF-8 name").to_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), ".git" | "target" | "venv" | "__pycache__" | "corpus" | "artifacts") {
                    open.push(path);
                }
            } else if name != ".git" {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

/// The text files among [`files`] whose name ends in one of `extensions` (every one if there are none).
fn texts(extensions: &[&str]) -> Vec<Text> {
    let chosen = |p: &PathBuf| extensions.is_empty() || p.extension().is_some_and(|e| extensions.iter().any(|x| e == *x));
    let named = |p: PathBuf| {
        let path = p.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8").replace('\\', "/");
        Some(Text { path, text: String::from_utf8(std::fs::read(p).expect("a readable file")).ok()? })
    };
    let all: Vec<Text> = files().into_iter().filter(chosen).filter_map(named).collect();
    assert!(!all.is_empty(), "no files found");
    all
}

fn sources() -> Vec<Text> {
    texts(&["rs"])
}

/// A line of Rust without its comment and without what stands in its string literals.
fn code(line: &str) -> String {
    let (mut out, mut quoted) = (String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' if !out.ends_with('\'') => {
                quoted = !quoted;
                out.push(c);
            }
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            c if !quoted => out.push(c),
            _ => {}
        }
    }
    out
}

/// Whether `word` stands in `text` on its own.
fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn assert_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

#[test]
fn the_scanner_tells_code_from_text() {
    assert_eq!(code("let a = \"deep // \\\" end\"; // why"), "let a = \"\"; ");
    assert_eq!(code("f('\"') // why"), "f('\"') ");
    assert!(has_word("unsafe { x }", "unsafe") && !has_word("forbid(unsafe_code)", "unsafe"));
    let wild = "fn f() {\n    match op {\n        Op::Act(_) => 1,\n        _ => 0,\n    }\n}\n";
    assert_eq!(wild_arms(wild), [4]);
    assert_eq!(wild_arms(&wild.replace("Op::Act(_)", "3")), [0; 0]);
    let nested =
        wild.replace("        _ => 0", "        Op::Add(a) => match a {\n            1 => 2,\n            _ => 0,\n        }");
    assert_eq!(wild_arms(&nested), [0; 0]);
    assert!(is_absolute("see /home/x") && !is_absolute("see ../home/x"));
}

#[test]
fn every_source_file_says_what_it_is() {
    let bare = |f: &Text| {
        let first = f.text.lines().find(|l| !l.starts_with("#!")).unwrap_or_default();
        (!first.starts_with("//!") || first.len() < 12).then(|| f.path.clone())
    };
    // Programs of imagined users, with the compiler's answer beside them, are as users write them.
    let offences: Vec<_> = sources().iter().filter(|f| !f.path.starts_with("tests/ui/")).filter_map(bare).collect();
    assert_none("begin the file with `//!` and a sentence", &offences);
}

#[test]
fn unsafe_stays_on_its_islands_and_says_why_it_is_sound() {
    let (mut outside, mut unexplained) = (Vec::new(), Vec::new());
    for f in sources() {
        let lines: Vec<&str> = f.text.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, l)| has_word(&code(l), "unsafe")) {
            if !UNSAFE_ISLANDS.iter().any(|island| f.path.starts_with(island)) {
                outside.push(format!("{}:{}: {}", f.path, i + 1, line.trim()));
            }
            // `unsafe fn` and `unsafe trait` make promises necessary, which their docs state; clippy sees to that.
            let after = code(line);
            let after = after[after.find("unsafe").expect("it is there") + 6..].trim_start().to_owned();
            let proves = after.is_empty() || after.starts_with('{') || after.starts_with("impl");
            if proves && !explained(&lines, i) {
                unexplained.push(format!("{}:{}: {}", f.path, i + 1, line.trim()));
            }
        }
    }
    assert_none("no `unsafe` outside its islands", &outside);
    assert_none("a `// SAFETY:` comment above", &unexplained);
}

/// Whether the statement that line `at` belongs to has a `SAFETY:` comment above it.
fn explained(lines: &[&str], at: usize) -> bool {
    let mut above = lines[..at].iter().rev().map(|l| l.trim()).peekable();
    while above.next_if(|l| !l.starts_with("//") && !l.is_empty() && !l.ends_with([';', '{', '}'])).is_some() {}
    above.take_while(|l| l.starts_with("//")).any(|l| l.contains("SAFETY:"))
}

/// Line numbers of `_ =>` arms of matches that have an arm over `Op` or `Kernel`. The text is rustfmt's.
fn wild_arms(text: &str) -> Vec<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.trim_start().starts_with("_ =>")) {
        let own = indent(line);
        let arms = lines[..i].iter().rev().take_while(|l| l.trim().is_empty() || indent(l) >= own).filter(|l| indent(l) == own);
        if arms.clone().any(|l| ["Op::", "Kernel::"].iter().any(|e| l.trim_start().trim_start_matches("| ").starts_with(e))) {
            found.push(i + 1);
        }
    }
    found
}

#[test]
fn a_new_op_or_kernel_fails_to_compile_where_it_matters() {
    let offences: Vec<_> = sources()
        .iter()
        .filter(|f| f.path.starts_with("compiler/src/"))
        .flat_map(|f| wild_arms(&f.text).into_iter().map(|line| format!("{}:{line}", f.path)))
        .collect();
    assert_none("no `_ =>` in a match over `Op` or `Kernel`", &offences);
}

#[test]
fn layers_know_only_what_is_below_them() {
    /// Files below the first path must not name the second, unless what follows it is the third.
    const RULES: [(&str, &str, &[&str]); 6] = [
        ("compiler/src/", "petgraph", &[]),
        ("compiler/src/back/", "crate::pass", &[]),
        ("compiler/src/back/", "crate::ir", &["::shape", "::DType;", "::Shape;", "::{DType, Shape};"]),
        ("compiler/src/ir/", "crate::plan", &[]),
        ("compiler/src/pass/", "crate::plan", &[]),
        ("runtime/src/", "mnc_compiler", &[]),
    ];
    let mut offences = Vec::new();
    for f in sources().iter().filter(|f| f.path != "compiler/src/ir/graph.rs" && !f.path.ends_with("tests.rs")) {
        for (folder, name, but) in RULES.iter().filter(|r| f.path.starts_with(r.0)) {
            // Unit tests may build what they test from above.
            for (i, line) in f.text.lines().take_while(|l| *l != "#[cfg(test)]").enumerate() {
                let code = code(line);
                if let Some(at) = code.find(name)
                    && !but.iter().any(|b| code[at + name.len()..].starts_with(b))
                {
                    offences.push(format!("{}:{}: {name} in {folder}", f.path, i + 1));
                }
            }
        }
    }
    assert_none("a layer that knows too much", &offences);
}

/// A path that exists on somebody's machine only.
fn is_absolute(line: &str) -> bool {
    ["work", "root", "home", "Users"].iter().any(|top| {
        line.match_indices(&format!("/{top}/"))
            .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '/' | '~')))
    })
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    let mut offences = Vec::new();
    for f in texts(&[]).iter().filter(|f| f.path != "tests/suite/tidy.rs") {
        for (i, line) in f.text.lines().enumerate().filter(|(_, l)| is_absolute(l)) {
            offences.push(format!("{}:{}: {}", f.path, i + 1, line.trim()));
        }
    }
    assert_none("no absolute paths", &offences);
}

#[test]
fn the_suite_lists_all_its_files() {
    let all = sources();
    let main = &all.iter().find(|f| f.path == "tests/suite/main.rs").expect("the list").text;
    let listed = |name: &str| main.lines().any(|l| l == format!("mod {name};") || l == format!("mod r#{name};"));
    let modules = all.iter().filter_map(|f| f.path.strip_prefix("tests/suite/")?.strip_suffix(".rs"));
    let offences: Vec<_> = modules.filter(|m| !m.contains('/') && *m != "main" && !listed(m)).map(str::to_owned).collect();
    assert_none("a `mod` line in tests/suite/main.rs", &offences);
}

#[test]
fn a_clone_is_small() {
    let sizes = files().into_iter().map(|p| (std::fs::metadata(&p).expect("a file").len(), p));
    let large: Vec<_> = sizes.clone().filter(|(n, _)| *n > 1 << 20).map(|(n, p)| format!("{}: {n} bytes", p.display())).collect();
    assert_none("no file above 1 MiB", &large);
    let digits: u64 = sizes.filter(|(_, p)| p.starts_with(root().join("examples/digits"))).map(|(n, _)| n).sum();
    assert!(digits < 1_500_000, "examples/digits has {digits} bytes");
}
