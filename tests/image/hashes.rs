//! Directories with an index, under each hash that ext4 has: names beyond ASCII have another place if hashes are unsigned,
//! as on filesystems that were made on a Pi.

use std::fs;
use std::sync::Arc;

use palmfarm::base::layout::Layout;
use palmfarm::base::survey::Volumes;
use palmfarm::edit::tree::{Tree, Volume};

use crate::common::make::{self, FileBase, Image, Recipe};
use crate::common::oracle::{self, SeenKind};
use crate::common::{self, attempt, is_root, run};
use crate::refused::refusal;
use crate::{edited, file, path, root, TOOLS};

/// Bits of `s_flags`: signed, unsigned.
const SIGNS: [&str; 2] = ["1", "2"];

fn name(nth: usize) -> String {
    format!("/certs/autorité-Főtanúsítvány-{nth}.crt")
}

/// A filesystem with a large directory of names beyond ASCII.
fn crowded(recipe: Recipe) -> Image {
    recipe.make_with(|root| {
        fs::create_dir(root.join("certs")).unwrap();
        for nth in 0..1500 {
            fs::write(root.join(&name(nth)[1..]), format!("{nth}\n")).unwrap();
        }
    })
}

/// A copy of `crowded` that has an index over its directory. The hashes are `algorithm`, with the sign `flags`.
fn hashed(crowded: &Image, algorithm: &str, flags: &str) -> Image {
    let image = crowded.copy();
    image.change(image.root, |partition| {
        run("tune2fs", &["-E", &format!("hash_alg={algorithm}"), partition]);
        run("debugfs", &["-w", "-R", &format!("ssv flags {flags}"), partition]);
        // It exits with 1 after it has made the indexes anew.
        attempt("e2fsck", &["-fyD", partition]);
    });
    image
}

/// What is read of `nth` on `image`.
fn read(image: &Image, nth: usize) -> Option<Vec<u8>> {
    let base = Arc::new(FileBase::open(&image.path));
    let layout = Layout::read(&*base).unwrap();
    let volumes = Volumes::open(&base, &layout).unwrap();
    volumes.reader(Volume::Root).read(&path(&name(nth)), 100).unwrap()
}

fn plan() -> Tree {
    let names: Vec<String> = (1490..1600).map(name).collect();
    root(names.iter().map(|name| (name.as_str(), file(b"new\n", 0o644))))
}

#[test]
fn names_are_found_and_written_under_every_hash() {
    if !common::have(TOOLS) || !common::have(&["tune2fs"]) {
        return;
    }
    for recipe in [make::JAMMY, make::NOBLE] {
        let crowded = crowded(recipe);
        for algorithm in ["half_md4", "tea", "legacy"] {
            for flags in SIGNS {
                let what = format!("{} {algorithm} {flags}", recipe.name);
                let image = hashed(&crowded, algorithm, flags);
                for nth in [0, 7, 77, 777, 1499] {
                    let expect = format!("{nth}\n").into_bytes();
                    assert_eq!(read(&image, nth), Some(expect), "{what}: {nth}");
                }
                assert_eq!(read(&image, 1500), None, "{what}");
                let after = edited(&image, &plan());
                oracle::assert_whole(&after);
                assert_eq!(read(&after, 1495).unwrap(), b"new\n", "{what}");
                if is_root() {
                    let walk = oracle::kernel_walk(&after);
                    for nth in [0, 1489, 1490, 1599] {
                        let expect: &[u8] = if nth < 1490 { b"" } else { b"new\n" };
                        let SeenKind::File(content) = &walk[&name(nth)].kind else {
                            panic!("{what}: {nth}");
                        };
                        assert!(content.ends_with(expect), "{what}: {nth}");
                    }
                }
            }
        }
    }
    if !is_root() {
        common::skipped_in_part("what the kernel sees: it needs root");
    }
}

#[test]
fn hashes_without_a_sign_are_refused() {
    if !common::have(TOOLS) || !common::have(&["tune2fs"]) {
        return;
    }
    let image = hashed(&crowded(make::JAMMY), "half_md4", "1");
    image.debugfs("ssv flags 0");
    assert_eq!(
        refusal(&image, &plan()),
        "the root filesystem has indexed directories, and does not say whether their hashes are signed (dir_index)"
    );
    // As the hint says.
    image.change(image.root, |partition| {
        attempt("e2fsck", &["-fy", partition]);
    });
    oracle::assert_whole(&edited(&image, &plan()));
}
