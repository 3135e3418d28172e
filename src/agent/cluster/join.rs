//! Looking for the cluster and joining it, and starting over if a join was cut short. It empties only a daemon that had
//! nothing before it began to join, that has no container, and that no member lists.

use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::cluster::Member;
use palmfarm_protocol::firstboot::Lxd;
use serde_json::{json, Value};

use super::form;
use super::probe::{self, Listener};
use super::service::Service;
use super::{is, keys, no_quorum, Site, PATIENCE};
use crate::daemon::{DaemonError, DaemonErrorKind};
use crate::farm::OF_MEMBERS;
use crate::journal::{Journal, Stage};
use crate::root::Root;
use crate::step::StepError;

/// How long all other cards must have been silent before the cluster is formed: they may be on, and still booting.
const LONELY: Duration = Duration::from_secs(60);

/// How long a card may show a foreign certificate: its first member shows one while the cluster is formed, which may take
/// more than one try.
const FOREIGN: Duration = Duration::from_secs(900);

/// How long nobody may listen on the socket of a daemon that began to join, after it was started, before it counts as one
/// that does not start any more.
const GONE: Duration = Duration::from_secs(20);

/// How long a daemon that joins may answer nothing before it is restarted, since its join may hang: at first, and later,
/// when it is more likely that most cards are off.
const MUTE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(600)];

/// How long an emptied daemon does not run, so that the leader sees that its join has ended and forgets that. The second
/// is longer than the time between two of the leader's looks.
const SILENT: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(75)];

/// What is wrong with two cards that do not find each other, and what to do about it.
const OTHER_KEYS: &str =
    "were made with different keys files: build all cards with the same one, and flash those \
                          that were made with another";

/// What this run knows of the way into the cluster.
pub(crate) struct Entry {
    begun: Instant,
    /// When another card last said anything but that it is in no cluster.
    heard: Instant,
    /// Since when another card has shown a foreign certificate.
    foreign: Option<Instant>,
    /// Whether a cluster was found.
    found: bool,
    /// Since when nobody has listened on the daemon's socket although it was started.
    gone: Option<Instant>,
    /// Since when this card's daemon has said nothing of the cluster.
    mute: Option<Instant>,
    shaken: bool,
    restarted: bool,
    emptied: usize,
    /// How often this run has tried to form the cluster.
    formings: u32,
}

