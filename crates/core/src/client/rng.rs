//! The client's own source of randomness, so that a run can be repeated from its seed.

use syncline_protocol::{ClientId, OpId, RowId, Timestamp, row_id_v7};

/// xoshiro256++ by Blackman and Vigna (<https://prng.di.unimi.it>), seeded with bytes from the platform's generator.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    state: [u64; 4],
}

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        let mut state = [0_u64; 4];
        for (word, bytes) in state.iter_mut().zip(seed.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        if state == [0; 4] {
            // The one state the generator never leaves.
            state = [0x9e37_79b9_7f4a_7c15; 4];
        }
        Self { state }
    }

    pub(crate) const fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c2, d2) = (c ^ a, d ^ b);
        self.state = [a ^ d2, b ^ c2, c2 ^ (b << 17), d2.rotate_left(45)];
        result
    }

    /// A number from 0 to `max`, both included. The bias of the remainder is below `max / 2^64`.
    pub(crate) const fn up_to(&mut self, max: u64) -> u64 {
        match max.checked_add(1) {
            Some(count) => self.next() % count,
            None => self.next(),
        }
    }

    pub(crate) fn op_id(&mut self) -> OpId {
        OpId::from_bytes(self.bytes())
    }

    pub(crate) fn client_id(&mut self) -> ClientId {
        ClientId::from_bytes(self.bytes())
    }

    pub(crate) fn row_id(&mut self, now: Timestamp) -> RowId {
        let mut random = [0; 10];
        for (byte, source) in random.iter_mut().zip(self.bytes()) {
            *byte = source;
        }
        row_id_v7(now, random)
    }

    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for chunk in bytes.as_chunks_mut::<8>().0 {
            *chunk = self.next().to_le_bytes();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_the_numbers_of_the_reference_implementation() {
        let mut seed = [0; 32];
        for (index, byte) in [1_u8, 2, 3, 4].into_iter().enumerate() {
            seed[index * 8] = byte;
        }
        let mut rng = Rng::new(seed);
        assert_eq!([rng.next(), rng.next(), rng.next()], [41_943_041, 58_720_359, 3_588_806_011_781_223]);
        assert_ne!(Rng::new([0; 32]).next(), 0);
    }
}
