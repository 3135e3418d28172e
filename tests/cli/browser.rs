//! The page of a plan in a real browser: nothing of it is wider than a phone, and its script runs under its policy.

use std::fs;
use std::path::Path;

use super::common::{attempt, have};
use super::{has_agents, palmfarm, told};

/// One card with a long name on it, replicas and all kinds of networks.
const FARM: &str = "farm: 1\nbase: mini\nhostname: palm\nusers: [{name: craig, ssh_keys: []}]\n\
    network: {ipv4: {address: 192.0.2.10/24, gateway: 192.0.2.1, dns: [192.0.2.1]}}\ncontainers:\n  \
    web: {image: \"images:alpine/3.23\", nesting: true, publish: web_image}\n  \
    w: {image: web_image, replicas: 2..20}\n  \
    a-name-of-sixty-three-letters-that-somebody-chose-on-purpose-ok: {image: \"images:alpine/3.23\"}\n  \
    inside: {image: \"images:alpine/3.23\", profiles: [default]}\n";

/// Looks into the page, which is in a frame of 400 or 1280 pixels, and writes what it finds. What is drawn as a stack begins a
/// few pixels beside the others of its column.
const LOOK: &str = r#"
for (const frame of document.querySelectorAll("iframe")) {
  frame.onload = () => {
    const page = frame.contentDocument, wide = page.documentElement.clientWidth;
    const all = [...page.body.querySelectorAll("main *, header *")].filter((one) => one.checkVisibility());
    const out = all.filter((one) => one.getBoundingClientRect().right > wide + 1).map((one) => one.outerHTML.slice(0, 80));
    const seen = (what) => [...page.querySelectorAll(what)].filter((one) => one.checkVisibility()).length;
    const columns = new Set([...page.querySelectorAll(".grid > .c")]
      .map((one) => Math.round(one.getBoundingClientRect().left / 40)));
    const found = { wide, scroll: page.documentElement.scrollWidth, out, folded: seen(".all > .c"),
      columns: columns.size, copy: page.querySelectorAll("button").length,
      addresses: page.querySelectorAll(".address").length };
    const line = document.createElement("pre");
    line.textContent = "found " + JSON.stringify(found);
    document.body.append(line);
  };
  frame.srcdoc = document.getElementById("page").textContent;
}
"#;

fn look(dir: &Path, page: &str) -> Vec<serde_json::Value> {
    let quoted = page.replace('&', "&amp;").replace('<', "&lt;");
    let frames =
        [400, 1280].map(|width| format!("<iframe style=\"width:{width}px;height:900px;border:0\"></iframe>"));
    let look = format!(
        "<!doctype html><body><textarea hidden id=\"page\">{quoted}</textarea>{}<script>{LOOK}</script>",
        frames.concat()
    );
    fs::write(dir.join("look.html"), look).unwrap();
    let profile = format!("--user-data-dir={}", dir.join("profile").display());
    let url = format!("file://{}", dir.join("look.html").display());
    let (ok, said) = attempt(
        "chromium",
        &[
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            &profile,
            "--virtual-time-budget=10000",
            "--dump-dom",
            &url,
        ],
    );
    assert!(ok, "{said}");
    let found = said
        .split("<pre>found ")
        .skip(1)
        .map(|rest| rest.split("</pre>").next().unwrap());
    let found = found.map(|json| {
        json.replace("&amp;", "&")
            .replace("&lt;", "<")
            .replace("&gt;", ">")
    });
    found.map(|json| serde_json::from_str(&json).unwrap()).collect()
}

#[test]
fn a_page_fits_a_phone_and_a_desk() {
    if !have(&["chromium"]) || !has_agents() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("farm.yaml"), FARM).unwrap();
    let plan = [
        "plan",
        "farm.yaml",
        "--prefix",
        "2001:db8:ebbd:2080::/64",
        "-o",
        "page.html",
    ];
    let out = palmfarm(dir.path(), &plan);
    assert_eq!(out.status.code(), Some(0), "{}", told(&out));
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    let mut found = look(dir.path(), &page);
    // Whichever was drawn first comes first.
    found.sort_by_key(|one| one["wide"].as_u64());
    assert_eq!(found.len(), 2);
    for found in &found {
        assert_eq!(found["out"], serde_json::json!([]), "{found}");
        assert!(found["scroll"].as_u64() <= found["wide"].as_u64(), "{found}");
        assert_eq!(found["folded"], 0, "{found}");
        assert!(
            found["copy"] == found["addresses"] && found["copy"].as_u64() > Some(20),
            "{found}"
        );
    }
    assert_eq!(found[0]["columns"], 1, "{found:?}");
    assert!(found[1]["columns"].as_u64() > Some(2), "{found:?}");
}
