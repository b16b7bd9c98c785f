//! Finds forms by what is not the form.
//!
//! Each form has an anchor: [`ANCHOR`] bytes of it that all its occurrences have at the same place. Of every window of that
//! length a multiplication tells in a bit whether it can be an anchor; one in hundreds can, and a keyed digest
//! of it says which forms to look for around it. The digest of a whole form decides.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

/// The length of an anchor, in bytes: what fits one multiplication.
pub(super) const ANCHOR: usize = 8;
/// The filter has 2 to the power of this many bits, 8 KiB: it stays in the first cache, and a hundred values with ten
/// forms each fill a sixty-fourth of it.
const FILTER_BITS: u32 = 16;
const WORD: usize = 64;

/// Keyed, of twice 64 bits: no two texts of a process have the same by chance.
pub(super) type Digest = [u64; 2];

/// What makes digests of this process different from those of any other.
#[derive(Clone)]
pub(super) struct Keys {
    first: RandomState,
    second: RandomState,
    /// Odd, so that no bit of a window is lost.
    multiplier: u64,
}

/// One encoding of a value, as it can be recognised.
#[derive(Clone, Copy)]
pub(super) struct Form {
    length: usize,
    whole: Digest,
    /// Where in the form its anchor is.
    offset: usize,
    anchor: u64,
    /// The anchor's bit in the filter.
    bit: usize,
}

pub(super) struct Index {
    keys: Keys,
    filter: Box<[u64]>,
    by_anchor: BTreeMap<u64, Vec<Form>>,
}

impl Default for Keys {
    fn default() -> Self {
        let (first, second) = (RandomState::new(), RandomState::new());
        let multiplier = RandomState::new().hash_one(()) | 1;
        Self { first, second, multiplier }
    }
}

impl Keys {
    pub(super) fn digest(&self, bytes: &[u8]) -> Digest {
        [self.first.hash_one(bytes), self.second.hash_one(bytes)]
    }

    /// `None`: it is shorter than an anchor.
    pub(super) fn form(&self, bytes: &[u8]) -> Option<Form> {
        // Letters and digits are the same in most encodings, so that forms share their anchor.
        let is_plain = |window: &[u8; ANCHOR]| window.iter().all(u8::is_ascii_alphanumeric);
        let offset = bytes.array_windows().position(is_plain).unwrap_or_default();
        let anchor = bytes.get(offset..)?.first_chunk::<ANCHOR>()?;
        Some(Form {
            length: bytes.len(),
            whole: self.digest(bytes),
            offset,
            anchor: self.first.hash_one(anchor),
            bit: self.bit(*anchor),
        })
    }

    fn bit(&self, window: [u8; ANCHOR]) -> usize {
        let product = u64::from_le_bytes(window).wrapping_mul(self.multiplier);
        usize::try_from(product >> (u64::BITS - FILTER_BITS)).unwrap_or_default()
    }
}

impl Index {
    pub(super) fn new<'a>(keys: Keys, forms: impl Iterator<Item = &'a Form>) -> Self {
        let mut filter = vec![0_u64; (1 << FILTER_BITS) / WORD].into_boxed_slice();
        let mut by_anchor: BTreeMap<u64, Vec<Form>> = BTreeMap::new();
        for form in forms {
            if let Some(word) = filter.get_mut(form.bit / WORD) {
                *word |= 1 << (form.bit % WORD);
            }
            by_anchor.entry(form.anchor).or_default().push(*form);
        }
        Self { keys, filter, by_anchor }
    }

    /// Where forms are, in the order of their anchors.
    pub(super) fn hits<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        let may_be_anchor = |window: &[u8; ANCHOR]| {
            let bit = self.keys.bit(*window);
            self.filter.get(bit / WORD).is_some_and(|word| word >> (bit % WORD) & 1 == 1)
        };
        let candidates = bytes.array_windows().enumerate().filter(move |(_, window)| may_be_anchor(window));
        candidates.flat_map(move |(at, window)| {
            let forms = self.by_anchor.get(&self.keys.first.hash_one(window)).map(Vec::as_slice);
            forms.unwrap_or_default().iter().filter_map(move |form| self.found(form, bytes, at))
        })
    }

    fn found(&self, form: &Form, bytes: &[u8], at: usize) -> Option<Range<usize>> {
        let start = at.checked_sub(form.offset)?;
        let range = start..start.checked_add(form.length)?;
        let candidate = bytes.get(range.clone())?;
        (self.keys.digest(candidate) == form.whole).then_some(range)
    }
}
