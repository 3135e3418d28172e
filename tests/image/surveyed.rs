//! Bases with more in them than a survey should look at.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use palmfarm::base::layout::Layout;
use palmfarm::base::survey::{survey, Volumes};
use palmfarm::edit::block::ReadAt;
use palmfarm::edit::tree::Volume;

use crate::common;
use crate::common::make::{self, FileBase, Image, Recipe};
use crate::TOOLS;

/// Without an index every look at a name reads a directory from its beginning.
const UNINDEXED: Recipe = Recipe {
    name: "unindexed",
    mkfs_ext4: &["-N", "12000", "-O", "64bit,metadata_csum,^dir_index"],
    ..make::NOBLE
};

/// A base, and how much is read of it.
struct Counted {
    base: FileBase,
    read: AtomicU64,
}

impl ReadAt for Counted {
    fn size(&self) -> u64 {
        self.base.size()
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        let len = u64::try_from(buf.len()).unwrap();
        self.read.fetch_add(len, Ordering::Relaxed);
        self.base.read_exact_at(offset, buf)
    }
}

fn units(top: &Path, count: usize) {
    for dir in ["lib", "etc", "usr/lib/systemd/system"] {
        fs::create_dir_all(top.join(dir)).unwrap();
    }
    fs::write(top.join("lib/ld-linux-armhf.so.3"), "").unwrap();
    for nth in 0..count {
        let name = format!("usr/lib/systemd/system/a-unit-with-a-name-{nth}.service");
        fs::write(top.join(name), "").unwrap();
    }
}

/// How many units a survey finds, and how many bytes it reads.
fn surveyed(image: &Image) -> (usize, u64) {
    let counted = Arc::new(Counted {
        base: FileBase::open(&image.path),
        read: AtomicU64::new(0),
    });
    let layout = Layout::read(&*counted).unwrap();
    let before = Instant::now();
    let facts = survey(&counted, &layout).unwrap();
    let read = counted.read.load(Ordering::Relaxed);
    println!(
        "{} units: {:?}, {read} bytes read",
        facts.units.len(),
        before.elapsed()
    );
    (facts.units.len(), read)
}

#[test]
fn a_directory_is_read_once_however_many_names_it_has() {
    if !common::have(TOOLS) {
        return;
    }
    let read_of = |count| {
        let (units, read) = surveyed(&UNINDEXED.make_with(|top| units(top, count)));
        assert_eq!(units, count);
        read
    };
    let (few, many) = (read_of(1000), read_of(8000));
    // 8000 entries take some 400 KiB.
    assert!(many < few + (4 << 20), "{few} and {many} bytes");
}

#[test]
fn all_names_of_a_directory_are_listed() {
    if !common::have(TOOLS) {
        return;
    }
    let recipe = Recipe {
        mkfs_ext4: &["-N", "30000"],
        ..make::NOBLE
    };
    let image = recipe.make_with(|top| {
        fs::create_dir(top.join("many")).unwrap();
        for nth in 0..20_000 {
            fs::write(top.join(format!("many/f{nth:05}")), "").unwrap();
        }
        let not_utf8 = std::ffi::OsStr::from_bytes(b"many/g\xff");
        fs::write(top.join(not_utf8), "").unwrap();
    });
    let base = Arc::new(FileBase::open(&image.path));
    let layout = Layout::read(&*base).unwrap();
    let volumes = Volumes::open(&base, &layout).unwrap();
    let many = palmfarm::edit::tree::CardPath::new("/many").unwrap();
    let names = volumes.reader(Volume::Root).names(Some(&many)).unwrap();
    assert_eq!(names.len(), 20_001);
    assert_eq!(names[19_999], "f19999");
    assert_eq!(names[20_000], "g\u{fffd}");
}

#[test]
fn a_directory_that_claims_to_be_large_is_not_looked_into() {
    if !common::have(TOOLS) {
        return;
    }
    for dir in ["/usr/lib/systemd/system", "/usr/lib", "/"] {
        let image = UNINDEXED.make_with(|top| units(top, 10));
        image.debugfs(&format!("sif {dir} size 0x4001000"));
        let base = Arc::new(FileBase::open(&image.path));
        let layout = Layout::read(&*base).unwrap();
        let error = survey(&base, &layout).unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(
            error,
            format!(
                "the root filesystem is damaged: the directory {dir} has 67112960 bytes, more than the 67108864 that are \
                 read"
            )
        );
    }
}
