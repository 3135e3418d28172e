//! Which keys of cloud-init's settings a base may have: those of Ubuntu's own files, and those that change nothing for a
//! card's seed. Whatever else is there is told of by its name. It reads no file itself.

use serde_json::{Map, Value};

/// Keys that may have any value, with underscores: those of `cloud.cfg`, `05_logging.cfg` and `99-fake_cloud.cfg` of 18.04
/// to 26.04 (cloud-init's `config/` and debian/cloud-init.postinst, livecd-rootfs), then those that every card's seed sets,
/// and then those that do nothing to users, keys, host name, disk and daemon.
const FINE: [&str; 41] = [
    "_log",
    "apt",
    "cloud_config_modules",
    "cloud_final_modules",
    "cloud_init_modules",
    "datasource_list",
    "log_cfgs",
    "network",
    "output",
    "system_info",
    // The seed.
    "disable_root",
    "hostname",
    "manage_etc_hosts",
    "ssh_pwauth",
    "users",
    // The others.
    "apt_mirror",
    "apt_pipelining",
    "apt_preserve_sources_list",
    "byobu_by_default",
    "def_log_file",
    "disable_ec2_metadata",
    "final_message",
    "grub_dpkg",
    "keyboard",
    "locale",
    "locale_configfile",
    "log_basic",
    "logcfg",
    "mount_default_fields",
    "no_ssh_fingerprints",
    "ntp",
    "ssh",
    "ssh_deletekeys",
    "ssh_fp_console_blacklist",
    "ssh_key_console_blacklist",
    "ssh_quiet_keygen",
    "swap",
    "syslog_fix_perms",
    "timezone",
    "vendor_data",
    "vendor_data2",
];

/// The same in `system_info`.
const FINE_OF_SYSTEM: [&str; 7] = [
    "default_user",
    "network",
    "ntp_client",
    "package_mirrors",
    "paths",
    "ssh_svcname",
    "upstart",
];

/// The same in `system_info.paths`.
const FINE_OF_PATHS: [&str; 4] = ["dhclient_lease", "docs_dir", "templates_dir", "upstart_dir"];

/// What cloud-init takes for true (`is_true` in its `util.py`): it reads YAML 1.1, in which `yes` is the value true and not
/// a text, and then takes the texts for the values.
const TRUE: [&str; 4] = ["1", "on", "true", "yes"];

/// The keys in `settings` that a base may not have, or not with this value.
pub(super) fn odd(settings: &Value) -> Vec<String> {
    let none = Map::new();
    let of = |value: &Value| value.as_object().unwrap_or(&none).clone();
    let mut found = Vec::new();
    for (key, value) in of(settings) {
        if !is_fine(&key, &value) {
            found.push(key);
        }
    }
    for (key, value) in of(&settings["system_info"]) {
        // Which class of distribution makes the users. Debian's is the one that Ubuntu's is made from.
        let is_distro = key == "distro" && is_one_of(&value, &["debian", "ubuntu"]);
        if !is_distro && !FINE_OF_SYSTEM.contains(&key.as_str()) {
            found.push(format!("system_info.{key}"));
        }
    }
    for (key, value) in of(&settings["system_info"]["paths"]) {
        let stock = match key.as_str() {
            "cloud_dir" => "/var/lib/cloud",
            "run_dir" => "/run/cloud-init",
            _ => "",
        };
        let is_stock = !stock.is_empty() && plain(&value).trim_end_matches('/') == stock;
        if !is_stock && !FINE_OF_PATHS.contains(&key.as_str()) {
            found.push(format!("system_info.paths.{key}"));
        }
    }
    // Files are laid over each other key by key, so what palmfarm's own file does not name would stay. With `user-data` and
    // `meta-data` here, or with `seedfrom`, the card's own seed would not count (`DataSourceNoCloud.py`).
    for (key, _) in of(&settings["datasource"]["NoCloud"]) {
        if key != "fs_label" {
            found.push(format!("datasource.NoCloud.{key}"));
        }
    }
    found.sort();
    found
}

/// Whether the odd key `key` takes from a card what every card has, whoever set it: its seed, its host name, or the size of
/// its root filesystem. The others act beside that.
pub(super) fn withholds(key: &str) -> bool {
    let known = [
        "allow_userdata",
        "conf_d",
        "fqdn",
        "growpart",
        "prefer_fqdn_over_hostname",
        "preserve_hostname",
        "resize_rootfs",
        "system_info.distro",
        "system_info.paths.cloud_dir",
        "system_info.paths.run_dir",
    ];
    known.contains(&key) || key.starts_with("datasource.NoCloud.")
}

