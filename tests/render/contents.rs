//! Single facts about what a card holds, and values that try to become more than values.

use palmfarm::base::{Arch, BaseFacts, Hindrances};
use palmfarm::edit::tree::{CardPath, Node, Privacy, Tree, Volume};
use palmfarm::plan::CardPlan;
use palmfarm::render::{self, Inputs};
use palmfarm_protocol::card_manifest::{Kind, Manifest};

use crate::bases;
use crate::farms::{file, inputs, plan, plan_card, rendered, root_file};

const NETDEV: &str = "05-palmfarm-br0.netdev";

fn node<'t>(tree: &'t Tree, path: &str) -> Option<&'t Node> {
    Some(&tree.get(Volume::Root, &CardPath::new(path).unwrap())?.node)
}

fn of(plan: &CardPlan, base: &BaseFacts) -> Tree {
    render::render(plan, base, &inputs(base)).unwrap()
}

#[test]
fn a_known_address_is_pinned_where_networkd_looks_first() {
    let yaml = "cards: {palm1: {mac: \"b8:27:eb:6c:02:88\"}}\n";
    let tree = of(&plan_card(yaml, Some("palm1"), &[]), &bases::bionic());
    let netdev = root_file(&tree, &format!("/etc/systemd/network/{NETDEV}")).unwrap();
    assert!(netdev.contains("\nMACAddress=b8:27:eb:6c:02:88\n"), "{netdev}");
    // Nothing may come over it from /run, and no second file may name the bridge.
    for dir in ["/usr/lib/palmfarm/network", "/usr/lib/palmfarm/network-fallback"] {
        assert_eq!(node(&tree, &format!("{dir}/{NETDEV}")), None);
    }
}

/// Whoever lays a file over one of palmfarm's own is told: the table of those places has all of them.
#[test]
fn every_place_of_palmfarms_is_known() {
    let networks = ["{renderer: ifupdown}", "{vlan: 42}"];
    let bases = [bases::bionic(), bases::jammy(), bases::resolute()];
    let both = networks
        .iter()
        .flat_map(|network| bases.iter().map(move |base| (network, base)));
    for (network, base) in both {
        let plan = plan(&format!(
            "hostname: palm\nnetwork: {network}\nlxd: {{}}\nrc_local: [\"true\"]\n"
        ));
        let tree = of(&plan, base);
        let nodes = tree
            .iter()
            .filter(|(_, _, planned)| !matches!(planned.node, Node::Dir { .. }));
        let nodes: Vec<_> = nodes.collect();
        let laid = nodes
            .iter()
            .map(|(volume, path, planned)| ((*volume, *path), &planned.node))
            .collect();
        let told = render::objections(&plan, &laid, &Hindrances::default());
        for (volume, path, planned) in &nodes {
            let is_link = planned.origin == "systemctl enable" || path.as_str().contains(".wants/");
            let is_of_the_base = [
                "/etc/netplan/",
                "/etc/systemd/system/rc-local.service",
                "/usercfg.txt",
            ]
            .iter()
            .any(|start| path.as_str().starts_with(start));
            // The host's own name is the same, and people have names of their own there.
            let may_be_laid = [
                "/etc/hostname",
                "/etc/hosts",
                "/etc/machine-id",
                "/var/lib/dbus/machine-id",
            ];
            let is_known = told
                .iter()
                .any(|told| told.volume == *volume && told.path == **path);
            let is_left_out = is_link || is_of_the_base || may_be_laid.contains(&path.as_str());
            assert!(is_known != is_left_out, "{volume}:{path} ({})", planned.origin);
        }
    }
}

#[test]
fn an_unknown_address_is_left_to_the_agent() {
    let tree = rendered("hostname: palm\n", &bases::jammy());
    assert_eq!(node(&tree, &format!("/etc/systemd/network/{NETDEV}")), None);
    let template = root_file(&tree, &format!("/usr/lib/palmfarm/network/{NETDEV}")).unwrap();
    assert!(template.contains("\nMACAddress=@MAC@\n"), "{template}");
    let fallback = root_file(&tree, &format!("/usr/lib/palmfarm/network-fallback/{NETDEV}")).unwrap();
    assert!(!fallback.contains("MAC"), "{fallback}");
}

#[test]
fn dhcp_is_worded_for_the_systemd_there_is() {
    let network = |base| {
        root_file(
            &rendered("hostname: palm\n", &base),
            "/etc/systemd/network/05-palmfarm-br0.network",
        )
    };
    let old = network(bases::bionic()).unwrap();
    assert!(old.contains("\n[DHCP]\n") && !old.contains("DHCPv4"), "{old}");
    assert!(network(bases::resolute()).unwrap().contains("\n[DHCPv4]\n"));
}

