//! The container daemon on the card: installs it if it is missing, upgrades it once if the farm asks for that, and adds
//! users to its group. It never removes a daemon and never replaces one kind by another.

use std::collections::BTreeMap;
use std::time::Duration;

use palmfarm_protocol::firstboot::Flavour;
use palmfarm_protocol::firstboot::{Lxd, Refresh};

use crate::daemon::find_socket;
use crate::packages;
use crate::program::{query, run};
use crate::root::Root;
use crate::snap::{self, Hold};
use crate::step::{Change, StepError, StepResult};

/// Exists once the farm's `upgrade: true` was done: that happens once in a card's life, not at every boot.
const UPGRADED: &str = "/var/lib/palmfarm/upgraded";

/// How long changing an account may take.
const ACCOUNT: Duration = Duration::from_secs(60);

/// How the daemon is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// From these Debian packages.
    Packages(&'static [&'static str]),
    /// As a snap: Ubuntu since 18.10, whose Debian package `lxd` only fetches the snap.
    Snap,
}

/// What decides how the daemon is installed.
#[derive(Clone, Copy, Debug)]
struct Host<'a> {
    flavour: Flavour,
    /// `ID` and `ID_LIKE` of /etc/os-release.
    is_ubuntu: bool,
    has_snapd: bool,
    /// Version of the installed package `lxd`; empty if it is not installed.
    deb: &'a str,
}

impl Host<'_> {
    fn method(self) -> Method {
        match self.flavour {
            Flavour::Incus => Method::Packages(&["incus"]),
            // Ubuntu's transitional packages have an epoch, "1:0.10"; the daemon of 18.04 has none, "3.0.3-0ubuntu1".
            Flavour::Lxd if !self.deb.is_empty() && !self.deb.starts_with("1:") => {
                Method::Packages(&["lxd", "lxd-client"])
            }
            Flavour::Lxd if self.is_ubuntu && self.has_snapd => Method::Snap,
            Flavour::Lxd => Method::Packages(&["lxd", "lxd-client"]),
        }
    }
}

/// Install the daemon of the farm's flavour, and upgrade it once if the farm asks for that.
pub(crate) fn step(root: &Root, lxd: &Lxd) -> StepResult {
    let method = method(root, lxd.flavour);
    let missing = find_socket(root.dir(), lxd.flavour).is_none();
    let mut change = match method {
        Method::Packages(names) => {
            let mut needed: Vec<String> = Vec::new();
            if missing {
                needed.extend(names.iter().map(|name| (*name).to_owned()));
            }
            // The package of the daemon only recommends it; a snap brings its own.
            if lxd
                .preseed
                .storage_pools
                .iter()
                .any(|pool| pool.driver == "btrfs")
            {
                needed.push("btrfs-progs".to_owned());
            }
            packages::install(root, &needed, &BTreeMap::new())?
        }
        Method::Snap if missing => snap::install(root, lxd)?,
        Method::Snap => Change::Unchanged,
    };
    if let Some(channel) = &lxd.channel {
        if method != Method::Snap {
            return Err(StepError::new(format!(
                "the farm declares the channel {channel} of LXD's snap, but here the container daemon is a Debian package: \
                 take `channel` out of the farm"
            )));
        }
        change = change.or(snap::follow(root, channel)?);
    }
    if lxd.upgrade && !root.has(UPGRADED) {
        change = change.or(upgrade(root, method)?);
        root.write(UPGRADED, b"")
            .map_err(StepError::io("writing", UPGRADED))?;
    }
    Ok(change)
}

/// If the daemon is a snap, see that it is not refreshed while the farm is made, for as long as the result lives.
pub(crate) fn hold<'a>(root: &'a Root, lxd: &Lxd) -> Option<Hold<'a>> {
    if method(root, lxd.flavour) != Method::Snap {
        return None;
    }
    let held = Hold::take(root).inspect_err(|error| say!("holding back refreshes of snaps: {error}"));
    held.ok()
}

/// Whether something is to be done about later refreshes of the daemon.
pub(crate) fn has_refreshes(root: &Root, lxd: &Lxd) -> bool {
    lxd.refresh == Refresh::Hold || snap::are_held(root)
}

/// Leave later refreshes of the daemon to whom the farm declares. `note` gets what a person should know of that.
pub(crate) fn leave_refreshes(root: &Root, lxd: &Lxd, note: &mut String) -> StepResult {
    match lxd.refresh {
        Refresh::Auto => snap::unhold(root),
        Refresh::Hold if method(root, lxd.flavour) == Method::Snap => snap::hold(root, note),
        // Every cluster asks for it (`farm/decode`), and packages have no refreshes.
        Refresh::Hold if lxd.cluster.is_some() => Ok(Change::Unchanged),
        Refresh::Hold => Err(StepError::new(
            "the farm declares `refresh: hold` for LXD's snap, but here the container daemon is a Debian package: take it \
             out of the farm",
        )),
    }
}

/// Add `users` to the group that may use the daemon.
pub(crate) fn add_users_to_group(root: &Root, flavour: Flavour, users: &[String]) -> StepResult {
    let group = match flavour {
        Flavour::Lxd => "lxd",
        Flavour::Incus => "incus-admin",
    };
    let mut change = Change::Unchanged;
    for user in users {
        if is_member(root, group, user)? {
            continue;
        }
        let prefix = root.dir().to_string_lossy().into_owned();
        let mut words = vec!["--append", "--groups", group];
        // Change the accounts of the card even if its file tree is not at `/`.
        if prefix != "/" {
            words.extend(["--prefix", prefix.as_str()]);
        }
        words.push(user);
        run(root, "usermod", &words, ACCOUNT)?;
        if !is_member(root, group, user)? {
            return Err(StepError::new(format!(
                "usermod succeeded, but {user} is still not in the group {group}"
            )));
        }
        change = Change::Changed;
    }
    Ok(change)
}

