//! Specs made of layers: what they mean, and what is said of mistakes in them.

use std::path::Path;

use mnc_compiler::front::value::parse_toml;
use mnc_compiler::front::{self, Loaded};
use mnc_compiler::{compile, diag, ir};

const HEAD: &str = "[net]\nname = \"n\"\ninput = { height = 8, width = 8 }\n";

fn load(text: &str) -> Result<Loaded, diag::Diagnostics> {
    front::check_and_lower(&parse_toml(text, "spec.toml")?, Path::new("."), &[], None)
}

fn loaded(text: &str) -> front::Net {
    load(text).unwrap_or_else(|d| panic!("{}", diag::render(&d, false))).0
}

#[test]
fn layers_become_nodes() {
    let net = loaded(&format!(
        "{HEAD}outputs = {{ scores = \"dense\", middle = \"sum\" }}\n\
         [[layer]]\nop = \"conv\"\nname = \"stem\"\nout = 8\nkernel = 3\nstride = 2\npadding = \"same\"\nbatch_norm = true\nactivation = \"relu6\"\n\
         [[layer]]\nop = \"depthwise\"\nname = \"dw\"\nkernel = [3, 1]\npadding = [1, 0, 1, 0]\nbias = true\nactivation = {{ leaky_relu = 0.1 }}\n\
         [[layer]]\nop = \"add\"\nname = \"sum\"\ninputs = [\"stem\", \"dw\"]\nactivation = \"silu\"\n\
         [[layer]]\nop = \"global_avg_pool\"\n\
         [[layer]]\nop = \"activation\"\nname = \"gate\"\nactivation = {{ clip = [-inf, 1] }}\n\
         [[layer]]\nop = \"dense\"\nname = \"dense\"\nout = 3\n"
    ));
    let text = ir::print::text(&net.graph);
    let lines: Vec<String> = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "%0 = input 1x8x8x3 input",
            "%1 = pad p0,0,1,1 %0 1x9x9x3 stem.pad",
            "%2 = conv 3x3 s2 %1 1x4x4x8 stem",
            "%3 = batch_norm eps 0.00001 %2 1x4x4x8 stem.bn",
            "%4 = act relu6 %3 1x4x4x8 stem.act",
            "%5 = pad p1,0,1,0 %4 1x6x4x8 dw.pad",
            "%6 = depthwise 3x1 +bias %5 1x4x4x8 dw",
            "%7 = act leaky_relu(0.1) %6 1x4x4x8 dw.act",
            "%8 = add %4 %7 1x4x4x8 sum",
            "%9 = act silu %8 1x4x4x8 sum.act",
            "%10 = global_pool %9 1x1x1x8 layer3",
            "%11 = act clip(-inf, 1) %10 1x1x1x8 gate",
            "%12 = dense %11 1x1x1x3 dense",
            "return %12 %9",
        ]
    );
    assert_eq!(net.graph.output_names, ["scores", "middle"]);
    compile(net).expect("it can be planned");
}

/// Tensors are found by name, and shared by layers that name the same.
#[test]
fn weights_are_found_by_name() {
    let layers = "[[layer]]\nop = \"conv\"\nout = 3\nname = \"a\"\n[[layer]]\nop = \"conv\"\nout = 3\nname = \"b\"\nweight = \"a.weight\"\n";
    let net = loaded(&format!("{HEAD}{layers}"));
    let weight = |id| if let ir::Op::Conv(c) = net.graph.op(id) { Some(c.weight) } else { None };
    let weights: Vec<_> = net.graph.nodes().into_iter().filter_map(weight).collect();
    assert_eq!(weights.len(), 2);
    assert_eq!(weights[0], weights[1]);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data: Vec<u8> = (0..9u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let tensor = |shape: Vec<usize>| safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &data).expect("nine");
    let file = dir.path().join("w.safetensors");
    let write = |tensors: Vec<(&str, Vec<usize>)>| {
        let all = tensors.into_iter().map(|(n, s)| (n, tensor(s)));
        std::fs::write(&file, safetensors::serialize(all, None).expect("tensors")).expect("writable");
    };
    let root = parse_toml(&format!("{HEAD}[weights]\nfile = \"w.safetensors\"\n{layers}"), "spec.toml").expect("toml");
    let read = || front::check_and_lower(&root, dir.path(), &[], None);
    write(vec![("a.weight", vec![3, 3, 1, 1])]);
    let (net, _) = read().unwrap_or_else(|d| panic!("{}", diag::render(&d, false)));
    let ir::Op::Conv(conv) = net.graph.op(net.graph.outputs[0]) else { panic!("a convolution") };
    // [out][in] turned to [in][out]
    assert_eq!(net.graph.consts.get(conv.weight), [0.0, 3.0, 6.0, 1.0, 4.0, 7.0, 2.0, 5.0, 8.0]);
    for (tensors, message) in [
        (vec![("a.weights", vec![3, 3, 1, 1])], "has no tensor `a.weight`"),
        (vec![("a.weight", vec![3, 3])], "has the shape [3, 3], [3, 3, 1, 1] is needed"),
        (vec![("a.weight", vec![3, 3, 1, 1]), ("c", vec![9])], "no use for 1 of the 2 tensors"),
    ] {
        write(tensors);
        let mistakes = read().expect_err(message);
        assert!(mistakes.iter().any(|d| d.message.contains(message)), "{mistakes:?}");
    }
}

