//! `palmfarm find`: waits until the hosts and containers of a farm are on the LAN, and prints each with its addresses.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use palmfarm_protocol::mac::Mac;
use serde_json::{json, Value};

use super::args::Find;
use super::env::drop_privileges;
use super::from_farm;
use super::outcome::{CliResult, Failure, Outcome};
use super::session::Session;
use super::ui::Ui;
use crate::farm::farm_file::DEFAULT;
use crate::farm::{addresses, Farm, Ipv4, Ipv6, ResolvedCard};
use crate::lan::{Found, LanError, Search, Sight, Sign, Wanted};
use crate::text::duration_text;

/// How long the first look listens. It is repeated soon: a container may be up a second later.
const FIRST: Duration = Duration::from_secs(1);

/// How long a look listens after some time: a Pi needs minutes to boot, and every look is heard by the whole LAN.
const LONGEST: Duration = Duration::from_secs(5);

/// How long `--once` listens: five seconds after a packet the kernel doubts what it knew of a host, and then asks it anew
/// (`delay_first_probe_time`).
const ONCE: Duration = Duration::from_secs(7);

/// How long a name is waited for.
const NAME: Duration = Duration::from_secs(1);

/// A host or a container that should be on the LAN.
struct Target {
    card: String,
    name: String,
    kind: &'static str,
    wanted: Wanted,
}

pub(super) fn run(args: &Find, ui: Ui) -> CliResult {
    drop_privileges()?;
    let here = || Some(PathBuf::from(DEFAULT)).filter(|path| path.exists());
    let Some(path) = args.farm.clone().or_else(here) else {
        if args.card.is_some() {
            let error = "--card needs a farm, and there is no farm.yaml in this folder";
            return Err(Failure::usage(error).hint("name the farm file"));
        }
        return any_pi(args, &Session::start(ui));
    };
    let targets = targets(&path, args.card.as_deref(), ui)?;
    wait_for(args, targets, &Session::start(ui))
}

/// Everything that a farm, or one card of it, brings onto the LAN.
fn targets(path: &Path, card: Option<&str>, ui: Ui) -> Result<Vec<Target>, Failure> {
    let loaded = from_farm::load(path, ui)?;
    let cards = match card {
        Some(_) => vec![from_farm::card(&loaded, card)?],
        None => loaded.farm.resolved_cards(),
    };
    let mut targets = Vec::new();
    for card in cards {
        targets.push(Target {
            card: card.name.clone(),
            name: card.hostname.clone(),
            kind: "host",
            wanted: host_of(&card),
        });
        targets.extend(containers(&loaded.farm, &card));
    }
    Ok(targets)
}

/// The Pi of `card`, by all that is known of it before it boots.
pub(super) fn host_of(card: &ResolvedCard) -> Wanted {
    let four = match card.network.ipv4 {
        Ipv4::Static { address, .. } => Some(address.into()),
        Ipv4::Dhcp | Ipv4::None => None,
    };
    let six = match card.network.ipv6 {
        Ipv6::Static { address, .. } => Some(address.into()),
        Ipv6::Auto | Ipv6::None => None,
    };
    Wanted {
        mac: card.mac,
        name: Some(format!("{}.local", card.hostname.to_ascii_lowercase())),
        fixed: six.into_iter().chain(four).collect(),
    }
}

fn containers<'a>(farm: &Farm, card: &'a ResolvedCard) -> impl Iterator<Item = Target> + use<'a> {
    let all = addresses::on_lan(farm, card).into_iter();
    all.map(|(name, mac)| Target {
        card: card.name.clone(),
        name,
        kind: "container",
        wanted: Wanted {
            mac: Some(mac),
            ..Wanted::default()
        },
    })
}

/// Look until all `targets` are there.
fn wait_for(args: &Find, mut targets: Vec<Target>, session: &Session) -> CliResult {
    let ui = session.ui;
    let all = targets.len();
    let mut strangers = Vec::new();
    looks(args, session, |search, listen| {
        let wanted: Vec<&Wanted> = targets.iter().map(|target| &target.wanted).collect();
        let sight = search.look(&wanted, listen, session.observer().cancel)?;
        targets.retain(|target| match sight.find(&target.wanted) {
            Some(found) => {
                print(Some(target), &found, ui);
                false
            }
            None => true,
        });
        show_unknown_pis(&targets, &sight, &mut strangers, ui);
        Ok(targets.is_empty())
    })?;
    if targets.is_empty() {
        ui.info_line("all are there");
        return Ok(());
    }
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    let error = anyhow!(
        "not on the LAN{}: {} ({} of {all})",
        after(args),
        names.join(", "),
        names.len()
    );
    let is_host = |target: &&Target| target.kind == "host";
    let hint = match targets.iter().find(is_host) {
        Some(host) if host.wanted.mac.is_none() && !strangers.is_empty() => format!(
            "a Pi whose MAC is not in the farm is found by its name only; if it is the one with {}, put \
             `cards: {{{}: {{mac: \"{}\"}}}}` into the farm",
            strangers[0], host.card, strangers[0]
        ),
        Some(_) => {
            "if it stays away, put its card into a reader: palmfarm inspect shows the report of the boot"
                .into()
        }
        None => "`palmfarm-agent status` on the Pi says what became of them".into(),
    };
    Err(Failure::new(Outcome::TimedOut, error).hint(hint))
}

