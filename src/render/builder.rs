//! The tree while it grows: nodes added one by one, templates filled in, YAML written. No value may change the structure
//! of the file that it is put into; tests/render parse every rendered file and compare it with the plan.

use minijinja::value::Value;
use serde_json::Value as Json;

use super::engine::Engine;
use super::RenderError;
use crate::edit::tree::{Access, CardPath, IfThere, Node, Planned, Privacy, Tree, Volume};

/// The folder of the units that palmfarm adds and of the links that enable units.
pub(super) const UNITS: &str = "/etc/systemd/system";

/// The tree and the engine that fills it.
pub(super) struct TreeBuilder {
    pub(super) tree: Tree,
    engine: Engine,
}

impl TreeBuilder {
    pub(super) fn new() -> Result<Self, RenderError> {
        let engine = Engine::new().map_err(|source| RenderError::Template {
            template: "templates",
            path: "the card".into(),
            source,
        })?;
        Ok(Self {
            tree: Tree::default(),
            engine,
        })
    }

    /// The text of `template` with `values` filled in, which will be at `path`.
    pub(super) fn text(
        &self,
        template: &'static str,
        path: &str,
        values: Value,
    ) -> Result<String, RenderError> {
        self.engine
            .fill(template, values)
            .map_err(|source| RenderError::Template {
                template,
                path: path.to_owned(),
                source,
            })
    }

    /// Fill in `template` and plan it on the root filesystem, 0644.
    pub(super) fn template(
        &mut self,
        template: &'static str,
        path: &str,
        values: Value,
    ) -> Result<(), RenderError> {
        let text = self.text(template, path, values)?;
        self.public(Volume::Root, path, &text, &format!("templates/{template}"))
    }

    /// A file of the root filesystem that only root may read, 0600.
    pub(super) fn private(
        &mut self,
        path: &str,
        text: &str,
        origin: &str,
        privacy: Privacy,
    ) -> Result<(), RenderError> {
        self.file(Volume::Root, path, text.as_bytes(), 0o600, origin, privacy)
    }

    pub(super) fn file(
        &mut self,
        volume: Volume,
        path: &str,
        content: &[u8],
        mode: u16,
        origin: &str,
        privacy: Privacy,
    ) -> Result<(), RenderError> {
        let node = Node::File {
            content: content.into(),
            access: Access::root(mode),
        };
        self.add(volume, path, node, origin, privacy)
    }

    /// A file that anybody may read, 0644.
    pub(super) fn public(
        &mut self,
        volume: Volume,
        path: &str,
        text: &str,
        origin: &str,
    ) -> Result<(), RenderError> {
        self.file(volume, path, text.as_bytes(), 0o644, origin, Privacy::Public)
    }

    pub(super) fn dir(&mut self, path: &str, mode: u16, origin: &str) -> Result<(), RenderError> {
        let access = Access::root(mode);
        let if_there = IfThere::Set;
        self.add(
            Volume::Root,
            path,
            Node::Dir { access, if_there },
            origin,
            Privacy::Public,
        )
    }

    pub(super) fn link(&mut self, path: &str, target: &str, origin: &str) -> Result<(), RenderError> {
        let target = target.into();
        self.add(
            Volume::Root,
            path,
            Node::Symlink { target },
            origin,
            Privacy::Public,
        )
    }

    /// Plan a unit of the card's own, and have `wanted_by` pull it in, as `systemctl enable` would.
    pub(super) fn unit(
        &mut self,
        template: &'static str,
        wanted_by: &str,
        values: Value,
    ) -> Result<(), RenderError> {
        let name = template.rsplit('/').next().unwrap_or(template);
        let path = format!("{UNITS}/{name}");
        self.template(template, &path, values)?;
        let link = format!("{UNITS}/{wanted_by}.wants/{name}");
        self.link(&link, &path, &format!("templates/{template}"))
    }

