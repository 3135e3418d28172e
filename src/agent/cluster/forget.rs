//! `palmfarm-agent cluster forget NAME`: give up a member that is lost for good, or was flashed again. Only a person may say
//! so, since the records of its containers go with it.

use palmfarm_protocol::firstboot::FirstBoot;

use super::probe::{self, Listener};
use super::{care, members, Site};
use crate::daemon::{find_socket, Daemon};
use crate::farm::Farm;
use crate::rebuild::confirmed;
use crate::root::Root;
use crate::run::ExitStatus;
use crate::step::StepError;

/// Forget the member `name`. `asked` says that the person has confirmed it.
pub fn forget(root: &Root, document: &FirstBoot, name: &str, asked: bool) -> ExitStatus {
    match attempt(root, document, name, asked) {
        Ok(status) => status,
        Err(error) => {
            say!("palmfarm-agent: {error}");
            ExitStatus::Refused
        }
    }
}

fn attempt(root: &Root, document: &FirstBoot, name: &str, asked: bool) -> Result<ExitStatus, StepError> {
    let lxd = document.lxd.as_ref();
    let lxd = lxd.ok_or_else(|| StepError::new("the farm declares no container daemon"))?;
    let socket = find_socket(root.dir(), lxd.flavour);
    let socket = socket.ok_or_else(|| StepError::new("there is no container daemon"))?;
    let daemon = Daemon::connect(&socket)?;
    let farm = Farm::new(&daemon, lxd, root, &document.card);
    let site = Site::new(&farm, &document.card)?;
    let all = members::list(&daemon)?;
    let listed = members::find(&all, name);
    let listed = listed.ok_or_else(|| StepError::new(format!("{name} is not a member of the cluster")))?;
    if name == site.me.name {
        return Err(StepError::new(format!(
            "this card is {name}: forget it on another card of the cluster"
        )));
    }
    let (mut flashed, mut lives) = (false, false);
    if let Some(member) = site.cluster.member(name) {
        let holds =
            |certificate| Ok::<_, StepError>(probe::who(&site, member, certificate)? == Listener::Holder);
        flashed = holds(&member.certificate)?;
        // A busy member may seem to be offline to the others.
        lives = !flashed && holds(&site.cluster.certificate)?;
    }
    if lives || listed["status"] == "Online" && !flashed {
        return Err(StepError::new(format!(
            "{name} is online, or was some seconds ago, and has what the cluster knows of it: switch it off first"
        )));
    }
    let lost = members::containers_on(&daemon, name)?;
    say!(
        "the cluster forgets {name}, and what it knows of its containers: {}. What is on its card is not touched, but \
         that card must be flashed before it can come back.",
        if lost.is_empty() { "none".into() } else { lost.join(", ") }
    );
    if !asked && !confirmed(name, "forget") {
        return Err(StepError::new("nothing was changed"));
    }
    care::remove(&daemon, &format!("forgetting {name}"), name)?;
    say!("{name} is forgotten");
    Ok(ExitStatus::Done)
}