#[test]
fn a_group_of_the_daemon_is_the_agents_where_there_is_a_daemon() {
    let check = |yaml: &str, groups: &[&str], daemon_users: &[&str]| {
        let plan = plan(&format!("hostname: palm\n{yaml}"));
        assert_eq!(plan.users[0].groups, groups, "{yaml}");
        assert_eq!(plan.firstboot.daemon_users, daemon_users, "{yaml}");
    };
    let user = |groups: &str| format!("users: [{{name: craig, groups: [{groups}], ssh_keys: []}}]\n");
    check(&user("sudo, lxd"), &["sudo", "lxd"], &[]);
    check(&(user("sudo, lxd") + "lxd: {}\n"), &["sudo"], &["craig"]);
    check(&(user("incus-admin") + "lxd: {}\n"), &["incus-admin"], &[]);
    check(
        &(user("incus-admin") + "lxd: {flavour: incus}\n"),
        &[],
        &["craig"],
    );
}

#[test]
fn only_what_joins_the_lan_is_predicted() {
    let check = |network: &str, eth0: &str, expect: usize| {
        let plan = plan(&format!(
            "hostname: palm\nnetwork: {{{network}}}\nlxd: {{}}\ncontainers: {{a: {{image: \"images:a\", devices: {{eth0: \
             {{type: nic, {eth0}}}}}}}}}\n"
        ));
        assert_eq!(plan.firstboot.containers[0].predicted.len(), expect, "{eth0}");
    };
    check("bridge: br0", "nictype: bridged, parent: br0", 1);
    check("bridge: br0", "nictype: macvlan, parent: br0", 1);
    check("bridge: br0", "nictype: bridged, parent: br0, vlan: \"7\"", 0);
    check("bridge: br0", "nictype: routed, parent: br0", 0);
    check("bridge: br0", "nictype: bridged, parent: lxdbr0", 0);
    check("bridge: none", "nictype: macvlan, parent: eth0", 1);
    check("bridge: none, vlan: 7", "nictype: macvlan, parent: eth0.7", 1);
}

#[test]
fn one_program_answers_for_the_name_of_the_host() {
    const DROP_IN: &str = "/etc/systemd/resolved.conf.d/90-palmfarm.conf";
    const BR0: &str = "/etc/systemd/network/05-palmfarm-br0.network";
    const UNIT: &str = "/etc/systemd/system/palmfarm-mdns.service";
    let check = |more: &str, base: &BaseFacts, expect: (&str, bool, bool)| {
        let tree = rendered(&format!("hostname: palm\n{more}"), base);
        let lines = root_file(&tree, DROP_IN).unwrap_or_default();
        let global = lines.lines().find(|line| line.starts_with("MulticastDNS="));
        assert_eq!(global.unwrap_or_default(), expect.0, "{more}");
        let link = root_file(&tree, BR0).is_some_and(|text| text.contains("\nMulticastDNS=yes\n"));
        assert_eq!(link, expect.1, "{more}");
        assert_eq!(root_file(&tree, UNIT).is_some(), expect.2, "{more}");
    };
    let (on, off) = ("MulticastDNS=yes", "MulticastDNS=no");
    for base in [bases::bionic(), bases::jammy()] {
        check("", &base, (on, true, false));
        check("network: {mdns: false}\n", &base, (off, false, false));
    }
    // Once ifupdown has the interface, systemd-networkd's file of it is gone.
    check(
        "network: {renderer: ifupdown}\n",
        &bases::jammy(),
        (on, false, true),
    );
    check(
        "network: {renderer: ifupdown, mdns: false}\n",
        &bases::jammy(),
        (off, false, false),
    );
    // avahi answers by itself, and two would answer twice.
    check("packages: [avahi-daemon]\n", &bases::jammy(), (off, false, false));
    let mut avahi = bases::jammy();
    avahi.units.insert("avahi-daemon.service".into());
    check("", &avahi, (off, false, false));
    let masked = CardPath::new("/etc/systemd/system/avahi-daemon.service").unwrap();
    avahi.hindrances.replaced_units.insert(masked);
    check("", &avahi, (on, true, false));
    let mut silent = bases::jammy();
    silent.units.remove("systemd-resolved.service");
    check("", &silent, ("", false, false));
}

#[test]
fn only_units_of_the_base_are_linked() {
    let link = "/etc/systemd/system/sockets.target.wants/systemd-networkd-resolve-hook.socket";
    assert_eq!(node(&rendered("hostname: palm\n", &bases::jammy()), link), None);
    assert!(node(&rendered("hostname: palm\n", &bases::resolute()), link).is_some());
    let mut base = bases::jammy();
    base.units.remove("systemd-resolved.service");
    let tree = rendered("hostname: palm\n", &base);
    assert_eq!(node(&tree, "/etc/resolv.conf"), None);
    let fixed =
        "hostname: palm\nnetwork: {ipv4: {address: 192.0.2.9/24, gateway: 192.0.2.1, dns: [192.0.2.1]}}\n";
    let resolv = root_file(&rendered(fixed, &base), "/etc/resolv.conf").unwrap();
    assert!(resolv.ends_with("\nnameserver 192.0.2.1\n"), "{resolv}");
}

