//! Chains of clusters that do not end where they should.

use super::volume::FatVolume;
use super::*;
use crate::edit::block::Overlay;
use crate::edit::fs::{FsError, VolumeReader};
use crate::edit::tree::{Access, CardPath, Node};

/// Sectors of 512 bytes before the clusters, each of which has one: the first, 17 of table, one of root directory.
const DATA: usize = 19;
const CLUSTERS: u16 = 4200;

/// A FAT16 whose root has the file A.BIN of `size` bytes and the directory D, both from cluster 2 on, and whose table
/// has `links` from there on.
fn volume(size: u32, links: &[u16]) -> Vec<u8> {
    let mut image = vec![0; (DATA + usize::from(CLUSTERS)) * 512];
    let sectors = CLUSTERS + u16::try_from(DATA).unwrap();
    // Specification 1.03, "Boot Sector and BPB": a jump; 512 bytes a sector, 1 a cluster, 1 reserved, 1 table, 16
    // entries.
    image[..3].copy_from_slice(b"\xeb\x3c\x90");
    image[11..19].copy_from_slice(&[0, 2, 1, 1, 0, 1, 16, 0]);
    image[19..21].copy_from_slice(&sectors.to_le_bytes());
    image[21..24].copy_from_slice(&[0xF8, 17, 0]);
    image[510..512].copy_from_slice(b"\x55\xaa");
    for (at, link) in [0xFFF8, 0xFFFF].iter().chain(links).enumerate() {
        image[512 + at * 2..514 + at * 2].copy_from_slice(&link.to_le_bytes());
    }
    let root = (DATA - 1) * 512;
    for (at, name, attributes, size) in [
        (root, b"A       BIN", 0x20, size),
        (root + 32, b"D          ", 0x10, 0),
    ] {
        image[at..at + 11].copy_from_slice(name);
        image[at + 11] = attributes;
        image[at + 26] = 2;
        image[at + 28..at + 32].copy_from_slice(&u32::to_le_bytes(size));
    }
    // The entries of D: files without content, none of them the last.
    for entry in image[DATA * 512..].chunks_mut(32) {
        entry[..11].copy_from_slice(b"B       BIN");
    }
    image
}

/// Cluster 2 is followed by 3, and so on; the last one by `last`.
fn row(len: u16, last: u16) -> Vec<u16> {
    (3..2 + len).chain([last]).collect()
}

fn path(path: &str) -> CardPath {
    CardPath::new(path).unwrap()
}

#[test]
fn a_circle_is_noticed_soon() {
    for (len, back_to) in [(1, 2), (2, 2), (100, 2), (100, 90), (1000, 500), (4000, 4001)] {
        let image = volume(512, &row(len, back_to));
        let volume = FatVolume::open(&image).unwrap();
        let mut seen = 0;
        let mut chain = volume.chain(2);
        let error = loop {
            match chain.next().unwrap() {
                Ok(_) => seen += 1,
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(
            error,
            "the boot filesystem is damaged: the clusters from 2 on lead in a circle"
        );
        assert!(seen <= 3 * len, "{seen} clusters of {len}");
        assert!(chain.next().is_none());
    }
}

#[test]
fn no_more_of_a_chain_is_followed_than_is_read() {
    // What is read does not reach the circle, nor the cluster that is free; what is longer does.
    for (last, far) in [(2, "lead in a circle"), (0, "is in use and free at once")] {
        let links = row(10, last);
        let read = |size| {
            let reader = FatReader::open(volume(size, &links)).unwrap();
            reader.read(&path("/a.bin"), 1 << 20)
        };
        assert_eq!(read(9 * 512).unwrap().unwrap().len(), 9 * 512);
        let error = read(31 * 512).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(far), "{error}");
    }
    let reader = FatReader::open(volume(3 * 512, &row(2, 0xFFFF))).unwrap();
    let error = reader.read(&path("/a.bin"), 1 << 20).unwrap_err();
    assert!(error.to_string().ends_with("more than its clusters"), "{error}");
}

#[test]
fn a_directory_ends_within_its_limits() {
    let listed = |links: &[u16]| {
        FatReader::open(volume(512, links))
            .unwrap()
            .names(Some(&path("/d")))
    };
    assert_eq!(listed(&row(4096, 0xFFFF)).unwrap().len(), 65_536);
    let error = listed(&row(4097, 0xFFFF)).unwrap_err().to_string();
    assert!(error.contains("more than 65536 entries"), "{error}");
    let error = listed(&row(50, 20)).unwrap_err().to_string();
    assert!(error.contains("lead in a circle"), "{error}");
}

#[test]
fn a_file_with_clusters_that_it_cannot_need_is_not_replaced() {
    let written = |size, links: &[u16]| {
        let plan = Node::File {
            content: (*b"new").into(),
            access: Access::root(0o644),
        };
        let mut alone = volume(size, links);
        alone[(DATA - 1) * 512 + 32] = 0;
        let overlay = Overlay::new(alone);
        FatWriter::open(&overlay, 1_700_000_000)?.apply(&[(&path("/a.bin"), &plan)])?;
        FatReader::open(&overlay)?.read(&path("/a.bin"), 1 << 20)
    };
    let new = Some(b"new".to_vec());
    assert_eq!(written(9 * 512 + 1, &row(10, 0xFFFF)).unwrap(), new);
    match written(9 * 512, &row(10, 0xFFFF)) {
        Err(FsError::Damaged { what, .. }) => assert_eq!(
            what,
            "/A.BIN has more clusters than 9, which is what 4608 bytes take"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_one_place_or_two_files() {
    let names = [
        "K", "k", "\u{212a}", "s", "\u{17f}", "ss", "\u{df}", "\u{1e9e}", "i", "\u{131}", "\u{130}",
        "\u{e5}", "\u{212b}", "a\u{30a}", "\u{b5}", "\u{3bc}", "\u{1c6}", "\u{1c5}",
    ];
    let node = |text: &str| Node::File {
        content: text.as_bytes().into(),
        access: Access::root(0o644),
    };
    for (nth, first) in names.iter().enumerate() {
        for second in &names[nth + 1..] {
            let mut empty = volume(0, &[0xFFFF]);
            empty[(DATA - 1) * 512..DATA * 512].fill(0);
            empty[512 + 4..512 + 6].fill(0);
            let overlay = Overlay::new(empty);
            let paths = [path(&format!("/{first}.txt")), path(&format!("/{second}.txt"))];
            let (one, two) = (node("one"), node("two"));
            let written = FatWriter::open(&overlay, 1_700_000_000)
                .unwrap()
                .apply(&[(&paths[0], &one), (&paths[1], &two)]);
            let is_one = folded(paths[0].as_str()) == folded(paths[1].as_str());
            match written {
                Err(FsError::SamePlace { .. }) => assert!(is_one, "{first} {second}"),
                Err(error) => panic!("{first} {second}: {error:?}"),
                Ok(()) => {
                    assert!(!is_one, "{first} {second}");
                    let reader = FatReader::open(&overlay).unwrap();
                    let read = |path| reader.read(path, 10).unwrap().unwrap();
                    assert_eq!(
                        (read(&paths[0]), read(&paths[1])),
                        (b"one".to_vec(), b"two".to_vec())
                    );
                }
            }
        }
    }
}
