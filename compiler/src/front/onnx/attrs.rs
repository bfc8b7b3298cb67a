//! Attributes of a node by name, with ONNX's defaults at the place of use.

use super::proto::{Attribute, Malformed, Node};

/// The attributes of one node.
pub(super) struct Attrs<'a>(Vec<Attribute<'a>>);

impl<'a> Attrs<'a> {
    pub(super) fn of(node: &Node<'a>) -> Result<Self, Malformed> {
        node.attributes().map(Self)
    }

    fn get(&self, name: &str) -> Option<&Attribute<'a>> {
        self.0.iter().find(|a| a.name == name)
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.i
    }

    pub(super) fn int_or(&self, name: &str, default: i64) -> i64 {
        self.int(name).unwrap_or(default)
    }

    pub(super) fn float_or(&self, name: &str, default: f32) -> f32 {
        self.float(name).unwrap_or(default)
    }

    pub(super) fn float(&self, name: &str) -> Option<f32> {
        self.get(name)?.f
    }

    pub(super) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.get(name).map(|a| a.ints.as_slice())
    }

    pub(super) fn floats(&self, name: &str) -> Option<&[f32]> {
        self.get(name).map(|a| a.floats.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        std::str::from_utf8(self.get(name)?.s?).ok()
    }

    /// A `TensorProto`.
    pub(super) fn tensor(&self, name: &str) -> Option<&'a [u8]> {
        self.get(name)?.t
    }
}
