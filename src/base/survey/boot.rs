//! What the firmware and the kernel of a base are told: config.txt with all that it includes, the kernel command line, and
//! fstab; and by which names Linux finds the two filesystems.
//!
//! config.txt is read as the firmware reads it (Raspberry Pi documentation, "config.txt"): a file takes effect only if
//! config.txt includes it, and what follows `[pi4]` only on that board.

use std::collections::BTreeSet;

use super::{in_volume, window, SurveyError, View};
use crate::base::layout::{Contents, Layout, Partition};
use crate::base::{BaseRefusal, BaseText, VolumeNames};
use crate::edit::block::ReadAt;
use crate::edit::fs::ext4::Superblock;
use crate::edit::fs::fat::FatReader;
use crate::edit::tree::{CardPath, Volume};

/// How deep files may include each other.
const DEEPEST: usize = 8;

/// The texts of the FAT partition that rendering edits.
pub(super) struct BootTexts {
    pub(super) cmdline: Option<BaseText>,
    pub(super) config: Option<BaseText>,
    pub(super) refusals: Vec<BaseRefusal>,
}

/// What config.txt says about the kernel command line, with all that it includes.
#[derive(Default)]
struct Firmware {
    /// The files that are read on every board, in order.
    read: Vec<String>,
    cmdline: Setting,
    prefix: Setting,
}

/// The values of one key.
#[derive(Default)]
struct Setting {
    /// On every board.
    everywhere: Option<String>,
    /// On some boards.
    somewhere: BTreeSet<String>,
}

impl Setting {
    fn set(&mut self, value: &str, section: Section) {
        match section {
            Section::All => self.everywhere = Some(value.to_owned()),
            Section::Some => {
                self.somewhere.insert(value.to_owned());
            }
            Section::Never => {}
        }
    }

    /// The values on some boards that are not the one on the others.
    fn others(&self, otherwise: &str) -> impl Iterator<Item = &String> {
        let everywhere = self.everywhere.clone().unwrap_or_else(|| otherwise.to_owned());
        self.somewhere.iter().filter(move |value| **value != everywhere)
    }
}

/// When lines of config.txt take effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    All,
    /// On a certain board, or with a certain screen.
    Some,
    /// Never in an ordinary boot.
    Never,
}

impl Section {
    fn named(name: &str) -> Self {
        match name {
            "all" => Self::All,
            "none" | "tryboot" => Self::Never,
            _ => Self::Some,
        }
    }
}

/// The command line that the firmware reads, and the file for the user's own keys of its configuration.
pub(super) fn texts(volumes: &View<'_>, layout: &Layout) -> Result<BootTexts, SurveyError> {
    let mut firmware = Firmware::default();
    firmware.include(volumes, "config.txt", Section::All, DEEPEST)?;
    let mut refusals: Vec<BaseRefusal> = other_boot(volumes, layout)?.into_iter().collect();
    let mut other: Vec<String> = firmware.cmdline.others("cmdline.txt").cloned().collect();
    other.extend(firmware.prefix.others("").cloned());
    if !other.is_empty() {
        refusals.push(BaseRefusal::SeveralCmdlines(other));
    }
    let named = firmware.cmdline.everywhere;
    let name = named.as_deref().unwrap_or("cmdline.txt");
    let prefix = firmware.prefix.everywhere.unwrap_or_default();
    let mut cmdline = None;
    // The firmware drops a prefix under which there is nothing.
    for path in [&format!("{prefix}{name}"), name] {
        // A name that the firmware would take need not be a path of ours.
        if cmdline.is_none() && CardPath::new(path).is_ok() {
            cmdline = volumes.text(Volume::Boot, path)?;
        }
    }
    // 18.04.4 to 20.04 have a file of its own for the user's keys. If config.txt does not include it, nobody reads it.
    let own = firmware.read.iter().any(|name| name == "usercfg.txt");
    let config = volumes.text(Volume::Boot, if own { "usercfg.txt" } else { "config.txt" })?;
    if let (Some(named), None) = (&named, &cmdline) {
        refusals.push(BaseRefusal::NoSuchCmdline(named.clone()));
    }
    for edited in cmdline.iter().chain(&config) {
        // What is edited is written back, and nobody knows what the bytes were.
        if edited.text.contains(char::REPLACEMENT_CHARACTER) {
            refusals.push(BaseRefusal::NotText(edited.path.clone()));
        }
    }
    if let Some(BaseText { path, text }) = &cmdline {
        let lines = unread_lines(text);
        if lines > 0 {
            let path = path.clone();
            refusals.push(BaseRefusal::BelowFirstLine { path, lines });
        }
    }
    Ok(BootTexts {
        cmdline,
        config,
        refusals,
    })
}

