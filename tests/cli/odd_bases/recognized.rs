//! Bases that are files, and the image of Ubuntu's that they are: what is known of that image is told of them, too.

use std::fs;

use super::{base, can_run, run};
use crate::common::base::put;
use crate::{palmfarm, told};

/// What a 32-bit base cannot have, and what Ubuntu 22.04 does not run.
const FARM: &str = "containers: {web: {image: \"images:alpine/3.23\", nesting: true}}\n";

const NO_ARMHF: &str = "has been reported to have no images for armhf";
const DOCKER: &str = "a current Docker does not start in containers of the LXD 5.0";

#[test]
fn a_file_called_as_ubuntu_calls_it_is_known_before_it_is_opened() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let name = "ubuntu-22.04.5-preinstalled-server-armhf+raspi.img";
    fs::rename(&image.path, image.dir.path().join(name)).unwrap();
    let _ = run(&image, "craig", FARM, &["check"]);
    let farm = image.dir.path().join("farm.yaml");
    let text = fs::read_to_string(&farm).unwrap();
    fs::write(&farm, text.replace("base: image.img", &format!("base: {name}"))).unwrap();
    let out = palmfarm(image.dir.path(), &["check", "farm.yaml"]);
    let said = told(&out);
    assert!(
        out.status.success() && said.contains(NO_ARMHF) && said.contains(DOCKER),
        "{said}"
    );
    // Once is enough.
    let out = palmfarm(image.dir.path(), &["plan", "farm.yaml", "--files"]);
    let said = told(&out);
    assert_eq!(said.matches(NO_ARMHF).count(), 1, "{said}");
}

#[test]
fn any_other_file_is_known_once_it_is_opened() {
    if !can_run() {
        return;
    }
    let image = base(|_| {});
    let check = told(&run(&image, "craig", FARM, &["check", "farm.yaml"]));
    assert!(!check.contains(NO_ARMHF) && !check.contains(DOCKER), "{check}");
    let out = run(&image, "craig", FARM, &["build", "farm.yaml", "-o", "card.img"]);
    let said = told(&out);
    assert!(
        out.status.success() && said.contains(NO_ARMHF) && said.contains(DOCKER),
        "{said}"
    );
}

#[test]
fn of_another_system_the_architecture_is_known() {
    if !can_run() {
        return;
    }
    let image = base(|root| {
        put(
            root,
            "usr/lib/os-release",
            "PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n",
        );
    });
    let said = told(&run(&image, "craig", FARM, &["plan", "farm.yaml", "--files"]));
    assert!(said.contains(NO_ARMHF) && !said.contains(DOCKER), "{said}");
}