#[test]
fn an_rc_local_runs_once() {
    let masked = |base: &BaseFacts| {
        node(
            &rendered("hostname: palm\n", base),
            "/etc/systemd/system/rc-local.service",
        )
        .cloned()
    };
    assert_eq!(
        masked(&bases::bionic()),
        Some(Node::Symlink {
            target: "/dev/null".into()
        })
    );
    let mut base = bases::bionic();
    base.runs_rc_local = false;
    assert_eq!(masked(&base), None);
    assert_eq!(
        node(
            &rendered("hostname: palm\n", &base),
            "/etc/systemd/system/palmfarm-rc-local.service"
        ),
        None
    );
}

#[test]
fn the_stock_login_is_gone() {
    let tree = rendered("hostname: palm\n", &bases::jammy());
    for name in ["/user-data", "/meta-data", "/network-config"] {
        let text = file(&tree, Volume::Boot, name).unwrap();
        assert!(
            !text.contains("ubuntu") && !text.contains("instance_id"),
            "{text}"
        );
    }
    let user_data = root_file(&tree, "/var/lib/cloud/seed/nocloud-net/user-data").unwrap();
    let read: serde_yaml::Value = serde_yaml::from_str(&user_data).unwrap();
    assert_eq!(
        read["users"],
        serde_yaml::Value::Sequence(Vec::new()),
        "{user_data}"
    );
}

#[test]
fn secrets_are_marked_and_the_manifest_keeps_them() {
    let yaml = "hostname: palm\nusers: [{name: craig, password: {env: CRAIG_PASSWORD}, ssh_keys: []}]\n";
    let tree = rendered(yaml, &bases::jammy());
    let text = root_file(&tree, "/etc/palmfarm/manifest.json").unwrap();
    let manifest: Manifest = serde_json::from_str(&text).unwrap();
    assert_eq!(manifest.files.len(), tree.iter().count() - 1);
    for (volume, path, planned) in tree.iter() {
        let hash = matches!(&planned.node, Node::File { content, .. } if content.windows(3).any(|three| three == b"$6$"));
        assert!(
            !hash || (volume == Volume::Root && planned.privacy == Privacy::Secret),
            "{path}"
        );
        if path.as_str() == "/etc/palmfarm/manifest.json" {
            continue;
        }
        let entry = manifest
            .files
            .iter()
            .find(|entry| entry.path == path.as_str())
            .unwrap();
        let secret = planned.privacy == Privacy::Secret;
        assert_eq!(entry.secret, secret, "{path}");
        assert_eq!(
            entry.sha256.is_some(),
            !secret && entry.kind == Kind::File,
            "{path}"
        );
    }
}

#[test]
fn values_stay_values() {
    // Keys and comments come from people, paths from the disk; each tries to close what it is in.
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f \\\"\\\\n- name: 'x' #{{ 7 }}: - [";
    let yaml = format!("hostname: palm\nusers: [{{name: craig, ssh_keys: [\"{key}\"]}}]\n");
    let tree = rendered(&yaml, &bases::jammy());
    let text = root_file(&tree, "/var/lib/cloud/seed/nocloud-net/user-data").unwrap();
    let read: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let found = &read["users"][0]["ssh_authorized_keys"];
    assert_eq!(found.as_sequence().unwrap().len(), 1);
    assert!(
        found[0]
            .as_str()
            .unwrap()
            .ends_with("\"\\n- name: 'x' #{{ 7 }}: - ["),
        "{found:?}"
    );
}

