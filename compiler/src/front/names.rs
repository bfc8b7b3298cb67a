//! What each publisher calls the tensors of a net.
//!
//! A naming is a function from the list of layers to one prefix for each layer and one for its batch norm; the leaf names
//! (`.weight`, `/gamma`, …) are the same for all and tried in turn. Where a library has a naming per architecture, each is a
//! candidate of its own and the one that fits the checkpoint best is taken.
//!
//! To add a naming: a function here, a row of [`candidates`], and a word in the grammar.

use super::ast::Naming;
use super::layer::{Layer, Role, Tag, Tensor, Unit};

/// Where a layer and its batch norm are, if the naming has a name for them.
pub(super) type Prefix = Option<(String, String)>;

/// One way to name all layers.
pub(super) struct Candidate {
    /// For messages.
    pub(super) who: &'static str,
    /// `/` or `.` before the leaf, in messages about what is missing.
    pub(super) separator: char,
    /// One a layer.
    pub(super) prefixes: Vec<Prefix>,
}

/// A net as namings see it.
struct Net<'a> {
    units: &'a [Unit],
    layers: &'a [Layer],
    /// Names in the checkpoint start with this.
    has: &'a dyn Fn(&str) -> bool,
}

impl Net<'_> {
    fn unit(&self, layer: &Layer) -> &Unit {
        &self.units[layer.unit]
    }

    /// The convolution before everything else.
    fn is_stem(&self, layer: &Layer) -> bool {
        layer.unit == 0 && layer.role == Role::Conv
    }

    /// A plain convolution between the blocks and the global pool.
    fn is_head(&self, layer: &Layer) -> bool {
        let last = self.units.iter().rposition(|u| !u.pooled);
        layer.role == Role::Conv && !self.is_stem(layer) && last == Some(layer.unit)
    }

    /// Units behind the global pool.
    fn tail(&self) -> Vec<usize> {
        (0..self.units.len()).filter(|&u| self.units[u].pooled).collect()
    }

    fn widens(&self, unit: usize) -> bool {
        self.layers.iter().any(|l| l.unit == unit && l.role == Role::Expand)
    }
}

/// The candidates for `naming`; `names` are the checkpoint's and `mapped` says which layers the user maps himself.
pub(super) fn candidates<'a>(
    naming: Naming,
    units: &[Unit],
    layers: &[Layer],
    names: impl Iterator<Item = &'a str> + Clone,
    mapped: &dyn Fn(&Layer) -> bool,
) -> Vec<Candidate> {
    let list = names.clone();
    let has = move |prefix: &str| list.clone().any(|n| n.starts_with(prefix));
    let net = Net { units, layers, has: &has };
    let one = |who, separator, of: &dyn Fn(&Net<'_>, &Layer) -> Prefix| Candidate {
        who,
        separator,
        prefixes: layers.iter().map(|l| of(&net, l)).collect(),
    };
    let mut all = Vec::new();
    let wants = |n: Naming| naming == n || naming == Naming::Auto;
    if wants(Naming::Spec) {
        all.push(one("spec", '.', &|_, l| Some((l.name.clone(), format!("{}.bn", l.name)))));
    }
    if wants(Naming::Timm) {
        let places = timm_places(&net);
        all.push(one("timm", '.', &|n, l| timm(n, l, &places)));
    }
    if wants(Naming::Torchvision) {
        all.push(one("torchvision MobileNetV2", '.', &torchvision_v2));
        all.push(one("torchvision MobileNetV3", '.', &torchvision_v3));
    }
    if wants(Naming::Hf) {
        all.push(one("Hugging Face MobileNetV1", '.', &hf_v1));
        all.push(one("Hugging Face MobileNetV2", '.', &hf_v2));
    }
    if wants(Naming::Keras) {
        all.push(one("Keras MobileNet", '/', &keras_v1));
        all.push(one("Keras MobileNetV2", '/', &keras_v2));
        all.push(one("Keras MobileNetV3", '/', &keras_v3));
        all.push(one("older Keras MobileNetV3", '/', &|n, l| slim_v3(n, l, "")));
        let prefixes = keras_numbered(layers, names, mapped);
        all.push(Candidate { who: "Keras numbered", separator: '/', prefixes });
    }
    if wants(Naming::TfSlim) {
        all.push(one("TF-slim MobilenetV1", '/', &slim_v1));
        all.push(one("TF-slim MobilenetV2", '/', &|n, l| slim_v2(n, l, "MobilenetV2/")));
        all.push(one("TF-slim MobilenetV3", '/', &|n, l| slim_v3(n, l, "MobilenetV3/")));
    }
    if wants(Naming::DLi14) {
        all.push(one("d-li14 mobilenetv2", '.', &d_li14_v2));
        all.push(one("d-li14 mobilenetv3", '.', &d_li14_v3));
    }
    all
}

