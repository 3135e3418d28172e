//! Stopping and starting the container daemon, and emptying its folder while it is stopped. Whether that may be done is
//! decided elsewhere.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use palmfarm_protocol::firstboot::{Flavour, Lxd};

use crate::daemon::find_socket;
use crate::program::{query, run};
use crate::root::Root;
use crate::step::StepError;

/// How long stopping or starting may take on a Pi 2.
const PATIENCE: Duration = Duration::from_secs(300);

/// What stays in the folder: the card's keys, and the socket that systemd made.
const KEPT: [&str; 3] = ["server.crt", "server.key", "unix.socket"];

/// The folder of its pools in the folder.
const POOLS: &str = "storage-pools";

/// The mount namespace of LXD's snap (snap-confine(8)).
const OF_SNAP: &str = "--mount=/run/snapd/ns/lxd.mnt";

pub(super) struct Service<'a> {
    pub(super) root: &'a Root,
    /// The daemon's folder on the card.
    pub(super) folder: String,
    unit: &'static str,
    socket: &'static str,
    snap: bool,
    /// The interfaces of its networks.
    networks: Vec<String>,
    /// The names of its pools.
    pools: Vec<String>,
}

impl<'a> Service<'a> {
    pub(super) fn new(root: &'a Root, lxd: &Lxd) -> Self {
        let found = find_socket(root.dir(), lxd.flavour);
        let found = found.as_deref().and_then(Path::parent);
        let inside = found.and_then(|folder| folder.strip_prefix(root.dir()).ok());
        let folder = match (inside, lxd.flavour) {
            (Some(folder), _) => format!("/{}", folder.display()),
            (None, Flavour::Lxd) => "/var/lib/lxd".into(),
            (None, Flavour::Incus) => "/var/lib/incus".into(),
        };
        let snap = folder.starts_with("/var/snap/");
        let (unit, socket) = match lxd.flavour {
            Flavour::Lxd if snap => ("snap.lxd.daemon.service", "snap.lxd.daemon.unix.socket"),
            Flavour::Lxd => ("lxd.service", "lxd.socket"),
            Flavour::Incus => ("incus.service", "incus.socket"),
        };
        Self {
            root,
            folder,
            unit,
            socket,
            snap,
            networks: lxd.preseed.networks.iter().map(|one| one.name.clone()).collect(),
            pools: lxd
                .preseed
                .storage_pools
                .iter()
                .map(|one| one.name.clone())
                .collect(),
        }
    }

    /// The path on the card of what is in the folder.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Whether it has ended, and nothing starts it: nobody listens on its socket, or systemd has given up starting it.
    pub(super) fn is_gone(&self) -> bool {
        UnixStream::connect(self.root.at(&self.path("unix.socket"))).is_err()
            || query("systemctl", &["is-failed", self.unit]).trim() == "failed"
    }

    /// End it as it is, with all that it has started.
    fn kill(&self) {
        query("systemctl", &["kill", "--signal=KILL", self.unit]);
    }

    pub(super) fn stop(&self) -> Result<(), StepError> {
        self.order("stop")
    }

    pub(super) fn start(&self) -> Result<(), StepError> {
        // What failed too often is not started again before it is told to forget that.
        query("systemctl", &["reset-failed", self.socket, self.unit]);
        self.order("start")
    }

    /// End it as it is and start it again: one that hangs would wait for its join before it stops.
    pub(super) fn restart_by_force(&self) -> Result<(), StepError> {
        self.kill();
        self.stop()?;
        self.start()
    }

    fn order(&self, order: &str) -> Result<(), StepError> {
        if self.snap {
            return run(self.root, "snap", &[order, "lxd"], PATIENCE);
        }
        // Without its socket nobody can start it meanwhile. Not every package has one.
        query("systemctl", &[order, self.socket]);
        run(self.root, "systemctl", &[order, self.unit], PATIENCE)
    }

    /// What has a place in the folder, whether the daemon runs or not, and no join makes: a container or a virtual machine,
    /// a volume, or a pool that is not declared.
    pub(super) fn belongings(&self) -> Option<String> {
        let pools = self.root.names(&self.path(POOLS));
        if let Some(pool) = pools.iter().find(|pool| !self.pools.contains(pool)) {
            return Some(format!("{POOLS}/{pool}"));
        }
        let volumes = pools.iter().map(|pool| format!("{POOLS}/{pool}/custom"));
        let kinds = ["containers", "virtual-machines"].map(str::to_owned);
        kinds.into_iter().chain(volumes).find_map(|kind| {
            let path = self.path(&kind);
            let is_place = |name: &String| {
                let about = fs::symlink_metadata(self.root.at(&format!("{path}/{name}")));
                // Plain files there are logs.
                about.is_ok_and(|about| !about.is_file())
            };
            let found = self.root.names(&path).into_iter().find(is_place)?;
            Some(format!("{kind}/{found}"))
        })
    }

