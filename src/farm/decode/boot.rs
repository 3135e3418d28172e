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

/// Whether `word` of the kernel command line leaves interfaces without IPv6 (the kernel's `networking/ipv6.rst`).
pub(crate) fn turns_ipv6_off(word: &str) -> bool {
    let value = ["ipv6.disable=", "ipv6.disable_ipv6="]
        .iter()
        .find_map(|key| word.strip_prefix(key));
    value.is_some_and(|value| value != "0")
}

/// What `overlayroot=` does (Ubuntu's package overlayroot), and `boot=overlay` of the Raspberry Pi's own tools.
const IN_MEMORY: &str = "which keeps everything that the Pi makes in memory, so that each reboot loses it";

/// With what `word` of the kernel command line keeps the card's system from starting, if it does.
pub(crate) fn stops(word: &str) -> Option<&'static str> {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    match key {
        "init" | "rdinit" => Some("which starts something else than systemd"),
        "systemd.run" | "systemd.run_success_action" => {
            Some("which runs a command in place of the system; another tool has customized this image")
        }
        "overlayroot" if value != "disabled" && !value.is_empty() => Some(IN_MEMORY),
        "boot" if value == "overlay" => Some(IN_MEMORY),
        "systemd.unit" if !matches!(value, "multi-user.target" | "graphical.target" | "default.target") => {
            Some("which starts another target")
        }
        "single" | "rescue" | "emergency" | "s" | "S" | "1" | "-b" | "rd.break" | "break" => {
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
