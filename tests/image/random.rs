//! Random edits of random filesystems, through our writer and through the kernel: both must leave the same tree, and
//! e2fsck must find both whole. What we refuse is refused before anything was written.
//!
//! `PALMFARM_EXT4_CASES` is the number of edit lists for each shape of filesystem; each list has a seed.

use crate::common;
use crate::common::make::{self, Image, Recipe};
use crate::common::oracle::{self, SeenKind, Walk};
use crate::drawn::{draw, fill, Random};
use crate::kernel::{by_kernel, mounted};
use crate::layouts::{assert_same, expected};
use crate::{edits_of, TOOLS};

/// Edit lists for each shape if that is not set.
const CASES: u32 = 2;

/// Without the times of directories, which the kernel takes from its clock.
fn undated(mut walk: Walk) -> Walk {
    for seen in walk.values_mut().filter(|seen| seen.kind == SeenKind::Dir) {
        seen.mtime = 0;
    }
    walk
}

/// One edit list on one image; whether it was taken.
fn compare(image: &Image, before: &Walk, seed: u64, block: usize) -> bool {
    let tree = draw(before, &mut Random(seed), block);
    let Ok(edits) = edits_of(image, &tree) else {
        return false;
    };
    let (ours, kernel) = (image.copy(), image.copy());
    ours.apply(&edits);
    oracle::assert_root_whole(&ours);
    let done = {
        let mounted = mounted(&kernel);
        by_kernel(&mounted.at, &tree)
    };
    let found = oracle::kernel_walk(&ours);
    assert_same(&found, &expected(before, &tree));
    match done {
        Ok(()) => assert_same(&undated(found), &undated(oracle::kernel_walk(&kernel))),
        // The kernel reserves room for later writes, and may run out before we do.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}"),
    }
    true
}

fn check(recipe: &Recipe, block: usize) {
    if !common::have(TOOLS) {
        return;
    }
    if !common::have_root() {
        return;
    }
    let given = std::env::var("PALMFARM_EXT4_CASES");
    let cases = given.ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let begin = u64::from(recipe.name.bytes().map(u32::from).sum::<u32>());
    let (mut taken, mut refused) = (0_u32, 0_u32);
    let mut image = None;
    for case in 0..cases {
        let seed = begin * 1_000_003 + u64::from(case) * 7919 + 1;
        // A new filesystem now and then; every third is nearly full.
        if case % 8 == 0 {
            let made = recipe.make_with(|_| {});
            let mounted = mounted(&made);
            fill(&mounted.at, &mut Random(seed), case % 24 == 16);
            drop(mounted);
            oracle::assert_root_whole(&made);
            let before = oracle::kernel_walk(&made);
            image = Some((made, before));
        }
        let (made, before) = image.as_ref().unwrap();
        println!("{}: seed {seed}", recipe.name);
        if compare(made, before, seed, block) {
            taken += 1;
        } else {
            refused += 1;
        }
    }
    println!("{}: {taken} edit lists compared, {refused} refused", recipe.name);
}

macro_rules! shapes {
    ($($test:ident: $recipe:ident, $block:literal;)*) => {$(
        #[test]
        fn $test() {
            check(&make::$recipe, $block);
        }
    )*};
}

shapes! {
    random_edits_of_bionic: BIONIC, 4096;
    random_edits_of_jammy: JAMMY, 4096;
    random_edits_of_noble: NOBLE, 4096;
    random_edits_of_resolute: RESOLUTE, 4096;
    random_edits_of_blocks_of_1_kib: SMALL_BLOCKS, 1024;
    random_edits_of_blocks_of_1_kib_without_checksums: SMALL_BLOCKS_PLAIN, 1024;
    random_edits_of_blocks_of_2_kib: MIDDLE_BLOCKS, 2048;
    random_edits_of_inodes_of_128_bytes: SMALL_INODES, 4096;
}
