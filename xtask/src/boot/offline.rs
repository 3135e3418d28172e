//! A farm that carries everything that its first boot installs – Debian packages, LXD as a snap, a container's image –
//! booted beside a router whose uplink is cut. The base has nothing of LXD or snapd.

use std::path::Path;

use anyhow::{ensure, Context, Result};
use fs_err as fs;
use xshell::cmd;

use super::checks::{equal, Checks};
use super::farm::Farm;
use super::guest::Guest;
use super::lab::Lab;
use super::lxd;
use super::off;
use super::qemu::Disk;
use super::Renderer;
use crate::base::Base;
use crate::sh;

/// Build the card, boot it, and ask its container from the router.
pub(crate) fn trial(lab: &mut Lab, base: &Base, tool: &Path, checks: &mut Checks) -> Result<()> {
    let carried = carry(lab, base)?;
    let farm = lxd::with_container(lab, base)?;
    let more = format!("{carried}{farm}");
    let farm = Farm::on_card(lab, base, tool, Renderer::Ifupdown, &more)?;
    let web = lxd::address(&farm.plan)?;
    checks.note(&format!("plan predicts {web} for the container"));
    farm.boot(lab, Disk::Plain, checks, |card, checks| {
        let guest = &card.guest;
        checks.nothing(
            "the card finds no host of the Internet",
            guest.sh("getent ahosts example.org || true"),
        );
        // Asking would have failed, and the agent says what fails.
        let asked = "journalctl -b -o cat -u palmfarm-firstboot.service | grep 'apt-get.* update' || true";
        checks.nothing("nobody asked for an archive", guest.root(asked));
        checks.check("snapd has the carried snaps", snaps(guest));
        checks.check("LXD is the one in the snap, and there is no other", daemon(guest));
        lxd::is_served(card.lab, web, checks);
        Ok(())
    })?;
    checks.check(
        "the report on the FAT partition has the container where it was predicted",
        off::report(lab).and_then(|report| lxd::reported(&report, web)),
    );
    Ok(())
}

/// Put what the card carries beside its farm; returns the section of the farm that says so.
fn carry(lab: &Lab, base: &Base) -> Result<String> {
    let lxd = base.lxd.as_ref().context("LXD is a package of this base")?;
    let (sh, dir) = (sh::shell()?, lab.dir.join("debs"));
    for from in [&base.packages, &lxd.packages] {
        sh::run(cmd!(sh, "cp --recursive --no-target-directory {from} {dir}"))?;
    }
    let mut snaps = Vec::new();
    for snap in &lxd.snaps {
        let name = snap.file_name().context("a snap has no name")?;
        fs::copy(snap, lab.dir.join(name))?;
        snaps.push(format!("{{file: {}, dangerous: true}}", name.display()));
    }
    Ok(format!(
        "carry:\n  packages: [debs]\n  lxd: [{}]\n",
        snaps.join(", ")
    ))
}

/// Whether both snaps are installed, and from files.
fn snaps(guest: &Guest<'_>) -> Result<String> {
    let list = guest.root("snap list")?;
    for name in ["core", "lxd"] {
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        let revision = line.and_then(|line| line.split_whitespace().nth(2));
        // snapd counts those as x1, x2 and so on.
        ensure!(revision == Some("x1"), "snap list says {list}");
    }
    Ok(list)
}

/// The program of the running daemon.
fn daemon(guest: &Guest<'_>) -> Result<String> {
    equal(
        &guest.root("dpkg-query --show --showformat='${Package} ' 'lxd*' || true")?,
        "",
    )?;
    let program = guest
        .root("readlink /proc/$(systemctl show --value --property=MainPID snap.lxd.daemon.service)/exe")?;
    equal(program.trim(), "/snap/lxd/x1/bin/lxd")?;
    Ok(program)
}
