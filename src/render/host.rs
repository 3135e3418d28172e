//! The host's own name and files, and what runs at the end of its boot.

use minijinja::context;

use super::builder::{TemplateFile, TreeBuilder, UNITS};
use super::RenderError;
use crate::base::BaseFacts;
use crate::edit::tree::{Access, CardPath, Node, Planned, Privacy, Volume};
use crate::plan::{CardFile, CardPlan};

/// Plan what every card has.
pub(super) fn render(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    let hostname = &plan.card.hostname;
    // cloud-init sets it too, but the first log lines and DHCP request come before.
    let from = TemplateFile {
        template: "host/hostname",
        path: "/etc/hostname",
        mode: 0o644,
    };
    build.root(from, context! { hostname })?;
    let from = TemplateFile {
        template: "host/hosts",
        path: "/etc/hosts",
        mode: 0o644,
    };
    build.root(from, context! { hostname })?;
    // Empty, so that each card draws its own (machine-id(5)); systemd 237 does not know "uninitialized". D-Bus keeps
    // a copy that systemd would take over.
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

/// Lay the farm's own files over what is planned: whoever names a path means it.
pub(super) fn files(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    for file in &plan.files {
        let planned = Planned {
            node: Node::File {
                content: file.content.clone(),
                access: Access::root(if file.private { 0o600 } else { 0o644 }),
            },
            origin: format!("farm.yaml files: {}", file.source),
            privacy: privacy_of(file),
        };
        let (volume, path) = place(Volume::Root, &file.path, base)?;
        build.tree.replace(volume, path, planned);
    }
    Ok(())
}

/// What only its owner may read beside the farm file is nobody else's business in plans and manifests either.
pub(super) fn privacy_of(file: &CardFile) -> Privacy {
    if file.private {
        Privacy::Secret
    } else {
        Privacy::Public
    }
}

/// Where a path of the running host lies on the card: what is below the mount point of the FAT partition would be hidden
/// by it on the root filesystem.
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
    // systemd runs it only when it is executable, and from 260 on not at all.
    let of_the_base = base.runs_rc_local;
    let lines = &plan.rc_local;
    if !of_the_base && lines.is_empty() {
        return Ok(());
    }
    if of_the_base {
        // Or systemd before 260 would run it as well.
        build.link(
            &format!("{UNITS}/rc-local.service"),
            "/dev/null",
            "palmfarm-rc-local.service",
        )?;
    }
    if !lines.is_empty() {
        let from = TemplateFile {
            template: "host/rc-local",
            path: "/usr/lib/palmfarm/rc-local",
            mode: 0o755,
        };
        build.root(from, context! { lines => lines.clone() })?;
    }
    build.unit(
        "systemd/palmfarm-rc-local.service",
        "multi-user.target",
        context! { base => of_the_base, lines => !lines.is_empty() },
    )
}
