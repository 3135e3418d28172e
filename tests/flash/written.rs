//! A flashed card and a built image are the same thing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use crate::common::disk::Disk;
use crate::common::{has, run, skipped_in_part};
use crate::{exits, flash, folder, is_ready, palmfarm, told, MIB};

const CARD: u64 = 256 << 20;

/// The bytes `block_size × (first to last)` of each range of a block map.
fn ranges(bmap: &str) -> Vec<std::ops::Range<usize>> {
    let text = fs::read_to_string(bmap).unwrap();
    let found: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("<Range"))
        .map(|line| {
            let (_, range) = line.split_once('>').unwrap();
            let range = range.split('<').next().unwrap().trim();
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let block = |text: &str| text.trim().parse::<usize>().unwrap();
            block(first) * 4096..(block(last) + 1) * 4096
        })
        .collect();
    assert!(!found.is_empty(), "{text}");
    found
}

/// Fill the whole disk, so that skipped blocks differ from written ones.
fn fill(disk: &Disk, byte: u8) {
    let size = usize::try_from(fs::metadata(disk.file()).unwrap().len()).unwrap();
    fs::write(disk.file(), vec![byte; size]).unwrap();
}

/// The last event that the tool printed.
fn last_event(text: &str) -> Value {
    let line = text.lines().rfind(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(line).unwrap()
}

#[test]
fn a_card_holds_what_build_makes() {
    if !is_ready() {
        return;
    }
    let dir = folder();
    exits(dir.path(), &["build", "farm.yaml", "-o", "palm.img"], 0);
    let image = fs::read(dir.path().join("palm.img")).unwrap();
    let bmap = dir.path().join("palm.img.bmap");
    let disk = Disk::new(CARD);
    fill(&disk, 0x5a);
    let arguments = flash("farm.yaml", disk.node(), &["--json"]);
    let text = exits(dir.path(), &arguments, 0);
    let event = last_event(&text);
    assert_eq!(event["event"], "flashed");
    // Progress counts what is written, and not what is skipped.
    let progress = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .rfind(|event| event["event"] == "progress" && event["phase"] == "write")
        .unwrap();
    assert_eq!(progress["done"], event["written"]);
    assert_eq!(progress["total"], event["written"]);
    assert_eq!(event["verified"], event["written"]);
    assert!(event["files"].as_u64().unwrap() > 10, "{event}");

    let card = fs::read(disk.file()).unwrap();
    let mut mapped = 0;
    for range in ranges(bmap.to_str().unwrap()) {
        let range = range.start..range.end.min(image.len());
        mapped += range.len();
        assert!(card[range.clone()] == image[range.clone()], "{range:?}");
    }
    assert_eq!(u64::try_from(mapped).unwrap(), event["written"].as_u64().unwrap());
    // Free space was left as it was, or this test shows nothing.
    let skipped = image.len() - mapped;
    assert_eq!(
        u64::try_from(skipped).unwrap(),
        event["skipped"].as_u64().unwrap()
    );
    let kept: usize = card[..image.len()]
        .iter()
        .map(|byte| usize::from(*byte == 0x5a))
        .sum();
    // All but the places of the probe, whose stamps were removed again.
    assert!(
        kept + 64 * 4096 >= skipped && skipped > 50_000_000,
        "{kept} of {skipped}"
    );

    // The filesystems on the card are whole, free space or not.
    exits(dir.path(), &["inspect", disk.node()], 0);
    let seen = exits(dir.path(), &["inspect", disk.node(), "root:/etc/motd"], 0);
    assert!(seen.contains("welcome"), "{seen}");
    judge(dir.path(), &card[..image.len()]);

    // With --full, every byte of the image is on the card, and none beyond it is changed but for the probe's single
    // stamps and its last run of 8 MiB, which covers the place where what the card was may still be told.
    let arguments = flash("palm.img", disk.node(), &["--full"]);
    exits(dir.path(), &arguments, 0);
    let card = fs::read(disk.file()).unwrap();
    assert!(card[..image.len()] == image[..]);
    let beyond = &card[image.len()..];
    let (before, last_run) = beyond.split_at(beyond.len() - (8 << 20));
    let changed: Vec<&[u8]> = before
        .chunks(4096)
        .filter(|block| block.iter().any(|byte| *byte != 0x5a))
        .collect();
    assert!(
        changed.len() < 64 && changed.iter().all(|block| block.iter().all(|byte| *byte == 0)),
        "{} blocks beyond the image were changed",
        changed.len()
    );
    assert!(last_run.iter().all(|byte| *byte == 0));
}

#[test]
fn whoever_flashed_a_farm_is_told_what_comes_next() {
    if !is_ready() {
        return;
    }
    let dir = folder();
    // The built-in base by another name: from `mini` itself no Pi boots, and nobody is told to try.
    fs::write(dir.path().join("base.img.xz"), palmfarm::base::mini::MINI).unwrap();
    let farm = "farm: 1\nbase: base.img.xz\nhostname: palm\n\
         users: [{name: nina, ssh_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV x\"]}]\n\
         network: {ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1, dns: [192.0.2.1]}}\n";
    fs::write(dir.path().join("farm.yaml"), farm).unwrap();
    let disk = Disk::new(CARD);
    let text = exits(dir.path(), &flash("farm.yaml", disk.node(), &[]), 0);
    let inspect = format!("palmfarm inspect {}", disk.node());
    for words in [
        "plug in: ",
        "wait: ",
        "log in: ssh nina@192.0.2.10",
        "watch: ",
        &inspect,
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let event = last_event(&exits(
        dir.path(),
        &flash("farm.yaml", disk.node(), &["--json"]),
        0,
    ));
    assert_eq!(event["next"]["address"], "192.0.2.10");
    assert_eq!(event["next"]["inspect"], inspect);
    // Of an image, palmfarm does not know what comes next.
    exits(dir.path(), &["build", "farm.yaml", "-o", "palm.img"], 0);
    let text = exits(dir.path(), &flash("palm.img", disk.node(), &[]), 0);
    assert!(
        text.contains("can be taken out") && !text.contains("log in"),
        "{text}"
    );
}

/// e2fsck and fsck.vfat on the two partitions of a card of the built-in base.
fn judge(dir: &Path, card: &[u8]) {
    let sector = |at: usize| u32::from_le_bytes(card[at..at + 4].try_into().unwrap());
    for (entry, program, options) in [
        (446, "fsck.vfat", &["-n"][..]),
        (462, "e2fsck", &["-f", "-n"][..]),
    ] {
        if !has(program) {
            skipped_in_part(format!("{program} is not installed"));
            continue;
        }
        let start = usize::try_from(sector(entry + 8)).unwrap() * 512;
        let len = usize::try_from(sector(entry + 12)).unwrap() * 512;
        let part = dir.join(program);
        fs::write(&part, &card[start..start + len]).unwrap();
        let path = part.to_str().unwrap();
        run(program, &[options, &[path]].concat());
    }
}

#[test]
fn an_image_of_any_packing_is_written() {
    if !is_ready() {
        return;
    }
    let dir = folder();
    exits(dir.path(), &["build", "farm.yaml", "-o", "palm.img"], 0);
    let image = fs::read(dir.path().join("palm.img")).unwrap();
    for name in ["palm.img.xz", "palm.img.zst"] {
        exits(dir.path(), &["build", "farm.yaml", "-o", name], 0);
        let disk = Disk::new(CARD);
        let arguments = flash(name, disk.node(), &["--full"]);
        exits(dir.path(), &arguments, 0);
        let card = fs::read(disk.file()).unwrap();
        assert!(card[..image.len()] == image[..], "{name}");
    }
}

#[test]
fn an_image_must_have_the_digest_that_was_given() {
    if !is_ready() {
        return;
    }
    let dir = folder();
    exits(dir.path(), &["build", "farm.yaml", "-o", "palm.img"], 0);
    let disk = Disk::new(CARD);
    let before = disk.hash();
    let with_digest = |sha256: &str| {
        let arguments = flash("palm.img", disk.node(), &["--sha256", sha256]);
        palmfarm(dir.path(), &arguments).output().unwrap()
    };
    let wrong = with_digest(&"0".repeat(64));
    assert_eq!(wrong.status.code(), Some(1), "{}", told(&wrong));
    assert_eq!(disk.hash(), before);
    let none = with_digest("twelve");
    assert_eq!(none.status.code(), Some(2), "{}", told(&none));
    let sum = run("sha256sum", &[dir.path().join("palm.img").to_str().unwrap()]);
    let right = with_digest(sum.split(' ').next().unwrap());
    assert_eq!(right.status.code(), Some(0), "{}", told(&right));
    assert_ne!(disk.hash(), before);
}

#[test]
fn a_pool_that_the_card_cannot_hold_is_refused_before_a_byte_is_written() {
    if !is_ready() {
        return;
    }
    let dir = folder();
    let farm = |size: &str| {
        let text = format!(
            "{}lxd: {{storage: {{driver: btrfs, size: {size}}}}}\n",
            crate::FARM
        );
        fs::write(dir.path().join("farm.yaml"), text).unwrap();
    };
    let disk = Disk::new(8 * 1024 * MIB);
    // A sparse file: one that has no block was never written to.
    let blocks = || fs::metadata(disk.file()).unwrap().blocks();
    let arguments = flash("farm.yaml", disk.node(), &[]);
    farm("15GB");
    let text = exits(dir.path(), &arguments, 1);
    assert!(
        text.contains("15.0 GB") && text.contains("hint: write `size:"),
        "{text}"
    );
    assert_eq!(blocks(), 0);
    farm("5GB");
    exits(dir.path(), &arguments, 0);
    assert_ne!(blocks(), 0);
}

/// Change the only entry of the partition table of `image`, or the one after it: type, first sector and sectors.
fn put_entry(image: &mut [u8], nth: usize, (kind, start, sectors): (u8, u32, u32)) {
    let at = 446 + 16 * nth;
    image[at + 4] = kind;
    image[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
    image[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
}

#[test]
fn an_image_with_an_odd_table_is_written_whole() {
    if !is_ready() {
        return;
    }
    let dir = folder();
    let path = crate::noise(dir.path(), 16 * MIB);
    let mut image = fs::read(&path).unwrap();
    // As isohybrid does it: one partition over everything, another within it.
    put_entry(&mut image, 0, (0x17, 0, 32_768));
    put_entry(&mut image, 1, (0xef, 4000, 8000));
    fs::write(&path, &image).unwrap();
    let check = |image: &[u8], options: &[&str]| {
        let disk = Disk::new(64 * MIB);
        fill(&disk, 0x5a);
        exits(dir.path(), &flash("noise.img", disk.node(), options), 0);
        assert!(fs::read(disk.file()).unwrap()[..image.len()] == *image);
    };
    check(&image, &[]);
    // One that ends beyond the image: cut short, unless the digest says otherwise.
    put_entry(&mut image, 1, (0x83, 4000, 80_000));
    fs::write(&path, &image).unwrap();
    let disk = Disk::new(64 * MIB);
    let text = exits(dir.path(), &flash("noise.img", disk.node(), &[]), 1);
    assert!(
        text.contains("are missing") && text.contains("--sha256"),
        "{text}"
    );
    let sum = run("sha256sum", &[path.to_str().unwrap()]);
    check(&image, &["--sha256", sum.split(' ').next().unwrap()]);
}
