//! What a farm should know of the release that it is made from.

use expect_test::expect;

use super::{check, good};

#[test]
fn docker_in_containers_of_old_releases() {
    let farm = |base: &str, lxd: &str, container: &str| {
        format!("base: {base}\nlxd: {{{lxd}}}\ncontainers: {{d: {{image: \"images:a\", {container}}}}}\n")
    };
    check(
        &farm("ubuntu-20.04-arm64", "", "nesting: true"),
        &expect![[r#"
            3:37 warning: a current Docker does not start in containers of the LXD 4.0 that ubuntu-20.04-arm64 comes with (take ubuntu-22.04 or a later base if Docker will run in it)
        "#]],
    );
    check(
        &farm("ubuntu-22.04-arm64", "", "nesting: true"),
        &expect![[r#"
            3:37 warning: a current Docker does not start in containers of the LXD 5.0 that ubuntu-22.04-arm64 comes with (write `lxd: {upgrade: true}`, which brings LXD 5.0.6 or later)
        "#]],
    );
    good(&farm("ubuntu-22.04-arm64", "upgrade: true", "nesting: true"));
    good(&farm("ubuntu-22.04-arm64", "", "nesting: false"));
    good(&farm("ubuntu-24.04-arm64", "", "nesting: true"));
}

#[test]
fn nics_whose_modules_a_kernel_lacks() {
    let farm = |base: &str, more: &str| {
        format!(
            "base: {base}\n{more}containers: {{c: {{image: \"images:a\", devices: {{eth0: {{type: nic, nictype: macvlan, parent: eth0}}}}}}}}\n\
             network: {{bridge: none}}\n"
        )
    };
    check(
        &farm("ubuntu-22.04-arm64", ""),
        &expect![[r#"
        2:74 warning: the kernel of ubuntu-22.04-arm64 has no module for macvlan (write `nictype: bridged`, or `packages: [linux-modules-extra-raspi]` and restart the Pi when it is installed)
    "#]],
    );
    good(&farm(
        "ubuntu-22.04-arm64",
        "packages: [linux-modules-extra-raspi]\n",
    ));
    good(&farm("ubuntu-24.04-arm64", ""));
    good(&farm("ubuntu-20.04-arm64", ""));
}

#[test]
fn old_names_of_time_zones() {
    check(
        "base: ubuntu-24.04-arm64\ntimezone: US/Pacific\n",
        &expect![[r#"
        2:11 warning: "US/Pacific" is an old name, which the base does not know (write America/Los_Angeles; with the old name the clock stays at UTC)
    "#]],
    );
    good("base: ubuntu-24.04-arm64\ntimezone: America/Los_Angeles\n");
    good("base: ubuntu-22.04-arm64\ntimezone: US/Pacific\n");
}

#[test]
fn accounts_and_groups_of_the_base() {
    let users = "users: [{name: admin, ssh_keys: [ANY_KEY]}, {name: polkitd, ssh_keys: [ANY_KEY]}]\n";
    // Nobody knows whether Ubuntu's later images have the group. The image itself tells, once it is opened.
    good("base: ubuntu-26.04-arm64\nusers: [{name: admin, ssh_keys: [ANY_KEY]}]\n");
    check(
        &format!("base: ubuntu-22.04-armhf\n{users}"),
        &expect![[r#"
            2:16 error: "admin" is a group of the system itself (useradd makes a group of the user's name, so it would refuse)
            2:138 error: "polkitd" is an account of the system itself
        "#]],
    );
    check(
        "users: [{name: nina, ssh_keys: [ANY_KEY], groups: [lxdd, docker, gpio, nina]}]\n",
        &expect![[r#"
            1:138 warning: the base has no group "lxdd" (did you mean "lxd"?)
            1:144 warning: the base has no group "docker" (Docker runs in containers here; on the Pi itself it is a package: `packages: [docker.io]`)
            1:152 warning: the base has no group "gpio" (cloud-init makes an empty one, which nothing in the base uses)
        "#]],
    );
    good(
        "packages: [docker.io]\nusers: [{name: nina, ssh_keys: [ANY_KEY], groups: [docker, adm, netdev]}]\n",
    );
}