/// Leaf names of a tensor, the first of each separator being the usual one.
pub(super) fn leaves(tensor: Tensor) -> &'static [&'static str] {
    match tensor {
        Tensor::Weight => &[".weight", "/weight", "/kernel", "/depthwise_kernel", "/weights", "/depthwise_weights"],
        Tensor::Bias => &[".bias", "/bias", "/biases"],
        Tensor::Gamma => &[".weight", "/gamma", ".gamma"],
        Tensor::Beta => &[".bias", "/beta", ".beta"],
        Tensor::Mean => &[".running_mean", "/moving_mean", ".moving_mean"],
        Tensor::Variance => &[".running_var", "/moving_variance", ".moving_variance"],
    }
}

/// `stem` and `stem + bn`.
fn pair(stem: impl Into<String>, bn: &str) -> Prefix {
    let stem = stem.into();
    let norm = format!("{stem}{bn}");
    Some((stem, norm))
}

fn both(conv: impl Into<String>, bn: impl Into<String>) -> Prefix {
    Some((conv.into(), bn.into()))
}

/// timm's `(stage, block)` of every unit that is a block. A stage starts at a stride or a new width, or as the spec says.
fn timm_places(net: &Net<'_>) -> Vec<Option<(usize, usize)>> {
    let one_layer_tail = net.tail().len() <= 1;
    let mut places = vec![None; net.units.len()];
    let mut last: Option<(usize, usize, usize)> = None; // stage, block, stated width
    for (index, unit) in net.units.iter().enumerate() {
        let layer = net.layers.iter().find(|l| l.unit == index);
        let outside = layer.is_none_or(|l| net.is_stem(l) || (one_layer_tail && net.is_head(l)));
        if outside || unit.pooled || matches!(unit.tag, Tag::Depthwise | Tag::SqueezeExcite | Tag::Dense) {
            continue;
        }
        let (stage, block) = match (last, unit.stage) {
            (None, stage) => (stage.unwrap_or(0), 0),
            (Some((s, b, _)), Some(stage)) => {
                if stage == s {
                    (s, b + 1)
                } else {
                    (stage, 0)
                }
            }
            (Some((s, b, width)), None) => {
                if unit.strided || unit.stated_out != width {
                    (s + 1, 0)
                } else {
                    (s, b + 1)
                }
            }
        };
        places[index] = Some((stage, block));
        last = Some((stage, block, unit.stated_out));
    }
    places
}

fn timm(net: &Net<'_>, l: &Layer, places: &[Option<(usize, usize)>]) -> Prefix {
    let tail = net.tail();
    if net.is_stem(l) {
        return both("conv_stem", "bn1");
    }
    if tail.last() == Some(&l.unit) {
        return both("classifier", "");
    }
    if net.unit(l).pooled {
        return both("conv_head", "norm_head");
    }
    let Some((stage, block)) = places[l.unit] else {
        return if net.is_head(l) { both("conv_head", "bn2") } else { None };
    };
    let at = |conv: &str, bn: &str| both(format!("blocks.{stage}.{block}.{conv}"), format!("blocks.{stage}.{block}.{bn}"));
    let universal = net.unit(l).tag == Tag::Universal;
    let wide = net.widens(l.unit);
    match l.role {
        Role::Conv => at("conv", "bn1"),
        Role::Expand if universal => at("pw_exp.conv", "pw_exp.bn"),
        Role::Expand if net.unit(l).tag == Tag::Fused => at("conv_exp", "bn1"),
        Role::Expand => at("conv_pw", "bn1"),
        Role::DwStart => at("dw_start.conv", "dw_start.bn"),
        Role::DwMid => at("dw_mid.conv", "dw_mid.bn"),
        Role::Depthwise if wide => at("conv_dw", "bn2"),
        Role::Depthwise => at("conv_dw", "bn1"),
        Role::Pointwise => at("conv_pw", "bn2"),
        Role::Project if universal => at("pw_proj.conv", "pw_proj.bn"),
        Role::Project if net.unit(l).tag == Tag::Fused => at("conv_pwl", "bn2"),
        Role::Project if wide => at("conv_pwl", "bn3"),
        Role::Project => at("conv_pw", "bn2"),
        Role::SeReduce => at("se.conv_reduce", ""),
        Role::SeExpand => at("se.conv_expand", ""),
        Role::Dense => None,
    }
}

