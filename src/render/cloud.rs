//! cloud-init: the seed that makes users and host, and the image's own seed put out of action.
//!
//! The seed lies on ext4 alone. The image's lies on the FAT partition, where everybody who holds the card reads it,
//! and ends in a well-known password.

use crate::farm::Sudo;
use minijinja::context;
use palmfarm_protocol::paths::HOST;
use serde_json::{json, Value};

use super::builder::{yaml, TreeBuilder, UNITS};
use super::{Inputs, RenderError};
use crate::base::{BaseFacts, BaseRefusal};
use crate::edit::tree::{CardPath, Privacy, Volume};
use crate::plan::{CardPlan, PlannedUser};

/// Where cloud-init looks for a seed before any other place.
const SEED: &str = "/var/lib/cloud/seed/nocloud-net";

/// The stages of cloud-init, each under its names since 0.7.
const STAGES: [&[&str]; 4] = [
    &["cloud-init-local.service", "cloud-init-main.service"],
    &[
        "cloud-init.service",
        "cloud-init-network.service",
        "cloud-init-main.service",
    ],
    &["cloud-config.service"],
    &["cloud-final.service"],
];

/// systemd of 20.04.
const BIONIC_IS_BEFORE: u32 = 245;

/// Plan the seed.
pub(super) fn render(
    build: &mut TreeBuilder,
    plan: &CardPlan,
    base: &BaseFacts,
    inputs: &Inputs,
) -> Result<(), RenderError> {
    let missing = STAGES
        .iter()
        .find(|stage| !stage.iter().any(|unit| base.has_unit(unit)));
    if let Some(unit) = missing.and_then(|stage| stage.first()) {
        if plan.users.is_empty() && plan.timezone.is_none() && plan.locale.is_none() {
            return Ok(());
        }
        return Err(RenderError::NoUnit {
            release: base.release.clone(),
            unit,
            what: "makes users and sets time zone and locale",
            hint: "take Ubuntu's image, or leave `users`, `timezone` and `locale` out",
        });
    }
    super::builtin::add(build, "cloud-init")?;
    // As `systemctl enable` would, where somebody has disabled them.
    let stages: std::collections::BTreeSet<_> = STAGES.iter().copied().flatten().collect();
    for unit in stages.into_iter().filter(|unit| base.has_unit(unit)) {
        let link = format!("{UNITS}/cloud-init.target.wants/{unit}");
        build.link(&link, &format!("/lib/systemd/system/{unit}"), "systemctl enable")?;
    }
    let instance = instance(plan);
    build.dir(SEED, 0o700, "palmfarm")?;
    meta_data(build, plan, &instance)?;
    user_data(build, plan, base, inputs)?;
    build.unit(
        "systemd/palmfarm-seed.service",
        "cloud-init-local.service",
        context! {},
    )?;
    stock(build, base, &instance)
}

/// The identifier by which cloud-init knows the card.
fn instance(plan: &CardPlan) -> String {
    format!("palmfarm-{}", plan.card.name)
}

