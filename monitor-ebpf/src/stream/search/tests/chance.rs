//! How often chance deceives the search: packets that hold no frames, by the ten thousand here, and by
//! the hundred million with `CLOSEWATCH_PACKETS=100000000` in a release build.
//!
//! What is counted: a direction that is followed again; a Close frame that a FIN right behind the packet
//! would confirm; candidates whose directions both show frames, each against a partner of the same kind.

use std::env;

use flate2::{Compression, write::DeflateEncoder};
use std::io::Write as _;

use super::{Lane, MISSES_MAX};

/// Bytes of which packets are cut.
const POOL: usize = 1 << 21;

/// A generator of numbers that look like chance and are the same every time (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        ((self.next() >> 32) * bound) >> 32
    }
}

fn random(chance: &mut Chance) -> Vec<u8> {
    (0..POOL / 8)
        .flat_map(|_| chance.next().to_le_bytes())
        .collect()
}

fn ascii(chance: &mut Chance) -> Vec<u8> {
    (0..POOL).map(|_| b' ' + chance.below(95) as u8).collect()
}

fn json(chance: &mut Chance) -> Vec<u8> {
    let words = [
        "price", "volume", "état", "日本", "user", "id", "Zürich", "null",
    ];
    let mut text = String::with_capacity(POOL + 200);
    while text.len() < POOL {
        let word = |chance: &mut Chance| words[chance.below(words.len() as u64) as usize];
        let line = format!(
            "{{\"{}\":{},\"{}\":\"{}\",\"list\":[{},{}]}}\n",
            word(chance),
            chance.below(1 << 20),
            word(chance),
            word(chance),
            chance.below(1000),
            chance.below(1000),
        );
        text.push_str(&line);
    }
    text.into_bytes()
}

/// Records of application data (RFC 8446 section 5.2).
fn tls(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = random(chance);
    let mut at = 0;
    while at + 5 < bytes.len() {
        let length = 40 + chance.below(16_384) as usize;
        bytes[at..at + 5].copy_from_slice(&[23, 3, 3, (length >> 8) as u8, length as u8]);
        at += 5 + length;
    }
    bytes
}

fn compressed(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < POOL {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&json(chance)).expect("to memory");
        bytes.extend(encoder.finish().expect("to memory"));
    }
    bytes
}

#[derive(Default)]
struct Counts {
    followed: u64,
    by_chain: u64,
    by_tail: u64,
    adopted: u64,
}

/// Mostly short, because short packets deceive most.
fn packet<'a>(pool: &'a [u8], chance: &mut Chance) -> &'a [u8] {
    let length = match chance.below(4) {
        0 => 1 + chance.below(8),
        1 | 2 => 2 + chance.below(200),
        _ => 200 + chance.below(1248),
    } as usize;
    let at = chance.below((pool.len() - length) as u64) as usize;
    &pool[at..at + length]
}

fn measure(pool: &[u8], packets: u64, chance: &mut Chance) -> Counts {
    let mut counts = Counts::default();
    let mut lanes = [false, true].map(Lane::lost);
    let mut pair = [Lane::unseen(), Lane::unseen()];
    for number in 0..packets {
        let packet = packet(pool, chance);
        let lane = &mut lanes[(number & 1) as usize];
        lane.pass(packet);
        if lane.is_followed() {
            counts.followed += 1;
            *lane = Lane::lost(number & 1 != 0);
        } else if lane.stream.search.close == super::BY_CHAIN {
            counts.by_chain += 1;
        } else if lane.stream.search.close == super::BY_TAIL {
            counts.by_tail += 1;
        }
        let lane = &mut pair[chance.below(2) as usize];
        lane.pass(packet);
        lane.stream.stay_unseen();
        let [one, other] = &pair;
        if one.stream.shows_frames()
            && other.stream.shows_frames()
            && one.stream.is_masked() != other.stream.is_masked()
        {
            counts.adopted += 1;
            pair = [Lane::unseen(), Lane::unseen()];
        }
        if pair
            .iter()
            .any(|lane| lane.stream.search.misses >= MISSES_MAX)
        {
            pair = [Lane::unseen(), Lane::unseen()];
        }
    }
    counts
}

#[test]
fn chance_deceives_rarely() {
    let packets: u64 = env::var("CLOSEWATCH_PACKETS").map_or(50_000, |text| {
        text.parse().expect("CLOSEWATCH_PACKETS is a number")
    });
    type Make = fn(&mut Chance) -> Vec<u8>;
    let kinds: [(&str, Make); 5] = [
        ("random", random),
        ("ascii", ascii),
        ("json", json),
        ("tls", tls),
        ("compressed", compressed),
    ];
    eprintln!("{packets} packets of each kind: followed, Close by chain, Close by tail, adopted");
    for (name, make) in kinds {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        let pool = make(&mut chance);
        let counts = measure(&pool, packets, &mut chance);
        let rate = |count: u64| count as f64 / packets as f64;
        eprintln!(
            "{name:12}{:10.1e}{:10.1e}{:10.1e}{:10.1e}",
            rate(counts.followed),
            rate(counts.by_chain),
            rate(counts.by_tail),
            rate(counts.adopted),
        );
        assert_eq!(counts.adopted, 0, "{name}");
        assert!(rate(counts.followed) < 1e-5, "{name}: {}", counts.followed);
        assert!(rate(counts.by_chain) < 1e-4, "{name}: {}", counts.by_chain);
        assert!(rate(counts.by_tail) < 3e-4, "{name}: {}", counts.by_tail);
    }
}
