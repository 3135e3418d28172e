//! Sequences of what an owner may do between runs, drawn by lot: nothing that the owner made or wrote is gone after any
//! of the runs, and the report names each container that is not where it was declared.
//!
//! `PALMFARM_SEQUENCES` is the number of sequences, and `PALMFARM_SEED` the first seed. Each failure names its seed; the
//! time at which a container is ready is chance that no seed governs.

use std::collections::BTreeMap;

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::report::{Step, StepState};
use serde_json::{json, Value};

use crate::document::{add, container, run, unplugged, with_alpine};
use crate::lab::{Lab, Ran};
use crate::sh;

/// How many sequences are drawn if nothing else is asked for.
const SEQUENCES: u64 = 2;

/// How many runs of the agent a sequence has, and how many actions there are before each.
const RUNS: u64 = 4;
const ACTIONS: u64 = 4;

/// The declared containers.
const NAMES: [&str; 3] = ["web", "w2", "w3"];

/// A key of the profile `extbridge` that the farm declares.
const EDITION: &str = "user.edition";

/// What the owner made or wrote. A container is named by the time at which it was made, which a restored container keeps
/// and a copy does not.
#[derive(Clone, Debug, PartialEq)]
enum Treasure {
    Container(String),
    /// A backup that was imported under another name: it has the time of the original.
    Import(String),
    /// A file at this path of a container.
    File(String, String),
    Snapshot(String, String),
    /// A key of a container's configuration, with its value.
    Key(String, String, String),
    Device(String, String),
    Profile(String, String),
    /// An alias, and the image to which it points.
    Image(String, String),
    /// The value of the key [`EDITION`] of the profile `extbridge`.
    Edition(String),
}

impl Treasure {
    /// Whether it goes if its owner sets the container `id` back to a snapshot.
    fn goes_with(&self, id: &str) -> bool {
        match self {
            Self::File(of, _) | Self::Key(of, ..) | Self::Device(of, _) | Self::Profile(of, _) => of == id,
            _ => false,
        }
    }
}

/// The next number by lot (xorshift64, Marsaglia 2003).
pub(crate) fn draw(chance: &mut u64, below: u64) -> u64 {
    *chance ^= *chance << 13;
    *chance ^= *chance >> 7;
    *chance ^= *chance << 17;
    (*chance >> 16) % below
}

struct Owner<'a> {
    lab: &'a Lab,
    chance: u64,
    count: u64,
    treasures: Vec<Treasure>,
    /// When the containers that the agent made were made, by declared name.
    made: BTreeMap<String, String>,
    did: Vec<String>,
}

