//! The system accounts and groups that packages of Ubuntu's server images and their build make, and Debian's packages here
//! do not. A farm's user of such a name is not made, so a base without them would hide that.
//!
//! Pure text: the files of one root file system, with lines added. Never changes a line or an id that is there.

use super::layout::Release;

/// An account or a group of Ubuntu's.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) name: &'static str,
    /// The package that makes it there, or [`BUILD`].
    pub(super) package: &'static str,
    /// The first release, of those that have a layout, whose server image has it.
    since: Release,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// A group without an account.
    Group,
    /// Home and shell of an account whose group has its name.
    Account(&'static str, &'static str),
    /// The same of one that is in this group.
    Member(&'static str, &'static str, &'static str),
}
use Kind::{Account as Own, Group, Member};

const NO_LOGIN: &str = "/usr/sbin/nologin";
const FALSE: &str = "/bin/false";

/// Names, homes and shells are those in /etc/passwd and /etc/group of Ubuntu's server images, as people have published
/// them: the cloud images of 18.04 to 26.04, which come from the same seed and the same hooks as those for the Pi.
/// livecd-rootfs makes the first three in `live-build/ubuntu-cpc/hooks.d/chroot/025-create-groups.chroot`.
const ALL: [Account; 15] = [
    of(BUILD, "admin", (18, 4), Group),
    of(BUILD, "netdev", (18, 4), Group),
    of(BUILD, "lxd", (18, 4), Group),
    of("cron", "crontab", (18, 4), Group),
    of("rsyslog", "syslog", (18, 4), Own("/nonexistent", NO_LOGIN)),
    of("uuid-runtime", "uuidd", (18, 4), Own("/run/uuidd", NO_LOGIN)),
    of(
        "landscape-common",
        "landscape",
        (18, 4),
        Own("/var/lib/landscape", NO_LOGIN),
    ),
    of(
        "pollinate",
        "pollinate",
        (18, 4),
        Member("daemon", "/var/cache/pollinate", FALSE),
    ),
    of("tpm-udev", "tss", (20, 4), Own("/var/lib/tpm", FALSE)),
    of("tcpdump", "tcpdump", (20, 4), Own("/nonexistent", NO_LOGIN)),
    of("fwupd", "fwupd-refresh", (20, 4), Own("/var/lib/fwupd", NO_LOGIN)),
    of("polkitd", "polkitd", (24, 4), Own("/", NO_LOGIN)),
    of("rdma-core", "rdma", (24, 4), Group),
    of(
        "dhcpcd-base",
        "dhcpcd",
        (24, 4),
        Member("nogroup", "/usr/lib/dhcpcd", FALSE),
    ),
    of("chrony", "_chrony", (26, 4), Own("/var/lib/chrony", NO_LOGIN)),
];

/// What makes the image itself, and is not in it.
pub(super) const BUILD: &str = "livecd-rootfs";

const fn of(package: &'static str, name: &'static str, since: Release, kind: Kind) -> Account {
    Account {
        name,
        package,
        since,
        kind,
    }
}

/// Those of a release's server image.
pub(super) fn of_release(release: Release) -> impl Iterator<Item = &'static Account> {
    ALL.iter().filter(move |account| account.since <= release)
}

/// The first id that is tried. Debian's packages take the first free one from 100 up, and systemd from 999 down.
const FIRST_ID: u32 = 300;

/// The four files that list accounts and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) passwd: String,
    pub(super) shadow: String,
    pub(super) group: String,
    pub(super) gshadow: String,
}

impl Files {
    /// Add those of `release` that are not there, each with an id that no account and no group has, and nobody can log in
    /// with any.
    pub(super) fn add_all_of(&mut self, release: Release) {
        for Account { name, kind, .. } in of_release(release) {
            let id = self.free_id();
            let (group, account) = match kind {
                Group => (None, None),
                Own(home, shell) => (None, Some((home, shell))),
                Member(group, home, shell) => (Some(*group), Some((home, shell))),
            };
            if group.is_none() && line(&self.group, name).is_none() {
                self.group.push_str(&format!("{name}:x:{id}:\n"));
                self.gshadow.push_str(&format!("{name}:!::\n"));
            }
            let Some((home, shell)) = account else { continue };
            if line(&self.passwd, name).is_some() {
                continue;
            }
            let gid = id_in(&self.group, group.unwrap_or(name)).unwrap_or(id);
            self.passwd
                .push_str(&format!("{name}:x:{id}:{gid}::{home}:{shell}\n"));
            // Without a day of the last change, which would be that of the build.
            self.shadow.push_str(&format!("{name}:!*:::::::\n"));
        }
    }