impl Entry {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            heard: now,
            foreign: None,
            found: false,
            gone: None,
            mute: None,
            shaken: false,
            restarted: false,
            emptied: 0,
            formings: 0,
        }
    }

    /// The pause before the next look.
    pub(super) fn pause(&self) -> Duration {
        // Each look may write to the card.
        Duration::from_secs(match self.begun.elapsed().as_secs() {
            0..60 => 1,
            60..600 => 10,
            _ => 60,
        })
    }

    /// The daemon does not answer. Returns why it is waited for as long as it takes; `None` if this has nothing to do with
    /// the cluster.
    pub(crate) fn outlast(&mut self, root: &Root, lxd: &Lxd) -> Result<Option<String>, StepError> {
        let Some(cluster) = &lxd.cluster else {
            return Ok(None);
        };
        let service = Service::new(root, lxd);
        let stage = stage(root);
        let gone = service.is_gone();
        if stage == Stage::Outside || gone && stage == Stage::Member {
            return Ok(None);
        }
        if !gone {
            // It is starting, or is a member that waits for the others, or its join hangs.
            self.gone = None;
            self.shake(&service)?;
            return Ok(Some(no_quorum(cluster)));
        }
        match self.gone {
            None => {
                service.start()?;
                self.gone = Some(Instant::now());
            }
            Some(since) if since.elapsed() > GONE => self.empty(&service)?,
            Some(_) => {}
        }
        Ok(Some(
            "its join was cut short, and begins again if the daemon does not start".into(),
        ))
    }

    /// The daemon says that it is in the cluster, and no member lists it: its join was cut short, or hangs. It is restarted
    /// first, since a member may be listed again then.
    pub(super) fn recover(&mut self, site: &Site<'_>) -> Result<(), StepError> {
        if self.restarted {
            return self.empty(&site.service);
        }
        self.restarted = true;
        site.service.restart_by_force()?;
        site.daemon.returns(GONE);
        Ok(())
    }

    /// This card's daemon says nothing of the cluster: most cards are off, or its join hangs. A hanging join ends with a
    /// restart, which a member survives, too; nothing is removed for it.
    pub(super) fn shake(&mut self, service: &Service<'_>) -> Result<(), StepError> {
        let since = *self.mute.get_or_insert_with(Instant::now);
        if stage(service.root) != Stage::Joining || since.elapsed() < MUTE[usize::from(self.shaken)] {
            return Ok(());
        }
        (self.mute, self.shaken) = (None, true);
        service.restart_by_force()
    }

    /// This card's daemon answers.
    pub(super) fn hears(&mut self) {
        self.mute = None;
    }

    /// Remove everything from a daemon whose join was cut short, and start it again.
    fn empty(&mut self, service: &Service<'_>) -> Result<(), StepError> {
        if stage(service.root) != Stage::Joining {
            return Ok(());
        }
        if let Some(found) = service.belongings() {
            return Err(StepError::new(format!(
                "this card's daemon does not enter the cluster, and there is {}/{found}, so it is left as it is: save what \
                 somebody needs, and flash the card again",
                service.folder
            )));
        }
        service.stop()?;
        service.empty()?;
        let silent = SILENT.get(self.emptied).or(SILENT.last());
        sleep(silent.copied().unwrap_or_default());
        self.emptied = self.emptied.saturating_add(1);
        (self.gone, self.restarted) = (None, false);
        service.start()
    }

    /// On the card that forms the cluster: whether one lives already, since this card may have been flashed again.
    /// Returns why it is too early to say so. Each answer but that of a card outside a cluster speaks against forming one.
    pub(super) fn is_undecided(&mut self, site: &Site<'_>) -> Result<Option<String>, StepError> {
        if self.found {
            return Ok(None);
        }
        let mut silent = Vec::new();
        for member in site.others() {
            let name = member.name.as_str();
            match probe::who(site, member, &site.cluster.certificate)? {
                Listener::Holder => {
                    self.found = true;
                    return Ok(None);
                }
                Listener::Nobody => silent.push(name),
                Listener::Unclear => {
                    self.heard = Instant::now();
                    return Ok(Some(format!("waiting for a clear answer of {name}")));
                }
                Listener::Other if is_outside(site, member)? => {}
                Listener::Other => {
                    self.heard = Instant::now();
                    return self.foreign(name).map(Some);
                }
            }
        }
        if silent.is_empty() || self.heard.elapsed() >= LONELY {
            return Ok(None);
        }
        Ok(Some(format!(
            "waiting a minute for {}, since they may be in a cluster already",
            silent.join(", ")
        )))
    }

    /// Form the cluster, once more if need be.
    pub(super) fn form(&mut self, site: &Site<'_>) -> Result<(), StepError> {
        let tries = self.formings;
        self.formings = tries.saturating_add(1);
        form::form(site, tries)?;
        // A restarted daemon needs its time.
        site.daemon.returns(PATIENCE);
        Ok(())
    }

    pub(super) fn has_found(&self) -> bool {
        self.found
    }

    /// The card `name` shows a certificate that no card of this farm has.
    fn foreign(&mut self, name: &str) -> Result<String, StepError> {
        let why = format!(
            "{name} shows a certificate of another farm; unless it is forming its cluster just now, it and this card \
             {OTHER_KEYS}"
        );
        if self.foreign.get_or_insert_with(Instant::now).elapsed() < FOREIGN {
            return Ok(why);
        }
        Err(StepError::new(why))
    }

    /// Ask one card after the other to let this one in. Returns why nobody did; empty if one did, or if only the next look
    /// can say so.
    pub(super) fn join(&mut self, site: &Site<'_>) -> Result<String, StepError> {
        let unused = keys::refuse_used(site, &[], &[keys::CONTAINER, keys::POOL]);
        if site.stage() == Stage::Joining {
            if unused.is_err() {
                // An earlier try has left what only the try has made.
                keys::refuse_volumes(site)?;
                self.empty(&site.service)?;
                site.daemon.returns(PATIENCE);
                return Ok(String::new());
            }
            // What is made from now on, until the next try, is somebody's.
            site.set_stage(Stage::Outside)?;
        }
        unused?;
        let mut late = Vec::new();
        let mut said = Vec::new();
        let is_first = |member: &&Member| member.name == site.cluster.first;
        let (first, rest): (Vec<_>, Vec<_>) = site.others().partition(is_first);
        for member in first.into_iter().chain(rest) {
            if !probe::answers(member) {
                late.push(member.name.as_str());
                continue;
            }
            site.set_stage(Stage::Joining)?;
            let error = match ask(site, member) {
                Ok(()) => return site.farm.forget().map(|()| String::new()),
                Err(error) => error,
            };
            if matches!(error.kind(), DaemonErrorKind::Late(_)) {
                // Even if it is a member by now, its join hangs.
                site.service.restart_by_force()?;
            }
            match self.refusal(site, member, &error)? {
                // What it says now, the next look sees better.
                None => return Ok(error.to_string()),
                Some(why) => {
                    site.set_stage(Stage::Outside)?;
                    said.push(why);
                }
            }
        }
        if said.is_empty() {
            said.push(format!(
                "waiting for {}: nobody answers at the addresses that follow from this card's keys; those that have been \
                 on for some minutes and this card {OTHER_KEYS}",
                late.join(", ")
            ));
        }
        Ok(said.join("; "))
    }

    /// Why `member` did not let this card in, if that left this card's daemon as it was.
    fn refusal(
        &mut self,
        site: &Site<'_>,
        member: &Member,
        error: &DaemonError,
    ) -> Result<Option<String>, StepError> {
        let name = &member.name;
        let me = &site.me.name;
        let says = |words: &[&str]| words.iter().any(|words| is(error, words));
        if says(&["x509"]) {
            if is_outside(site, member)? {
                self.foreign = None;
                return Ok(Some(format!("waiting for {name}, which is in no cluster yet")));
            }
            return self.foreign(name).map(Some);
        }
        Ok(Some(if says(&["already has a member"]) {
            format!(
                "the cluster still lists the {me} that was there before this card was flashed again; its leader sees that \
                 within some minutes; to forget it at once: palmfarm-agent cluster forget {me} on {name}"
            )
        } else if says(&["not authorized", "ertificate not found"]) {
            format!(
                "waiting for its turn at {name}; if that takes more than some minutes, the farm of {name} does not have \
                 {me} yet: apply the farm there, too"
            )
        } else if says(&["version doesn't match"]) {
            let about = site.about()?;
            let version = about["environment"]["server_version"]
                .as_str()
                .unwrap_or_default();
            format!(
                "waiting for the same version: this daemon is {version}, and {name} says: {error}; update the older one"
            )
        } else if says(&["Unable to connect"]) {
            format!("waiting for {name}")
        } else {
            return Ok(None);
        }))
    }
}

