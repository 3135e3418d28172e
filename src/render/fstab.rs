//! The one set of rules for a fstab(5), whether the base has it or the farm brings it: what keeps a card from starting, or
//! from keeping what it makes. What is missing in the base's is added on the card. Pure.

use super::builder::TreeBuilder;
use super::{host, Inputs, RenderError, UNDONE};
use crate::base::mounts::{self, FstabLine};
use crate::base::{BaseFacts, FstabFault};
use crate::edit::tree::{Node, Planned, Privacy, Volume};
use crate::plan::CardPlan;

/// Where it is.
pub(super) const PATH: &str = "/etc/fstab";

/// Places where every card has files of palmfarm's.
const OURS: [&str; 5] = [
    "/etc/palmfarm/firstboot.json",
    "/etc/systemd/network/05-palmfarm",
    "/etc/systemd/system/palmfarm-firstboot.service",
    "/usr/lib/palmfarm/palmfarm-agent",
    "/var/lib/cloud/seed/nocloud-net",
];

/// Folders in which the Pi keeps what it makes, or people what they have: its containers, its record of them, homes.
const KEPT: [&str; 8] = [
    "/home",
    "/root",
    "/var/lib/cloud",
    "/var/lib/incus",
    "/var/lib/lxd",
    "/var/lib/palmfarm",
    "/var/lib/snapd",
    "/var/snap",
];

/// What is wrong with `fstab`; without `base`, only what is wrong with it on every base.
pub(super) fn faults(fstab: &str, base: Option<&BaseFacts>) -> Vec<FstabFault> {
    let fault = |mount: FstabLine| {
        if let Some((option, why)) = root_option(&mount, base) {
            let options = mount.options;
            return Some(FstabFault::RootOption { options, option, why });
        }
        if hides_ours(&mount.target) {
            return Some(FstabFault::MountsOver(mount.target));
        }
        if ["ramfs", "tmpfs"].contains(&mount.kind.as_str()) && is_kept(&mount.target) {
            return Some(FstabFault::InMemory(mount.target));
        }
        let is_missing = base.is_some_and(|base| is_missing(&mount, base));
        is_missing.then(|| FstabFault::NoSuchFilesystem {
            source_name: mount.source.clone(),
            target: if mount.target.is_empty() {
                "/".into()
            } else {
                mount.target.clone()
            },
        })
    };
    mounts::lines(fstab).into_iter().filter_map(fault).collect()
}

/// The option of a line for `/` with which no card works, and why.
fn root_option(mount: &FstabLine, base: Option<&BaseFacts>) -> Option<(String, &'static str)> {
    if !mount.target.is_empty() {
        return None;
    }
    // Of several the last counts.
    let last = |those: &dyn Fn(&str) -> bool| mount.options.split(',').rev().find(|option| those(option));
    for (option, opposite, why) in [
        ("ro", "rw", "read-only, so the Pi could make nothing"),
        ("noexec", "exec", "no program would start"),
        ("nosuid", "suid", "nobody could become root"),
    ] {
        if last(&|one| one == option || one == opposite) == Some(option) {
            return Some((option.into(), why));
        }
    }
    // The initial ramdisk has mounted it without, and ext4 takes no other mode later (ext4(5)).
    let mode = last(&|one| one.starts_with("data="))?;
    let is_new = base.is_some_and(|base| !is_root_flag(base, mode));
    let why = "ext4 takes that one only when it is mounted first, and the filesystem would stay read-only";
    (mode != "data=ordered" && is_new).then(|| (mode.into(), why))
}

/// Whether the kernel command line of the base has `option` for the root filesystem.
fn is_root_flag(base: &BaseFacts, option: &str) -> bool {
    let flags = words(base).filter_map(|word| word.strip_prefix("rootflags="));
    flags
        .flat_map(|flags| flags.split(','))
        .any(|flag| flag == option)
}

/// The words of the base's kernel command line.
fn words(base: &BaseFacts) -> impl Iterator<Item = &str> {
    let text = base.cmdline.iter().map(|cmdline| cmdline.text.as_str());
    text.flat_map(str::split_whitespace)
}

/// Whether the filesystem of a line is not on the card, and the boot would stop without it.
fn is_missing(mount: &FstabLine, base: &BaseFacts) -> bool {
    let names = match mount.target.as_str() {
        "" => &base.names.root,
        target if target == base.boot_mount => &base.names.boot,
        _ if mount.has_option(&["nofail", "noauto"]) => return false,
        // Whatever else is mounted must be on the card as well. `/dev/sda1` is on another disk, unless the Pi starts from it.
        _ => {
            let on_card = [&base.names.root, &base.names.boot]
                .iter()
                .any(|names| has(names, &mount.source));
            return is_name(&mount.source) && (!on_card || mount.source.starts_with("/dev/sd"));
        }
    };
    // The initial ramdisk knows the root filesystem under this name.
    !names.is_empty() && is_name(&mount.source) && mount.source != "/dev/root" && !has(names, &mount.source)
}