    fn free_id(&self) -> u32 {
        let lines = || self.passwd.lines().chain(self.group.lines());
        let taken = |id: u32| lines().any(|line| id_of(line) == Some(id));
        (FIRST_ID..1000).find(|id| !taken(*id)).unwrap_or(FIRST_ID)
    }
}

/// The line of `name` in one of the files.
fn line<'a>(file: &'a str, name: &str) -> Option<&'a str> {
    file.lines().find(|line| line.split(':').next() == Some(name))
}

fn id_in(file: &str, name: &str) -> Option<u32> {
    line(file, name).and_then(id_of)
}

/// The third field of a line of passwd or group.
fn id_of(line: &str) -> Option<u32> {
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/bash\ntss:x:101:106::/:/bin/sh\n".into(),
            shadow: "root:*:20785:0:99999:7:::\ntss:!:20785::::::\n".into(),
            group: "root:x:0:\ndaemon:x:1:\nlxd:x:101:\ntss:x:106:\nother:x:300:\n".into(),
            gshadow: "root:*::\ndaemon:*::\nlxd:!::\ntss:!::\nother:!::\n".into(),
        }
    }

    #[test]
    fn what_is_there_stays_and_what_comes_has_an_id_of_its_own() {
        let (before, mut files) = (debian(), debian());
        files.add_all_of((24, 4));
        let pairs = [
            (&before.passwd, &files.passwd),
            (&before.shadow, &files.shadow),
            (&before.group, &files.group),
            (&before.gshadow, &files.gshadow),
        ];
        for (old, new) in pairs {
            assert!(new.starts_with(old.as_str()), "{new}");
            let mut names: Vec<&str> = new.lines().filter_map(|line| line.split(':').next()).collect();
            names.sort_unstable();
            assert!(
                names.windows(2).all(|pair| pair.first() != pair.last()),
                "{names:?}"
            );
        }
        for file in [&files.passwd, &files.group] {
            let mut ids: Vec<u32> = file.lines().filter_map(id_of).collect();
            ids.sort_unstable();
            assert!(ids.windows(2).all(|pair| pair.first() != pair.last()), "{ids:?}");
        }
        // As getent(1) shows them.
        assert_eq!(line(&files.group, "admin"), Some("admin:x:301:"));
        assert_eq!(line(&files.passwd, "admin"), None);
        let pollinate = line(&files.passwd, "pollinate").unwrap();
        assert!(
            pollinate.ends_with(":1::/var/cache/pollinate:/bin/false"),
            "{pollinate}"
        );
        assert_eq!(line(&files.group, "pollinate"), None);
        let syslog = id_in(&files.group, "syslog").unwrap();
        let expect = format!("syslog:x:{syslog}:{syslog}::/nonexistent:{NO_LOGIN}");
        assert_eq!(line(&files.passwd, "syslog"), Some(expect.as_str()));
        assert_eq!(line(&files.shadow, "syslog").unwrap().split(':').count(), 9);
    }

    #[test]
    fn each_release_has_its_own() {
        let has = |release: Release, name: &str| of_release(release).any(|account| account.name == name);
        assert!(has((18, 4), "admin") && !has((18, 4), "tss"));
        assert!(has((22, 4), "fwupd-refresh") && !has((22, 4), "polkitd"));
        assert!(has((24, 4), "dhcpcd") && !has((24, 4), "_chrony"));
        assert!(has((26, 4), "_chrony"));
    }

    #[test]
    fn a_second_time_adds_nothing() {
        let mut files = debian();
        files.add_all_of((26, 4));
        let once = files.clone();
        files.add_all_of((26, 4));
        assert_eq!(files, once);
    }
}
