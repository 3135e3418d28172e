//! Looks for the files that a farm carries, and into them. Keeps what they say of themselves, and nothing else.

use std::fs;
use std::io;

use super::carry::{CarriedPackage, Carry};
use super::deb;
use super::files::Look;
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
