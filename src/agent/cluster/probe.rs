//! Who listens at another card's address. The card's own daemon is asked to fetch an image from there that does not
//! exist: it connects, accepts one certificate and no other, and says in its error how far it came. Nothing is changed on
//! either side.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use palmfarm_protocol::cluster::{Member, PORT};
use palmfarm_protocol::firstboot::Flavour;
use serde_json::json;

use super::{is, Site};
use crate::step::{DaemonState, StepError};

/// How long a card on the same LAN may take to accept a connection.
const NEAR: Duration = Duration::from_secs(2);

/// No image has this name.
const NOTHING: &str = "palmfarm-asks-who-is-there";

/// Who listens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// Nobody, or nobody who answers.
    Nobody,
    /// Who has the key of the certificate.
    Holder,
    /// Who shows another certificate.
    Other,
    /// Somebody, who does not answer as a container daemon does that is up.
    Unclear,
}

/// Whether anybody accepts connections at the address of `member`.
pub(super) fn answers(member: &Member) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((member.address, PORT)), NEAR).is_ok()
}

/// Whether who listens at the address of `member` has the key of `certificate`.
pub(super) fn who(site: &Site<'_>, member: &Member, certificate: &str) -> Result<Listener, StepError> {
    if !answers(member) {
        return Ok(Listener::Nobody);
    }
    let protocol = match site.farm.lxd.flavour {
        Flavour::Lxd => "lxd",
        Flavour::Incus => "incus",
    };
    let body = json!({"source": {
        "type": "image", "mode": "pull", "server": format!("https://{}", member.endpoint()), "protocol": protocol,
        "certificate": certificate, "alias": NOTHING,
    }});
    let doing = format!("asking who listens at {}", member.endpoint());
    match site.change(&doing, "POST", "/1.0/images", &body) {
        Ok(_) => Ok(Listener::Holder),
        Err(error) if is(&error, "x509") => Ok(Listener::Other),
        Err(error) if is(&error, "not found") => Ok(Listener::Holder),
        Err(error) if is(&error, "Unable to connect") => Ok(Listener::Nobody),
        Err(error) => match StepError::from(error) {
            // This card's own daemon does not answer.
            error if error.daemon == DaemonState::Away => Err(error),
            _ => Ok(Listener::Unclear),
        },
    }
}
