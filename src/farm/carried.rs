//! Looks for the files that a farm carries, and into them. Keeps what they say of themselves, and nothing else.

use std::fs;
use std::io::{self, Read};

use palmfarm_protocol::names;

use super::carry::{CarriedPackage, CarriedSnap, Carry};
use super::files::Look;
use super::{deb, snap};
use crate::farm::node::Step;
use crate::farm::suggest::quoted;
use crate::host::bounded_read;
use crate::text::chain;

/// The most files that one folder may have. Ubuntu's desktop has some 2000 packages.
const MOST_FILES: usize = 4096;

impl Look<'_> {
    /// Fill in the packages that `carry` names.
    pub(super) fn carried_packages(&mut self, carry: &mut Carry) {
        for (index, named) in carry.packages.iter_mut().enumerate() {
            let place = ["carry".into(), "packages".into(), index.into()];
            let files = self.files_of(&place, &named.named, ".deb");
            let found = files.into_iter().filter_map(|file| self.package(&place, file));
            named.found = found.collect();
        }
    }

    /// The file `named`, or those of the folder `named` that end in `ending`, in the order of their names.
    fn files_of(&mut self, place: &[Step<'_>], named: &str, ending: &str) -> Vec<String> {
        // A wrong value was reported.
        if named.is_empty() {
            return Vec::new();
        }
        let path = self.dir.join(named);
        if !fs::metadata(&path).is_ok_and(|there| there.is_dir()) {
            return vec![named.to_owned()];
        }
        let listed = fs::read_dir(&path).and_then(|entries| {
            let names = entries.map(|entry| {
                let name = entry?.file_name().into_string();
                name.map_err(|name| io::Error::other(format!("the name of {} is not UTF-8", name.display())))
            });
            let of_kind =
                |name: &io::Result<String>| !name.as_ref().is_ok_and(|name| !name.ends_with(ending));
            let names: Vec<String> = names
                .filter(of_kind)
                .take(MOST_FILES + 1)
                .collect::<io::Result<_>>()?;
            match names.len() {
                0 => Err(io::Error::other(format!(
                    "there is no file in it that ends in {ending}"
                ))),
                count if count > MOST_FILES => Err(io::Error::other(format!(
                    "it has more than {MOST_FILES} files that end in {ending}"
                ))),
                _ => Ok(names),
            }
        });
        let mut names = self.found(place, named, listed).unwrap_or_default();
        names.sort();
        let folder = named.trim_end_matches('/');
        names.into_iter().map(|name| format!("{folder}/{name}")).collect()
    }

    /// Fill in the names of `snaps`; `is_known` says for which of them it is known whether they have assertions.
    pub(super) fn carried_snaps(&mut self, snaps: &mut [CarriedSnap], is_known: &dyn Fn(usize) -> bool) {
        for index in 0..snaps.len() {
            let place = ["carry".into(), "lxd".into(), index.into()];
            let (before, rest) = snaps.split_at_mut(index);
            let Some(snap) = rest
                .first_mut()
                .filter(|snap| !snap.file.is_empty() && is_known(index))
            else {
                continue;
            };
            let Some(name) = self.snap(&place, snap) else {
                continue;
            };
            if before.iter().any(|other| other.name == name) {
                self.error(&place, format!("the snap {name} is here twice"));
            }
            snap.name = name;
        }
        let all_known = snaps.iter().all(|snap| !snap.name.is_empty());
        if all_known && !snaps.is_empty() && !snaps.iter().any(|snap| snap.name == "lxd") {
            let at = self.document.locate(&["carry".into(), "lxd".into()]);
            self.p.error(at, "none of these is the snap of LXD").hint(
                "`snap download lxd` gets it; the base that it needs, such as core24, comes the same way",
            );
        }
    }

    /// The name of `snap`, if its files are whole and go together.
    fn snap(&mut self, place: &[Step<'_>], snap: &CarriedSnap) -> Option<String> {
        let opened = bounded_read::open(&self.dir.join(&snap.file));
        let head = opened.and_then(|open| {
            let mut head = Vec::new();
            let bytes = open.metadata()?.len();
            open.take(snap::HEAD).read_to_end(&mut head)?;
            Ok((bytes, head))
        });
        let (bytes, head) = self.found(place, &snap.file, head)?;
        let at = self.document.locate(place);
        if let Err(why) = snap::whole(&head, bytes) {
            self.p
                .error(at, format!("{} is not a snap: {why}", quoted(&snap.file)))
                .hint("get it again: `snap download`");
            return None;
        }
        let Some(assertions) = snap.assertions() else {
            let name = snap::named(&snap.file);
            if let Err(why) = names::snap(name) {
                let message = format!("{} is not the name of a snap: {why}", quoted(name));
                self.p
                    .error(at, message)
                    .hint("a file called lxd.snap, or lxd_1.snap, is the snap lxd");
                return None;
            }
            return Some(name.into());
        };
        let text = match bounded_read::read(&self.dir.join(&assertions), snap::LARGEST_ASSERTIONS) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (file, assertions) = (quoted(&snap.file), quoted(&assertions));
                let message = format!("{file} has no assertions: there is no file {assertions}");
                let hint = format!("`snap download` makes both files; for a snap of your own, write {{file: {file}, dangerous: true}}");
                self.p.error(at, message).hint(hint);
                return None;
            }
            read => self.found(place, &assertions, read)?,
        };
        match snap::vouched(&text, bytes) {
            Ok(name) => Some(name),
            Err(why) => {
                let message = format!(
                    "{} does not vouch for {}: {why}",
                    quoted(&assertions),
                    quoted(&snap.file)
                );
                self.p
                    .error(at, message)
                    .hint("`snap download` makes both files; keep them as they are");
                None
            }
        }
    }

    fn package(&mut self, place: &[Step<'_>], file: String) -> Option<CarriedPackage> {
        let opened =
            bounded_read::open(&self.dir.join(&file)).and_then(|open| Ok((open.metadata()?.len(), open)));
        let (bytes, open) = self.found(place, &file, opened)?;
        match deb::look(io::BufReader::new(open), bytes) {
            Ok(package) => Some(CarriedPackage { file, package }),
            Err(error) => {
                let at = self.document.locate(place);
                let message = format!(
                    "{} is not a Debian package to carry: {}",
                    quoted(&file),
                    chain(&error)
                );
                self.p.error(at, message).maybe_hint(error.hint());
                None
            }
        }
    }
}
