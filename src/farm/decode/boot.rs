//! The section `boot:`, and the one set of rules for what may stand in a kernel command line and in config.txt. Reading
//! a farm and rendering a card both ask these rules; nothing here edits either file.

use std::collections::BTreeSet;

use super::fields::{self, named, section};
use crate::farm::node::{Entry, Node, Value};
use crate::farm::problem::Problems;
use crate::farm::suggest::quoted;
use crate::farm::Boot;

/// Bytes of a line of config.txt that the firmware reads (Raspberry Pi documentation, "config.txt", file format).
const CONFIG_LINE: usize = 98;

/// Bytes that the firmware itself puts before the command line: revision, serial number, memory, MAC address.
const FIRMWARE: usize = 320;

pub(super) fn boot(entry: &Entry, p: &mut Problems) -> Boot {
    section(entry, "`boot`", p, |fields| Boot {
        cmdline: fields.list("cmdline", named("a word of the kernel command line", word)),
        config: fields.read("config", config).unwrap_or_default(),
    })
}

/// Lines of config.txt in their order, each as it stands there: a list of them, or a mapping if no key is there twice.
fn config(entry: &Entry, p: &mut Problems) -> Vec<String> {
    let is_text = entry.value.scalar().is_some_and(|scalar| !scalar.is_null());
    if is_text || matches!(entry.value.value, Value::Seq(_)) {
        // Keep a placeholder for an invalid line so that later errors use the right index.
        let items = fields::items(entry, &listed, p);
        let read = |item| listed(item, "config", p).unwrap_or_default();
        return items.iter().map(read).collect();
    }
    // The reader of mappings keeps one message for one place, and this one has a hint.
    let mut seen = BTreeSet::new();
    for twice in entry
        .value
        .entries()
        .iter()
        .filter(|entry| !seen.insert(&entry.key))
    {
        p.error(twice.key_span, format!("{} is here twice", quoted(&twice.key)))
            .hint("a list may have a key more than once: write each line as `- KEY=VALUE`");
    }
    let mut config = Vec::new();
    for entry in fields::entries(entry, p) {
        let key = fields::named_key(entry, "a key of config.txt", config_key, p);
        let Some(value) = fields::line(&entry.value, &key, p) else {
            continue;
        };
        let line = format!("{key}={value}");
        if config_key(&key).is_ok() {
            judge(&line, &entry.value, p);
        }
        config.push(line);
    }
    config
}

/// A line in a list. `- [pi4]` and `- gpu_mem: 16` are YAML's own and are read as they are meant.
fn listed(node: &Node, key: &str, p: &mut Problems) -> Option<String> {
    let line = match &node.value {
        Value::Scalar(_) => fields::line(node, key, p)?,
        Value::Seq(items) => {
            let [item] = items.as_slice() else {
                p.error(node.span, "a line of config.txt is not a list")
                    .hint("write a section as \"[pi4]\"");
                return None;
            };
            format!("[{}]", fields::line(item, key, p)?)
        }
        Value::Map(entries) => {
            let [entry] = entries.as_slice() else {
                p.error(node.span, "a line of config.txt is not a mapping")
                    .hint("write each line as `- KEY=VALUE`");
                return None;
            };
            format!("{}={}", entry.key, fields::line(&entry.value, &entry.key, p)?)
        }
    };
    judge(&line, node, p).then_some(line)
}

/// Whether `line` is one of config.txt; else it is an error.
fn judge(line: &str, node: &Node, p: &mut Problems) -> bool {
    let Err(why) = config_line(line) else { return true };
    let message = format!("{} is not a line of config.txt: {why}", quoted(line));
    p.error(node.span, message);
    false
}

/// The sections that the firmware knows (Raspberry Pi documentation, "config.txt", conditional filters); beside them are
/// serial numbers (`[0x12345678]`), and filters with a value (`[gpio4=1]`, `[EDID=VSC-TD2220]`).
const SECTIONS: [&str; 23] = [
    "all", "none", "tryboot", "pi0", "pi0w", "pi02", "pi1", "pi2", "pi3", "pi3+", "pi4", "pi400", "pi5",
    "pi500", "cm0", "cm1", "cm3", "cm3+", "cm4", "cm4s", "cm5", "HDMI:0", "HDMI:1",
];

/// What the firmware knows and `section` may be meant to be; `None`: it knows `section`.
pub(crate) fn unknown_section(section: &str) -> Option<&'static [&'static str]> {
    let is_filter = section.contains(['=', '<', '>', '&']) || section.starts_with("0x");
    let is_known = SECTIONS.iter().any(|known| known.eq_ignore_ascii_case(section));
    (!is_filter && !is_known).then_some(&SECTIONS)
}

