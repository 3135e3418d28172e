//! What a base has in place of Ubuntu's own packages, for the person who reads how a boot went. It reads the list of
//! packages that the bootstrap left behind, and the tables from which a layout is made; it knows no versions itself.

use super::accounts;
use super::layout::{Layout, Lxd};

/// Packages of Ubuntu's server images for the Pi that matter to a first boot. What Debian's root file system lacks of them
/// is told as absent.
const OF_UBUNTU: [&str; 14] = [
    "systemd",
    "netplan.io",
    "cloud-init",
    "openssh-server",
    "sudo",
    "apt",
    "tzdata",
    "apparmor",
    "iptables",
    "btrfs-progs",
    "unattended-upgrades",
    "needrestart",
    "initramfs-tools",
    "flash-kernel",
];

/// A table of two columns: Ubuntu's, and what is there. `packages` has a name and a version in each line, as
/// `dpkg-query --show` prints them; `kernel` is the file name of its package.
pub(super) fn table(layout: &Layout, packages: &str, kernel: &str) -> String {
    let version = |name: &str| {
        packages.lines().find_map(|line| {
            let (package, version) = line.split_once('\t')?;
            (package.split(':').next() == Some(name)).then_some(version)
        })
    };
    let (year, month) = layout.release;
    let lxd = version("lxd").unwrap_or_default();
    let mut kernel = kernel.split('_');
    let kernel = [kernel.next(), kernel.next()].map(Option::unwrap_or_default);
    let mut rows = vec![(
        format!("Ubuntu {year}.{month:02}"),
        format!("its layout, with packages of Debian for {}", layout.arch.debian),
    )];
    let mut row = |of_ubuntu: &str, here: String| rows.push((of_ubuntu.into(), here));
    row("linux-raspi", kernel.join(" "));
    row("boot loader", "none: QEMU loads kernel and initrd".into());
    let of_ubuntu = if layout.release < (20, 4) {
        "lxd"
    } else {
        "lxd (snap)"
    };
    row(
        of_ubuntu,
        match layout.lxd {
            Lxd::Package => format!("lxd {lxd}"),
            Lxd::Snap => format!("a snap made here, with the programs of lxd {lxd} in it"),
        },
    );
    if layout.has_link_file {
        row("ubuntu-raspi-settings", "10-raspi-eth0.link, made here".into());
    }
    let (mut absent, mut accounts) = (Vec::new(), Vec::new());
    for name in OF_UBUNTU {
        match version(name) {
            Some(version) => row(name, version.into()),
            None => absent.push(name.to_owned()),
        }
    }
    let of_packages =
        accounts::of_release(layout.release).filter(|account| account.package != accounts::BUILD);
    for account in of_packages {
        accounts.push(format!("{} ({})", account.package, account.name));
    }
    row("absent", absent.join(", "));
    row("absent, but for accounts", accounts.join(", "));
    let lines = rows
        .iter()
        .map(|(of_ubuntu, here)| format!("{of_ubuntu:26}{here}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::super::layout;
    use super::*;

    #[test]
    fn tells_what_is_there_and_what_is_not() {
        let packages = "lxd\t5.0.2-5\nlibc6:armhf\t2.36-9\nsystemd:armhf\t252.39-1\n";
        let kernel = "linux-image-6.1.0-9-armmp-lpae_6.1.2-1_armhf.deb";
        let table = |name: &str| table(layout::find(name).unwrap(), packages, kernel);
        let noble = table("noble");
        let row = |table: &str, of_ubuntu: &str| {
            let rest = table
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{of_ubuntu:26}")));
            rest.unwrap_or_default().to_owned()
        };
        assert!(noble.starts_with("Ubuntu 24.04 "), "{noble}");
        assert_eq!(
            row(&noble, "linux-raspi"),
            "linux-image-6.1.0-9-armmp-lpae 6.1.2-1"
        );
        assert_eq!(row(&noble, "lxd (snap)"), "lxd 5.0.2-5");
        assert_eq!(row(&noble, "systemd"), "252.39-1");
        assert!(row(&noble, "absent").contains("needrestart, "), "{noble}");
        assert!(
            row(&noble, "absent, but for accounts").contains("rdma-core (rdma)"),
            "{noble}"
        );
        assert!(!noble.contains(accounts::BUILD), "{noble}");
        let bionic = table("bionic");
        assert_eq!(row(&bionic, "lxd"), "lxd 5.0.2-5");
        assert!(
            !bionic.contains("ubuntu-raspi-settings") && !bionic.contains("rdma"),
            "{bionic}"
        );
        assert!(row(&table("jammy-snap"), "lxd (snap)").starts_with("a snap made here"));
    }
}
