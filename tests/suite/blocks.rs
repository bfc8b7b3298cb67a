//! Imported models as blocks of the family: that they are recognised, that the spec is the model, and that it can be edited.

use std::path::{Path, PathBuf};

use mnc_compiler::back::native;
use mnc_compiler::front::value::parse_toml;
use mnc_compiler::front::{self, Net};
use mnc_compiler::ir::random::Random;
use mnc_compiler::{compile, diag, plan};
use mnc_runtime::isa::Isa;

use crate::data;
use crate::r#gen::{answer, uniform};

fn load(path: &Path, sets: &[(&str, &str)]) -> Net {
    let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let loaded = front::load(path, &sets, None);
    loaded.unwrap_or_else(|d| panic!("{}:\n{}", path.display(), diag::render(&d, false))).0
}

/// A spec that was written.
struct Spec {
    path: PathBuf,
    text: String,
    blocks: usize,
    net: Net,
}

impl Spec {
    fn layers(&self) -> usize {
        self.text.lines().filter(|l| l.starts_with("[[layer]]")).count()
    }

    /// The spec with `from` replaced by `to`, in a file of its own beside it.
    fn edited(&self, edits: &[(&str, &str)]) -> Result<Net, String> {
        let mut text = self.text.clone();
        for (from, to) in edits {
            assert!(text.contains(from), "{from} in\n{text}");
            text = text.replacen(from, to, 1);
        }
        let path = self.path.with_file_name("edited.toml");
        std::fs::write(&path, text).expect("writable");
        front::load(&path, &[], None).map(|(net, _)| net).map_err(|d| diag::render(&d, false))
    }
}

/// What is written of `net`, read again: the same net but for names, and the same files from what was read.
fn written(net: &Net, folder: &Path) -> Spec {
    let files = front::write(net, folder, "a test").unwrap_or_else(|e| panic!("{}: {e}", net.name));
    for (path, bytes) in [&files.spec, &files.weights] {
        std::fs::write(path, bytes).expect("writable");
    }
    let text = String::from_utf8(files.spec.1.clone()).expect("text");
    let again = load(&files.spec.0, &[]);
    assert_eq!((&net.preprocess, &net.labels, &net.passes), (&again.preprocess, &again.labels, &again.passes), "{}", net.name);
    let outputs = |net: &Net| net.graph.outputs.iter().map(|&id| net.graph.shape(id)).collect::<Vec<_>>();
    assert_eq!(outputs(net), outputs(&again), "{}", net.name);
    assert_eq!(net.graph.macs(), again.graph.macs(), "{}", net.name);
    let once_more = front::write(&again, folder, "a test").expect("written once already");
    assert!(once_more.weights == files.weights && once_more.blocks == files.blocks, "{}: written otherwise", net.name);
    Spec { path: files.spec.0, text, blocks: files.blocks, net: again }
}

fn run(plan: &plan::Plan, input: &[f32]) -> Vec<f32> {
    let mut y = vec![f32::NAN; plan.outputs.iter().map(|p| p.tensor.shape.elements()).sum()];
    let mut arena = vec![0.0; plan.memory.arena_bytes / 4];
    native::run(plan, Isa::detect(), &mut arena, input, &mut y).expect("lengths fit");
    y
}

/// What is computed in which order, without names of steps and numbers of weights: a bias of zeros more shifts those.
fn stages(plan: &plan::Plan) -> Vec<Vec<String>> {
    let unnumbered = |text: &str| {
        let mut parts = text.split("WeightId(");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| all + part.trim_start_matches(|c: char| c.is_ascii_digit()))
    };
    let steps =
        |stage: &plan::Stage| stage.steps.iter().map(|s| unnumbered(&format!("{:?} {}", s.kernel, s.output_shape))).collect();
    plan.stages.iter().map(steps).collect()
}

