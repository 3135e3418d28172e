//! What `plan` prints for one card and for a fleet, where it writes it, and the zones that name servers load.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Output;

use super::common::{attempt, has, have_root, skipped_in_part};
use super::{command, farm_in, has_agents, palmfarm, told};

const PREFIX: [&str; 2] = ["--prefix", "2001:db8:1:2::/64"];

/// Three cards: two have the same containers, one has no MAC, one has a fixed address.
const FLEET: &str = "farm: 1\nbase: mini\nlxd: {}\n\
    dns: {zone: home.example.net, serial: 7}\ncards:\n  a: {mac: \"b8:27:eb:12:34:56\", containers: [web, w]}\n  \
    b: {network: {ipv4: {address: 192.0.2.12/24, gateway: 192.0.2.1, dns: [192.0.2.1]}}, containers: [web]}\n  \
    c: {containers: [nat]}\n\
    containers:\n  web: {image: \"images:alpine/3.20\", publish: web_image}\n  w: {image: web_image, replicas: 2..3}\n  \
    nat: {image: \"images:alpine/3.20\", profiles: [default]}\n";

fn fleet(dir: &Path, args: &[&str]) -> Output {
    fs::write(dir.join("fleet.yaml"), FLEET).unwrap();
    palmfarm(dir, &[&["plan", "fleet.yaml"], args].concat())
}

fn printed(out: &Output) -> String {
    assert_eq!(out.status.code(), Some(0), "{}", told(out));
    String::from_utf8(out.stdout.clone()).unwrap()
}

#[test]
fn a_fleet_has_one_list_of_names() {
    let dir = tempfile::tempdir().unwrap();
    let out = fleet(dir.path(), &[&PREFIX[..], &["--format", "hosts"]].concat());
    assert_eq!(
        printed(&out),
        "\
# more than one card has the name web, so its names are web.a, web.b
# b: no IPv6 is known without its MAC in `cards:`
# c: no IPv6 is known without its MAC in `cards:`
# nat: it is behind NAT
2001:db8:1:2:ba27:ebff:fe12:3456 a.home.example.net a
2001:db8:1:2:216:3eff:fefb:db0e web.a.home.example.net web.a
2001:db8:1:2:216:3eff:fe19:14b8 w2.home.example.net w2
2001:db8:1:2:216:3eff:fe1a:4e6 w3.home.example.net w3
192.0.2.12 b.home.example.net b
2001:db8:1:2:216:3eff:fe20:17ef web.b.home.example.net web.b
"
    );
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("note: more than one card has the name web, so its names are web.a, web.b\n"),
        "{said}"
    );
    // Of one card, nothing has to be qualified.
    let one = fleet(
        dir.path(),
        &[&PREFIX[..], &["--format", "hosts", "--card", "a"]].concat(),
    );
    assert!(
        printed(&one).contains(" web.home.example.net web\n"),
        "{}",
        told(&one)
    );
}

#[test]
fn a_fleet_is_one_document_and_one_page() {
    if !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let json = |args: &[&str]| -> serde_json::Value {
        let out = fleet(dir.path(), &[&["--format", "json"], args].concat());
        serde_json::from_str(&printed(&out)).unwrap()
    };
    let all = json(&[]);
    let cards: Vec<&str> = all["cards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|card| card["card"].as_str().unwrap())
        .collect();
    assert_eq!(cards, ["a", "b", "c"]);
    // One card is as it always was, and the same in the list.
    assert_eq!(json(&["--card", "b"]), all["cards"][1]);
    let table = printed(&fleet(dir.path(), &PREFIX));
    for line in [
        "card a: 3 containers; br0 over eth0, IPv4 by DHCP, IPv6 by router advertisement\n",
        "  b    the host                        known at boot      192.0.2.12 (IPv4, fixed)\n",
        "  w2   web_image                       00:16:3e:19:14:b8  2001:db8:1:2:216:3eff:fe19:14b8\n",
        " files; --files shows them\n",
    ] {
        assert!(table.contains(line), "{line}{table}");
    }
    let page = fleet(dir.path(), &["-o", "all.html"]);
    assert_eq!(printed(&page), "");
    let page = fs::read_to_string(dir.path().join("all.html")).unwrap();
    assert_eq!(page.matches("<!doctype html>").count(), 1);
    assert!(
        ["a", "b", "c"]
            .iter()
            .all(|card| page.contains(&format!("<summary><h2>{card}</h2></summary>"))),
        "{page}"
    );
}

/// The records of `zone` that have addresses or names: owner, whole, and value.
fn records(zone: &str) -> Vec<(String, String, String)> {
    let mut origin = String::new();
    let mut found = Vec::new();
    for line in zone.lines().filter(|line| !line.starts_with(';')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["$ORIGIN", name] => name.clone_into(&mut origin),
            ["$TTL", seconds] => assert!(seconds.parse::<u32>().unwrap() > 0),
            ["@", "IN", kind, ..] => found.push((origin.clone(), kind.to_owned(), words[3..].join(" "))),
            [name, "IN", kind, value] => {
                found.push((format!("{name}.{origin}"), kind.to_owned(), value.to_owned()));
            }
            _ => panic!("{line:?} is not a record"),
        }
    }
    found
}

