//! Huffman codes, and the coefficients coded with them (T.81, annexes F and G).

use super::ZIGZAG;

/// Bits that the first lookup resolves.
const FAST: u32 = 9;

/// A Huffman table.
pub(super) struct Table {
    /// Indexed by the next [`FAST`] bits: length and symbol of the code they start with; length 0 for longer codes.
    fast: [(u8, u8); 1 << FAST],
    /// One past the largest code of each length, left-aligned in 16 bits; codes of a length are consecutive.
    limits: [u32; 17],
    /// What to add to a code of each length for its position among the symbols.
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// The table with `counts[i]` codes of length `i + 1`; `None` if there are more than fit.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self { fast: [(0, 0); 1 << FAST], limits: [0; 17], offsets: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            table.offsets[length as usize] = index as i32 - code as i32;
            for _ in 0..counts[length as usize - 1] {
                if code >= 1 << length {
                    return None;
                }
                if length <= FAST {
                    let first = (code << (FAST - length)) as usize;
                    table.fast[first..first + (1 << (FAST - length))].fill((length as u8, symbols[index]));
                }
                code += 1;
                index += 1;
            }
            table.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Some(table)
    }
}

/// The bits of a scan's data, stuffing removed, up to the next marker.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next `count` bits in its low end.
    window: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, window: 0, count: 0 }
    }

    /// Bytes taken from the data.
    pub fn position(&self) -> usize {
        self.at
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let step = match self.data[self.at.min(self.data.len())..] {
                [0xFF, 0, ..] => 2,
                [0xFF, ..] | [] => return,
                [..] => 1,
            };
            self.window = self.window << 8 | u64::from(self.data[self.at]);
            self.count += 8;
            self.at += step;
        }
    }

    /// The next `n` bits, 16 at most; `None` beyond the end.
    fn take(&mut self, n: u32) -> Option<u32> {
        if self.count < n {
            self.fill();
        }
        self.count = self.count.checked_sub(n)?;
        Some((self.window >> self.count) as u32 & ((1 << n) - 1))
    }

    /// The next 16 bits without taking them, zeros beyond the end.
    fn peek(&mut self) -> u32 {
        if self.count < 16 {
            self.fill();
        }
        let bits = if self.count >= 16 { self.window >> (self.count - 16) } else { self.window << (16 - self.count) };
        bits as u32 & 0xFFFF
    }

    fn symbol(&mut self, table: &Table) -> Option<u8> {
        let next = self.peek();
        let (length, symbol) = table.fast[(next >> (16 - FAST)) as usize];
        if length > 0 {
            self.take(u32::from(length))?;
            return Some(symbol);
        }
        let length = (FAST + 1..=16).find(|&l| next < table.limits[l as usize])?;
        self.take(length)?;
        let index = (next >> (16 - length)) as i32 + table.offsets[length as usize];
        table.symbols.get(usize::try_from(index).ok()?).copied()
    }

    /// A number of `n` bits in JPEG's form: half of them negative.
    fn number(&mut self, n: u8) -> Option<i32> {
        let (n, v) = (u32::from(n), self.take(n.into())? as i32);
        Some(if n > 0 && v < 1 << (n - 1) { v - (1 << n) + 1 } else { v })
    }

    /// Goes behind restart marker `n`, which must be next.
    pub fn restart(&mut self, n: u8) -> Option<()> {
        // Fewer than eight bits of padding may be left, nothing more.
        if self.count >= 8 || self.data.get(self.at..self.at + 2)? != [0xFF, 0xD0 + n] {
            return None;
        }
        *self = Self { data: self.data, at: self.at + 2, window: 0, count: 0 };
        Some(())
    }
}

/// One component of a scan.
pub(super) struct Part<'t> {
    /// Its position in the frame.
    pub component: usize,
    /// The tables of its codes, as far as they have been given.
    pub dc: Option<&'t Table>,
    pub ac: Option<&'t Table>,
    /// The DC value of the block before.
    pub before: i32,
}

/// What a scan carries of each block.
#[derive(Clone, Copy)]
pub(super) struct Scan {
    pub progressive: bool,
    /// First and last coefficient in coding order.
    pub first: usize,
    pub last: usize,
    /// Bit position of the scan before over these coefficients, 0 for none; and of this one.
    pub high: u8,
    pub low: u8,
}

