//! The fuzzer's entry points on stable Rust: what they begin with, what was once found, and some hundred changes of
//! each, the same on every run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "files of the fuzzer, and a test fails by panicking"
)]

use palmfarm::base::source::{BaseImage, CacheDir, Expect};
use palmfarm::edit::block::ReadAt;

#[path = "../../fuzz/entries.rs"]
mod entries;
#[path = "../../fuzz/seeds.rs"]
mod seeds;

/// How often each input is changed; more with `PALMFARM_HOSTILE_ROUNDS`.
fn rounds() -> u32 {
    let given = std::env::var("PALMFARM_HOSTILE_ROUNDS");
    given.ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// xorshift32 (Marsaglia 2003).
struct Random(u32);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        usize::try_from(self.0).unwrap() % most.max(1)
    }

    fn byte(&mut self) -> u8 {
        // Mistakes are at the ends of a range.
        match self.below(4) {
            0 => 0,
            1 => 0xff,
            _ => self.below(256).to_le_bytes()[0],
        }
    }
}

/// Some bytes changed, doubled or removed, or the end cut off.
fn change(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + 1 + random.below(8)).min(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at.min(end)..end)),
            2 => {
                let piece = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes[at.min(end)..end]
                .iter_mut()
                .for_each(|byte| *byte = random.byte()),
        }
    }
    bytes
}

/// Run `name` on all of its inputs and their changes.
fn smoke(name: &str) {
    let (_, entry) = entries::ENTRIES.iter().find(|(entry, _)| *entry == name).unwrap();
    let seeds = seeds::seeds(name);
    assert!(!seeds.is_empty());
    let mut runs = 0_u32;
    for seed in &seeds {
        entry(seed);
        let mut random = Random(1 + u32::try_from(seed.len()).unwrap());
        for _ in 0..rounds() {
            entry(&change(seed, &mut random));
            runs += 1;
        }
    }
    println!("{name}: {} inputs, {runs} changes of them", seeds.len());
}

macro_rules! smoke {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            smoke(stringify!($name));
        })*

        #[test]
        fn every_entry_point_is_tried() {
            let tried = [$(stringify!($name)),*];
            for (name, _) in entries::ENTRIES {
                assert!(tried.contains(name), "{name}");
            }
        }
    };
}

/// A stream that ends within its block moves neither input nor output, which must be noticed.
#[test]
fn a_block_that_ends_early_is_refused() {
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base.img.xz");
        std::fs::write(&path, seeds::xz_that_ends_early()).unwrap();
        let cancel = palmfarm::progress::Cancel::new();
        let observer = palmfarm::progress::Observer {
            progress: &palmfarm::progress::Silent,
            cancel: &cancel,
        };
        let image = BaseImage::open(&path, Expect::Anything, &CacheDir::none(), observer).unwrap();
        assert_eq!(image.size(), 4 << 20);
        let error = image.read_exact_at(0, &mut [0; 512]).unwrap_err().to_string();
        done.send(error).unwrap();
    });
    let error = waiting.recv_timeout(std::time::Duration::from_secs(60));
    assert_eq!(
        error.as_deref(),
        Ok("the .xz block at 12 for byte 0 of the image is not as long as the index says")
    );
}

smoke!(farm, table, xz, fat, ext4, overlay, firstboot, daemon, sums, keys, mdns);
