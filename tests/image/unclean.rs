//! Cards whose power was pulled: they are looked into all the same, since that is when somebody wants to know.

use std::fs;

use palmfarm::base::layout::Layout;
use palmfarm::base::survey::{self, Volumes};
use palmfarm::edit::fs::ext4::Journal;
use palmfarm::edit::tree::Volume;

use crate::common::make::{self, FileBase, Recipe};
use crate::common::{self, run};
use crate::kernel::mounted;
use crate::{path, TOOLS};

/// What a reader finds on a copy of an image that was made while the kernel had it mounted.
fn check(recipe: &Recipe, expect: Journal) {
    let image = recipe.make();
    let mounted = mounted(&image);
    fs::create_dir_all(mounted.at.join("etc")).unwrap();
    fs::write(mounted.at.join("etc/written"), "before the power went").unwrap();
    run("sync", &["--file-system", mounted.at.to_str().unwrap()]);
    let pulled = image.copy();
    drop(mounted);
    let base = std::sync::Arc::new(FileBase::open(&pulled.path));
    let layout = Layout::read(&*base).unwrap();
    let volumes = Volumes::open(&base, &layout).unwrap();
    assert_eq!(volumes.journal(), expect, "{}", recipe.name);
    let there = volumes.reader(Volume::Root).stat(&path("/etc")).unwrap();
    assert!(there.is_some(), "{}", recipe.name);
    if expect == Journal::Read {
        let text = volumes
            .reader(Volume::Root)
            .read(&path("/etc/written"), 100)
            .unwrap();
        assert_eq!(
            text.as_deref(),
            Some(&b"before the power went"[..]),
            "{}",
            recipe.name
        );
    }
    assert!(survey::boot(&base, &layout).is_ok());
}

#[test]
fn a_card_without_power_can_be_looked_into() {
    if !common::have(TOOLS) || !common::have_root() {
        return;
    }
    check(&make::JAMMY, Journal::PassedOver);
    check(&make::NOBLE, Journal::Read);
}