/// `spec` compiles to the very stages of `net`, and answers to 1e-6 as it does.
fn alike(net: Net, spec: Net) {
    let name = net.name.clone();
    let inputs: usize = net.graph.inputs.iter().map(|&id| net.graph.shape(id).elements()).sum();
    let (a, b) = (compile(net).expect("it compiles").plan, compile(spec).expect("it compiles").plan);
    for (a, b) in stages(&a).iter().zip(&stages(&b)) {
        assert_eq!(a, b, "{name}");
    }
    assert_eq!(a.stages.len(), b.stages.len(), "{name}");
    let input = uniform(&mut Random::new(5), inputs, -1.0, 1.0);
    let (a, b) = (run(&a, &input), run(&b, &input));
    let most = a.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let error = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(most > 0.0 && error <= 1e-6 * most, "{name}: {error:e} of {most:e}");
}

/// The shipped specs come back out of their graphs, which know nothing of blocks: the rows by kind and what is repeated.
#[test]
fn shipped_nets_are_recovered() {
    let small = [("input.height", "64"), ("input.width", "64")];
    // Blocks of the shipped spec but for `dropout`, and of V3 those that are the same but for their stride are one; V1 of standard convolutions has none that only the family has.
    let nets = [
        ("mobilenet_v1", 8),
        ("mobilenet_v2", 11),
        ("mobilenet_v3_small", 12),
        ("mobilenet_v3_small_minimal", 12),
        ("mobilenet_v3_large", 14),
        ("mobilenet_v3_large_minimal", 14),
        ("mobilenet_v4_conv_small", 17),
        ("mobilenet_v4_conv_medium", 24),
        ("mobilenet_edgetpu_v2_xs", 18),
        ("mobilenet_v1_full_conv", 0),
    ];
    for (name, rows) in nets {
        let net = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets").join(format!("{name}.toml")), &small);
        let folder = tempfile::tempdir().expect("a folder");
        let spec = written(&net, folder.path());
        println!("{name}: {} blocks, {} layers, {} lines", spec.blocks, spec.layers(), spec.text.lines().count());
        assert_eq!((spec.blocks, rows == 0), (rows, spec.layers() > 0), "{name}\n{}", spec.text);
        if rows > 0 {
            alike(net, spec.net);
        }
    }
}

/// Every network of the data: all of the family are blocks and nothing else, but for the one that goes on behind its backbone.
#[test]
fn models_are_recognised() {
    let Some(dir) = data::dir("blocks::models_are_recognised") else { return };
    let mut paths: Vec<PathBuf> = ["models", "onnx", "tflite"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(dir.join(folder)).expect("a folder").map(|e| e.expect("an entry").path()))
        .filter(|path| front::is_model(path))
        .collect();
    paths.sort();
    assert!(paths.len() >= 23, "{paths:?}");
    for path in paths {
        let net = load(&path, &[]);
        let folder = tempfile::tempdir().expect("a folder");
        let spec = written(&net, folder.path());
        let (name, lines) = (net.name.clone(), spec.text.lines().count());
        println!("{name}: {} blocks, {} layers, {lines} lines", spec.blocks, spec.layers());
        let (blocks, layers, most) = match name.as_str() {
            "ppocr_det_mobilenet_v3_large_0_5" => (22..=22, 14, 280),
            name if name.contains("v1") || name == "vww_96" => (8..=12, 0, 95),
            name if name.contains("v2") => (11..=13, 0, 110),
            name if name.contains("v3") => (12..=16, 0, 140),
            name if name.contains("v4") => (17..=17, 0, 140),
            name => panic!("{name} is new"),
        };
        assert!(blocks.contains(&spec.blocks) && lines <= most, "{name}\n{}", spec.text);
        assert_eq!(spec.layers(), layers, "{name}");
        alike(net, spec.net);
    }
}

const HEAD: &str = "[net]\nname = \"n\"\nactivation = \"relu\"\ninput = { height = 16, width = 16 }\n";

fn parsed(text: &str) -> Result<Net, diag::Diagnostics> {
    Ok(front::check_and_lower(&parse_toml(text, "spec.toml")?, Path::new("."), &[], None)?.0)
}

fn net(text: &str) -> Net {
    parsed(&format!("{HEAD}{text}")).unwrap_or_else(|d| panic!("{}", diag::render(&d, false)))
}