/// The zone `name` in `text` is whole: BIND loads it, if it is here.
fn loads(dir: &Path, name: &str, text: &str) {
    if !has("named-checkzone") {
        skipped_in_part("loading the zone: there is no named-checkzone");
        return;
    }
    let file = dir.join("zone");
    fs::write(&file, text).unwrap();
    // What is outside of the zone would be asked of a real server.
    let (loaded, said) = attempt("named-checkzone", &["-i", "local", name, file.to_str().unwrap()]);
    assert!(loaded && said.contains("loaded serial 7"), "{said}\n{text}");
}

#[test]
fn zones_load_as_they_are_and_lead_back() {
    let dir = tempfile::tempdir().unwrap();
    let list = |farm: &str, format: &str| {
        fs::write(dir.path().join("farm.yaml"), farm).unwrap();
        let out = palmfarm(
            dir.path(),
            &[&["plan", "farm.yaml", "--format", format], &PREFIX[..]].concat(),
        );
        printed(&out)
    };
    let origin = "2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    let served = FLEET.replace("serial: 7", "serial: 7, ns: [192.0.2.53, \"2001:db8:1:2::53\"]");
    for (farm, server) in [(FLEET, "a"), (served.as_str(), "ns")] {
        let forward = list(farm, "zone");
        loads(dir.path(), "home.example.net", &forward);
        let reverse = list(farm, "zone-reverse");
        loads(dir.path(), origin, &reverse);
        let forward = records(&forward);
        let server = format!("{server}.home.example.net.");
        let ns = ("home.example.net.".to_owned(), "NS".to_owned(), server.clone());
        assert!(forward.contains(&ns), "{forward:?}");
        assert!(
            forward
                .iter()
                .any(|(owner, kind, _)| *owner == server && kind == "AAAA"),
            "{forward:?}"
        );
        let names: BTreeMap<&str, &str> = forward
            .iter()
            .filter(|(_, kind, _)| kind == "AAAA")
            .map(|(owner, _, address)| (address.as_str(), owner.as_str()))
            .collect();
        let pointers: Vec<_> = records(&reverse)
            .into_iter()
            .filter(|(_, kind, _)| kind == "PTR")
            .collect();
        // The farm has five addresses in the prefix; that of the name server is somebody else's.
        assert_eq!(pointers.len(), 5, "{pointers:?}");
        for (owner, _, name) in pointers {
            let digits: String = owner.trim_end_matches(".ip6.arpa.").split('.').rev().collect();
            let address = Ipv6Addr::from(u128::from_str_radix(&digits, 16).unwrap());
            assert_eq!(names[address.to_string().as_str()], name, "{owner}");
        }
    }
}

