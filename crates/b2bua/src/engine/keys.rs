//! The one source of randomness: SRTP keys, passwords of ICE, session numbers and names in RTCP from a generator seeded by the shell.
//! Owns the generator; knows no call.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sdp::{CryptoLine, ICE_SEED_BYTES, Ice, KeySalt, Lifetime, Suite};

/// Lifetime Lync writes, well below the limit of either counter.
const LIFETIME: Lifetime = Lifetime::PowerOfTwo(31);

/// Fresh keys on demand.
pub(crate) struct KeySource(StdRng);

impl KeySource {
    /// A generator that repeats itself for the same seed only.
    pub fn new(seed: [u8; 32]) -> Self {
        Self(StdRng::from_seed(seed))
    }

    /// A crypto line with a key that was never used before.
    pub fn crypto_line(&mut self, tag: u32, suite: Suite) -> Option<CryptoLine> {
        let mut bytes = vec![0; suite.key_bytes() + suite.salt_bytes()];
        self.0.fill_bytes(&mut bytes);
        let key = KeySalt::from_bytes(suite, &bytes);
        bytes.fill(0);
        let mut line = CryptoLine::new(tag, suite, key?);
        line.lifetime = Some(LIFETIME);
        Some(line)
    }

    /// Name and password for the checks of a peer, spelled as it spells its own.
    pub fn ice(&mut self, theirs: &Ice) -> Ice {
        let mut seed = [0; ICE_SEED_BYTES];
        self.0.fill_bytes(&mut seed);
        let ours = Ice::ours(theirs, &seed);
        seed.fill(0);
        ours
    }

    /// A number for `o=`.
    pub fn session_id(&mut self) -> u64 {
        self.0.next_u64() >> 2
    }

    /// What RTCP of one call is made from.
    pub fn reports(&mut self, clock_hz: u32) -> relay::Reports {
        let mut name = [0; 12];
        self.0.fill_bytes(&mut name);
        relay::Reports { name, seed: self.0.next_u64(), clock_hz }
    }

    /// A number below `bound` (at least 1).
    pub fn below(&mut self, bound: u32) -> u32 {
        self.0.next_u32() % bound.max(1)
    }
}
