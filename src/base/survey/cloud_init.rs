//! What of a base keeps cloud-init from running, or from taking the card's seed, or from doing all that it is for
//! (cloud-init's documentation, "How to disable cloud-init", "ds-identify" and the page on its source for seeds).

use std::collections::BTreeSet;

use serde_json::Value;

use super::{SurveyError, View};
use crate::base::{BaseRefusal, CloudInit, CloudSettings, Remains};
use crate::edit::fs::FileKind;
use crate::edit::tree::{CardPath, Volume};

/// Files that are removed from the card, with what each does.
pub(super) const IN_THE_WAY: [(&str, &str); 10] = [
    ("etc/cloud/cloud-init.disabled", "turns cloud-init off"),
    // What growpart of cloud-init heeds, and growroot of the initial ramdisk's cloud-initramfs-growroot.
    ("etc/growroot-disabled", "keeps the root filesystem from growing"),
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
const ACTS: [&str; 16] = [
    "autoinstall",
    "bootcmd",
    "chpasswd",
    "disk_setup",
    "fs_setup",
    "mounts",
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

/// What only a base has: the modules that cloud-init would run, and what it remembers.
pub(super) fn own(volumes: &View<'_>) -> Result<CloudInit, SurveyError> {
    // For each stage, what the last file that lists its modules lists.
    let mut stages: [Option<BTreeSet<String>>; 3] = [const { None }; 3];
    for (_, value) in files(volumes)? {
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
        let has = |key: &&str| value.get(key).is_some();
        let comes_later = path.name() > OURS && path.as_str() != format!("/{SETTINGS}");
        let overrules = SET_BY_US.into_iter().filter(|key| comes_later && has(key));
        let settings = CloudSettings {
            acts: ACTS.into_iter().filter(has).collect(),
            withholds: withholds(&value),
            overrules: overrules.collect(),
            path,
        };
        let is_odd = [&settings.acts, &settings.withholds, &settings.overrules]
            .iter()
            .any(|keys| !keys.is_empty());
        if is_odd {
            found.push(settings);
        }
    }
    Ok(found)
}

/// The keys in `settings` that are unlike those of the images.
fn withholds(settings: &Value) -> Vec<&'static str> {
    let is_one_of = |value: &Value, those: &[&str]| those.contains(&plain(value).as_str());
    let is_unlike =
        |key: &str, those: &[&str]| settings.get(key).is_some_and(|value| !is_one_of(value, those));
    let folder = settings["system_info"]["paths"].get("cloud_dir");
    let unlike_stock = [
        ("fqdn", settings.get("fqdn").is_some()),
        (
            "growpart",
            settings
                .get("growpart")
                .is_some_and(|growpart| !grows_root(growpart)),
        ),
        (
            "prefer_fqdn_over_hostname",
            is_one_of(&settings["prefer_fqdn_over_hostname"], &TRUE),
        ),
        (
            "preserve_hostname",
            is_one_of(&settings["preserve_hostname"], &TRUE),
        ),
        (
            "resize_rootfs",
            is_unlike("resize_rootfs", &[&TRUE[..], &["noblock"]].concat()),
        ),
        (
            "system_info.paths.cloud_dir",
            folder.is_some_and(|folder| plain(folder).trim_end_matches('/') != "/var/lib/cloud"),
        ),
    ];
    let odd = unlike_stock.into_iter().filter(|(_, is_odd)| *is_odd);
    odd.map(|(key, _)| key).collect()
}

/// Whether `growpart` of the settings grows the partition of the root filesystem (`cc_growpart.py`).
fn grows_root(growpart: &Value) -> bool {
    let has_mode = |mode: &Value| ["auto", "growpart"].contains(&plain(mode).as_str());
    let has_root = |devices: &Value| {
        devices
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == "/"))
    };
    growpart.is_object()
        && growpart.get("mode").is_none_or(has_mode)
        && growpart.get("devices").is_none_or(has_root)
}

/// What cloud-init takes for true (`is_true` in its `util.py`): it reads YAML 1.1, in which `yes` is the value true and not
/// a text, and then takes the texts for the values.
const TRUE: [&str; 4] = ["1", "on", "true", "yes"];

/// A value of one word as cloud-init compares it: as text, in small letters.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_lowercase(),
        other => other.to_string(),
    }
}

/// The files of settings in the order in which cloud-init lays them over each other. What is not YAML has no settings.
fn files(volumes: &View<'_>) -> Result<Vec<(CardPath, Value)>, SurveyError> {
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
        if let Some(value) = parsed(&found.text) {
            all.push((found.path, value));
        }
    }
    Ok(all)
}

/// A file of settings, as Python's reader has it: merge keys (`<<`) are followed, and of a key that comes twice the last
/// counts.
fn parsed(text: &str) -> Option<Value> {
    let merged = || {
        let mut value: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
        value.apply_merge().ok()?;
        serde_yaml::from_value(value).ok()
    };
    // Only the reader of plain values takes a key twice.
    merged().or_else(|| serde_yaml::from_str(text).ok())
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
            let value = parsed(text).unwrap();
            let acts = ACTS.into_iter().filter(|key| value.get(key).is_some());
            let found: Vec<_> = acts.chain(withholds(&value)).collect();
            assert_eq!(found, expect, "{text}");
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
        // YAML 1.1, and texts that cloud-init takes for values.
        for off in ["no", "off", "False", "'OFF'", "0", "maybe", "", "null"] {
            check(&format!("resize_rootfs: {off}\n"), &["resize_rootfs"]);
            check(&format!("growpart: {{mode: {off}}}\n"), &["growpart"]);
        }
        for on in ["yes", "on", "True", "1", "'yes'"] {
            check(&format!("resize_rootfs: {on}\n"), &[]);
            check(&format!("preserve_hostname: {on}\n"), &["preserve_hostname"]);
        }
        check("growpart: {mode: growpart, devices: [/, /srv]}\n", &[]);
        check("growpart: {devices: [/srv]}\n", &["growpart"]);
        check("growpart:\n", &["growpart"]);
        check(
            "fqdn: a.example\nprefer_fqdn_over_hostname: yes\n",
            &["fqdn", "prefer_fqdn_over_hostname"],
        );
        check(
            "system_info: {distro: ubuntu, paths: {cloud_dir: /var/lib/cloud/}}\n",
            &[],
        );
        check(
            "system_info: {paths: {cloud_dir: /srv/cloud}}\n",
            &["system_info.paths.cloud_dir"],
        );
        check("common: &common {runcmd: [halt]}\n<<: *common\n", &["runcmd"]);
        check("runcmd: [a]\nruncmd: [b]\n", &["runcmd"]);
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
