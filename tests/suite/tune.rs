//! Stages chosen by measurement: they change no bit, fit only what they were made for, and the file that keeps them is watched.

use std::path::Path;
use std::time::Duration;

use mnc_compiler::back::native::NativeNet;
use mnc_compiler::diag::{Diagnostics, Severity};
use mnc_compiler::front::tune::{Tuned, VERSION, network, path};
use mnc_compiler::front::{self, Net};
use mnc_compiler::plan::variants::variants;
use mnc_compiler::plan::{self, Decisions, Meta, Options, Plan, Stream};
use mnc_compiler::tune::tune;
use mnc_compiler::{Compiled, compile};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net as _;
use tempfile::TempDir;

/// A small MobileNet V2 at `folder/net.toml`.
fn spec(folder: &Path) -> std::path::PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets/mobilenet_v2.toml");
    let at = folder.join("net.toml");
    std::fs::copy(shipped, &at).expect("a copy of the spec");
    at
}

fn load(spec: &Path, more: &[(&str, &str)]) -> (Net, Diagnostics) {
    let small = [("alpha", "0.25"), ("input.height", "64"), ("input.width", "64")];
    let sets: Vec<_> = small.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    front::load(spec, &sets, None).expect("a net")
}

fn compiled(spec: &Path, more: &[(&str, &str)]) -> Compiled {
    compile(load(spec, more).0).expect("a plan")
}

fn meta(plan: &Plan) -> Meta {
    let Plan { name, preprocess, labels, params, .. } = plan.clone();
    Meta { name, preprocess, labels, params }
}

fn answer(plan: &Plan, isa: Isa) -> Vec<u32> {
    let n = plan.input_len();
    let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 40.0).collect();
    let mut y = vec![0.0; plan.output_len()];
    NativeNet::new(plan.clone(), isa).run(&x, &mut y).expect("an inference");
    y.into_iter().map(f32::to_bits).collect()
}

/// Every variant, which the planner certifies, computes what layer by layer is computed.
#[test]
fn decisions_change_no_bit() {
    let dir = TempDir::new().expect("a temporary folder");
    let net = compiled(&spec(dir.path()), &[]);
    for threads in [1, 2] {
        let options = Options { threads, ..Options::default() };
        let build = |stream| plan::build(&net.graph, meta(&net.plan), &Options { stream, ..options }).expect("a plan");
        let want = answer(&build(Stream::Never), Isa::detect());
        let always = build(Stream::Always);
        let decisions = Decisions::of(&always, &Options { stream: Stream::Always, ..options });
        let all = variants(&net.graph, &options, &decisions).expect("variants");
        assert!(all.len() > 20, "{}", all.len());
        for v in all.iter().step_by(3) {
            if let Ok(plan) = plan::decided(&net.graph, meta(&net.plan), &options, &v.decisions) {
                assert!(answer(&plan, Isa::detect()) == want, "{} with {threads} threads", v.what);
            }
        }
    }
}

/// What a short search finds goes round by the file, is used, and is shown.
#[test]
fn a_search_ends_and_its_file_is_used() {
    let dir = TempDir::new().expect("a temporary folder");
    let spec = spec(dir.path());
    let net = compiled(&spec, &[]);
    let mut shares = Vec::new();
    let found = tune(&net, Isa::detect(), Duration::from_millis(300), &mut |share, _| shares.push(share)).expect("an outcome");
    assert!(found.tried >= 2 && shares.is_sorted() && shares.iter().all(|s| (0.0..=1.0).contains(s)), "{found:?}");
    assert!(found.tuned.after_ms <= found.tuned.before_ms, "{found:?}");
    std::fs::write(path(&spec), found.tuned.text()).expect("a file");
    let (again, warnings) = load(&spec, &[]);
    assert!(warnings.is_empty() && again.files.contains(&path(&spec)), "{warnings:?} {:?}", again.files);
    let again = compile(again).expect("a plan");
    assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    assert_eq!(again.plan.tuned_on.as_deref(), Some(&*found.tuned.cpu));
    assert_eq!(Decisions::of(&again.plan, &Options::default()).stages.len(), found.tuned.decisions.stages.len());
    let text = plan::print::text(&again.plan);
    assert!(text.contains(&format!("stages chosen by measurement on {}", found.tuned.cpu)), "{text}");
    assert!(answer(&again.plan, Isa::detect()) == answer(&net.plan, Isa::detect()));
}

/// Stale and garbled files are passed over with a warning that names the mend.
#[test]
fn files_that_do_not_fit_are_ignored() {
    let dir = TempDir::new().expect("a temporary folder");
    let spec = spec(dir.path());
    let net = compiled(&spec, &[]);
    let fits = Tuned {
        mnc: VERSION.to_owned(),
        network: network(&net.graph),
        cpu: "a CPU".to_owned(),
        isa: "scalar".to_owned(),
        threads: 1,
        date: "2026-11-23".to_owned(),
        before_ms: 2.0,
        after_ms: 1.0,
        decisions: Decisions { gaps: true, stages: Vec::new() },
    };
    let write = |t: &Tuned| std::fs::write(path(&spec), t.text()).expect("a file");
    let warned = |sets: &[(&str, &str)]| {
        let (net, mut warnings) = load(&spec, sets);
        let net = compile(net).expect("a plan");
        warnings.extend(net.warnings);
        assert!(
            warnings.iter().all(|w| w.severity == Severity::Warning && w.help.as_ref().is_some_and(|h| h.contains("--tune")))
        );
        assert_eq!(net.plan.tuned_on.is_none(), !warnings.is_empty());
        warnings.into_iter().map(|w| w.message).collect::<String>()
    };
    write(&fits);
    assert_eq!(warned(&[]), "");
    // Weights are none of its business, the rest is.
    assert_eq!(warned(&[("weights.seed", "7")]), "");
    assert!(warned(&[("alpha", "0.5")]).contains("another network"));
    assert!(warned(&[("plan.threads", "2")]).contains("threads = 1, the plan has 2"));
    assert!(warned(&[("plan.prefer", "memory")]).contains("`[plan]` says otherwise"));
    write(&Tuned { mnc: "0.0.1".to_owned(), ..fits.clone() });
    assert!(warned(&[]).contains("made by mnc 0.0.1"));
    let lost = plan::Decision { last: "nowhere".to_owned(), layers: 2, strip: 1, split: plan::Split::Alone };
    write(&Tuned { decisions: Decisions { gaps: true, stages: vec![lost] }, ..fits.clone() });
    assert!(warned(&[]).contains("no layer `nowhere`"));
    for garbled in ["", "mnc = 3", "[[stage]", "\u{0}\u{1}", &fits.text().replace("gaps", "gasp")] {
        std::fs::write(path(&spec), garbled).expect("a file");
        assert!(warned(&[]).starts_with("the measured choice of stages is not used: "), "{garbled}");
    }
    std::fs::remove_file(path(&spec)).expect("it was there");
    std::fs::create_dir(path(&spec)).expect("a folder in its place");
    assert!(warned(&[]).contains("cannot be read"));
}