/// The one that the farm brings, in its files or its overlays.
pub(super) fn of_the_farm(plan: &CardPlan, inputs: &Inputs) -> Option<Planned> {
    let overlays = inputs.overlays.iter().rev().flat_map(|overlay| &overlay.nodes);
    let mut laid = overlays.filter(|(volume, path, _)| *volume == Volume::Root && path.as_str() == PATH);
    if let Some((.., planned)) = laid.next() {
        return Some(planned.clone());
    }
    let file = plan.files.iter().find(|file| file.path.as_str() == PATH)?;
    Some(host::planned(file, format!("farm.yaml files: {}", file.source)))
}

/// Refuse one of the farm's that does not go with its base.
pub(super) fn check(plan: &CardPlan, base: &BaseFacts, inputs: &Inputs) -> Result<(), RenderError> {
    let Some(planned) = of_the_farm(plan, inputs) else {
        return Ok(());
    };
    // Where a link leads is not known.
    let Node::File { content, .. } = &planned.node else {
        return Ok(());
    };
    let faults = faults(&String::from_utf8_lossy(content), Some(base));
    let Some(fault) = faults.into_iter().next() else {
        return Ok(());
    };
    let origin = planned.origin;
    Err(RenderError::Fstab { origin, fault })
}

/// Whether the FAT partition is mounted so that the Pi can put its report there.
pub(super) fn takes_report(fstab: &str) -> bool {
    mounts::lines(fstab)
        .iter()
        .any(|mount| mount.is_boot() && is_for_writing(mount))
}

fn is_for_writing(mount: &FstabLine) -> bool {
    let is_mounted = !mount.has_option(&["noauto"]) || mount.has_option(&["x-systemd.automount"]);
    is_mounted && !mount.has_option(&["ro"])
}

