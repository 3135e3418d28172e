//! Three cards form a cluster by themselves, on Debian's LXD: the orders in which they come, power cuts while they do,
//! members that are off, flashed again or forgotten, and containers that somebody moves.

use std::thread::sleep;
use std::time::{Duration, Instant};

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::report::StepState;
use serde_json::{json, Value};

use crate::document::{add, address, container};
use crate::fleet::Fleet;
use crate::running::{bad, Running};

/// How long a card may take until its farm is as declared.
pub(crate) const STUCK: Duration = Duration::from_secs(600);

/// The farm: three containers, one on each card.
fn farm(fleet: &Fleet, number: u8) -> FirstBoot {
    with_container(fleet.document(number, 1), number)
}

/// `document` with the container of the card with this number.
pub(crate) fn with_container(mut document: FirstBoot, number: u8) -> FirstBoot {
    add(&mut document, container(&format!("c{number}"), number, "alpine"));
    document
}

pub(crate) fn begin(fleet: &Fleet, number: u8) -> Running {
    fleet.card(number).run(&farm(fleet, number))
}

#[track_caller]
pub(crate) fn ends_well(fleet: &Fleet, number: u8, running: &mut Running) {
    let well = running.ended(STUCK);
    let card = fleet.card(number);
    let bad = bad(&card.report());
    assert!(
        well && bad.is_empty(),
        "{bad:#?}\n{}\n{}",
        running.printed(),
        fleet.logs()
    );
}

/// The members that the card with this number lists, in the order of their names.
pub(crate) fn members(fleet: &Fleet, number: u8) -> Vec<String> {
    let all = fleet.card(number).query("/1.0/cluster/members?recursion=1", 30);
    let all = all.unwrap_or_default();
    let name = |one: &Value| one["server_name"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = all.as_array().into_iter().flatten().map(name).collect();
    names.sort();
    names
}

/// One cluster of three, each container once and where it was declared, at its predicted address.
#[track_caller]
pub(crate) fn is_whole(fleet: &Fleet) {
    are_whole(fleet, &[1, 2, 3]);
}

/// The same of the cards with these numbers.
#[track_caller]
pub(crate) fn are_whole(fleet: &Fleet, numbers: &[u8]) {
    let names: Vec<String> = numbers.iter().map(|number| format!("palm{number}")).collect();
    for number in numbers {
        assert_eq!(members(fleet, *number), names, "{number}");
    }
    let all = fleet.card(2).query("/1.0/instances?recursion=1", 30).unwrap();
    let mut found: Vec<(String, String)> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let text = |key: &str| one[key].as_str().unwrap().to_owned();
            (text("name"), text("location"))
        })
        .collect();
    found.sort();
    let places = numbers
        .iter()
        .map(|number| (format!("c{number}"), format!("palm{number}")));
    assert_eq!(found, places.collect::<Vec<_>>());
    for number in numbers {
        answers(fleet, *number);
    }
}

/// The container with this number answers the router at its predicted address, perhaps after some seconds.
#[track_caller]
pub(crate) fn answers(fleet: &Fleet, number: u8) {
    let address = address(&container("", number, ""));
    let mut tries = 0..60;
    assert!(
        tries.any(|_| fleet.router.ping(address)),
        "c{number} at {address}"
    );
}

/// Wait until all of `running` have ended well, with the care that each card takes of its cluster once a minute.
#[track_caller]
pub(crate) fn all_end_well(fleet: &Fleet, running: Vec<(u8, Running)>) {
    let mut left = running;
    while !left.is_empty() {
        left.retain_mut(|(number, running)| {
            if running.is_at_work() {
                assert!(
                    running.age() < STUCK,
                    "palm{number} is stuck:\n{}\n{}",
                    running.printed(),
                    fleet.logs()
                );
                return true;
            }
            ends_well(fleet, *number, running);
            println!("palm{number}: {:.1} s", running.age().as_secs_f32());
            false
        });
        care(fleet);
        sleep(Duration::from_millis(200));
    }
}

/// Let each card that has power care for its cluster.
pub(crate) fn care(fleet: &Fleet) {
    for card in fleet.cards.iter().filter(|card| card.is_on()) {
        let _ = card.agent(&["cluster", "care"]).ended(STUCK);
    }
}

/// Begin to care for the cluster on each card that has power and does not care for it yet.
pub(crate) fn keep_caring(fleet: &Fleet, caring: &mut Vec<(u8, Running)>) {
    caring.retain_mut(|(_, running)| running.is_at_work());
    for (card, number) in fleet.cards.iter().zip(1..) {
        if card.is_on() && caring.iter().all(|(one, _)| *one != number) {
            caring.push((number, card.agent(&["cluster", "care"])));
        }
    }
}

