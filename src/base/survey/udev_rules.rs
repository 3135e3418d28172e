//! What a file of rules for udev does to the names of interfaces (udev(7)). It reads no file itself.

use std::collections::BTreeSet;

use super::unbroken;

/// One `KEY OPERATOR "VALUE"` of a rule.
struct Part<'a> {
    key: &'a str,
    operator: &'a str,
    value: &'a str,
}

/// The names that `text` may give to interfaces. What is not certainly about something else may be about them.
pub(super) fn given_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // The label to which interfaces go on from a rule.
    let mut on_to: Option<String> = None;
    for line in unbroken(text).lines().map(str::trim_start) {
        if line.starts_with('#') {
            continue;
        }
        let rule = parts(line);
        let value = |key: &str| rule.iter().find(|part| part.key == key).map(|part| part.value);
        if on_to.is_some() && value("LABEL") == on_to.as_deref() {
            on_to = None;
        }
        if on_to.is_some() {
            continue;
        }
        if value("GOTO").is_some() && takes_interfaces(&rule) {
            on_to = value("GOTO").map(str::to_owned);
            continue;
        }
        let given = rule.iter().filter(|part| part.key == "NAME" && !is_match(part));
        // udev's own rule gives the name that the .link files have chosen; no interface has a slash in its name.
        let given = given.filter(|part| part.value != "$env{ID_NET_NAME}" && !part.value.contains('/'));
        if may_be_of_interfaces(&rule) {
            names.extend(given.map(|part| part.value.to_owned()));
        }
    }
    names
}

/// Whether a rule, which has a GOTO, takes every interface on to its label.
fn takes_interfaces(rule: &[Part<'_>]) -> bool {
    let mut others = rule.iter().filter(|part| part.key != "GOTO");
    let takes = |part: &Part<'_>| part.key == "SUBSYSTEM" && is_net(part.value) == (part.operator == "==");
    others.all(takes)
}

/// Whether a rule may be for the uplink, as far as it says for what it is.
fn may_be_of_interfaces(rule: &[Part<'_>]) -> bool {
    rule.iter()
        .filter(|part| is_match(part))
        .all(|part| match part.key {
            "SUBSYSTEM" => is_net(part.value) == (part.operator == "=="),
            "KERNEL" if part.operator == "==" => part.value.split('|').any(is_like_an_uplink),
            _ => true,
        })
}

fn is_match(part: &Part<'_>) -> bool {
    matches!(part.operator, "==" | "!=")
}

/// Whether a pattern for a subsystem matches that of interfaces.
fn is_net(pattern: &str) -> bool {
    pattern
        .split('|')
        .any(|one| one == "net" || one.contains(['*', '?', '[']))
}

/// Whether a pattern for a name matches `eth0`, or a name that udev gives.
fn is_like_an_uplink(pattern: &str) -> bool {
    let beginning = pattern.split(['*', '?', '[']).next().unwrap_or_default();
    ["en", "eth"]
        .iter()
        .any(|name| beginning.starts_with(name) || name.starts_with(beginning))
}

/// The parts of a rule.
fn parts(rule: &str) -> Vec<Part<'_>> {
    let mut found = Vec::new();
    let mut rest = rule;
    while let Some((head, after)) = rest.split_once('"') {
        let mut ends = after.match_indices('"').map(|(at, _)| after.split_at(at));
        let Some((value, end)) = ends.find(|(value, _)| !value.ends_with('\\')) else {
            break;
        };
        rest = end.get(1..).unwrap_or_default();
        // A letter before the value says how it is written, or matched.
        let head = head.trim_start_matches([',', ' ', '\t']).trim_end();
        let letter = head.strip_suffix(['e', 'i']).filter(|head| head.ends_with('='));
        let head = letter.unwrap_or(head);
        let key = head.trim_end_matches(['=', '!', '+', '-', ':']);
        let operator = head.get(key.len()..).unwrap_or_default();
        let key = key.trim_end();
        found.push(Part { key, operator, value });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        let found = given_names(text);
        assert_eq!(
            found.iter().map(String::as_str).collect::<Vec<_>>(),
            expect,
            "{text}"
        );
    }

    #[test]
    fn rules_give_names_to_interfaces() {
        check(
            "SUBSYSTEM==\"net\", ACTION==\"add\", ATTR{address}==\"b8:27:eb:00:00:01\", NAME=\"lan0\"",
            &["lan0"],
        );
        check("SUBSYSTEM==\"net\", NAME:=\"lan0\"", &["lan0"]);
        check("SUBSYSTEM==\"net\", \\\n  NAME=\"lan0\"\n", &["lan0"]);
        check("KERNEL==\"eth*\", NAME=\"lan%n\"\n", &["lan%n"]);
        check("KERNEL==i\"ETH*|eth0\", NAME = \"lan0\"\n", &["lan0"]);
        check("ATTR{address}==\"b8:27:eb:00:00:01\", NAME=\"lan0\"\n", &["lan0"]);
        check(
            "SUBSYSTEM!=\"net\", GOTO=\"end\"\nDRIVERS==\"lan78xx\", NAME=\"lan0\"\nLABEL=\"end\"\n",
            &["lan0"],
        );
        check(
            "PROGRAM=\"/bin/sh -c 'echo \\\"a, b\\\"'\", NAME=\"$result\"\n",
            &["$result"],
        );
    }

    #[test]
    fn rules_for_something_else_do_not() {
        check("SUBSYSTEM==\"net\", NAME==\"eth0\", RUN+=\"x\"", &[]);
        check("SUBSYSTEM==\"net\", ENV{ID_NET_NAME}=\"x\"", &[]);
        check("KERNEL==\"sda\", NAME=\"disk\"", &[]);
        check("# SUBSYSTEM==\"net\", NAME=\"lan0\"", &[]);
        check("SUBSYSTEM!=\"net\", NAME=\"x\"", &[]);
        check(
            "SUBSYSTEM!=\"block\", GOTO=\"end\"\nATTR{size}==\"1\", NAME=\"x\"\nLABEL=\"end\"\n",
            &[],
        );
        check(
            "SUBSYSTEM==\"net\", GOTO=\"end\"\nNAME=\"x\"\nLABEL=\"end\"\nKERNEL==\"e*\", NAME=\"y\"\n",
            &["y"],
        );
        // What systemd and device-mapper have.
        check(
            "SUBSYSTEM!=\"net\", GOTO=\"net_setup_link_end\"\nIMPORT{builtin}=\"path_id\"\n\
             ACTION==\"remove\", GOTO=\"net_setup_link_end\"\nIMPORT{builtin}=\"net_setup_link\"\n\
             NAME==\"\", ENV{ID_NET_NAME}!=\"\", NAME=\"$env{ID_NET_NAME}\"\nLABEL=\"net_setup_link_end\"\n",
            &[],
        );
        check("KERNEL==\"device-mapper\", NAME=\"mapper/control\"\n", &[]);
    }
}
