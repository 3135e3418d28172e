//! What `plan` prints: nothing secret, addresses if they can be known, records that a name server takes.

use std::slice;

use expect_test::expect;
use palmfarm::base::BaseFacts;
use palmfarm::edit::tree::Tree;
use palmfarm::plan::names::{self, NamesError};
use palmfarm::plan::{html, show, table, CardPlan};
use palmfarm::render;

use crate::bases;
use crate::farms::{inputs, plan, plan_card};

const ARTICLE: &str = include_str!("article.yaml");

fn json(plan: &CardPlan, tree: &Tree) -> serde_json::Value {
    show::json(slice::from_ref(plan), slice::from_ref(tree))
}

fn zone(plan: &CardPlan) -> String {
    names::zone(slice::from_ref(plan)).unwrap()
}

fn hosts(plan: &CardPlan) -> String {
    names::hosts(slice::from_ref(plan)).unwrap()
}

#[test]
fn no_form_shows_a_secret() {
    let base: BaseFacts = bases::jammy();
    let plan = plan(ARTICLE);
    let tree = render::render(&plan, &base, &inputs(&base)).unwrap();
    let (plans, trees) = (slice::from_ref(&plan), slice::from_ref(&tree));
    let (files, json) = (show::files(&plan, &tree), show::json(plans, trees).to_string());
    let page = html::page(plans, trees, "ubuntu-22.04-armhf", &[]);
    for shown in [&files, &json, &page] {
        // The hash of the password, and the scripts of the first-boot document.
        assert!(
            !shown.contains("$6$") && !shown.contains("timeout_seconds"),
            "{shown}"
        );
        assert!(shown.contains("(secret)"), "{shown}");
    }
    let table = table::table(plans, None);
    assert!(
        table.contains("\nnotes:\n  craig is in the group of the container daemon"),
        "{table}"
    );
}

#[test]
fn programs_get_name_mac_and_addresses() {
    let plan = plan("hostname: palm\nlxd: {}\ncontainers: {web: {image: \"images:alpine/3.20\", mac: \"00:16:3e:94:7e:64\"}}\n");
    let base = bases::jammy();
    let json = json(&plan, &render::render(&plan, &base, &inputs(&base)).unwrap());
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
    let zone = zone(&plan);
    assert!(zone.starts_with("$ORIGIN example.net.\n"), "{zone}");
    for record in [
        "palm1 IN AAAA 2001:db8:ebbd:2080:ba27:ebff:fe12:3456\n",
        "web IN AAAA 2001:db8:ebbd:2080:216:3eff:fe94:7e64\n",
        "web IN AAAA fd00:1::216:3eff:fe94:7e64\n",
    ] {
        assert!(zone.contains(record), "{zone}");
    }
    let hosts = hosts(&plan);
    assert!(
        hosts.contains("2001:db8:ebbd:2080:216:3eff:fe94:7e64 web.example.net web\n"),
        "{hosts}"
    );
    // Without a serial there is no SOA: the fragment is for somebody else's zone.
    let plan = plan_card("hostname: palm\ndns: {zone: example.net}\n", None, &[]);
    assert_eq!(names::zone(slice::from_ref(&plan)), Err(NamesError::Nothing));
}

#[test]
fn fixed_addresses_are_known_and_tell_the_prefix() {
    let yaml = "dns: {zone: example.net, serial: 7}\nhostname: palm\nlxd: {}\n\
                network: {ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1}, ipv6: {address: \"2001:db8:1:2::10/64\"}}\n\
                containers: {web: {image: \"images:a\", mac: \"00:16:3e:94:7e:64\"}}\n";
    let plan = plan_card(yaml, None, &[]);
    assert_eq!(
        zone(&plan),
        "$ORIGIN example.net.\n$TTL 3600\n@ IN SOA palm.example.net. hostmaster.example.net. ( 7 7200 1800 1209600 3600 )\n\
         @ IN NS palm.example.net.\n\
         palm IN AAAA 2001:db8:1:2::10\npalm IN A 192.0.2.10\nweb IN AAAA 2001:db8:1:2:216:3eff:fe94:7e64\n"
    );
    assert!(hosts(&plan).contains("192.0.2.10 palm.example.net palm\n"));
    let elsewhere = plan_card(yaml, None, &["2001:db8:9::/64"]).notes;
    let told = "the host's fixed address is in 2001:db8:1:2::/64, which is none of the prefixes";
    assert!(elsewhere.iter().any(|note| note.contains(told)), "{elsewhere:?}");
}

