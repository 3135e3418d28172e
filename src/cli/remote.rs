//! The Pi that `watch` and `push` speak to: which farm and card it has, as whom one logs in, and where it is. It changes
//! nothing there.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{anyhow, Context};

use super::args::RunningPi;
use super::find::host_of;
use super::from_farm;
use super::outcome::{Failure, Outcome, OutcomeExt};
use super::session::Session;
use super::ui::Ui;
use crate::farm::farm_file::DEFAULT;
use crate::farm::{host_keys, LoadedFarm};
use crate::host::bounded_read;
use crate::host::ssh::{HostKeys, Login};
use crate::lan::{LanError, Search, Wanted};
use crate::text::shell_quote;

/// How long each look for the Pi listens.
const LOOK: Duration = Duration::from_secs(2);

/// What ssh prints last if it does not trust the host, and what it says before if it knew another key.
const UNTRUSTED: &str = "Host key verification failed";
const CHANGED: &str = "HOST IDENTIFICATION HAS CHANGED";

/// A Pi to log in at.
pub(super) struct Remote {
    /// `None` if only a host was named, and there is no farm in this folder.
    pub(super) farm: Option<LoadedFarm>,
    /// What people call it.
    pub(super) name: String,
    user: Option<String>,
    /// The keys of which it has one, if its farm brings them.
    host_keys: Option<Rc<HostKeys>>,
    at: At,
    was_found: bool,
}

enum At {
    /// As the person named it.
    Named(String),
    /// To be found on the LAN.
    Find(Box<(Search, Wanted)>),
}

impl RunningPi {
    /// The farm's file, or the one in this folder; and the host, if one is named. A word that ends in .yaml or .yml, or that
    /// names a file, is the farm.
    fn sorted(&self) -> Result<(Option<PathBuf>, Option<String>), Failure> {
        let here = || Some(PathBuf::from(DEFAULT)).filter(|path| path.is_file());
        let is_farm = |word: &str| {
            let path = Path::new(word);
            let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
            yaml || path.is_file()
        };
        match self.words.as_slice() {
            [] => Ok((here(), None)),
            [one] if is_farm(one) => Ok((Some(one.into()), None)),
            [one] => Ok((here(), Some(one.clone()))),
            [farm, host, ..] if is_farm(farm) => Ok((Some(farm.into()), Some(host.clone()))),
            [farm, ..] => {
                let error =
                    format!("{farm} is not a farm file: it does not end in .yaml, and there is no such file");
                Err(Failure::usage(error).hint("the farm comes first, and the host after it"))
            }
        }
    }

    /// Read the farm, if there is one, and say which Pi is meant.
    pub(super) fn remote(&self, ui: Ui) -> Result<Remote, Failure> {
        let (path, host) = self.sorted()?;
        let farm = path.map(|path| from_farm::load(&path, ui)).transpose()?;
        let admin = farm.as_ref().and_then(|loaded| {
            let users = &loaded.farm.users;
            users.iter().find(|user| user.sudo.is_some()).or(users.first())
        });
        let user = self.user.clone().or(admin.map(|user| user.name.clone()));
        let (name, at) = match (host, &farm) {
            (Some(host), _) => (host.clone(), At::Named(host)),
            (None, Some(farm)) => {
                let card = from_farm::card(farm, self.card.as_deref())?;
                let search = Search::new().map_err(refused)?;
                (
                    card.hostname.clone(),
                    At::Find(Box::new((search, host_of(&card)))),
                )
            }
            (None, None) => {
                let error = "no farm and no host were named, and there is no farm.yaml in this folder";
                return Err(Failure::usage(error).hint("name the Pi: its address, or a name that ssh knows"));
            }
        };
        let host_keys = match &farm {
            Some(farm) => known_keys(farm, self.card.as_deref())?,
            None => None,
        };
        let was_found = false;
        Ok(Remote {
            farm,
            name,
            user,
            host_keys,
            at,
            was_found,
        })
    }
}