/// Run the agents of these cards at once.
pub(crate) fn run_all(fleet: &Fleet, numbers: &[u8]) {
    let running = numbers.iter().map(|number| (*number, begin(fleet, *number)));
    all_end_well(fleet, running.collect());
}

/// What the report of the card with this number says of `member`: its state, and the containers on it.
pub(crate) fn seen(fleet: &Fleet, number: u8, member: &str) -> (String, Vec<String>) {
    let cluster = fleet.card(number).report().cluster.unwrap();
    let found = cluster.members.into_iter().find(|one| one.name == member);
    found.map_or_else(Default::default, |one| (one.state, one.containers))
}

/// Care for the cluster until the report of the card with this number says that `member` is in `state`.
#[track_caller]
pub(crate) fn wait_until(fleet: &Fleet, number: u8, member: &str, state: &str) {
    let begun = Instant::now();
    loop {
        // What the last report says may be older than what was done since.
        care(fleet);
        if seen(fleet, number, member).0 == state {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "{member} is not {state}: {:#?}",
            fleet.card(number).report().cluster
        );
        sleep(Duration::from_millis(500));
    }
}

#[test]
fn three_cards_become_one_cluster() {
    let Some(mut fleet) = Fleet::new(3) else { return };
    fleet.card_mut(1).on();
    fleet.card_mut(2).on();
    // The third gets its keys before its daemon is started for the first time.
    fleet.card_mut(3).on_without_daemon();
    let running: Vec<(u8, Running)> = (1..=3).map(|number| (number, begin(&fleet, number))).collect();
    fleet
        .card(3)
        .wait_for("var/lib/lxd/server.crt", "END CERTIFICATE");
    fleet.card(3).order("start");
    all_end_well(&fleet, running);
    is_whole(&fleet);
    run_all(&fleet, &[1, 2, 3]);
    for number in 1..=3 {
        let report = fleet.card(number).report();
        let changed: Vec<&str> = report
            .steps
            .iter()
            .filter(|step| step.state == StepState::Changed)
            .map(|step| step.name.as_str())
            .collect();
        assert!(changed.is_empty(), "palm{number}: {changed:?}");
        assert_eq!(
            seen(&fleet, number, "palm2"),
            ("online".into(), vec!["c2".to_owned()])
        );
    }

    println!("one is off, and on again");
    fleet.card_mut(3).off();
    wait_until(&fleet, 1, "palm3", "offline");
    assert_eq!(seen(&fleet, 1, "palm3").1, ["c3"]);
    answers(&fleet, 1);
    fleet.card_mut(3).on();
    run_all(&fleet, &[3]);
    wait_until(&fleet, 1, "palm3", "online");
    is_whole(&fleet);

    println!("somebody moves a container");
    let stop = json!({"action": "stop", "timeout": 10, "force": true});
    let start = json!({"action": "start", "timeout": 10});
    let state = "/1.0/instances/c2/state";
    let to = |member: &str| {
        let card = fleet.card(1);
        card.ask("PUT", state, &stop).unwrap();
        let path = format!("/1.0/instances/c2?target={member}");
        card.ask("POST", &path, &json!({"name": "c2", "migration": true}))
            .unwrap();
        card.ask("PUT", state, &start).unwrap();
    };
    to("palm3");
    run_all(&fleet, &[2]);
    let report = fleet.card(2).report();
    let step = report
        .steps
        .iter()
        .find(|step| step.name == "container c2")
        .unwrap();
    assert_eq!(step.state, StepState::Unchanged);
    assert!(step.message.contains("palm3"), "{}", step.message);
    assert_eq!(report.containers[0].location.as_deref(), Some("palm3"));
    assert_eq!(report.containers[0].message, "");
    answers(&fleet, 2);
    to("palm2");

    println!("the first is flashed again");
    fleet.card_mut(1).off();
    fleet.flash(1);
    fleet.card_mut(1).on();
    run_all(&fleet, &[1]);
    is_whole(&fleet);

    println!("one is lost, and forgotten");
    let forget = |words: &[&str]| fleet.card(2).agent(words).ended(STUCK);
    assert!(!forget(&["cluster", "forget", "palm3", "--yes"]), "it is on");
    assert_eq!(members(&fleet, 2).len(), 3);
    let mut fleet = fleet;
    fleet.card_mut(3).off();
    wait_until(&fleet, 2, "palm3", "offline");
    let forget = |words: &[&str]| fleet.card(2).agent(words).ended(STUCK);
    assert!(!forget(&["cluster", "forget", "palm3"]), "nobody was asked");
    let mut forgotten = fleet.card(2).agent(&["cluster", "forget", "palm3", "--yes"]);
    assert!(
        forgotten.ended(STUCK),
        "{}\n{}",
        forgotten.printed(),
        fleet.logs()
    );
    wait_until(&fleet, 2, "palm3", "not a member");
    assert_eq!(members(&fleet, 1), ["palm1", "palm2"]);
    fleet.flash(3);
    fleet.card_mut(3).on();
    run_all(&fleet, &[3]);
    is_whole(&fleet);
}

