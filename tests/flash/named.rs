//! The farm may be left out: `palmfarm flash DEVICE` writes the one in the current folder.

use crate::asked::{at_a_terminal, can_ask};
use crate::common::disk::Disk;
use crate::{exits, folder, is_ready, MIB};

#[test]
fn a_device_alone_is_written_from_the_farm_of_the_folder() {
    if !is_ready() || !can_ask() {
        return;
    }
    let disk = Disk::new(256 * MIB);
    let (before, dir) = (disk.hash(), folder());
    // Whoever wants no question has to name both.
    let said = exits(dir.path(), &["flash", disk.node(), "--yes", "--allow", "loop"], 2);
    assert!(said.contains("<DEVICE>"), "{said}");
    let said = exits(dir.path(), &["flash", disk.node(), "--allow", "loop"], 1);
    let question = format!("whether {} may be overwritten", disk.node());
    assert!(said.contains(&question), "{said}");
    assert_eq!(disk.hash(), before);
    let arguments = format!("flash {} --allow loop", disk.node());
    let (code, shown) = at_a_terminal(&arguments, "no\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("will be overwritten with palm of farm.yaml"),
        "{shown}"
    );
    assert_eq!(disk.hash(), before);
    let name = disk.node().trim_start_matches("/dev/");
    let (code, shown) = at_a_terminal(&arguments, &format!("{name}\n"));
    assert_eq!(code, Some(0), "{shown}");
    assert_ne!(disk.hash(), before);
}