fn torchvision_v2(net: &Net<'_>, l: &Layer) -> Prefix {
    let f = format!("features.{}", l.unit);
    let wide = net.widens(l.unit);
    match l.role {
        Role::Conv => both(format!("{f}.0"), format!("{f}.1")),
        Role::Expand => both(format!("{f}.conv.0.0"), format!("{f}.conv.0.1")),
        Role::Depthwise if wide => both(format!("{f}.conv.1.0"), format!("{f}.conv.1.1")),
        Role::Depthwise => both(format!("{f}.conv.0.0"), format!("{f}.conv.0.1")),
        Role::Project if wide => both(format!("{f}.conv.2"), format!("{f}.conv.3")),
        Role::Project => both(format!("{f}.conv.1"), format!("{f}.conv.2")),
        Role::Dense => both("classifier.1", ""),
        Role::Pointwise | Role::DwStart | Role::DwMid | Role::SeReduce | Role::SeExpand => None,
    }
}

fn torchvision_v3(net: &Net<'_>, l: &Layer) -> Prefix {
    let f = format!("features.{}", l.unit);
    let wide = usize::from(net.widens(l.unit));
    let se = usize::from(net.layers.iter().any(|o| o.unit == l.unit && o.role == Role::SeReduce));
    let at = |j: usize| both(format!("{f}.block.{j}.0"), format!("{f}.block.{j}.1"));
    match l.role {
        Role::Conv if net.unit(l).pooled => tail_number(net, l),
        Role::Conv => both(format!("{f}.0"), format!("{f}.1")),
        Role::Expand => at(0),
        Role::Depthwise => at(wide),
        Role::SeReduce => both(format!("{f}.block.{}.fc1", wide + 1), ""),
        Role::SeExpand => both(format!("{f}.block.{}.fc2", wide + 1), ""),
        Role::Project => at(wide + 1 + se),
        Role::Dense => tail_number(net, l),
        Role::Pointwise | Role::DwStart | Role::DwMid => None,
    }
}

/// `classifier.0` and `classifier.3`: an activation and a dropout stand between them.
fn tail_number(net: &Net<'_>, l: &Layer) -> Prefix {
    let position = net.tail().iter().position(|&u| u == l.unit)?;
    both(format!("classifier.{}", 3 * position), "")
}

fn hf_v1(net: &Net<'_>, l: &Layer) -> Prefix {
    let at = |p: String| both(format!("mobilenet_v1.{p}.convolution"), format!("mobilenet_v1.{p}.normalization"));
    let number = || net.units[..l.unit].iter().filter(|u| u.tag == Tag::Separable).count();
    match l.role {
        Role::Conv => {
            if net.is_stem(l) {
                at("conv_stem".into())
            } else {
                None
            }
        }
        Role::Depthwise => at(format!("layer.{}", 2 * number())),
        Role::Pointwise => at(format!("layer.{}", 2 * number() + 1)),
        Role::Dense => both("classifier", ""),
        Role::Expand | Role::DwStart | Role::DwMid | Role::Project | Role::SeReduce | Role::SeExpand => None,
    }
}

fn hf_v2(net: &Net<'_>, l: &Layer) -> Prefix {
    let at = |p: String| both(format!("mobilenet_v2.{p}.convolution"), format!("mobilenet_v2.{p}.normalization"));
    let before = net.units[..l.unit].iter().filter(|u| u.tag == Tag::Inverted).count();
    let block = |part: &str| match before {
        0 => at(format!("conv_stem.{part}")),
        n => at(format!("layer.{}.{part}", n - 1)),
    };
    match l.role {
        Role::Conv if net.is_stem(l) => at("conv_stem.first_conv".into()),
        Role::Conv => at("conv_1x1".into()),
        Role::Expand => block("expand_1x1"),
        Role::Depthwise => block("conv_3x3"),
        Role::Project => block("reduce_1x1"),
        Role::Dense => both("classifier", ""),
        Role::Pointwise | Role::DwStart | Role::DwMid | Role::SeReduce | Role::SeExpand => None,
    }
}

