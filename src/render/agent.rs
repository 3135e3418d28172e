//! The agent, its document, and what it works with.

use minijinja::context;
use palmfarm_protocol::paths::{DOCUMENT, PRESEED};
use serde_json::json;

use super::builder::{yaml, TreeBuilder};
use super::host::privacy_of;
use super::{Inputs, RenderError};
use crate::base::BaseFacts;
use crate::edit::tree::{Access, CardPath, Node, Planned, Privacy, Volume};
use crate::farm::lxd_image::Machine;
use crate::plan::secret::is_often_secret;
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
                found: found.map_or_else(|| "no ELF file".into(), |found| format!("for {found}")),
            })
        }
    }
    let node = Node::File {
        content: inputs.agent.clone(),
        access: Access::root(0o755),
    };
    add(
        build,
        "/usr/lib/palmfarm/palmfarm-agent",
        node,
        "palmfarm-agent",
        Privacy::Public,
    )?;
    // Where a shell finds it: `palmfarm-agent status` is what people type on the Pi.
    add(
        build,
        "/usr/sbin/palmfarm-agent",
        Node::Symlink {
            target: "../lib/palmfarm/palmfarm-agent".into(),
        },
        "palmfarm-agent",
        Privacy::Public,
    )?;
    let mut document = plan.firstboot.clone();
    document.boot_mount.clone_from(&base.boot_mount);
    let text = plan::document(&document)?;
    // Scripts may hold what is secret to containers.
    build.file(
        Volume::Root,
        DOCUMENT,
        text.as_bytes(),
        0o600,
        "farm.yaml",
        Privacy::Secret,
    )?;
    build.unit(
        "systemd/palmfarm-firstboot.service",
        "multi-user.target",
        context! {},
    )?;
    preseed(build, plan)?;
    for file in &plan.payload {
        let node = Node::File {
            content: file.content.clone(),
            access: Access::root(if file.private { 0o600 } else { 0o644 }),
        };
        let origin = format!("farm.yaml: {}", file.source);
        add(build, file.path.as_str(), node, &origin, privacy_of(file))?;
    }
    build.dir("/var/lib/palmfarm", 0o755, "palmfarm-agent")
}

fn add(
    build: &mut TreeBuilder,
    path: &str,
    node: Node,
    origin: &str,
    privacy: Privacy,
) -> Result<(), RenderError> {
    let planned = Planned {
        node,
        origin: origin.into(),
        privacy,
    };
    build.tree.add(Volume::Root, CardPath::new(path)?, planned)?;
    Ok(())
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
    let mut keys = lxd
        .preseed
        .profiles
        .iter()
        .flat_map(|profile| profile.config.keys());
    let privacy = if keys.any(|key| is_often_secret(key)) {
        Privacy::Secret
    } else {
        Privacy::Public
    };
    build.file(
        Volume::Root,
        PRESEED,
        text.as_bytes(),
        0o600,
        "farm.yaml lxd",
        privacy,
    )
}