/// Whether the daemon of `member` is in no cluster.
fn is_outside(site: &Site<'_>, member: &Member) -> Result<bool, StepError> {
    Ok(probe::who(site, member, &member.certificate)? == Listener::Holder)
}

/// Ask `member` to let this card in.
fn ask(site: &Site<'_>, member: &Member) -> Result<(), DaemonError> {
    let preseed = &site.farm.lxd.preseed;
    let pools = preseed
        .storage_pools
        .iter()
        .map(|pool| ("storage-pool", &pool.name, &pool.config));
    let networks = preseed
        .networks
        .iter()
        .map(|network| ("network", &network.name, &network.config));
    let mut config: Vec<Value> = Vec::new();
    for (entity, name, keys) in pools.chain(networks) {
        for key in OF_MEMBERS {
            if let Some(value) = keys.get(key) {
                config.push(json!({"entity": entity, "name": name, "key": key, "value": value}));
            }
        }
    }
    let body = json!({
        "server_name": site.me.name,
        "enabled": true,
        "server_address": site.me.endpoint(),
        "cluster_address": member.endpoint(),
        "cluster_certificate": site.cluster.certificate,
        "member_config": config,
    });
    let doing = format!("joining the cluster by way of {}", member.name);
    site.change(&doing, "PUT", "/1.0/cluster", &body).map(drop)
}

/// Let the other cards reach this one's daemon. Returns why they cannot yet.
pub(super) fn listen(site: &Site<'_>) -> Result<Option<String>, StepError> {
    const ADDRESS: &str = "core.https_address";
    let endpoint = site.me.endpoint();
    if site.about()?["config"][ADDRESS] == *endpoint {
        return Ok(None);
    }
    let doing = format!("listening at {endpoint}");
    match site.change(&doing, "PATCH", "/1.0", &json!({"config": {ADDRESS: endpoint}})) {
        Err(error) if is(&error, "assign requested address") => Ok(Some(format!(
            "waiting for the address {} on br0",
            site.me.address
        ))),
        done => done.map(|_| None).map_err(StepError::from),
    }
}

fn stage(root: &Root) -> Stage {
    Journal::open(root).unwrap_or_default().stage()
}
