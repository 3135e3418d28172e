//! Images that a card carries: each shape put together as LXD takes it, and refused if it does not fit the base.

use palmfarm::base::{Arch, BaseFacts};
use palmfarm::edit::tree::{CardPath, Node, Tree, Volume};
use palmfarm::plan::CardPlan;
use palmfarm::render;
use palmfarm_protocol::firstboot::{FirstBoot, Image};
use sha2::{Digest, Sha256};

use crate::bases;
use crate::farms::{inputs, root_file, try_plan_with};

/// The head of a program for armhf and of one for arm64.
pub(crate) const ARMHF: &[u8] = &program(1, 40);
pub(crate) const ARM64: &[u8] = &program(2, 183);

pub(crate) const META: (&str, &[u8]) = ("metadata.yaml", b"architecture: armv7l\ncreation_date: 1\n");

const FARM: &str = "hostname: palm\nimages: {a: {file: a.tar}}\ncontainers: {c: {image: a}}\n";

const fn program(class: u8, machine: u8) -> [u8; 64] {
    let mut bytes = [0; 64];
    [bytes[0], bytes[1], bytes[2], bytes[3]] = *b"\x7fELF";
    bytes[4] = class;
    bytes[5] = 1;
    bytes[18] = machine;
    bytes
}

pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len().try_into().unwrap());
        header.set_mode(0o755);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn plan(yaml: &str, files: &[(&str, &[u8])]) -> CardPlan {
    try_plan_with(yaml, files).unwrap()
}

/// The first image in the document of `tree`.
fn image(tree: &Tree) -> Image {
    let document = root_file(tree, "/etc/palmfarm/firstboot.json").unwrap();
    let document: FirstBoot = serde_json::from_str(&document).unwrap();
    document.lxd.unwrap().images.remove(0)
}

fn content(tree: &Tree, path: &str) -> Vec<u8> {
    match &tree
        .get(Volume::Root, &CardPath::new(path).unwrap())
        .unwrap()
        .node
    {
        Node::File { content, .. } => content.to_vec(),
        other => panic!("{path} is {other:?}"),
    }
}