/// Let the base's fstab mount both filesystems for writing: without a line the root filesystem stays read-only, and the
/// FAT partition has no report.
pub(super) fn render(
    build: &mut TreeBuilder,
    plan: &CardPlan,
    base: &BaseFacts,
    inputs: &Inputs,
) -> Result<(), RenderError> {
    if of_the_farm(plan, inputs).is_some() {
        return Ok(());
    }
    let mut undone = Vec::new();
    let (mut text, mut has_root, mut has_boot) = (String::new(), words(base).any(|word| word == "rw"), false);
    for line in base.fstab.lines() {
        let mount = mounts::line(line);
        has_root |= mount.as_ref().is_some_and(|mount| mount.target.is_empty());
        has_boot |= mount.as_ref().is_some_and(FstabLine::is_boot);
        match mount.filter(|mount| mount.is_boot() && !is_for_writing(mount)) {
            Some(mount) => {
                undone.push("the FAT partition");
                text.push_str(&for_writing(line, &mount));
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    // Nothing is added whose name is not known.
    if let Some(name) = base.names.root.first().filter(|_| !has_root) {
        undone.push("the root filesystem");
        text.push_str(&format!("{name} / ext4 defaults 0 1\n"));
    }
    if let Some(name) = base.names.boot.first().filter(|_| !has_boot) {
        undone.push("the FAT partition");
        text.push_str(&format!("{name} {} vfat defaults 0 1\n", base.boot_mount));
    }
    if undone.is_empty() {
        return Ok(());
    }
    let origin = format!(
        "{UNDONE}the base's does not mount {} for writing",
        undone.join(" and ")
    );
    // Another line may have somebody's password for a share (mount.cifs(8)).
    let has_password = text.contains("pass=") || text.contains("password=");
    let privacy = if has_password {
        Privacy::Undeclared
    } else {
        Privacy::Public
    };
    build.file(Volume::Root, PATH, text.as_bytes(), 0o644, &origin, privacy)
}

/// `line` with options that let `mount` be mounted for writing.
fn for_writing(line: &str, mount: &FstabLine) -> String {
    let options = mount
        .options
        .split(',')
        .filter(|option| !["noauto", "ro"].contains(option));
    let options: Vec<&str> = options.collect();
    let options = if options.is_empty() {
        "defaults".to_owned()
    } else {
        options.join(",")
    };
    let mut fields: Vec<&str> = line.split_whitespace().collect();
    if let Some(field) = fields.get_mut(3) {
        *field = &options;
    }
    fields.join(" ")
}

/// Whether what is mounted at `target` hides files of palmfarm's.
pub(super) fn hides_ours(target: &str) -> bool {
    let is_over = |path: &&str| {
        let rest = path.strip_prefix(target);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    !target.is_empty() && OURS.iter().any(is_over)
}

/// Whether `target` is a folder that must outlast a boot, or has one in it, or is one of those that a program makes there.
fn is_kept(target: &str) -> bool {
    let is_below = |path: &str, folder: &str| {
        let rest = path.strip_prefix(folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let of_people = |kept: &str| ["/home", "/root"].contains(&kept);
    KEPT.iter()
        .any(|kept| is_below(kept, target) || is_below(target, kept) && !of_people(kept))
}

/// Whether `source`, as fstab and `root=` have it, means a certain filesystem or partition. Swap in memory is none.
pub(super) fn is_name(source: &str) -> bool {
    ["LABEL=", "UUID=", "PARTLABEL=", "PARTUUID=", "ID=", "/dev/"]
        .iter()
        .any(|prefix| source.starts_with(prefix))
        && !source.starts_with("/dev/zram")
}

/// Whether `source` is one of `names`. Linux takes a label as it is written, and UUIDs in either case.
pub(super) fn has(names: &[String], source: &str) -> bool {
    let source = match source
        .strip_prefix("/dev/disk/by-")
        .and_then(|rest| rest.split_once('/'))
    {
        Some((kind, name)) => format!("{}={name}", kind.to_ascii_uppercase()),
        None => number(source).map_or_else(|| source.to_owned(), |number| format!("number {number}")),
    };
    names.iter().any(|name| {
        if name.starts_with("LABEL=") {
            *name == source
        } else {
            name.eq_ignore_ascii_case(&source)
        }
    })
}

/// The number of the partition in `/dev/mmcblk0p2` or `/dev/sda2`.
fn number(source: &str) -> Option<u32> {
    let device = source.strip_prefix("/dev/")?;
    let digits = device.trim_start_matches(|c: char| !c.is_ascii_digit());
    let number = match device.get(..2)? {
        "mm" | "nv" => device.rsplit_once('p')?.1,
        "sd" | "vd" => digits,
        _ => return None,
    };
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_keep_the_root_filesystem_from_working() {
        let check = |options: &str, expect: Option<&str>| {
            let faults = faults(&format!("LABEL=writable / ext4 {options} 0 1\n"), None);
            let found: Vec<_> = faults
                .iter()
                .map(|fault| match fault {
                    FstabFault::RootOption { option, .. } => Some(option.as_str()),
                    _ => None,
                })
                .collect();
            assert_eq!(
                found,
                expect.map(Some).into_iter().collect::<Vec<_>>(),
                "{options}"
            );
        };
        check("ro,noatime", Some("ro"));
        check("noatime,noexec", Some("noexec"));
        check("nosuid,nodev", Some("nosuid"));
        // What Ubuntu has, and what is taken back.
        for fine in [
            "defaults",
            "discard,errors=remount-ro",
            "ro,rw",
            "noexec,exec,commit=60",
        ] {
            check(fine, None);
        }
        assert!(faults("LABEL=data /srv ext4 ro,noexec,nofail 0 2\n", None).is_empty());
    }

    #[test]
    fn the_fat_partition_takes_a_report_if_it_is_mounted_for_writing() {
        let check = |options: &str, expect: bool| {
            let line = format!("LABEL=system-boot /boot/firmware vfat {options} 0 1");
            assert_eq!(takes_report(&line), expect, "{options}");
            let mended = for_writing(&line, &mounts::line(&line).unwrap());
            assert!(takes_report(&mended), "{mended}");
        };
        check("defaults", true);
        check("noauto,x-systemd.automount", true);
        check("noauto,umask=0077", false);
        check("ro", false);
        assert!(!takes_report("LABEL=writable / ext4 defaults 0 1\n"));
    }

    #[test]
    fn names_of_filesystems_are_compared_as_linux_does() {
        let names: Vec<String> = ["LABEL=writable", "UUID=ab-cd", "PARTUUID=70616c6d-02", "number 2"]
            .map(Into::into)
            .into();
        for good in [
            "LABEL=writable",
            "UUID=AB-CD",
            "PARTUUID=70616C6D-02",
            "/dev/mmcblk0p2",
            "/dev/sda2",
            "/dev/nvme0n1p2",
            "/dev/disk/by-label/writable",
        ] {
            assert!(is_name(good) && has(&names, good), "{good}");
        }
        for bad in [
            "LABEL=Writable",
            "UUID=ab-ce",
            "/dev/mmcblk0p1",
            "/dev/sda3",
            "/dev/disk/by-uuid/1",
        ] {
            assert!(is_name(bad) && !has(&names, bad), "{bad}");
        }
        for bad in ["/dev/mapper/data", "/dev/md0", "/dev/vg/lv", "PARTLABEL=data"] {
            assert!(is_name(bad) && !has(&names, bad), "{bad}");
        }
        for unknown in ["tmpfs", "/swapfile", "/dev/zram0", "proc", "nas:/export"] {
            assert!(!is_name(unknown), "{unknown}");
        }
    }
}