/// What of the base's cloud-init cannot be undone.
pub(super) fn hindrances(plan: &CardPlan, base: &BaseFacts) -> Vec<BaseRefusal> {
    let mut found = Vec::new();
    let instance = instance(plan);
    if base.cloud_init.instances.contains(&instance) {
        let path = CardPath::new(&format!("/var/lib/cloud/instances/{instance}"));
        found.extend(path.map(BaseRefusal::UsedInstance));
    }
    let needed = [
        ("growpart", true),
        ("resizefs", true),
        ("ssh", true),
        ("users_groups", !plan.users.is_empty()),
        ("set_passwords", plan.ssh.password),
        ("timezone", plan.timezone.is_some()),
        ("locale", plan.locale.is_some()),
    ];
    if let Some(modules) = &base.cloud_init.modules {
        let missing = |(module, is_needed): &(&'static str, bool)| *is_needed && !modules.contains(*module);
        let missing: Vec<_> = needed
            .into_iter()
            .filter(missing)
            .map(|(module, _)| module)
            .collect();
        if !missing.is_empty() {
            found.push(BaseRefusal::NoModules(missing));
        }
    }
    found
}

fn meta_data(build: &mut TreeBuilder, plan: &CardPlan, instance: &str) -> Result<(), RenderError> {
    let text = yaml(
        "# palmfarm. One identifier for the life of this card: a new one would make new SSH host keys.",
        &json!({"instance-id": instance, "local-hostname": plan.card.hostname}),
    );
    let path = format!("{SEED}/meta-data");
    build.private(&path, &text, "farm.yaml", Privacy::Public)
}

fn user_data(
    build: &mut TreeBuilder,
    plan: &CardPlan,
    base: &BaseFacts,
    inputs: &Inputs,
) -> Result<(), RenderError> {
    let config = config(plan, base, inputs);
    let text = yaml(
        "#cloud-config\n\
         # palmfarm: from farm.yaml. It lies on the root filesystem, so that nobody reads hashes off the FAT partition.\n\
         # The image's own default user is not among the users, so there is no ubuntu with a well-known password.",
        &config,
    );
    let privacy = Privacy::secret_if(plan.users.iter().any(|user| user.password.is_some()));
    let path = format!("{SEED}/user-data");
    build.private(&path, &text, "farm.yaml", privacy)?;
    build.public(Volume::Root, HOST, &without_passwords(config), "farm.yaml")
}

/// The same for the agent, as JSON.
fn without_passwords(mut config: Value) -> String {
    let users = config["users"].as_array_mut().into_iter().flatten();
    for user in users.filter_map(Value::as_object_mut) {
        user.remove("hashed_passwd");
    }
    format!("{config:#}\n")
}

/// What cloud-init is told: only what the farm declares, and what must not be left to the image.
fn config(plan: &CardPlan, base: &BaseFacts, inputs: &Inputs) -> Value {
    let mut all = json!({
        "hostname": plan.card.hostname,
        "preserve_hostname": false,
        "manage_etc_hosts": "localhost",
        "disable_root": true,
        "ssh_pwauth": plan.ssh.password,
        "users": plan.users.iter().map(|one| user(one, base)).collect::<Vec<_>>(),
    });
    // Otherwise cloud-init removes them at the first boot; it makes those of the types that are missing (cc_ssh).
    let is_host_key = |path: &str| path.starts_with("/etc/ssh/ssh_host_") && path.ends_with("_key");
    if inputs.bring(plan, &is_host_key) {
        all["ssh_deletekeys"] = json!(false);
    }
    // Otherwise cloud-init overwrites these (cc_apt_configure).
    if inputs.bring(plan, &|path| APT_SOURCES.contains(&path)) {
        all["apt"] = json!({"preserve_sources_list": true});
    }
    // A key of another type would be new on each card, and a client may have learned it.
    if plan.host_key.is_some() {
        all["ssh_genkeytypes"] = json!(["ed25519"]);
    }
    for (key, value) in [("timezone", &plan.timezone), ("locale", &plan.locale)] {
        if let Some(value) = value {
            all[key] = json!(value);
        }
    }
    all
}

/// The files in which apt finds its archives on Ubuntu, until 23.10 and since.
const APT_SOURCES: [&str; 2] = ["/etc/apt/sources.list", "/etc/apt/sources.list.d/ubuntu.sources"];

fn user(user: &PlannedUser, base: &BaseFacts) -> Value {
    let mut one = json!({
        "name": user.name,
        "shell": user.shell,
        "lock_passwd": user.password.is_none(),
    });
    if !user.groups.is_empty() {
        one["groups"] = json!(user.groups);
    }
    if let Some(gecos) = &user.gecos {
        one["gecos"] = json!(gecos);
    }
    if let Some(uid) = user.uid {
        // cloud-init before 20.2, as in images of 18.04, passes over a number (LP: #1875772); a later one calls a text old.
        let is_old = base.systemd.is_some_and(|version| version < BIONIC_IS_BEFORE);
        one["uid"] = if is_old {
            json!(uid.to_string())
        } else {
            json!(uid)
        };
    }
    if let Some(sudo) = user.sudo {
        one["sudo"] = json!(match sudo {
            Sudo::Password => "ALL=(ALL:ALL) ALL",
            Sudo::Nopasswd => "ALL=(ALL:ALL) NOPASSWD:ALL",
        });
    }
    if let Some(hash) = &user.password {
        one["hashed_passwd"] = json!(hash.as_str());
    }
    if !user.ssh_keys.is_empty() {
        one["ssh_authorized_keys"] = json!(user.ssh_keys);
    }
    one
}

/// Empty the image's own seed. It is not read any more, and says so to whoever edits it.
fn stock(build: &mut TreeBuilder, base: &BaseFacts, instance: &str) -> Result<(), RenderError> {
    for text in &base.fat_seed {
        let see = "# Nothing here is read; see user-data.";
        let text_of = match text.path.name() {
            "user-data" => yaml(
                "#cloud-config\n\
                 # Nothing here is read: palmfarm has put this card's users and settings on its root filesystem\n\
                 # (/var/lib/cloud/seed/nocloud-net) and told cloud-init to look there alone.",
                &json!({}),
            ),
            "meta-data" => yaml(see, &json!({"instance-id": instance})),
            "network-config" => yaml(
                &format!("{see} The network is configured below /etc/systemd/network."),
                &json!({"version": 2}),
            ),
            _ => continue,
        };
        build.public(Volume::Boot, text.path.as_str(), &text_of, "palmfarm")?;
    }
    Ok(())
}