fn method(root: &Root, flavour: Flavour) -> Method {
    let release = root.read("/etc/os-release").unwrap_or_default();
    let deb = query(
        "dpkg-query",
        &["--show", "--showformat=${db:Status-Status} ${Version}", "lxd"],
    );
    Host {
        flavour,
        is_ubuntu: is_ubuntu(&release),
        has_snapd: root.has("/usr/bin/snap"),
        deb: deb.trim().strip_prefix("installed ").unwrap_or_default(),
    }
    .method()
}

/// Whether this is Ubuntu or a derivative (os-release(5); the values may be quoted).
fn is_ubuntu(release: &str) -> bool {
    release.lines().any(|line| {
        let value = line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE="));
        value.is_some_and(|value| value.trim_matches('"').split(' ').any(|word| word == "ubuntu"))
    })
}

fn upgrade(root: &Root, method: Method) -> StepResult {
    match method {
        Method::Packages(names) => packages::upgrade(root, names),
        Method::Snap => snap::refresh(root),
    }
}

fn is_member(root: &Root, group: &str, user: &str) -> Result<bool, StepError> {
    let read = |path: &str| root.read(path).map_err(StepError::io("reading", path));
    let groups = read("/etc/group")?;
    let Some(members) = members(&groups, group) else {
        return Err(StepError::new(format!(
            "there is no group {group}, which comes with the container daemon: is the daemon installed?"
        )));
    };
    if !has_account(&read("/etc/passwd")?, user) {
        return Err(StepError::new(format!(
            "there is no user {user}, whom cloud-init should have made: `cloud-init status --long` says why"
        )));
    }
    Ok(members.contains(&user))
}

/// The members of a group in the text of /etc/group: `NAME:PASSWORD:GID:MEMBER,MEMBER` (group(5)).
fn members<'a>(groups: &'a str, group: &str) -> Option<Vec<&'a str>> {
    let line = groups
        .lines()
        .find(|line| line.split(':').next() == Some(group))?;
    Some(line.split(':').nth(3).unwrap_or_default().split(',').collect())
}

fn has_account(passwd: &str, user: &str) -> bool {
    passwd.lines().any(|line| line.split(':').next() == Some(user))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::root::scratch::Scratch;

    #[test]
    fn each_base_has_its_own_method() {
        let method = |release: &str, has_snapd, deb| {
            Host {
                flavour: Flavour::Lxd,
                is_ubuntu: is_ubuntu(release),
                has_snapd,
                deb,
            }
            .method()
        };
        let deb = Method::Packages(&["lxd", "lxd-client"]);
        // 18.04 has both, and its daemon comes from the package.
        assert_eq!(method("ID=ubuntu\n", true, "3.0.3-0ubuntu1~18.04.2"), deb);
        // 20.04 and 22.04 have the snap, with or without the transitional package; 24.04 has an installer for it.
        assert_eq!(
            method("NAME=x\nID=ubuntu\nID_LIKE=debian\n", true, ""),
            Method::Snap
        );
        assert_eq!(method("ID=ubuntu\n", true, "1:0.10"), Method::Snap);
        // A host without snapd uses packages.
        assert_eq!(method("ID=ubuntu\n", false, ""), deb);
        assert_eq!(method("ID=debian\n", true, "5.0.2-5"), deb);
        assert_eq!(method("ID=debian\n", false, ""), deb);
        assert_eq!(
            method("ID=\"mint\"\nID_LIKE=\"ubuntu debian\"\n", true, ""),
            Method::Snap
        );
        let incus = Host {
            flavour: Flavour::Incus,
            is_ubuntu: true,
            has_snapd: true,
            deb: "",
        };
        assert_eq!(incus.method(), Method::Packages(&["incus"]));
    }

    #[test]
    fn users_join_once() {
        let scratch = Scratch::new(
            "people",
            &[
                (
                    "/etc/passwd",
                    "root:x:0:0::/root:/bin/sh\ncraig:x:1000:1000::/home/craig:/bin/sh\n",
                ),
                (
                    "/etc/group",
                    "root:x:0:\nsudo:x:27:craig\nlxd:x:110:\ncraig:x:1000:\n",
                ),
            ],
        );
        let users = ["craig".to_owned()];
        if query("id", &["-u"]).trim() != "0" || !std::path::Path::new("/usr/sbin/usermod").exists() {
            // Past the capture of libtest, which counts it as passed.
            let _ = writeln!(std::io::stdout(), "skipped: usermod: it needs root");
            return;
        }
        assert_eq!(
            add_users_to_group(&scratch.0, Flavour::Lxd, &users).unwrap(),
            Change::Changed
        );
        let groups = scratch.0.read("/etc/group").unwrap();
        assert_eq!(members(&groups, "lxd"), Some(vec!["craig"]));
        assert_eq!(members(&groups, "sudo"), Some(vec!["craig"]));
        assert_eq!(
            add_users_to_group(&scratch.0, Flavour::Lxd, &users).unwrap(),
            Change::Unchanged
        );
    }

    #[test]
    fn a_missing_user_or_group_is_named() {
        let scratch = Scratch::new(
            "nobody",
            &[
                ("/etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
                ("/etc/group", "root:x:0:\nlxd:x:110:\nlxdx:x:111:craig\n"),
            ],
        );
        let error = |flavour, user: &str| {
            let found = add_users_to_group(&scratch.0, flavour, &[user.to_owned()]);
            found.unwrap_err().message
        };
        assert!(error(Flavour::Lxd, "craig").contains("no user craig"));
        assert!(error(Flavour::Incus, "root").contains("no group incus-admin"));
    }
}