/// Print Raspberry Pis that may be a host that is missing and has no MAC; each once: `shown` has those that were printed.
fn show_unknown_pis(missing: &[Target], sight: &Sight, shown: &mut Vec<Mac>, ui: Ui) {
    let may_be = |target: &&Target| target.kind == "host" && target.wanted.mac.is_none();
    let Some(missing) = missing.iter().find(may_be) else {
        return;
    };
    for pi in sight.raspberry_pis() {
        let Some(mac) = pi.mac.filter(|mac| !shown.contains(mac)) else {
            continue;
        };
        shown.push(mac);
        let line = format!(
            "a Raspberry Pi is at {}, which may be {}",
            places(&pi),
            missing.name
        );
        ui.report(&event(None, &pi), line);
    }
}

/// Look until a Raspberry Pi is there, and print all that are.
fn any_pi(args: &Find, session: &Session) -> CliResult {
    let mut count = 0_usize;
    looks(args, session, |search, listen| {
        let sight = search.look(&[], listen, session.observer().cancel)?;
        let mut pis = sight.raspberry_pis();
        sight.name(&mut pis, NAME, session.observer().cancel);
        for pi in &pis {
            print(None, pi, session.ui);
        }
        count = pis.len();
        Ok(count > 0)
    })?;
    if count > 0 {
        return Ok(());
    }
    let error = anyhow!("there is no Raspberry Pi on the LAN{}", after(args));
    Err(Failure::new(Outcome::TimedOut, error)
        .hint("name a farm: its containers and its Pi are found by other signs, too"))
}

/// Call `look` with the time for which to listen, until it says that all is there or the time is over.
fn looks(
    args: &Find,
    session: &Session,
    mut look: impl FnMut(&mut Search, Duration) -> Result<bool, LanError>,
) -> CliResult {
    let refused = |error: LanError| Failure::with_hint(Outcome::Refused, error, LanError::hint);
    let mut search = Search::new().map_err(refused)?;
    if !search.can_ping() {
        session.ui.info_line(
            "note: you may not ping, so only hosts whose MAC, name or address the farm knows are found\n\
             hint: sudo sysctl -w net.ipv4.ping_group_range=\"0 2147483647\" lets everybody ping",
        );
    }
    let begun = Instant::now();
    let mut listen = if args.once { ONCE } else { FIRST };
    loop {
        let left = args.timeout.saturating_sub(begun.elapsed());
        let time = if args.once { listen } else { listen.min(left) };
        if look(&mut search, time).map_err(refused)? {
            return Ok(());
        }
        if session.is_cancelled() {
            return Err(session.interrupted("interrupted"));
        }
        if args.once || begun.elapsed() >= args.timeout {
            return Ok(());
        }
        listen = listen.saturating_add(FIRST).min(LONGEST);
    }
}

fn after(args: &Find) -> String {
    if args.once {
        String::new()
    } else {
        format!(" after {}", duration_text(args.timeout))
    }
}

fn print(target: Option<&Target>, found: &Found, ui: Ui) {
    if ui.json {
        ui.event(&event(target, found));
        return;
    }
    let name = target
        .map(|target| target.name.as_str())
        .or(found.name.as_deref());
    let kind = target.map_or("Raspberry Pi", |target| target.kind);
    let how = match (found.sign, found.mac) {
        (Sign::Name, _) => "mDNS".to_owned(),
        (Sign::Address, _) => "its fixed address".to_owned(),
        (Sign::Mac | Sign::RaspberryPi, Some(mac)) => format!("MAC {mac}"),
        (Sign::Mac | Sign::RaspberryPi, None) => "its MAC".to_owned(),
    };
    ui.result_line(format_args!(
        "{:<15} {kind:<12} {}  ({how})",
        name.unwrap_or("-"),
        places(found)
    ));
}

fn places(found: &Found) -> String {
    let places: Vec<String> = found.places.iter().map(ToString::to_string).collect();
    places.join(" ")
}

fn event(target: Option<&Target>, found: &Found) -> Value {
    let addresses: Vec<String> = found.places.iter().map(ToString::to_string).collect();
    json!({
        "event": "found",
        "card": target.map(|target| &target.card),
        "kind": target.map_or("raspberry-pi", |target| target.kind),
        "name": target.map(|target| &target.name).or(found.name.as_ref()),
        "mac": found.mac,
        "addresses": addresses,
        "interface": found.places.first().map(|place| &place.interface),
        "by": found.sign.word(),
    })
}
