//! Hints that say what to write: it is written, and then there is nothing more to say.

use crate::{brief, completed, good, read};

/// The hint of the one problem of a farm with `lines`, which say the wrong thing.
#[track_caller]
fn hint(lines: &str) -> String {
    let said = brief(&read(&completed(lines)));
    let mut problems = said.lines();
    let (only, more) = (problems.next().unwrap_or_default(), problems.next());
    assert_eq!(more, None, "{said}");
    let (_, hint) = only.split_once(" (").unwrap();
    hint.strip_suffix(')').unwrap().to_owned()
}

/// Where a list should be, `value` is a single value; the hint says to write `expect` in its place.
#[track_caller]
fn list(farm: &str, value: &str, expect: &str) {
    let hint = hint(&farm.replace("VALUE", value));
    assert_eq!(hint, format!("write {expect}"), "{value}");
    good(&farm.replace("VALUE", expect));
}

#[test]
fn a_single_value_is_split_as_it_was_meant() {
    list("packages: VALUE\n", "git", r#"["git"]"#);
    list("packages: VALUE\n", "\"git,curl,\"", r#"["git", "curl"]"#);
    list("packages: VALUE\n", "git curl", r#"["git", "curl"]"#);
    list(
        "boot: {cmdline: VALUE}\n",
        "\"quiet modprobe.blacklist=a,b\"",
        r#"["quiet", "modprobe.blacklist=a,b"]"#,
    );
    list(
        "rc_local: VALUE\n",
        "modprobe br_netfilter",
        r#"["modprobe br_netfilter"]"#,
    );
    list(
        "rc_local: VALUE\n",
        "|\n  modprobe br_netfilter\n  echo a, b\n",
        r#"["modprobe br_netfilter", "echo a, b"]"#,
    );
    let run = "containers: {web: {image: \"images:a\", run: VALUE}}\n";
    list(run, "\"apk add nginx\"", r#"["apk add nginx"]"#);
    let chosen =
        "containers: {a: {image: \"images:a\"}, b: {image: \"images:a\"}}\ncards: {palm: {containers: VALUE}}\n";
    list(chosen, "\"a b\"", r#"["a", "b"]"#);
}

#[test]
fn where_no_way_of_splitting_helps_no_list_is_offered() {
    let long = format!("rc_local: {}\n", "x".repeat(300));
    for lines in ["packages: \"a;b\"\n", long.as_str()] {
        assert_eq!(
            hint(lines),
            "begin each item with `- `, also where there is one only",
            "{lines}"
        );
    }
}

#[test]
fn groups_as_cloud_init_takes_them() {
    for groups in ["sudo", "\"sudo, lxd\"", "sudo,lxd", "[sudo, lxd]"] {
        let farm = good(&format!(
            "users:\n  - name: craig\n    ssh_keys: [ANY_KEY]\n    sudo: nopasswd\n    groups: {groups}\n"
        ));
        let expect = if groups == "sudo" {
            &["sudo"][..]
        } else {
            &["sudo", "lxd"]
        };
        assert_eq!(farm.users[0].groups, expect);
    }
    assert_eq!(
        hint("users: [{name: craig, ssh_keys: [ANY_KEY], groups: adm,lxd}]\n"),
        "between { and } a comma ends a value: put a value with commas in quotes, or its words in [ ]"
    );
}

#[test]
fn users_by_name() {
    let said = hint("users: craig\n");
    assert_eq!(said, r#"write [{name: "craig"}]"#);
}

#[test]
fn replicas_by_number() {
    let farm = |value: &str| format!("containers: {{w: {{image: \"images:a\", replicas: {value}}}}}\n");
    assert_eq!(hint(&farm("3")), "write 1..3");
    good(&farm("1..3"));
    for number in ["0", "5000"] {
        let said = brief(&read(&completed(&farm(number))));
        assert!(!said.contains("write 1.."), "{said}");
    }
}

#[test]
fn words_that_turn_off_what_the_farm_declares() {
    let other = hint("boot: {cmdline: [ipv6.disable_ipv6=1]}\n");
    assert_eq!(other, "leave the word out, or write `network: {ipv6: none}`");
    let word = "boot: {cmdline: [ipv6.disable=1]}\n";
    for (more, without) in [
        ("", "network: {ipv6: none}\n"),
        ("lxd: {}\n", "network: {ipv6: none}\nlxd: {nat: {ipv6: none}}\n"),
        (
            "network: {ipv6: none}\nlxd: {}\n",
            "network: {ipv6: none}\nlxd: {nat: {ipv6: none}}\n",
        ),
    ] {
        let said = hint(&format!("{word}{more}"));
        let named: Vec<&str> = said.split('`').skip(1).step_by(2).collect();
        for wanted in named {
            let (section, _) = wanted.split_once(':').unwrap();
            assert!(without.contains(wanted) && without.contains(section), "{said}");
        }
        good(&format!("{word}{without}"));
    }
    good("boot: {cmdline: [ipv6.disable=0]}\n");
    for word in ["cloud-init=disabled", "systemd.mask=systemd-networkd.service"] {
        assert_eq!(
            hint(&format!("boot: {{cmdline: [{word}]}}\n")),
            "leave the word out"
        );
    }
    good("boot: {cmdline: [systemd.mask=apt-daily.timer]}\n");
    for word in ["systemd.unit=rescue.target", "init=/bin/sh", "overlayroot=tmpfs"] {
        assert_eq!(
            hint(&format!("boot: {{cmdline: [\"{word}\"]}}\n")),
            "leave the word out, unless that is meant"
        );
    }
}
