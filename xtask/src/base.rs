//! `cargo xtask base`.

/// Run it.
pub(crate) fn run(_args: &[&str]) -> anyhow::Result<()> {
    anyhow::bail!("not built yet")
}