#[test]
fn the_first_comes_last() {
    let Some(mut fleet) = Fleet::new(3) else { return };
    for number in [3, 2] {
        fleet.card_mut(number).on();
    }
    fleet
        .card(2)
        .wait_for("var/lib/lxd/server.crt", "END CERTIFICATE");
    let pool = json!({"name": "mine", "driver": "dir", "config": {}});
    while fleet.card(2).query("/1.0/storage-pools", 5).is_none() {
        sleep(Duration::from_millis(100));
    }
    fleet.card(2).ask("POST", "/1.0/storage-pools", &pool).unwrap();
    let mut refused = begin(&fleet, 2);
    assert!(!refused.ended(STUCK));
    let why = bad(&fleet.card(2).report()).join("\n");
    assert!(why.contains("there is the storage-pool mine"), "{why}");
    fleet
        .card(2)
        .ask("DELETE", "/1.0/storage-pools/mine", &json!({}))
        .unwrap();

    let mut running: Vec<(u8, Running)> = [3, 2].map(|number| (number, begin(&fleet, number))).into();
    for number in [2, 3] {
        fleet
            .card(number)
            .wait_for("run/palmfarm/report.txt", "cluster: waiting for palm");
    }
    fleet.card_mut(1).on();
    running.push((1, begin(&fleet, 1)));
    all_end_well(&fleet, running);
    is_whole(&fleet);
}

#[test]
fn power_cuts_while_it_forms() {
    let Some(mut fleet) = Fleet::new(3) else { return };
    // The others listen, outside any cluster, or the first would wait a minute for them.
    let mut others = [2, 3].map(|number| {
        fleet.card_mut(number).on();
        begin(&fleet, number)
    });
    for number in [2, 3] {
        fleet
            .card(number)
            .wait_for("run/palmfarm/report.txt", "cluster: waiting for palm");
    }
    fleet.card_mut(1).on();
    let mut cut = begin(&fleet, 1);
    fleet
        .card(1)
        .wait_for("var/lib/lxd/cluster.crt", "END CERTIFICATE");
    fleet.card_mut(1).off();
    cut.end();
    for (number, other) in [2, 3].into_iter().zip(&mut others) {
        fleet.card_mut(number).off();
        other.end();
    }
    fleet.card_mut(1).on();
    run_all(&fleet, &[1]);
    for (number, millis) in [(2, 100), (3, 500)] {
        println!("palm{number} loses its power {millis} ms after it began to join");
        fleet.card_mut(number).on();
        let mut cut = begin(&fleet, number);
        fleet
            .card(number)
            .wait_for("run/palmfarm/report.txt", "waiting for its turn");
        let mut caring = Vec::new();
        if number == 3 {
            waits_for_the_same_version(&fleet, number, &mut caring);
        } else {
            keep_caring(&fleet, &mut caring);
        }
        fleet
            .card(number)
            .wait_for("var/lib/lxd/cluster.crt", "END CERTIFICATE");
        sleep(Duration::from_millis(millis));
        fleet.card_mut(number).off();
        cut.end();
        drop(caring);
        fleet.card_mut(number).on();
        run_all(&fleet, &[number]);
    }
    is_whole(&fleet);
}

/// The card with this number, whose run waits, does not join while the members count as older, and says so.
fn waits_for_the_same_version(fleet: &Fleet, number: u8, caring: &mut Vec<(u8, Running)>) {
    // LXD compares what its versions can do, and each member notes that in the database when it starts.
    let count = |change: &str| {
        let query = format!("UPDATE nodes SET api_extensions = api_extensions {change}");
        let body = json!({"database": "global", "query": query});
        fleet.card(1).ask("POST", "/internal/sql", &body).unwrap();
    };
    count("- 1");
    keep_caring(fleet, caring);
    for words in [
        "waiting for the same version: this daemon is ",
        "; update the older one",
    ] {
        fleet.card(number).wait_for("run/palmfarm/report.txt", words);
    }
    count("+ 1");
}
