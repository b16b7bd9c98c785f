//! Finds forms by what is not the form.
//!
//! Each form has anchors: windows of [`ANCHOR`] bytes of it, one behind the other. Of a window of a text a multiplication
//! tells in a bit whether it can be an anchor; one in hundreds can, and a keyed digest of it says which forms to look for
//! around it. The digest of a whole form decides. With [`STRIDE`] anchors of each form it is enough to look at each
//! fourth window: one of the anchors stands there.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

/// The length of an anchor, in bytes: what fits one multiplication.
pub(super) const ANCHOR: usize = 8;
/// The most anchors of a form. More would make it easier to guess a form from its digests.
const STRIDE: usize = 4;
/// The filter has 2 to the power of this many bits, 8 KiB: it stays in the first cache, and a hundred values with ten
/// forms each fill a sixteenth of it.
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
    /// Where in the form its first anchor is.
    offset: usize,
    /// One behind the other; a short form has fewer, and one at least.
    anchors: [Option<Anchor>; STRIDE],
}

#[derive(Clone, Copy)]
struct Anchor {
    digest: u64,
    /// Its bit in the filter.
    bit: usize,
}

pub(super) struct Index {
    keys: Keys,
    filter: Box<[u64]>,
    /// So far from one window that is looked at to the next: every form has as many anchors.
    stride: usize,
    /// Forms, and where in them the anchor is.
    by_anchor: BTreeMap<u64, Vec<(Form, usize)>>,
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
        bytes.len().checked_sub(ANCHOR)?;
        // Letters and digits are the same in most encodings, so that forms share their anchors.
        let is_plain = |window: &[u8]| window.iter().all(u8::is_ascii_alphanumeric);
        let offset = bytes.windows(ANCHOR + STRIDE - 1).position(is_plain).unwrap_or_default();
        let anchor = |at: usize| {
            let window = bytes.get(at..)?.first_chunk::<ANCHOR>()?;
            Some(Anchor { digest: self.first.hash_one(window), bit: self.bit(*window) })
        };
        let anchors = std::array::from_fn(|number| anchor(offset + number));
        Some(Form { length: bytes.len(), whole: self.digest(bytes), offset, anchors })
    }

    fn bit(&self, window: [u8; ANCHOR]) -> usize {
        let product = u64::from_le_bytes(window).wrapping_mul(self.multiplier);
        usize::try_from(product >> (u64::BITS - FILTER_BITS)).unwrap_or_default()
    }
}

impl Index {
    pub(super) fn new<'a>(keys: Keys, forms: impl Iterator<Item = &'a Form> + Clone) -> Self {
        let mut filter = vec![0_u64; (1 << FILTER_BITS) / WORD].into_boxed_slice();
        let mut by_anchor: BTreeMap<u64, Vec<(Form, usize)>> = BTreeMap::new();
        let stride = forms.clone().map(|form| form.anchors.iter().flatten().count()).min().unwrap_or(1);
        for form in forms {
            for (anchor, number) in form.anchors.iter().flatten().take(stride).zip(0..) {
                if let Some(word) = filter.get_mut(anchor.bit / WORD) {
                    *word |= 1 << (anchor.bit % WORD);
                }
                by_anchor.entry(anchor.digest).or_default().push((*form, form.offset + number));
            }
        }
        Self { keys, filter, stride, by_anchor }
    }

    /// Where forms are, in the order of their anchors.
    pub(super) fn hits<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        let may_be_anchor = |window: &[u8; ANCHOR]| {
            let bit = self.keys.bit(*window);
            self.filter.get(bit / WORD).is_some_and(|word| word >> (bit % WORD) & 1 == 1)
        };
        let windows = bytes.array_windows().enumerate().step_by(self.stride);
        windows.filter(move |(_, window)| may_be_anchor(window)).flat_map(move |(at, window)| {
            let forms = self.by_anchor.get(&self.keys.first.hash_one(window)).map(Vec::as_slice);
            forms
                .unwrap_or_default()
                .iter()
                .filter_map(move |(form, offset)| found(&self.keys, form, bytes, at.checked_sub(*offset)?))
        })
    }
}

/// The place of a form that begins there, if it does.
fn found(keys: &Keys, form: &Form, bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let range = start..start.checked_add(form.length)?;
    let candidate = bytes.get(range.clone())?;
    (keys.digest(candidate) == form.whole).then_some(range)
}
