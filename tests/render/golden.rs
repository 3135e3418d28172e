//! Whole trees against golden files. `UPDATE_EXPECT=1 cargo test --test render` writes them anew.

use expect_test::{expect_file, ExpectFile};
use palmfarm::base::BaseFacts;
use palmfarm::edit::tree::{Node, Tree};
use palmfarm::farm::addresses;
use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::paths::{
    CLUSTER_KEY, DOCUMENT, IFUPDOWN_STANZA, MEMBER_KEY, NETWORK, NETWORK_FALLBACK,
};
use palmfarm_protocol::validate::flaws;

use crate::bases;
use crate::farms::{clustered, rendered, root_file};

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
fn a_member_of_a_cluster() {
    let (keys, tree) = clustered("palm1", &bases::jammy(), "");
    let mut text = listing(&tree);
    // They are made anew for each run.
    let pairs = keys.cards.iter().map(|(name, pair)| (name.as_str(), pair));
    for (name, pair) in pairs.chain([("the cluster", &keys.cluster)]) {
        let certificate = serde_json::to_string(&pair.certificate()).unwrap();
        let address = addresses::member(keys.cluster.der(), name).to_string();
        text = text.replace(&certificate, &format!("\"(certificate of {name})\""));
        text = text.replace(&pair.key.pem(), &format!("(key of {name})\n"));
        text = text.replace(&address, &format!("(address of {name})"));
    }
    assert!(!text.contains("BEGIN"), "{text}");
    expect_file!["golden/cluster.txt"].assert_eq(&text);
}

#[test]
fn a_member_that_joins() {
    let (keys, tree) = clustered("palm3", &bases::jammy(), "network: {renderer: ifupdown}\n");
    let address = format!("{}/64", addresses::member(keys.cluster.der(), "palm3"));
    let own = root_file(&tree, MEMBER_KEY);
    assert_eq!(own, Some(keys.cards["palm3"].key.pem()));
    assert_eq!(root_file(&tree, CLUSTER_KEY), None);
    for folder in [NETWORK, NETWORK_FALLBACK] {
        let text = root_file(&tree, &format!("{folder}/05-palmfarm-br0.network")).unwrap();
        assert!(text.contains(&format!("\nAddress={address}\n")), "{text}");
    }
    let stanza = root_file(&tree, IFUPDOWN_STANZA).unwrap();
    let up = format!("\n    up ip -6 address replace {address} dev br0\n");
    assert!(stanza.contains(&up), "{stanza}");
    let document: FirstBoot = serde_json::from_str(&root_file(&tree, DOCUMENT).unwrap()).unwrap();
    assert_eq!(flaws(&document), [""; 0]);
    let names: Vec<&str> = document.containers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["w4"]);
    let cluster = document.lxd.unwrap().cluster.unwrap();
    assert_eq!(cluster.published["web_image"], "palm2");
}

#[test]
fn the_same_twice() {
    let tree = || rendered(ARTICLE, &bases::jammy());
    assert_eq!(tree(), tree());
}