/// What is not a block stays a layer among blocks, and every variant of a block comes back as it was.
#[test]
fn variants_are_kept_apart() {
    let inverted = "[[block]]\nkind = \"inverted_residual\"\nexpand = 4\n";
    let cases: Vec<(String, usize, usize, &[&str])> = vec![
        // Asymmetric padding, where it tells the rules apart and where it does not.
        (format!("{inverted}out = 8\nstride = 2\nkernel = 5\npadding = \"same\"\n"), 1, 0, &["padding = \"same\"", "kernel = 5"]),
        (format!("{inverted}out = 8\nstride = 2\n"), 1, 0, &["padding = \"torch\""]),
        (format!("{inverted}out = 8\npadding = \"valid\"\n"), 1, 0, &["padding = \"valid\""]),
        // What is added, or not.
        (format!("{inverted}out = 3\nrepeat = 3\n"), 1, 0, &["repeat = 3"]),
        (format!("{inverted}out = 3\nresidual = false\n"), 1, 0, &["residual = false"]),
        (format!("{inverted}out = 3\n{inverted}out = 3\nresidual = false\n"), 2, 0, &["residual = false"]),
        // Squeeze-and-excite: its place, widths, gates.
        (format!("{inverted}out = 3\nse = true\n"), 1, 0, &["se = true"]),
        (
            format!(
                "{inverted}out = 8\nse = {{ channels = 5, gate = \"sigmoid\", position = \"before\", activation = \"silu\" }}\n"
            ),
            1,
            0,
            &["channels = 5", "gate = \"sigmoid\"", "position = \"before\"", "activation = \"silu\""],
        ),
        (format!("{inverted}out = 8\nse = {{ gate = {{ hard_sigmoid = [0.2, 0.5] }} }}\n"), 1, 0, &["hard_sigmoid = [0.2, 0.5]"]),
        // Activations, batch norm and its constant, biases.
        (format!("{inverted}out = 8\nactivation = {{ clip = [-1, 1] }}\n"), 1, 0, &["clip = [-1.0, 1.0]"]),
        (
            format!("{inverted}out = 8\nactivation = \"relu6\"\n{inverted}out = 8\nactivation = \"hswish\"\n"),
            2,
            0,
            &["\"hswish\""],
        ),
        (format!("{inverted}out = 8\nbn_eps = 0.01\n"), 1, 0, &["bn_eps = 0.01"]),
        (format!("{inverted}out = 8\nbias = true\n"), 1, 0, &["bias = true"]),
        (format!("{inverted}out = 8\nbatch_norm = false\n"), 1, 0, &["batch_norm = false"]),
        // Other kinds.
        ("[[block]]\nkind = \"separable\"\nout = 8\nrepeat = 2\n".into(), 1, 0, &["kind = \"separable\"", "repeat = 2"]),
        ("[[block]]\nkind = \"fused_inverted_bottleneck\"\nexpand = 4\nout = 8\ngroup_size = 4\nstride = 2\n".into(), 1, 0, &[]),
        (
            "[[block]]\nkind = \"universal_inverted_bottleneck\"\nexpand = 2\nout = 3\n\
             [[block]]\nkind = \"universal_inverted_bottleneck\"\nexpand = 3.5\nout = 4\ndw_start = 5\nstride = 2\n\
             [[block]]\nkind = \"universal_inverted_bottleneck\"\nexpand = 2\nout = 4\ndw_mid = 3\n"
                .into(),
            3,
            0,
            &["dw_start = 5", "expand_channels = 16", "dw_mid = 3"],
        ),
        // What blocks cannot say, in the midst of them; a result from within, and one block that reads it.
        (
            format!(
                "{inverted}name = \"a\"\nout = 8\n[[layer]]\nop = \"conv\"\nname = \"d\"\nout = 8\nkernel = 3\ndilation = 2\npadding = 2\n\
                 [[block]]\nkind = \"conv\"\ninputs = \"a\"\nname = \"b\"\nout = 8\n\
                 [[layer]]\nop = \"concat\"\ninputs = [\"d\", \"b\"]\n"
            ),
            2,
            2,
            &["dilation = 2", "inputs = \"block0\"", "op = \"concat\""],
        ),
    ];
    for (text, blocks, layers, wants) in cases {
        let net = net(&text);
        let folder = tempfile::tempdir().expect("a folder");
        let spec = written(&net, folder.path());
        assert_eq!((spec.blocks, spec.layers()), (blocks, layers), "{text}\nbecame\n{}", spec.text);
        for want in wants {
            assert!(spec.text.contains(want), "{want} of\n{text}\nin\n{}", spec.text);
        }
        let input = uniform(&mut Random::new(2), 16 * 16 * 3, -1.0, 1.0);
        assert_eq!(answer(&net.graph, &input), answer(&spec.net.graph, &input), "{text}");
        alike(net, spec.net);
    }
}