/// The host key that `farm` brings for its card; of a host that may be any card of a fleet, those of all.
fn known_keys(farm: &LoadedFarm, card: Option<&str>) -> Result<Option<Rc<HostKeys>>, Failure> {
    let cards = match farm.farm.card(card) {
        Ok(card) => vec![card],
        Err(_) => farm.farm.resolved_cards(),
    };
    let mut keys = Vec::new();
    for host in cards.iter().map(|card| card.hostname.as_str()) {
        let Some(file) = farm.farm.ssh.host_key(host) else {
            return Ok(None);
        };
        let path = farm.path(&file);
        let reading = || format!("reading the host key {}", path.display());
        let bytes = bounded_read::read(&path, host_keys::LARGEST);
        let bytes = bytes.with_context(reading).or_fail(Outcome::Refused)?;
        let public = host_keys::public_half(&bytes, host).map_err(|why| anyhow!(why));
        keys.push(public.with_context(reading).or_fail(Outcome::Refused)?);
    }
    let file = HostKeys::new(keys.iter().map(String::as_str));
    let file = file
        .context("writing the farm's host keys for ssh")
        .or_fail(Outcome::Refused)?;
    Ok(Some(Rc::new(file)))
}

impl Remote {
    /// Where to log in. A Pi that was not named by its host is waited for until `end`.
    pub(super) fn login(&mut self, end: Instant, session: &Session) -> Result<Login, Failure> {
        let host = match &mut self.at {
            At::Named(host) => host.clone(),
            At::Find(find) => {
                let (search, wanted) = find.as_mut();
                loop {
                    let found = match search.look(&[wanted], LOOK, session.observer().cancel) {
                        Ok(sight) => sight.find(wanted),
                        // A laptop that was on the LAN before will be there again.
                        Err(LanError::NoNetwork) if self.was_found => {
                            sleep(LOOK);
                            None
                        }
                        Err(error) => return Err(refused(error)),
                    };
                    if session.is_cancelled() {
                        return Err(session.interrupted("interrupted"));
                    }
                    if let Some(place) = found.and_then(|found| found.places.into_iter().next()) {
                        self.was_found = true;
                        break place.to_string();
                    }
                    if Instant::now() >= end {
                        let error = anyhow!("{} is not on the LAN", self.name);
                        let hint =
                            "`palmfarm find` shows who is; if it is another network, name the Pi's address";
                        return Err(Failure::new(Outcome::TimedOut, error).hint(hint));
                    }
                }
            }
        };
        Ok(Login {
            user: self.user.clone(),
            host,
            host_keys: self.host_keys.clone(),
        })
    }
}

/// Why ssh did not trust the host, if that is why it ended: `said` is what it has printed.
pub(super) fn untrusted(login: &Login, said: &[String]) -> Option<Failure> {
    let has = |words: &str| said.iter().any(|line| line.contains(words));
    if !has(UNTRUSTED) {
        return None;
    }
    let host = &login.host;
    let (error, hint) = if login.host_keys.is_some() {
        let error = anyhow!("{host} has another SSH host key than the farm brings for this card");
        let hint =
            "is it this card? if it was written before the farm had that key, write it again: palmfarm flash";
        (error, hint.to_owned())
    } else if has(CHANGED) {
        let error = anyhow!("{host} has another SSH host key than the one in known_hosts");
        let hint = format!(
            "a card that was written again has new host keys; if that is the reason: ssh-keygen -R {}",
            shell_quote(host)
        );
        (error, hint)
    } else {
        let error = anyhow!("the SSH host key of {host} is not in known_hosts, and nobody has agreed to it");
        let user = login
            .user
            .iter()
            .map(|user| format!("{user}@"))
            .collect::<String>();
        let hint = format!(
            "log in once, and compare the key: ssh {}",
            shell_quote(&format!("{user}{host}"))
        );
        (error, hint)
    };
    Some(Failure::refused(error, hint))
}

fn refused(error: LanError) -> Failure {
    Failure::with_hint(Outcome::Refused, error, LanError::hint)
}
