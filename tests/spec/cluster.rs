//! The cluster that cards form: what a farm must have for it, and where its containers are.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::LazyLock;

use expect_test::{expect, Expect};
use palmfarm::farm::addresses;
use palmfarm::farm::cluster_keys::ClusterKeys;
use palmfarm::farm::Farm;
use proptest::prelude::*;

use super::{brief, completed, read_in};

/// Keys of the cards palm1 to palm9.
static KEYS: LazyLock<String> = LazyLock::new(|| {
    let mut keys = ClusterKeys::new().unwrap();
    let cards: Vec<String> = (1..10).map(|number| format!("palm{number}")).collect();
    keys.add(cards.iter()).unwrap();
    keys.text()
});

const THREE: &str = "cards: {palm1: , palm2: , palm3: }\n";
const CLUSTER: &str = "cluster: {keys: k, first: palm1}\n";

fn write_keys(dir: &Path, text: &str, mode: u32) {
    fs::write(dir.join("k"), text).unwrap();
    fs::set_permissions(dir.join("k"), fs::Permissions::from_mode(mode)).unwrap();
}

/// The problems of a farm with `lines` beside a file `k` of keys are `expect`.
#[track_caller]
fn check(lines: &str, expect: &Expect) {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path(), &KEYS, 0o600);
    expect.assert_eq(&brief(&read_in(&completed(lines), dir.path())));
}

/// The farm with `lines`, of which nothing is to say.
#[track_caller]
fn good(lines: &str) -> Farm {
    let dir = tempfile::tempdir().unwrap();
    write_keys(dir.path(), &KEYS, 0o600);
    let result = read_in(&completed(lines), dir.path());
    assert_eq!(brief(&result), "", "{lines}");
    result.unwrap().farm
}

/// Each container of `farm` with the card that it is on.
fn places(farm: &Farm) -> BTreeMap<String, String> {
    let mut places = BTreeMap::new();
    for card in farm.resolved_cards() {
        for one in addresses::containers(farm, &card) {
            let before = places.insert(one.name.clone(), card.name.clone());
            assert_eq!(before, None, "{} is on two cards", one.name);
        }
    }
    places
}

#[test]
fn a_cluster_has_three_cards_and_one_place_for_each_container() {
    let farm = good(&format!(
        "{THREE}{CLUSTER}containers: {{a: {{image: \"images:a\"}}, b: {{image: \"images:a\", on: palm2}}, \
         w: {{image: \"images:a\", replicas: 2..6, spread: true}}}}\n"
    ));
    let cluster = farm.cluster.as_ref().unwrap();
    assert_eq!(
        (cluster.first.as_str(), cluster.offline_threshold),
        ("palm1", 120)
    );
    assert_eq!(farm.lxd.as_ref().unwrap().refresh, palmfarm::farm::Refresh::Hold);
    let places = places(&farm);
    let on = |name: &str| places[name].as_str();
    assert_eq!(
        [on("w2"), on("w3"), on("w4"), on("w5"), on("w6")],
        ["palm1", "palm2", "palm3", "palm1", "palm2"]
    );
    assert_eq!(on("b"), "palm2");
    // Python: max(cards, key=lambda c: sha256(b"palmfarm placement 1" + pack(">Q", len(c)) + c + pack(">Q", 1) + b"a").digest())
    assert_eq!(on("a"), "palm1");
    // A list is a place, too, and the rules send nothing there.
    let farm = good(&format!(
        "cards: {{palm1: {{containers: [a]}}, palm2: , palm3: {{containers: []}}}}\n{CLUSTER}\
         containers: {{a: {{image: \"images:a\"}}, b: {{image: \"images:a\"}}, c: {{image: \"images:a\", on: palm3}}}}\n"
    ));
    let places = self::places(&farm);
    assert_eq!(
        places.values().map(String::as_str).collect::<Vec<_>>(),
        ["palm1", "palm2", "palm3"]
    );
}

