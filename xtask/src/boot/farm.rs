//! A farm on the base: made by the tool as a user would, booted twice, and compared with what `plan` predicted. Only the
//! tool's own commands make a card.

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
use crate::deps::Package;
use crate::sh;

/// What making the card needs from the distribution, beside a base.
pub(crate) const NEEDS: &[Package] = &[("apt-utils", "apt-ftparchive")];

/// The person in the farm.
pub(crate) const USER: &str = "craig";

/// Keys of `ssh` in most farms.
pub(crate) const SSH: &str = "password: false";

/// How long the network may take on an emulated Pi, which needs minutes for what takes a real one seconds.
pub(crate) const LONG_ROLLBACK: &str = "rollback: 600s";

/// Build the card, boot it twice, and check it.
pub(crate) fn trial(
    lab: &mut Lab,
    base: &Base,
    tool: &Path,
    renderer: Renderer,
    checks: &mut Checks,
) -> Result<()> {
    let farm = Farm::with_archive(lab, base, tool, renderer)?;
    checks.note(&format!("plan predicts {}", farm.predicted));

    let first = farm.boot(lab, Disk::Plain, checks, |card, checks| {
        card.outlasts_three_lifetimes(checks);
        card.identity()
    })?;
    let second = farm.boot(lab, Disk::Plain, checks, |card, _| card.identity())?;
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

/// A farm whose network is the usual one, on the card of a lab.
pub(crate) struct Farm<'a> {
    base: &'a Base,
    /// What `plan` says.
    pub(crate) plan: Value,
    /// The address that it predicts for the host.
    predicted: Ipv6Addr,
    renderer: Renderer,
}

impl<'a> Farm<'a> {
    /// Make the card; the router serves the packages that its first boot installs.
    pub(crate) fn with_archive(
        lab: &mut Lab,
        base: &'a Base,
        tool: &Path,
        renderer: Renderer,
    ) -> Result<Self> {
        let repository = repository(lab, base)?;
        lab.router.serve(&repository)?;
        Self::on_card(lab, base, tool, renderer, "")
    }

    /// Make the card; `more` are whole sections of the farm.
    pub(crate) fn on_card(
        lab: &Lab,
        base: &'a Base,
        tool: &Path,
        renderer: Renderer,
        more: &str,
    ) -> Result<Self> {
        let named = format!("renderer: {}", renderer.name());
        let declared = Declared {
            network: &["uplink: eth0", &named, LONG_ROLLBACK],
            names_mac: true,
            ssh: SSH,
            more,
        };
        let plan = build(lab, base, tool, declared)?;
        Ok(Self {
            base,
            predicted: host(&plan)?,
            plan,
            renderer,
        })
    }

    /// Power on, check that everything is as declared, run `more`, power off, and check the card again.
    pub(crate) fn boot<T>(
        &self,
        lab: &mut Lab,
        disk: Disk<'_>,
        checks: &mut Checks,
        more: impl FnOnce(&Card<'_>, &mut Checks) -> Result<T>,
    ) -> Result<T> {
        let machine = lab.power_on(self.base, disk)?;
        checks.note(&format!("boot {}", lab.boots));
        let mut card = Card::new(lab, machine, self.predicted, self.renderer);
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
        let report = off::report(lab);
        let report = report.and_then(|report| off::agrees(&report, &lab.host, &lab.mac(), self.predicted));
        checks.check("the report on the FAT partition says the same", report);
        Ok(kept)
    }
}

/// What a farm says beyond `farm.yaml` in this directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared<'a> {
    /// Keys of `network`, one a line.
    pub(crate) network: &'a [&'a str],
    /// Whether the farm names the Pi's hardware address. If it does not, the agent finds it when the card boots.
    pub(crate) names_mac: bool,
    /// Keys of `ssh`.
    pub(crate) ssh: &'a str,
    /// Whole sections, as in a farm file.
    pub(crate) more: &'a str,
}

/// Write the farm, and let the tool plan and make the card; returns the plan.
pub(crate) fn build(lab: &Lab, base: &Base, tool: &Path, declared: Declared<'_>) -> Result<Value> {
    let farm = write(lab, &[], base, declared)?;
    let plan = plan(lab, tool, &farm)?;
    let (sh, image) = (sh::shell()?, lab.card());
    cmd!(sh, "{tool} build {farm} -o {image}").run()?;
    lab.pad()?;
    Ok(plan)
}

/// Write the farm of the card of `lab`, and of those `beside` it; returns its path.
pub(crate) fn write(lab: &Lab, beside: &[Lab], base: &Base, declared: Declared<'_>) -> Result<PathBuf> {
    let farm = lab.dir.join("farm.yaml");
    let card = |lab: &Lab| {
        let (host, mac) = (&lab.host, lab.mac());
        let mac = if declared.names_mac {
            format!(", mac: {mac:?}")
        } else {
            String::new()
        };
        format!("{host}: {{hostname: {host}{mac}}}")
    };
    let cards: Vec<String> = std::iter::once(lab).chain(beside).map(card).collect();
    let text = include_str!("farm.yaml")
        .replace("@BASE@", &format!("{:?}", base.image.display().to_string()))
        .replace("@KEY@", &lab.key.public)
        .replace("@NETWORK@", &declared.network.join("\n  "))
        .replace("@CARDS@", &cards.join("\n  "))
        .replace("@SSH@", declared.ssh)
        .replace("@MORE@", declared.more);
    fs::write(&farm, text)?;
    // The card cannot reach Debian's archive, and apt would wait for it.
    let sources = format!("deb [trusted=yes] http://{ADDRESS}/ ./\n");
    fs::write(lab.dir.join("sources.list"), sources)?;
    Ok(farm)
}

/// What the tool plans for the card of `lab`.
pub(crate) fn plan(lab: &Lab, tool: &Path, farm: &Path) -> Result<Value> {
    let (sh, host) = (sh::shell()?, &lab.host);
    let plan = cmd!(
        sh,
        "{tool} plan {farm} --card {host} --prefix {PREFIX} --format json"
    );
    serde_json::from_str(&sh::output(plan)?).context("reading what `palmfarm plan --format json` printed")
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
