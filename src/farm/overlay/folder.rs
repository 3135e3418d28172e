//! An overlay that is a folder. No symbolic link in it is followed: it goes onto the card as it is.

use std::fs;
use std::path::Path;

use super::{unreadable, Closed, Contents, Found, OverlayError, RULES, RULES_BYTES};
use crate::farm::LARGEST_FILE;
use crate::host::{bounded_read, files};

/// Folders below folders; paths of the card end at 4095 bytes, stacks earlier.
const DEPTH: usize = 64;

pub(super) fn read(path: &Path, contents: &mut Contents) -> Result<(), OverlayError> {
    walk(path, "", 0, contents)
}

fn walk(path: &Path, prefix: &str, depth: usize, contents: &mut Contents) -> Result<(), OverlayError> {
    if DEPTH < depth {
        return Err(contents.refuse(prefix, "it lies more than 64 folders deep"));
    }
    let mut names = Vec::new();
    for item in fs::read_dir(path).map_err(unreadable(path))? {
        let name = item.map_err(unreadable(path))?.file_name();
        let Some(name) = name.to_str() else {
            let shown = format!("{prefix}{}", name.to_string_lossy());
            return Err(contents.refuse(&shown, "its name is not UTF-8"));
        };
        names.push(name.to_owned());
    }
    names.sort();
    for name in names {
        let entry = format!("{prefix}{name}");
        let here = path.join(&name);
        let facts = fs::symlink_metadata(&here).map_err(unreadable(&here))?;
        let kind = facts.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(&here).map_err(unreadable(&here))?;
            let Some(target) = target.to_str() else {
                return Err(contents.refuse(&entry, "it leads to a name that is not UTF-8"));
            };
            contents.add(&entry, Found::Symlink(target.into()), None)?;
        } else if kind.is_dir() {
            contents.add(&entry, Found::Dir, None)?;
            walk(&here, &format!("{entry}/"), depth.saturating_add(1), contents)?;
        } else if kind.is_file() {
            let most = if entry == RULES { RULES_BYTES } else { LARGEST_FILE };
            // A file that is too large by itself says so; one that is too much beside the others is not read.
            if facts.len() <= most {
                contents.room_for(facts.len())?;
            }
            let content = bounded_read::read(&here, most).map_err(unreadable(&here))?;
            if files::is_special(&facts) {
                contents.closed.insert(entry.clone(), Closed::Special);
            } else if files::is_private(&facts) {
                contents.closed.insert(entry.clone(), Closed::Private);
            }
            if let Some(attribute) = files::attribute_of_access(&here) {
                contents.attributes.insert(entry.clone(), attribute);
            }
            // The one permission that git(1) keeps, too.
            let runs = files::is_executable(&facts);
            contents.add(&entry, Found::File(content), runs.then_some(0o755))?;
        } else {
            return Err(contents.refuse(&entry, "it is a device, a pipe or a socket"));
        }
    }
    Ok(())
}