/// Keys that say something more each time they appear (the same documentation; `include` and `initramfs` have no `=`).
pub(crate) const ADDING: [&str; 3] = ["dtoverlay", "dtparam", "gpio"];

/// A word of a kernel command line. Quotes are refused because the kernel takes everything between two of them for one
/// word, spaces included, and anything beyond ASCII because the firmware defines no encoding.
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn word(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if text.chars().any(char::is_whitespace) {
        return Err("it holds a space; each word is an item of the list".into());
    }
    if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '"') {
        return Err(format!("it holds {odd:?}"));
    }
    Ok(())
}

/// Key and value of a word. Kernel and systemd take a dash in a key for an underscore.
fn halves(word: &str) -> (String, &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    (key.replace('-', "_"), value)
}

/// Whether `word` of the kernel command line leaves interfaces without IPv6 (the kernel's `networking/ipv6.rst`, and
/// `module_blacklist=` and `sysctl.*=` of its `kernel-parameters.txt`).
pub(crate) fn turns_ipv6_off(word: &str) -> bool {
    let (key, value) = halves(word);
    if let Some(modules) = kept_out(&key, value) {
        return modules.contains(&"ipv6".to_owned());
    }
    let of_module = ["ipv6.disable", "ipv6.disable_ipv6"].contains(&key.as_str());
    let setting = key.strip_prefix("sysctl.").unwrap_or_default().replace('/', ".");
    let of_interface = setting.starts_with("net.ipv6.conf.") && setting.ends_with(".disable_ipv6");
    (of_module || of_interface) && word.contains('=') && value != "0"
}

/// The modules that a word keeps from being loaded, if it is one that does.
fn kept_out(key: &str, value: &str) -> Option<Vec<String>> {
    let is_list = ["module_blacklist", "modprobe.blacklist"].contains(&key);
    is_list.then(|| value.split(',').map(|name| name.replace('-', "_")).collect())
}

/// Which cards need a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NeededBy {
    /// All of them.
    All,
    /// Those with a bridge, or a daemon that makes one.
    Bridges,
    /// Those with a container daemon.
    Daemons,
    /// Those with an IPv6 address.
    Ipv6,
    /// Those with a VLAN.
    Vlans,
}

/// Modules that cards need, and what is the case without each. What the bridge is made of comes first; snaps are mounted
/// from squashfs, and images of LXD's are unpacked from it.
pub(crate) const NEEDED_MODULES: [(&str, NeededBy, &str); 14] = [
    ("bridge", NeededBy::Bridges, "there is no bridge"),
    ("stp", NeededBy::Bridges, "there is no bridge"),
    ("llc", NeededBy::Bridges, "there is no bridge"),
    ("8021q", NeededBy::Vlans, "there is no VLAN"),
    ("garp", NeededBy::Vlans, "there is no VLAN"),
    ("mrp", NeededBy::Vlans, "there is no VLAN"),
    ("veth", NeededBy::Daemons, "no container has a network"),
    ("squashfs", NeededBy::Daemons, "no snap is mounted, LXD's neither"),
    ("loop", NeededBy::Daemons, "no snap is mounted, LXD's neither"),
    ("ipv6", NeededBy::Ipv6, "nothing has an IPv6 address"),
    ("ext4", NeededBy::All, "the root filesystem is not mounted"),
    ("mmc_block", NeededBy::All, "the root filesystem is not found"),
    (
        "vfat",
        NeededBy::All,
        "the FAT partition is not mounted, and has no report",
    ),
    (
        "fat",
        NeededBy::All,
        "the FAT partition is not mounted, and has no report",
    ),
];

/// Whether some card needs the module, whatever its network: those of IPv6 have a rule of their own.
fn is_needed(module: &str) -> bool {
    let mut needed = NEEDED_MODULES.iter().filter(|(_, by, _)| *by != NeededBy::Ipv6);
    needed.any(|(name, ..)| *name == module)
}

/// What `overlayroot=` does (Ubuntu's package overlayroot), and `boot=overlay` of the Raspberry Pi's own tools.
const IN_MEMORY: &str = "which keeps everything that the Pi makes in memory, so that each reboot loses it";

const OTHER_SETTINGS: &str = "from which cloud-init would take other settings than those of the card";

