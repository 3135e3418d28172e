//! The card's daemon as a member of the farm's cluster: its keys, forming and joining, and the care for members that are
//! absent. It knows nothing of containers but where they are.
//!
//! All requests go to the card's own daemon, which makes every TLS connection. Each step looks before it acts. What a
//! member of the cluster has is never removed here without a person, except the entry of a card that proves by its key
//! that it was flashed again (`care`).

mod care;
mod forget;
mod form;
mod join;
mod keys;
pub(crate) mod members;
mod probe;
mod service;

use std::thread::sleep;
use std::time::Duration;

use palmfarm_protocol::cluster::{Cluster, Member};
use palmfarm_protocol::firstboot::{FirstBoot, Lxd};
use serde_json::{json, Value};

use crate::daemon::{Daemon, DaemonError, DaemonErrorKind};
use crate::farm::Farm;
use crate::journal::{self, Journal, Stage};
use crate::lock;
use crate::root::Root;
use crate::step::{Change, DaemonState, StepError, StepListener, StepResult};
pub use care::care;
pub use forget::forget;
pub(crate) use join::Entry;
pub(crate) use members::look;
use service::Service;

/// The name of the step.
const STEP: &str = "cluster";

/// How long a change may take that only the cluster's database sees.
const PATIENCE: Duration = Duration::from_secs(120);

/// What this card's part in the cluster is made with.
struct Site<'a> {
    farm: &'a Farm<'a>,
    daemon: &'a Daemon,
    root: &'a Root,
    cluster: &'a Cluster,
    me: &'a Member,
    service: Service<'a>,
}

/// What this card's daemon is to the cluster.
enum Standing {
    Outside,
    /// It says that it is in a cluster, whose members do not include it.
    Unlisted,
    Member,
}

impl<'a> Site<'a> {
    fn new(farm: &'a Farm<'a>, card: &str) -> Result<Self, StepError> {
        let cluster = farm.lxd.cluster.as_ref();
        let me = cluster.and_then(|cluster| cluster.member(card));
        let (Some(cluster), Some(me)) = (cluster, me) else {
            return Err(StepError::new(format!(
                "the document's cluster does not have the card {card}"
            )));
        };
        Ok(Self {
            farm,
            daemon: farm.daemon,
            root: farm.root,
            cluster,
            me,
            service: Service::new(farm.root, farm.lxd),
        })
    }

    fn others(&self) -> impl Iterator<Item = &'a Member> + use<'a> {
        let (all, me) = (&self.cluster.members, &self.me.name);
        all.iter().filter(move |one| one.name != *me)
    }

    fn about(&self) -> Result<Value, StepError> {
        let about = self.daemon.look("asking the daemon for its cluster", "/1.0")?;
        Ok(about.unwrap_or_default())
    }

    fn standing(&self) -> Result<Standing, StepError> {
        if self.about()?["environment"]["server_clustered"] != true {
            return Ok(Standing::Outside);
        }
        let all = members::list(self.daemon)?;
        Ok(match members::find(&all, &self.me.name) {
            Some(_) => Standing::Member,
            None => Standing::Unlisted,
        })
    }

    fn stage(&self) -> Stage {
        Journal::open(self.root).unwrap_or_default().stage()
    }

    fn set_stage(&self, stage: Stage) -> Result<(), StepError> {
        if self.stage() == stage {
            return Ok(());
        }
        journal::set_stage(self.root, stage).map_err(StepError::io("writing to", journal::PATH))
    }

    /// Ask for a change of what belongs to the cluster.
    fn change(&self, doing: &str, method: &str, path: &str, body: &Value) -> Result<Value, DaemonError> {
        self.daemon.change(doing, method, path, body, PATIENCE)
    }

    /// Let `member` join.
    fn trust(&self, member: &Member) -> Result<(), StepError> {
        let doing = "reading the trusted certificates";
        let known = self.daemon.look(doing, "/1.0/certificates?recursion=1")?;
        let certificate = keys::body(&member.certificate);
        let mut known = known.as_ref().and_then(Value::as_array).into_iter().flatten();
        if known.any(|one| keys::body(one["certificate"].as_str().unwrap_or_default()) == certificate) {
            return Ok(());
        }
        let body = json!({"type": "server", "name": member.name, "certificate": certificate});
        let doing = format!("trusting the certificate of {}", member.name);
        match self.change(&doing, "POST", "/1.0/certificates", &body) {
            // Another card was faster.
            Err(error) if is(&error, "already in trust store") => Ok(()),
            done => done.map(drop).map_err(StepError::from),
        }
    }
}

