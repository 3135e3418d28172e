//! Addresses stay the same, whatever is edited.

use palmfarm::farm::addresses;

use expect_test::expect;

use super::{check, good};

/// Every container of every card with its MAC, a line each.
fn macs(lines: &str) -> String {
    let farm = good(lines);
    let mut out = String::new();
    for card in farm.resolved_cards() {
        for one in addresses::containers(&farm, &card) {
            out.push_str(&format!("{} {} {}\n", card.name, one.name, one.mac));
        }
    }
    out
}

const FARM: &str = "\
containers:
  alpine: {image: \"images:alpine/3.20\"}
  web: {image: \"images:alpine/3.20\", publish: web_image}
  w: {image: web_image, replicas: 2..4}
";

const GOLDEN: &str = "\
palm alpine 00:16:3e:ed:2b:94
palm web 00:16:3e:03:ad:8a
palm w2 00:16:3e:9f:cb:ab
palm w3 00:16:3e:be:59:4e
palm w4 00:16:3e:47:72:3b
";

#[test]
fn no_other_edit_moves_an_address() {
    assert_eq!(macs(FARM), GOLDEN);
    let edits = [
        FARM.replace("alpine/3.20", "debian/12"),
        FARM.replace("web_image", "other_image"),
        FARM.replace(
            "publish: web_image",
            "publish: web_image, nesting: true, config: {limits.cpu: 1}, run: [a]",
        ),
        FARM.replace("containers:\n", "containers:\n  # a comment\n"),
        format!("{FARM}timezone: Europe/Vienna\npackages: [vim]\n"),
        format!("{FARM}lxd: {{storage: {{driver: btrfs}}, nat: none, profiles: {{p: {{}}}}}}\n"),
        format!("{FARM}network: {{vlan: 3, bridge: lan0, ipv6: none}}\n"),
        format!("{FARM}base: ubuntu-24.04-arm64\n"),
        format!("{FARM}users: [{{name: other, ssh_keys: [ANY_KEY]}}]\n"),
        format!("{FARM}cards: {{palm: {{mac: \"b8:27:eb:00:00:01\"}}}}\n"),
    ];
    for edited in edits {
        assert_eq!(macs(&edited), GOLDEN, "{edited}");
    }
    // Nor does a neighbour that comes, goes or moves.
    let moved = "\
containers:
  w: {image: \"images:a\", replicas: 3..5}
  new: {image: \"images:a\"}
  alpine: {image: \"images:a\"}
";
    for line in macs(moved)
        .lines()
        .filter(|line| !line.contains(" new ") && !line.contains(" w5 "))
    {
        assert!(GOLDEN.contains(line), "{line}");
    }
}

#[test]
fn a_collision_is_told_and_not_resolved() {
    // Found by trying names: the hashes of both start with the same three bytes.
    check(
        "containers: {c637: {image: \"images:a\"}, c687: {image: \"images:a\"}}\n",
        &expect![[r#"
            1:41 error: "c687" on card "palm" would have the MAC of "c637" on card "palm", 00:16:3e:a0:e1:d9 (give one of the two a `mac` of its own)
        "#]],
    );
    check(
        "containers: {w: {image: \"images:a\", replicas: 2..4}, d776: {image: \"images:a\", mac: \"00:16:3e:9f:cb:ab\"}}\n",
        &expect![[r#"
            1:54 error: "d776" on card "palm" would have the MAC of "w2" on card "palm", 00:16:3e:9f:cb:ab (give one of the two a `mac` of its own)
        "#]],
    );
    check(
        "cards: {palm: , other: }\ncontainers: {c637: {image: \"images:a\"}, c687: {image: \"images:a\"}}\n",
        &expect![[r#"
            2:41 error: "c687" on card "palm" would have the MAC of "c637" on card "palm", 00:16:3e:a0:e1:d9 (rename one of the two: addresses come from the names of card and container)
        "#]],
    );
}
