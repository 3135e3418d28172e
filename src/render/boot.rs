//! The kernel command line and the firmware's configuration: edited, not replaced.

use crate::farm::decode::boot as rules;
use crate::farm::Boot;
use minijinja::context;

use super::builder::TreeBuilder;
use super::{RenderError, UNDONE};
use crate::base::{Arch, BaseFacts, BaseRefusal};
use crate::edit::tree::Volume;
use crate::plan::CardPlan;

/// Keys that say something more each time they appear (kernel-parameters.txt; systemd's kernel-command-line(7)).
const REPEATED: [&str; 8] = [
    "cgroup_disable",
    "cgroup_enable",
    "console",
    "earlycon",
    "modprobe.blacklist",
    "systemd.mask",
    "systemd.setenv",
    "systemd.wants",
];

/// Plan both.
pub(super) fn render(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    cmdline(build, plan, base)?;
    config(build, plan, base)
}

fn cmdline(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    let declared = &plan.boot.cmdline;
    let Some(cmdline) = &base.cmdline else {
        return if declared.is_empty() {
            Ok(())
        } else {
            Err(RenderError::NoCmdline {
                release: base.release.clone(),
                words: declared.len(),
            })
        };
    };
    let text = merge(&cmdline.text, &words(&plan.boot), &|word| is_undone(word, plan))?;
    let most = rules::longest_cmdline(base.arch == Arch::Armhf);
    let bytes = text.lines().next().map_or(0, str::len);
    if bytes > most {
        return Err(RenderError::CmdlineLength { bytes, most });
    }
    let path = cmdline.path.as_str();
    let first = cmdline.text.lines().next().unwrap_or_default();
    let (_, undone) = divided(first, &|word| is_undone(word, plan));
    let undone: Vec<&str> = undone.into_iter().map(name_of).collect();
    let origin = if undone.is_empty() {
        "farm.yaml boot".to_owned()
    } else {
        format!("{UNDONE}the base sets {}", undone.join(", "))
    };
    build.public(Volume::Boot, path, &text, &origin)
}

/// The declared words, after those without which `limits.memory` does nothing on a Pi.
fn words(boot: &Boot) -> Vec<String> {
    let declares = |key: &str| boot.cmdline.iter().any(|word| key_of(word) == key);
    let about_memory = |key: &str| {
        boot.cmdline
            .iter()
            .filter_map(|word| word.split_once('='))
            .any(|(k, value)| k == key && value.split(',').any(|controller| controller == "memory"))
    };
    let mut words = Vec::new();
    if !about_memory("cgroup_enable") && !about_memory("cgroup_disable") {
        words.push("cgroup_enable=memory".into());
    }
    if !declares("cgroup_memory") {
        words.push("cgroup_memory=1".into());
    }
    words.extend(boot.cmdline.iter().cloned());
    words
}

/// Put `words` into the first line of `text`, which is all that the firmware reads. A word that is there stays where it
/// is, one with another value takes the new one, and what is new goes to the end.
///
/// A word of the base for which `undone` holds goes.
fn merge(text: &str, words: &[String], undone: &dyn Fn(&str) -> bool) -> Result<String, RenderError> {
    // A byte order mark of an editor would be a part of the first word.
    let text = text.trim_start_matches('\u{feff}');
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (mut line, _) = divided(first, undone);
    for word in words {
        rules::word(word).map_err(|why| RenderError::CmdlineWord {
            word: word.clone(),
            why,
        })?;
        if line.contains(&word.as_str()) {
            continue;
        }
        let key = key_of(word);
        let there = line.iter().position(|there| key_of(there) == key);
        match there.filter(|_| !REPEATED.contains(&key)) {
            Some(there) => {
                // Only one of several can be meant; the kernel took the last.
                let mut at = 0_usize;
                line.retain(|one| {
                    let keep = at <= there || key_of(one) != key;
                    at = at.saturating_add(1);
                    keep
                });
                if let Some(slot) = line.get_mut(there) {
                    *slot = word;
                }
            }
            None => line.push(word),
        }
    }
    Ok(format!("{}\n{rest}", line.join(" ")))
}

/// The words of `line` that stay, and those that go: words for which `undone` holds, and what cloud-init would take for
/// settings.
fn divided<'a>(line: &'a str, undone: &dyn Fn(&str) -> bool) -> (Vec<&'a str>, Vec<&'a str>) {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (mut stay, mut go) = (Vec::new(), Vec::new());
    let mut words = words.as_slice();
    while let [word, rest @ ..] = words {
        words = rest;
        if rules::begins_settings(word) {
            go.push(*word);
            // Without an end they go on to the end of the line. What the kernel needs there stays.
            let is_end = |word: &&str| word.contains(rules::END_OF_SETTINGS);
            let end = rest.iter().position(is_end).filter(|_| !is_end(word));
            words = end.and_then(|end| rest.get(end + 1..)).unwrap_or(rest);
        } else if undone(word) {
            go.push(*word);
        } else {
            stay.push(*word);
        }
    }
    (stay, go)
}

/// A word that goes, as the plan shows it.
fn name_of(word: &str) -> &str {
    if rules::begins_settings(word) {
        "cc:"
    } else {
        key_of(word)
    }
}

