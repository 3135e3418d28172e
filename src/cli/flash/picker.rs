//! The list from which the person picks a card when none was named. Nothing on it is decided here: `card::rules` judges
//! every disk, each time anew. It writes to no disk; it unmounts one if the person says so, and only then.

use std::path::Path;
use std::time::{Duration, Instant};

use super::target::{look, Seen};
use super::{messages, target};
use crate::card::facts::{stat_target, Device, DeviceKind, DisksAndMounts, Facts, TargetKind};
use crate::card::{
    candidates, explain, only_mounted, refusals, target_of, Allow, Allowed, CardIdentity, CardTarget, Refusal,
};
use crate::cli::args::Flash;
use crate::cli::ask::{ask, ask_until, Answer};
use crate::cli::session::Session;
use crate::cli::ui::Ui;
use crate::cli::{devices, Failure};
use crate::host::unmount::unmount;
use crate::text::printable;

/// How often the disks are looked at while the question is open.
const INTERVAL: Duration = Duration::from_secs(1);

/// Let the person choose among the cards that may be written, and those that may be once they are unmounted.
pub(super) fn pick(args: &Flash, allowed: &Allowed, session: &Session) -> Result<CardTarget, Failure> {
    if !session.ui.can_ask() {
        let error = "no device was given, and there is no terminal to pick one on";
        return Err(Failure::usage(error)
            .hint("`palmfarm devices` lists them; name one: palmfarm flash FARM /dev/sdX"));
    }
    let mut picker = Picker {
        args,
        allowed,
        session,
        numbered: Vec::new(),
        shown: None,
    };
    loop {
        picker.show()?;
        match picker.ask()? {
            Answer::Changed => {}
            Answer::Closed => return Err(messages::nothing_touched(session.ui)),
            Answer::Line(answer) if ["q", "quit"].contains(&answer.as_str()) => {
                return Err(messages::nothing_touched(session.ui));
            }
            Answer::Line(answer) => {
                if let Some(target) = picker.chosen(&answer)? {
                    return Ok(target);
                }
            }
        }
    }
}

struct Picker<'a> {
    args: &'a Flash,
    allowed: &'a Allowed,
    session: &'a Session,
    /// Every disk that was ever on the list, by its number less one, with its node. A number never gets another disk, and
    /// a reader with another card in it is another disk.
    numbered: Vec<(CardIdentity, String)>,
    shown: Option<View>,
}

/// What the list shows at one moment.
#[derive(Default, PartialEq, Eq)]
struct View {
    /// The disks that can be picked, each with the text that is shown.
    offered: Vec<(CardIdentity, String, String)>,
    /// Why the removable disks that cannot be picked may not be written; for a list with nothing on it.
    refused: String,
}

impl View {
    fn of(facts: &Facts, allowed: &Allowed) -> Self {
        let mut view = Self::default();
        for (device, reasons) in candidates(facts, None, allowed) {
            if let Some(text) = offer(facts, device, &reasons, allowed) {
                view.offered.push((CardIdentity::of(device), device.node(), text));
            } else if device.removable || device.hotplug || device.kind == DeviceKind::Card {
                view.refused.push_str(&refused_text(device, &reasons));
            }
        }
        if facts.wsl {
            view.refused.push_str(devices::NO_READERS_IN_WSL);
        }
        view
    }
}

/// What the list shows of a device that can be picked.
fn offer(facts: &Facts, device: &Device, reasons: &[Refusal], allowed: &Allowed) -> Option<String> {
    let mut text = devices::card_text(facts, device);
    if !reasons.is_empty() {
        text.push_str(&format!(
            "\n  mounted at {}: it must be unmounted first",
            mount_points(&to_unmount(facts, &target_of(device), reasons, allowed)?)
        ));
    }
    Some(text)
}

/// What must be unmounted before the device can be written, if nothing else speaks against it. A fixed disk is no card that
/// a desktop has mounted by itself, so `--allow internal` does not help here.
fn to_unmount<'r>(
    facts: &Facts,
    target: &CardTarget,
    reasons: &'r [Refusal],
    allowed: &Allowed,
) -> Option<Vec<(Option<&'r str>, &'r str)>> {
    let mut fewer = allowed.clone();
    fewer.remove(&Allow::Internal);
    only_mounted(&refusals(facts, target, None, &fewer))?;
    only_mounted(reasons)
}

fn mount_points(mounts: &[(Option<&str>, &str)]) -> String {
    let targets: Vec<String> = mounts.iter().rev().map(|(_, target)| printable(target)).collect();
    targets.join(" and ")
}

fn refused_text(device: &Device, reasons: &[Refusal]) -> String {
    let mut text = format!(
        "\n  {}  {}",
        printable(&device.node()),
        printable(&device.title())
    );
    text.truncate(text.trim_end().len());
    for (message, hint) in explain(reasons) {
        text.push_str(&format!("\n    {message}"));
        if let Some(hint) = hint {
            text.push_str(&format!("\n      hint: {hint}"));
        }
    }
    text
}