#[test]
fn what_cannot_be_a_cluster_is_refused() {
    check(
        "cluster: {keys: k, first: palm1}\n",
        &expect![[r#"
        1:1 error: the farm has no cards that could form a cluster (name them: `cards: {palm1: {}, palm2: {}, palm3: {}}`)
    "#]],
    );
    check(
        &format!("{THREE}cluster: {{}}\n"),
        &expect![[r#"
            2:1 error: "" cannot be used: it is not a regular file
            2:1 error: `cluster` has no `first` (write `first: NAME`, the card that forms the cluster)
            2:1 error: `cluster` has no `keys` (write `keys: secrets/farm.keys`; `palmfarm keys new` makes the file)
        "#]],
    );
    check(
        &format!("{THREE}cluster: {{keys: k, first: palm4, offline_threshold: 10}}\n"),
        &expect![[r#"
            2:27 error: there is no card "palm4" (did you mean "palm1"?)
            2:53 error: `offline_threshold` is a whole number from 11 to 3600, not "10"
        "#]],
    );
    check(
        &format!("cards: {{palm1: , palm2: }}\n{CLUSTER}"),
        &expect![[r#"
            1:1 warning: a cluster of two cards is weaker than one card: only the first has a vote, and without it the second starts no container (with three cards any one may be off; without `cluster` each of two is a host by itself)
        "#]],
    );
    check(
        &format!("cards: {{palm1: , none: , cluster: }}\n{CLUSTER}"),
        &expect![[r#"
            1:18 error: no member of a cluster can be called none (give the card another name; `hostname` of a card may stay as it is)
            1:26 error: no member of a cluster can be called cluster (give the card another name; `hostname` of a card may stay as it is)
            2:17 error: "k" cannot be used: there is no pair for cluster, none (`palmfarm keys new` adds it)
        "#]],
    );
    check(
        &format!("{THREE}{CLUSTER}network: {{bridge: none}}\n"),
        &expect![[r#"
            3:19 error: the members of a cluster reach each other over the bridge, and this farm has none (write `bridge: br0`, or leave `cluster` out)
        "#]],
    );
    check(
        &format!("cards: {{palm1: , palm2: {{network: {{bridge: lan0}}}}, palm3: {{network: {{bridge: none}}}}}}\n{CLUSTER}"),
        &expect![[r#"
            1:44 error: the bridge of card "palm2" is called lan0, and that of "palm1" br0: one profile is for all members of a cluster (call the bridges of all cards the same)
            1:78 error: the members of a cluster reach each other over the bridge, and card "palm3" has none (write `bridge: br0`, or leave `cluster` out)
        "#]],
    );
    check(
        &format!("{THREE}{CLUSTER}base: ubuntu-18.04.5-armhf\n"),
        &expect![[r#"
            2:1 error: ubuntu-18.04.5-armhf has LXD 3.0, which forms no cluster without a password (take a newer base)
            3:7 error: there is no base called "ubuntu-18.04.5-armhf" (did you mean "ubuntu-18.04-armhf"?)
        "#]],
    );
    check(
        &format!("{THREE}{CLUSTER}base: ubuntu-24.04-arm64\n"),
        &expect![[r#"
            2:1 warning: cards that are set up on different days may get different versions of LXD, and those form no cluster (write `lxd: {channel: 5.21/stable}`, which gets corrections only)
        "#]],
    );
    check(
        &format!("{THREE}{CLUSTER}lxd: {{refresh: auto}}\n"),
        &expect![[r#"
            3:16 warning: when snapd refreshes LXD on one member, the cluster stops until all have the same version (leave `refresh` out: the cards of a cluster are held)
        "#]],
    );
    check(&format!("{THREE}{CLUSTER}boot: {{cmdline: [ipv6.disable=1]}}\nnetwork: {{ipv6: none}}\nlxd: {{nat: none}}\n"), &expect![[r#"
        3:18 error: `ipv6.disable=1` turns off IPv6, over which the members of a cluster reach each other (leave the word out)
    "#]]);
}

#[test]
fn a_container_has_one_place() {
    check("containers: {a: {image: \"images:a\", on: palm1}, w: {image: \"images:a\", replicas: 1..2, spread: true}}\n", &expect![[r#"
        1:37 error: `on` chooses among the cards of a cluster, and the farm has none (write `cluster: {keys: secrets/farm.keys, first: NAME}`, or name the container in `containers` of a card)
        1:88 error: `spread` chooses among the cards of a cluster, and the farm has none (write `cluster: {keys: secrets/farm.keys, first: NAME}`, or name the container in `containers` of a card)
    "#]]);
    check(&format!("{THREE}{CLUSTER}containers: {{a: {{image: \"images:a\", on: palm4}}, b: {{image: \"images:a\", spread: true}}}}\n"), &expect![[r#"
        3:41 error: there is no card "palm4" (did you mean "palm1"?)
        3:72 warning: "b" is one container, which nothing can spread (write `replicas: 1..3`, or leave `spread` out)
    "#]]);
    check(&format!("{THREE}{CLUSTER}containers: {{w: {{image: \"images:a\", replicas: 1..2, on: palm1, spread: true}}}}\n"), &expect![[r#"
        3:64 error: a container is on one card or spread over all, not both (leave one of `on` and `spread` out)
    "#]]);
    check(
        &format!(
            "cards: {{palm1: {{containers: [a, b]}}, palm2: {{containers: [a]}}, palm3: {{containers: []}}}}\n{CLUSTER}\
             containers: {{a: {{image: \"images:a\"}}, b: {{image: \"images:a\", on: palm2}}, c: {{image: \"images:a\"}}}}\n"
        ),
        &expect![[r#"
            1:33 error: "b" is on card "palm2" already, and its name belongs to the whole cluster (name it on one card; `replicas` with `spread: true` are on all)
            1:59 error: "a" is on card "palm1" already, and its name belongs to the whole cluster (name it on one card; `replicas` with `spread: true` are on all)
            3:73 warning: no card has the container "c" (name it in `containers` of a card, or take it out)
        "#]],
    );
}

#[test]
fn the_keys_are_there_whole_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let lines = format!("{THREE}{CLUSTER}");
    let check = |expect: &Expect| expect.assert_eq(&brief(&read_in(&completed(&lines), dir)));
    check(&expect![[r#"
        2:17 error: there is no file "k" (`palmfarm keys new` writes the file)
    "#]]);
    write_keys(dir, &KEYS, 0o640);
    check(&expect![[r#"
        2:17 error: "k" cannot be used: other users of this computer can read the keys of the cluster (chmod 600 k)
    "#]]);
    write_keys(dir, &KEYS.replace("palm2", "palm0"), 0o600);
    check(&expect![[r#"
        2:17 error: "k" cannot be used: in the pair of palm0 the certificate is not for palm0.palmfarm.internal (remove the pair, and `palmfarm keys new` makes another; then every card needs its certificate)
    "#]]);
    write_keys(
        dir,
        &KEYS
            .replace("\"palm2\"", "\"other\"")
            .replace("\"palm3\"", "\"palm2\""),
        0o600,
    );
    check(&expect![[r#"
        2:17 error: "k" cannot be used: in the pair of other the certificate is not for other.palmfarm.internal (remove the pair, and `palmfarm keys new` makes another; then every card needs its certificate)
    "#]]);
    // Nothing of a file that is something else is repeated.
    write_keys(dir, "hunter2: hunter2\n", 0o600);
    check(&expect![[r#"
        2:17 error: "k" cannot be used: line 1 is not as `palmfarm keys new` writes it (take it back from where you keep a copy; `palmfarm keys new` writes a new file, for a new cluster)
    "#]]);
    write_keys(dir, &KEYS, 0o600);
    check(&expect![[r#""#]]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Every container is on exactly one card, replicas that are spread are dealt out evenly, and one more container moves
    /// none of the others.
    #[test]
    fn placement_is_whole_even_and_stable(
        cards in 3_usize..9,
        containers in proptest::collection::btree_map("[a-f]{2}", (0_u8..3, 1_usize..12), 1..6),
    ) {
        let names: Vec<String> = (1..=cards).map(|number| format!("palm{number}")).collect();
        let mut lines = format!("cards: {{{}: }}\n{CLUSTER}containers:\n", names.join(": , "));
        let mut all = 0;
        for (name, (kind, count)) in &containers {
            let more = match kind {
                0 => "on: palm2".to_owned(),
                1 => format!("replicas: 1..{count}, spread: true"),
                _ => format!("replicas: 1..{count}"),
            };
            all += if *kind == 0 { 1 } else { *count };
            lines.push_str(&format!("  {name}: {{image: \"images:a\", {more}}}\n"));
        }
        let before = places(&good(&lines));
        prop_assert_eq!(before.len(), all);
        for (name, (kind, _)) in &containers {
            let mine = before.iter().filter(|(one, _)| one.trim_end_matches(char::is_numeric) == name);
            let mut counts: BTreeMap<&str, usize> = names.iter().map(|card| (card.as_str(), 0)).collect();
            for (_, card) in mine {
                *counts.get_mut(card.as_str()).unwrap() += 1;
            }
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            if kind == &1 {
                prop_assert!(most - least <= 1, "{:?}", counts);
            } else {
                prop_assert_eq!(counts.values().filter(|count| **count > 0).count(), 1);
            }
        }
        let mut after = places(&good(&format!("{lines}  more: {{image: \"images:a\"}}\n")));
        prop_assert!(after.remove("more").is_some());
        prop_assert_eq!(after, before);
    }
}
