//! cloud-init: the seed that makes users and host, and the image's own seed put out of action.
//!
//! The seed lies on ext4 alone. The image's lies on the FAT partition, where everybody who holds the card reads it,
//! and ends in a well-known password.

use crate::farm::Sudo;
use minijinja::{context, Value};
use serde_json::{json, Map, Value as Json};

use super::build::{Build, Check, From};
use super::RenderError;
use crate::base::BaseFacts;
use crate::edit::tree::{Privacy, Volume};
use crate::plan::{CardPlan, PlannedUser};

/// Where cloud-init looks for a seed before any other place.
const SEED: &str = "/var/lib/cloud/seed/nocloud-net";

/// The first stage of cloud-init under its names since 0.7.
const STAGES: [&str; 3] = [
    "cloud-init-local.service",
    "cloud-init.service",
    "cloud-init-main.service",
];

/// Plan the seed.
pub(super) fn render(build: &mut Build, plan: &CardPlan, base: &BaseFacts) -> Result<(), RenderError> {
    if !STAGES.iter().any(|stage| base.has_unit(stage)) {
        if plan.users.is_empty() && plan.timezone.is_none() && plan.locale.is_none() {
            return Ok(());
        }
        return Err(RenderError::NoUnit {
            release: base.release.clone(),
            unit: "cloud-init-local.service",
            what: "makes users and sets time zone and locale",
            hint: "take Ubuntu's image, or leave `users`, `timezone` and `locale` out",
        });
    }
    super::builtin::add(build, "cloud-init")?;
    let instance = format!("palmfarm-{}", plan.card.name);
    build.dir(SEED, 0o700, "templates/cloud-init")?;
    meta_data(build, plan, &instance)?;
    user_data(build, plan)?;
    build.unit(
        "systemd/palmfarm-seed.service",
        "cloud-init-local.service",
        context! {},
        &Check::Ini(&[("Service", "ExecStart", "/usr/lib/palmfarm/palmfarm-agent seed")]),
    )?;
    stock(build, base, &instance)
}

fn meta_data(build: &mut Build, plan: &CardPlan, instance: &str) -> Result<(), RenderError> {
    let from = From {
        template: "cloud-init/meta-data",
        path: &format!("{SEED}/meta-data"),
        mode: 0o600,
    };
    let hostname = &plan.card.hostname;
    let expected = json!({"instance-id": instance, "local-hostname": hostname});
    build.root(from, context! { instance, hostname }, &Check::Yaml(expected))
}

fn user_data(build: &mut Build, plan: &CardPlan) -> Result<(), RenderError> {
    let users: Vec<Value> = plan.users.iter().map(user_values).collect();
    let values = context! {
        hostname => &plan.card.hostname,
        timezone => plan.timezone.clone(),
        locale => plan.locale.clone(),
        ssh_password => plan.ssh.password,
        users,
    };
    let path = format!("{SEED}/user-data");
    let from = From {
        template: "cloud-init/user-data",
        path: &path,
        mode: 0o600,
    };
    let text = build.text(from, values, &Check::Yaml(expected(plan)))?;
    let privacy = if plan.users.iter().any(|user| user.password.is_some()) {
        Privacy::Secret
    } else {
        Privacy::Public
    };
    let origin = format!("templates/{}", from.template);
    build.file(Volume::Root, &path, text.as_bytes(), from.mode, &origin, privacy)
}

fn user_values(user: &PlannedUser) -> Value {
    context! {
        name => &user.name,
        groups => user.groups.clone(),
        sudo => sudo(user),
        password => user.password.as_ref().map(|hash| hash.as_str().to_owned()),
        ssh_keys => user.ssh_keys.clone(),
    }
}

fn sudo(user: &PlannedUser) -> Option<&'static str> {
    user.sudo.map(|sudo| match sudo {
        Sudo::Password => "ALL=(ALL:ALL) ALL",
        Sudo::Nopasswd => "ALL=(ALL:ALL) NOPASSWD:ALL",
    })
}

/// What the user-data must say when it is read again, put together without the template.
fn expected(plan: &CardPlan) -> Json {
    let mut all = Map::new();
    let mut put = |key: &str, value: Json| all.insert(key.into(), value);
    put("hostname", json!(plan.card.hostname));
    put("preserve_hostname", json!(false));
    put("manage_etc_hosts", json!("localhost"));
    if let Some(timezone) = &plan.timezone {
        put("timezone", json!(timezone));
    }
    if let Some(locale) = &plan.locale {
        put("locale", json!(locale));
    }
    put("disable_root", json!(true));
    put("ssh_pwauth", json!(plan.ssh.password));
    let users = plan.users.iter().map(|user| {
        let mut one = Map::new();
        one.insert("name".into(), json!(user.name));
        one.insert("shell".into(), json!("/bin/bash"));
        if !user.groups.is_empty() {
            one.insert("groups".into(), json!(user.groups));
        }
        if let Some(sudo) = sudo(user) {
            one.insert("sudo".into(), json!(sudo));
        }
        one.insert("lock_passwd".into(), json!(user.password.is_none()));
        if let Some(hash) = &user.password {
            one.insert("hashed_passwd".into(), json!(hash.as_str()));
        }
        if !user.ssh_keys.is_empty() {
            one.insert("ssh_authorized_keys".into(), json!(user.ssh_keys));
        }
        Json::Object(one)
    });
    put("users", users.collect());
    Json::Object(all)
}

/// Empty the image's own seed. It is not read any more, and says so to whoever edits it.
fn stock(build: &mut Build, base: &BaseFacts, instance: &str) -> Result<(), RenderError> {
    for text in &base.fat_seed {
        let (template, expected) = match text.path.name() {
            "user-data" => ("cloud-init/stock-user-data", json!({})),
            "meta-data" => ("cloud-init/stock-meta-data", json!({"instance-id": instance})),
            "network-config" => ("cloud-init/stock-network-config", json!({"version": 2})),
            _ => continue,
        };
        let path = text.path.as_str();
        let from = From {
            template,
            path,
            mode: 0o644,
        };
        let text = build.text(from, context! { instance }, &Check::Yaml(expected))?;
        let origin = format!("templates/{template}");
        build.public(Volume::Boot, path, &text, &origin)?;
    }
    Ok(())
}
