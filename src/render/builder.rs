//! The tree while it grows: nodes added one by one, templates filled in, YAML written. No value may change the structure
//! of the file that it is put into; tests/render parse every rendered file and compare it with the plan.

use minijinja::value::Value;
use serde_json::Value as Json;

use super::engine::Engine;
use super::RenderError;
use crate::edit::tree::{Access, CardPath, Node, Planned, Privacy, Tree, Volume};

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
        self.add(Volume::Root, path, Node::Dir { access }, origin, Privacy::Public)
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

/// `value` as YAML after `comment`, whose lines begin with `#`. It is written as JSON, so that every string stays a
/// string: YAML's own writers leave out quotes that YAML 1.2 does not need, but cloud-init and LXD read YAML 1.1, in
/// which a bare `no` is false and a bare 1:30 is a number.
pub(super) fn yaml(comment: &str, value: &Json) -> String {
    let mut text = format!("{comment}\n");
    for c in format!("{value:#}\n").chars() {
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
            let written = yaml("# x", &serde_json::json!({ "k": text, "l": [text] }));
            assert_eq!(written.lines().count(), 7, "{text:?}");
            let read: serde_yaml::Value = serde_yaml::from_str(&written).unwrap();
            let expect = serde_yaml::Value::String(text.clone());
            assert_eq!((&read["k"], &read["l"][0]), (&expect, &expect), "{written}");
        }
    }
}