/// Why the firmware would read another partition than the one that is edited (Raspberry Pi documentation, "autoboot.txt").
fn other_boot(volumes: &View<'_>, layout: &Layout) -> Result<Option<BaseRefusal>, SurveyError> {
    let edited = layout.boot.number;
    if let Some(first) = layout.first_fat().filter(|first| first.number != edited) {
        let first = first.number;
        return Ok(Some(BaseRefusal::NotFirstFat { first, edited }));
    }
    let mut section = Section::All;
    let autoboot = volumes.text(Volume::Boot, "autoboot.txt")?;
    for line in autoboot.iter().flat_map(|file| file.text.lines()) {
        match directive(line) {
            Directive::Section(name) => section = Section::named(name),
            Directive::Set("boot_partition", number)
                if section != Section::Never && number.parse() != Ok(edited) =>
            {
                let number = number.to_owned();
                return Ok(Some(BaseRefusal::BootsFromAnother { number, edited }));
            }
            _ => {}
        }
    }
    Ok(None)
}

impl Firmware {
    /// Read the file `name` of the FAT partition in the place where it is included, and return the section in which it
    /// ends.
    fn include(
        &mut self,
        volumes: &View<'_>,
        name: &str,
        mut section: Section,
        depth: usize,
    ) -> Result<Section, SurveyError> {
        if CardPath::new(name).is_err() || depth == 0 {
            return Ok(section);
        }
        let Some(found) = volumes.text(Volume::Boot, name)? else {
            return Ok(section);
        };
        if section == Section::All {
            self.read.push(name.to_owned());
        }
        for line in found.text.lines() {
            match directive(line) {
                Directive::Section(name) => section = Section::named(name),
                Directive::Include(name) if section != Section::Never => {
                    section = self.include(volumes, name, section, depth - 1)?;
                }
                Directive::Set("cmdline", value) => self.cmdline.set(value, section),
                Directive::Set("os_prefix", value) => self.prefix.set(value, section),
                _ => {}
            }
        }
        Ok(section)
    }
}

/// What one line of config.txt says.
#[derive(Debug, PartialEq, Eq)]
enum Directive<'a> {
    Section(&'a str),
    Include(&'a str),
    Set(&'a str, &'a str),
    Nothing,
}

fn directive(line: &str) -> Directive<'_> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return Directive::Section(name.trim());
    }
    if let Some(name) = line.strip_prefix("include ") {
        return Directive::Include(name.trim());
    }
    match line.split_once('=') {
        Some((key, value)) if !key.starts_with('#') => Directive::Set(key.trim(), value.trim()),
        _ => Directive::Nothing,
    }
}

/// Lines with words that the firmware does not read: below the first. A comment is meant to be unread.
fn unread_lines(cmdline: &str) -> usize {
    let words = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    cmdline.lines().skip(1).filter(words).count()
}

/// By which names Linux finds the partitions of `layout` on a card.
pub(super) fn names<M: ReadAt + Clone + 'static>(
    image: &M,
    layout: &Layout,
) -> Result<VolumeNames, SurveyError> {
    let superblock =
        Superblock::read(&window(image, layout, Volume::Root)?).map_err(in_volume(Volume::Root))?;
    let boot =
        FatReader::open(window(image.clone(), layout, Volume::Boot)?).map_err(in_volume(Volume::Boot))?;
    let root_uuid = superblock.uuid_text();
    Ok(VolumeNames {
        boot: of_partition(&layout.boot, &boot.uuid()),
        root: of_partition(&layout.root, &root_uuid),
    })
}

fn of_partition(partition: &Partition, uuid: &str) -> Vec<String> {
    let (Contents::Fat { label, .. } | Contents::Ext { label }) = &partition.contents else {
        return Vec::new();
    };
    vec![
        format!("LABEL={label}"),
        format!("UUID={uuid}"),
        format!("PARTUUID={}", partition.part_uuid),
        // Whichever device the card is.
        format!("number {}", partition.number),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_config_txt_is_one_of_four() {
        let check = |line: &str, expect: Directive<'_>| assert_eq!(directive(line), expect, "{line}");
        check("[pi4]", Directive::Section("pi4"));
        check("include usercfg.txt\r", Directive::Include("usercfg.txt"));
        check(" cmdline = a.txt ", Directive::Set("cmdline", "a.txt"));
        check("#cmdline=a.txt", Directive::Nothing);
        check("", Directive::Nothing);
    }

    #[test]
    fn words_below_the_first_line_are_counted() {
        assert_eq!(unread_lines("a b\n"), 0);
        assert_eq!(unread_lines("a b\n\n# c\n"), 0);
        assert_eq!(unread_lines("a b\r\nc d\r\n"), 1);
        assert_eq!(unread_lines("\na b\n"), 1);
    }
}