impl Scan {
    /// Whether the numbers make sense.
    pub fn is_possible(&self) -> bool {
        let band = if self.first == 0 { self.last == 0 } else { self.first <= self.last && self.last < 64 };
        !self.progressive || band && self.low < 14 && (self.high == 0 || self.high == self.low + 1)
    }

    /// Reads this scan's share of `block`. `run` counts the blocks still to come that have no new coefficients.
    pub fn block(&self, block: &mut [i16; 64], bits: &mut Bits<'_>, part: &mut Part<'_>, run: &mut u32) -> Option<()> {
        match (self.progressive, self.first, self.high) {
            (false, ..) => {
                block[0] = Self::dc(bits, part)? as i16;
                Self::sequential(block, bits, part.ac?)
            }
            (true, 0, 0) => {
                block[0] = (Self::dc(bits, part)? << self.low) as i16;
                Some(())
            }
            (true, 0, _) => {
                block[0] |= (bits.take(1)? as i16) << self.low;
                Some(())
            }
            (true, _, 0) => self.ac_first(block, bits, part.ac?, run),
            (true, ..) => self.ac_refine(block, bits, part.ac?, run),
        }
    }

    fn dc(bits: &mut Bits<'_>, part: &mut Part<'_>) -> Option<i32> {
        let size = bits.symbol(part.dc?).filter(|&s| s <= 15)?;
        part.before = part.before.wrapping_add(bits.number(size)?);
        Some(part.before)
    }

    fn sequential(block: &mut [i16; 64], bits: &mut Bits<'_>, table: &Table) -> Option<()> {
        let mut k = 1;
        while k < 64 {
            let symbol = bits.symbol(table)?;
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            match (zeros, size) {
                (15, 0) => k += 16,
                (_, 0) => break,
                _ => {
                    k += zeros;
                    block[*ZIGZAG.get(k)?] = bits.number(size)? as i16;
                    k += 1;
                }
            }
        }
        Some(())
    }

    fn ac_first(&self, block: &mut [i16; 64], bits: &mut Bits<'_>, table: &Table, run: &mut u32) -> Option<()> {
        if *run > 0 {
            *run -= 1;
            return Some(());
        }
        let mut k = self.first;
        while k <= self.last {
            let symbol = bits.symbol(table)?;
            let (zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            match (zeros, size) {
                (15, 0) => k += 16,
                (_, 0) => {
                    *run = (1 << zeros) - 1 + bits.take(zeros as u32)?;
                    break;
                }
                _ => {
                    k += zeros;
                    block[*ZIGZAG.get(k)?] = (bits.number(size)? << self.low) as i16;
                    k += 1;
                }
            }
        }
        Some(())
    }

    fn ac_refine(&self, block: &mut [i16; 64], bits: &mut Bits<'_>, table: &Table, run: &mut u32) -> Option<()> {
        let one = 1i16 << self.low;
        let mut k = self.first;
        while *run == 0 && k <= self.last {
            let symbol = bits.symbol(table)?;
            let (mut zeros, size) = (usize::from(symbol >> 4), symbol & 15);
            let mut new = 0;
            match (zeros, size) {
                (_, 1) => new = if bits.take(1)? == 1 { one } else { -one },
                (15, 0) => {}
                (_, 0) => {
                    *run = (1 << zeros) + bits.take(zeros as u32)?;
                    break;
                }
                _ => return None,
            }
            // Past coefficients that are already there, each with its next bit, and past `zeros` that are not.
            while k <= self.last {
                let c = &mut block[ZIGZAG[k]];
                if *c != 0 {
                    refine(c, one, bits)?;
                } else if zeros == 0 {
                    *c = new;
                    break;
                } else {
                    zeros -= 1;
                }
                k += 1;
            }
            k += 1;
        }
        if *run > 0 {
            for &natural in &ZIGZAG[k.min(self.last + 1)..=self.last] {
                if block[natural] != 0 {
                    refine(&mut block[natural], one, bits)?;
                }
            }
            *run -= 1;
        }
        Some(())
    }
}

/// Reads the next bit of the magnitude of `c`.
fn refine(c: &mut i16, one: i16, bits: &mut Bits<'_>) -> Option<()> {
    if bits.take(1)? == 1 && *c & one == 0 {
        *c = c.wrapping_add(if *c > 0 { one } else { -one });
    }
    Some(())
}
