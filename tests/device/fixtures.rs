//! Machines as real ones look, and `palmfarm devices` on each: `NAME.txt` is the snapshot, `NAME.table` what is
//! said about it. `UPDATE_EXPECT=1` writes the tables again.

use std::fs;
use std::path::PathBuf;

use expect_test::expect_file;
use palmfarm::card::facts::{stat_target, BadFacts, TargetKind};
use palmfarm::card::{approve, candidates, refusals, target_of, Allow, Allowed, CardTarget, Facts, Snapshot};
use palmfarm::cli::devices;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/devices")
}

fn snapshot(machine: &str) -> Snapshot {
    let text = fs::read_to_string(folder().join(format!("{machine}.txt"))).unwrap();
    text.parse().unwrap()
}

fn facts(machine: &str) -> Facts {
    Facts::parse(&snapshot(machine)).unwrap()
}

/// The names of the reasons against `/dev/NAME`, with an image of 4 GB and what is allowed.
fn check(machine: &str, name: &str, allowed: &[Allow], expect: &[&str]) {
    let facts = facts(machine);
    let device = facts.named(name).unwrap();
    let allowed: Allowed = allowed.iter().copied().collect();
    let found = refusals(&facts, &target_of(device), Some(4_000_000_000), &allowed);
    let mut codes: Vec<&str> = found.iter().map(palmfarm::card::Refusal::code).collect();
    codes.dedup();
    assert_eq!(codes, expect, "{machine}: {name}: {found:#?}");
    let approved = approve(&facts, &target_of(device), Some(4_000_000_000), &allowed);
    assert_eq!(approved.is_ok(), expect.is_empty());
}

#[test]
fn every_machine_has_its_table() {
    let mut machines: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    machines.sort();
    assert!(machines.len() >= 8, "{machines:?}");
    for path in machines {
        let text = fs::read_to_string(&path).unwrap();
        let snapshot: Snapshot = text.parse().unwrap();
        let again: Snapshot = snapshot.to_string().parse().unwrap();
        assert_eq!(snapshot, again, "{}", path.display());
        let facts = Facts::parse(&snapshot).unwrap();
        expect_file![path.with_extension("table")].assert_eq(&devices::table(&facts, &Allowed::new()));
        let values = devices::values(&facts, &Allowed::new());
        assert_eq!(values.len(), facts.devices.len(), "every device has its line");
    }
}

#[test]
fn cards_are_cards() {
    check("laptop", "sda", &[], &[]);
    check("laptop", "mmcblk0", &[], &[]);
    check("emmc", "mmcblk1", &[], &[]);
    check("pi", "sda", &[], &[]);
}

#[test]
fn a_system_is_refused_whatever_is_allowed() {
    let all = Allow::ALL;
    check(
        "laptop",
        "nvme0n1",
        &all,
        &[
            "system",
            "mounted",
            "swap",
            "holder",
            "contains-image",
            "contains-program",
        ],
    );
    check(
        "raid-server",
        "sda",
        &all,
        &["system", "mounted", "holder", "contains-program"],
    );
    check(
        "emmc",
        "mmcblk0",
        &all,
        &[
            "system",
            "mounted",
            "volume",
            "contains-image",
            "contains-program",
        ],
    );
    check("pi", "mmcblk0", &all, &["system", "mounted", "contains-program"]);
    check("wsl", "sdc", &all, &["system", "mounted", "contains-program"]);
    check("live", "sda", &all, &["system", "mounted", "contains-program"]);
}

#[test]
fn what_is_in_use_is_refused_whatever_is_allowed() {
    let all = Allow::ALL;
    check("raid-server", "sdd", &all, &["mounted", "pool", "contains-image"]);
    check("raid-server", "sdg", &all, &["mounted", "swap", "volume"]);
    check("usb-reader", "sdc", &all, &["mounted", "contains-image"]);
    check("loops", "vdb", &all, &["holder"]);
    check("loops", "loop0", &all, &["contains-image"]);
    check("loops", "loop1", &all, &["mounted", "holder", "contains-program"]);
}