#[test]
fn values_that_passed_no_check_are_refused_all_the_same() {
    // What the checks of farm.yaml let through is narrower; rendering does not lean on them.
    type Change = fn(&mut CardPlan, &str);
    let changes: [(&str, Change); 5] = [
        ("hostname", |plan, text| plan.card.hostname = text.into()),
        ("uplink", |plan, text| plan.firstboot.network.uplink = text.into()),
        ("bridge", |plan, text| {
            plan.firstboot.network.bridge = Some(text.into());
        }),
        ("config.txt", |plan, text| {
            plan.boot.config.push(format!("gpu_mem={text}"));
        }),
        ("cmdline", |plan, text| plan.boot.cmdline.push(text.into())),
    ];
    let texts = ["x\ny", "x\n[Network]\nDHCP=yes", "x\r", "x\u{85}\ny", " x\t"];
    for (what, change) in changes {
        for text in texts {
            let mut plan = plan("hostname: palm\n");
            change(&mut plan, text);
            let outcome = render::render(&plan, &bases::jammy(), &inputs(&bases::jammy()));
            assert!(outcome.is_err(), "{what} took {text:?}");
        }
    }
    // In YAML every text is a string again; so the names that LXD would refuse reach LXD, and nothing else does.
    let mut plan = plan("hostname: palm\nlxd: {}\n");
    let preseed = &mut plan.firstboot.lxd.as_mut().unwrap().preseed;
    preseed.networks[0].name = "a\n- name: b".into();
    preseed
        .config
        .insert("k: v\nx".into(), "\"{{ 7 }}\" # \u{2028}".into());
    let tree = render::render(&plan, &bases::jammy(), &inputs(&bases::jammy())).unwrap();
    let text = root_file(&tree, "/etc/palmfarm/lxd-preseed.yaml").unwrap();
    let read: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(read["networks"].as_sequence().unwrap().len(), 1);
}

#[test]
fn cloud_init_is_told_of_shell_comment_and_number() {
    let farm = "hostname: palm\nusers: [{name: nina, shell: /bin/sh, gecos: Nina, uid: 1500}, {name: max}]\n";
    let users = |base: &BaseFacts| -> serde_yaml::Value {
        let tree = render::render(&plan(farm), base, &inputs(base)).unwrap();
        let text = root_file(&tree, "/var/lib/cloud/seed/nocloud-net/user-data").unwrap();
        serde_yaml::from_str::<serde_yaml::Value>(&text).unwrap()["users"].clone()
    };
    let all = users(&bases::jammy());
    assert_eq!(
        (all[0]["shell"].as_str(), all[0]["gecos"].as_str()),
        (Some("/bin/sh"), Some("Nina"))
    );
    assert_eq!(all[0]["uid"].as_u64(), Some(1500));
    assert_eq!(all[1]["shell"].as_str(), Some("/bin/bash"));
    assert!(all[1].get("uid").is_none() && all[1].get("gecos").is_none());
    // Before 20.2 cloud-init passes over a number.
    assert_eq!(users(&bases::bionic())[0]["uid"].as_str(), Some("1500"));
    let mut base = bases::jammy();
    base.accounts.numbers.insert(1500, "pi".into());
    let error = render::render(&plan(farm), &base, &inputs(&base)).unwrap_err();
    let error = format!("{:#}", anyhow::Error::from(error));
    let reason = "its account pi has the number 1500 already, so useradd would refuse it to nina";
    assert!(error.contains(reason), "{error}");
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let check = |yaml: &str, base: &BaseFacts, why: &str| {
        let error = render::render(&plan(yaml), base, &inputs(base)).unwrap_err();
        let error = format!("{:#}", anyhow::Error::from(error));
        assert!(error.contains(why), "{error}");
    };
    let mut base = bases::jammy();
    base.systemd = None;
    check("hostname: palm\n", &base, "no systemd");
    let mut base = bases::jammy();
    base.units.remove("systemd-networkd.service");
    check("hostname: palm\n", &base, "no systemd-networkd.service");
    let mut base = bases::jammy();
    base.units.remove("cloud-init-local.service");
    check(
        "hostname: palm\nusers: [{name: craig}]\n",
        &base,
        "no cloud-init-local.service",
    );
    let mut base = bases::jammy();
    base.cmdline = None;
    check(
        "hostname: palm\nboot: {cmdline: [quiet]}\n",
        &base,
        "no cmdline.txt",
    );
    base.config = None;
    check(
        "hostname: palm\nboot: {config: {gpu_mem: 16}}\n",
        &base,
        "no config.txt",
    );
    let mut long = plan("hostname: palm\n");
    long.boot.cmdline.push("x".repeat(1100));
    let error = render::render(&long, &bases::jammy(), &inputs(&bases::jammy())).unwrap_err();
    assert!(error.to_string().contains("the kernel takes 704"), "{error}");
    let mut long = plan("hostname: palm\n");
    long.boot.config.push(format!("{}=1", "x".repeat(98)));
    let error = render::render(&long, &bases::jammy(), &inputs(&bases::jammy())).unwrap_err();
    assert!(error.to_string().contains("98 bytes"), "{error}");
    let wrong = Inputs {
        agent: inputs(&bases::resolute()).agent,
        ..inputs(&bases::jammy())
    };
    let error = render::render(&plan("hostname: palm\n"), &bases::jammy(), &wrong).unwrap_err();
    assert_eq!(
        error.to_string().lines().next().unwrap(),
        "the agent for armhf is for arm64"
    );
    assert_eq!(bases::jammy().arch, Arch::Armhf);
}