/// Position of the layer's unit among those of its kind, from 0.
fn number(net: &Net<'_>, l: &Layer) -> usize {
    net.units[..l.unit].iter().filter(|u| u.tag == net.unit(l).tag).count()
}

fn keras_v1(net: &Net<'_>, l: &Layer) -> Prefix {
    match l.role {
        Role::Conv if net.is_stem(l) => pair("conv1", "_bn"),
        Role::Depthwise => pair(format!("conv_dw_{}", number(net, l) + 1), "_bn"),
        Role::Pointwise => pair(format!("conv_pw_{}", number(net, l) + 1), "_bn"),
        Role::Conv | Role::Dense => both("conv_preds", ""),
        Role::Expand | Role::DwStart | Role::DwMid | Role::Project | Role::SeReduce | Role::SeExpand => None,
    }
}

fn keras_v2(net: &Net<'_>, l: &Layer) -> Prefix {
    let block = |part: &str| match number(net, l) {
        0 => pair(format!("expanded_conv_{part}"), "_BN"),
        n => pair(format!("block_{n}_{part}"), "_BN"),
    };
    match l.role {
        Role::Conv if net.is_stem(l) => both("Conv1", "bn_Conv1"),
        Role::Conv if net.is_head(l) => pair("Conv_1", "_bn"),
        Role::Expand => block("expand"),
        Role::Depthwise => block("depthwise"),
        Role::Project => block("project"),
        Role::Conv | Role::Dense => both(if (net.has)("Logits/") { "Logits" } else { "predictions" }, ""),
        Role::Pointwise | Role::DwStart | Role::DwMid | Role::SeReduce | Role::SeExpand => None,
    }
}

fn keras_v3(net: &Net<'_>, l: &Layer) -> Prefix {
    let block = |part: &str| match number(net, l) {
        0 => pair(format!("expanded_conv_{part}"), "_bn"),
        n => pair(format!("expanded_conv_{n}_{part}"), "_bn"),
    };
    match l.role {
        Role::Conv if net.is_stem(l) => pair("conv", "_bn"),
        Role::Conv if net.is_head(l) => pair("conv_1", "_bn"),
        Role::Expand => block("expand"),
        Role::Depthwise => block("depthwise"),
        Role::Project => block("project"),
        Role::SeReduce => block("squeeze_excite_conv"),
        Role::SeExpand => block("squeeze_excite_conv_1"),
        Role::Conv | Role::Dense if net.tail().last() != Some(&l.unit) => both("conv_2", ""),
        Role::Conv | Role::Dense => both(if (net.has)("logits/") { "logits" } else { "predictions" }, ""),
        Role::Pointwise | Role::DwStart | Role::DwMid => None,
    }
}

