//! `Resize` and its forerunner `Upsample`.

use super::super::import::{At, Import, Refusal, unsupported};
use super::super::view::View;

/// `Resize` and `Upsample`
pub(super) fn resize<'a>(_: &mut Import<'a>, _: &At<'_, 'a>) -> Result<View, Refusal> {
    unsupported!("")
}
