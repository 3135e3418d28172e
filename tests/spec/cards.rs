//! Names in DNS, and the cards of a fleet.

use expect_test::expect;

use super::{brief, check, completed, good, read};

#[test]
fn dns_and_cards() {
    check(
        "dns: {zone: example..net, serial: -1}\n",
        &expect![[r#"
            1:13 error: "example..net" is not a DNS zone: in its part "", it is empty
            1:35 error: `serial` is a whole number from 0 to 4294967295, not "-1"
        "#]],
    );
    check(
        "hostname: ns\ndns: {zone: example.net, ns: [192.0.2.53, x]}\n",
        &expect![[r#"
            2:26 error: only a whole zone names its name server, and without `serial` there is no whole zone (add `serial: 1`, or remove `ns`)
            2:26 error: the name server is called `ns` in the zone, and so is a host or a container (rename that one, or remove `ns`)
            2:43 error: "x" is not an IP address
        "#]],
    );
    check(
        "hostname: NS\ndns: {zone: example.net, ns: [\"2001:db8::53\"]}\n",
        &expect![[r#"
            2:26 error: only a whole zone names its name server, and without `serial` there is no whole zone (add `serial: 1`, or remove `ns`)
            2:26 error: the name server is called `ns` in the zone, and so is a host or a container (rename that one, or remove `ns`)
        "#]],
    );
    check(
        "dns: {}\n",
        &expect![[r#"
            1:1 error: `dns` has no `zone` (write `zone: home.example.net`)
        "#]],
    );
    check(
        "cards: {palm_1: {}, palm2: {mac: x, hostname: Ü, users: []}}\n",
        &expect![[r#"
            1:9 error: "palm_1" is not a card name: it holds '_' (did you mean "palm-1"?)
            1:34 error: "x" is not a MAC address; write six two-digit hexadecimal numbers with colons
            1:47 error: "Ü" is not a host name: it holds 'Ü'
            1:50 error: unknown key "users" in card "palm2" (the keys here are mac, hostname, network, containers)
        "#]],
    );
    let farm = good("cards:\n  palm1:\n  palm2:\n");
    let names: Vec<String> = farm
        .resolved_cards()
        .into_iter()
        .map(|card| card.hostname)
        .collect();
    assert_eq!(names, ["palm1", "palm2"]);
}

#[test]
fn every_notation_of_a_mac() {
    for mac in [
        "b8:27:eb:6c:02:88",
        "B8-27-EB-6C-02-88",
        "b827.eb6c.0288",
        "b827eb6c0288",
        "\"B8:27:EB:6C:02:88\"",
    ] {
        let farm = good(&format!("cards: {{palm: {{mac: {mac}}}}}\n"));
        let found = farm.cards["palm"].mac.unwrap();
        assert_eq!(found.to_string(), "b8:27:eb:6c:02:88", "{mac}");
    }
    for bad in [
        "b8:27:eb:6c:02",
        "b8:27:eb:6c:02:8",
        "b827.eb6c0288",
        "b8-27:eb-6c:02-88",
        "b827eb6c028g",
        "ä827eb6c028",
    ] {
        let said = brief(&read(&completed(&format!("cards: {{palm: {{mac: {bad}}}}}\n"))));
        assert!(said.contains("is not a MAC address"), "{bad}: {said}");
    }
}
