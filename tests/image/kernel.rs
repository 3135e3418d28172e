//! The same plan, carried out by the kernel on a mounted filesystem.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{lchown, symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use palmfarm::edit::tree::{Access, Node, Tree};

use crate::common::disk::{self, Mounted};
use crate::common::make::Image;
use crate::common::run;
use crate::TIME;

/// The root filesystem of `image`, mounted for writing.
pub(crate) fn mounted(image: &Image) -> Mounted {
    Mounted::new(&image.path, image.root, disk::Access::Write)
}

/// The directory that the last part of `path` is in, every symlink on the way followed as within a root of its own;
/// what is missing is made.
fn parent(top: &Path, path: &str, make: bool) -> Option<PathBuf> {
    let mut at = Vec::<String>::new();
    let mut left: Vec<String> = path
        .split('/')
        .rev()
        .filter(|part| !part.is_empty())
        .map(Into::into)
        .collect();
    left.remove(0);
    let place = |at: &[String]| at.iter().fold(top.to_owned(), |place, part| place.join(part));
    let mut links = 0;
    while let Some(part) = left.pop() {
        match part.as_str() {
            "." => continue,
            ".." => {
                at.pop();
                continue;
            }
            _ => at.push(part),
        }
        let here = place(&at);
        match fs::symlink_metadata(&here) {
            Ok(there) if there.is_symlink() => {
                links += 1;
                if links > 40 {
                    return None;
                }
                at.pop();
                let target = fs::read_link(&here).unwrap().to_str().unwrap().to_owned();
                if target.starts_with('/') {
                    at.clear();
                }
                left.extend(
                    target
                        .split('/')
                        .rev()
                        .filter(|part| !part.is_empty())
                        .map(Into::into),
                );
            }
            Ok(there) if there.is_dir() => {}
            Err(_) if make => {
                fs::create_dir(&here).unwrap();
                fs::set_permissions(&here, Permissions::from_mode(0o755)).unwrap();
            }
            _ => return None,
        }
    }
    Some(place(&at))
}

/// Do what `tree` says, by the kernel; an error is the kernel's, for example if a filesystem that is nearly full has no
/// room for what it keeps beside the files.
pub(crate) fn by_kernel(top: &Path, tree: &Tree) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(TIME.into());
    for (_, path, planned) in tree.iter() {
        let Some(dir) = parent(top, path.as_str(), planned.node != Node::Absent) else {
            continue;
        };
        let place = dir.join(path.name());
        let there = fs::symlink_metadata(&place).ok();
        let own = |place: &Path, access: &Access| -> io::Result<()> {
            lchown(place, Some(access.uid), Some(access.gid))?;
            fs::set_permissions(place, Permissions::from_mode(access.mode.into()))
        };
        if !matches!(planned.node, Node::Dir { .. }) && there.is_some() {
            fs::remove_file(&place)?;
        }
        match &planned.node {
            Node::Absent => {}
            Node::Symlink { target } => {
                symlink(target, &place)?;
                let place = place.to_str().unwrap();
                run("touch", &["-h", "-d", &format!("@{TIME}"), place]);
            }
            Node::File { content, access } => {
                let mut file = File::create(&place)?;
                file.write_all(content)?;
                own(&place, access)?;
                file.set_modified(time)?;
            }
            Node::Dir { access, .. } => match there {
                None => {
                    fs::create_dir(&place)?;
                    own(&place, access)?;
                }
                // A symlink to a directory means that directory.
                Some(_) => own(
                    &parent(top, &format!("{}/x", path.as_str()), false).unwrap(),
                    access,
                )?,
            },
        }
    }
    Ok(())
}
