//! Whole trees against golden files. `UPDATE_EXPECT=1 cargo test --test render` writes them anew.

use expect_test::{expect_file, ExpectFile};
use palmfarm::base::BaseFacts;
use palmfarm::edit::tree::{Node, Tree};

use crate::bases;
use crate::farms::rendered;

/// The article's farm: everything that it sets up, at least once.
const ARTICLE: &str = include_str!("article.yaml");

fn check(base: &BaseFacts, yaml: &str, expect: &ExpectFile) {
    expect.assert_eq(&listing(&rendered(yaml, base)));
}

/// What has no content worth reading: the manifest lists the rest again.
const UNREAD: [&str; 2] = ["/etc/palmfarm/manifest.json", "/usr/lib/palmfarm/palmfarm-agent"];

/// Every node with its content.
fn listing(tree: &Tree) -> String {
    let mut all = String::new();
    for (volume, path, planned) in tree.iter() {
        all.push_str(&format!("=== {volume}:{path} "));
        match &planned.node {
            Node::Absent => all.push_str("absent\n"),
            Node::Dir { access, .. } => all.push_str(&format!("dir {:04o}\n", access.mode)),
            Node::Symlink { target } => all.push_str(&format!("-> {target}\n")),
            Node::File { content, access } => {
                all.push_str(&format!(
                    "{:04o} {:?} from {}\n",
                    access.mode, planned.privacy, planned.origin
                ));
                if !UNREAD.contains(&path.as_str()) {
                    all.push_str(std::str::from_utf8(content).unwrap());
                }
            }
        }
    }
    all
}

#[test]
fn bionic() {
    check(&bases::bionic(), ARTICLE, &expect_file!["golden/bionic.txt"]);
}

#[test]
fn jammy() {
    check(&bases::jammy(), ARTICLE, &expect_file!["golden/jammy.txt"]);
}

#[test]
fn resolute() {
    check(&bases::resolute(), ARTICLE, &expect_file!["golden/resolute.txt"]);
}

#[test]
fn ifupdown() {
    let yaml = "hostname: palm\nnetwork: {renderer: ifupdown}\n";
    check(&bases::jammy(), yaml, &expect_file!["golden/ifupdown.txt"]);
}

#[test]
fn fixed_addresses_on_a_vlan_without_bridge() {
    let yaml = "hostname: palm
network:
  bridge: none
  vlan: 42
  ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1, dns: [192.0.2.1]}
  ipv6: {address: \"2001:db8::10/64\", dns: [\"2001:db8::1\"]}
";
    check(&bases::jammy(), yaml, &expect_file!["golden/vlan.txt"]);
}

#[test]
fn the_same_twice() {
    let tree = || rendered(ARTICLE, &bases::jammy());
    assert_eq!(tree(), tree());
}
