//! What `plan` prints: nothing secret, addresses where they can be known, records that a name server takes.

use palmfarm::base::BaseFacts;
use palmfarm::plan::{html, show};
use palmfarm::render;

use crate::bases;
use crate::farms::{inputs, plan, plan_card};

const ARTICLE: &str = include_str!("article.yaml");

#[test]
fn no_form_shows_a_secret() {
    let base: BaseFacts = bases::jammy();
    let plan = plan(ARTICLE);
    let tree = render::render(&plan, &base, &inputs(&base)).unwrap();
    let (text, json) = (show::text(&plan, &tree), show::json(&plan, &tree).to_string());
    let page = html::page(&plan, &tree, "ubuntu-22.04-armhf", &[]);
    for shown in [&text, &json, &page] {
        // The hash of the password, and the scripts of the first-boot document.
        assert!(
            !shown.contains("$6$") && !shown.contains("timeout_seconds"),
            "{shown}"
        );
        assert!(shown.contains("(secret, "), "{shown}");
    }
    assert!(
        text.contains("craig is in the group of the container daemon"),
        "{text}"
    );
}

#[test]
fn programs_get_name_mac_and_addresses() {
    let plan = plan("hostname: palm\nlxd: {}\ncontainers: {web: {image: \"images:alpine/3.20\", mac: \"00:16:3e:94:7e:64\"}}\n");
    let base = bases::jammy();
    let json = show::json(&plan, &render::render(&plan, &base, &inputs(&base)).unwrap());
    let web = &json["containers"][0];
    assert_eq!(web["name"], "web");
    assert_eq!(web["mac"], "00:16:3e:94:7e:64");
    assert_eq!(web["addresses"][0], "2001:db8:ebbd:2080:216:3eff:fe94:7e64");
    assert_eq!(json["host"]["name"], "palm");
}

#[test]
fn zone_and_hosts() {
    let yaml = "dns: {zone: example.net, serial: 7}\nlxd: {}\n\
                cards: {palm1: {mac: \"b8:27:eb:12:34:56\"}}\n\
                containers: {web: {image: \"images:alpine/3.20\", mac: \"00:16:3e:94:7e:64\"}}\n";
    let plan = plan_card(yaml, Some("palm1"), &["2001:db8:ebbd:2080::/64", "fd00:1::/64"]);
    let zone = show::zone(&plan);
    assert!(zone.starts_with("$ORIGIN example.net.\n"), "{zone}");
    for record in [
        "palm1 IN AAAA 2001:db8:ebbd:2080:ba27:ebff:fe12:3456\n",
        "web IN AAAA 2001:db8:ebbd:2080:216:3eff:fe94:7e64\n",
        "web IN AAAA fd00:1::216:3eff:fe94:7e64\n",
    ] {
        assert!(zone.contains(record), "{zone}");
    }
    let hosts = show::hosts(&plan);
    assert!(
        hosts.contains("2001:db8:ebbd:2080:216:3eff:fe94:7e64 web.example.net web\n"),
        "{hosts}"
    );
    // Without a serial there is no SOA: the fragment is for somebody else's zone.
    let plan = plan_card("hostname: palm\ndns: {zone: example.net}\n", None, &[]);
    assert_eq!(show::zone(&plan), "");
}
