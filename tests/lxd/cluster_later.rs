//! What a cluster lives through after it was formed: most cards are off, all are, one more comes, the farm declares more
//! than it did, the card that formed it is lost, and a card of another farm comes.

use palmfarm::farm::addresses;
use palmfarm::farm::cluster_keys::ClusterKeys;
use palmfarm_protocol::firstboot::{FirstBoot, ManagedNetwork, Profile, StoragePool};
use palmfarm_protocol::report::StepState;
use serde_json::json;

use crate::cluster::{
    all_end_well, answers, are_whole, ends_well, members, seen, wait_until, with_container, STUCK,
};
use crate::fleet::Fleet;
use crate::running::Running;

/// What each card is told while the farm has these cards, of which `first` forms the cluster.
fn farm(fleet: &Fleet, cards: &[u8], first: u8, number: u8) -> FirstBoot {
    let mut document = with_container(fleet.document(number, first), number);
    let cluster = document.lxd.as_mut().unwrap().cluster.as_mut().unwrap();
    let names = cards.iter().map(|number| fleet.card(*number).name.as_str());
    let names: Vec<&str> = names.collect();
    cluster.members.retain(|one| names.contains(&one.name.as_str()));
    document
}

/// `document` with a pool, a network and a profile more.
fn with_more(mut document: FirstBoot) -> FirstBoot {
    let preseed = &mut document.lxd.as_mut().unwrap().preseed;
    preseed.storage_pools.push(StoragePool {
        name: "fast".into(),
        driver: "btrfs".into(),
        config: [("size".into(), "200MB".into())].into(),
    });
    preseed.networks.push(ManagedNetwork {
        name: "lab0".into(),
        kind: "bridge".into(),
        config: [
            ("ipv4.address".into(), "10.78.0.1/24".into()),
            ("ipv6.address".into(), "none".into()),
        ]
        .into(),
    });
    preseed.profiles.push(Profile {
        name: "lab".into(),
        description: "in the lab".into(),
        config: [("limits.processes".into(), "50".into())].into(),
        devices: [(
            "root".into(),
            [("type", "disk"), ("path", "/"), ("pool", "fast")]
                .map(|(key, value)| (key.into(), value.into()))
                .into(),
        )]
        .into(),
    });
    document
}

/// What tells a container from one that was made again or started again since.
fn identity(fleet: &Fleet, number: u8) -> (String, i64) {
    let card = fleet.card(number);
    let about = card.query(&format!("/1.0/instances/c{number}"), 30).unwrap();
    let state = card
        .query(&format!("/1.0/instances/c{number}/state"), 30)
        .unwrap();
    (
        about["config"]["volatile.uuid"].as_str().unwrap().into(),
        state["pid"].as_i64().unwrap(),
    )
}

/// The cards of the farm at first, with the fourth, and without the first.
const THREE: &[u8] = &[1, 2, 3];
const FOUR: &[u8] = &[1, 2, 3, 4];
const REST: &[u8] = &[2, 3, 4];

/// What the report of a card says while most are off.
const MEANS: &str = "2 of its 3 cards must be on, so switch on those that are off; what runs keeps running";

/// Where it says so.
const REPORT: &str = "run/palmfarm/report.txt";

fn begin(fleet: &Fleet, number: u8) -> (u8, Running) {
    let document = farm(fleet, THREE, 1, number);
    (number, fleet.card(number).run(&document))
}

fn identities(fleet: &Fleet, numbers: &[u8]) -> Vec<(String, i64)> {
    numbers.iter().map(|number| identity(fleet, *number)).collect()
}

#[test]
fn most_are_off_one_more_comes_and_the_first_is_lost() {
    let Some(mut fleet) = Fleet::new(4) else { return };
    for number in THREE {
        fleet.card_mut(*number).on();
    }
    let running = THREE.iter().map(|number| begin(&fleet, *number)).collect();
    all_end_well(&fleet, running);
    are_whole(&fleet, THREE);
    two_of_three_are_off(&mut fleet);
    all_are_off(&mut fleet);
    let before = identities(&fleet, THREE);
    a_fourth_comes(&mut fleet);
    assert_eq!(identities(&fleet, THREE), before);
    the_first_is_lost(&mut fleet);
    assert_eq!(identities(&fleet, &[2, 3]), before[1..]);
    a_stranger_comes(&mut fleet);
}

fn two_of_three_are_off(fleet: &mut Fleet) {
    println!("two of three are off");
    let before = identity(fleet, 3);
    fleet.card_mut(1).off();
    fleet.card_mut(2).off();
    // Until its daemon misses the others, it tells what was.
    let mut rounds = 0..30;
    let told = rounds.any(|_| {
        let mut care = fleet.card(3).agent(&["cluster", "care"]);
        let _ = care.ended(STUCK);
        println!("a round: {:.1} s", care.age().as_secs_f32());
        fleet.card(3).report().cluster.unwrap().message.contains(MEANS)
    });
    assert!(told, "{}", fleet.card(3).log());
    answers(fleet, 3);
    let third = begin(fleet, 3);
    fleet.card(3).wait_for(REPORT, MEANS);
    fleet.card_mut(2).on();
    let second = begin(fleet, 2);
    all_end_well(fleet, vec![second, third]);
    assert_eq!(identity(fleet, 3), before);
    fleet.card_mut(1).on();
    all_end_well(fleet, vec![begin(fleet, 1)]);
    wait_until(fleet, 3, "palm1", "online");
    are_whole(fleet, THREE);
}