#[test]
fn mistakes_are_collected_with_their_places() {
    let cases: &[(&str, &[&str])] = &[
        ("[[layer]]\nop = \"konv\"\n", &["there is no op `konv`"]),
        (
            "[[layer]]\nop = \"conv\"\nkernel = 0\npading = 1\n",
            &["needs the key `out`", "0 is not within", "has no key `pading`"],
        ),
        ("[[layer]]\nop = \"conv\"\nout = 4\ngroups = 2\n", &["2 groups do not divide 3 input and 4 output channels"]),
        ("[[layer]]\nop = \"add\"\ninputs = [\"input\"]\n", &["takes 2 inputs, not 1"]),
        ("[[layer]]\nop = \"softmax\"\ninputs = [\"inptu\"]\n", &["no layer above is called `inptu`"]),
        (
            "[[layer]]\nop = \"max_pool\"\nkernel = 9\nname = \"p\"\n[[layer]]\nop = \"softmax\"\nname = \"p\"\n",
            &["does not fit", "two layers or inputs are called `p`"],
        ),
        ("[[layer]]\nop = \"activation\"\nactivation = { clip = [1] }\n", &["expected two numbers"]),
        ("[[layer]]\nop = \"activation\"\nactivation = { clip = [0, 1], leaky_relu = 1.0 }\n", &["a word or a table of one key"]),
        ("[[layer]]\nop = \"pad\"\npadding = [1, 2]\n", &["2 numbers are no padding"]),
        ("[[layer]]\nop = \"softmax\"\nname = \"a b\"\n", &["`a b` cannot be a name"]),
        ("layer = 3\n", &["expected a list of layers"]),
        ("layer = []\n", &["a net of 0 layers is not possible"]),
        ("[[layer]]\nop = \"constant\"\nheight = 16384\nwidth = 16384\nchannels = 16384\n", &["too large"]),
        ("[[layer]]\nop = \"dense\"\nout = 65536\n[[layer]]\nop = \"dense\"\nout = 65536\n", &["a dense layer of 3 inputs"]),
        ("[[layer]]\nop = \"softmax\"\n[weights]\nnames = \"timm\"\n", &["has no key `names`"]),
        ("[[layer]]\nop = \"softmax\"\nactivation = \"relu\"\n", &["has no key `activation`"]),
    ];
    for (layers, messages) in cases {
        let head = if layers.starts_with("layer") { format!("{layers}{HEAD}") } else { format!("{HEAD}{layers}") };
        let mistakes = load(&head).expect_err(layers);
        for message in *messages {
            let found = mistakes.iter().find(|d| d.message.contains(message));
            let found = found.unwrap_or_else(|| panic!("{layers}\nwant {message}, got\n{}", diag::render(&mistakes, false)));
            assert!(found.label.is_some(), "{message} has no place");
        }
        assert_eq!(mistakes.len(), messages.len(), "{layers}\n{}", diag::render(&mistakes, false));
    }
    let outputs = HEAD.replace("name = \"n\"", "name = \"n\"\noutputs = [\"sotfmax\"]");
    let mistakes = load(&format!("{outputs}[[layer]]\nop = \"softmax\"\nname = \"softmax\"\n")).expect_err("a typing error");
    assert_eq!(mistakes[0].help.as_deref(), Some("did you mean `softmax`?"));
}