/// What of a card `word` of the kernel command line takes the place of, if it does: its settings, its name, its network or
/// the root filesystem on it. In a base such a word is left out.
pub(crate) fn supplants(word: &str) -> Option<&'static str> {
    if begins_settings(word) {
        return Some(OTHER_SETTINGS);
    }
    let (key, value) = halves(word);
    match key.as_str() {
        // cloud-init's `sources/__init__.py` and `cmd/main.py`, and ds-identify. `url` is an older name.
        "ds" | "ci.ds" | "ci.datasource" | "ci.di.policy" | "cloud_config_url" | "network_config" | "url" => {
            Some(OTHER_SETTINGS)
        }
        // systemd(1), kernel-command-line(7)
        "systemd.hostname" => Some("which gives every card the same host name"),
        "systemd.machine_id" => Some("which gives every card the same machine ID"),
        "systemd.volatile" if !["0", "false", "no", "off"].contains(&value) => Some(IN_MEMORY),
        // systemd-network-generator(8), and the kernel's `nfsroot.rst`
        "bond" | "bootdev" | "bridge" | "ifname" | "ip" | "nameserver" | "nfsaddrs" | "rd.peerdns"
        | "rd.route" | "team" | "vlan" => Some("which configures the network a second time"),
        _ => None,
    }
}

/// Whether `word` begins settings for cloud-init, which go on to a word with [`END_OF_SETTINGS`] (`read_cc_from_cmdline` in
/// its `util.py`). Before 23.4 they could begin within a word. A MAC may have `cc:` in it, too.
pub(crate) fn begins_settings(word: &str) -> bool {
    word.starts_with("cc:") || word.contains("cc:{")
}

/// What ends them.
pub(crate) const END_OF_SETTINGS: &str = "end_cc";

/// Keys of systemd's with which a system starts as without them, or that other rules know (systemd(1),
/// kernel-command-line(7), systemd-journald.service(8)).
const FINE_OF_SYSTEMD: [&str; 25] = [
    "clock_usec",
    "condition_first_boot",
    "cpu_affinity",
    "crash_action",
    "crash_chvt",
    "crash_reboot",
    "crash_shell",
    "default_debug_tty",
    "default_standard_error",
    "default_standard_output",
    "default_timeout_start_sec",
    "dump_core",
    "firstboot",
    "gpt_auto",
    "random_seed",
    "run",
    "run_success_action",
    "service_watchdogs",
    "setenv",
    "show_status",
    "status_unit_format",
    "unit",
    "wants",
    "watchdog_device",
    "watchdog_sec",
];

/// Whether `word` may change what systemd starts, or how: each of its keys that is not known to be harmless, and variables
/// that it or cloud-init looks for. In a base such a word is left out.
pub(crate) fn steers_systemd(word: &str) -> bool {
    let (key, _) = halves(word);
    if let Some(key) = key.strip_prefix("systemd.") {
        let is_about_logs = ["log_", "journald.", "unified_cgroup", "legacy_systemd_cgroup"]
            .iter()
            .any(|beginning| key.starts_with(beginning));
        return !is_about_logs && !FINE_OF_SYSTEMD.contains(&key);
    }
    ["KERNEL_CMDLINE", "LD_", "SYSTEMD_"]
        .iter()
        .any(|beginning| key.starts_with(beginning))
}

/// With what `word` of the kernel command line keeps the card's system from starting, if it does.
pub(crate) fn stops(word: &str) -> Option<&'static str> {
    let (key, value) = halves(word);
    if kept_out(&key, value).is_some_and(|modules| modules.iter().any(|name| is_needed(name))) {
        return Some("which keeps the kernel from loading a module that the card needs");
    }
    match key.as_str() {
        "init" | "rdinit" => Some("which starts something else than systemd"),
        "systemd.run" | "systemd.run_success_action" => {
            Some("which runs a command in place of the system; another tool has customized this image")
        }
        "overlayroot" if value != "disabled" && !value.is_empty() => Some(IN_MEMORY),
        "boot" if value == "overlay" => Some(IN_MEMORY),
        "systemd.unit" if !matches!(value, "multi-user.target" | "graphical.target" | "default.target") => {
            Some("which starts another target")
        }
        "single" | "rescue" | "emergency" | "s" | "S" | "1" | "_b" | "rd.break" | "break" => {
            Some("which stops the boot before there is a network")
        }
        _ => None,
    }
}

/// A key of config.txt: `gpu_mem`, `dtparam`, `hdmi_mode:1`.
///
/// # Errors
/// Why `text` is not one.
pub(crate) fn config_key(text: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    if text.is_empty() || !text.chars().all(fine) {
        return Err("it may have letters, digits, underscores and colons".into());
    }
    Ok(())
}

