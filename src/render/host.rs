//! The host's own name and files, and what runs at the end of its boot.

use minijinja::context;

use super::builder::{TreeBuilder, UNITS};
use super::{Inputs, RenderError};
use crate::base::{mounts, BaseFacts};
use crate::edit::tree::{Access, CardPath, IfThere, Node, Planned, Privacy, Volume};
use crate::plan::{CardFile, CardPlan};

/// Plan what every card has.
pub(super) fn render(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    let hostname = &plan.card.hostname;
    // cloud-init sets it too, but the first log lines and DHCP request come before.
    build.template("host/hostname", "/etc/hostname", context! { hostname })?;
    build.template("host/hosts", "/etc/hosts", context! { hostname })?;
    // Empty, so that each card makes its own ID (machine-id(5)); systemd 237 does not know "uninitialized". D-Bus keeps
    // a copy, which systemd would use instead.
    build.file(
        Volume::Root,
        "/etc/machine-id",
        b"",
        0o444,
        "machine-id(5)",
        Privacy::Public,
    )?;
    build.link("/var/lib/dbus/machine-id", "/etc/machine-id", "machine-id(5)")?;
    rc_local(build, plan, base)
}

/// Plan the farm's own files and then its overlays. They replace any node that is planned at the same path, and keep of
/// the access of a base's file what nobody has declared otherwise.
pub(super) fn files(build: &mut TreeBuilder, plan: &CardPlan, inputs: &Inputs) {
    for file in &plan.files {
        let origin = format!("farm.yaml files: {}", file.source);
        let mut planned = planned(file, origin);
        if let Some(there) = inputs.replaced.get(&file.path) {
            keep(&mut planned, file.if_there, *there);
        }
        build.tree.replace(Volume::Root, file.path.clone(), planned);
    }
    for overlay in &inputs.overlays {
        for (volume, path, planned) in &overlay.nodes {
            let mut planned = planned.clone();
            let if_there = overlay.if_there.get(path).filter(|_| *volume == Volume::Root);
            if let (Some(if_there), Some(there)) = (if_there, inputs.replaced.get(path)) {
                keep(&mut planned, *if_there, *there);
            }
            build.tree.replace(*volume, path.clone(), planned);
        }
    }
}

/// Let a planned file have of the access `there` what `if_there` says. It does not become setuid that way, and one that
/// may have few readers by its path does not get more.
fn keep(planned: &mut Planned, if_there: IfThere, there: Access) {
    let Node::File { access, .. } = &mut planned.node else {
        return;
    };
    let most = if planned.privacy == Privacy::Public {
        0o777
    } else {
        0o770
    };
    let mode = there.mode & most;
    *access = if_there.access(*access, Access { mode, ..there });
    if access.mode & 0o004 == 0 {
        planned.privacy = Privacy::Secret;
    }
}

/// The node of a file that the farm names.
pub(super) fn planned(file: &CardFile, origin: String) -> Planned {
    Planned {
        node: Node::File {
            content: file.content.clone(),
            access: file.access,
        },
        origin,
        privacy: file.privacy,
    }
}

/// Let nothing be put where the running Pi has something else, as the fstab of the finished card says.
pub(super) fn cover(build: &mut TreeBuilder, base: &BaseFacts) -> Result<(), RenderError> {
    let own = match build.tree.get(Volume::Root, &CardPath::new("/etc/fstab")?) {
        Some(planned) => match &planned.node {
            Node::File { content, .. } => String::from_utf8_lossy(content).into_owned(),
            _ => String::new(),
        },
        None => base.fstab.clone(),
    };
    build.tree.cover(mounts::all(&own));
    Ok(())
}

fn rc_local(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    // systemd runs /etc/rc.local only if it is executable, and since 260 not at all.
    let of_the_base = base.runs_rc_local;
    let lines = &plan.rc_local;
    if !of_the_base && lines.is_empty() {
        return Ok(());
    }
    if of_the_base {
        // Otherwise systemd before 260 would run it as well.
        build.link(
            &format!("{UNITS}/rc-local.service"),
            "/dev/null",
            "palmfarm-rc-local.service",
        )?;
    }
    if !lines.is_empty() {
        let (template, path) = ("host/rc-local", "/usr/lib/palmfarm/rc-local");
        let text = build.text(template, path, context! { lines })?;
        let origin = format!("templates/{template}");
        build.file(
            Volume::Root,
            path,
            text.as_bytes(),
            0o755,
            &origin,
            Privacy::Public,
        )?;
    }
    build.unit(
        "systemd/palmfarm-rc-local.service",
        "multi-user.target",
        context! { base => of_the_base, lines => !lines.is_empty() },
    )
}
