//! Accounts and groups that Ubuntu's images have, as far as a farm can know them before its base is opened. The base itself is
//! asked when it is there: then it refuses what it has, whatever this list says.

use super::Judged;
use crate::base::locate::BaseRef;
use crate::farm::node::Span;
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;

/// Whether the system has an account of this name.
pub(super) fn is_account(judged: &Judged<'_>, name: &str) -> bool {
    let of_ubuntu = judged.release().is_some() && UBUNTU_ACCOUNTS.contains(&name);
    ACCOUNTS.contains(&name) || name.starts_with("systemd-") || of_ubuntu
}

/// Whether the system has a group of this name, and no account.
pub(super) fn is_group(judged: &Judged<'_>, name: &str) -> bool {
    let release = judged.release();
    let of_ubuntu = release.is_some() && UBUNTU_GROUPS.contains(&name);
    let of_build = release.is_some_and(|release| release <= ADMIN_UNTIL) && name == ADMIN;
    GROUPS.contains(&name) || of_ubuntu || of_build
}

/// Warn of a group that nothing makes but the farm itself: cloud-init adds it, empty, where the base has none
/// (`Distro.add_user`). A package or an overlay may bring it.
pub(super) fn known_group(judged: &Judged<'_>, group: &str, at: Span, p: &mut Problems) {
    let farm = judged.farm;
    let is_stock = BaseRef::new(&farm.base).is_known();
    let may_come = !farm.packages.is_empty() || !farm.overlays.is_empty();
    let is_own = farm.users.iter().any(|user| user.name == group);
    let base_passwd = ACCOUNTS.into_iter().chain(GROUPS);
    let known = || {
        let of_ubuntu = UBUNTU_ACCOUNTS.into_iter().chain(UBUNTU_GROUPS);
        base_passwd.clone().chain(of_ubuntu).chain(DAEMONS).chain([ADMIN])
    };
    if !is_stock || may_come || is_own || group.is_empty() || group.starts_with("systemd-") {
        return;
    }
    if known().any(|known| known == group) {
        return;
    }
    let hint = match p.did_you_mean(group, known()) {
        Some(hint) => hint,
        None if group == "docker" => {
            "Docker runs in containers here; on the Pi itself it is a package: `packages: [docker.io]`".into()
        }
        None => "cloud-init makes an empty one, which nothing in the base uses".into(),
    };
    p.warning(at, format!("the base has no group {}", quoted(group)))
        .hint(hint);
}

/// Groups of the container daemons, which come with them.
const DAEMONS: [&str; 2] = ["incus", "incus-admin"];

/// The group that the build of Ubuntu's images up to 22.04 makes beside lxd and netdev (livecd-rootfs,
/// `025-create-groups.chroot`).
const ADMIN: &str = "admin";

/// The last release of which that is known.
const ADMIN_UNTIL: (u8, u8) = (22, 4);

/// Accounts that packages in Ubuntu's images make, and no other image for a Pi needs to have.
const UBUNTU_ACCOUNTS: [&str; 5] = ["polkitd", "dhcpcd", "fwupd-refresh", "dnsmasq", "_chrony"];

/// The same of groups.
const UBUNTU_GROUPS: [&str; 3] = ["clock", "mlocate", "plocate"];

/// Accounts of Debian's base-passwd, and of packages that most images have.
const ACCOUNTS: [&str; 29] = [
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "gnats",
    "nobody",
    "messagebus",
    "syslog",
    "sshd",
    "landscape",
    "pollinate",
    "tss",
    "uuidd",
    "tcpdump",
    "lxd",
    "_apt",
    "usbmux",
];

/// Groups without an account of their name, likewise.
const GROUPS: [&str; 32] = [
    "adm", "tty", "disk", "kmem", "dialout", "fax", "voice", "cdrom", "floppy", "tape", "sudo", "audio",
    "dip", "operator", "src", "shadow", "utmp", "video", "sasl", "plugdev", "staff", "users", "nogroup",
    "input", "sgx", "kvm", "render", "crontab", "netdev", "ssh", "_ssh", "rdma",
];
