//! What an image that nobody here has seen would do as a base: the survey, the refusals and the edits of an ordinary farm,
//! told one by one. It has no rule of its own, so it says what `build` would say; it writes nothing. Its findings go
//! into public bug reports: no hash, key or name of a network is in them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use super::{BuildError, FarmInputs, HostInputs};
use crate::agents::{self, AgentError};
use crate::base::layout::{Layout, Partition};
use crate::base::survey;
use crate::base::{Arch, BaseFacts, BaseText};
use crate::edit;
use crate::edit::block::ReadAt;
use crate::edit::tree::Tree;
use crate::farm;
use crate::plan::CardPlan;
use crate::render::{self, Inputs};
use crate::text::chain;
use crate::text::{printable, size_text};

/// What every farm has, nearly: a user who logs in with a key, a time zone, a locale and LXD. The name of the user is one
/// that no base has taken; the key is 32 zero bytes.
const ORDINARY: &str =
    "farm: 1\nbase: mini\nhostname: palmfarm-doctor\ntimezone: Etc/UTC\nlocale: en_GB.UTF-8\n\
    users:\n  - name: palmfarm-doctor\n    groups: [sudo]\n    sudo: nopasswd\n    ssh_keys:\n      \
    - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\nlxd: {}\n";

/// Why an image cannot be judged. The image is not the reason.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// There is no agent for its architecture here, and whether a card has room for it cannot be tried.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// An error of this program, never of the user.
    #[error("planning palmfarm's own farm: {0}")]
    Ordinary(String),
}

impl DoctorError {
    /// What the person can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Agent(error) => error.hint(),
            Self::Ordinary(_) => Some("this is a bug in palmfarm; please report it".into()),
        }
    }
}

/// What is made of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A fact.
    Found,
    /// palmfarm undoes it on the card.
    Undone,
    /// No card is made as long as it is so.
    Refused,
}

impl Verdict {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Undone => "undone",
            Self::Refused => "refused",
        }
    }
}

/// By which unit it is known how LXD comes onto a system (`src/agent/lxd.rs` has the order).
const DAEMONS: [(&str, &str); 4] = [
    ("incus.service", "Incus is installed"),
    ("lxd.service", "LXD is installed as a package"),
    ("lxd-installer.socket", "lxd-installer installs LXD's snap"),
    ("snapd.service", "snapd has LXD's snap or installs it"),
];

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is made of it.
    pub verdict: Verdict,
    /// What it is about: a word for a fact, a path for what is undone. `None` if the message says it.
    pub about: Option<String>,
    /// What was found, on one line.
    pub message: String,
    /// What the person can do.
    pub hint: Option<String>,
}

impl Finding {
    fn found(about: &str, message: String) -> Self {
        Self {
            verdict: Verdict::Found,
            about: Some(about.to_owned()),
            message,
            hint: None,
        }
    }

    fn refused(error: &BuildError) -> Self {
        Self {
            verdict: Verdict::Refused,
            about: None,
            message: chain(error),
            hint: error.hint(),
        }
    }
}

