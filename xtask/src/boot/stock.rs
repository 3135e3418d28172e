//! The base as it is, booted with nothing but an SSH key and a cable in its own seed.
//!
//! If this fails, the base is broken or the harness is, and no card made from it can tell anything.

use std::fs;

use anyhow::{Context, Result};

use super::checks::{equal, nothing, Checks};
use super::disk;
use super::guest::Guest;
use super::lab::Lab;
use super::qemu::Disk;
use crate::base::Base;
use crate::sh;

/// The base's own has `optional: true`, with which systemd 252 waits two minutes for a link that counts.
const NETWORK_CONFIG: &str = "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n";

/// Boot it once and look.
pub(crate) fn trial(lab: &mut Lab, base: &Base, checks: &mut Checks) -> Result<()> {
    prepare(lab, base)?;
    let mut machine = lab.power_on(base, Disk::Plain)?;
    let deadline = lab.deadline;
    let up = machine
        .wait_for(" login:", deadline.at_most(1800))
        .map(|()| String::new());
    checks.check("a login prompt appears", up);
    let lease = deadline.at_most(900).retry(|| {
        machine.still_on()?;
        lab.router
            .lease(lab.board.mac())
            .context("the router has given no address to the card")
    })?;
    let address = lease.to_string();
    let guest = Guest {
        router: &lab.router,
        key: &lab.key,
        user: "ubuntu",
        address: &address,
    };
    let login = deadline.at_most(900).retry(|| {
        machine.still_on()?;
        guest.sh("id -un")
    })?;
    checks.check("ssh takes the key from user-data", equal(&login, "ubuntu"));
    let finished = guest.sh("cloud-init status --wait > /dev/null; cloud-init status");
    let finished = finished.and_then(|text| equal(&text, "status: done"));
    checks.check("cloud-init finished", finished);
    checks.check(
        "no unit failed",
        guest
            .root("systemctl --failed --plain --no-legend")
            .and_then(|text| nothing(&text)),
    );
    checks.check(
        "no ordering cycle",
        guest
            .root("journalctl -b -o cat _PID=1 | grep -i \"ordering cycle\" || true")
            .and_then(|text| nothing(&text)),
    );
    checks.check("networkd is not enabled", {
        guest
            .sh("systemctl is-enabled systemd-networkd || true")
            .and_then(|text| match text.trim() {
                "disabled" | "enabled-runtime" => Ok(text),
                other => anyhow::bail!("systemd-networkd is {other}"),
            })
    });
    checks.check(
        "the root file system has grown",
        guest.sh("df --output=size -BM / | tail -n 1"),
    );
    guest.power_off();
    machine.wait_off(deadline.at_most(600))
}

/// The base on a card, with a key for its default user.
fn prepare(lab: &Lab, base: &Base) -> Result<()> {
    let card = lab.card();
    let out = fs::File::create(&card).with_context(|| format!("creating {}", card.display()))?;
    sh::run(
        sh::cmd("xz", ["--decompress", "--stdout", "-T0"])
            .arg(&base.image)
            .stdout(out),
    )?;
    lab.pad()?;
    let user_data = format!("#cloud-config\nssh_authorized_keys:\n- {}\n", lab.key.public);
    let partition = disk::fat_partition(&card)?;
    for (name, text) in [
        ("user-data", user_data.as_str()),
        ("network-config", NETWORK_CONFIG),
    ] {
        let path = lab.dir.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        sh::run(
            sh::cmd("mcopy", ["-o", "-i", &partition])
                .arg(&path)
                .arg(format!("::/{name}")),
        )?;
    }
    Ok(())
}