/// Nets with convolutions, but none of the family's blocks: bottlenecks of ResNets, branches of depthwise layers.
#[test]
fn other_nets_are_layers() {
    let conv = |name: &str, more: &str| format!("[[layer]]\nop = \"conv\"\nname = \"{name}\"\nbatch_norm = true\n{more}");
    let relu = "activation = \"relu\"\n";
    let bottleneck = [
        conv("stem", "out = 8\n"),
        conv("a", &format!("out = 4\n{relu}")),
        conv("b", &format!("out = 4\nkernel = 3\npadding = 1\n{relu}")),
        conv("c", "out = 8\n"),
        format!("[[layer]]\nop = \"add\"\ninputs = [\"stem\", \"c\"]\n{relu}"),
    ];
    let depthwise = "[[layer]]\nop = \"depthwise\"\nname = \"b\"\nkernel = 3\npadding = 1\nbatch_norm = true\n";
    let shuffled = [
        conv("a", &format!("out = 4\n{relu}")),
        depthwise.into(),
        conv("c", &format!("out = 4\n{relu}")),
        "[[layer]]\nop = \"concat\"\ninputs = [\"a\", \"c\"]\n".into(),
    ];
    for rows in [bottleneck.concat(), shuffled.concat()] {
        let head = HEAD.replace("activation = \"relu\"\n", "");
        let net = parsed(&format!("{head}{rows}")).unwrap_or_else(|d| panic!("{}", diag::render(&d, false)));
        let folder = tempfile::tempdir().expect("a folder");
        let spec = written(&net, folder.path());
        assert_eq!(spec.blocks, 0, "{}", spec.text);
        alike(net, spec.net);
    }
}

/// A row of a spec with keys that it may have.
fn row(random: &mut Random, i: usize) -> String {
    let mut pick = |words: &[&str]| words[random.below(words.len())].to_owned();
    let act = ["", "", "", "activation = \"hswish\"\n", "activation = \"none\"\n", "activation = { leaky_relu = 0.1 }\n"];
    let styles = [
        "",
        "",
        "",
        "batch_norm = false\n",
        "bias = true\n",
        "bn_eps = 0.01\n",
        "padding = \"same\"\n",
        "padding = 1\n",
        "padding = \"valid\"\n",
    ];
    let style = format!("{}{}{}", pick(&act), pick(&styles), pick(&["", "", "", "repeat = 2\n", "repeat = 3\n"]));
    let strides = ["", "", "", "stride = 2\n", "stride = [2, 1]\n"];
    let kernels = ["", "", "kernel = 5\n", "kernel = [3, 1]\n", "kernel = 2\n"];
    let expand = pick(&["expand = 1\n", "expand = 2\n", "expand = 4\n", "expand = 1.5\n", "expand_channels = 6\n"]);
    let residual = pick(&["", "", "residual = false\n"]);
    let sizes = format!("{}out = {}\n{expand}{residual}", pick(&strides), pick(&["3", "4", "8"]));
    let se = [
        "",
        "se = true\n",
        "se = { channels = 3, position = \"before\" }\n",
        "se = { gate = \"sigmoid\", activation = \"silu\" }\n",
    ];
    let name = format!("name = \"row{i}\"\n");
    match pick(&["inverted", "inverted", "inverted", "universal", "universal", "fused", "separable", "conv", "other"]).as_str() {
        "inverted" => format!("[[block]]\nkind = \"inverted_residual\"\n{name}{sizes}{}{}{style}", pick(&kernels), pick(&se)),
        "universal" => {
            let (start, mid) = (pick(&["", "dw_start = 3\n", "dw_start = 5\n"]), pick(&["", "dw_mid = 3\n", "dw_mid = 5\n"]));
            format!("[[block]]\nkind = \"universal_inverted_bottleneck\"\n{name}{sizes}{start}{mid}{style}")
        }
        "fused" => format!("[[block]]\nkind = \"fused_inverted_bottleneck\"\n{name}{sizes}{}{style}", pick(&kernels)),
        "separable" => format!("[[block]]\nkind = \"separable\"\n{name}out = 4\n{}{}{style}", pick(&kernels), pick(&strides)),
        "conv" => format!("[[block]]\nkind = \"conv\"\n{name}out = 4\n{}{}{style}", pick(&kernels), pick(&strides)),
        _ => pick(&[
            &format!("[[block]]\nkind = \"max_pool\"\n{name}kernel = 2\nstride = 1\npadding = \"same\"\n"),
            &format!("[[block]]\nkind = \"squeeze_excite\"\n{name}"),
            &format!("[[layer]]\nop = \"activation\"\n{name}activation = {{ clip = [-1, 1] }}\n"),
            &format!("[[layer]]\nop = \"add\"\n{name}inputs = [\"row0\", \"row0\"]\n"),
            &format!("[[layer]]\nop = \"conv\"\n{name}out = 4\nkernel = 2\ndilation = 2\nbias = true\n"),
            &format!("[[layer]]\nop = \"prelu\"\n{name}"),
        ]),
    }
}