fn all_are_off(fleet: &mut Fleet) {
    println!("all are off, and one is on");
    for number in THREE {
        fleet.card_mut(*number).off();
    }
    fleet.card_mut(3).on();
    let (_, mut waits) = begin(fleet, 3);
    fleet.card(3).wait_for(REPORT, MEANS);
    // A later command need not wait for the others.
    let document = farm(fleet, THREE, 1, 3);
    let third = fleet.card(3).apply(&document);
    assert!(!waits.ended(STUCK));
    assert!(waits.printed().contains("gave way"), "{}", waits.printed());
    let mut running = vec![(3, third)];
    for number in [2, 1] {
        fleet.card_mut(number).on();
        running.push(begin(fleet, number));
    }
    all_end_well(fleet, running);
    wait_until(fleet, 3, "palm1", "online");
    are_whole(fleet, THREE);
}

fn a_fourth_comes(fleet: &mut Fleet) {
    println!("a fourth is added, and a pool, a network and a profile");
    let four = |fleet: &Fleet, number: u8| with_more(farm(fleet, FOUR, 1, number));
    fleet.card_mut(4).on();
    let fourth = fleet.card(4).run(&four(fleet, 4));
    fleet.card(4).wait_for(REPORT, "apply the farm there, too");
    // Another card was cut short when it was about to make the pool.
    let pending = json!({"name": "fast", "driver": "btrfs", "config": {"size": "200MB"}});
    fleet
        .card(2)
        .ask("POST", "/1.0/storage-pools?target=palm2", &pending)
        .unwrap();
    let apply = |number: &u8| (*number, fleet.card(*number).apply(&four(fleet, *number)));
    let running: Vec<(u8, Running)> = THREE.iter().map(apply).collect();
    for (number, mut running) in running {
        ends_well(fleet, number, &mut running);
    }
    all_end_well(fleet, vec![(4, fourth)]);
    are_whole(fleet, FOUR);
    for number in FOUR {
        for what in ["storage-pools/fast", "networks/lab0"] {
            let path = format!("/1.0/{what}?target=palm{number}");
            let about = fleet.card(1).query(&path, 30).unwrap();
            assert_eq!(about["status"], "Created", "{path}");
        }
        let path = format!("/1.0/storage-pools/fast?target=palm{number}");
        let about = fleet.card(1).query(&path, 30).unwrap();
        assert_eq!(about["config"]["size"], "200MB", "{path}");
    }
    let profile = fleet.card(4).query("/1.0/profiles/lab", 30).unwrap();
    assert_eq!(profile["config"]["limits.processes"], "50");
}

fn the_first_is_lost(fleet: &mut Fleet) {
    println!("the first is lost, and the farm names another");
    fleet.card_mut(1).off();
    wait_until(fleet, 2, "palm1", "offline");
    let mut forgotten = fleet.card(2).agent(&["cluster", "forget", "palm1", "--yes"]);
    assert!(forgotten.ended(STUCK), "{}", forgotten.printed());
    let rest = |fleet: &Fleet, number: u8| with_more(farm(fleet, REST, 2, number));
    for number in REST {
        let mut applied = fleet.card(*number).apply(&rest(fleet, *number));
        ends_well(fleet, *number, &mut applied);
        let report = fleet.card(*number).report();
        let mut steps = report.steps.iter();
        let changed = steps.find(|step| step.state == StepState::Changed);
        assert!(changed.is_none(), "palm{number}: {changed:?}");
        assert_eq!(members(fleet, *number), ["palm2", "palm3", "palm4"]);
        assert_eq!(seen(fleet, *number, "palm1").0, "");
    }
}

fn a_stranger_comes(fleet: &mut Fleet) {
    println!("a card of another farm comes, with the names of this one");
    let mut keys = ClusterKeys::new().unwrap();
    keys.add(fleet.cards.iter().map(|card| &card.name)).unwrap();
    fleet.flash(1);
    fleet.card_mut(1).on();
    let mut document = farm(fleet, FOUR, 2, 1);
    let cluster = document.lxd.as_mut().unwrap().cluster.as_mut().unwrap();
    cluster.certificate = keys.cluster.certificate();
    for member in &mut cluster.members {
        member.certificate = keys.cards[&member.name].certificate();
    }
    let key = keys.cards["palm1"].key.pem();
    fleet
        .card(1)
        .put("etc/palmfarm/cluster/server.key", key.as_bytes());
    println!("at the same addresses");
    let why = "were made with different keys files: build all cards with the same one";
    let mut foreign = fleet.card(1).run(&document);
    fleet
        .card(1)
        .wait_for(REPORT, "palm2 shows a certificate of another farm");
    fleet.card(1).wait_for(REPORT, why);
    println!("at addresses that come from its own keys");
    let cluster = document.lxd.as_mut().unwrap().cluster.as_mut().unwrap();
    for member in &mut cluster.members {
        member.address = addresses::member(keys.cluster.der(), &member.name);
    }
    let address = cluster.member("palm1").unwrap().address;
    fleet
        .card(1)
        .ip(&format!("address add {address}/64 dev br0 nodad"));
    let _taken = fleet.card(1).apply(&document);
    assert!(!foreign.ended(STUCK));
    fleet.card(1).wait_for(REPORT, "waiting for palm2, palm3, palm4");
    fleet.card(1).wait_for(REPORT, why);
    assert_eq!(members(fleet, 2), ["palm2", "palm3", "palm4"]);
}

#[test]
fn incus_forms_one_too() {
    let Some(mut fleet) = Fleet::incus(3) else { return };
    let all = [1, 2, 3];
    let mut running = Vec::new();
    for number in all {
        fleet.card_mut(number).on();
        let document = farm(&fleet, &all, 1, number);
        running.push((number, fleet.card(number).run(&document)));
    }
    all_end_well(&fleet, running);
    are_whole(&fleet, &all);
}
