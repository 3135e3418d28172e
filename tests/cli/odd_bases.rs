//! Bases that are not as Ubuntu publishes them: what is in the way of a card is undone on it, or the base is refused with a
//! hint that works.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use palmfarm::base::layout::Layout;
use palmfarm::base::survey::Volumes;
use palmfarm::edit::fs::FileKind;
use palmfarm::edit::tree::{CardPath, Volume};

use super::common::base::ubuntu;
use super::common::make::{FileBase, Image, JAMMY};
use super::common::{self, oracle};
use super::{has_agents, palmfarm, told};

mod fstab;
mod lasting;
mod logins;
mod partitions;
mod private;
mod programs;
mod recognized;
mod refused;
mod settings;
mod undone;

const TOOLS: [&str; 6] = ["mke2fs", "e2fsck", "debugfs", "mkfs.vfat", "mcopy", "sfdisk"];

pub(crate) fn can_run() -> bool {
    common::have(&TOOLS) && has_agents()
}

/// A base with `more` in its root filesystem.
pub(crate) fn base(more: impl FnOnce(&Path)) -> Image {
    JAMMY.make_with(|root| {
        ubuntu(root);
        more(root);
    })
}

/// Put `text` as `name` onto the FAT partition.
pub(crate) fn put_boot(image: &Image, name: &str, text: &str) {
    let file = image.dir.path().join("put");
    fs::write(&file, text).unwrap();
    let drive = format!("{}@@{}", image.path.display(), image.boot.0);
    common::run(
        "mcopy",
        &["-o", "-i", &drive, file.to_str().unwrap(), &format!("::{name}")],
    );
}

/// Let `command` work on a farm with the user `user` and `more` beside `image`.
pub(crate) fn run(image: &Image, user: &str, more: &str, command: &[&str]) -> Output {
    let farm = format!(
        "farm: 1\nbase: image.img\nhostname: palm\nusers:\n  - name: {user}\n    groups: [sudo]\n    sudo: nopasswd\n    \
         ssh_keys: [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV x\"]\n{more}"
    );
    fs::write(image.dir.path().join("farm.yaml"), farm).unwrap();
    palmfarm(image.dir.path(), command)
}

pub(crate) fn plan(image: &Image, more: &str) -> Output {
    run(image, "craig", more, &["plan", "farm.yaml", "--files"])
}

/// The card that is made from `image`.
fn card(image: &Image, more: &str) -> Image {
    let out = run(image, "craig", more, &["build", "farm.yaml", "-o", "card.img"]);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let card = image.copy();
    fs::rename(image.dir.path().join("card.img"), &card.path).unwrap();
    oracle::assert_whole(&card);
    card
}

fn volumes(image: &Image) -> Volumes<Arc<FileBase>> {
    let base = Arc::new(FileBase::open(&image.path));
    let layout = Layout::read(&*base).unwrap();
    Volumes::open(&base, &layout).unwrap()
}

fn text(card: &Image, volume: Volume, path: &str) -> String {
    let read = volumes(card)
        .reader(volume)
        .read(&CardPath::new(path).unwrap(), 1 << 20);
    String::from_utf8(read.unwrap().unwrap_or_else(|| panic!("there is no {path}"))).unwrap()
}

/// The kind of what is at each of `paths`.
fn kinds<'a>(card: &Image, paths: &[&'a str]) -> Vec<(&'a str, Option<FileKind>)> {
    let volumes = volumes(card);
    let root = volumes.reader(Volume::Root);
    let kind = |path: &&'a str| {
        let stat = root.stat(&CardPath::new(path).unwrap()).unwrap();
        (*path, stat.map(|stat| stat.kind))
    };
    paths.iter().map(kind).collect()
}

/// The base is refused with `message`, and with a hint that has `hint` in it.
fn refused(out: &Output, message: &str, hint: &str) {
    let said = told(out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains(message), "{message}: {said}");
    let hints: Vec<&str> = said.lines().filter(|line| line.starts_with("hint: ")).collect();
    assert!(hints.iter().any(|line| line.contains(hint)), "{hint}: {said}");
}

fn accepted(out: &Output) {
    assert_eq!(out.status.code(), Some(0), "{}", told(out));
}