/// Whatever blocks and layers are mixed: what is written of their graph computes the same to the bit.
#[test]
fn random_nets_are_written_as_they_are() {
    let mut random = Random::new(11);
    let (mut nets, mut blocks, mut mixed) = (0, 0, 0);
    for _ in 0..600 {
        let rows: String = (0..2 + random.below(5)).map(|i| row(&mut random, i)).collect();
        // Some do not fit: windows larger than what is left, strides without depthwise layers.
        let Ok(net) = parsed(&format!("{HEAD}{rows}")) else { continue };
        let folder = tempfile::tempdir().expect("a folder");
        let spec = written(&net, folder.path());
        let input = uniform(&mut random, 16 * 16 * 3, -1.0, 1.0);
        assert_eq!(answer(&net.graph, &input), answer(&spec.net.graph, &input), "{rows}\nbecame\n{}", spec.text);
        nets += 1;
        blocks += usize::from(spec.blocks > 0);
        mixed += usize::from(spec.blocks > 0 && spec.layers() > 0);
    }
    println!("{nets} nets, {blocks} of them with blocks, {mixed} with layers among them");
    assert!(nets >= 300 && blocks >= 200 && mixed >= 40, "{nets}, {blocks}, {mixed}");
}

/// A person changes what was written: other sizes, blocks taken out, weights drawn anew.
#[test]
fn what_is_written_can_be_edited() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets/mobilenet_v2.toml");
    let net = load(&shipped, &[("input.height", "64"), ("input.width", "64"), ("alpha", "0.35")]);
    let folder = tempfile::tempdir().expect("a folder");
    let spec = written(&net, folder.path());
    assert_eq!(spec.blocks, 11);
    // Larger pictures: the same weights, more to compute.
    let larger = spec.edited(&[("height = 64", "height = 96"), ("width = 64", "width = 128")]).expect("it fits");
    assert_eq!((larger.graph.params(), larger.graph.shape(larger.graph.inputs[0]).w), (net.graph.params(), 128));
    assert!(larger.graph.macs() > net.graph.macs());
    compile(larger).expect("it can be planned");
    // Without the classifier: said to be too much of a checkpoint, until that is allowed.
    let at = spec.text.rfind("\n[[block]]").expect("a block");
    let without = [(&spec.text[at..], ""), ("\"classifier\" }", "\"block9\" }")];
    let refused = spec.edited(&without).expect_err("tensors are left over");
    assert!(refused.contains("classifier") && refused.contains("extra = \"ignore\""), "{refused}");
    let mut allowed = without.to_vec();
    allowed.push(("names = \"spec\"", "names = \"spec\"\nextra = \"ignore\""));
    let features = spec.edited(&allowed).expect("without the classifier");
    assert_eq!(features.graph.shape(features.graph.outputs[0]).dims(), [1, 1, 1, 1280]);
    compile(features).expect("it can be planned");
    // A repetition less, no weights to read.
    let fewer = [("repeat = 4", "repeat = 3"), ("file = \"mobilenet_v2.safetensors\"\nnames = \"spec\"", "seed = 3")];
    let fewer = spec.edited(&fewer).expect("it fits");
    assert!(fewer.graph.params() < net.graph.params());
    // The same network of another width.
    let narrow = spec.edited(&[("padding =", "alpha = 0.5\npadding ="), ("file = \"mobilenet_v2.safetensors\"", "seed = 3")]);
    assert!(narrow.expect("it fits").graph.params() < net.graph.params());
}