/// Keras' automatic names: `conv2d`, `conv2d_1`, … counted over the process, so they may start anywhere.
fn keras_numbered<'a>(
    layers: &[Layer],
    names: impl Iterator<Item = &'a str> + Clone,
    mapped: &dyn Fn(&Layer) -> bool,
) -> Vec<Prefix> {
    let all = |kind: &str| -> Vec<String> {
        let mut found: Vec<usize> = names
            .clone()
            .filter_map(|n| n.split_once('/').map(|(layer, _)| layer))
            .filter_map(|layer| match layer.strip_prefix(kind)? {
                "" => Some(0),
                rest => rest.strip_prefix('_')?.parse().ok(),
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found.iter().map(|&n| if n == 0 { kind.to_string() } else { format!("{kind}_{n}") }).collect()
    };
    let mut convs = all("conv2d").into_iter();
    let mut depthwise = all("depthwise_conv2d").into_iter();
    let mut norms = all("batch_normalization").into_iter();
    let mut dense = all("dense").into_iter();
    layers
        .iter()
        .map(|l| {
            if mapped(l) {
                return None;
            }
            let conv = match l.kind {
                super::layer::LayerKind::Conv { .. } => convs.next()?,
                super::layer::LayerKind::Depthwise { .. } => depthwise.next()?,
                super::layer::LayerKind::Dense { .. } => dense.next()?,
            };
            let norm = if l.batch_norm { norms.next()? } else { String::new() };
            Some((conv, norm))
        })
        .collect()
}

fn slim_v1(net: &Net<'_>, l: &Layer) -> Prefix {
    let at = |p: String| pair(format!("MobilenetV1/{p}"), "/BatchNorm");
    match l.role {
        Role::Conv if net.is_stem(l) => at("Conv2d_0".into()),
        Role::Depthwise => at(format!("Conv2d_{}_depthwise", number(net, l) + 1)),
        Role::Pointwise => at(format!("Conv2d_{}_pointwise", number(net, l) + 1)),
        Role::Conv | Role::Dense => at("Logits/Conv2d_1c_1x1".into()),
        Role::Expand | Role::DwStart | Role::DwMid | Role::Project | Role::SeReduce | Role::SeExpand => None,
    }
}

/// `expanded_conv`, `expanded_conv_1`, …
fn slim_block(net: &Net<'_>, l: &Layer, root: &str, part: &str) -> Prefix {
    match number(net, l) {
        0 => pair(format!("{root}expanded_conv/{part}"), "/BatchNorm"),
        n => pair(format!("{root}expanded_conv_{n}/{part}"), "/BatchNorm"),
    }
}

fn slim_v2(net: &Net<'_>, l: &Layer, root: &str) -> Prefix {
    match l.role {
        Role::Conv if net.is_stem(l) => pair(format!("{root}Conv"), "/BatchNorm"),
        Role::Conv if net.is_head(l) => pair(format!("{root}Conv_1"), "/BatchNorm"),
        Role::Expand => slim_block(net, l, root, "expand"),
        Role::Depthwise => slim_block(net, l, root, "depthwise"),
        Role::Project => slim_block(net, l, root, "project"),
        Role::Conv | Role::Dense => both(format!("{root}Logits/Conv2d_1c_1x1"), ""),
        Role::Pointwise | Role::DwStart | Role::DwMid | Role::SeReduce | Role::SeExpand => None,
    }
}

fn slim_v3(net: &Net<'_>, l: &Layer, root: &str) -> Prefix {
    let last = net.tail().last() == Some(&l.unit);
    match l.role {
        Role::SeReduce => slim_block(net, l, root, "squeeze_excite/Conv"),
        Role::SeExpand => slim_block(net, l, root, "squeeze_excite/Conv_1"),
        Role::Conv | Role::Dense if net.unit(l).pooled && !last => both(format!("{root}Conv_2"), ""),
        Role::Conv | Role::Dense if last && root.is_empty() => both("Logits", ""),
        Role::Conv
        | Role::Depthwise
        | Role::Pointwise
        | Role::Expand
        | Role::DwStart
        | Role::DwMid
        | Role::Project
        | Role::Dense => slim_v2(net, l, root),
    }
}

/// The convolutions of a block are children of one sequence; activations take numbers too.
fn d_li14_v2(net: &Net<'_>, l: &Layer) -> Prefix {
    let f = format!("features.{}", l.unit);
    let at = |j: usize| both(format!("{f}.conv.{j}"), format!("{f}.conv.{}", j + 1));
    let shift = if net.widens(l.unit) { 3 } else { 0 };
    match l.role {
        Role::Conv if net.is_head(l) => both("conv.0", "conv.1"),
        Role::Conv => both(format!("{f}.0"), format!("{f}.1")),
        Role::Expand => at(0),
        Role::Depthwise => at(shift),
        Role::Project => at(shift + 3),
        Role::Dense => both("classifier", ""),
        Role::Pointwise | Role::DwStart | Role::DwMid | Role::SeReduce | Role::SeExpand => None,
    }
}

/// As the second version, with a place for squeeze-and-excite: behind the activation without an expansion, before it with one.
fn d_li14_v3(net: &Net<'_>, l: &Layer) -> Prefix {
    let f = format!("features.{}", l.unit);
    let wide = net.widens(l.unit);
    let se = if wide { 5 } else { 3 };
    match l.role {
        Role::SeReduce => both(format!("{f}.conv.{se}.fc.0"), ""),
        Role::SeExpand => both(format!("{f}.conv.{se}.fc.2"), ""),
        Role::Project if wide => both(format!("{f}.conv.7"), format!("{f}.conv.8")),
        Role::Project => both(format!("{f}.conv.4"), format!("{f}.conv.5")),
        Role::Dense => tail_number(net, l),
        Role::Conv | Role::Depthwise | Role::Pointwise | Role::Expand | Role::DwStart | Role::DwMid => d_li14_v2(net, l),
    }
}
