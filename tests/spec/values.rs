//! Each value by itself.

use expect_test::expect;

use super::{check, good};

#[test]
fn base_and_hash() {
    good("base: ubuntu-22.04-armhf\nsha256: AB00000000000000000000000000000000000000000000000000000000000000\n");
    check(
        "base: ftp://x/y.img\n",
        &expect![[r#"
            1:7 error: "ftp://x/y.img" is not a base: its URL begins with neither https:// nor http://
        "#]],
    );
    check(
        "base: http://example.net/x.img.xz\n",
        &expect![[r#"
            1:7 error: http downloads are not authenticated (write its `sha256`, or an https:// URL)
        "#]],
    );
    check(
        "base: https://example.net/x.img.xz\n",
        &expect![[r#"
            1:7 warning: nothing proves that this download is the right file (write its `sha256`, which the server lists beside it)
        "#]],
    );
    check(
        "base: [a]\n",
        &expect![[r#"
        1:7 error: `base` takes a single value, not a list
    "#]],
    );
    check(
        "base: ubuntu 22.04\n",
        &expect![[r#"
            1:7 error: "ubuntu 22.04" is not a base: it holds a space (a base is a name, a path that has a slash or ends as an image does, or a URL)
        "#]],
    );
    check(
        "base: \"https://craig:hunter2@images.example.net/x.img.xz\"\n",
        &expect![[r#"
            1:7 error: a user name or password in the URL of a base would be shown in plans and manifests (download it yourself, and name the file)
            1:7 warning: nothing proves that this download is the right file (write its `sha256`, which the server lists beside it)
        "#]],
    );
    check(
        "sha256: abc\nbase: x.example\n",
        &expect![[r#"
            1:9 error: a SHA-256 has 64 hexadecimal digits, and this has 3
            2:7 error: there is no file "x.example" (names of files begin at the folder of the farm file)
        "#]],
    );
    check(
        "base: x\nsha256: g000000000000000000000000000000000000000000000000000000000000000\n",
        &expect![[r#"
            1:7 error: there is no base called "x" (`palmfarm base list` lists them; a file is named by its path)
            2:9 error: a SHA-256 has 64 hexadecimal digits, and 'g' is not one
        "#]],
    );
    check(
        "base: mini\nsha256: 0000000000000000000000000000000000000000000000000000000000000000\n",
        &expect![[r#"
            1:7 warning: no Pi starts from `mini`: it is for trying palmfarm out (`palmfarm base suggest 3` says which image suits a Pi 3)
            2:1 warning: `mini` is built in, so there is no download to compare with
        "#]],
    );
}

#[test]
fn names() {
    check(
        "hostname: palm.example.net\n",
        &expect![[r#"
            1:11 error: "palm.example.net" is not a host name: it holds '.' (write palm; the domain goes to `dns: {zone: example.net}`)
        "#]],
    );
    check(
        "hostname: -palm\n",
        &expect![[r#"
            1:11 error: "-palm" is not a host name: it starts or ends with a hyphen
        "#]],
    );
    check(
        "hostname: \"\"\n",
        &expect![[r#"
        1:11 error: `hostname` is empty
    "#]],
    );
    check(
        "timezone: Mars/Olympus\nlocale: english\n",
        &expect![[r#"
            1:11 error: "Mars/Olympus" is not a time zone (time zones have names such as Europe/Vienna; `timedatectl list-timezones` lists them)
            2:9 error: "english" is not a locale: it does not start with a language of two or three lower-case letters
        "#]],
    );
    check(
        "containers: {2web: {image: \"images:alpine/3.20\"}}\n",
        &expect![[r#"
            1:14 error: "2web" is not a container name: it starts with a digit
        "#]],
    );
    check(
        "network: {uplink: eth0/1, bridge: abcdefghijklmnop}\n",
        &expect![[r#"
            1:19 error: "eth0/1" is not an interface name: it holds '/'
            1:35 error: "abcdefghijklmnop" is not an interface name: it has 16 bytes, and 15 is the most
        "#]],
    );
    check(
        "packages: [Nginx, nginx-, btrfs-progs]\n",
        &expect![[r#"
            1:12 error: "Nginx" is not a package name: it holds 'N' (did you mean "nginx"?)
            1:19 error: "nginx-" is not a package name: apt-get takes a hyphen at the end as an order to remove the package
        "#]],
    );
}

#[test]
fn users() {
    check(
        "users: [{nam: craig}]\n",
        &expect![[r#"
        1:10 error: unknown key "nam" in a user (did you mean "name"?)
    "#]],
    );
    check(
        "users: [craig]\n",
        &expect![[r#"
        1:9 error: a user is a mapping of keys, not a single value
    "#]],
    );
    check(
        "users: [{name: craig, ssh_keys: [ssh-ed25519 AAAA, ANY_KEY]}]\n",
        &expect![[r#"
            1:34 error: this is not a public SSH key: it is damaged; was it cut when it was copied?
        "#]],
    );
    check(
        "users: [{name: craig, ssh_keys: [ANY_KEY], sudo: maybe}]\n",
        &expect![[r#"
            1:136 error: `sudo` is password or nopasswd, not "maybe"
        "#]],
    );
    check(
        "users: [{name: craig, ssh_keys: [ANY_KEY], password: {hash: ANY_HASH, env: X}}]\n",
        &expect![[r#"
            1:130 error: a password comes from one place (write one of {hash: …}, {file: PATH} and {env: NAME})
        "#]],
    );
    check(
        "users: [{name: craig, ssh_keys: [ANY_KEY], password: {}}]\n",
        &expect![[r#"
            1:130 error: a password comes from one place (write one of {hash: …}, {file: PATH} and {env: NAME})
        "#]],
    );
    check(
        "users: [{name: craig, ssh_keys: [ANY_KEY], password: {env: 1X}}]\n",
        &expect![[r#"
            1:146 error: "1X" is not an environment variable: it may have letters, digits and underscores, and no digit in front
        "#]],
    );
    check(
        "users: [{name: craig, ssh_keys: [ANY_KEY], password: {hash: 'ANY_HASHx'}}]\n",
        &expect![[r#"
            1:147 error: this is not a hash of a password: after its last `$`, $6$ has 86 letters, digits, dots and slashes, and this has 87 characters (`openssl passwd -6` and `mkpasswd -m sha-512` make one; with {file: PATH} or {env: NAME} palmfarm makes it)
        "#]],
    );
}

#[test]
fn network() {
    check(
        "network: {renderer: netplan, ipv4: dchp, ipv6: no}\n",
        &expect![[r#"
            1:21 error: `renderer` is networkd or ifupdown, not "netplan"
            1:36 error: `ipv4` is dhcp, none or a mapping with a fixed address, not "dchp" (did you mean "dhcp"?)
            1:48 error: `ipv6` is auto, none or a mapping with a fixed address, not "no" (write none)
        "#]],
    );
    check(
        "network: {ipv4: {address: 192.0.2.10, gateway: 192.0.2.1}}\n",
        &expect![[r#"
            1:27 error: "192.0.2.10" has no prefix length; is it 192.0.2.10/24?
        "#]],
    );
    check(
        "network: {ipv4: {adress: 192.0.2.10/24}}\n",
        &expect![[r#"
        1:18 error: unknown key "adress" in `ipv4` (did you mean "address"?)
    "#]],
    );
    check(
        "network: {ipv6: {address: 2001:db8::10/64, gateway: 192.0.2.1, dns: [2001:db8::x]}}\n",
        &expect![[r#"
            1:53 error: "192.0.2.1" is not an IPv6 address
            1:70 error: "2001:db8::x" is not an IPv6 address
        "#]],
    );
    check(
        "network: {rollback: 5s}\n",
        &expect![[r#"
            1:21 error: `rollback` is 5 s, but must be from 30 s to 3600 s (it is the time that a network which never worked may leave the Pi unreachable; 120s suits most)
        "#]],
    );
    check(
        "network: {rollback: 120}\n",
        &expect![[r#"
            1:21 error: "120" is not a duration: it has no unit; write 90s, 10m or 1h
        "#]],
    );
    check(
        "network: {rollback: 2h}\n",
        &expect![[r#"
            1:21 error: `rollback` is 7200 s, but must be from 30 s to 3600 s (it is the time that a network which never worked may leave the Pi unreachable; 120s suits most)
        "#]],
    );
    check("network: {bridge: none, vlan: none}\n", &expect![[""]]);
}

#[test]
fn boot() {
    check(
        "boot: {cmdline: [a b, quiet, quiet, root=/dev/sda1]}\n",
        &expect![[r#"
            1:18 error: "a b" is not a word of the kernel command line: it holds a space; each word is an item of the list
            1:30 error: "quiet" is here twice
            1:37 warning: `root` belongs to the base; with another value the Pi may not start
        "#]],
    );
    check(
        "boot: {config: {gpu mem: 16, kernel: x, ok: \"a\\nb\"}}\n",
        &expect![[r#"
            1:17 error: "gpu mem" is not a key of config.txt: it may have letters, digits, underscores and colons
            1:45 error: `ok` is one line of text, and this holds '\n'
            1:30 warning: `kernel` belongs to the base; with another value the Pi may not start
        "#]],
    );
    // A list keeps its order, and takes what YAML makes of a line.
    let lines =
        "boot:\n  config:\n  - dtoverlay=w1-gpio,gpiopin=4\n  - dtoverlay=w1-gpio,gpiopin=17\n  - [pi4]\n  \
                 - arm_boost: 1\n  - \"[0x12345678]\"\n  - [gpio4=1]\n  - hdmi_group:0=2\n";
    assert_eq!(
        good(lines).boot.config,
        [
            "dtoverlay=w1-gpio,gpiopin=4",
            "dtoverlay=w1-gpio,gpiopin=17",
            "[pi4]",
            "arm_boost=1",
            "[0x12345678]",
            "[gpio4=1]",
            "hdmi_group:0=2"
        ]
    );
    // The order of a mapping is kept, too.
    assert_eq!(good("boot: {config: {b: 1, a: 2}}\n").boot.config, ["b=1", "a=2"]);
    check(
        "boot: {config: {dtoverlay: a, dtoverlay: b}}\n",
        &expect![[r#"
        1:31 error: "dtoverlay" is here twice (a list may have a key more than once: write each line as `- KEY=VALUE`)
    "#]],
    );
    check(
        "boot: {config: [a=1, [pi4], a=2, a=3, dtparam=x, dtparam=x, [pi44], [All], kernel=x]}\n",
        &expect![[r#"
            1:34 warning: `a` is set before in [pi4], and only the last one counts (remove one of the two)
            1:61 warning: "pi44" is not a section that the firmware knows (did you mean "pi4"?)
            1:76 warning: `kernel` belongs to the base; with another value the Pi may not start
        "#]],
    );
    check(
        "boot: {config: [gpu_mem, a b=1, [], [a, b], {a: 1, b: 2}, '[a b]', ok=1]}\n",
        &expect![[r#"
            1:17 error: "gpu_mem" is not a line of config.txt: it is neither KEY=VALUE nor a section such as [pi4]
            1:26 error: "a b=1" is not a line of config.txt: KEY may have letters, digits, underscores and colons
            1:33 error: a line of config.txt is not a list (write a section as "[pi4]")
            1:37 error: a line of config.txt is not a list (write a section as "[pi4]")
            1:45 error: a line of config.txt is not a mapping (write each line as `- KEY=VALUE`)
            1:59 error: "[a b]" is not a line of config.txt: the name of a section is ASCII without spaces and brackets
        "#]],
    );
    check(
        "boot: {config: gpu_mem=16}\n",
        &expect![[r#"
            1:16 error: `config` takes a list, not a single value (write ["gpu_mem=16"])
        "#]],
    );
    check(
        "boot: {cmdline: swapaccount=1}\n",
        &expect![[r#"
        1:17 error: `cmdline` takes a list, not a single value (write ["swapaccount=1"])
    "#]],
    );
}

#[test]
fn lists_and_mappings_are_told_apart() {
    check(
        "users: craig\n",
        &expect![[r#"
            1:8 error: `users` takes a list, not a single value (write [{name: "craig"}])
        "#]],
    );
    check(
        "users: {name: craig}\n",
        &expect![[r#"
            1:8 error: `users` takes a list, not a mapping (begin each item with `- `, also where there is one only)
        "#]],
    );
    check(
        "containers: [{image: x}]\n",
        &expect![[r#"
            1:13 error: `containers` is a mapping, not a list (write each as `NAME: …`, without `- `)
        "#]],
    );
}

#[test]
fn lxd() {
    check(
        "lxd: {flavor: lxd}\n",
        &expect![[r#"
        1:7 error: unknown key "flavor" in `lxd` (did you mean "flavour"?)
    "#]],
    );
    check(
        "lxd: {flavour: lxc, upgrade: 1}\n",
        &expect![[r#"
        1:16 error: `flavour` is lxd or incus, not "lxc" (did you mean "lxd"?)
        1:30 error: `upgrade` is true or false, not "1"
    "#]],
    );
    check(
        "lxd: {storage: {driver: zfs}}\n",
        &expect![[r#"
        1:25 error: `driver` is btrfs or dir, not "zfs"
    "#]],
    );
    check(
        "lxd: {storage: {size: 15GB}}\n",
        &expect![[r#"
            1:17 error: a pool with the driver dir has no size of its own (leave the size out, or write `driver: btrfs`)
        "#]],
    );
    check(
        "lxd: {storage: {driver: btrfs, size: 15G}}\n",
        &expect![[r#"
            1:38 error: "15G" is not a size: LXD writes the unit GB
        "#]],
    );
    check(
        "lxd: {storage: {driver: btrfs, size: 1MB}}\n",
        &expect![[r#"
        1:38 error: a pool takes at least 128 MiB
    "#]],
    );
    check(
        "lxd: {remotes: {images: \"http://x\", local: \"https://x.net\", a b: \"https://x.net\"}}\n",
        &expect![[r#"
            1:25 error: "http://x" is not an image server: its URL must begin with https://
            1:37 error: the name "local" means the daemon itself
            1:61 error: "a b" is not an image server name: it holds a space
        "#]],
    );
    check(
        "lxd: {nat: {ipv4: auto}}\n",
        &expect![[r#"
            1:19 error: `auto` picks another network each time the preseed is applied (leave the key out for a fixed network, or write an address such as 10.77.0.1/24)
        "#]],
    );
    check(
        "lxd: {nat: auto}\n",
        &expect![[r#"
        1:12 error: `nat` is a mapping or none, not "auto"
    "#]],
    );
    check(
        "images: {alpine: a.tar.xz}\n",
        &expect![[r#"
        1:18 error: image "alpine" is a mapping (write {file: PATH})
    "#]],
    );
}

#[test]
fn containers() {
    check(
        "containers: {web: alpine}\n",
        &expect![[r#"
            1:19 error: container "web" is a mapping of keys, not a single value (write {image: "alpine"})
        "#]],
    );
    check(
        "containers: [web]\n",
        &expect![[r#"
            1:13 error: `containers` is a mapping, not a list (write each as `NAME: …`, without `- `)
        "#]],
    );
    check(
        "containers: {web: {image: alpine/3.20}}\n",
        &expect![[r#"
            1:27 error: "alpine/3.20" is not an image: an alias with a slash is one of an image server, as images:alpine/3.23
        "#]],
    );
    check(
        "containers: {web: {image: \"images:\"}}\n",
        &expect![[r#"
            1:27 error: "images:" is not an image: of its alias, it is empty
        "#]],
    );
    check(
        "containers: {web: {image: \"images:a\", mac: \"00-16-3e:00-00-01\"}}\n",
        &expect![[r#"
            1:44 error: "00-16-3e:00-00-01" is not a MAC address; write six two-digit hexadecimal numbers with colons
        "#]],
    );
    check(
        "containers: {web: {image: \"images:a\", mac: \"01:16:3e:00:00:01\"}}\n",
        &expect![[r#"
            1:44 error: 01:16:3e:00:00:01 is the address of a group of interfaces (the first byte of an interface's own address is even)
        "#]],
    );
    check(
        "containers: {web: {image: \"images:a\", mac: \"00:00:00:00:00:00\"}}\n",
        &expect![[r#"
            1:44 error: no interface has the address 00:00:00:00:00:00
        "#]],
    );
    check(
        "containers: {web: {image: \"images:a\", replicas: 3}}\n",
        &expect![[r#"
            1:49 error: `replicas` takes the first and the last number (write 1..3)
        "#]],
    );
    check(
        "containers: {web: {image: \"images:a\", replicas: 5..2}}\n",
        &expect![[r#"
            1:49 error: "5..2" is not a range of numbers: it ends before it starts
        "#]],
    );
    check(
        "containers: {web: {image: \"images:a\", files: {etc/motd: x, /a/../b: y}}}\n",
        &expect![[r#"
            1:47 error: "etc/motd" is not an absolute path: it does not start at `/`
            1:57 error: there is no file "x" (names of files begin at the folder of the farm file)
            1:60 error: "/a/../b" is not an absolute path: `.` and `..` are not resolved
            1:69 error: there is no file "y" (names of files begin at the folder of the farm file)
        "#]],
    );
    check("containers: {web: {image: \"images:a\", run: [\"\", {}, {script: a, command: b}, {command: a, timeout: 0s}, [x]]}}\n", &expect![[r#"
        1:45 error: the command is empty
        1:49 error: a step of `run` has neither `script` nor `command`
        1:65 error: a step runs a script or a command, not both
        1:100 error: `timeout` is 0 s, but must be from 1 s to 86400 s
        1:105 error: a step of `run` is a mapping of keys, not a list
    "#]]);
    check(
        "containers: {web: {image: \"images:a\", run: [{command: a, retries: 1000, timeout: 10}]}}\n",
        &expect![[r#"
            1:67 error: `retries` is a whole number from 0 to 100, not "1000"
            1:82 error: "10" is not a duration: it has no unit; write 90s, 10m or 1h
        "#]],
    );
    let farm =
        good("containers: {web: {image: \"images:a\", run: [a, {command: b, retries: 3, timeout: 10m}]}}\n");
    let run = &farm.containers[0].run;
    assert_eq!((run[0].retries, run[0].timeout_seconds), (0, 1800));
    assert_eq!((run[1].retries, run[1].timeout_seconds), (3, 600));
}