mnc::mobilenet_net! {
    /// Layers among blocks, in the order of the text.
    struct Mixed {
        net { input: { height: 16, width: 16, name: picture }, activation: relu, outputs: { scores: scores, gate: gate } }
        layer activation { name: gate, activation: { clip: [-1, 1] } }
        block conv { name: a, out: 4, kernel: 3, stride: 2 }
        block conv { name: b, out: 4, inputs: picture, kernel: 3, stride: 2 }
        layer concat { inputs: [a, b] }
        block global_avg_pool {}
        block dense { name: scores, out: 3 }
    }
}

/// The macro's grammar is that of TOML: what is between blocks stays between them.
#[test]
fn layers_stand_among_blocks_inline() {
    let head =
        HEAD.replace("width = 16 }", "width = 16, name = \"picture\" }\noutputs = { scores = \"scores\", gate = \"gate\" }");
    let rows = "[[layer]]\nop = \"activation\"\nname = \"gate\"\nactivation = { clip = [-1, 1] }\n\
         [[block]]\nkind = \"conv\"\nname = \"a\"\nout = 4\nkernel = 3\nstride = 2\n\
         [[block]]\nkind = \"conv\"\nname = \"b\"\nout = 4\ninputs = \"picture\"\nkernel = 3\nstride = 2\n\
         [[layer]]\nop = \"concat\"\ninputs = [\"a\", \"b\"]\n\
         [[block]]\nkind = \"global_avg_pool\"\n[[block]]\nkind = \"dense\"\nname = \"scores\"\nout = 3\n";
    let net = parsed(&format!("{head}{rows}")).unwrap_or_else(|d| panic!("{}", diag::render(&d, false)));
    let input = uniform(&mut Random::new(4), 16 * 16 * 3, -2.0, 2.0);
    let want = answer(&net.graph, &input);
    let mut got = [f32::NAN; 3 + 16 * 16 * 3];
    Mixed::boxed().run(input.as_slice().try_into().expect("its length"), &mut got);
    assert_eq!(got.len(), want.len());
    let error = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(error <= 1e-5, "{error:e}");
}