/// Everything that is found on `image`: facts first, then what palmfarm undoes, then why it is refused.
///
/// # Errors
/// It was not tried to the end.
pub fn doctor<B>(image: &Arc<B>, host: HostInputs<'_>) -> Result<Vec<Finding>, DoctorError>
where
    B: ReadAt + ?Sized + 'static,
{
    doctor_with(image, host, &agents::agent)
}

/// The same with agents from elsewhere.
///
/// # Errors
/// It was not tried to the end.
pub fn doctor_with<B>(
    image: &Arc<B>,
    host: HostInputs<'_>,
    agent: &dyn Fn(Arch) -> Result<Cow<'static, [u8]>, AgentError>,
) -> Result<Vec<Finding>, DoctorError>
where
    B: ReadAt + ?Sized + 'static,
{
    let mut findings = Vec::new();
    let layout = match Layout::read(image) {
        Ok(layout) => layout,
        Err(error) => return Ok(vec![Finding::refused(&error.into())]),
    };
    about_image(&layout, &mut findings);
    let surveyed = survey::survey(image, &layout);
    let facts = match surveyed.and_then(|facts| Ok((survey::free_bytes(image, &layout)?, facts))) {
        Ok((free, facts)) => {
            about_system(&facts, free, &mut findings);
            facts
        }
        Err(error) => {
            findings.push(Finding::refused(&error.into()));
            return Ok(findings);
        }
    };
    if facts.customized {
        let mut finished = Finding::refused(&BuildError::Customized);
        finished.hint = finished
            .hint
            .map(|hint| format!("{hint}; `palmfarm inspect` shows what is on this one"));
        findings.push(finished);
        return Ok(findings);
    }
    let agent = agent(facts.arch)?.into_owned().into();
    let inputs = Inputs {
        agent,
        base_name: "the image".into(),
        base_sha256: None,
        overlays: Vec::new(),
        replaced: BTreeMap::new(),
    };
    let plan = ordinary(host)?;
    let diagnosis = render::diagnose(&plan, &facts, &inputs);
    let refused = diagnosis.refusals.iter().map(|reason| Finding {
        verdict: Verdict::Refused,
        about: None,
        message: reason.to_string(),
        hint: Some(reason.hint()),
    });
    match diagnosis.tree {
        Err(error) => {
            findings.extend(refused);
            findings.push(Finding::refused(&error.into()));
        }
        Ok(tree) => {
            findings.extend(undone(&tree));
            findings.extend(refused);
            if let Err(error) = edit::edit(image, layout.spans(), &tree, facts.newest) {
                findings.push(Finding::refused(&error.into()));
            }
        }
    }
    Ok(findings)
}

/// A card of [`ORDINARY`].
fn ordinary(host: HostInputs<'_>) -> Result<CardPlan, DoctorError> {
    let failed = |error: &dyn Error| DoctorError::Ordinary(chain(error));
    let loaded = farm::parse("a farm", ORDINARY.as_bytes(), Path::new("."), &|_| None, None)
        .map_err(|refused| DoctorError::Ordinary(refused.text().render(refused.problems())))?;
    let mut cards = loaded.farm.resolved_cards();
    let card = cards
        .pop()
        .ok_or(DoctorError::Ordinary("it has no card".into()))?;
    let inputs = FarmInputs::read(loaded, host).map_err(|error| failed(&error))?;
    inputs.plan(card, &[]).map_err(|error| failed(&error))
}

fn about_image(layout: &Layout, findings: &mut Vec<Finding>) {
    let partition = |partition: &Partition| {
        let contents = printable(&partition.contents.to_string());
        format!(
            "partition {}, {contents}, {}",
            partition.number,
            size_text(partition.span.size())
        )
    };
    let size = size_text(layout.disk_size);
    let count = layout.partitions.len();
    findings.extend([
        Finding::found(
            "image",
            format!("{} table, {count} partitions, {size}", layout.scheme),
        ),
        Finding::found("boot", partition(&layout.boot)),
        Finding::found("root", partition(&layout.root)),
    ]);
}

fn about_system(facts: &BaseFacts, free: u64, findings: &mut Vec<Finding>) {
    let path = |text: &Option<BaseText>| text.as_ref().map_or("none".into(), |text| text.path.to_string());
    let systemd = facts
        .systemd
        .map_or("no systemd".into(), |version| format!("systemd {version}"));
    let release = printable(&facts.release);
    let daemons: Vec<&str> = DAEMONS
        .iter()
        .filter(|(unit, _)| facts.has_unit(unit))
        .map(|(_, way)| *way)
        .collect();
    let sshd = match (facts.has_unit("ssh.service"), facts.starts_ssh) {
        (false, _) => "not installed, so nobody can log in over the network",
        (true, false) => "installed, and nothing starts it",
        (true, true) => "starts at boot",
    };
    let runs = match facts.cloud_init.instances.len() {
        0 => "has never run here".to_owned(),
        count => format!("has run here for {count} instances"),
    };
    let accounts = &facts.accounts;
    findings.extend([
        Finding::found("system", format!("{release}, {}, {systemd}", facts.arch)),
        Finding::found("room", format!("{} free in the root filesystem", size_text(free))),
        Finding::found(
            "firmware",
            format!(
                "command line {}, configuration {}",
                path(&facts.cmdline),
                path(&facts.config)
            ),
        ),
        Finding::found("cloud-init", runs),
        Finding::found(
            "network",
            format!(
                "{} files of netplan, which palmfarm empties; {} of systemd-networkd",
                facts.netplan.len(),
                facts.hindrances.networkd.len()
            ),
        ),
        Finding::found("sshd", sshd.into()),
        Finding::found(
            "accounts",
            format!(
                "{} users and {} groups; {} can log in with a password, or without one",
                accounts.users.len(),
                accounts.groups.len(),
                accounts.with_password.len()
            ),
        ),
        Finding::found(
            "lxd",
            if daemons.is_empty() {
                "no snapd, no package of LXD or Incus; the first boot installs one".into()
            } else {
                daemons.join(", ")
            },
        ),
    ]);
}

fn undone(tree: &Tree) -> impl Iterator<Item = Finding> + '_ {
    tree.iter().filter_map(|(volume, path, planned)| {
        Some(Finding {
            verdict: Verdict::Undone,
            about: Some(format!("{volume}:{path}")),
            message: render::undone(&planned.origin)?.to_owned(),
            hint: None,
        })
    })
}
