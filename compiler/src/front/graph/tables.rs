//! Index tables and interpolation points as a spec says them: most are one of a few patterns, which then stand in its place.

use mnc_runtime::params::{Real, Tap};

use crate::ir::Op;

/// What a `gather` layer takes of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::front) enum Table {
    /// Each position, -1 for the fill value.
    List(Vec<i32>),
    /// Every element so many times, one behind the other: nearest resizing by a whole factor.
    Repeat(usize),
    /// The elements as so many groups, one of each in turn: a channel shuffle.
    Groups(usize),
}

impl Table {
    /// The positions in an axis of `n`.
    pub(super) fn of(&self, n: usize) -> Result<Vec<i32>, String> {
        let index = |i: usize| i32::try_from(i).unwrap_or(i32::MAX);
        match self {
            Table::List(list) => Ok(list.clone()),
            Table::Repeat(times) => match n.checked_mul(*times) {
                Some(all) if all <= super::MAX_TABLE => Ok((0..all).map(|i| index(i / times)).collect()),
                _ => Err(format!("an axis of {n} repeated {times} times is too long")),
            },
            Table::Groups(groups) if n.is_multiple_of(*groups) => {
                let each = n / groups;
                Ok((0..n).map(|i| index(i % groups * each + i / groups)).collect())
            }
            Table::Groups(groups) => Err(format!("{groups} groups do not divide an axis of {n}")),
        }
    }

    /// The table that says `list` of an axis of `n` shortest.
    pub(super) fn shortest(list: &[i32], n: usize) -> Self {
        let says = |table: &Table| table.of(n).is_ok_and(|t| t == list);
        let repeat = Table::Repeat(list.len() / n.max(1));
        if list.len() > n && says(&repeat) {
            return repeat;
        }
        if let Some(step) = list.get(1).and_then(|&s| usize::try_from(s).ok()).filter(|&s| s > 1 && n.is_multiple_of(s))
            && says(&Table::Groups(n / step))
        {
            return Table::Groups(n / step);
        }
        Table::List(list.to_vec())
    }
}

/// Which points of two axes of different length lie on one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front) enum Align {
    /// The edges of both, elements being areas: `(i + 1/2) from / to - 1/2`.
    Centers,
    /// The first elements and the last ones.
    Corners,
    /// The first elements: `i from / to`.
    Start,
}

impl Align {
    /// The words of a spec.
    pub(in crate::front) const WORDS: [(&'static str, Self); 3] =
        [("centers", Self::Centers), ("corners", Self::Corners), ("start", Self::Start)];

    /// Its word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Centers => "centers",
            Self::Corners => "corners",
            Self::Start => "start",
        }
    }
}

/// What an `interpolate` layer makes of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::front) enum Taps {
    /// Each element.
    List(Vec<Tap>),
    /// So many elements.
    Size(usize, Align),
}

impl Taps {
    /// The elements made of an axis of `n`.
    pub(super) fn of(&self, n: usize) -> Vec<Tap> {
        match self {
            Taps::List(list) => list.clone(),
            Taps::Size(to, align) => (0..*to).map(|i| tap(position(*align, i, n, *to), n)).collect(),
        }
    }

    /// What says `list` of an axis of `n` shortest.
    pub(super) fn shortest(list: &[Tap], n: usize) -> Self {
        let sizes = Align::WORDS.map(|(_, align)| Taps::Size(list.len(), align));
        sizes.into_iter().find(|t| t.of(n) == list).unwrap_or_else(|| Taps::List(list.to_vec()))
    }
}

/// The bytes of an op's tables.
pub(in crate::front) fn table_bytes(op: &Op) -> usize {
    if let Op::Gather(gather) = op {
        gather.tables().into_iter().flatten().map(size_of_val).sum()
    } else if let Op::Interpolate { rows, columns } = op {
        size_of_val(rows.as_slice()) + size_of_val(columns.as_slice())
    } else {
        0
    }
}

/// Where in an axis of `from` the element `i` of an axis of `to` lies.
fn position(align: Align, i: usize, from: usize, to: usize) -> f64 {
    let (i, from, to) = (i as f64, from as f64, to as f64);
    match align {
        Align::Centers => (i + 0.5) / (to / from) - 0.5,
        Align::Corners if to > 1.0 => i * (from - 1.0) / (to - 1.0),
        Align::Corners => 0.0,
        Align::Start => i / (to / from),
    }
}

/// The mean of two neighbours in an axis of `n` that the position `x` stands for; the end where it lies outside.
pub(in crate::front) fn tap(x: f64, n: usize) -> Tap {
    let last = n.max(1) - 1;
    let x = if x.is_nan() { 0.0 } else { x.clamp(0.0, last as f64) };
    let low = (x.floor() as usize).min(last);
    let high = (low + 1).min(last);
    let weight = if high == low { 0.0 } else { (x - low as f64) as f32 };
    Tap { low, high, weight: Real::new(weight) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_found_again() {
        for (table, n) in [(Table::Repeat(2), 5), (Table::Repeat(3), 1), (Table::Groups(2), 8), (Table::Groups(3), 12)] {
            let list = table.of(n).unwrap();
            assert_eq!(Table::shortest(&list, n).of(n).unwrap(), list);
            assert!(!matches!(Table::shortest(&list, n), Table::List(_)), "{table:?}");
        }
        assert_eq!(Table::Groups(2).of(6).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(Table::Repeat(2).of(2).unwrap(), [0, 0, 1, 1]);
        assert!(Table::Groups(4).of(6).is_err());
        assert_eq!(Table::shortest(&[2, 0], 3), Table::List(vec![2, 0]));
        for (_, align) in Align::WORDS {
            for (from, to) in [(3, 7), (8, 4), (1, 5), (5, 1)] {
                let list = Taps::Size(to, align).of(from);
                assert_eq!(Taps::shortest(&list, from).of(from), list, "{align:?} {from} {to}");
            }
        }
        let middle = Taps::Size(2, Align::Corners).of(5);
        assert_eq!([middle[0].low, middle[1].low], [0, 4]);
    }
}
