//! Containers one by one: replicas expanded, images resolved, files and scripts in, each after the one that
//! publishes its image.

use std::sync::Arc;

use palmfarm_protocol::firstboot::{self, Content, ImageRef, PushedFile, LARGEST};
use palmfarm_protocol::paths::FARM_FILES;
use serde_json::json;

use super::content_cache::ContentCache;
use super::{access, carried, CardFile, PlanError, OF_THE_AGENT};
use crate::edit::block::length;
use crate::farm::addresses::{self, Prefix};
use crate::farm::assets::Sources;
use crate::farm::stack::{self, Stacked};
use crate::farm::{Container, Farm, ResolvedCard, RunWhat};
use crate::sha256::Sha256Sum;

/// Every container of `card` in the order in which they can be made, and what each is left with; the files that
/// they need are added to `payload`.
pub(super) fn plan(
    farm: &Farm,
    card: &ResolvedCard,
    sources: &Sources,
    prefixes: &[Prefix],
    payload: &mut Vec<CardFile>,
    seen: &mut ContentCache,
) -> Result<(Vec<firstboot::Container>, Vec<Stacked>), PlanError> {
    let lxd = farm.lxd.clone().unwrap_or_default();
    let profiles = stack::profiles(&lxd, &card.network);
    let mut all = Vec::new();
    let mut made: Option<(&Container, (String, Arc<Content>))> = None;
    let mut room = Room(LARGEST);
    for addressed in addresses::containers(farm, card) {
        let declared = addressed.container;
        let names = declared.stacked(&card.network);
        let stacked = stack::stack(&profiles, &names, declared);
        // The daemon lets a device's own address win over the one that it keeps for the container.
        let mac = stacked.mac().unwrap_or(addressed.mac);
        let on_lan = stacked.parent() == Some(&card.network.lan());
        // Replicas come one after the other and have one content, which may take long to hash.
        let (digest, content) = match made.take() {
            Some((of, content)) if std::ptr::eq(of, declared) => content,
            _ => content(declared, sources, payload, seen, &mut room)?,
        };
        room.take(declared, declared.config.iter())?;
        room.take(declared, declared.devices.values().flatten())?;
        let container = firstboot::Container {
            digest: digest.clone(),
            content: Arc::clone(&content),
            name: addressed.name,
            profiles: names,
            mac,
            predicted: if on_lan {
                addresses::predicted(mac, prefixes)
            } else {
                Vec::new()
            },
            config: declared.own_config(),
            devices: declared.devices.clone(),
        };
        all.push((container, stacked));
        made = Some((declared, (digest, content)));
    }
    Ok(in_order(all)?.into_iter().unzip())
}

/// How many bytes the agent's document has left. A farm of a few bytes can name one script thousands of times, or have
/// a thousand replicas of long keys; it is refused before all of that is in memory.
struct Room(u64);

impl Room {
    fn take<'a>(
        &mut self,
        whose: &Container,
        texts: impl Iterator<Item = (&'a String, &'a String)>,
    ) -> Result<(), PlanError> {
        for (key, value) in texts {
            self.take_text(whose, key)?;
            self.take_text(whose, value)?;
        }
        Ok(())
    }

    fn take_text(&mut self, whose: &Container, text: &str) -> Result<(), PlanError> {
        let left = self.0.checked_sub(length(text.as_bytes()));
        self.0 = left.ok_or_else(|| PlanError::Containers {
            container: whose.name.clone(),
            most: LARGEST,
        })?;
        Ok(())
    }
}

/// What is the same in every replica, and its digest.
fn content(
    declared: &Container,
    sources: &Sources,
    payload: &mut Vec<CardFile>,
    seen: &mut ContentCache,
    room: &mut Room,
) -> Result<(String, Arc<Content>), PlanError> {
    let files = pushed(declared, sources, payload, seen)?;
    let mut run = Vec::new();
    for (step, number) in declared.run.iter().zip(1_usize..) {
        let (label, script) = script(number, &step.what, sources)?;
        room.take_text(declared, script)?;
        run.push(firstboot::Run {
            label,
            script: script.into(),
            retries: step.retries,
            timeout_seconds: step.timeout_seconds,
        });
    }
    let content = Content {
        image: image(&declared.image),
        files,
        run,
        publish: declared.publish.clone(),
    };
    Ok((digest(&content), Arc::new(content)))
}

