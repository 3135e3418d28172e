//! The tree while it grows: templates filled in, parsed back, and compared with what went in.

use minijinja::value::Value;
use serde_json::Value as Json;

use super::engine::Engine;
use super::{ini, RenderError};
use crate::edit::tree::{Access, CardPath, Node, Planned, Privacy, Tree, Volume};

/// Where enabled units and units of the card's own lie.
pub(super) const UNITS: &str = "/etc/systemd/system";

/// The tree and the engine that fills it.
pub(super) struct Build {
    pub(super) tree: Tree,
    engine: Engine,
}

/// What a rendered text must be when it is read again.
pub(super) enum Check<'a> {
    /// A file of systemd's in which these keys have these values, in this order, and no others.
    Ini(&'a [(&'a str, &'a str, &'a str)]),
    /// YAML that says exactly this.
    Yaml(Json),
    /// Exactly these lines, comments left out.
    Lines(&'a [String]),
    /// Free text.
    None,
}

/// A template, where its text goes, and with which permissions.
#[derive(Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) template: &'static str,
    pub(super) path: &'a str,
    pub(super) mode: u16,
}

impl Build {
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

    /// Fill `from` in and see that it reads as `check` says.
    pub(super) fn text(
        &self,
        from: From<'_>,
        values: Value,
        check: &Check<'_>,
    ) -> Result<String, RenderError> {
        let path = || from.path.to_owned();
        let text = self
            .engine
            .fill(from.template, values)
            .map_err(|source| RenderError::Template {
                template: from.template,
                path: path(),
                source,
            })?;
        look_again(from.path, &text, check).map_err(|why| RenderError::Spoiled {
            template: from.template,
            path: path(),
            why,
        })?;
        Ok(text)
    }

    /// Fill `from` in, check it, and plan it on the root filesystem, for everybody to see.
    pub(super) fn root(
        &mut self,
        from: From<'_>,
        values: Value,
        check: &Check<'_>,
    ) -> Result<(), RenderError> {
        let text = self.text(from, values, check)?;
        let origin = format!("templates/{}", from.template);
        self.file(
            Volume::Root,
            from.path,
            text.as_bytes(),
            from.mode,
            &origin,
            Privacy::Public,
        )
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
        check: &Check<'_>,
    ) -> Result<(), RenderError> {
        let name = template.rsplit('/').next().unwrap_or(template);
        let path = format!("{UNITS}/{name}");
        let from = From {
            template,
            path: &path,
            mode: 0o644,
        };
        self.root(from, values, check)?;
        let link = format!("{UNITS}/{wanted_by}.wants/{name}");
        self.link(&link, &path, &format!("templates/{template}"))
    }

    fn add(
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

fn look_again(path: &str, text: &str, check: &Check<'_>) -> Result<(), String> {
    match check {
        Check::None => Ok(()),
        Check::Ini(expected) => {
            let entries = ini::parse(path, text)?;
            for (section, key, _) in *expected {
                let found: Vec<&str> = entries
                    .iter()
                    .filter(|entry| entry.section == *section && entry.key == *key)
                    .map(|entry| entry.value)
                    .collect();
                let wanted: Vec<&str> = expected
                    .iter()
                    .filter(|(s, k, _)| s == section && k == key)
                    .map(|(_, _, value)| *value)
                    .collect();
                if found != wanted {
                    return Err(format!(
                        "{key} in [{section}] is {found:?} and was to be {wanted:?}"
                    ));
                }
            }
            Ok(())
        }
        Check::Yaml(expected) => {
            let read: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
            let wanted = serde_yaml::to_value(expected).map_err(|error| error.to_string())?;
            // Which part differs is not said: it may be a hash.
            if read == wanted {
                Ok(())
            } else {
                Err("read again it is not what was put in".into())
            }
        }
        Check::Lines(expected) => {
            let found: Vec<&str> = text
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .collect();
            if found == *expected {
                Ok(())
            } else {
                Err(format!("its lines are {found:?} and were to be {expected:?}"))
            }
        }
    }
}
