//! A farm on the base: made by the tool as a user would, booted twice, and compared with what `plan` had said.

use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::checks::{equal, nothing, Checks};
use super::guest::Guest;
use super::lab::{Lab, MAC};
use super::look::Card;
use super::router::{ADDRESS, PREFIX};
use super::{off, Renderer};
use crate::base::Base;
use crate::deps::{command, Package};
use crate::sh;

/// What making the card needs from the distribution, beside a base.
pub(crate) const NEEDS: &[Package] = &[command("apt-utils", "apt-ftparchive")];

/// The card's name and host name in the farm.
pub(crate) const HOST: &str = "palm";
/// The person in the farm.
const USER: &str = "craig";

/// Build the card, boot it twice, and look.
pub(crate) fn trial(
    lab: &mut Lab,
    base: &Base,
    tool: &Path,
    renderer: Renderer,
    checks: &mut Checks,
) -> Result<()> {
    let repository = repository(lab, base)?;
    lab.router.serve(&repository)?;
    let predicted = build(lab, base, tool, renderer)?;
    checks.note(&format!("plan predicts {predicted}"));

    let first = boot(lab, base, predicted, renderer, Visit::First, checks)?;
    let second = boot(lab, base, predicted, renderer, Visit::Second, checks)?;
    for ((what, first), (_, second)) in first.iter().zip(&second) {
        checks.check(
            &format!("the second boot left {what} alone"),
            equal(second, first.trim()),
        );
    }
    Ok(())
}

/// Which power-on of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    First,
    Second,
}

/// Power on, look, power off, look again; what must be the same the next time.
fn boot(
    lab: &mut Lab,
    base: &Base,
    predicted: Ipv6Addr,
    renderer: Renderer,
    visit: Visit,
    checks: &mut Checks,
) -> Result<Vec<(&'static str, String)>> {
    let runs = match visit {
        Visit::First => 1,
        Visit::Second => 2,
    };
    checks.note(&format!("boot {runs}"));
    let mut machine = lab.power_on(base)?;
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
        renderer,
        deadline: lab.deadline,
    };
    card.answers(checks)?;
    card.settles(checks);
    card.is_as_declared(checks);
    card.has_its_network(checks);
    if visit == Visit::First {
        card.outlasts_three_lifetimes(checks);
    }
    let kept = card.identity()?;
    card.guest.power_off();
    let off = machine.wait_off(lab.deadline.at_most(600));
    checks.check("it powers off", off.map(|()| String::new()));

    off::file_systems(lab, checks);
    let report = off::report(lab);
    let told = report.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"));
    checks.check(
        "the report on the FAT partition says the same",
        told.and_then(|report| off::agrees(report, predicted)),
    );
    if visit == Visit::Second {
        let acted = report.and_then(|report| nothing(&off::actions(&report)));
        checks.check("the agent found nothing to do", acted);
    }
    Ok(kept)
}

/// Write the farm, ask the tool what will be, and let it make the card.
fn build(lab: &Lab, base: &Base, tool: &Path, renderer: Renderer) -> Result<Ipv6Addr> {
    let farm = lab.dir.join("farm.yaml");
    let text = include_str!("farm.yaml")
        .replace("@BASE@", &format!("{:?}", base.image.display().to_string()))
        .replace("@KEY@", &lab.key.public)
        .replace("@RENDERER@", renderer.name())
        .replace("@MAC@", MAC);
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
    let predicted = predicted(&plan)?;
    sh::run_shown(sh::cmd(&tool, ["build"]).arg(&farm).arg("-o").arg(lab.card()))?;
    lab.pad()?;
    Ok(predicted)
}

/// The host's own address in the prefix.
fn predicted(plan: &Value) -> Result<Ipv6Addr> {
    let mut addresses = plan
        .pointer("/host/addresses")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    addresses
        .find_map(|address| address.as_str()?.parse().ok())
        .with_context(|| format!("`palmfarm plan` predicts no IPv6 address of the host: {plan:#}"))
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