#[test]
fn what_cannot_be_written_is_refused_whatever_is_allowed() {
    let all = Allow::ALL;
    check("usb-reader", "sdb", &all, &["no-medium"]);
    check("usb-reader", "sde", &all, &["read-only"]);
    check("loops", "loop6", &all, &["no-medium"]);
    check("loops", "loop2", &all, &["too-small"]);
    check("raid-server", "sr0", &all, &["not-whole-disk", "too-small"]);
    check(
        "raid-server",
        "md0",
        &all,
        &["not-whole-disk", "system", "mounted", "too-small"],
    );
    check(
        "emmc",
        "mmcblk0boot0",
        &all,
        &["not-whole-disk", "read-only", "too-small"],
    );
    check("laptop", "sda1", &all, &["not-whole-disk", "too-small"]);
    check(
        "laptop",
        "nvme0n1p3",
        &all,
        &[
            "not-whole-disk",
            "system",
            "mounted",
            "swap",
            "holder",
            "contains-image",
            "contains-program",
        ],
    );
    check("laptop", "zram0", &all, &["not-whole-disk"]);
}

#[test]
fn each_thing_is_allowed_by_its_own_word() {
    check("raid-server", "sdc", &[], &["internal", "large"]);
    check("raid-server", "sdc", &[Allow::Internal], &["large"]);
    check("raid-server", "sdc", &[Allow::Large], &["internal"]);
    check("raid-server", "sdc", &[Allow::Loop], &["internal", "large"]);
    check("raid-server", "sdc", &[Allow::Internal, Allow::Large], &[]);
    check("raid-server", "sdf", &[Allow::Internal, Allow::Large], &[]);
    check("usb-reader", "sdd", &[], &["internal", "large"]);
    check("loops", "loop5", &[], &["loop", "large"]);
    check("loops", "loop5", &[Allow::Internal], &["loop", "large"]);
    check("loops", "loop5", &[Allow::Loop, Allow::Large], &[]);
}

#[test]
fn a_name_that_is_not_a_disk_is_refused() {
    let facts = facts("laptop");
    let check = |found: TargetKind, expect: &str| {
        let target = CardTarget {
            path: "/dev/sdz".to_owned(),
            found,
        };
        let all: Allowed = Allow::ALL.into_iter().collect();
        let reasons = approve(&facts, &target, None, &all).unwrap_err();
        let said: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        assert_eq!(said, [expect]);
    };
    check(TargetKind::Missing, "there is no /dev/sdz");
    check(
        TargetKind::Other("a regular file"),
        "/dev/sdz is a regular file, not a disk",
    );
    check(
        TargetKind::Unreadable("permission denied".to_owned()),
        "/dev/sdz cannot be accessed: permission denied",
    );
    check(
        TargetKind::Block("8:400".parse().unwrap()),
        "/dev/sdz names a device that the kernel does not have",
    );

    let folder = tempfile::tempdir().unwrap();
    assert_eq!(stat_target(&folder.path().join("sdz")).found, TargetKind::Missing);
    assert_eq!(stat_target(folder.path()).found, TargetKind::Other("a directory"));
    assert_eq!(
        stat_target("/dev/null".as_ref()).found,
        TargetKind::Other("a character device")
    );
    assert!(!folder.path().join("sdz").exists());
}

#[test]
fn what_may_be_written_is_offered_first() {
    let check = |machine: &str, may: &[&str], may_not: &[&str]| {
        let facts = facts(machine);
        let found = candidates(&facts, None, &Allowed::new());
        let (free, refused): (Vec<_>, Vec<_>) = found.iter().partition(|(_, reasons)| reasons.is_empty());
        let names = |of: &[&(&palmfarm::card::facts::Device, Vec<_>)]| -> Vec<String> {
            of.iter().map(|(device, _)| device.name.clone()).collect()
        };
        assert_eq!(names(&free), may, "{machine}");
        assert_eq!(names(&refused), may_not, "{machine}");
        let in_order: Vec<&str> = found.iter().map(|(device, _)| device.name.as_str()).collect();
        assert_eq!(in_order, [may, may_not].concat(), "{machine}");
    };
    check("laptop", &["mmcblk0", "sda"], &["loop0", "loop1", "nvme0n1"]);
    check("usb-reader", &[], &["sda", "sdb", "sdc", "sdd", "sde"]);
}