/// What is said of mistakes in specs of blocks and layers.
#[test]
fn mistakes_have_a_place() {
    let conv = "[[block]]\nkind = \"conv\"\nname = \"a\"\nout = 4\n";
    let layer = "[[layer]]\nop = \"activation\"\nname = \"b\"\nactivation = \"tanh\"\n";
    let cases = [
        (format!("{conv}[[block]]\nkind = \"conv\"\nout = 4\ninputs = \"aa\"\n"), "nothing above is called `aa`"),
        (format!("{conv}[[block]]\nkind = \"conv\"\nout = 4\ninputs = [\"a\", \"a\"]\n"), "a block reads one input"),
        (format!("{layer}inputs = \"a\"\n{conv}"), "nothing above is called `a`"),
        (format!("{conv}{}", layer.replace("\"b\"", "\"a\"")), "are called `a`"),
        (format!("{conv}{}", layer.replace("\"b\"", "\"a.conv\"")), "the name `a.conv` is taken"),
        (format!("{conv}{}", layer.replace("tanh", "than")), "`than` is none of"),
        (format!("{conv}[[layer]]\nop = \"add\"\ninputs = [\"a\"]\n"), "takes 2 inputs"),
        (format!("{conv}[[layer]]\nop = \"add\"\ninputs = [\"a\", \"a\"]\nout = 3\n"), "`out`"),
        ("[[block]]\nkind = \"squeeze_excite\"\ngate = { clip = [0, 2] }\n".into(), "factors from 0 to 1"),
        (
            format!("[[block]]\nkind = \"residual\"\n[[block.block]]\nkind = \"conv\"\nout = 3\ninputs = \"input\"\n{conv}"),
            "`inputs`",
        ),
    ];
    for (text, message) in cases {
        let Err(mistakes) = parsed(&format!("{HEAD}{text}")) else { panic!("{message} is accepted in\n{text}") };
        let found = mistakes.iter().find(|d| d.message.contains(message));
        let found = found.unwrap_or_else(|| panic!("{text}\nwant {message}, got\n{}", diag::render(&mistakes, false)));
        assert!(found.label.is_some(), "{message} has no place");
    }
    let outputs = HEAD.replace("name = \"n\"", "name = \"n\"\noutputs = [\"b\", \"A\"]");
    let mistakes = parsed(&format!("{outputs}{conv}{layer}")).expect_err("a typing error");
    assert_eq!(mistakes[0].message, "nothing above is called `A`");
    // Tensors of layers among blocks are asked for by name.
    let folder = tempfile::tempdir().expect("a folder");
    let prelu = "[[layer]]\nop = \"prelu\"\nname = \"slope\"\n[[block]]\nkind = \"separable\"\nout = 4\n";
    let spec = written(&net(&format!("{conv}{prelu}")), folder.path());
    assert_eq!((spec.blocks, spec.layers()), (2, 1));
    let missing = spec.edited(&[("name = \"slope\"", "name = \"slpoe\"")]).expect_err("no such tensor");
    assert!(missing.contains("has no tensor `slpoe.weight`") && missing.contains("did you mean `slope.weight`?"), "{missing}");
    let misshapen =
        spec.edited(&[("name = \"slope\"", "name = \"slope\"\nweight = \"stem.conv.weight\"")]).expect_err("of another shape");
    assert!(misshapen.contains("`stem.conv.weight` is F32 [4, 3, 1, 1], not floats [4]"), "{misshapen}");
}

/// Small models of what exporters do, few of them chains of blocks, are written as something that is the same.
#[test]
fn anything_else_stays_what_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx");
    let paths = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path());
    let mut seen = 0;
    for path in paths.filter(|p| front::is_model(p) && !p.ends_with("open_sizes.onnx")) {
        let net = load(&path, &[]);
        let folder = tempfile::tempdir().expect("a folder");
        let spec = written(&net, folder.path());
        println!("{}: {} blocks, {} layers", net.name, spec.blocks, spec.layers());
        seen += usize::from(spec.blocks == 0);
        alike(net, spec.net);
    }
    assert!(seen >= 5, "{seen}");
}

/// The command says what it found, and writes plain layers where that is asked for.
#[test]
fn the_command_writes_blocks_or_layers() {
    let spec = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/nets/mobilenet_v1.toml");
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().to_str().expect("UTF-8");
    let import = |more: &[&str]| {
        let small = ["--set", "alpha=0.25", "--set", "input.height=32", "--set", "input.width=32"];
        let done = crate::cli::mnc(&[&["import", spec, "-o", out][..], &small, more].concat());
        assert!(done.status.success(), "{done:?}");
        let text = std::fs::read_to_string(folder.path().join("mobilenet_v1.toml")).expect("written");
        (text, String::from_utf8(done.stderr).expect("UTF-8"))
    };
    let (text, said) = import(&[]);
    assert!(text.contains("kind = \"separable\"") && !text.contains("[[layer]]"), "{text}");
    assert!(said.contains("written as 8 blocks"), "{said}");
    let (text, said) = import(&["--layers"]);
    assert!(text.contains("op = \"depthwise\"") && !text.contains("[[block]]"), "{text}");
    assert!(!said.contains("written as"), "{said}");
}
