//! The networks that are compared.

/// A network: what the JIT and the export read. The macro has made its type already.
pub struct Spec {
    /// What it is called in file names and arguments.
    pub name: &'static str,
    /// Its spec, relative to this package.
    pub path: &'static str,
    /// What is changed in the spec: `KEY = VALUE, …`
    pub sets: &'static str,
    /// The net that was compiled into this program.
    pub boxed: fn() -> Box<dyn mnc::Net>,
}

macro_rules! nets {
    ($($name:literal: $type:ident [$($sets:tt)*] = $path:tt;)*) => {
        $(mnc::mobilenet_net! { struct $type<$($sets)*> = $path; })*

        /// All of them.
        pub const NETS: &[Spec] =
            &[$(Spec { name: $name, path: $path, sets: stringify!($($sets)*), boxed: || $type::boxed() }),*];
    };
}

nets! {
    "v1": V1 [] = "../../../examples/nets/mobilenet_v1.toml";
    "v2": V2 [] = "../../../examples/nets/mobilenet_v2.toml";
    "v3-large": V3Large [] = "../../../examples/nets/mobilenet_v3_large.toml";
    "v3-small": V3Small [] = "../../../examples/nets/mobilenet_v3_small.toml";
    "v4-small": V4Small [] = "../../../examples/nets/mobilenet_v4_conv_small.toml";
    "v1-grey": V1Grey [alpha = 0.25, input.height = 96, input.width = 96, input.channels = 1]
        = "../../../examples/nets/mobilenet_v1.toml";
    "edgetpu-xs": EdgeTpuXs [] = "../../../examples/nets/mobilenet_edgetpu_v2_xs.toml";
}

impl Spec {
    /// The network of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(name: &str) -> Result<&'static Spec, String> {
        NETS.iter().find(|n| n.name == name).ok_or_else(|| format!("no network {name}"))
    }

    /// Reads the spec, unfused, with its weights.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(&self) -> Result<mnc::compiler::front::Net, String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(self.path);
        let sets = self.sets.split(',').filter_map(|s| s.split_once('='));
        let sets: Vec<_> = sets.map(|(k, v)| (k.replace(' ', ""), v.trim().to_owned())).collect();
        let loaded = mnc::compiler::front::load(&path, &sets, None);
        loaded.map(|(net, _)| net).map_err(|d| mnc::compiler::diag::render(&d, false))
    }
}