#[test]
fn who_names_a_partition_is_told_the_disk() {
    let facts = facts("laptop");
    let part = facts.named("sda2").unwrap();
    let found = refusals(&facts, &target_of(part), None, &Allowed::new());
    let hints: Vec<String> = found.iter().filter_map(palmfarm::card::Refusal::hint).collect();
    assert_eq!(hints, ["the whole disk is /dev/sda"]);
}

#[test]
fn commands_release_what_holds() {
    let facts = facts("raid-server");
    let hints = |name: &str| -> Vec<String> {
        let device = facts.named(name).unwrap();
        let found = refusals(&facts, &target_of(device), None, &Allowed::new());
        found.iter().filter_map(palmfarm::card::Refusal::hint).collect()
    };
    assert!(
        hints("md1").contains(&"vgchange -an vg0".to_owned()),
        "{:?}",
        hints("md1")
    );
    assert!(
        hints("sda").contains(&"mdadm --stop /dev/md1".to_owned()),
        "{:?}",
        hints("sda")
    );
    assert!(
        hints("sdd").contains(&"zpool export tank".to_owned()),
        "{:?}",
        hints("sdd")
    );
    assert!(
        hints("sdg").contains(&"swapoff '/srv/data/swap file'".to_owned()),
        "{:?}",
        hints("sdg")
    );
}

#[test]
fn each_kind_of_mapping_is_released_by_its_own_command() {
    let facts = facts("mapped");
    let check = |name: &str, command: &str| {
        let device = facts.named(name).unwrap();
        let found = refusals(&facts, &target_of(device), None, &Allowed::new());
        let hints: Vec<String> = found.iter().filter_map(palmfarm::card::Refusal::hint).collect();
        assert_eq!(hints, [command], "{name}");
    };
    check("sda", "cryptsetup close 'luks-my stick'");
    check("sdb", "multipath -f mpatha");
    check("sdc", "dmsetup remove 'by hand'");
}

#[test]
fn what_is_not_understood_frees_nothing() {
    let mut changed = snapshot("pi");
    changed.remove("/proc/self/mountinfo");
    assert_eq!(
        Facts::parse(&changed),
        Err(BadFacts::Missing("/proc/self/mountinfo"))
    );

    let mut changed = snapshot("pi");
    changed.add_text(
        "/proc/self/mountinfo",
        "22 28 0:21 / /proc rw - proc proc rw\nnonsense\n",
    );
    assert_eq!(
        Facts::parse(&changed),
        Err(BadFacts::Line {
            path: "/proc/self/mountinfo",
            line: 2,
            text: "nonsense".to_owned()
        })
    );

    // Without the attribute nobody knows that the device takes writes.
    let mut changed = snapshot("pi");
    let facts = facts("pi");
    let disk = changed.resolved("/sys/class/block/sda").unwrap();
    changed.remove(&format!("{disk}/ro"));
    assert!(!facts.named("sda").unwrap().read_only);
    assert!(Facts::parse(&changed).unwrap().named("sda").unwrap().read_only);
}

#[test]
fn a_card_is_shown_before_it_is_overwritten() {
    let facts = facts("laptop");
    assert_eq!(
        devices::card_text(&facts, facts.named("sda").unwrap()),
        "/dev/sda, 31.9 GB, usb, Generic MassStorageClass, serial 000000001206\n\
         \x20 /dev/sda1  268.4 MB  vfat \"system-boot\"\n\
         \x20 /dev/sda2  31.6 GB  ext4 \"writable\""
    );
    assert_eq!(
        devices::card_text(&facts, facts.named("mmcblk0").unwrap()),
        "/dev/mmcblk0, 32.0 GB, mmc, SC32G, serial 035344534333324780123456780125a1\n\
         \x20 on it now: nothing that is known"
    );
}
