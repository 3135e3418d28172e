//! A farm on the base: made by the tool as a user would, booted twice, and compared with what `plan` had said. Never makes
//! a card in another way than by the tool's own commands.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fs_err as fs;
use serde_json::Value;
use xshell::cmd;

use super::checks::{equal, Checks};
use super::lab::Lab;
use super::look::Card;
use super::qemu::Disk;
use super::router::{ADDRESS, PREFIX};
use super::{off, Renderer};
use crate::base::Base;
use crate::deps::{command, Package};
use crate::sh;

/// What making the card needs from the distribution, beside a base.
pub(crate) const NEEDS: &[Package] = &[command("apt-utils", "apt-ftparchive")];

/// The person in the farm.
pub(crate) const USER: &str = "craig";

/// How long the network has on an emulated Pi, which takes minutes where a real one takes seconds.
pub(crate) const LONG_ROLLBACK: &str = "rollback: 600s";

/// Build the card, boot it twice, and look.
pub(crate) fn trial(
    lab: &mut Lab,
    base: &Base,
    tool: &Path,
    renderer: Renderer,
    checks: &mut Checks,
) -> Result<()> {
    let predicted = card(lab, base, tool, renderer)?;
    checks.note(&format!("plan predicts {predicted}"));

    let first = powered(
        lab,
        base,
        predicted,
        renderer,
        Disk::Plain,
        checks,
        |card, checks| {
            card.outlasts_three_lifetimes(checks);
            card.identity()
        },
    )?;
    let second = powered(lab, base, predicted, renderer, Disk::Plain, checks, |card, _| {
        card.identity()
    })?;
    let idle = off::latest_run(lab).and_then(|report| off::changed_nothing(&report));
    checks.check("the agent's second run found nothing to do", idle);
    for ((what, first), (_, second)) in first.iter().zip(&second) {
        checks.check(
            &format!("the second boot left {what} alone"),
            equal(second, first.trim()),
        );
    }
    Ok(())
}

/// The card of a farm whose network is the usual one, and the address that `plan` predicts for the host.
pub(crate) fn card(lab: &mut Lab, base: &Base, tool: &Path, renderer: Renderer) -> Result<Ipv6Addr> {
    let repository = repository(lab, base)?;
    lab.router.serve(&repository)?;
    let named = format!("renderer: {}", renderer.name());
    let declared = Declared {
        network: &["uplink: eth0", &named, LONG_ROLLBACK],
        mac: Mac::Named,
        more: "",
    };
    host(&build(lab, base, tool, declared)?)
}

/// Power on, see that everything is as declared, do what `more` does, power off, and look at the card again.
pub(crate) fn powered<T>(
    lab: &mut Lab,
    base: &Base,
    predicted: Ipv6Addr,
    renderer: Renderer,
    disk: Disk<'_>,
    checks: &mut Checks,
    more: impl FnOnce(&Card<'_>, &mut Checks) -> Result<T>,
) -> Result<T> {
    let machine = lab.power_on(base, disk)?;
    checks.note(&format!("boot {}", lab.boots()));
    let mut card = Card::new(lab, machine, predicted, renderer);
    card.answers(checks)?;
    card.settles(checks);
    card.is_as_declared(checks);
    card.has_its_network(checks);
    let kept = more(&card, checks)?;
    let restarts = card.machine.restarts().map(|count| match count {
        0 => String::new(),
        count => format!("it restarted {count} time(s)"),
    });
    lab.power_off(&card.guest, card.machine, checks);
    checks.check("the kernel did not give up", restarts);
    off::file_systems(lab, checks);
    let report = off::report(lab).and_then(|report| off::agrees(&report, lab.board.mac(), predicted));
    checks.check("the report on the FAT partition says the same", report);
    Ok(kept)
}

/// What a farm says beyond `farm.yaml` in this directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared<'a> {
    /// Keys of `network`, one a line.
    pub(crate) network: &'a [&'a str],
    /// Whether the farm names the Pi's hardware address; without it the agent finds it when the card boots.
    pub(crate) mac: Mac,
    /// Whole sections, as they stand in a farm file.
    pub(crate) more: &'a str,
}

/// Whether a farm names the Pi's hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mac {
    /// It does.
    Named,
    /// It does not.
    FoundOnThePi,
}

/// Write the farm, and let the tool make the card; what the tool had said before that the card would be.
pub(crate) fn build(lab: &Lab, base: &Base, tool: &Path, declared: Declared<'_>) -> Result<Value> {
    let (farm, image) = (lab.dir.join("farm.yaml"), lab.card());
    let card = match declared.mac {
        Mac::Named => format!("mac: {:?}", lab.board.mac()),
        Mac::FoundOnThePi => String::new(),
    };
    let text = include_str!("farm.yaml")
        .replace("@BASE@", &format!("{:?}", base.image.display().to_string()))
        .replace("@KEY@", &lab.key.public)
        .replace("@NETWORK@", &declared.network.join("\n  "))
        .replace("@CARD@", &card)
        .replace("@MORE@", declared.more);
    fs::write(&farm, text)?;
    // Debian's archive is out of reach in there, and apt would wait for it.
    let sources = format!("deb [trusted=yes] http://{ADDRESS}/ ./\n");
    fs::write(lab.dir.join("sources.list"), sources)?;

    let sh = sh::shell()?;
    let plan = sh::output(cmd!(sh, "{tool} plan {farm} --prefix {PREFIX} --format json"))?;
    let plan = serde_json::from_str(&plan).context("reading what `palmfarm plan --format json` printed")?;
    cmd!(sh, "{tool} build {farm} -o {image}").run()?;
    lab.pad()?;
    Ok(plan)
}

/// The host's own address in the prefix, as `plan` predicts it.
pub(crate) fn host(plan: &Value) -> Result<Ipv6Addr> {
    let addresses = plan.pointer("/host/addresses").and_then(Value::as_array);
    let mut addresses = addresses.into_iter().flatten();
    let address = addresses.find_map(|address| address.as_str()?.parse().ok());
    address.context("`palmfarm plan` predicts no address of the host")
}

/// A flat repository of the packages that first boot may ask for.
fn repository(lab: &Lab, base: &Base) -> Result<PathBuf> {
    let (dir, from) = (lab.dir.join("packages"), &base.packages);
    let sh = sh::shell()?;
    sh::run(cmd!(sh, "cp --recursive --no-target-directory {from} {dir}"))?;
    sh.change_dir(&dir);
    fs::write(
        dir.join("Packages"),
        sh::output(cmd!(sh, "apt-ftparchive packages ."))?,
    )?;
    Ok(dir)
}
