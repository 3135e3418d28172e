//! The device that `palmfarm flash` writes to: judged and opened. Reads no farm and no image, and writes nothing.

use std::env;
use std::path::{Path, PathBuf};

use super::messages;
use crate::card::facts::{mount_line, read_system, Facts, Snapshot};
use crate::card::{approve, Allowed, CardTarget, FileRole, OpenCard, OpenError};
use crate::cli::args::Flash;
use crate::cli::ui::Ui;
use crate::cli::{Failure, Outcome, OutcomeExt};
use crate::text::shell_quote;

/// What this computer says about its disks, and what follows from that.
pub(super) struct Seen {
    snapshot: Snapshot,
    pub(super) facts: Facts,
}

/// Look at this computer's disks, and at which of them have the files that must not be overwritten: the farm or image, the
/// program, and the `image` on which a farm is based. Root may have seen more `earlier`.
pub(super) fn look(args: &Flash, image: Option<&Path>, earlier: Option<&Seen>) -> Result<Seen, Failure> {
    let role = if is_farm(&args.source) {
        FileRole::Farm
    } else {
        FileRole::Image
    };
    let program = env::current_exe().ok();
    let mut files = vec![(role, args.source.as_path())];
    files.extend(program.as_deref().map(|path| (FileRole::Program, path)));
    files.extend(
        image
            .filter(|path| *path != args.source)
            .map(|path| (FileRole::Image, path)),
    );
    let earlier = earlier.map(|seen| &seen.snapshot);
    let snapshot = read_system(Path::new("/"), &files, earlier).or_fail(Outcome::Refused)?;
    let facts = Facts::parse(&snapshot).or_fail(Outcome::Refused)?;
    Ok(Seen { snapshot, facts })
}

/// How many filesystems are mounted at `mount_point` for this process, one over the other.
pub(super) fn mounted_at(seen: &Seen, mount_point: &str) -> usize {
    let mounts = seen.snapshot.text("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(mount_line)
        .filter(|mount| mount.target == mount_point)
        .count()
}

/// Whether the name is that of a farm file; anything else is an image.
pub(super) fn is_farm(path: &Path) -> bool {
    let is = |end: &str| {
        path.extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case(end))
    };
    is("yaml") || is("yml")
}

/// Approve the device and open it.
pub(super) fn open(
    args: &Flash,
    facts: &Facts,
    target: &CardTarget,
    allowed: &Allowed,
    ui: Ui,
) -> Result<OpenCard, Failure> {
    let approved = match approve(facts, target, None, allowed) {
        Ok(approved) => approved,
        Err(reasons) => {
            messages::refuse(&reasons, target, ui)?;
            return Err(Failure::printed(Outcome::Refused));
        }
    };
    approved.open().map_err(|error| {
        let hint = match &error {
            OpenError::Denied { .. } => Some(format!(
                "{}; palmfarm gives root up as soon as the card is open",
                with_sudo(args, target)
            )),
            other => other.hint(),
        };
        Failure::with_hint(Outcome::Refused, error, |_| hint)
    })
}

/// The same command for root, ready to be pasted: with every option as it was given, and the card that was picked if none
/// was named.
fn with_sudo(args: &Flash, target: &CardTarget) -> String {
    let mut given = env::args_os();
    // sudo has a search path of its own (sudoers(5), `secure_path`), without ~/.cargo/bin.
    let typed = given
        .next()
        .filter(|program| program.to_string_lossy().contains('/'));
    let found = || env::current_exe().ok().map(PathBuf::into_os_string);
    let program = typed.or_else(found).unwrap_or_else(|| "palmfarm".into());
    let picked = args.device.is_none().then(|| target.path.clone().into());
    let words: Vec<String> = std::iter::once(program)
        .chain(given)
        .chain(picked)
        .map(|word| shell_quote(&word.to_string_lossy()))
        .collect();
    format!("sudo {}", words.join(" "))
}