/// Whether a word of the base's would turn off what the card needs, or take the place of what it has: cloud-init or its
/// seed, IPv6, a unit, its network or its names.
fn is_undone(word: &str, plan: &CardPlan) -> bool {
    word == "cloud-init=disabled"
        || rules::supplants(word).is_some()
        || rules::steers_systemd(word)
        || (rules::turns_ipv6_off(word) && super::undo::wants_ipv6(plan))
}

/// Why the kernel that the base and the farm together describe would not start this card's system.
pub(super) fn hindrances(plan: &CardPlan, base: &BaseFacts) -> Vec<BaseRefusal> {
    let Some(Ok(text)) = base
        .cmdline
        .as_ref()
        .map(|cmdline| merge(&cmdline.text, &words(&plan.boot), &|word| is_undone(word, plan)))
    else {
        return Vec::new();
    };
    let first = text.lines().next().unwrap_or_default();
    let is_declared = |word: &&str| plan.boot.cmdline.iter().any(|declared| declared == word);
    let of_the_base = first.split(' ').filter(|word| !is_declared(word));
    let mut found: Vec<_> = of_the_base
        .filter_map(|word| {
            let (word, why) = (word.to_owned(), rules::stops(word)?);
            Some(BaseRefusal::KernelWord { word, why })
        })
        .collect();
    let root = first.split(' ').rev().find_map(|word| word.strip_prefix("root="));
    match (root, base.names.root.first()) {
        (Some(root), Some(name))
            if super::fstab::is_name(root) && !super::fstab::has(&base.names.root, root) =>
        {
            found.push(BaseRefusal::NoSuchRoot {
                word: format!("root={root}"),
                root: name.clone(),
            });
        }
        (None, Some(name)) => found.push(BaseRefusal::NoRoot { root: name.clone() }),
        _ => {}
    }
    found
}

fn key_of(word: &str) -> &str {
    word.split_once('=').map_or(word, |(key, _)| key)
}

fn config(build: &mut TreeBuilder, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    let config = &plan.boot.config;
    if config.is_empty() {
        return Ok(());
    }
    let Some(there) = &base.config else {
        return Err(RenderError::NoConfig {
            release: base.release.clone(),
            lines: config.len(),
        });
    };
    for line in config {
        rules::config_line(line).map_err(|why| RenderError::ConfigLine {
            line: line.clone(),
            why,
        })?;
    }
    // What somebody appends later is for every Pi, as it is without our lines.
    let is_open = config.iter().rev().find_map(|line| rules::section_name(line));
    let is_open = is_open.is_some_and(|name| name != "all");
    let path = there.path.as_str();
    let ours = build.text("boot/config.txt", path, context! { config, is_open })?;
    let gap = if there.text.is_empty() || there.text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let text = format!("{}{gap}{ours}", there.text);
    build.public(Volume::Boot, path, &text, "farm.yaml boot")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, declared: &[&str], expect: &str) {
        let boot = Boot {
            cmdline: declared.iter().map(|word| (*word).into()).collect(),
            ..Boot::default()
        };
        assert_eq!(
            merge(text, &words(&boot), &|word| word == "gone").unwrap(),
            expect,
            "{declared:?}"
        );
    }

    #[test]
    fn words_are_merged() {
        check("a b=1\n", &[], "a b=1 cgroup_enable=memory cgroup_memory=1\n");
        check("a b=1", &[], "a b=1 cgroup_enable=memory cgroup_memory=1\n");
        check("", &[], "cgroup_enable=memory cgroup_memory=1\n");
        // Once there, it stays.
        let done = "a b=1 cgroup_enable=memory cgroup_memory=1\n";
        check(done, &[], done);
        // Declared otherwise, it is as declared.
        check(
            "a\n",
            &["cgroup_disable=memory", "cgroup_memory=0"],
            "a cgroup_disable=memory cgroup_memory=0\n",
        );
        check(
            "a\n",
            &["cgroup_enable=cpuset,memory"],
            "a cgroup_memory=1 cgroup_enable=cpuset,memory\n",
        );
        check(
            "a\n",
            &["cgroup_enable=cpuset"],
            "a cgroup_enable=memory cgroup_memory=1 cgroup_enable=cpuset\n",
        );
        // Another value takes the place of the old one, of all old ones.
        check(
            "x=1 a x=2 b\n",
            &["x=3"],
            "x=3 a b cgroup_enable=memory cgroup_memory=1\n",
        );
        check(
            "console=tty1 a\n",
            &["console=ttyS0"],
            "console=tty1 a cgroup_enable=memory cgroup_memory=1 console=ttyS0\n",
        );
        // What is undone goes, and so does an editor's mark.
        check(
            "\u{feff}a gone\r\n",
            &[],
            "a cgroup_enable=memory cgroup_memory=1\n",
        );
        check(
            "a cc:{b:c}end_cc d cc: b: [e, f] end_cc gone g\n",
            &[],
            "a d g cgroup_enable=memory cgroup_memory=1\n",
        );
        check(
            "a cc:{b:c} root=d\n",
            &[],
            "a root=d cgroup_enable=memory cgroup_memory=1\n",
        );
        // What the firmware does not read is left alone.
        check("a\n# b\n", &[], "a cgroup_enable=memory cgroup_memory=1\n# b\n");
    }

    #[test]
    fn a_word_is_a_word() {
        for bad in ["", "a b", "a\nb", "a\tb", "a=\"b\"", "ä"] {
            assert!(merge("a\n", &[bad.into()], &|_| false).is_err(), "{bad:?}");
        }
    }
}
