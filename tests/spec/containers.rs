//! Checks of containers and of the images that cards carry.

use expect_test::expect;

use super::{check, good};

#[test]
fn containers() {
    check(
        "containers: {palm: {image: \"images:a\"}}\n",
        &expect![[r#"
            1:14 error: the name "palm" is taken by the host "palm" (each host and container of a farm has a name of its own)
        "#]],
    );
    check("containers: {w: {image: \"images:a\", replicas: 1..3}, w2: {image: \"images:a\"}, W3: {image: \"images:a\"}}\n", &expect![[r#"
        1:54 error: the name "w2" is taken by the replicas of "w" (each host and container of a farm has a name of its own)
        1:79 error: the name "W3" is taken by the replicas of "w" (each host and container of a farm has a name of its own)
    "#]]);
    check(
        "containers: {w: {image: \"images:a\", replicas: 1..3, mac: \"00:16:3e:00:00:01\", publish: x}}\n",
        &expect![[r#"
            1:53 error: replicas cannot share one MAC (leave `mac` out: each replica's comes from its name)
            1:79 error: replicas cannot be published (publish a container without replicas, and make the replicas from its alias)
        "#]],
    );
    check("containers: {a: {image: \"images:a\", mac: \"00:16:3e:00:00:01\"}, b: {image: \"images:a\", mac: \"00:16:3e:00:00:01\"}}\n", &expect![[r#"
        1:92 error: 00:16:3e:00:00:01 is the MAC of container "a" already
    "#]]);
    check(
        "containers: {a: {image: \"images:a\", nesting: true, config: {security.nesting: false}}}\n",
        &expect![[r#"
            1:79 error: `nesting: true` and this contradict each other
        "#]],
    );
    check(
        "containers: {a: {image: \"images:a\", profiles: [defualt, default, default]}}\n",
        &expect![[r#"
            1:48 error: there is no profile "defualt" (did you mean "default"?)
            1:66 error: profile "default" is here twice
        "#]],
    );
    check("containers: {a: {image: \"images:a\", profiles: [extbridge]}, b: {image: \"images:a\", profiles: []}}\n", &expect![[r#"
        1:37 error: "a" has no disk at /, so it cannot start (the profile default brings one: write it first)
        1:84 error: "b" has no disk at /, so it cannot start (the profile default brings one: write it first)
    "#]]);
    check(
        "containers: {a: {image: \"images:a\", profiles: [extbridge, default]}}\n",
        &expect![[r#"
            1:37 warning: "a" ends up behind NAT: of two profiles with an eth0 the last one wins (write [default, extbridge] for an address of its own on the LAN)
        "#]],
    );
    check(
        "containers: {a: {image: \"images:a\", devices: {eth0: {type: nic, nictype: macvlan, parent: eth0}}}}\n",
        &expect![[r#"
            1:91 error: "eth0" is a port of br0 and cannot be used otherwise (write nictype: bridged and parent: br0)
        "#]],
    );
    check(
        "network: {bridge: none}\ncontainers: {a: {image: \"images:a\", devices: {eth0: {type: nic, nictype: bridged, parent: eth0}}}}\n",
        &expect![[r#"
            2:91 error: "eth0" is not a bridge (write nictype: macvlan, or declare a `bridge` under `network`)
        "#]],
    );
    check(
        "lxd: {nat: none}\ncontainers: {a: {image: \"images:a\", profiles: [default], mac: \"00:16:3e:00:00:07\", devices: {lan0: {type: nic, nictype: bridged, parent: br0}}}}\n",
        &expect![[r#"
            2:63 error: "a" has no network port eth0 that could have this address (call its nic eth0)
        "#]],
    );
    check(
        "containers: {a: {image: \"images:a\", devices: {eth0: {type: nic, nictype: bridged, parent: br0, name: wan}}}}\n",
        &expect![[r#"
            1:14 warning: eth0 of "a" is called "wan" inside it, but its address is looked for at eth0 (leave out `name`)
        "#]],
    );
    good("network: {bridge: none}\ncontainers: {a: {image: \"images:a\", devices: {eth0: {type: nic, nictype: macvlan, parent: eth0}}}}\n");
    check(
        "network: {bridge: none}\ncontainers: {a: {image: \"images:a\", devices: {eth0: {type: nic, nictype: physical, parent: eth0}}}}\n",
        &expect![[r#"
            2:92 error: the container would take "eth0" away from the Pi itself (write nictype: macvlan, or bridged on the bridge)
        "#]],
    );
    check(
        "network: {ipv4: none, ipv6: {address: \"2001:db8::10/64\", dns: [\"2001:db8::1\"]}}\n",
        &expect![[r#"
            1:23 warning: without a router that announces itself on this LAN, the network is never confirmed (write the `gateway` beside the address)
        "#]],
    );
    good("network: {vlan: 7}\ncontainers: {a: {image: \"images:a\", devices: {eth0: {type: nic, nictype: macvlan, parent: eth0}}}}\n");
    check("network: {bridge: none}\ncontainers: {a: {image: \"images:a\", profiles: [default, extbridge]}, b: {image: \"images:a\"}}\n", &expect![[r#"
        2:57 error: there is no profile extbridge where `bridge` is none (write `profiles: [default]`, or give the network a bridge)
    "#]]);
    check("containers: {a: {image: \"images:a\", config: {limits.memory: 128M, limits.memroy: 1GB, volatile.eth0.hwaddr: x}}}\n", &expect![[r#"
        1:61 error: `limits.memory` takes a size such as 512MiB, or a percentage such as 25%, not "128M"
        1:67 error: no daemon knows the key "limits.memroy" (did you mean "limits.memory"?)
        1:87 error: "volatile.eth0.hwaddr" belongs to the daemon (an address is fixed by `mac`)
    "#]]);
    check("containers: {a: {image: \"images:a\", devices: {eth0: {type: nic, nictype: bridged, parent: br1, hwaddr: x}, d: {type: disk, path: /srv, pool: fast}}}}\n", &expect![[r#"
        1:91 error: the farm makes no interface "br1" (did you mean "br0"?)
        1:96 error: the address of a container is fixed by its `mac` (a `hwaddr` is copied to every container of a profile, and predictions would not know it)
        1:108 error: the disk lacks `source`
        1:142 error: there is no storage pool "fast" (the farm's pool is "default")
    "#]]);
    check("containers: {a: {image: \"images:a\", replicas: 1..999}, b: {image: \"images:a\", replicas: 1..2}}\n", &expect![[r#"
        1:56 error: with these there are more than 1000 containers
    "#]]);
}

#[test]
fn containers_that_start_by_themselves() {
    good("containers: {a: {image: \"images:a\", autostart: true, config: {boot.autostart: true}}}\n");
    check(
        "containers: {a: {image: \"images:a\", autostart: false, config: {boot.autostart: Yes}}}\n",
        &expect![[r#"
            1:80 error: `autostart: false` and this contradict each other
        "#]],
    );
    check(
        "containers: {a: {image: \"images:a\", autostart: later}}\n",
        &expect![[r#"
            1:48 error: `autostart` is true or false, not "later"
        "#]],
    );
}

#[test]
fn images() {
    check(
        "containers: {a: {image: nowhere}}\n",
        &expect![[r#"
            1:25 error: "nowhere" is neither carried on the card nor published by a container (an image server's alias has the server in front (images:alpine/3.23), a carried image stands under `images:`)
        "#]],
    );
    check(
        "containers: {a: {image: \"image:alpine\"}}\n",
        &expect![[r#"
        1:25 error: there is no image server "image" (did you mean "images"?)
    "#]],
    );
    check("containers: {a: {image: \"images:a\", publish: x}, b: {image: \"images:a\", publish: x}, c: {image: X}}\n", &expect![[r#"
        1:82 error: container "a" publishes "x" already
        1:97 error: "X" is neither carried on the card nor published by a container (did you mean "x"?)
    "#]]);
    check(
        "containers: {a: {image: y, publish: x}, b: {image: x, publish: y}, c: {image: x}}\n",
        &expect![[r#"
            1:25 error: these containers wait for each other: a from b from a
        "#]],
    );
    check(
        "containers: {a: {image: x, publish: x}}\n",
        &expect![[r#"
        1:25 error: "a" is made from the image that it publishes itself
    "#]],
    );
    let armhf = "base: ubuntu-22.04-armhf\n";
    check(
        &format!("{armhf}containers: {{a: {{image: \"images:alpine/3.20\"}}}}\n"),
        &expect![[r#"
            2:25 warning: images.lxd.canonical.com has been reported to have no images for armhf (carry the image on the card: `palmfarm image fetch alpine/3.23 --arch armhf` gets one, and a root filesystem as a tar will do; or name another server under `lxd: remotes:`)
        "#]],
    );
    for lines in [
        "lxd: {remotes: {images: \"https://images.example/\"}}\ncontainers: {a: {image: \"images:a\"}}\n",
        "containers: {a: {image: \"ubuntu:22.04\"}}\n",
    ] {
        check(&format!("{armhf}{lines}"), &expect![[""]]);
    }
    check(
        "lxd: {remotes: {images: \"https://images.linuxcontainers.org/\"}}\n",
        &expect![[r#"
            1:25 error: images.linuxcontainers.org has been closed to LXD since 2024 (leave it out for LXD's own server, carry the image on the card (`images:`), or write `flavour: incus`)
        "#]],
    );
    check(
        "images: {x: {file: x}}\ncontainers: {a: {image: \"images:a\", publish: x}}\n",
        &expect![[r#"
            1:20 error: there is no file "x" (names of files begin at the folder of the farm file)
            2:46 error: "x" is the alias of an image that the card carries (publish under another alias)
        "#]],
    );
    check(
        "base: ubuntu-22.04-armhf\nlxd: {flavour: incus}\n",
        &expect![[r#"
            2:16 warning: ubuntu-22.04-armhf has no package of Incus; Ubuntu has one since 24.04 (write `flavour: lxd`, take a newer base, or bring a package source in an overlay)
        "#]],
    );
    good("lxd: {flavour: incus, remotes: {images: \"https://images.linuxcontainers.org\"}}\n");
}

/// What `lxc config show` of LXD 5.0 prints, and `lxc profile show`, indented as below a name.
const SHOWN: &str = r#"
    architecture: armv7l
    config:
      image.architecture: armhf
      image.description: Alpine 3.18 armhf (20231011_13:00)
      image.os: Alpine
      image.release: "3.18"
      limits.memory: 128MB
      volatile.base_image: 5b2f1c9a4d3e
      volatile.cloud-init.instance-id: 2f3b
      volatile.eth0.host_name: veth7d1b
      volatile.eth0.hwaddr: 00:16:3e:5c:1d:0a
      volatile.last_state.power: RUNNING
      volatile.uuid: 0f1e
    devices:
      data:
        path: /data
        source: /srv/data
        type: disk
    ephemeral: false
    profiles:
    - default
    stateful: false
    description: ""
"#;

#[test]
fn what_lxd_shows_may_be_pasted() {
    let profile = "lxd:\n  profiles:\n    small:\n      config:\n        limits.memory: 128MB\n      description: small ones\n      \
                   devices: {}\n      name: small\n      project: default\n      used_by:\n      - /1.0/instances/web\n";
    let farm = format!("{profile}containers:\n  web:{SHOWN}    image: \"images:alpine/3.23\"\n");
    check(
        &farm,
        &expect![[r#"
        3:5 warning: profile "small" was pasted, and what LXD notes for itself is left out: name, project, used_by (remove these keys, and nothing is said of them)
        13:3 warning: container "web" was pasted, and what LXD notes for itself is left out: architecture, description, ephemeral, stateful, image.*, volatile.* (to keep the address that it has in DNS, write `mac: "00:16:3e:5c:1d:0a"`)
    "#]],
    );
    // What the farm already says needs no hint, and what was not pasted is not left out.
    let mac = farm.replace("  web:", "  web:\n    mac: 00:16:3e:5c:1d:0a");
    check(
        &mac,
        &expect![[r#"
        3:5 warning: profile "small" was pasted, and what LXD notes for itself is left out: name, project, used_by (remove these keys, and nothing is said of them)
        13:3 warning: container "web" was pasted, and what LXD notes for itself is left out: architecture, description, ephemeral, stateful, image.*, volatile.* (remove these keys, and nothing is said of them)
    "#]],
    );
    check(
        &format!("containers:\n  web:{SHOWN}"),
        &expect![[r#"
        2:3 error: container "web" has no `image` (write `image: "images:alpine/3.18"`, which it was made from, or a newer one)
        2:3 warning: container "web" was pasted, and what LXD notes for itself is left out: architecture, description, ephemeral, stateful, image.*, volatile.* (to keep the address that it has in DNS, write `mac: "00:16:3e:5c:1d:0a"`)
    "#]],
    );
    check(
        "lxd: {profiles: {small: {name: small}}}\ncontainers: {web: {image: \"images:a\", type: container, architecture: armv7l}}\n",
        &expect![[r#"
            1:26 error: unknown key "name" in profile "small" (the keys here are description, config, devices)
            2:39 error: unknown key "type" in container "web" (the keys here are profiles, image, mac, config, devices, files, run, publish, replicas, nesting, autostart, on, spread)
            2:56 error: unknown key "architecture" in container "web" (the keys here are profiles, image, mac, config, devices, files, run, publish, replicas, nesting, autostart, on, spread)
        "#]],
    );
    check(
        "containers: {web: {image: \"images:a\", type: virtual-machine, ephemeral: false, config: {volatile.eth0.hwaddr: x}}}\n",
        &expect![[r#"
            1:45 error: this is a virtual machine, and a farm makes containers (make a container from an image of the same system)
            1:14 warning: container "web" was pasted, and what LXD notes for itself is left out: ephemeral, type, volatile.* (remove these keys, and nothing is said of them)
        "#]],
    );
    // A part of what LXD shows.
    check(
        "containers: {web: {image: \"images:a\", config: {volatile.base_image: a, volatile.uuid: b, limits.memory: 1GB}}}\n",
        &expect![[r#"
            1:14 warning: container "web" was pasted, and what LXD notes for itself is left out: volatile.* (remove these keys, and nothing is said of them)
        "#]],
    );
}
