//! The first-boot document: what replicas share stands in it once, it is read again as it was, and it is never longer
//! than the agent reads.

use palmfarm::plan::DocumentTooLong;
use palmfarm::render::{self, RenderError};
use palmfarm_protocol::firstboot::{FirstBoot, LARGEST};

use crate::bases;
use crate::farms::{inputs, judged, plan, root_file};

/// The document of the only card of the farm in `yaml`.
fn document(yaml: &str) -> String {
    let base = bases::jammy();
    let tree = render::render(&plan(yaml), &base, &inputs(&base)).unwrap();
    root_file(&tree, "/etc/palmfarm/firstboot.json").unwrap()
}

fn replicas(count: u32, line: &str) -> String {
    format!("hostname: palm\ncontainers: {{w: {{image: \"images:a\", replicas: 1..{count}, run: [\"{line}\"]}}}}\n")
}

#[test]
fn what_replicas_share_is_there_once() {
    let line = "x".repeat(100_000);
    let (few, many) = (document(&replicas(2, &line)), document(&replicas(200, &line)));
    for text in [&few, &many] {
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["version"], 2);
        assert_eq!(value["contents"].as_object().unwrap().len(), 1);
        assert_eq!(text.matches(&line).count(), 1);
    }
    assert!(many.len() < 2 * few.len(), "{} and {}", few.len(), many.len());
    let read: FirstBoot = serde_json::from_str(&many).unwrap();
    assert_eq!(read.containers.len(), 200);
    assert!(read.containers.iter().all(|one| one.run[0].script == line));
    // Shared there, too: the agent has as little memory as the smallest Pi.
    let first = &read.containers[0].content;
    assert!(read
        .containers
        .iter()
        .all(|one| std::sync::Arc::ptr_eq(&one.content, first)));
}

#[test]
fn a_document_is_read_as_it_was_planned() {
    let mut planned = plan(include_str!("article.yaml")).firstboot;
    planned.containers.rotate_left(1);
    let text = serde_json::to_string(&planned).unwrap();
    assert_eq!(serde_json::from_str::<FirstBoot>(&text).unwrap(), planned);
}

#[test]
fn a_container_without_its_content_is_refused() {
    let text = document(&replicas(2, "x"));
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["contents"] = serde_json::json!({});
    let error = serde_json::from_value::<FirstBoot>(value).unwrap_err();
    assert_eq!(error.to_string(), "the content of w1 is missing");
}

#[test]
fn a_document_that_the_agent_would_refuse_is_not_written() {
    let mut plan = plan("hostname: palm\ncontainers: {w: {image: \"images:a\", run: [x]}}\n");
    let base = bases::jammy();
    plan.firstboot.containers[0].run[0].script = "x".repeat(usize::try_from(LARGEST).unwrap());
    let error = render::render(&plan, &base, &inputs(&base)).unwrap_err();
    assert!(
        matches!(
            error,
            RenderError::Document(DocumentTooLong { bytes, most: LARGEST }) if bytes > LARGEST
        ),
        "{error}"
    );
}

#[test]
fn check_refuses_what_would_be_too_long() {
    let scripts: Vec<String> = (0..40).map(|at| format!("{{script: s{at}}}")).collect();
    let containers: Vec<String> = scripts
        .chunks(10)
        .zip('a'..)
        .map(|(run, name)| {
            let run = run.join(", ");
            format!("{name}: {{image: \"images:a\", replicas: 1..9, run: [{run}]}}")
        })
        .collect();
    // Two of the four pass the limit with the second's scripts; a backslash has two bytes in JSON.
    for (byte, count, expect) in [
        (b"x", 1, ""),
        (
            b"x",
            2,
            "6:3 what the containers up to b run and are configured with has more than 16777216 bytes, and the agent reads no more",
        ),
        (b"\\", 1, "4:1 the first-boot document would have 200"),
    ] {
        let farm = format!("hostname: palm\ncontainers:\n{}\n", indented(&containers[..count]));
        let content = byte.repeat(1_000_000);
        let names: Vec<String> = (0..40).map(|at| format!("s{at}")).collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &content[..])).collect();
        let said = judged(&farm, &files);
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
    }
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}\n")).collect()
}
