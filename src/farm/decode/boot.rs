//! The section `boot:`, and the one set of rules for what may stand in a kernel command line and in config.txt. Reading
//! a farm and rendering a card both ask these rules; nothing here edits either file.

use std::collections::BTreeMap;

use super::fields::{self, named, section};
use crate::farm::node::Entry;
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

fn config(entry: &Entry, p: &mut Problems) -> BTreeMap<String, String> {
    let mut config = BTreeMap::new();
    for entry in fields::entries(entry, p) {
        let key = fields::named_key(entry, "a key of config.txt", config_key, p);
        let Some(value) = fields::line(&entry.value, &key, p) else {
            continue;
        };
        if config_key(&key).is_ok() {
            if let Err(why) = config_line(&key, &value) {
                let line = quoted(&format!("{key}={value}"));
                p.error(
                    entry.value.span,
                    format!("{line} is not a line of config.txt: {why}"),
                );
            }
        }
        config.insert(key, value);
    }
    config
}

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

/// The line `key=value` of config.txt. The firmware cuts longer lines off, and white space around a value is lost.
///
/// # Errors
/// Why it is not one.
pub(crate) fn config_line(key: &str, value: &str) -> Result<(), String> {
    config_key(key)?;
    let bytes = key.len() + 1 + value.len();
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