    /// Where something is mounted below the folder, what was mounted last first.
    fn mounts(&self) -> Vec<String> {
        let (mounts, folder) = if self.snap {
            let mounts = query("nsenter", &[OF_SNAP, "cat", "/proc/self/mountinfo"]);
            (mounts, self.folder.clone())
        } else {
            let mounts = self.root.read("/proc/self/mountinfo").unwrap_or_default();
            (mounts, self.root.at(&self.folder).display().to_string())
        };
        // The fifth field is the place.
        let places = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        let is_below = |place: &&str| {
            let rest = place.strip_prefix(folder.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        places.filter(is_below).map(str::to_owned).collect()
    }

    /// Remove everything that the stopped daemon has, except its keys.
    pub(super) fn empty(&self) -> Result<(), StepError> {
        // Later mounts lie on earlier ones.
        for place in &self.mounts() {
            if self.snap {
                query("nsenter", &[OF_SNAP, "umount", place]);
            } else {
                query("umount", &[place]);
            }
        }
        // What is mounted there may be on another disk.
        if let Some(place) = self.mounts().first() {
            return Err(StepError::new(format!(
                "{place} cannot be unmounted, so nothing in {} was removed: end what uses it, then run palmfarm-agent run",
                self.folder
            )));
        }
        // Without a reboot, its networks outlive it, and the daemon takes their interfaces for somebody else's.
        for name in &self.networks {
            self.end_dnsmasq(name);
            query("ip", &["link", "delete", name]);
        }
        for name in self.root.names(&self.folder) {
            if KEPT.contains(&name.as_str()) {
                continue;
            }
            let path = self.path(&name);
            let at = self.root.at(&path);
            let is_dir = fs::symlink_metadata(&at).is_ok_and(|about| about.is_dir());
            let removed = if is_dir {
                fs::remove_dir_all(&at)
            } else {
                fs::remove_file(&at)
            };
            removed.map_err(StepError::io("removing", &path))?;
        }
        Ok(())
    }

    /// End the DHCP server of the network `name`, if it is the process that the daemon noted: `pid: 1234`.
    fn end_dnsmasq(&self, name: &str) {
        let noted = self
            .root
            .read(&self.path(&format!("networks/{name}/dnsmasq.pid")));
        let noted = noted.unwrap_or_default();
        let pid = noted
            .lines()
            .find_map(|line| line.strip_prefix("pid: "))
            .unwrap_or_default();
        let line = self
            .root
            .line(&format!("/proc/{pid}/cmdline"))
            .unwrap_or_default();
        if line.contains("dnsmasq") && line.contains(name) {
            query("kill", &[pid]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::scratch::Scratch;

    #[test]
    fn what_somebody_has_is_seen_in_the_folder() {
        let check = |name: &str, file: &str, expect: Option<&str>| {
            let scratch = Scratch::new(name, &[("/var/lib/lxd/server.crt", ""), (file, "")]);
            let service = Service {
                root: &scratch.0,
                folder: "/var/lib/lxd".into(),
                unit: "lxd.service",
                socket: "lxd.socket",
                snap: false,
                networks: Vec::new(),
                pools: vec!["default".into()],
            };
            assert_eq!(service.belongings().as_deref(), expect, "{file}");
        };
        check("instance-none", "/var/lib/lxd/database/local.db", None);
        check("instance-log", "/var/lib/lxd/containers/lxc-monitord.log", None);
        check(
            "instance-c",
            "/var/lib/lxd/containers/c1/backup.yaml",
            Some("containers/c1"),
        );
        check(
            "instance-vm",
            "/var/lib/lxd/virtual-machines/v/x",
            Some("virtual-machines/v"),
        );
        let pool = "/var/lib/lxd/storage-pools";
        check("pool", &format!("{pool}/default/images/x/y"), None);
        check(
            "pool-mine",
            &format!("{pool}/mine/images/x/y"),
            Some("storage-pools/mine"),
        );
        let volume = Some("storage-pools/default/custom/default_data");
        check("volume", &format!("{pool}/default/custom/default_data/x"), volume);
    }
}