/// `REMOTE:ALIAS` is an image server's, anything else the daemon's own.
fn image(text: &str) -> ImageRef {
    match text.split_once(':') {
        Some((remote, alias)) => ImageRef::Remote {
            remote: remote.into(),
            alias: alias.into(),
        },
        None => ImageRef::Local(text.into()),
    }
}

fn pushed(
    declared: &Container,
    sources: &Sources,
    payload: &mut Vec<CardFile>,
    seen: &mut ContentCache,
) -> Result<Vec<PushedFile>, PlanError> {
    let mut files = Vec::new();
    for (path, source) in &declared.files {
        // Under the name that declares them: replicas share their files.
        let (there, privacy) = access(path, source, sources)?;
        let on_card = format!("{FARM_FILES}/{}{path}", declared.name);
        let carried = carried(&on_card, &source.file, OF_THE_AGENT, privacy, sources)?;
        files.push(PushedFile {
            path: path.clone(),
            source: carried.path.as_str().into(),
            sha256: seen.sha256(&carried.content),
            mode: there.mode,
            uid: there.uid,
            gid: there.gid,
        });
        if !payload.iter().any(|there| there.path == carried.path) {
            payload.push(carried);
        }
    }
    Ok(files)
}

/// What people see of a step, and what runs.
fn script<'a>(
    number: usize,
    what: &'a RunWhat,
    sources: &'a Sources,
) -> Result<(String, &'a str), PlanError> {
    match what {
        RunWhat::Command(line) => Ok((command_label(number, line), line)),
        RunWhat::Script(path) => {
            let content = sources
                .get(path)
                .ok_or_else(|| PlanError::NotRead(path.clone()))?;
            let text = std::str::from_utf8(content).map_err(|_| PlanError::NoText(path.clone()))?;
            Ok((path.rsplit('/').next().unwrap_or(path).into(), text))
        }
    }
}

/// What reports call the command `line`: the report lies on the FAT partition, where everybody reads it, and the
/// arguments of a command may be secret.
fn command_label(number: usize, line: &str) -> String {
    let word = line.split_whitespace().next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte);
    if word.is_empty() || word.len() > 64 || !word.bytes().all(is_plain) {
        return format!("line {number} of run");
    }
    format!("line {number} of run, {word} …")
}

/// SHA-256 over what makes a container's content: the same for the same declaration, whatever the card is called and
/// wherever on it the files lie.
fn digest(content: &Content) -> String {
    let files = content.files.iter();
    let files: Vec<_> = files
        .map(|file| match (file.uid, file.gid) {
            // As before files had owners, so that a container with such files is the same one.
            (0, 0) => json!([file.path, file.sha256, file.mode]),
            (uid, gid) => json!([file.path, file.sha256, file.mode, uid, gid]),
        })
        .collect();
    // Not the labels: what people are shown makes nothing.
    let run = content.run.iter();
    let run: Vec<_> = run
        .map(|run| json!([run.script, run.retries, run.timeout_seconds]))
        .collect();
    let (image, publish) = (&content.image, &content.publish);
    let all = json!({"version": 1, "image": image, "files": files, "run": run, "publish": publish});
    Sha256Sum::of(all.to_string().as_bytes()).to_string()
}

/// Each container after every one that publishes its image, otherwise as they are declared.
fn in_order(
    mut waiting: Vec<(firstboot::Container, Stacked)>,
) -> Result<Vec<(firstboot::Container, Stacked)>, PlanError> {
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready = waiting.iter().position(|(container, _)| match &container.image {
            ImageRef::Remote { .. } => true,
            ImageRef::Local(alias) => !waiting
                .iter()
                .any(|(other, _)| other.publish.as_deref() == Some(alias)),
        });
        match ready {
            Some(ready) => ordered.push(waiting.remove(ready)),
            None => {
                return Err(PlanError::Circle(
                    waiting.into_iter().map(|(container, _)| container.name).collect(),
                ))
            }
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_no_arguments() {
        let check = |line: &str, expect: &str| assert_eq!(command_label(2, line), expect);
        check("apk add nginx", "line 2 of run, apk …");
        check("  mysql --password=hunter2", "line 2 of run, mysql …");
        check("PASSWORD=hunter2 mysql", "line 2 of run");
        check("\u{1b}[2J", "line 2 of run");
        check("", "line 2 of run");
    }
}