/// The fingerprint of `image` is that of its files on the card.
fn fits_its_files(tree: &Tree, image: &Image) {
    let mut hash = Sha256::new();
    hash.update(content(tree, &image.path));
    if let Some(rootfs) = &image.rootfs {
        hash.update(content(tree, rootfs));
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(image.fingerprint, digest);
}

fn rendered(plan: &CardPlan, base: &BaseFacts) -> Tree {
    render::render(plan, base, &inputs(base)).unwrap()
}

#[test]
fn a_unified_image_goes_as_it_is() {
    let unified = tar(&[META, ("rootfs/bin/sh", ARMHF)]);
    let plan = plan(FARM, &[("a.tar", &unified)]);
    let tree = rendered(&plan, &bases::jammy());
    let image = image(&tree);
    assert_eq!(image.rootfs, None);
    fits_its_files(&tree, &image);
}

#[test]
fn a_split_image_goes_in_two_parts() {
    let (rootfs, meta) = (tar(&[("bin/sh", ARMHF)]), tar(&[META]));
    let yaml = FARM.replace("a.tar}", "a.tar, metadata: meta.tar}");
    for rootfs in [&rootfs[..], &crate::farms::SQUASHFS] {
        let plan = plan(&yaml, &[("a.tar", rootfs), ("meta.tar", &meta)]);
        let tree = rendered(&plan, &bases::jammy());
        let image = image(&tree);
        assert_eq!(content(&tree, &image.path), meta);
        fits_its_files(&tree, &image);
    }
}

#[test]
fn a_root_filesystem_gets_its_metadata() {
    let rootfs = tar(&[
        ("etc/os-release", b"PRETTY_NAME=\"Alpine Linux v3.20\"\n"),
        ("bin/busybox", ARMHF),
    ]);
    let mut plan = plan(FARM, &[("a.tar", &rootfs)]);
    let tree = rendered(&plan, &bases::jammy());
    let of_base = image(&tree);
    fits_its_files(&tree, &of_base);
    assert_eq!(content(&tree, of_base.rootfs.as_deref().unwrap()), rootfs);
    let meta = content(&tree, &of_base.path);
    let text = String::from_utf8_lossy(&meta);
    for line in [
        "\"architecture\": \"armv7l\"",
        "\"description\": \"a: Alpine Linux v3.20\"",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let date = format!("\"creation_date\": {}", bases::jammy().newest);
    assert!(text.contains(&date), "{text}");
    // Again, and at another time: only SOURCE_DATE_EPOCH changes it.
    assert_eq!(image(&rendered(&plan, &bases::jammy())), of_base);
    plan.epoch = Some(7);
    let tree = rendered(&plan, &bases::jammy());
    assert_ne!(image(&tree).fingerprint, of_base.fingerprint);
    fits_its_files(&tree, &image(&tree));
}

#[test]
fn what_is_for_another_machine_is_refused() {
    let arm64 = BaseFacts {
        arch: Arch::Arm64,
        ..bases::jammy()
    };
    let check = |file: &[u8], base: &BaseFacts, expect: &str| {
        let plan = plan(FARM, &[("a.tar", file)]);
        let error = render::render(&plan, base, &inputs(base)).unwrap_err();
        let said = format!("{error}\nhint: {}", error.hint().unwrap_or_default());
        assert!(said.starts_with(expect), "{said}");
    };
    let unified = tar(&[META, ("rootfs/bin/sh", ARMHF)]);
    check(
        &unified,
        &arm64,
        "the image a (a.tar) is for armv7l, and the base is arm64\nhint: take the arm64 build",
    );
    let rootfs = tar(&[("bin/sh", ARM64)]);
    check(
        &rootfs,
        &bases::jammy(),
        "the image a (a.tar) is for arm64, and the base is armhf",
    );
    check(
        &tar(&[META, ("rootfs/bin/sh", ARM64)]),
        &bases::jammy(),
        "the metadata of the image a (a.tar) says armv7l, but the programs in it are for arm64",
    );
    check(
        &tar(&[("etc/hostname", b"x")]),
        &bases::jammy(),
        "the image a (a.tar) is a root filesystem without any program",
    );
}

#[test]
fn parts_that_do_not_go_together_are_refused() {
    let with_meta = FARM.replace("a.tar}", "a.tar, metadata: meta.tar}");
    let (unified, rootfs, meta) = (
        tar(&[META, ("rootfs/bin/sh", ARMHF)]),
        tar(&[("bin/sh", ARMHF)]),
        tar(&[META]),
    );
    let check = |yaml: &str, file: &[u8], metadata: &[u8], expect: &str| {
        let error = try_plan_with(yaml, &[("a.tar", file), ("meta.tar", metadata)]).unwrap_err();
        assert!(error.to_string().contains(expect), "{error}");
    };
    check(FARM, &meta, &[], "is the metadata of a split image");
    check(
        FARM,
        &crate::farms::SQUASHFS,
        &[],
        "is the squashfs of a split image",
    );
    check(&with_meta, &unified, &meta, "has metadata already");
    check(&with_meta, &rootfs, &unified, "not a tarball of metadata.yaml");
    check(
        FARM,
        &tar(&[("readme", b"x")]),
        &[],
        "reading \"a.tar\", the image a",
    );
}

#[test]
fn a_card_has_the_images_of_its_own_containers() {
    let unified = tar(&[META, ("rootfs/bin/sh", ARMHF)]);
    let farm = "images: {a: {file: a.tar}, b: {file: a.tar}, spare: {file: a.tar}}\n\
                containers: {c: {image: a}, d: {image: b}}\ncards: {p: {containers: [d]}}\n";
    let plan = plan(farm, &[("a.tar", &unified)]);
    let images = plan.firstboot.lxd.unwrap().images;
    let aliases: Vec<&str> = images.iter().map(|image| image.alias.as_str()).collect();
    assert_eq!(aliases, ["b", "spare"]);
}