#[test]
fn the_table_fits_the_terminal() {
    let yaml = "hostname: palm\nnetwork: {ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1, dns: [192.0.2.1]}}\nlxd: {}\n\
                containers: {web: {image: \"images:a\", mac: \"00:16:3e:94:7e:64\", publish: b, devices: {http: \
                {type: proxy, listen: \"tcp:0.0.0.0:80\", connect: \"tcp:127.0.0.1:80\"}}}, \
                inside: {image: b, profiles: [default], mac: \"00:16:3e:94:7e:65\"}}\n";
    let plans = [plan(yaml)];
    let table = |width| {
        let table = table::table(&plans, Some(width));
        let longest = table.lines().map(|line| line.chars().count()).max();
        assert!(longest.unwrap() <= width, "{width}: {table}");
        table
    };
    expect![[r"
        card palm: 2 containers; br0 over eth0, IPv6 by router advertisement

          palm    the host      known at boot      192.0.2.10 (IPv4, fixed)
                                                   no IPv6 is known without its MAC in `cards:`
          web     images:a → b  00:16:3e:94:7e:64  2001:db8:ebbd:2080:216:3eff:fe94:7e64
                                                   tcp:0.0.0.0:80 of the host leads here
          inside  b             00:16:3e:94:7e:65  it is behind NAT

        notes:
          web on br0 can be reached from the whole Internet over IPv6 where the router lets them be
    "]]
    .assert_eq(&table(100));
    expect![[r"
        card palm: 2 containers; br0 over eth0, IPv6 by router advertisement

          palm    the host      known at boot
                                192.0.2.10 (IPv4, fixed)
                                no IPv6 is known without its MAC in `cards:`
          web     images:a → b  00:16:3e:94:7e:64
                                2001:db8:ebbd:2080:216:3eff:fe94:7e64
                                tcp:0.0.0.0:80 of the host leads here
          inside  b             00:16:3e:94:7e:65
                                it is behind NAT

        notes:
          web on br0 can be reached from the whole Internet over IPv6 where
            the router lets them be
    "]]
    .assert_eq(&table(70));
    expect![[r"
        card palm: 2 containers; br0 over eth0, IPv6 by
          router advertisement

          palm
              the host
              known at boot
              192.0.2.10 (IPv4, fixed)
              no IPv6 is known without its MAC in `cards:`
          web
              images:a → b
              00:16:3e:94:7e:64
              2001:db8:ebbd:2080:216:3eff:fe94:7e64
              tcp:0.0.0.0:80 of the host leads here
          inside
              b
              00:16:3e:94:7e:65
              it is behind NAT

        notes:
          web on br0 can be reached from the whole
            Internet over IPv6 where the router lets them
            be
    "]]
    .assert_eq(&table(50));
}

#[test]
fn what_profiles_leave_a_container_with_is_shown() {
    let yaml = "hostname: palm\nlxd: {profiles: {small: {config: {limits.memory: 128MB}}}}\ncontainers:\n  \
                web: {image: \"images:a\", profiles: [default, extbridge, small], config: {limits.cpu: \"1\"}, nesting: true}\n";
    let plan = plan(yaml);
    let base = bases::jammy();
    let tree = render::render(&plan, &base, &inputs(&base)).unwrap();
    let text = show::files(&plan, &tree);
    for line in [
        "    profiles: default, extbridge, small\n",
        // A later device of the same name replaces an earlier one whole; one of another name stays.
        "    device eth0: name=eth0 nictype=bridged parent=br0 type=nic  (from extbridge)\n",
        "    device root: path=/ pool=default type=disk  (from default)\n",
        "    config limits.memory=128MB  (from small)\n",
        "    config security.nesting=true  (from the container)\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let web = &json(&plan, &tree)["containers"][0];
    assert_eq!(web["devices"]["eth0"]["from"], "extbridge");
    assert_eq!(web["devices"]["eth0"]["keys"]["parent"], "br0");
    assert_eq!(web["config"]["limits.memory"]["value"], "128MB");
}

#[test]
fn what_may_surprise_is_noted() {
    let notes = |lines: &str| plan(&format!("hostname: palm\n{lines}")).notes;
    let has = |notes: &[String], part: &str| notes.iter().any(|note| note.contains(part));
    let container = |profiles: &str| {
        format!("lxd: {{}}\ncontainers: {{web: {{image: \"images:a\", profiles: {profiles}}}}}\n")
    };
    let internet = "can be reached from the whole Internet over IPv6";
    let bridged = notes(&container("[default, extbridge]"));
    assert!(has(&bridged, &format!("web on br0 {internet}")), "{bridged:?}");
    assert!(!has(&bridged, "behind NAT"), "{bridged:?}");
    let natted = notes(&container("[extbridge, default]"));
    assert!(
        has(
            &natted,
            "web stays behind NAT: of its profiles [extbridge, default] the last one"
        ),
        "{natted:?}"
    );
    assert!(!has(&natted, internet), "{natted:?}");
    let by_name =
        "the address of the host is not known before it boots; on the LAN it answers for palm.local";
    assert_eq!(notes(&container("[default]")), [by_name]);
    let fixed = "ipv4: {address: 192.0.2.9/24, gateway: 192.0.2.1}";
    for quiet in ["mdns: false", fixed] {
        assert_eq!(notes(&format!("network: {{{quiet}}}\n")), [""; 0]);
    }
    let root = notes("users: [{name: craig, groups: [lxd], ssh_keys: []}]\n");
    assert!(
        has(
            &root,
            "craig is in the group of the container daemon, which is as good as root"
        ),
        "{root:?}"
    );
    assert_eq!(
        notes("users: [{name: craig, groups: [sudo], ssh_keys: []}]\n"),
        [by_name]
    );
}
