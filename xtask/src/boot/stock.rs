//! The base as it is, booted with nothing but an SSH key and a cable in its own seed.
//!
//! If this fails, the base or the harness is broken, and a test of a card made from it would prove nothing. Never runs the
//! tool under test.

use anyhow::{bail, Context, Result};
use fs_err as fs;
use xshell::cmd;

use super::checks::{equal, Checks};
use super::disk;
use super::lab::Lab;
use super::qemu::Disk;
use crate::base::Base;
use crate::sh;

/// The base's own has `optional: true`; with that, systemd 252 waits two minutes for another link.
const NETWORK_CONFIG: &str = "network:\n  version: 2\n  ethernets:\n    eth0:\n      dhcp4: true\n";

/// Boot it once and check it.
pub(crate) fn trial(lab: &mut Lab, base: &Base, checks: &mut Checks) -> Result<()> {
    prepare(lab, base)?;
    let mut machine = lab.power_on(base, Disk::Plain)?;
    let deadline = lab.deadline;
    checks.done(
        "a login prompt appears",
        machine.wait_for(" login:", deadline.at_most(1800)),
    );
    let lease = deadline.at_most(900).retry(|| {
        machine.still_on()?;
        let lease = lab.router.lease(&lab.mac());
        lease.context("the router has given no address to the card")
    })?;
    let guest = lab.guest("ubuntu", &lease.to_string());
    let login = deadline.at_most(900).retry(|| {
        machine.still_on()?;
        guest.sh("id -un")
    })?;
    checks.check("ssh takes the key from user-data", equal(&login, "ubuntu"));
    let finished = guest.sh("cloud-init status --wait > /dev/null; cloud-init status");
    checks.equal("cloud-init finished", finished, "status: done");
    checks.nothing(
        "no unit failed",
        guest.root("systemctl --failed --plain --no-legend"),
    );
    let cycles = guest.root("journalctl -b -o cat _PID=1 | grep -i \"ordering cycle\" || true");
    checks.nothing("no ordering cycle", cycles);
    let networkd = guest.sh("systemctl is-enabled systemd-networkd || true");
    let networkd = networkd.and_then(|text| match text.trim() {
        "disabled" | "enabled-runtime" => Ok(text),
        other => bail!("systemd-networkd is {other}"),
    });
    checks.check("networkd is not enabled", networkd);
    let size = guest.sh("df --output=size -BM / | tail -n 1");
    checks.check("the root file system has grown", size);
    lab.power_off(&guest, machine, checks);
    Ok(())
}

/// The base on a card, with a key for its default user.
fn prepare(lab: &Lab, base: &Base) -> Result<()> {
    let (sh, card) = (sh::shell()?, lab.card());
    let image = &base.image;
    let mut xz = std::process::Command::from(cmd!(sh, "xz --decompress --stdout -T0 {image}"));
    sh::run(xz.stdout(fs::File::create(&card)?.into_file()))?;
    lab.pad()?;
    let user_data = format!("#cloud-config\nssh_authorized_keys:\n- {}\n", lab.key.public);
    let partition = disk::fat_partition(&card)?;
    for (name, text) in [
        ("user-data", user_data.as_str()),
        ("network-config", NETWORK_CONFIG),
    ] {
        let path = lab.dir.join(name);
        fs::write(&path, text)?;
        sh::run(cmd!(sh, "mcopy -o -i {partition} {path} ::/{name}"))?;
    }
    Ok(())
}
