//! What of a base keeps cloud-init from running, or from taking the card's seed, or from doing all that it is for
//! (cloud-init's documentation, "How to disable cloud-init", "ds-identify" and the page on its source for seeds).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{cloud_keys, SurveyError, View};
use crate::base::{BaseRefusal, CloudInit, CloudSettings, Remains};
use crate::edit::fs::FileKind;
use crate::edit::tree::{CardPath, Volume};

/// Files that are removed from the card, with what each does.
pub(super) const IN_THE_WAY: [(&str, &str); 8] = [
    ("etc/cloud/cloud-init.disabled", "turns cloud-init off"),
    // What growpart of cloud-init heeds, and growroot of the initial ramdisk's cloud-initramfs-growroot.
    ("etc/growroot-disabled", "keeps the root filesystem from growing"),
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

/// The lists of modules, one for each stage.
const STAGES: [&str; 3] = [
    "cloud_init_modules",
    "cloud_config_modules",
    "cloud_final_modules",
];

/// What only a base has: the modules that cloud-init would run, and what it remembers.
pub(super) fn own(volumes: &View<'_>) -> Result<CloudInit, SurveyError> {
    // For each stage, what the last file that lists its modules lists.
    let mut stages: [Option<BTreeSet<String>>; 3] = [const { None }; 3];
    for value in files(volumes)?.into_iter().filter_map(|(_, value)| value) {
        for (stage, key) in stages.iter_mut().zip(STAGES) {
            *stage = value.get(key).map(modules).or(stage.take());
        }
    }
    let is_listed = stages.iter().any(Option::is_some);
    let instances = volumes.names("var/lib/cloud/instances")?;
    Ok(CloudInit {
        modules: is_listed.then(|| stages.into_iter().flatten().flatten().collect()),
        instances: instances.into_iter().collect(),
    })
}

/// Folders in the place of files that are removed.
pub(super) fn folders(volumes: &View<'_>) -> Result<Vec<BaseRefusal>, SurveyError> {
    let mut found = Vec::new();
    for (path, what) in IN_THE_WAY {
        if volumes.stat(path)?.is_some_and(|stat| stat.kind == FileKind::Dir) {
            let (path, hint) = (CardPath::new(path)?, "remove the folder");
            found.push(BaseRefusal::InTheWay { path, what, hint });
        }
    }
    Ok(found)
}

/// Files of settings of which palmfarm does not know what cloud-init would make.
pub(super) fn unreadable(volumes: &View<'_>) -> Result<Vec<BaseRefusal>, SurveyError> {
    let unread = files(volumes)?.into_iter().filter(|(_, value)| value.is_none());
    let refusal = |(path, _)| BaseRefusal::InTheWay {
        path,
        what: "is not YAML that palmfarm can read, so it does not know what cloud-init would do",
        hint: "remove",
    };
    Ok(unread.map(refusal).collect())
}

/// The file by which ds-identify(8) looks for the seed elsewhere, or not at all.
pub(super) fn misled(volumes: &View<'_>) -> Result<Option<Remains>, SurveyError> {
    let config = volumes.text(Volume::Root, DS_IDENTIFY)?;
    Ok(config
        .filter(|config| misleads(&config.text))
        .map(|config| Remains {
            path: config.path,
            what: "keeps cloud-init from finding its seed",
        }))
}

/// The files of settings with keys that a card depends on.
pub(super) fn settings(volumes: &View<'_>) -> Result<Vec<CloudSettings>, SurveyError> {
    let mut found = Vec::new();
    for (path, value) in files(volumes)? {
        let Some(value) = value else { continue };
        let has = |key: &&str| value.get(key).is_some();
        let comes_later = path.name() > OURS && path.as_str() != format!("/{SETTINGS}");
        let overrules = SET_BY_US.into_iter().filter(|key| comes_later && has(key));
        let odd = cloud_keys::odd(&value).into_iter();
        let (withholds, acts) = odd.partition(|key| cloud_keys::withholds(key));
        let settings = CloudSettings {
            acts,
            withholds,
            overrules: overrules.collect(),
            path,
        };
        if !(settings.acts.is_empty() && settings.withholds.is_empty() && settings.overrules.is_empty()) {
            found.push(settings);
        }
    }
    Ok(found)
}

/// The files of settings in the order in which cloud-init lays them over each other; `None`: it cannot be read. Python's
/// reader is another one, so such a file need not be without settings.
fn files(volumes: &View<'_>) -> Result<Vec<(CardPath, Option<Value>)>, SurveyError> {
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
        let value = parsed(&found.text).filter(|_| !is_template(&found.text));
        all.push((found.path, value));
    }
    Ok(all)
}

/// A file of settings, as Python's reader has it: merge keys (`<<`) are followed, and of a key that comes twice the last
/// counts.
pub(super) fn parsed(text: &str) -> Option<Value> {
    let merged = || {
        let mut value: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
        value.apply_merge().ok()?;
        serde_yaml::from_value(value).ok()
    };
    // Only the reader of plain values takes a key twice.
    merged().or_else(|| serde_yaml::from_str(text).ok())
}

/// Whether cloud-init fills in what it knows of the machine before it reads the file (its `templater.py`).
fn is_template(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default().to_lowercase();
    first
        .strip_prefix("##")
        .is_some_and(|rest| rest.trim_start().starts_with("template:"))
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
    fn ds_identify_misleads_by_policy_or_source() {
        assert!(misleads("policy: disabled\n"));
        assert!(misleads("# x\n datasource: Ec2\n"));
        assert!(!misleads(
            "policy: search,found=all,maybe=all,notfound=disabled\n"
        ));
        assert!(!misleads("#policy: disabled\n"));
    }
}
