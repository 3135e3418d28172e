//! The template engine: files under `templates/`, filled in so that no value can become anything but a value.
//!
//! Nothing reaches the output unless it went through one of the filters below, each of which refuses what has a
//! meaning where it goes; a text that comes without one is an error, not an oversight.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name)))),*]
    };
}

/// Every template by its name below `templates/`.
const TEMPLATES: &[(&str, &str)] = templates![
    "boot/config.txt",
    "host/hostname",
    "host/hosts",
    "host/interfaces",
    "host/rc-local",
    "host/resolv.conf",
    "host/resolved.conf",
    "host/sysctl.conf",
    "ifupdown/interfaces",
    "networkd/bridge.netdev",
    "networkd/host.network",
    "networkd/port.network",
    "networkd/trunk.network",
    "networkd/vlan.netdev",
    "networkd/wait-online.conf",
    "systemd/palmfarm-bridge.service",
    "systemd/palmfarm-firstboot.service",
    "systemd/palmfarm-cluster.service",
    "systemd/palmfarm-cluster.timer",
    "systemd/palmfarm-mdns.service",
    "systemd/palmfarm-network.service",
    "systemd/palmfarm-rc-local.service",
    "systemd/palmfarm-seed.service",
    "systemd/uplink-device.conf",
];

/// The templates, compiled.
pub(super) struct Engine(Environment<'static>);

impl Engine {
    pub(super) fn new() -> Result<Self, Error> {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        let mut syntax = SyntaxConfig::builder();
        syntax
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true);
        env.set_syntax(syntax.build()?);
        env.set_formatter(|out, _state, value| {
            let fine = value.is_safe() || value.is_number() || value.as_str() == Some("");
            if !fine {
                return Err(refused(&format!("{:?} has gone through no filter", value.kind())));
            }
            out.write_str(&value.to_string()).map_err(Error::from)
        });
        env.add_filter("plain", |text: String| plain(&text).map(safe));
        env.add_filter("plain_list", |texts: Vec<String>| -> Result<Value, Error> {
            for text in &texts {
                plain(text)?;
            }
            Ok(safe(texts.join(" ")))
        });
        env.add_filter("line", |text: String| line(&text).map(safe));
        env.add_filter("verbatim", |text: String| verbatim(&text).map(safe));
        env.add_filter("device", |text: String| {
            plain(&text).map(|name| safe(device_unit(&name)))
        });
        env.add_filter("sysctl", |text: String| {
            plain(&text).map(|name| safe(name.replace('.', "/")))
        });
        for (name, text) in TEMPLATES {
            env.add_template(name, text)?;
        }
        Ok(Self(env))
    }

    pub(super) fn fill(&self, template: &str, values: Value) -> Result<String, Error> {
        self.0.get_template(template)?.render(values)
    }
}

fn safe(text: String) -> Value {
    Value::from_safe_string(text)
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.to_owned())
}

/// A name, an address, a path: nothing that a unit file, a shell or ifupdown takes for more than itself. `@` stands in
/// the placeholder that the agent fills in.
fn plain(text: &str) -> Result<String, Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+,".contains(c);
    if text.is_empty() || !text.chars().all(fine) {
        return Err(refused(&format!(
            "{text:?} holds more than a name or an address may"
        )));
    }
    Ok(text.into())
}

/// One printable line.
fn line(text: &str) -> Result<String, Error> {
    if text.chars().any(char::is_control) {
        return Err(refused(&format!("{text:?} has more than one line")));
    }
    Ok(text.into())
}

/// Shell, as its owner wrote it.
fn verbatim(text: &str) -> Result<String, Error> {
    if text.contains('\0') {
        return Err(refused("a shell script has no NUL"));
    }
    Ok(text.into())
}

/// The device unit of a network interface: its path below /sys, escaped as systemd-escape(1) does with `--path`.
pub(super) fn device_unit(interface: &str) -> String {
    let mut unit = String::from("sys-subsystem-net-devices-");
    for (at, byte) in interface.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => unit.push_str("\\x2e"),
            b'/' => unit.push('-'),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'.') => {
                unit.push(byte.into());
            }
            byte => unit.push_str(&format!("\\x{byte:02x}")),
        }
    }
    unit.push_str(".device");
    unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::context;

    #[test]
    fn every_template_compiles() {
        assert!(Engine::new().is_ok());
    }

    #[test]
    fn no_text_comes_without_a_filter() {
        let mut engine = Engine::new().unwrap();
        engine.0.add_template("bare", "a={{ a }}").unwrap();
        engine.0.add_template("plain", "a={{ a|plain }}").unwrap();
        let fill = |name, value: &str| engine.fill(name, context! { a => value });
        assert!(fill("bare", "x").is_err());
        assert_eq!(fill("plain", "br0").unwrap(), "a=br0");
        assert!(engine.fill("plain", context! {}).is_err());
        for bad in [
            "",
            "a b",
            "a\nb",
            "a\rb",
            "\u{2028}",
            "{{ 7 }}\n",
            "%h",
            "$x",
            "a\\",
            "\"",
            "'",
            ";",
            "#",
            "ü",
        ] {
            assert!(fill("plain", bad).is_err(), "{bad:?}");
        }
        // A value is not a template.
        engine.0.add_template("line", "{{ a|line }}").unwrap();
        assert_eq!(
            engine.fill("line", context! { a => "{{ a }}" }).unwrap(),
            "{{ a }}"
        );
    }

    #[test]
    fn devices_are_escaped() {
        let check = |name, unit: &str| {
            assert_eq!(
                device_unit(name),
                format!("sys-subsystem-net-devices-{unit}.device")
            );
        };
        check("eth0", "eth0");
        check("eth0.42", "eth0.42");
        check("enx-b8_27", "enx\\x2db8_27");
        check(".a", "\\x2ea");
    }
}
