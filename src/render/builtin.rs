//! The overlays that come with palmfarm, as they lie under `overlays/`.

use super::builder::TreeBuilder;
use super::RenderError;
use crate::edit::tree::Volume;

/// A file of a built-in overlay: overlay, path on the root filesystem, content.
pub const FILES: &[(&str, &str, &str)] = &[
    (
        "cloud-init",
        "/etc/cloud/cloud.cfg.d/99-palmfarm-network.cfg",
        include_str!("../../overlays/cloud-init/root/etc/cloud/cloud.cfg.d/99-palmfarm-network.cfg"),
    ),
    (
        "cloud-init",
        "/etc/cloud/cloud.cfg.d/99-palmfarm-seed.cfg",
        include_str!("../../overlays/cloud-init/root/etc/cloud/cloud.cfg.d/99-palmfarm-seed.cfg"),
    ),
];

/// Plan the files of the overlay called `name`.
pub(super) fn add(build: &mut TreeBuilder, name: &str) -> Result<(), RenderError> {
    for (overlay, path, text) in FILES.iter().filter(|(overlay, ..)| *overlay == name) {
        let origin = format!("overlays/{overlay}");
        build.public(Volume::Root, path, text, &origin)?;
    }
    Ok(())
}
