//! What `check` says and what happens: no farm that it calls fine is refused later for a reason that lay in the farm or
//! in what it names. Farms are drawn, odd ones as often as good ones.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use palmfarm::base::source::BaseImage;
use palmfarm::farm::{assets, parse};
use palmfarm::pipeline::{self, BaseImageInfo};
use palmfarm::plan::content_cache::ContentCache;
use palmfarm::progress::{Cancel, Observer, Silent};
use palmfarm::{edit, plan, render};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::farms::{inputs, secret};
use crate::images::{tar, ARM64, ARMHF, META};

/// The built-in base.
static MINI: LazyLock<BaseImageInfo> = LazyLock::new(|| {
    let cancel = Cancel::new();
    let observer = Observer {
        progress: &Silent,
        cancel: &cancel,
    };
    let image = BaseImage::built_in("mini", palmfarm::base::mini::MINI, observer).unwrap();
    pipeline::survey(image).unwrap()
});

/// Files of every shape that an image, its metadata or an overlay may have, and of some that none has.
static ARCHIVES: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let unified = tar(&[META, ("rootfs/bin/sh", ARMHF)]);
    let rootfs = tar(&[("bin/sh", ARMHF)]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&rootfs).unwrap();
    let gzip = gzip.finish().unwrap();
    let cut = gzip[..gzip.len() - 20].to_vec();
    vec![
        ("unified.tar", unified),
        ("rootfs.tar", rootfs),
        ("rootfs.tar.gz", gzip),
        ("cut.tar.gz", cut),
        ("meta.tar", tar(&[META])),
        (
            "other-meta.tar",
            tar(&[("metadata.yaml", b"architecture: riscv64\ncreation_date: 1\n")]),
        ),
        ("bad-meta.tar", tar(&[("metadata.yaml", b"{")])),
        ("rootfs.squashfs", crate::farms::SQUASHFS.to_vec()),
        ("packed.tar.bz2", b"BZh91AY&SY".to_vec()),
        ("arm64.tar", tar(&[("bin/sh", ARM64)])),
        ("torn.tar", tar(&[META, ("rootfs/bin/sh", ARM64)])),
        ("no-programs.tar", tar(&[("etc/hostname", b"x")])),
        ("readme.tar", tar(&[("readme", b"x")])),
        (
            "overlay.tar",
            tar(&[("root/etc/issue", b"x"), ("boot/x.txt", b"x")]),
        ),
        (
            "ruled.tar",
            tar(&[
                ("overlay.toml", b"[\"root/x\"]\nmode=\"0999\"\n"),
                ("root/x", b""),
            ]),
        ),
        ("empty", Vec::new()),
        ("text", b"words\n".to_vec()),
        ("latin1", b"\xe4\n".to_vec()),
        (
            "hash",
            b"$6$rounds=10000$abc$UCUqOk6gcu9ZZtND2Z0UgYk8lwpVRmtR53Lsvl5g\n".to_vec(),
        ),
    ]
});

/// The name of a file that is there, or of one that is not.
fn named() -> impl Strategy<Value = &'static str> {
    let mut names: Vec<&str> = ARCHIVES.iter().map(|(name, _)| *name).collect();
    names.extend(["large", "./text", "nowhere", "site"]);
    select(names)
}

