//! Public SSH keys that are not in farm.yaml itself: those of files, and those of accounts as palmfarm.lock has them. It asks
//! no server and writes nothing.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::accounts::Account;
use super::credentials;
use super::files::Look;
use super::lock::{Lock, LockError, LOCK_FILE};
use super::node::Step;
use super::suggest::quoted;
use super::{KeySource, User};
use crate::host::bounded_read;
use crate::text::io_reason;
use crate::text_file;

/// The largest file of public keys, in bytes: a hundred RSA keys of 16384 bits have 280 KB.
const LARGEST: u64 = 512 << 10;

/// The most accounts of one farm: each is a request.
const MOST_ACCOUNTS: usize = 100;

impl Look<'_> {
    /// Fill in the keys of `users`, and report those that cannot be had.
    pub(super) fn ssh_keys(&mut self, users: &mut [User]) {
        // It is read, and reported if it cannot be, when the first account is named.
        let lock = OnceCell::new();
        let mut unpinned: BTreeMap<Account, (usize, usize)> = BTreeMap::new();
        for (index, user) in users.iter_mut().enumerate() {
            for (item, keys) in user.ssh_keys.iter_mut().enumerate() {
                let place = ["users".into(), index.into(), "ssh_keys".into(), item.into()];
                match &keys.source {
                    KeySource::Farm => {}
                    KeySource::File(path) => {
                        keys.lines = self.keys_of_file(&[&place[..], &["file".into()]].concat(), path);
                    }
                    KeySource::Account(account) => {
                        let lock = lock.get_or_init(|| self.lock(&place));
                        let Some(lock) = lock else { continue };
                        match lock.keys(account) {
                            Some(pinned) => keys.lines = pinned.to_vec(),
                            None => drop(unpinned.entry(account.clone()).or_insert((index, item))),
                        }
                    }
                }
            }
        }
        if unpinned.len() > MOST_ACCOUNTS {
            let message = format!(
                "the users have keys of {} accounts, and {MOST_ACCOUNTS} is the limit",
                unpinned.len()
            );
            self.p.error(self.document.locate(&["users".into()]), message);
            return;
        }
        for (account, (index, item)) in unpinned {
            let place = ["users".into(), index.into(), "ssh_keys".into(), item.into()];
            let message = format!("the keys of {account} are not in {LOCK_FILE}, so no card has them yet");
            self.warning(
                &place,
                &message,
                "`palmfarm lock` fetches them, and so do `palmfarm build` and `palmfarm flash`",
            );
        }
    }

    /// palmfarm.lock; `None` if it cannot be used, which is reported at `place`.
    fn lock(&mut self, place: &[Step<'_>]) -> Option<Lock> {
        let error = match Lock::read(self.dir.path()) {
            Ok(lock) => return Some(lock),
            Err(error) => error,
        };
        let hint = error.hint();
        let why = match error {
            LockError::Read { source, .. } => io_reason(&source),
            LockError::Bad { why, .. } => why,
        };
        let at = self.document.locate(place);
        self.p
            .error(at, format!("{LOCK_FILE} cannot be used: {why}"))
            .maybe_hint(hint);
        None
    }

    fn keys_of_file(&mut self, place: &[Step<'_>], path: &str) -> Vec<String> {
        let read = bounded_read::read(&self.dir.join(path), LARGEST);
        let Some(bytes) = self.found(place, path, read) else {
            return Vec::new();
        };
        let text = text_file::decode(&bytes).map_err(|error| format!("it {error}"));
        match text.and_then(|text| credentials::ssh_keys(&text)) {
            Ok(lines) => lines,
            Err(why) => {
                self.error(place, format!("{} cannot be used: {why}", quoted(path)));
                Vec::new()
            }
        }
    }
}
