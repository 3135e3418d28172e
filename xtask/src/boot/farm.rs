//! A farm on the base: made by the tool as a user would, booted twice, and compared with what `plan` had said.

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::checks::{equal, Checks};
use super::guest::Guest;
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

/// An emulated Pi takes minutes where a real one takes seconds.
pub(crate) const PATIENT: &str = "rollback: 600s";

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
        network: &["uplink: eth0", &named, PATIENT],
        mac: Mac::Named,
        more: "",
    };
    build(lab, base, tool, declared)?.context("`palmfarm plan` predicts no address of the host")
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
    let mut machine = lab.power_on(base, disk)?;
    checks.note(&format!("boot {}", lab.boots()));
    let address = predicted.to_string();
    let guest = Guest {
        router: &lab.router,
        key: &lab.key,
        user: USER,
        address: &address,
    };
    let mut card = Card {
        guest,
        machine: &mut machine,
        predicted,
        mac: lab.board.mac(),
        renderer,
        deadline: lab.deadline,
    };
    card.answers(checks)?;
    card.settles(checks);
    card.is_as_declared(checks);
    card.has_its_network(checks);
    let kept = more(&card, checks)?;
    let restarts = card.machine.restarts();
    card.guest.power_off();
    let off = machine.wait_off(lab.deadline.at_most(600));
    checks.check(
        "the kernel did not give up",
        restarts.map(|count| match count {
            0 => String::new(),
            count => format!("it restarted {count} time(s)"),
        }),
    );
    checks.check("it powers off", off.map(|()| String::new()));
    off::file_systems(lab, checks);
    checks.check(
        "the report on the FAT partition says the same",
        off::report(lab).and_then(|report| off::agrees(&report, lab.board.mac(), predicted)),
    );
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

/// Write the farm, ask the tool what will be, and let it make the card; the host's predicted address, if it predicts one.
pub(crate) fn build(lab: &Lab, base: &Base, tool: &Path, declared: Declared<'_>) -> Result<Option<Ipv6Addr>> {
    let farm = lab.dir.join("farm.yaml");
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
    fs::write(&farm, text).with_context(|| format!("writing {}", farm.display()))?;
    // Debian's archive is out of reach in there, and apt would wait for it.
    let sources = lab.dir.join("sources.list");
    fs::write(&sources, format!("deb [trusted=yes] http://{ADDRESS}/ ./\n"))
        .with_context(|| format!("writing {}", sources.display()))?;

    let tool = tool.display().to_string();
    let mut plan = sh::cmd(&tool, ["plan"]);
    let plan = sh::output(plan.arg(&farm).args(["--prefix", PREFIX, "--format", "json"]))?;
    let plan: Value =
        serde_json::from_str(&plan).context("reading what `palmfarm plan --format json` printed")?;
    sh::run_shown(sh::cmd(&tool, ["build"]).arg(&farm).arg("-o").arg(lab.card()))?;
    lab.pad()?;
    Ok(predicted(&plan))
}

/// The host's own address in the prefix.
fn predicted(plan: &Value) -> Option<Ipv6Addr> {
    let mut addresses = plan.pointer("/host/addresses")?.as_array()?.iter();
    addresses.find_map(|address| address.as_str()?.parse().ok())
}

/// A flat repository of the packages that first boot may ask for.
fn repository(lab: &Lab, base: &Base) -> Result<PathBuf> {
    let dir = lab.dir.join("packages");
    fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
    sh::run(
        sh::cmd("cp", ["--recursive", "--no-target-directory"])
            .arg(&base.packages)
            .arg(&dir),
    )?;
    let index = dir.join("Packages");
    let out = fs::File::create(&index).with_context(|| format!("creating {}", index.display()))?;
    sh::run(
        sh::cmd("apt-ftparchive", ["packages", "."])
            .current_dir(&dir)
            .stdout(out),
    )?;
    Ok(dir)
}
