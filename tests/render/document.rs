//! How long the first-boot document is: as long as was counted beforehand, and never longer than the agent reads.

use std::collections::BTreeMap;

use palmfarm::farm::check::{document_bytes, json_length};
use palmfarm::render::{self, RenderError};
use palmfarm_protocol::firstboot::LARGEST;

use crate::bases;
use crate::farms::{inputs, load, plan, rendered, root_file};

#[test]
fn what_is_counted_beforehand_is_never_too_low_and_not_far_off() {
    let quotes = "\\\"\\\\\\n".repeat(2000);
    let many: String = (0..300).map(|number| format!("k{number}: v, ")).collect();
    let devices: String = (0..300)
        .map(|number| format!("d{number}: {{type: none}}, "))
        .collect();
    let files: String = (0..300)
        .map(|number| format!("/srv/{number}: motd.txt, "))
        .collect();
    let steps: String = (0..300).map(|number| format!("s{number}, ")).collect();
    let environment = many.replace('k', "environment.k");
    let replicas = |what: &str| {
        format!("hostname: palm\ncontainers: {{w: {{image: \"images:a\", replicas: 1..90, {what}}}}}\n")
    };
    for yaml in [
        "hostname: palm\n".to_owned(),
        replicas("nesting: true"),
        replicas(&format!("run: [\"{quotes}\"]")),
        replicas("run: [{script: web-setup.sh, retries: 100}]"),
        replicas(&format!("run: [{steps}]")),
        replicas(&format!("files: {{{files}}}")),
        replicas(&format!("config: {{{environment}}}")),
        replicas(&format!("devices: {{{devices}}}")),
        format!("hostname: palm\nlxd: {{profiles: {{p: {{config: {{{environment}}}, devices: {{{devices}}}}}}}}}\n"),
        format!("hostname: palm\npackages: [{}]\n", many.replace([':', ' '], "").replace('v', "")),
    ] {
        let (loaded, _) = load(&yaml, &[]);
        let scripts = BTreeMap::from([("web-setup.sh".into(), json_length("web-setup.sh\n"))]);
        let counted = document_bytes(&loaded.farm, &loaded.farm.card(None).unwrap(), &scripts);
        let tree = rendered(&yaml, &bases::jammy());
        let document = root_file(&tree, "/etc/palmfarm/firstboot.json").unwrap();
        let length = u64::try_from(document.len()).unwrap();
        assert!(
            length <= counted && counted <= 3 * length + 8192,
            "{length} and {counted}: {yaml:.150}"
        );
    }
}

#[test]
fn every_character_is_counted_as_it_is_written() {
    let text: String = (0..0x180).filter_map(char::from_u32).collect();
    let written = serde_json::json!(text).to_string();
    assert_eq!(json_length(&text), u64::try_from(written.len()).unwrap());
}

#[test]
fn a_document_that_the_agent_would_refuse_is_not_written() {
    let mut plan = plan("hostname: palm\ncontainers: {w: {image: \"images:a\", run: [x]}}\n");
    let base = bases::jammy();
    plan.firstboot.containers[0].run[0].script = "x".repeat(usize::try_from(LARGEST).unwrap());
    let error = render::render(&plan, &base, &inputs(&base)).unwrap_err();
    assert!(
        matches!(error, RenderError::Document { bytes, most: LARGEST } if bytes > LARGEST),
        "{error}"
    );
}