/// Several inputs, constants, and every kind of layer written and read again.
#[test]
fn what_is_written_is_read_again() {
    let net = loaded(
        "[net]\nname = \"two\"\noutputs = [\"s\"]\nlabels = [\"a\\\"b\", \"c\", \"d\"]\n\
         inputs = [{ name = \"left\", height = 4, width = 4, channels = 3, mean = [0.1, 0.2, 0.3], order = \"bgr\", resize = \"squash\" }, { name = \"right\", height = 1, width = 1, channels = 3 }]\n\
         [passes]\nskip = [\"fuse_pool\"]\n[plan]\nprefer = \"memory\"\n\
         [[layer]]\nop = \"constant\"\nname = \"k\"\nheight = 4\nwidth = 4\nchannels = 3\n\
         [[layer]]\nop = \"add\"\nname = \"sum\"\ninputs = [\"left\", \"k\"]\nactivation = { hard_sigmoid = [0.2, 0.3] }\n\
         [[layer]]\nop = \"scale\"\nname = \"scaled\"\ninputs = [\"sum\", \"right\"]\n\
         [[layer]]\nop = \"batch_norm\"\nname = \"norm\"\neps = 0\nweight = \"w\"\n\
         [[layer]]\nop = \"pad\"\nname = \"wide\"\npadding = [1, 2, 0, 1]\nvalue = 0.1\n\
         [[layer]]\nop = \"max_pool\"\nname = \"m\"\nkernel = [2, 3]\nstride = 1\npadding = [1, 0, 0, 1]\n\
         [[layer]]\nop = \"avg_pool\"\nname = \"p\"\nkernel = 2\npadding = 1\ncount_padding = true\n\
         [[layer]]\nop = \"conv\"\nname = \"c\"\nout = 6\ngroups = 3\nkernel = 2\ndilation = [1, 2]\nbias = \"b\"\nbatch_norm = { mean = \"b\" }\n\
         [[layer]]\nop = \"depthwise\"\nname = \"d\"\nmultiplier = 2\npadding = 1\nkernel = 3\nactivation = \"tanh\"\n\
         [[layer]]\nop = \"gather\"\nname = \"up\"\nrows = { repeat = 2 }\ncolumns = [\"0..2\", 0, -1]\nchannels = { groups = 2 }\nfill = 0.5\n\
         [[layer]]\nop = \"interpolate\"\nname = \"in\"\nrows = { size = 5, align = \"corners\" }\ncolumns = [[0, 1, 0.25], [1, 2, 0.1]]\n\
         [[layer]]\nop = \"conv_transpose\"\nname = \"t\"\nout = 4\ngroups = 2\nkernel = 3\nstride = [2, 1]\npadding = [1, 0, 0, 1]\noutput_padding = [1, 0]\nbias = true\nbatch_norm = true\n\
         [[layer]]\nop = \"prelu\"\nname = \"slope\"\n\
         [[layer]]\nop = \"transpose\"\nname = \"tr\"\norder = [\"columns\", \"channels\", \"rows\"]\n\
         [[layer]]\nop = \"mean\"\nname = \"mean\"\naxes = [\"rows\"]\n\
         [[layer]]\nop = \"sub\"\nname = \"less\"\ninputs = [\"tr\", \"mean\"]\nactivation = \"relu\"\n\
         [[layer]]\nop = \"concat\"\nname = \"joined\"\naxis = \"rows\"\ninputs = [\"less\", \"mean\", \"less\"]\n\
         [[layer]]\nop = \"reshape\"\nname = \"flat\"\nheight = 2\nwidth = 11\nchannels = 14\n\
         [[layer]]\nop = \"global_avg_pool\"\nname = \"g\"\n\
         [[layer]]\nop = \"dense\"\nname = \"e\"\nout = 3\nbias = true\nactivation = { clip = [-inf, 0.3] }\n\
         [[layer]]\nop = \"softmax\"\nname = \"s\"\n",
    );
    let dir = tempfile::tempdir().expect("a temporary folder");
    let again = crate::import::written(&net, dir.path());
    assert_eq!((&again.passes, &again.plan), (&net.passes, &net.plan));
    compile(again).expect("it can be planned");
}
