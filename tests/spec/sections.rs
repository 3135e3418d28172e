//! What must fit together.

use expect_test::{expect, Expect};
use palmfarm::farm::addresses;

use super::{check, good};

#[test]
fn users_who_cannot_log_in() {
    check("users: []\n", &expect![[""]]);
    check(
        "users: [{name: craig}]\n",
        &expect![[r#"
        1:16 warning: user "craig" has neither an SSH key nor a password (nobody can log in as this user)
    "#]],
    );
    check(
        "users: [{name: craig, ssh_keys: [ANY_KEY], groups: [sudo]}]\n",
        &expect![[r#"
            1:139 warning: sudo will ask "craig" for a password, but "craig" has none (give the user a `password`, or write `sudo: nopasswd`)
        "#]],
    );
    check(
        "users: [{name: craig, ssh_keys: [ANY_KEY], sudo: password}]\n",
        &expect![[r#"
            1:136 warning: sudo will ask "craig" for a password, but "craig" has none (give the user a `password`, or write `sudo: nopasswd`)
        "#]],
    );
    check(
        "users: [{name: craig, password: {hash: ANY_HASH}}]\n",
        &expect![[r#"
        1:1 warning: nobody can log in over the network, only at keyboard and monitor (give a user `ssh_keys`, or write `ssh: {password: true}`)
    "#]],
    );
    check(
        "ssh: {password: true}\n",
        &expect![[r#"
        1:17 warning: ssh takes passwords, and no user has one
    "#]],
    );
    check(
        "users: [{name: root, ssh_keys: [ANY_KEY]}, {name: a, ssh_keys: [ANY_KEY]}, {name: a, ssh_keys: [ANY_KEY]}]\n",
        &expect![[r#"
            1:16 error: "root" is an account of the system itself
            1:255 error: user "a" is here twice
        "#]],
    );
    check(
        "users: [{name: a, ssh_keys: [ANY_KEY], groups: [lxd, lxd]}]\nlxd: {flavour: incus}\n",
        &expect![[r#"
            1:140 error: "lxd" is here twice
            1:135 warning: the group of Incus is incus-admin (write incus-admin)
            1:140 warning: the group of Incus is incus-admin (write incus-admin)
        "#]],
    );
    check("base: ubuntu-18.04-armhf\nusers: [{name: a, ssh_keys: [ANY_KEY], password: {hash: $y$j9T$salt$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}]\n", &expect![[r#"
        2:143 error: 18.04 cannot verify a hash of this kind (make one that starts with $6$: openssl passwd -6)
    "#]]);
    check(
        "users: [{name: operator, ssh_keys: [ANY_KEY], groups: [incus-admin]}]\nlxd: {}\n",
        &expect![[r#"
            1:16 error: "operator" is a group of the system itself (useradd makes a group of the user's name, so it would refuse)
            1:142 warning: the group of LXD is lxd (write lxd)
        "#]],
    );
    good("users: [{name: craig, ssh_keys: [ANY_KEY], groups: [sudo, lxd], sudo: nopasswd}]\n");
    good("users: [{name: craig, password: {hash: ANY_HASH}, groups: [sudo]}]\nssh: {password: true}\n");
}

#[test]
fn shells_comments_and_numbers_of_users() {
    // `groups` as cloud-init has it.
    let users = "users:\n- {name: nina, ssh_keys: [ANY_KEY], shell: /usr/bin/bash, gecos: \"Nina, Room 7\", uid: 1500}\n\
                 - {name: max, ssh_keys: [ANY_KEY], groups: \"sudo,lxd\", sudo: nopasswd}\n\
                 - {name: backup-job, shell: /usr/sbin/nologin}\n";
    let users = good(users).users;
    assert_eq!(users[0].shell.as_deref(), Some("/usr/bin/bash"));
    assert_eq!(users[0].gecos.as_deref(), Some("Nina, Room 7"));
    assert_eq!((users[0].uid, users[1].uid), (Some(1500), None));
    assert_eq!(users[1].groups, ["sudo", "lxd"]);
    check(
        "users: [{name: a, ssh_keys: [ANY_KEY], shell: zsh, gecos: \"a:b\", uid: 0}]\n",
        &expect![[r#"
            1:133 error: "zsh" is not a login shell: it does not start at `/`
            1:145 error: "a:b" is not a comment for /etc/passwd: it holds a colon, which ends the field in /etc/passwd
            1:157 error: `uid` is a whole number from 1000 to 59999, not "0"
        "#]],
    );
    check(
        "users: [{name: a, ssh_keys: [ANY_KEY], shell: /bin/b sh, uid: \"1000\"}]\n",
        &expect![[r#"
            1:133 error: "/bin/b sh" is not a login shell: it holds a space
            1:149 error: `uid` is a whole number from 1000 to 59999, not "1000" (write it without quotes)
        "#]],
    );
    // a gets the first number.
    check(
        "users: [{name: a, ssh_keys: [ANY_KEY]}, {name: b, ssh_keys: [ANY_KEY], uid: 1000}, {name: c, ssh_keys: [ANY_KEY], uid: 1000}]\n",
        &expect![[r#"
            1:249 error: "a" is made first, and gets the uid 1000 (give "a" a `uid`, too, or put it below)
            1:378 error: 1000 is the uid of "b" already
        "#]],
    );
    check(
        "users: [{name: b, ssh_keys: [ANY_KEY], uid: 1000}, {name: c, ssh_keys: [ANY_KEY], uid: 1000}]\n",
        &expect![[r#"
            1:260 error: 1000 is the uid of "b" already
        "#]],
    );
    good("users: [{name: b, ssh_keys: [ANY_KEY], uid: 1000}, {name: a, ssh_keys: [ANY_KEY]}]\n");
    check(
        "base: ubuntu-24.04-arm64\nusers: [{name: a, ssh_keys: [ANY_KEY], shell: /usr/bin/zsh}, {name: b, ssh_keys: [ANY_KEY], shell: /bin/bahs}]\npackages: [zsh]\n",
        &expect![[r#"
            2:133 warning: until the first boot has installed "/usr/bin/zsh", ssh refuses "a" (wait for the first boot to end, or write /bin/bash and change the shell later (chsh))
            2:272 warning: the base has no shell "/bin/bahs", so ssh refuses "b" (did you mean "bash"?)
        "#]],
    );
    check(
        "users: [{name: b, ssh_keys: [ANY_KEY], shell: /usr/sbin/nologin, password: {hash: ANY_HASH}}]\n",
        &expect![[r#"
            1:1 warning: the shell of every user ends at once, so nobody can log in at the Pi (add a user with another shell)
        "#]],
    );
}

#[test]
fn networks() {
    check(
        "network: {uplink: wlan0}\n",
        &expect![[r#"
        1:19 error: wlan0 cannot be a port of br0: an access point takes frames only from the MAC that has joined it, so those of containers are lost (use the wired interface (eth0), or write `bridge: none` to keep the containers behind NAT)
    "#]],
    );
    check(
        "network: {uplink: wlan0, bridge: none}\n",
        &expect![[r#"
        1:19 warning: wlan0 needs a network name and its password, which a farm does not hold (an overlay can bring a wpa_supplicant configuration)
    "#]],
    );
    check(
        "network: {bridge: eth0}\n",
        &expect![[r#"
        1:19 error: "eth0" is the uplink, which cannot be its own bridge
    "#]],
    );
    check(
        "network: {uplink: enxb827eb6c0288, vlan: 4000}\n",
        &expect![[r#"
        1:42 error: the VLAN's interface would be enxb827eb6c0288.4000, and 15 bytes are the most that a name has
    "#]],
    );
    check(
        "network: {ipv4: none, ipv6: none}\n",
        &expect![[r#"
        1:29 error: with neither IPv4 nor IPv6 nobody reaches the Pi (write `ipv6: auto` or `ipv4: dhcp`)
    "#]],
    );
    check(
        "network: {ipv4: {address: 192.0.2.0/24, gateway: 192.0.3.1}}\n",
        &expect![[r#"
            1:27 error: 192.0.2.0 is the network address of 192.0.2.0/24
            1:50 error: 192.0.3.1 is not in 192.0.2.0/24, so the Pi cannot reach it
        "#]],
    );
    check(
        "network: {ipv4: {address: 192.0.2.10/24}}\n",
        &expect![[r#"
        1:27 warning: 192.0.2.10 has no gateway, so nothing beyond its net is reached (write `gateway: ADDRESS`, the home router's)
    "#]],
    );
    check(
        "network: {ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.10}, ipv6: none}\n",
        &expect![[r#"
            1:51 error: 192.0.2.10 is the Pi's own address
            1:11 warning: the Pi knows no resolver, so it finds no host by name (write `dns: [ADDRESS]` beside the address)
        "#]],
    );
    check(
        "network: {ipv6: {address: \"2001:db8::10/64\", gateway: \"2001:db9::1\"}}\n",
        &expect![[r#"
            1:55 error: 2001:db9::1 is not in 2001:db8::/64, so the Pi cannot reach it
        "#]],
    );
    check(
        "network: {ipv6: {address: \"fe80::10/64\", gateway: \"::1\"}}\n",
        &expect![[r#"
            1:27 error: fe80::10 is a link-local address, which hosts choose themselves
            1:51 error: ::1 is a loopback address
        "#]],
    );
    good("network: {ipv6: {address: \"2001:db8::10/64\", gateway: \"fe80::1\"}}\n");
    check(
        "network: {ipv4: {address: 10.77.0.9/16, gateway: 10.77.0.1}}\nlxd: {}\n",
        &expect![[r#"
            1:27 error: 10.77.0.0/16 on the LAN and 10.77.0.0/24 behind NAT overlap (give `lxd: nat:` another net, such as 10.78.0.1/24 or fd42:78::1/64)
        "#]],
    );
    check(
        "network: {bridge: lxdbr0}\nlxd: {}\n",
        &expect![[r#"
        2:1 error: "lxdbr0" is an interface of the host's own network
    "#]],
    );
    check(
        "lxd: {nat: {ipv4: 192.0.2.0/24, ipv6: \"fd42::1/48\"}}\n",
        &expect![[r#"
            1:19 error: 192.0.2.0 is the network address of 192.0.2.0/24
            1:39 error: containers form their IPv6 addresses in nets of 64 bits only, and this has 48
            1:19 warning: 192.0.2.0 is a public address, whose owner cannot be reached from behind this NAT (private addresses are 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16)
        "#]],
    );
    check(
        "lxd: {nat: {ipv4: none, ipv6: none}}\n",
        &expect![[r#"
        1:7 error: the NAT bridge has neither IPv4 nor IPv6 (write `nat: none` to do without it)
    "#]],
    );
}

#[test]
fn the_snap_of_lxd() {
    check(
        "lxd: {channel: 5.21, refresh: never}\n",
        &expect![[r#"
            1:16 error: "5.21" is not a channel of LXD's snap: it has no slash between track and risk, as in 5.21/stable
            1:31 error: `refresh` is auto or hold, not "never"
        "#]],
    );
    check(
        "lxd: {channel: latest/stable}\n",
        &expect![[r#"
            1:16 warning: with latest/stable every refresh may bring a new LXD, and LXD never goes back to an older one (5.21/stable gets corrections only)
        "#]],
    );
    check(
        "base: ubuntu-22.04-armhf\nlxd: {channel: 4.0/stable}\n",
        &expect![[r#"
            2:16 error: ubuntu-22.04-armhf comes with LXD 5.0, and LXD never goes back to an older one (write 5.0/stable or a later channel, or leave it out)
        "#]],
    );
    check(
        "base: ubuntu-20.04-arm64\nlxd: {channel: 6/stable}\n",
        &expect![[r#"
            2:16 warning: LXD 6 is made for Linux 5.15 and later, and ubuntu-20.04-arm64 has 5.4 (write 5.0/stable, or take a newer base)
        "#]],
    );
    check(
        "base: ubuntu-18.04-armhf\nlxd: {channel: 5.0/stable, refresh: hold}\n",
        &expect![[r#"
            2:7 error: LXD on Ubuntu 18.04 is a Debian package, and `channel` is about a snap (leave `channel` out)
            2:28 error: LXD on Ubuntu 18.04 is a Debian package, and `refresh` is about a snap (leave `refresh` out)
        "#]],
    );
    let farm = good("base: ubuntu-22.04-armhf\nlxd: {channel: 5.21/stable, refresh: hold}\n");
    assert_eq!(farm.lxd.unwrap().channel.as_deref(), Some("5.21/stable"));
    good("base: ubuntu-20.04-armhf\nlxd: {channel: 5.0/stable}\n");
    good("base: ubuntu-24.04-arm64\nlxd: {channel: 5.0/stable}\n");
}

#[test]
fn fleets() {
    check(
        "cards: {}\nx: 1\n",
        &expect![[r#"
            2:1 error: unknown key "x" in the farm (the keys here are farm, base, sha256, hostname, timezone, locale, users, ssh, boot, lxd, images, containers, packages, carry, files, overlays, rc_local, dns, cluster, network, cards)
        "#]],
    );
    check(
        "cards: {a: {mac: \"b8:27:eb:00:00:01\"}, b: {mac: \"b8:27:eb:00:00:01\"}}\n",
        &expect![[r#"
            1:49 error: b8:27:eb:00:00:01 is the MAC of card "a" already
        "#]],
    );
    check(
        "cards: {a: {hostname: c}, b: {hostname: C}}\n",
        &expect![[r#"
        1:41 error: card "b" has the host name of card "a"
    "#]],
    );
    check("network: {ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1}}\ncards: {a: , b: , c: {network: {ipv4: dhcp}}}\n", &expect![[r#"
        2:14 error: card "b" has the address 192.0.2.10, as card "a" has (give each card its own `network`)
    "#]]);
    check(
        "network: {uplink: wlan0}\ncards: {a: {network: {vlan: 3}}, b: {network: {bridge: none}}}\n",
        &expect![[r#"
            1:19 error: wlan0 cannot be a port of br0: an access point takes frames only from the MAC that has joined it, so those of containers are lost (use the wired interface (eth0), or write `bridge: none` to keep the containers behind NAT)
            2:38 warning: wlan0 needs a network name and its password, which a farm does not hold (an overlay can bring a wpa_supplicant configuration)
        "#]],
    );
    let farm =
        good("network: {vlan: 7}\ncards: {a: {network: {uplink: end0}}, b: {network: {vlan: none}}}\n");
    let a = farm.card(Some("a")).unwrap().network;
    assert_eq!((a.uplink.as_str(), a.vlan), ("end0", Some(7)));
    assert_eq!(farm.card(Some("b")).unwrap().network.vlan, None);
    assert_eq!(
        farm.card(None).unwrap_err().to_string(),
        "the farm has several cards, and one must be named: a, b"
    );
    assert_eq!(
        farm.card(Some("c")).unwrap_err().to_string(),
        "the farm has no card \"c\"; its cards are a, b"
    );
}

#[test]
fn containers_of_cards() {
    const CONTAINERS: &str = "\
containers:
  web: {image: \"images:a\", publish: web_image}
  w: {image: web_image, replicas: 2..4}
  db: {image: \"images:a\", mac: \"00:16:3e:00:00:01\"}
";
    let check = |cards: &str, expect: &Expect| check(&format!("{CONTAINERS}cards: {cards}\n"), expect);
    check(
        "{a: {containers: [web, web, w2, dc]}, b: {containers: [w]}}",
        &expect![[r#"
            5:31 error: container "web" is here twice
            5:36 error: there is no container "w2" (it is one of several: write "w")
            5:40 error: there is no container "dc" (name containers that are declared at the top of the farm)
            5:63 error: "w" is made from the image that "web" publishes, which card "b" does not have (name "web" here, too)
        "#]],
    );
    check(
        "{a: {containers: {web: {image: x}}}, b: {containers: web}}",
        &expect![[r#"
            5:25 error: `containers` of a card takes a list of names, not a mapping (declare containers at the top of the farm, and name here those that the card has)
            5:61 error: `containers` takes a list, not a single value (write ["web"])
        "#]],
    );
    check(
        "{a: , b: {containers: [web]}, c: {containers: }}",
        &expect![[r#"
            5:42 error: `containers` of a card names nothing (write [] for a card without any, or leave the key out for all of them)
        "#]],
    );
    check(
        "{a: {containers: [web]}}",
        &expect![[r#"
            3:3 warning: no card has the container "w" (name it in `containers` of a card, or take it out)
            4:3 warning: no card has the container "db" (name it in `containers` of a card, or take it out)
            8:11 warning: the host is called "a", and not "palm": the name of its card counts (call the card "palm" under `cards`, or leave `hostname` out)
        "#]],
    );
    // Bad items keep their index, and an invalid name is reported once.
    check(
        "{a: {containers: [~, web, we_b, \"$6$abc\", wbe]}, b: }",
        &expect![[r#"
            5:26 error: `containers` has no value (write one, or leave the key out)
            5:34 error: "we_b" is not a container name: it holds '_' (did you mean "we-b"?)
            5:40 error: (not shown) is not a container name: it holds '$'
            5:50 error: there is no container "wbe" (did you mean "web"?)
        "#]],
    );
    let farm = good(&format!(
        "{CONTAINERS}cards: {{a: {{containers: [web, w]}}, b: {{containers: [db]}}, c: {{containers: []}}}}\n"
    ));
    let has = |card| {
        let card = farm.card(Some(card)).unwrap();
        let all = addresses::containers(&farm, &card);
        all.into_iter().map(|one| one.name).collect::<Vec<_>>()
    };
    assert_eq!(has("a"), ["web", "w2", "w3", "w4"]);
    assert_eq!(has("b"), ["db"]);
    assert!(has("c").is_empty());
    // What a container needs is asked of the cards that have it.
    good("network: {bridge: br0}\ncontainers: {web: {image: \"images:a\", profiles: [default, extbridge]}, db: {image: \"images:a\", profiles: [default], devices: {eth0: {type: nic, nictype: macvlan, parent: eth0}}}}\ncards: {a: {containers: [web]}, b: {network: {bridge: none}, containers: [db]}}\n");
    super::check(
        "containers: {web: {image: \"images:a\", devices: {eth1: {type: nic, nictype: bridged, parent: br1}}}}\ncards: {a: {network: {bridge: br1}, containers: []}, b: {containers: [web]}}\n",
        &expect![[r#"
            1:93 error: no card that has this container makes the interface "br1" (did you mean "br0"?)
        "#]],
    );
    let long = "x".repeat(20_000);
    good(&format!("containers: {{a: {{image: \"images:a\", replicas: 1..300, run: [{long}]}}, b: {{image: \"images:a\", replicas: 1..300, run: [{long}]}}}}\ncards: {{p: {{containers: [a]}}, q: {{containers: [b]}}}}\n"));
}

#[test]
fn profiles() {
    check("lxd: {profiles: {small: {config: {limits.cpu: two}, devices: {eth0: {type: nic, nictype: bridged, parent: lxdbr1}}}}}\n", &expect![[r#"
        1:47 error: `limits.cpu` takes a number of CPUs such as 2, or a set such as 0-1,3, not "two"
        1:107 error: the farm makes no interface "lxdbr1" (did you mean "lxdbr0"?)
    "#]]);
    check(
        "lxd: {profiles: {default: {config: {}}}}\ncontainers: {a: {image: \"images:a\"}}\n",
        &expect![[r#"
            2:14 error: "a" has no disk at /, so it cannot start (the farm's own profile default has none: give it `devices: {root: {type: disk, path: /, pool: default}}`)
        "#]],
    );
    check(
        "base: ubuntu-18.04-armhf\nlxd: {profiles: {p: {config: {snapshots.expiry: 1d}}}}\n",
        &expect![[r#"
            2:31 error: LXD 3.0, which the base has, does not know the key "snapshots.expiry"
        "#]],
    );
    check(
        "lxd: {profiles: {p: {devices: {x: {typ: nic}}, config: [a]}}}\n",
        &expect![[r#"
            1:32 error: the device has no `type` (a network port is a nic, a folder a disk)
            1:56 error: `config` is a mapping, not a list (write each as `NAME: …`, without `- `)
        "#]],
    );
}

#[test]
fn host_files() {
    check(
        "files: {/proc/x: a, /etc/palmfarm/y: b, /etc: c, /etc/z: d}\n",
        &expect![[r#"
            1:9 error: /proc is covered by the kernel's processes (leave it out; the FAT partition is the folder `boot` of an overlay, and tmpfiles.d(5) makes files at each boot)
            1:18 error: there is no file "a" (names of files begin at the folder of the farm file)
            1:21 error: "/etc" is a file of the farm, so nothing can be in it
            1:21 error: palmfarm itself keeps "/etc/palmfarm/y"
            1:38 error: there is no file "b" (names of files begin at the folder of the farm file)
            1:47 error: there is no file "c" (names of files begin at the folder of the farm file)
            1:50 error: "/etc" is a file of the farm, so nothing can be in it
            1:58 error: there is no file "d" (names of files begin at the folder of the farm file)
        "#]],
    );
    check(
        "files: {/a: {file: Cargo.toml, mode: \"0600\", owner: \"33:33\"}, /b: {file: Cargo.toml, secret: true, owner: root}}\n",
        &expect![[r#"
            1:9 error: there is no file "Cargo.toml" (names of files begin at the folder of the farm file)
            1:63 error: there is no file "Cargo.toml" (names of files begin at the folder of the farm file)
        "#]],
    );
    check(
        "files: {/a: {mode: \"888\", owner: craig, secrt: true}, /b: {file: Cargo.toml, secret: true, mode: \"0644\"}, /tmp/x: Cargo.toml, /var/run/x: Cargo.toml, /boot/firmware/x: Cargo.toml}\n",
        &expect![[r#"
            1:9 error: the file "/a" has no `file` (write `file: PATH`, a file beside the farm)
            1:20 error: the mode "888" is not three or four octal digits such as "0755"
            1:34 error: the owner "craig" is neither root nor two numbers such as "33:33" (www-data of Debian and Ubuntu)
            1:41 error: unknown key "secrt" in the file "/a" (did you mean "secret"?)
            1:55 error: it is secret, and its mode 0644 lets everybody read it (leave `mode` out: a secret is 0600)
            1:55 error: there is no file "Cargo.toml" (names of files begin at the folder of the farm file)
            1:107 error: /tmp is covered by a filesystem in memory, or emptied, at every boot (leave it out; the FAT partition is the folder `boot` of an overlay, and tmpfiles.d(5) makes files at each boot)
            1:115 error: there is no file "Cargo.toml" (names of files begin at the folder of the farm file)
            1:127 error: /var/run is covered by /run, a filesystem in memory (leave it out; the FAT partition is the folder `boot` of an overlay, and tmpfiles.d(5) makes files at each boot)
            1:139 error: there is no file "Cargo.toml" (names of files begin at the folder of the farm file)
            1:151 error: /boot/firmware is covered by the FAT partition (leave it out; the FAT partition is the folder `boot` of an overlay, and tmpfiles.d(5) makes files at each boot)
            1:169 error: there is no file "Cargo.toml" (names of files begin at the folder of the farm file)
        "#]],
    );
    check(
        "containers: {c: {image: \"images:a\", files: {/a: {file: Cargo.toml, mode: \"4755\"}, /run/x: Cargo.toml}}}\n",
        &expect![[r#"
            1:45 error: there is no file "Cargo.toml" (names of files begin at the folder of the farm file)
            1:74 error: the container daemon sets only the nine bits of permission (leave the first digit out, and set it by chmod in a line of `run`)
            1:91 error: there is no file "Cargo.toml" (names of files begin at the folder of the farm file)
        "#]],
    );
    check(
        "packages: [nginx, nginx]\n",
        &expect![[r#"
            1:19 error: "nginx" is here twice
        "#]],
    );
}