impl Picker<'_> {
    fn ui(&self) -> Ui {
        self.session.ui
    }

    fn look(&self) -> Result<Seen, Failure> {
        look(self.args, None, None)
    }

    /// Look at the disks, and print what is not on the screen yet.
    fn show(&mut self) -> Result<(), Failure> {
        let view = View::of(&self.look()?.facts, self.allowed);
        let is_first = self.shown.is_none();
        let shown = self.shown.take().unwrap_or_default();
        for offered in &view.offered {
            let (identity, node, text) = offered;
            let place = self.numbered.iter().position(|(known, _)| known == identity);
            let number = place.unwrap_or(self.numbered.len()).saturating_add(1);
            if place.is_none() {
                self.numbered.push((identity.clone(), node.clone()));
            }
            if !shown.offered.contains(offered) {
                self.ui().error_line(format_args!("{number}: {text}"));
            }
        }
        for (identity, node, _) in &shown.offered {
            if view.offered.iter().any(|(still, ..)| still == identity) {
                continue;
            }
            let place = self.numbered.iter().position(|(known, _)| known == identity);
            if let Some(number) = place.map(|place| place.saturating_add(1)) {
                self.ui()
                    .error_line(format_args!("{number}: {node} can no longer be picked"));
            }
        }
        if view.offered.is_empty() && (is_first || shown != view) {
            self.ui().error_line(format_args!(
                "there is no card that may be written{}",
                view.refused
            ));
        }
        self.shown = Some(view);
        Ok(())
    }

    /// Ask, until the list has changed.
    fn ask(&self) -> Result<Answer, Failure> {
        let shown = self.shown.as_ref();
        let question = if shown.is_none_or(|shown| shown.offered.is_empty()) {
            "insert a card; waiting… (q to leave) "
        } else {
            "which one should be overwritten (its number or name, q to leave)? "
        };
        let mut last = DisksAndMounts::now(Path::new("/"));
        let mut looked = Instant::now();
        ask_until(question, self.session, &mut || {
            if looked.elapsed() < INTERVAL {
                return false;
            }
            looked = Instant::now();
            let now = DisksAndMounts::now(Path::new("/"));
            if now == std::mem::replace(&mut last, now.clone()) {
                return false;
            }
            // What cannot be read is reported when the list is shown.
            self.look()
                .map_or(true, |seen| shown != Some(&View::of(&seen.facts, self.allowed)))
        })
    }

    /// The disk that the answer names, if it can be written; if not, why not has been printed.
    fn chosen(&self, answer: &str) -> Result<Option<CardTarget>, Failure> {
        let facts = self.look()?.facts;
        let target = match answer.parse::<usize>() {
            Ok(number) => match self.by_number(number, &facts) {
                Ok(target) => target,
                Err(why) => {
                    self.ui().error_line(why);
                    return Ok(None);
                }
            },
            Err(_) if answer.is_empty() => {
                self.ui()
                    .error_line("type the number of a disk on the list, or its name, such as /dev/sdb");
                return Ok(None);
            }
            Err(_) => stat_target(&Path::new("/dev").join(answer)),
        };
        let reasons = refusals(&facts, &target, None, self.allowed);
        let Some(identity) = identity(&facts, &target).filter(|_| !reasons.is_empty()) else {
            return Ok(self.unless_refused(&reasons, target));
        };
        let Some(mounts) = to_unmount(&facts, &target, &reasons, self.allowed) else {
            return Ok(self.unless_refused(&reasons, target));
        };
        let question = format!("unmount {}? [y/N] ", mount_points(&mounts));
        if !["y", "yes"].contains(&ask(&question, self.session)?.to_lowercase().as_str()) {
            self.ui()
                .error_line("it stays mounted, and a mounted disk is not written");
            return Ok(None);
        }
        for (via, mount_point) in mounts {
            if !self.unmounted(via.unwrap_or(&target.path), mount_point)? {
                return Ok(None);
            }
        }
        // What was true before the question may no longer be.
        let facts = self.look()?.facts;
        if self::identity(&facts, &target) != Some(identity) {
            self.ui()
                .error_line(format_args!("{} is another disk now", printable(&target.path)));
            return Ok(None);
        }
        let reasons = refusals(&facts, &target, None, self.allowed);
        Ok(self.unless_refused(&reasons, target))
    }

    fn by_number(&self, number: usize, facts: &Facts) -> Result<CardTarget, String> {
        let numbered = number.checked_sub(1).and_then(|place| self.numbered.get(place));
        let (identity, node) = numbered.ok_or_else(|| match self.numbered.len() {
            0 => "there is no disk on the list".to_owned(),
            1 => format!("{number} is not on the list, which has only the number 1"),
            last => format!("{number} is not on the list, which has the numbers 1 to {last}"),
        })?;
        facts
            .devices
            .get(&identity.dev)
            .filter(|device| CardIdentity::of(device) == *identity)
            .map(target_of)
            .ok_or_else(|| format!("{number} was {node}, which is gone"))
    }

    fn unless_refused(&self, reasons: &[Refusal], target: CardTarget) -> Option<CardTarget> {
        if reasons.is_empty() {
            return Some(target);
        }
        messages::print_refusals(reasons, &target, self.ui());
        None
    }

    /// Unmount what the person has agreed to. If that fails, why has been printed.
    fn unmounted(&self, node: &str, mount_point: &str) -> Result<bool, Failure> {
        let said = printable(mount_point);
        // umount(8) takes the uppermost of several filesystems on one mount point, which may be somebody else's.
        if target::mounted_at(&self.look()?, mount_point) > 1 {
            self.ui().error_line(format_args!(
                "several filesystems are mounted at {said}, one over the other: unmount them by hand"
            ));
            return Ok(false);
        }
        match unmount(node, Path::new(mount_point)) {
            Ok(()) => {
                self.ui().error_line(format_args!("unmounted {said}"));
                Ok(true)
            }
            Err(error) => {
                self.ui().error_line(format_args!(
                    "unmounting {said}: {:#}\nhint: close the files and terminals that use it, and choose again",
                    anyhow::Error::new(error)
                ));
                Ok(false)
            }
        }
    }
}

fn identity(facts: &Facts, target: &CardTarget) -> Option<CardIdentity> {
    match &target.found {
        TargetKind::Block(dev) => facts.devices.get(dev).map(CardIdentity::of),
        _ => None,
    }
}
