//! The networks that are compared.

/// A network: what the JIT and the export read. The macro has made its type already.
pub struct Spec {
    /// What it is called in file names and arguments.
    pub name: &'static str,
    /// Its spec, relative to this package.
    pub path: &'static str,
    /// What is changed in the spec: `KEY = VALUE, …`
    pub sets: &'static str,
    /// The net that was compiled into this program, for one thread and for two.
    pub boxed: [fn() -> Box<dyn mnc::Net + Send>; 2],
}

macro_rules! nets {
    ($($name:literal: $type:ident $two:ident [$($sets:tt)*] = $path:tt;)*) => {
        $(mnc::mobilenet_net! {
            struct $type<$($sets)*> = $path;
            struct $two<plan.threads = 2, $($sets)*> = $path;
        })*

        /// All of them.
        pub const NETS: &[Spec] = &[$(Spec {
            name: $name,
            path: $path,
            sets: stringify!($($sets)*),
            boxed: [|| Box::new($type::resident()), || Box::new($two::resident())],
        }),*];
    };
}

nets! {
    "v1": V1 V1Two [] = "../../../examples/nets/mobilenet_v1.toml";
    "v2": V2 V2Two [] = "../../../examples/nets/mobilenet_v2.toml";
    "v3-large": V3Large V3LargeTwo [] = "../../../examples/nets/mobilenet_v3_large.toml";
    "v3-small": V3Small V3SmallTwo [] = "../../../examples/nets/mobilenet_v3_small.toml";
    "v4-small": V4Small V4SmallTwo [] = "../../../examples/nets/mobilenet_v4_conv_small.toml";
    "v1-grey": V1Grey V1GreyTwo [alpha = 0.25, input.height = 96, input.width = 96, input.channels = 1]
        = "../../../examples/nets/mobilenet_v1.toml";
    "edgetpu-xs": EdgeTpuXs EdgeTpuXsTwo [] = "../../../examples/nets/mobilenet_edgetpu_v2_xs.toml";
}

impl Spec {
    /// The network of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(name: &str) -> Result<&'static Spec, String> {
        NETS.iter().find(|n| n.name == name).ok_or_else(|| format!("no network {name}"))
    }

    /// Reads the spec, unfused, with its weights, for so many threads.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(&self, threads: usize) -> Result<mnc::compiler::front::Net, String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(self.path);
        let sets = self.sets.split(',').filter_map(|s| s.split_once('='));
        let mut sets: Vec<_> = sets.map(|(k, v)| (k.replace(' ', ""), v.trim().to_owned())).collect();
        sets.push(("plan.threads".to_owned(), threads.to_string()));
        let loaded = mnc::compiler::front::load(&path, &sets, None);
        loaded.map(|(net, _)| net).map_err(|d| mnc::compiler::diag::render(&d, false))
    }
}
