//! Packs weights into the blob, each constant once in each layout it is read in.
//!
//! Two phases, because the macro runs this unoptimised: requests are collected first, then the blob is allocated as zeros in
//! one go and whole runs are copied into it (`mnc_runtime::pack`), so padding never needs a loop of its own.

use std::borrow::Cow;
use std::collections::HashMap;

use mnc_runtime::pack;
use mnc_runtime::params::Method;

use super::{ALIGN, Entry, WeightId, Weights};
use crate::ir::op::Conv;
use crate::ir::{ConstId, Consts};

/// How a kernel reads a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Layout {
    /// `[k][n]` as panels of [`pack::PANEL`] columns; depthwise weights with their taps as `k`.
    Panels {
        /// Rows.
        k: usize,
        /// Columns.
        n: usize,
    },
    /// `[k][groups * n]` as the panels of each group.
    Groups {
        /// How many.
        groups: usize,
        /// Rows.
        k: usize,
        /// Columns of a group.
        n: usize,
    },
    /// `[k][n]` as the factors of [`Method::Strassen`].
    Strassen {
        /// Rows.
        k: usize,
        /// Columns.
        n: usize,
    },
    /// As it is, then zeros up to a multiple of this.
    Padded(usize),
}

impl Layout {
    /// Elements that `len` elements take in this layout; `None` where the count overflows.
    fn len(self, len: usize) -> Option<usize> {
        match self {
            Layout::Panels { k, n } => n.checked_next_multiple_of(pack::PANEL)?.checked_mul(k),
            Layout::Groups { groups, k, n } => n.checked_next_multiple_of(pack::PANEL)?.checked_mul(k)?.checked_mul(groups),
            Layout::Strassen { k, n } => n.checked_mul(k)?.checked_mul(7).map(|len| len / 4),
            Layout::Padded(multiple) => len.checked_next_multiple_of(multiple),
        }
    }

    fn write(self, from: &[f32], to: &mut [f32]) {
        match self {
            Layout::Panels { k, n } => pack::panels(k, n, from, to),
            Layout::Groups { groups, k, n } => pack::grouped(groups, k, n, from, to),
            Layout::Strassen { k, n } => pack::strassen(k, n, from, to),
            Layout::Padded(_) => to[..from.len()].copy_from_slice(from),
        }
    }
}

/// What is wanted once.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Const(ConstId, Layout),
    Expanded(ConstId, usize, Layout),
    Transformed(ConstId, Layout),
    Zeros(usize),
}

/// The blob would be larger than memory can address.
#[derive(Debug)]
pub(super) struct Overflow;

/// Collects requests, then writes the blob.
pub(super) struct Packer<'g> {
    consts: &'g Consts,
    entries: Vec<Entry>,
    contents: Vec<(Cow<'g, [f32]>, Layout)>,
    seen: HashMap<Key, WeightId>,
    len: usize,
}

impl<'g> Packer<'g> {
    /// An empty blob for constants of `consts`.
    pub(super) fn new(consts: &'g Consts) -> Self {
        Self { consts, entries: Vec::new(), contents: Vec::new(), seen: HashMap::new(), len: 0 }
    }

    /// The entry of a graph constant; the same one for every reader that wants the same layout.
    pub(super) fn constant(&mut self, id: ConstId, layout: Layout, name: &str) -> Result<WeightId, Overflow> {
        let key = Key::Const(id, layout);
        if let Some(&known) = self.seen.get(&key) {
            return Ok(known);
        }
        let entry = self.push(Cow::Borrowed(self.consts.get(id)), layout, name)?;
        self.seen.insert(key, entry);
        Ok(entry)
    }

    /// The weights of a convolution in panels for a kernel of `groups` groups: as many as it has, or one, whose weights are zero
    /// outside of its groups' blocks. Transformed where the method asks for that.
    pub(super) fn conv(&mut self, conv: &Conv, groups: usize, method: Method, name: &str) -> Result<WeightId, Overflow> {
        let taps = conv.kernel[0].checked_mul(conv.kernel[1]).ok_or(Overflow)?;
        let (k, n) = (taps.checked_mul(conv.in_c / groups).ok_or(Overflow)?, conv.out_c / groups);
        match method {
            Method::Direct => {}
            Method::Winograd2 => return self.transformed(conv, 2, name),
            Method::Winograd4 => return self.transformed(conv, 4, name),
            Method::Strassen => return self.constant(conv.weight, Layout::Strassen { k, n }, name),
        }
        if groups > 1 {
            return self.constant(conv.weight, Layout::Groups { groups, k, n }, name);
        }
        let layout = Layout::Panels { k, n };
        if conv.groups == 1 {
            return self.constant(conv.weight, layout, name);
        }
        let key = Key::Expanded(conv.weight, conv.groups, layout);
        if let Some(&known) = self.seen.get(&key) {
            return Ok(known);
        }
        layout.len(0).and_then(|len| len.checked_mul(4)).ok_or(Overflow)?;
        let entry = self.push(conv.dense_weight(self.consts), layout, name)?;
        self.seen.insert(key, entry);
        Ok(entry)
    }

    /// Weights of 3x3 windows as [`Method::Winograd2`] or [`Method::Winograd4`] reads them, by the side of a tile.
    fn transformed(&mut self, conv: &Conv, side: usize, name: &str) -> Result<WeightId, Overflow> {
        let (in_c, n) = (conv.in_c / conv.groups, conv.out_c / conv.groups);
        let windows = (side + 2).pow(2);
        let k = in_c.checked_mul(windows).ok_or(Overflow)?;
        let layout = if conv.groups == 1 { Layout::Panels { k, n } } else { Layout::Groups { groups: conv.groups, k, n } };
        let key = Key::Transformed(conv.weight, layout);
        if let Some(&known) = self.seen.get(&key) {
            return Ok(known);
        }
        layout.len(0).and_then(|len| len.checked_mul(4)).ok_or(Overflow)?;
        let elements = in_c * conv.out_c;
        let mut transformed = vec![0.0; windows * elements];
        pack::winograd(side, elements, self.consts.get(conv.weight), &mut transformed);
        let entry = self.push(Cow::Owned(transformed), layout, name)?;
        self.seen.insert(key, entry);
        Ok(entry)
    }

