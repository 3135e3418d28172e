//! The device that `palmfarm flash` writes to: picked, judged and opened. Reads no farm and no image, and writes nothing.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::messages;
use crate::card::facts::{read_system, Device, Facts, Snapshot};
use crate::card::{approve, candidates, target_of, Allowed, CardTarget, FileRole, OpenCard, OpenError};
use crate::cli::args::Flash;
use crate::cli::ask::ask;
use crate::cli::session::Session;
use crate::cli::ui::Ui;
use crate::cli::{devices, Failure, Outcome, OutcomeExt};
use crate::text::shell_quote;

/// Let the person choose among the cards that may be written.
pub(super) fn pick(args: &Flash, allowed: &Allowed, session: &Session) -> Result<CardTarget, Failure> {
    if !session.ui.can_ask() {
        let error = "no device was given, and there is no terminal to pick one on";
        return Err(Failure::usage(error).hint("`palmfarm devices` lists them"));
    }
    let facts = look(args, None, None)?.facts;
    let all = candidates(&facts, None, allowed);
    let cards: Vec<&Device> = all
        .iter()
        .filter(|(_, reasons)| reasons.is_empty())
        .map(|(device, _)| *device)
        .collect();
    if cards.is_empty() {
        let error = anyhow!("there is no card that may be written");
        let hint = "`palmfarm devices` shows every disk, and why it may not be written";
        return Err(Failure::refused(error, hint));
    }
    for (number, device) in (1_usize..).zip(&cards) {
        session
            .ui
            .error_line(format_args!("{number}: {}", devices::card_text(&facts, device)));
    }
    let question = format!("which one should be overwritten (1 to {})? ", cards.len());
    ask(&question, session)?
        .parse::<usize>()
        .ok()
        .and_then(|number| cards.get(number.checked_sub(1)?))
        .map(|device| target_of(device))
        .ok_or_else(|| messages::nothing_touched(session.ui))
}

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
