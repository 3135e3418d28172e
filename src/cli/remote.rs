//! The Pi that `watch` and `push` speak to: which farm and card it has, as whom one logs in, and where it is. It changes
//! nothing there.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::args::RunningPi;
use super::find::host_of;
use super::from_farm;
use super::outcome::{Failure, Outcome};
use super::session::Session;
use super::ui::Ui;
use crate::farm::farm_file::DEFAULT;
use crate::farm::LoadedFarm;
use crate::host::ssh::Login;
use crate::lan::{LanError, Search, Wanted};

/// How long each look for the Pi listens.
const LOOK: Duration = Duration::from_secs(2);

/// A Pi to log in at.
pub(super) struct Remote {
    /// `None` if only a host was named, and there is no farm in this folder.
    pub(super) farm: Option<LoadedFarm>,
    /// What people call it.
    pub(super) name: String,
    user: Option<String>,
    /// The name under which known_hosts has a card whose host key the farm brings.
    known_as: Option<String>,
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
        let brings_key = farm
            .as_ref()
            .is_some_and(|farm| farm.farm.ssh.host_keys.is_some());
        let known_as = match &at {
            At::Find(_) if brings_key => Some(name.clone()),
            _ => None,
        };
        let was_found = false;
        Ok(Remote {
            farm,
            name,
            user,
            known_as,
            at,
            was_found,
        })
    }
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
            known_as: self.known_as.clone(),
        })
    }
}

fn refused(error: LanError) -> Failure {
    Failure::with_hint(Outcome::Refused, error, LanError::hint)
}