impl Owner<'_> {
    fn draw(&mut self, below: u64) -> u64 {
        draw(&mut self.chance, below)
    }

    fn lxc(&mut self, line: &str) -> bool {
        let done = sh::succeeds(&mut self.lab.pi.lxc(line));
        self.did
            .push(format!("{}{line}", if done { "" } else { "FAILED " }));
        done
    }

    fn keep_if(&mut self, done: bool, treasure: Treasure) {
        if done {
            self.treasures.push(treasure);
        }
    }

    /// All containers: when they were made, and their names.
    fn all(&self) -> Vec<(String, String)> {
        let all = instances(self.lab);
        all.iter()
            .map(|one| (text(&one["created_at"]), text(&one["name"])))
            .collect()
    }

    /// Where the alias points.
    fn target(&self, alias: &str) -> Option<String> {
        let all = list(self.lab, "/1.0/images/aliases?recursion=1");
        all.iter()
            .find(|one| one["name"] == *alias)
            .map(|one| text(&one["target"]))
    }

    fn act(&mut self) {
        let all = self.all();
        let picked = usize::try_from(self.draw(u64::try_from(all.len()).unwrap())).unwrap();
        let (id, name) = all[picked].clone();
        self.count += 1;
        let number = self.count;
        match self.draw(18) {
            0..=2 => self.write(id, &name, number),
            3 => {
                let done = self.lxc(&format!("snapshot {name} s{number}"));
                self.keep_if(done, Treasure::Snapshot(id, format!("s{number}")));
            }
            4 => {
                let copy = format!("copy{number}");
                if self.lxc(&format!("copy {name} {copy}")) {
                    let all = self.all();
                    let copied = all.iter().find(|(_, name)| *name == copy).unwrap();
                    self.treasures.push(Treasure::Container(copied.0.clone()));
                }
            }
            5 | 6 => self.rename(&all, &name, number),
            7 => self.restore(&id, &name),
            8 => {
                self.lxc(&format!("stop --force {name}"));
                let alias = format!("mine{number}");
                let done = self.lxc(&format!("publish {name} --alias {alias}"));
                let image = self.target(&alias).unwrap_or_default();
                self.keep_if(done, Treasure::Image(alias, image.clone()));
                self.lxc(&format!("start {name}"));
                // Now and then in the place of the farm's.
                if done && self.draw(3) == 0 && self.lxc("image alias delete web_image") {
                    self.give_up_alias();
                    let done = self.lxc(&format!("image alias create web_image {image}"));
                    self.keep_if(done, Treasure::Image("web_image".into(), image));
                }
            }
            9 => {
                if self.lxc("image alias delete web_image") {
                    self.give_up_alias();
                }
            }
            10 => {
                if let Some(image) = self.target("web_image") {
                    let done = self.lxc(&format!("image alias create keep{number} {image}"));
                    self.keep_if(done, Treasure::Image(format!("keep{number}"), image));
                }
            }
            11 => {
                self.lxc(&format!("profile create mine{number}"));
                let done = self.lxc(&format!("profile add {name} mine{number}"));
                self.keep_if(done, Treasure::Profile(id, format!("mine{number}")));
            }
            12 => {
                let key = ["user.mine", "limits.processes"][usize::from(number.is_multiple_of(2))];
                let value = (300 + number).to_string();
                if self.lxc(&format!("config set {name} {key} {value}")) {
                    self.treasures
                        .retain(|one| !matches!(one, Treasure::Key(of, had, _) if *of == id && had == key));
                    self.treasures.push(Treasure::Key(id, key.into(), value));
                }
            }
            13 => {
                let done = self.lxc(&format!("config device add {name} mine{number} none"));
                self.keep_if(done, Treasure::Device(id, format!("mine{number}")));
            }
            14 => {
                let value = format!("mine{number}");
                if self.lxc(&format!("profile set extbridge {EDITION} {value}")) {
                    self.treasures.retain(|one| !matches!(one, Treasure::Edition(_)));
                    self.treasures.push(Treasure::Edition(value));
                }
            }
            15 => self.export(&id, &name, number),
            16 => {
                let verb = ["start", "stop --force"][usize::from(number.is_multiple_of(2))];
                self.lxc(&format!("{verb} {name}"));
            }
            _ => {
                self.lxc(&format!("profile remove {name} extbridge"));
            }
        }
    }

    fn give_up_alias(&mut self) {
        self.treasures
            .retain(|one| !matches!(one, Treasure::Image(alias, _) if alias == "web_image"));
    }

    /// A new file, an old one, or one that is put there from outside, perhaps into a container that does not run.
    fn write(&mut self, id: String, name: &str, number: u64) {
        let dir = ["/root", "/etc", ""][usize::try_from(self.draw(3)).unwrap()];
        let path = format!("{dir}/mine-{number}");
        let line = match self.draw(3) {
            0 => format!("exec {name} -- touch {path}"),
            1 => format!("exec {name} -- touch -d @1000000000 {path}"),
            _ => {
                self.lab.put("mine", b"mine");
                format!(
                    "file push {} {name}{path}",
                    self.lab.card().join("mine").display()
                )
            }
        };
        let done = self.lxc(&line);
        self.keep_if(done, Treasure::File(id, path));
    }

    /// To a new name, or to that of a declared container that is not there.
    fn rename(&mut self, all: &[(String, String)], name: &str, number: u64) {
        self.lxc(&format!("stop --force {name}"));
        let free = NAMES
            .into_iter()
            .find(|free| !all.iter().any(|(_, name)| name == free));
        let to = free.map_or_else(|| format!("name{number}"), str::to_owned);
        let verb = ["rename", "move"][usize::from(number.is_multiple_of(2))];
        if self.lxc(&format!("{verb} {name} {to}")) {
            for one in &mut self.treasures {
                if *one == Treasure::Import(name.into()) {
                    *one = Treasure::Import(to.clone());
                }
            }
        }
        if self.draw(2) == 0 {
            self.lxc(&format!("start {to}"));
        }
    }

    fn restore(&mut self, id: &str, name: &str) {
        let snapshots = list(self.lab, &format!("/1.0/instances/{name}/snapshots"));
        let Some(first) = snapshots.first() else { return };
        let snapshot = text(first).rsplit('/').next().unwrap().to_owned();
        self.lxc(&format!("stop --force {name}"));
        if self.lxc(&format!("restore {name} {snapshot}")) {
            self.treasures.retain(|one| !one.goes_with(id));
        }
        self.lxc(&format!("start {name}"));
    }

    /// A backup, which is imported in the place of the original or beside it.
    fn export(&mut self, id: &str, name: &str, number: u64) {
        let backup = self.lab.card().join("backup.tar").display().to_string();
        if !self.lxc(&format!("export {name} {backup} --compression none")) {
            return;
        }
        if self.draw(2) == 0 {
            let import = format!("import{number}");
            let done = self.lxc(&format!("import {backup} {import}"));
            self.keep_if(done, Treasure::Import(import));
        } else {
            self.lxc(&format!("delete --force {name}"));
            if !self.lxc(&format!("import {backup}")) {
                // Then it is the owner who has lost it.
                self.treasures.retain(|one| {
                    !one.goes_with(id)
                        && !matches!(one, Treasure::Snapshot(of, _) | Treasure::Container(of) if of == id)
                });
                self.treasures
                    .retain(|one| *one != Treasure::Import(name.to_owned()));
            }
        }
    }

    /// Nothing is gone after a run on `farm`, and each difference is named.
    fn check(&self, seed: u64, ran: &Ran, farm: &FirstBoot) {
        let all = instances(self.lab);
        let has = |treasure: &Treasure| match treasure {
            Treasure::Container(id) => of(&all, id).next().is_some(),
            Treasure::Import(name) => all.iter().any(|one| one["name"] == **name),
            Treasure::File(id, path) => of(&all, id).any(|one| {
                let mut pull = self
                    .lab
                    .pi
                    .lxc(&format!("file pull {}{path} -", text(&one["name"])));
                sh::succeeds(&mut pull)
            }),
            Treasure::Snapshot(id, snapshot) => of(&all, id).any(|one| {
                let name = text(&one["name"]);
                let all = list(self.lab, &format!("/1.0/instances/{name}/snapshots"));
                let end = format!("/{snapshot}");
                all.iter().any(|one| text(one).ends_with(&end))
            }),
            Treasure::Key(id, key, value) => of(&all, id).any(|one| one["config"][key] == **value),
            Treasure::Device(id, device) => of(&all, id).any(|one| one["devices"][device].is_object()),
            Treasure::Profile(id, profile) => of(&all, id).any(|one| {
                let profiles = one["profiles"].as_array().unwrap();
                profiles.contains(&profile.as_str().into())
            }),
            Treasure::Image(alias, fingerprint) => self.target(alias).as_ref() == Some(fingerprint),
            Treasure::Edition(value) => {
                self.lab.pi.query("/1.0/profiles/extbridge")["config"][EDITION] == **value
            }
        };
        let lost: Vec<&Treasure> = self.treasures.iter().filter(|one| !has(one)).collect();
        let story = || format!("seed {seed}, after {:#?}\n{}", self.did, ran.printed);
        assert!(lost.is_empty(), "lost {lost:?}: {}", story());

        let failed = |step: &Step| matches!(step.state, StepState::Failed | StepState::Skipped);
        for declared in &farm.containers {
            let name = &declared.name;
            let step = ran.step(&format!("container {name}"));
            if failed(step) {
                continue;
            }
            let there = all.iter().find(|one| one["name"] == **name);
            let there = there.unwrap_or_else(|| panic!("{name} is not named: {}", story()));
            let made = self.made.get(name).filter(|id| there["created_at"] != ***id);
            // A backup that was imported beside it is not it.
            let is_import = |one: &Value| self.treasures.contains(&Treasure::Import(text(&one["name"])));
            let remade =
                step.state == StepState::Changed && made.is_none_or(|id| of(&all, id).all(is_import));
            assert!(made.is_none() || remade, "{name} is not named: {}", story());
            let differs = |key: &&String| there["config"][*key] != declared.config[*key];
            let mut parts: Vec<&str> = declared
                .config
                .keys()
                .filter(differs)
                .map(String::as_str)
                .collect();
            if there["profiles"] != json!(declared.profiles) {
                parts.push("profiles");
            }
            for part in parts {
                assert!(
                    step.message.contains(part),
                    "{part} of {name} is not named: {}",
                    story()
                );
            }
        }
        let steps = &ran.report.as_ref().unwrap().steps;
        let publish = steps.iter().find(|one| one.name == "publish web_image");
        let foreign = self
            .treasures
            .iter()
            .any(|one| matches!(one, Treasure::Image(alias, _) if alias == "web_image"));
        assert!(
            !foreign || publish.is_none_or(failed),
            "the alias is not named: {}",
            story()
        );
        let edition = &farm.lxd.as_ref().unwrap().preseed.profiles[1].config[EDITION];
        let found = self.lab.pi.query("/1.0/profiles/extbridge")["config"][EDITION].take();
        let named = ran.step("preseed").message.contains(EDITION);
        assert!(
            found == **edition || named,
            "the profile is not named: {}",
            story()
        );
    }

    /// Note the containers that were made.
    fn note(&mut self, ran: &Ran) {
        for (id, name) in self.all() {
            let step = format!("container {name}");
            let changed = |one: &Step| one.name == step && one.state == StepState::Changed;
            if ran.report.as_ref().unwrap().steps.iter().any(changed) {
                self.made.insert(name, id);
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn list(lab: &Lab, path: &str) -> Vec<Value> {
    lab.pi.query(path).as_array().cloned().unwrap_or_default()
}

/// The containers that were made at this time.
fn of<'a>(all: &'a [Value], id: &'a str) -> impl Iterator<Item = &'a Value> {
    all.iter().filter(move |one| one["created_at"] == *id)
}

fn instances(lab: &Lab) -> Vec<Value> {
    list(lab, "/1.0/instances?recursion=1")
}

/// The farm with the template in one of its editions, and settings that change.
fn farm(lab: &Lab, edition: u64) -> FirstBoot {
    let mut farm = with_alpine(lab);
    let profile = &mut farm.lxd.as_mut().unwrap().preseed.profiles[1];
    profile.config.insert(EDITION.into(), (edition % 2).to_string());
    let mut web = container("web", 1, "alpine");
    web.devices = unplugged();
    web.run = vec![run("edition", &format!("echo {edition} > /edition"))];
    web.publish = Some("web_image".into());
    add(&mut farm, web);
    for (name, number) in [("w2", 2), ("w3", 3)] {
        let mut one = container(name, number, "web_image");
        one.devices = unplugged();
        one.config
            .insert("limits.processes".into(), (200 + edition % 2).to_string());
        add(&mut farm, one);
    }
    farm
}

#[test]
fn nothing_of_the_owner_is_lost() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let first = number("PALMFARM_SEED", 1);
    let sequences = number("PALMFARM_SEQUENCES", SEQUENCES);
    let mut actions = 0;
    for seed in first..first + sequences {
        let Some(lab) = Lab::new() else { return };
        println!("seed {seed}");
        let mut owner = Owner {
            lab: &lab,
            // Neighbouring seeds must not begin alike (splitmix64's constant), and a zero would stay one.
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1),
            count: 0,
            treasures: Vec::new(),
            made: BTreeMap::new(),
            did: Vec::new(),
        };
        let mut edition = 1;
        let ran = lab.agent(&farm(&lab, edition));
        ran.all_well();
        owner.note(&ran);
        for _ in 0..RUNS {
            for _ in 0..=owner.draw(ACTIONS) {
                owner.act();
                actions += 1;
            }
            if owner.draw(2) == 0 {
                edition += 1;
                owner.did.push(format!("edition {edition}"));
            }
            owner.did.push("run".into());
            let farm = farm(&lab, edition);
            let ran = lab.agent(&farm);
            owner.check(seed, &ran, &farm);
            owner.note(&ran);
        }
    }
    println!("{sequences} sequences from seed {first} with {actions} actions, and nothing was lost");
}
