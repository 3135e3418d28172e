//! A card for the lab as a person makes it: farm.yaml and what it names, `palmfarm plan` and `palmfarm build` on a base
//! for this machine's processor, and the files of the image that the agent works with.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use palmfarm_protocol::firstboot::FirstBoot;
use palmfarm_protocol::validate;
use serde_json::Value;

use crate::common::make::{Recipe, NOBLE};
use crate::lab::Lab;
use crate::machine::agent_program;
use crate::sh;

/// The tool.
const PALMFARM: &str = env!("CARGO_BIN_EXE_palmfarm");

/// What every farm here begins with: the base and the user, and the address that the router knows.
pub(crate) const HEAD: &str = r#"farm: 1
base: base.img
hostname: palm
users:
  - name: craig
    groups: [sudo, lxd]
    ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9uFcIdEjWNV0yG3V0bKlBhGFgwcTLrVn6hqw6kJ4wV craig@laptop"]
    sudo: nopasswd
network:
  ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1}
"#;

/// What rendering looks for on a base, beside the loader that tells its architecture.
const OF_A_BASE: &[&str] = &[
    "usr/lib/systemd/libsystemd-shared-255.so",
    "usr/lib/systemd/system/systemd-networkd.service",
    "usr/lib/systemd/system/systemd-networkd.socket",
    "usr/lib/systemd/system/systemd-networkd-wait-online.service",
    "usr/lib/systemd/system/systemd-resolved.service",
    "usr/lib/systemd/system/cloud-init-local.service",
    "usr/lib/systemd/system/cloud-init.service",
    "usr/lib/systemd/system/cloud-config.service",
    "usr/lib/systemd/system/cloud-final.service",
    "usr/lib/systemd/system/ssh.service",
];

/// The accounts that a card for [`HEAD`] has when the agent runs.
pub(crate) fn accounts(lab: &Lab) {
    lab.put(
        "etc/passwd",
        b"root:x:0:0::/root:/bin/sh\ncraig:x:1000:1000::/home/craig:/bin/sh\n",
    );
    lab.put("etc/group", b"root:x:0:\nlxd:x:110:\ncraig:x:1000:\n");
}

/// A folder with a farm, and a base for this processor beside it.
pub(crate) struct Workstation {
    dir: tempfile::TempDir,
    /// Where the root partition begins, in bytes.
    root: u64,
}

impl Workstation {
    /// Put `files` and the base `base.img` there, and the agent in the folder that the tool is given.
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
        let loader = match std::env::consts::ARCH {
            "x86_64" => "lib64/ld-linux-x86-64.so.2",
            "aarch64" => "lib/ld-linux-aarch64.so.1",
            _ => "lib/ld-linux-armhf.so.3",
        };
        // A base has room for what its card carries.
        let carried: usize = files.iter().map(|(_, content)| content.len()).sum();
        let recipe = Recipe {
            root_size: NOBLE.root_size + u64::try_from(carried).unwrap().next_multiple_of(1 << 20),
            ..NOBLE
        };
        let base = recipe.make_with(|root| {
            let put = |path: &str, content: &[u8]| write(&root.join(path), content);
            put(loader, b"");
            for path in OF_A_BASE {
                put(path, b"");
            }
            put(
                "usr/lib/os-release",
                b"PRETTY_NAME=\"a base for tests\"\nVERSION_ID=\"24.04\"\n",
            );
            put(
                "etc/fstab",
                b"LABEL=system-boot /boot/firmware vfat defaults 0 1\n",
            );
            fs::create_dir_all(root.join("boot/firmware")).unwrap();
        });
        let dir = tempfile::tempdir().unwrap();
        fs::copy(&base.path, dir.path().join("base.img")).unwrap();
        let agent = format!("palmfarm-agent-{}", debian_arch());
        write(
            &dir.path().join("agents").join(agent),
            &fs::read(agent_program()).unwrap(),
        );
        let this = Self {
            dir,
            root: base.root.0,
        };
        for (path, content) in files {
            this.put(path, content);
        }
        this
    }

    /// Write a file of the farm.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        write(&self.dir.path().join(path), content);
    }

    /// What `palmfarm plan --prefix` predicts: the addresses of each container.
    pub(crate) fn plan(&self, prefix: &str) -> BTreeMap<String, Vec<Ipv6Addr>> {
        let text =
            sh::output(&mut self.palmfarm(&["plan", "farm.yaml", "--prefix", prefix, "--format", "json"]));
        let plan: Value = serde_json::from_str(&text).unwrap();
        let containers = plan["containers"].as_array().unwrap();
        let one = |container: &Value| {
            let name = container["name"].as_str().unwrap().to_owned();
            (
                name,
                serde_json::from_value(container["addresses"].clone()).unwrap(),
            )
        };
        containers.iter().map(one).collect()
    }

    /// Build an image and put onto the card of `lab` what the agent works with; the document among it.
    pub(crate) fn build(&self, lab: &Lab) -> FirstBoot {
        sh::run(&mut self.palmfarm(&["build", "farm.yaml", "-o", "palm.img"]));
        let take = |path: &str| {
            let from = format!("root:{path}");
            let shown = sh::ended(&mut self.palmfarm(&["inspect", "palm.img", &from]));
            let content = if shown.status.success() {
                shown.stdout
            } else {
                self.large(path)
            };
            lab.put(path, &content);
            content
        };
        take("/usr/lib/palmfarm/palmfarm-agent");
        let agent = lab.card().join("usr/lib/palmfarm/palmfarm-agent");
        fs::set_permissions(agent, fs::Permissions::from_mode(0o755)).unwrap();
        let document: FirstBoot = serde_json::from_slice(&take("/etc/palmfarm/firstboot.json")).unwrap();
        for path in validate::files(&document) {
            take(path);
        }
        assert_eq!(validate::flaws(&document), [""; 0]);
        document
    }

    /// A file of the image that `palmfarm inspect` does not print, since it is larger than 64 MiB.
    fn large(&self, path: &str) -> Vec<u8> {
        let to = self.dir.path().join("large");
        let image = format!("palm.img?offset={}", self.root);
        let mut debugfs = sh::cmd(
            "debugfs",
            ["-R", &format!("dump {path} {}", to.display()), &image],
        );
        sh::run(debugfs.current_dir(self.dir.path()));
        let content = fs::read(&to).unwrap();
        fs::remove_file(to).unwrap();
        content
    }

    /// Build what `palmfarm-agent apply` takes, onto the card of `lab` as `/root/palm.tar`.
    pub(crate) fn bundle(&self, lab: &Lab) {
        sh::run(&mut self.palmfarm(&["build", "farm.yaml", "-o", "palm.tar"]));
        let path = self.dir.path().join("palm.tar");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it may hold what is secret to containers");
        lab.put("root/palm.tar", &fs::read(path).unwrap());
    }

    /// The tool, in the folder.
    fn palmfarm(&self, words: &[&str]) -> Command {
        let mut palmfarm = sh::cmd(PALMFARM, words);
        self.on(&mut palmfarm);
        palmfarm
    }

    /// Let `command` run in the folder, with the agents and the cache there.
    pub(crate) fn on<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .current_dir(self.dir.path())
            .env("PALMFARM_AGENT_DIR", self.dir.path().join("agents"))
            .env("XDG_CACHE_HOME", self.dir.path().join("cache"))
    }
}

fn debian_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => "armhf",
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
