//! What of a base keeps cloud-init from running, or from taking the card's seed, or from doing all that it is for
//! (cloud-init's documentation, "How to disable cloud-init", "ds-identify" and the page on its source for seeds).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{SurveyError, Volumes};
use crate::base::{BaseRefusal, CloudInit, Remains};
use crate::edit::block::ReadAt;
use crate::edit::fs::FileKind;
use crate::edit::tree::{CardPath, Volume};

/// Files that are removed from the card, with what each does.
const IN_THE_WAY: [(&str, &str); 9] = [
    ("etc/cloud/cloud-init.disabled", "turns cloud-init off"),
    (
        "etc/systemd/system-generators/cloud-init-generator",
        "keeps cloud-init from starting",
    ),
    (
        "usr/local/lib/systemd/system-generators/cloud-init-generator",
        "keeps cloud-init from starting",
    ),
    ("var/lib/cloud/seed/nocloud/meta-data", ANOTHER_SEED),
    ("var/lib/cloud/seed/nocloud/user-data", ANOTHER_SEED),
    ("var/lib/cloud/seed/nocloud/vendor-data", ANOTHER_SEED),
    ("var/lib/cloud/seed/nocloud/network-config", ANOTHER_SEED),
    ("var/lib/cloud/seed/nocloud-net/vendor-data", ANOTHER_SEED),
    ("var/lib/cloud/seed/nocloud-net/network-config", ANOTHER_SEED),
];

const ANOTHER_SEED: &str = "is part of another seed of cloud-init";

const DS_IDENTIFY: &str = "etc/cloud/ds-identify.cfg";

/// The settings of packages, and the folder of files that are laid over them. The last file that has a key wins.
const SETTINGS: &str = "etc/cloud/cloud.cfg";
const MORE_SETTINGS: &str = "etc/cloud/cloud.cfg.d";

/// The last of palmfarm's own files there, and the keys that they set.
const OURS: &str = "99-palmfarm-seed.cfg";
const SET_BY_US: [&str; 3] = ["datasource", "datasource_list", "network"];

/// Keys with which cloud-init lets somebody in, runs something or ends the first boot. What a card's own seed has in their
/// place would not hold: it has none of them.
const ACTS: [&str; 15] = [
    "autoinstall",
    "bootcmd",
    "chpasswd",
    "disk_setup",
    "fs_setup",
    "password",
    "power_state",
    "runcmd",
    "snap",
    "ssh_authorized_keys",
    "ssh_genkeytypes",
    "ssh_import_id",
    "ssh_keys",
    "user",
    "write_files",
];

/// The lists of modules, one for each stage.
const STAGES: [&str; 3] = [
    "cloud_init_modules",
    "cloud_config_modules",
    "cloud_final_modules",
];

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) settings: CloudInit,
    pub(super) remains: Vec<Remains>,
    pub(super) refusals: Vec<BaseRefusal>,
}

pub(super) fn survey<M: ReadAt + Clone + 'static>(volumes: &Volumes<M>) -> Result<Found, SurveyError> {
    let mut found = Found::default();
    for (path, what) in IN_THE_WAY {
        let Some(stat) = volumes.stat(path)? else {
            continue;
        };
        let path = CardPath::new(path)?;
        if stat.kind == FileKind::Dir {
            let hint = "remove the folder";
            found.refusals.push(BaseRefusal::InTheWay { path, what, hint });
        } else {
            found.remains.push(Remains { path, what });
        }
    }
    if let Some(config) = volumes.text(Volume::Root, DS_IDENTIFY)? {
        if misleads(&config.text) {
            let what = "keeps cloud-init from finding its seed";
            let path = CardPath::new(DS_IDENTIFY)?;
            found.remains.push(Remains { path, what });
        }
    }
    let instances = volumes.names("var/lib/cloud/instances")?;
    found.settings.instances = instances.into_iter().collect();
    // For each stage, what the last file that lists its modules lists.
    let mut stages: [Option<BTreeSet<String>>; 3] = [const { None }; 3];
    for (path, value) in settings(volumes)? {
        for (stage, key) in stages.iter_mut().zip(STAGES) {
            *stage = value.get(key).map(modules).or(stage.take());
        }
        let keys = acts(&value);
        if !keys.is_empty() {
            let path = path.clone();
            found.refusals.push(BaseRefusal::CloudSettings { path, keys });
        }
        let keys: Vec<_> = SET_BY_US
            .into_iter()
            .filter(|key| value.get(key).is_some())
            .collect();
        if path.name() > OURS && !keys.is_empty() && path.as_str() != format!("/{SETTINGS}") {
            found.refusals.push(BaseRefusal::OverruledSettings { path, keys });
        }
    }
    if stages.iter().any(Option::is_some) {
        found.settings.modules = Some(stages.into_iter().flatten().flatten().collect());
    }
    Ok(found)
}