#[test]
fn a_reverse_zone_needs_one_prefix_and_a_zone() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |farm: &str, prefixes: &[&str], expect: &str| {
        fs::write(dir.path().join("farm.yaml"), farm).unwrap();
        let out = palmfarm(
            dir.path(),
            &[&["plan", "farm.yaml", "--format", "zone-reverse"], prefixes].concat(),
        );
        assert_eq!(out.status.code(), Some(2), "{}", told(&out));
        assert!(told(&out).contains(expect), "{expect}: {}", told(&out));
    };
    let two = [&PREFIX[..], &["--prefix", "fd00:1::/64"]].concat();
    refused(
        FLEET,
        &two,
        "there are 2: 2001:db8:1:2::/64, fd00:1::/64\nhint: make one for each: --prefix 2001:db8:1:2::/64\n",
    );
    refused(FLEET, &[], "there is no address to list\nhint: ");
    let nameless = FLEET.replace("dns: {zone: home.example.net, serial: 7}\n", "");
    refused(
        &nameless,
        &PREFIX,
        "\nhint: add to the farm: dns: {zone: home.example.net}\n",
    );
}

#[test]
fn a_file_is_replaced_in_one_step_and_never_the_farm() {
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    let plan = |args: &[&str]| palmfarm(dir.path(), &[&["plan", "farm.yaml"], &PREFIX[..], args].concat());
    for format in ["hosts", "zone"] {
        let out = plan(&["--format", format, "-o", "list"]);
        assert_eq!(printed(&out), "");
        assert!(told(&out).contains("wrote list\n"), "{}", told(&out));
        let straight = plan(&["--format", format]);
        assert_eq!(fs::read(dir.path().join("list")).unwrap(), straight.stdout);
    }
    for (target, why) in [
        (
            "farm.yaml",
            "farm.yaml is what the farm is made of, and would be overwritten",
        ),
        (
            "motd.txt",
            "motd.txt is what the farm is made of, and would be overwritten",
        ),
    ] {
        let out = plan(&["--format", "hosts", "-o", target]);
        assert_eq!(out.status.code(), Some(1), "{}", told(&out));
        assert!(told(&out).contains(why), "{}", told(&out));
    }
    let out = plan(&["--format", "hosts", "-o", "no/where"]);
    assert_eq!(out.status.code(), Some(3), "{}", told(&out));
    for args in [&["-o", "x.txt", "--open"][..], &["--files", "--format", "hosts"]] {
        assert_eq!(plan(args).status.code(), Some(2), "{}", told(&plan(args)));
    }
}

#[test]
fn a_page_is_opened_by_its_owner_and_never_by_root() {
    if !has_agents() || !have_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    farm_in(dir.path());
    // What stands in for a desktop's program notes what it was asked to open.
    let opener = dir.path().join("bin/xdg-open");
    fs::create_dir(dir.path().join("bin")).unwrap();
    fs::write(
        &opener,
        "#!/bin/sh\necho \"$@\" > opened.partial && mv opened.partial opened\n",
    )
    .unwrap();
    for path in [&opener, &dir.path().join("bin"), dir.path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let open = |uid: u32, variables: &[(&str, &str)]| {
        let mut command = command(dir.path());
        command.args(["plan", "farm.yaml", "-o", "palm.html", "--open"]);
        command.env(
            "PATH",
            format!("{}:/usr/bin:/bin", dir.path().join("bin").display()),
        );
        command.env("DISPLAY", ":0").env_remove("SUDO_UID");
        command.envs(variables.iter().copied()).uid(uid).gid(uid);
        let out = command.output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{}", told(&out));
        told(&out)
    };
    let opened = dir.path().join("opened");
    let said = open(0, &[]);
    assert!(
        said.contains("root starts no browser: open palm.html in yours"),
        "{said}"
    );
    fs::remove_file(dir.path().join("palm.html")).unwrap();
    let said = open(0, &[("SUDO_UID", "65534"), ("SUDO_GID", "65534")]);
    assert!(
        said.contains("open palm.html in yours") && !opened.exists(),
        "{said}"
    );
    let said = open(65534, &[("DISPLAY", ""), ("WAYLAND_DISPLAY", "")]);
    assert!(
        said.contains("there is no graphical session here") && !opened.exists(),
        "{said}"
    );
    open(65534, &[]);
    for _ in 0..200 {
        if opened.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let path = fs::read_to_string(&opened).unwrap();
    assert_eq!(path.trim_end(), dir.path().join("palm.html").to_str().unwrap());
}
