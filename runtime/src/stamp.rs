//! Which version of mnc made an artefact: the number that emitted code, objects, weight files and this crate agree on, and the line
//! of text that all of them carry.
//!
//! ```text
//! mnc-stamp: kind=object version=0.1.0 format=6 net=digits code=… layout=…
//! ```
//! `format` is [`FORMAT`]. `code` is a hash of everything but the weights' values: steps, places, sizes, names; header and object
//! that differ in it do not link. `layout` is a hash of the arrangement of the packed weights: files with the same one fit.

/// Version of all that goes between the compiler and this crate: tables, records, entries of the static library, packed weights and
/// the files that hold them. Whatever changes one of them takes the next number, here, in [`crate::abi`] and in
/// [`made_for_format!`](crate::made_for_format); tests of records and packing compare with what was recorded for it.
pub const FORMAT: u32 = 6;

/// Version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a stamp begins with; `mnc inspect` looks for it.
pub const MARK: &str = "mnc-stamp: ";

/// Stands in emitted code: an error of compilation where that was made for another [`FORMAT`] than this crate's.
///
/// ```
/// mnc_runtime::made_for_format!(6, "0.1.0");
/// ```
/// ```compile_fail
/// mnc_runtime::made_for_format!(3, "0.0.9");
/// ```
#[macro_export]
macro_rules! made_for_format {
    (6, $made_by:literal) => {};
    ($other:literal, $made_by:literal) => {
        ::core::compile_error!(concat!(
            "this net was compiled by mnc ",
            $made_by,
            " for format ",
            $other,
            " of mnc-runtime, and the mnc-runtime here has format 6: compile its spec again with the mnc of this version \
             (`mnc compile SPEC`), or depend on the mnc that made it",
        ));
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    made_for_format!(6, "0.1.0");

    #[test]
    fn every_name_has_the_number() {
        #[cfg(target_pointer_width = "64")]
        for name in [crate::abi::BEGIN, crate::abi::STAGE] {
            assert!(name.starts_with(&std::format!("mnc_rt_{FORMAT}_")), "{name}");
        }
        assert_eq!(FORMAT, 6, "`made_for_format!` and the static library's stamp say 6");
        assert!(MARK.ends_with(": "));
    }
}