fn is_fine(key: &str, value: &Value) -> bool {
    match key.replace('-', "_").as_str() {
        "allow_userdata" => is_one_of(value, &TRUE),
        "datasource" => true,
        "growpart" => grows_root(value),
        "prefer_fqdn_over_hostname" | "preserve_hostname" => !is_one_of(value, &TRUE),
        "resize_rootfs" => is_one_of(value, &TRUE) || is_one_of(value, &["noblock"]),
        key => FINE.contains(&key),
    }
}

/// Whether `growpart` of the settings grows the partition of the root filesystem (`cc_growpart.py`).
fn grows_root(growpart: &Value) -> bool {
    let has_mode = |mode: &Value| is_one_of(mode, &["auto", "growpart"]);
    let has_root = |devices: &Value| {
        devices
            .as_array()
            .is_some_and(|all| all.iter().any(|one| one == "/"))
    };
    growpart.is_object()
        && growpart.get("mode").is_none_or(has_mode)
        && growpart.get("devices").is_none_or(has_root)
}

fn is_one_of(value: &Value, those: &[&str]) -> bool {
    those.contains(&plain(value).as_str())
}

/// A value of one word as cloud-init compares it: as text, in small letters.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_lowercase(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::cloud_init::parsed;
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        assert_eq!(odd(&parsed(text).unwrap()), expect, "{text}");
    }

    #[test]
    fn what_is_not_ubuntus_is_told_of() {
        check(
            "chpasswd: {expire: false, list: 'root:secret'}\npower_state: {mode: poweroff}\n",
            &["chpasswd", "power_state"],
        );
        check(
            "lxd: {init: {trust_password: x}}\npackage_reboot_if_required: true\nconf_d: /etc/other.d\n",
            &["conf_d", "lxd", "package_reboot_if_required"],
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
            check(&format!("allow_userdata: {off}\n"), &["allow_userdata"]);
        }
        for on in ["yes", "on", "True", "1", "'yes'"] {
            check(&format!("resize_rootfs: {on}\nallow_userdata: {on}\n"), &[]);
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
            "common: &common {runcmd: [halt]}\n<<: *common\n",
            &["common", "runcmd"],
        );
        check("runcmd: [a]\nruncmd: [b]\n", &["runcmd"]);
    }

    #[test]
    fn keys_within_keys_are_told_of() {
        check(
            "datasource: {NoCloud: {fs_label: system-boot, seedfrom: /x, user-data: ''}, Ec2: {timeout: 5}}\n",
            &["datasource.NoCloud.seedfrom", "datasource.NoCloud.user-data"],
        );
        check(
            "system_info: {distro: alpine, paths: {cloud_dir: /srv/cloud, run_dir: /run/other, x: y}, y: z}\n",
            &[
                "system_info.distro",
                "system_info.paths.cloud_dir",
                "system_info.paths.run_dir",
                "system_info.paths.x",
                "system_info.y",
            ],
        );
    }

    /// The keys of all releases at once, in the shapes that they have there.
    #[test]
    fn what_ubuntu_has_is_fine() {
        check(
            "users: [default]\ndisable_root: true\npreserve_hostname: false\n\
             cloud_init_modules: [migrator]\ncloud_config_modules: [locale]\ncloud_final_modules: [rightscale_userdata]\n\
             system_info:\n  distro: ubuntu\n  default_user: {name: ubuntu, lock_passwd: True, groups: [adm], shell: /bin/bash}\n  \
             network: {dhcp_client_priority: [dhcpcd], renderers: [netplan], activators: [netplan]}\n  ntp_client: auto\n  \
             paths: {cloud_dir: /var/lib/cloud/, templates_dir: /etc/cloud/templates/, upstart_dir: /etc/init/}\n  \
             package_mirrors: [{arches: [default]}]\n  ssh_svcname: ssh\n",
            &[],
        );
        check(
            "_log:\n - &log_base |\n   [loggers]\n   keys=root\n - &log_file |\n   [handler_x]\n\
             log_cfgs:\n - [ *log_base, *log_file ]\noutput: {all: '| tee -a /var/log/cloud-init-output.log'}\n",
            &[],
        );
        check(
            "datasource_list: [ NoCloud, None ]\ndatasource:\n  NoCloud:\n    fs_label: system-boot\n",
            &[],
        );
        check("apt:\n  preserve_sources_list: true\n", &[]);
        check("network: {config: disabled}\n", &[]);
    }
}
