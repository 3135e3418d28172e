//! Small programs for sh that stand in for a compiler or a linker. Runs none of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Write an executable script.
pub(super) fn script(file: &Path, text: &str) -> Result<()> {
    // cargo looks at a compiler's modification time.
    if fs::read_to_string(file).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let half = file.with_extension(std::process::id().to_string());
    fs::write(&half, text)
        .and_then(|()| fs::set_permissions(&half, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&half, file))
        .with_context(|| format!("writing {}", file.display()))
}
