//! Changes to bytes, of the kinds that find mistakes in decoders, from a stream of numbers that a seed decides.

/// Bytes that stand at borders: of RLP's headers, of integers.
const BORDERS: [u8; 16] =
    [0x00, 0x01, 0x7f, 0x80, 0x81, 0xa0, 0xb7, 0xb8, 0xbf, 0xc0, 0xc1, 0xf7, 0xf8, 0xf9, 0xfe, 0xff];

/// Numbers that look random; the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `sides`; 0 where there are none.
    pub fn below(&mut self, sides: usize) -> usize {
        usize::try_from(self.roll() % (sides.max(1) as u64)).unwrap_or(0)
    }
}

/// The input, changed in a few places. `other` is one to take parts from.
pub fn mutate(dice: &mut Dice, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.below(4) {
        change(dice, &mut bytes, other);
    }
    bytes
}

fn change(dice: &mut Dice, bytes: &mut Vec<u8>, other: &[u8]) {
    let place = dice.below(bytes.len());
    let length = 1 + dice.below(40);
    let end = bytes.len().min(place + length);
    match dice.below(9) {
        _ if bytes.is_empty() => bytes.push(BORDERS[dice.below(BORDERS.len())]),
        0 => bytes[place] ^= 1 << dice.below(8),
        1 => bytes[place] = BORDERS[dice.below(BORDERS.len())],
        2 => bytes[place] = bytes[place].wrapping_add(if dice.below(2) == 0 { 1 } else { 255 }),
        3 => bytes.truncate(place),
        4 => drop(bytes.drain(place..end)),
        5 => {
            let copied = bytes[place..end].to_vec();
            let at = dice.below(bytes.len() + 1);
            bytes.splice(at..at, copied);
        }
        6 => bytes.insert(place, BORDERS[dice.below(BORDERS.len())]),
        7 => {
            let from = dice.below(other.len());
            let part = &other[from..other.len().min(from + length)];
            bytes.splice(place..end, part.iter().copied());
        }
        _ => bytes[place..end].fill(BORDERS[dice.below(BORDERS.len())]),
    }
}
