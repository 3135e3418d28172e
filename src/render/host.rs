//! The host's own name and files, and what runs at the end of its boot.

use minijinja::context;

use super::builder::{TreeBuilder, UNITS};
use super::RenderError;
use crate::base::BaseFacts;
use crate::edit::tree::{Access, CardPath, Node, Planned, Privacy, Volume};
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

/// Plan the farm's own files. They replace any node that is planned at the same path.
pub(super) fn files(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    for file in &plan.files {
        let (volume, path) = place(Volume::Root, &file.path, base)?;
        let origin = format!("farm.yaml files: {}", file.source);
        build.tree.replace(volume, path, planned(file, origin));
    }
    Ok(())
}

/// The node of a file that the farm names. If only its owner may read it beside the farm file, only root may on the
/// card, and plans and manifests do not show it.
pub(super) fn planned(file: &CardFile, origin: String) -> Planned {
    Planned {
        node: Node::File {
            content: file.content.clone(),
            access: Access::root(if file.private { 0o600 } else { 0o644 }),
        },
        origin,
        privacy: Privacy::secret_if(file.private),
    }
}

/// The place on the card of a path of the running host. The FAT partition is mounted over its mount point, so a path
/// below that belongs onto the FAT partition.
pub(super) fn place(
    volume: Volume,
    path: &CardPath,
    base: &BaseFacts,
) -> Result<(Volume, CardPath), RenderError> {
    let mount = base.boot_mount.trim_end_matches('/');
    let below = path.as_str().strip_prefix(mount).filter(|_| !mount.is_empty());
    Ok(match below.and_then(|below| below.strip_prefix('/')) {
        Some(below) if volume == Volume::Root => (Volume::Boot, CardPath::new(below)?),
        _ => (volume, path.clone()),
    })
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
