//! The agent, its document, and what it works with.

use minijinja::context;
use palmfarm_protocol::paths::{CLUSTER_KEY, DOCUMENT, MEMBER_KEY, PRESEED};
use serde_json::json;

use super::builder::{yaml, TreeBuilder, UNITS};
use super::host::planned;
use super::{Inputs, RenderError};
use crate::base::BaseFacts;
use crate::edit::tree::{Access, Node, Privacy, Volume};
use crate::farm::lxd_image::Machine;
use crate::farm::secret;
use crate::plan::{self, CardPlan};

/// Plan all of it.
pub(super) fn render(
    build: &mut TreeBuilder,
    plan: &CardPlan,
    base: &BaseFacts,
    inputs: &Inputs,
) -> Result<(), RenderError> {
    match Machine::of(&inputs.agent) {
        Some(Machine::Known(arch)) if arch == base.arch => {}
        found => {
            return Err(RenderError::Agent {
                arch: base.arch,
                found: found.map_or_else(|| "not an ELF file".into(), |found| format!("for {found}")),
            })
        }
    }
    let node = Node::File {
        content: inputs.agent.clone(),
        access: Access::root(0o755),
    };
    let path = "/usr/lib/palmfarm/palmfarm-agent";
    build.add(Volume::Root, path, node, "palmfarm-agent", Privacy::Public)?;
    // In the search path of shells: people type `palmfarm-agent status` on the Pi.
    build.link(
        "/usr/sbin/palmfarm-agent",
        "../lib/palmfarm/palmfarm-agent",
        "palmfarm-agent",
    )?;
    let mut document = plan.firstboot.clone();
    document.boot_mount.clone_from(&base.boot_mount);
    let text = plan::document(&document)?;
    // Scripts may contain secrets of containers.
    build.private(DOCUMENT, &text, "farm.yaml", Privacy::Secret)?;
    build.unit(
        "systemd/palmfarm-firstboot.service",
        "multi-user.target",
        context! {},
    )?;
    preseed(build, plan)?;
    cluster(build, plan)?;
    for file in &plan.payload {
        let planned = planned(file, format!("farm.yaml: {}", file.source));
        build.tree.add(Volume::Root, file.path.clone(), planned)?;
    }
    build.dir("/var/lib/palmfarm", 0o755, "palmfarm-agent")
}

/// The card's keys as a member of a cluster, and what looks after it.
fn cluster(build: &mut TreeBuilder, plan: &CardPlan) -> Result<(), RenderError> {
    let Some(keys) = &plan.cluster_keys else {
        return Ok(());
    };
    let origin = "farm.yaml cluster";
    build.private(MEMBER_KEY, &keys.member.pem(), origin, Privacy::Secret)?;
    if let Some(key) = &keys.cluster {
        build.private(CLUSTER_KEY, &key.pem(), origin, Privacy::Secret)?;
    }
    // The timer alone starts it.
    build.template(
        "systemd/palmfarm-cluster.service",
        &format!("{UNITS}/palmfarm-cluster.service"),
        context! {},
    )?;
    build.unit("systemd/palmfarm-cluster.timer", "timers.target", context! {})
}

fn preseed(build: &mut TreeBuilder, plan: &CardPlan) -> Result<(), RenderError> {
    let Some(lxd) = &plan.firstboot.lxd else {
        return Ok(());
    };
    let text = yaml(
        "# palmfarm: what the agent makes true, in the form of `lxd init --preseed`, for people. The agent compares and \
         changes\n\
         # only what differs: a preseed that is applied again unplugs containers for a moment.",
        &json!(lxd.preseed),
    );
    let is_shown = lxd
        .preseed
        .profiles
        .iter()
        .all(|profile| secret::all_shown(profile.config.keys(), profile.devices.values().flatten()));
    let privacy = Privacy::secret_if(!is_shown);
    build.private(PRESEED, &text, "farm.yaml lxd", privacy)
}