/// One that is what it should be, mostly.
fn likely(good: &[&'static str]) -> impl Strategy<Value = &'static str> {
    prop_oneof![15 => select(good.to_vec()), 1 => named()]
}

/// A text that any reader of YAML takes for just this text.
fn text(pattern: &str) -> impl Strategy<Value = String> + use<> {
    proptest::string::string_regex(pattern)
        .unwrap()
        .prop_map(|text| serde_json::json!(text).to_string())
}

fn boot() -> impl Strategy<Value = String> {
    let word = prop_oneof![15 => text("[a-z_.]{1,6}(=[a-z0-9,/]{1,40})?"), 1 => text("[ -~äß\t]{0,300}")];
    let key = prop_oneof![15 => text("[a-z_]{1,9}(:[01])?"), 1 => text("[ -~]{0,99}")];
    let value = prop_oneof![15 => text("[a-z0-9]{1,9}"), 1 => text("[ -~ä\t]{0,99}")];
    let line = prop_oneof![
        12 => text("[a-z_]{1,9}=[a-z0-9,=]{1,40}"),
        3 => text(r"\[[a-z0-9+:=]{1,5}\]"),
        1 => text(r"[ -~ä\t]{0,99}"),
    ];
    let config = prop_oneof![
        btree_map(key, value, 0..4).prop_map(|keys| {
            let keys: Vec<String> = keys
                .iter()
                .map(|(key, value)| format!("{key}: {value}"))
                .collect();
            format!("{{{}}}", keys.join(", "))
        }),
        vec(line, 0..6).prop_map(|lines| format!("[{}]", lines.join(", "))),
    ];
    (vec(word, 0..6), config)
        .prop_map(|(words, config)| format!("boot: {{cmdline: [{}], config: {config}}}\n", words.join(", ")))
}

fn images() -> impl Strategy<Value = String> {
    let good = ["unified.tar", "rootfs.tar", "rootfs.tar.gz"];
    let one = (
        likely(&good),
        proptest::option::weighted(0.2, likely(&["meta.tar"])),
    );
    vec(one, 0..3).prop_map(|images| {
        let mut lines = String::from("images:\n");
        for ((file, metadata), alias) in images.iter().zip(["i0", "i1", "i2"]) {
            let metadata = metadata
                .map(|name| format!(", metadata: {name}"))
                .unwrap_or_default();
            writeln!(lines, "  {alias}: {{file: {file}{metadata}}}").unwrap();
        }
        lines
    })
}

fn files() -> impl Strategy<Value = String> {
    let path = prop_oneof![
        15 => text("/(etc|srv|opt)/[a-z]{1,3}(/[a-z]{1,3})?"),
        1 => text("/[ -~ä]{0,9}"),
        1 => text("/boot/firmware/[ -~]{1,5}"),
    ];
    btree_map(path, likely(&["text", "empty"]), 0..4).prop_map(|files| {
        let files: Vec<String> = files
            .iter()
            .map(|(path, name)| format!("{path}: {name}"))
            .collect();
        format!("{{{}}}", files.join(", "))
    })
}

fn containers() -> impl Strategy<Value = String> {
    let image = prop_oneof![
        5 => Just("images:alpine/3.20"),
        2 => select(vec!["i0", "i1", "p0", "p1"]),
        1 => Just("elsewhere:x"),
    ];
    let publish = proptest::option::weighted(0.3, select(vec!["p0", "p1", "i0"]));
    let step = prop_oneof![
        text("[!-~][ -~ä]{0,12}").prop_map(|line| format!("{{command: {line}}}")),
        likely(&["text"]).prop_map(|name| format!("{{script: {name}}}")),
    ];
    let replicas = proptest::option::weighted(0.2, (0..3_u32, 2..5_u32));
    vec((image, publish, vec(step, 0..3), files(), replicas), 0..3).prop_map(|containers| {
        let mut lines = String::from("containers:\n");
        for ((image, publish, run, files, replicas), name) in containers.iter().zip(["a", "b", "c"]) {
            let publish = publish
                .map(|alias| format!(", publish: {alias}"))
                .unwrap_or_default();
            let replicas = replicas
                .map(|(from, to)| format!(", replicas: {from}..{to}"))
                .unwrap_or_default();
            let run = run.join(", ");
            writeln!(
                lines,
                "  {name}: {{image: \"{image}\", run: [{run}], files: {files}{publish}{replicas}}}"
            )
            .unwrap();
        }
        lines
    })
}

fn people() -> impl Strategy<Value = String> {
    let password = prop_oneof![
        Just("{env: CRAIG_PASSWORD}".to_owned()),
        likely(&["text"]).prop_map(|name| format!("{{file: {name}}}")),
    ];
    let user = (text("[a-z]{1,6}"), proptest::option::of(password));
    vec(user, 0..3).prop_map(|users| {
        let users: Vec<String> = users
            .iter()
            .map(|(name, password)| match password {
                Some(password) => format!("{{name: {name}, password: {password}}}"),
                None => format!("{{name: {name}}}"),
            })
            .collect();
        format!("users: [{}]\n", users.join(", "))
    })
}

/// Entries of the overlay `site`, a folder.
fn site() -> impl Strategy<Value = Vec<String>> {
    let entry = prop_oneof![
        15 => "root/(etc|srv)/[a-z]{1,3}(/[a-z]{1,3})?",
        1 => "boot/[a-z]{1,8}",
        1 => "boot/[!-.0-~]{1,4}",
        1 => "(root|usr)/[ -.0-~ä]{1,6}",
    ];
    vec(entry, 0..4)
}

fn farm() -> impl Strategy<Value = (String, Vec<String>)> {
    let overlays = prop_oneof![
        15 => subsequence(vec!["overlay.tar", "site"], 0..=2),
        1 => subsequence(vec!["site", "ruled.tar", "rootfs.tar.gz", "nowhere"], 1..=2),
    ];
    let cards = prop_oneof![
        Just("hostname: palm\n"),
        Just("cards: {p: {}, q: {containers: [a]}}\n")
    ];
    let parts = (
        boot(),
        images(),
        containers(),
        people(),
        files(),
        overlays,
        cards,
        0..4_u8,
    );
    (parts, site()).prop_map(
        |((boot, images, containers, people, files, overlays, cards, which), site)| {
            // One part is left out, so that what is wrong in it cannot hide what is wrong in the others.
            let mut all = String::from(cards);
            for (part, at) in [boot, images, containers, people].iter().zip(0..) {
                if which != at {
                    all.push_str(part);
                }
            }
            writeln!(all, "files: {files}\noverlays: [{}]", overlays.join(", ")).unwrap();
            (all, site)
        },
    )
}

/// Fill `dir`; what a file system has no place for is left out.
fn fill(dir: &Path, site: &[String]) {
    for (name, content) in ARCHIVES.iter() {
        fs::write(dir.join(name), content).unwrap();
    }
    fs::File::create(dir.join("large"))
        .unwrap()
        .set_len(65 << 20)
        .unwrap();
    fs::create_dir_all(dir.join("site/root")).unwrap();
    for entry in site {
        let path = dir.join("site").join(entry);
        drop(fs::create_dir_all(path.parent().unwrap()).and_then(|()| fs::write(path, "x")));
    }
}

/// Whether the farm in `yaml` is fine; an error where cards cannot be made of a fine one.
fn verdict(yaml: &str, site: &[String]) -> Result<bool, TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), site);
    let text = format!("farm: 1\nbase: mini\n{yaml}");
    let Ok(loaded) = parse(
        "farm.yaml",
        text.as_bytes(),
        dir.path(),
        &secret,
        Some(&pipeline::judge),
    ) else {
        return Ok(false);
    };
    let failed = |error: anyhow::Error| TestCaseError::fail(format!("check says ok, and then: {error:#}"));
    let gathered = assets::gather(&loaded).map_err(|error| failed(error.into()))?;
    for card in loaded.farm.resolved_cards() {
        let hashes = assets::hashes(&loaded, &card.name, &secret).map_err(|error| failed(error.into()))?;
        let plan = plan::card(
            &loaded.farm,
            card,
            &gathered.sources,
            &hashes,
            &[],
            gathered.keys.as_ref(),
            &mut ContentCache::default(),
        );
        let plan = plan.map_err(|error| failed(error.into()))?;
        let mut inputs = inputs(&MINI.facts);
        inputs.overlays.clone_from(&gathered.overlays);
        let tree = render::render(&plan, &MINI.facts, &inputs).map_err(|error| failed(error.into()))?;
        edit::edit(&MINI.image, MINI.layout.spans(), &tree, MINI.facts.newest)
            .map_err(|error| failed(error.into()))?;
    }
    Ok(true)
}

#[test]
fn what_check_calls_fine_is_fine() {
    let config = ProptestConfig {
        cases: std::env::var("PALMFARM_VERDICTS").map_or(200, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let fine = Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&farm(), |(yaml, site)| {
        fine.set(fine.get() + u32::from(verdict(&yaml, &site)?));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(fine.get() > 10, "only {} farms were fine", fine.get());
}