    /// Weights `[taps][in_c / groups][out_c]` of a window of `kernel` rows and columns as the panels of each group.
    pub(super) fn grouped(
        &mut self,
        id: ConstId,
        groups: usize,
        kernel: [usize; 2],
        [in_c, out_c]: [usize; 2],
        name: &str,
    ) -> Result<WeightId, Overflow> {
        let taps = kernel[0].checked_mul(kernel[1]).ok_or(Overflow)?;
        let (k, n) = (taps.checked_mul(in_c / groups).ok_or(Overflow)?, out_c / groups);
        let layout = if groups == 1 { Layout::Panels { k, n } } else { Layout::Groups { groups, k, n } };
        self.constant(id, layout, name)
    }

    /// A bias of `groups` groups of `n` elements, each in whole panels: the constant, or zeros that all layers without one share.
    pub(super) fn bias(&mut self, id: Option<ConstId>, groups: usize, n: usize, name: &str) -> Result<WeightId, Overflow> {
        let layout = if groups == 1 { Layout::Padded(pack::PANEL) } else { Layout::Groups { groups, k: 1, n } };
        if let Some(id) = id {
            return self.constant(id, layout, name);
        }
        let len = Layout::Groups { groups, k: 1, n }.len(0).ok_or(Overflow)?;
        if let Some(&known) = self.seen.get(&Key::Zeros(len)) {
            return Ok(known);
        }
        let entry = self.push(Cow::Owned(vec![0.0; len]), Layout::Padded(pack::PANEL), name)?;
        self.seen.insert(Key::Zeros(len), entry);
        Ok(entry)
    }

    /// An entry computed for one reader.
    pub(super) fn computed(&mut self, data: Vec<f32>, layout: Layout, name: &str) -> Result<WeightId, Overflow> {
        self.push(Cow::Owned(data), layout, name)
    }

    fn push(&mut self, data: Cow<'g, [f32]>, layout: Layout, name: &str) -> Result<WeightId, Overflow> {
        let len = layout.len(data.len()).ok_or(Overflow)?;
        let end = self.len.checked_add(len).and_then(|e| e.checked_next_multiple_of(ALIGN / 4)).ok_or(Overflow)?;
        end.checked_mul(4).ok_or(Overflow)?;
        self.entries.push(Entry { name: name.to_owned(), offset: self.len, len });
        self.contents.push((data, layout));
        self.len = end;
        Ok(WeightId(self.entries.len() - 1))
    }

    /// Writes the blob.
    pub(super) fn finish(self) -> Weights {
        let mut data = vec![0.0; self.len];
        for (entry, (from, layout)) in self.entries.iter().zip(&self.contents) {
            layout.write(from, &mut data[entry.offset..entry.offset + entry.len]);
        }
        Weights { data, entries: self.entries }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_constants_are_packed_once_per_layout_and_aligned() {
        let mut consts = Consts::default();
        let a = consts.add((0..6u8).map(f32::from).collect::<Vec<_>>());
        let b = consts.add(vec![7.0; 3]);
        let mut packer = Packer::new(&consts);
        let panels = packer.constant(a, Layout::Panels { k: 2, n: 3 }, "a").unwrap();
        assert_eq!(packer.constant(a, Layout::Panels { k: 2, n: 3 }, "again").unwrap(), panels);
        let other = packer.constant(a, Layout::Panels { k: 3, n: 2 }, "a").unwrap();
        assert_ne!(other, panels);
        let bias = packer.bias(Some(b), 1, 3, "b").unwrap();
        let zeros = packer.bias(None, 1, 17, "z").unwrap();
        assert_eq!(packer.bias(None, 2, 10, "z2").unwrap(), zeros);
        let grouped = packer.bias(Some(b), 3, 1, "b").unwrap();
        let weights = packer.finish();

        assert_eq!(weights.get(panels).len(), 2 * 16);
        assert_eq!(&weights.get(panels)[..4], [0.0, 1.0, 2.0, 0.0]);
        assert_eq!(&weights.get(panels)[16..20], [3.0, 4.0, 5.0, 0.0]);
        assert_eq!(weights.get(other).len(), 3 * 16);
        assert_eq!(&weights.get(other)[32..35], [4.0, 5.0, 0.0]);
        assert_eq!(weights.get(bias)[..5], [7., 7., 7., 0., 0.]);
        assert_eq!((weights.get(bias).len(), weights.get(grouped).len()), (16, 48));
        assert!(weights.get(grouped).iter().enumerate().all(|(i, &v)| v == if i % 16 == 0 { 7.0 } else { 0.0 }));
        assert_eq!(weights.get(zeros), [0.0; 32]);
        assert!(weights.entries.iter().all(|e| e.offset.is_multiple_of(16)));
        assert!(weights.data.len().is_multiple_of(16));
    }

    #[test]
    fn sizes_beyond_the_address_space_are_refused() {
        assert!(Layout::Panels { k: usize::MAX / 8, n: 9 }.len(0).is_none());
        assert!(Layout::Groups { groups: usize::MAX / 8, k: 1, n: 1 }.len(0).is_none());
        assert!(Packer::new(&Consts::default()).bias(None, 1, usize::MAX - 3, "z").is_err());
    }
}