    pub(super) fn add(
        &mut self,
        volume: Volume,
        path: &str,
        node: Node,
        origin: &str,
        privacy: Privacy,
    ) -> Result<(), RenderError> {
        let planned = Planned {
            node,
            origin: origin.into(),
            privacy,
        };
        self.tree.add(volume, CardPath::new(path)?, planned)?;
        Ok(())
    }
}

/// The mapping `value` as YAML after `comment`, whose lines begin with `#`: in blocks, with each single value as in JSON.
/// YAML's own writers leave out quotes that YAML 1.2 does not need, but cloud-init and LXD read YAML 1.1, in which a bare
/// `no` is false and a bare 1:30 is a number.
pub(super) fn yaml(comment: &str, value: &Json) -> String {
    let mut text = format!("{comment}\n");
    match value {
        Json::Object(map) if !map.is_empty() => block(map, "", &mut text),
        _ => text.push_str(&format!("{}\n", single(value))),
    }
    text
}

/// The lines of a mapping, each with `indent` before it.
fn block(map: &serde_json::Map<String, Json>, indent: &str, text: &mut String) {
    for (key, value) in map {
        let key = if is_plain(key) {
            key.clone()
        } else {
            single(&Json::from(key.as_str()))
        };
        text.push_str(&format!("{indent}{key}:"));
        match value {
            Json::Object(map) if !map.is_empty() => {
                text.push('\n');
                block(map, &format!("{indent}  "), text);
            }
            Json::Array(items) if !items.is_empty() => {
                text.push('\n');
                for item in items {
                    text.push_str(&format!("{indent}- "));
                    match item {
                        Json::Object(map) if !map.is_empty() => {
                            let mut lines = String::new();
                            block(map, &format!("{indent}  "), &mut lines);
                            // The first line comes after the dash.
                            text.push_str(lines.trim_start());
                        }
                        _ => text.push_str(&format!("{}\n", single(item))),
                    }
                }
            }
            _ => text.push_str(&format!(" {}\n", single(value))),
        }
    }
}

/// Whether `key` is the same text without quotes, in YAML 1.1 too.
fn is_plain(key: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !WORDS.contains(&key.to_lowercase().as_str())
}

/// A single value, or a sequence or mapping on one line, as JSON, which YAML reads too.
fn single(value: &Json) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            // Some readers take these for the end of a line or of the text. They occur in strings only.
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_yaml_is_the_text_again() {
        let mut odd: Vec<String> = [
            "true", "null", "0x10", "1:30", "~", "", " a ", "- a", "a: b", "# a", "\"", "\\n", "'",
        ]
        .map(Into::into)
        .into();
        odd.extend(
            [
                "a\nb",
                "a\r\nb",
                "\0",
                "\u{85}",
                "\u{2028}",
                "\u{feff}x",
                "\u{7f}",
                "\u{1f980}",
                "\t",
                "%",
                "@",
                "`",
                "{{",
            ]
            .map(Into::into),
        );
        odd.extend(
            [
                "no",
                "on",
                "y",
                "1_000",
                "017",
                "2020-01-01",
                "1e3",
                "=",
                "<<",
                "\u{fffe}",
            ]
            .map(Into::into),
        );
        for text in odd {
            let odd = serde_json::json!({ "k": text, "l": [text], "m": {(text.as_str()): [{"n": text, "o": {}}, [text]]} });
            let written = yaml("# x", &odd);
            assert_eq!(written.lines().count(), 9, "{text:?}: {written}");
            let read: serde_yaml::Value = serde_yaml::from_str(&written).unwrap();
            let expect = serde_yaml::Value::String(text.clone());
            assert_eq!((&read["k"], &read["l"][0]), (&expect, &expect), "{written}");
            let list = &read["m"][expect.clone()];
            assert_eq!((&list[0]["n"], &list[1][0]), (&expect, &expect), "{written}");
        }
    }
}