/// The keys in `settings` of which a card must not have the effect.
fn acts(settings: &Value) -> Vec<&'static str> {
    let off = |value: &Value| *value == Value::Bool(false) || value == "off";
    let unlike_stock = [
        ("growpart", settings["growpart"].get("mode").is_some_and(off)),
        (
            "preserve_hostname",
            settings["preserve_hostname"] == Value::Bool(true),
        ),
        ("resize_rootfs", off(&settings["resize_rootfs"])),
    ];
    let acts = ACTS.into_iter().filter(|key| settings.get(key).is_some());
    acts.chain(
        unlike_stock
            .into_iter()
            .filter_map(|(key, is_odd)| is_odd.then_some(key)),
    )
    .collect()
}

/// The files of settings in the order in which cloud-init lays them over each other. What is not YAML has no settings.
fn settings<M: ReadAt + Clone + 'static>(
    volumes: &Volumes<M>,
) -> Result<Vec<(CardPath, Value)>, SurveyError> {
    let mut paths = vec![SETTINGS.to_owned()];
    for name in volumes.names(MORE_SETTINGS)? {
        if name.strip_suffix(".cfg").is_some() {
            paths.push(format!("{MORE_SETTINGS}/{name}"));
        }
    }
    let mut all = Vec::new();
    for path in paths {
        let Some(found) = volumes.text(Volume::Root, &path)? else {
            continue;
        };
        if let Ok(value) = serde_yaml::from_str(&found.text) {
            all.push((found.path, value));
        }
    }
    Ok(all)
}

/// The names in a list of modules: of each item, which may itself be a list of name and frequency.
fn modules(list: &Value) -> BTreeSet<String> {
    let name = |item: &Value| {
        let name = item.as_str().or_else(|| item.get(0)?.as_str())?;
        Some(name.replace('-', "_"))
    };
    list.as_array().into_iter().flatten().filter_map(name).collect()
}

/// Whether ds-identify.cfg turns cloud-init off, or names a source of settings.
fn misleads(config: &str) -> bool {
    let lines = config.lines().map(str::trim_start);
    lines.filter_map(|line| line.split_once(':')).any(|(key, value)| {
        let value = value.trim_start();
        key == "datasource" || key == "policy" && value.starts_with("disabled")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_names_in_each_form() {
        let list: Value = serde_yaml::from_str("[users-groups, [ssh, always], {a: 1}, 7, locale]").unwrap();
        let found: Vec<String> = modules(&list).into_iter().collect();
        assert_eq!(found, ["locale", "ssh", "users_groups"]);
        assert!(modules(&Value::Null).is_empty());
    }

    #[test]
    fn settings_act_on_every_card() {
        let check = |text: &str, expect: &[&str]| {
            assert_eq!(acts(&serde_yaml::from_str(text).unwrap()), expect, "{text}");
        };
        check(
            "chpasswd: {expire: false, list: 'root:secret'}\npower_state: {mode: poweroff}\n",
            &["chpasswd", "power_state"],
        );
        check(
            "growpart: {mode: off}\nresize_rootfs: false\npreserve_hostname: true\n",
            &["growpart", "preserve_hostname", "resize_rootfs"],
        );
        check(
            "growpart: {mode: auto}\nresize_rootfs: noblock\npreserve_hostname: false\nntp: {}\n",
            &[],
        );
        check("[]\n", &[]);
    }

    #[test]
    fn ds_identify_misleads_by_policy_or_source() {
        assert!(misleads("policy: disabled\n"));
        assert!(misleads("# x\n datasource: Ec2\n"));
        assert!(!misleads(
            "policy: search,found=all,maybe=all,notfound=disabled\n"
        ));
        assert!(!misleads("#policy: disabled\n"));
    }
}
