//! Folders of many names: they get an index, and e2fsck and the kernel find every name through it.

use crate::common::{self, oracle};
use crate::{edits_of, file, root, TOOLS};

/// Names of one folder: they fill a dozen blocks of an index.
const NAMES: usize = 600;

#[test]
fn a_folder_of_many_names_has_an_index() {
    if !common::have(TOOLS) {
        return;
    }
    let image = crate::refused::small();
    let path = |dir: &str, number: usize| format!("{dir}/a-name-that-is-not-a-short-one-{number:06}.conf");
    let paths: Vec<String> = ["/srv/new/many", "/etc", "/lib"]
        .iter()
        .flat_map(|dir| (0..NAMES).map(|number| path(dir, number)))
        .collect();
    let tree = root(
        paths
            .iter()
            .map(|path| (path.as_str(), file(path.as_bytes(), 0o644))),
    );
    let made = image.copy();
    made.apply(&edits_of(&image, &tree).unwrap());
    oracle::assert_root_whole(&made);
    let walk = oracle::kernel_walk(&made);
    for path in &paths {
        let real = path.replacen("/lib/", "/usr/lib/", 1);
        assert_eq!(
            walk[&real].kind,
            oracle::SeenKind::File(path.as_bytes().to_vec()),
            "{path}"
        );
    }
    // The placeholders are gone, and what was there is still there.
    let count = |dir: &str| walk.keys().filter(|path| path.starts_with(dir)).count();
    assert_eq!((count("/srv/new/many/"), count("/etc/")), (NAMES, NAMES + 1));
    assert_eq!(walk["/etc/file"].kind, oracle::SeenKind::File(b"file\n".to_vec()));
    let device = oracle::extract(&made, made.root);
    for dir in ["/srv/new/many", "/etc", "/usr/lib"] {
        let (_, dump) = common::attempt(
            "debugfs",
            &[
                "-R",
                &format!("htree_dump {dir}"),
                device.path().to_str().unwrap(),
            ],
        );
        assert!(dump.contains("Indirect levels: 0"), "{dir}: {dump}");
    }
}