/// The name of the section that the line `[NAME]` begins.
pub(crate) fn section_name(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

/// A line of config.txt: `key=value`, or a section such as `[pi4]`. The firmware cuts longer lines off, and white space
/// around a value is lost.
///
/// # Errors
/// Why it is not one.
pub(crate) fn config_line(line: &str) -> Result<(), String> {
    let bytes = line.len();
    let value = match (section_name(line), line.split_once('=')) {
        (Some(name), _) => {
            let fine = |c: char| c.is_ascii_graphic() && !"[]#".contains(c);
            if name.is_empty() || !name.chars().all(fine) {
                return Err("the name of a section is ASCII without spaces and brackets".into());
            }
            name
        }
        (None, Some((key, value))) => {
            config_key(key).map_err(|why| why.replacen("it", "KEY", 1))?;
            value
        }
        (None, None) => return Err("it is neither KEY=VALUE nor a section such as [pi4]".into()),
    };
    if bytes > CONFIG_LINE {
        return Err(format!(
            "it has {bytes} bytes, and the firmware reads no more than {CONFIG_LINE} bytes of a line"
        ));
    }
    if value.trim() != value || value.chars().any(char::is_control) {
        return Err("a value is one line without white space around it".into());
    }
    Ok(())
}

/// The most bytes that cmdline.txt may have: `COMMAND_LINE_SIZE` of the kernel less what the firmware adds.
pub(crate) const fn longest_cmdline(is_32_bit: bool) -> usize {
    let kernel = if is_32_bit { 1024 } else { 2048 };
    kernel - FIRMWARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_turn_ipv6_off() {
        for word in [
            "ipv6.disable=1",
            "ipv6.disable-ipv6=1",
            "sysctl.net.ipv6.conf.all.disable_ipv6=1",
            "sysctl.net/ipv6/conf/eth0/disable_ipv6=1",
            "module_blacklist=floppy,ipv6",
            "modprobe.blacklist=ipv6",
        ] {
            assert!(turns_ipv6_off(word), "{word}");
        }
        for word in [
            "ipv6.disable=0",
            "ipv6.disable",
            "sysctl.net.ipv6.conf.all.disable_ipv6=0",
            "sysctl.net.ipv6.conf.all.accept_ra=0",
            "module_blacklist=ipv6_tunnel",
        ] {
            assert!(!turns_ipv6_off(word), "{word}");
        }
    }

    #[test]
    fn words_take_the_place_of_what_a_card_has() {
        for word in [
            "cc:{runcmd:[poweroff]}end_cc",
            "cc:",
            "x=cc:{a:b}",
            "url=http://192.0.2.1/",
            "cloud-config-url=/x",
            "systemd.machine-id=0123",
            "systemd.hostname=other",
            "systemd.volatile=overlay",
            "systemd.volatile",
            "ip=dhcp",
        ] {
            assert!(supplants(word).is_some(), "{word}");
        }
        for word in [
            "systemd.volatile=no",
            "smsc95xx.macaddr=B8:27:EB:cc:dd:ee",
            "ipv6.autoconf=0",
            "curl=1",
        ] {
            assert_eq!(supplants(word), None, "{word}");
        }
    }

    #[test]
    fn the_words_of_ubuntu_are_harmless() {
        let all = "net.ifnames=0 dwc_otg.lpm_enable=0 console=ttyAMA0,115200 console=serial0,115200 console=tty1 \
                   multipath=off root=/dev/mmcblk0p2 root=LABEL=writable rootfstype=ext4 elevator=deadline panic=10 \
                   rootwait fixrtc quiet splash cfg80211.ieee80211_regdom=AT";
        for word in all.split_whitespace() {
            let is_odd = turns_ipv6_off(word) || steers_systemd(word);
            assert!(
                !is_odd && supplants(word).is_none() && stops(word).is_none(),
                "{word}"
            );
        }
    }

    #[test]
    fn words_keep_a_card_from_starting() {
        for word in [
            "module_blacklist=floppy,bridge",
            "modprobe.blacklist=mmc-block",
            "-b",
            "systemd.unit=rescue.target",
        ] {
            assert!(stops(word).is_some(), "{word}");
        }
        assert_eq!(stops("module_blacklist=brcmfmac,btbcm"), None);
        for word in [
            "systemd.debug-shell",
            "systemd.set_credential=a:b",
            "SYSTEMD_UNIT_PATH=/x",
        ] {
            assert!(steers_systemd(word), "{word}");
        }
        for word in [
            "systemd.log_level=debug",
            "systemd.show-status=1",
            "systemd.journald.forward_to_console",
        ] {
            assert!(!steers_systemd(word), "{word}");
        }
    }
}