/// Whether the daemon said `words` when it refused or failed.
pub(crate) fn is(error: &DaemonError, words: &str) -> bool {
    match error.kind() {
        DaemonErrorKind::Refused { message, .. } | DaemonErrorKind::Failed(message) => {
            message.contains(words)
        }
        _ => false,
    }
}

/// Why a member waits whose cluster has no majority.
pub(crate) fn no_quorum(cluster: &Cluster) -> String {
    let all = cluster.members.len();
    format!(
        "waiting for the cluster: {} of its {all} cards must be on, so switch on those that are off; what runs keeps \
         running, and nothing can be started or changed until then",
        all / 2 + 1
    )
}

/// End a run that waits for other cards if another command needs its lock.
pub(crate) fn give_way(root: &Root) -> Result<(), StepError> {
    if lock::is_wanted(root) {
        return Err(StepError::new(
            "it waited for other cards, and gave way to a later command",
        ));
    }
    Ok(())
}

/// Put the card's keys where its daemon looks for them when it is started for the first time.
pub(crate) fn place_keys(root: &Root, document: &FirstBoot, lxd: &Lxd) -> StepResult {
    let cluster = lxd.cluster.as_ref();
    match cluster.and_then(|cluster| cluster.member(&document.card)) {
        Some(me) => keys::place(&Service::new(root, lxd), me),
        None => Ok(Change::Unchanged),
    }
}

/// Make this card a member of its cluster, however long that takes. Returns whether it is one.
pub(crate) fn enter(
    farm: &Farm<'_>,
    document: &FirstBoot,
    entry: &mut Entry,
    listener: &mut dyn StepListener,
) -> bool {
    listener.begin(STEP);
    let done = Site::new(farm, &document.card).and_then(|site| become_member(&site, entry, listener));
    listener.conclude(STEP, String::new(), done)
}

fn become_member(site: &Site<'_>, entry: &mut Entry, listener: &mut dyn StepListener) -> StepResult {
    let mut change = Change::Unchanged;
    loop {
        let looked = once(site, entry);
        if looked.is_ok() {
            entry.hears();
        }
        let why = match looked {
            Ok(None) => break,
            Ok(Some(why)) => why,
            Err(error) => match error.daemon {
                DaemonState::NoQuorum => {
                    entry.shake(&site.service)?;
                    no_quorum(site.cluster)
                }
                DaemonState::Away => match entry.outlast(site.root, site.farm.lxd)? {
                    Some(why) => why,
                    None if site.daemon.returns(PATIENCE) => String::new(),
                    None => return Err(error),
                },
                DaemonState::Busy => error.message,
                _ => return Err(error),
            },
        };
        change = Change::Changed;
        if !why.is_empty() {
            listener.begin(&format!("{STEP}: {why}"));
            give_way(site.root)?;
            sleep(entry.pause());
        }
    }
    site.set_stage(Stage::Member)?;
    Ok(change)
}

/// One look, and what it asks for. `None`: this card is a member, and what is the cluster's is as declared. Otherwise the
/// next look may come after a pause, if there is a reason for one.
fn once(site: &Site<'_>, entry: &mut Entry) -> Result<Option<String>, StepError> {
    match site.standing()? {
        Standing::Member => {
            if site.me.name == site.cluster.first {
                form::complete(site)?;
            }
            return Ok(None);
        }
        Standing::Unlisted if site.stage() == Stage::Joining => entry.recover(site)?,
        Standing::Unlisted => {
            return Err(StepError::new(format!(
                "{} was removed from the cluster, and its daemon still has what it had then: save what somebody needs, \
                 then flash the card again",
                site.me.name
            )))
        }
        Standing::Outside => {
            keys::replace(site)?;
            if let Some(why) = join::listen(site)? {
                return Ok(Some(why));
            }
            if site.me.name == site.cluster.first {
                if let Some(why) = entry.is_undecided(site)? {
                    return Ok(Some(why));
                }
                if !entry.has_found() {
                    entry.form(site)?;
                    return Ok(Some(String::new()));
                }
            }
            return entry.join(site).map(Some);
        }
    }
    Ok(Some(String::new()))
}
