//! The page that `plan --format html` prints: whole in itself, well-formed, and nothing of a farm becomes markup.

use std::slice;
use std::sync::Arc;

use palmfarm::edit::tree::{Access, CardPath, Node, Planned, Privacy, Tree, Volume};
use palmfarm::plan::{html, CardPlan};
use palmfarm::render;

use crate::bases;
use crate::farms::{inputs, plan, plan_card};

const ARTICLE: &str = include_str!("article.yaml");

fn page(plan: &CardPlan) -> String {
    let base = bases::jammy();
    let tree = render::render(plan, &base, &inputs(&base)).unwrap();
    html::page(slice::from_ref(plan), &[tree], "ubuntu-22.04-armhf", &[])
}

/// Elements that have no end tag (HTML, section 13.1.2), and SVG's that end in themselves.
const VOID: [&str; 2] = ["meta", "!doctype"];

/// Elements that the page is made of.
const KNOWN: [&str; 38] = [
    "html",
    "head",
    "title",
    "style",
    "body",
    "header",
    "main",
    "footer",
    "h1",
    "h2",
    "h3",
    "p",
    "dl",
    "div",
    "dt",
    "dd",
    "ul",
    "li",
    "figure",
    "figcaption",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "section",
    "span",
    "details",
    "summary",
    "pre",
    "svg",
    "desc",
    "g",
    "rect",
    "path",
    "text",
    "meta",
];

/// Read `page` as a browser's tokenizer would: every tag is known, every element is closed by its own end, every
/// attribute is quoted, and nothing points anywhere. Returns the text between the tags.
fn read(page: &str) -> String {
    let mut open: Vec<&str> = Vec::new();
    let mut text = String::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        let end = at + rest[at..].find('>').unwrap();
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        let (closing, tag) = tag.strip_prefix('/').map_or((false, tag), |tag| (true, tag));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let name = name.trim_end_matches('/');
        assert!(KNOWN.contains(&name) || VOID.contains(&name), "<{tag}>");
        if closing {
            assert_eq!(
                open.pop(),
                Some(name),
                "</{name}> in {}",
                &text[text.len().saturating_sub(80)..]
            );
            continue;
        }
        assert_eq!(attributes.matches('"').count() % 2, 0, "<{tag}>");
        for (number, part) in attributes.split('"').enumerate() {
            if number % 2 == 0 {
                assert!(!part.contains(['\'', '<', '&']), "<{tag}>");
                for name in part.split_whitespace() {
                    let name = name.trim_end_matches(['=', '/']);
                    assert!(
                        !name.starts_with("on") && !["href", "src", "style", "action"].contains(&name),
                        "<{tag}>"
                    );
                }
            }
        }
        if name == "style" {
            let end = rest.find("</style>").unwrap();
            let style = &rest[..end];
            assert!(!style.contains("url(") && !style.contains("@import") && !style.contains('<'));
            rest = &rest[end..];
        }
        if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    text.push_str(rest);
    for (at, _) in text.match_indices('&') {
        let entity = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
        assert!(
            entity.iter().any(|entity| text[at..].starts_with(entity)),
            "{}",
            &text[at..text.len().min(at + 20)]
        );
    }
    text
}

#[test]
fn the_article_s_farm_is_on_it_whole() {
    let plan = plan(ARTICLE);
    let page = page(&plan);
    let text = read(&page);
    for container in &plan.firstboot.containers {
        assert!(text.contains(&container.name), "{}", container.name);
        assert!(text.contains(&container.mac.to_string()), "{}", container.name);
        for address in &container.predicted {
            assert!(text.contains(&address.to_string()), "{}", container.name);
        }
    }
    for word in [
        "Internet",
        "home router",
        "eth0",
        "br0",
        "lxdbr0",
        "palmfarm-firstboot.service",
        "from extbridge",
    ] {
        assert!(text.contains(word), "{word}");
    }
    for note in &plan.notes {
        assert!(page.contains(note.as_str()), "{note}");
    }
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains("<script") && !page.contains("<link") && !page.contains("<img"));
}

#[test]
fn every_shape_of_a_farm_is_drawn() {
    for yaml in [
        "hostname: palm\n",
        "hostname: palm\nnetwork: {bridge: none}\n",
        "hostname: palm\nnetwork: {bridge: none}\nlxd: {}\ncontainers: {a: {image: \"images:alpine/3.20\"}}\n",
        "hostname: palm\nnetwork: {bridge: none}\nlxd: {}\ncontainers: {a: {image: \"images:a\", devices: \
         {eth0: {type: nic, nictype: macvlan, parent: eth0}}}}\n",
        "hostname: palm\nlxd: {nat: none}\ncontainers: {a: {image: \"images:alpine/3.20\"}}\n",
        "hostname: palm\nnetwork: {vlan: 42, ipv4: none, ipv6: {address: \"2001:db8::10/64\"}}\nlxd: {}\n",
        "hostname: palm\nlxd: {}\ncontainers: {a: {image: \"images:a\", profiles: [default]}, b: {image: \"images:a\", devices: \
         {eth0: {type: nic, nictype: macvlan, parent: br0}}}, c: {image: \"images:a\", devices: {eth0: {type: none}}}}\n",
    ] {
        for prefixes in [&[][..], &["2001:db8:ebbd:2080::/64"], &["2001:db8::/64", "fd00:1::/64", "fd00:2::/64"]] {
            read(&page(&plan_card(yaml, None, prefixes)));
        }
    }
}

/// What tries to leave every place in which it may stand.
const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=y>&\u{202e}</svg></style>-->]]>\u{0}";

#[test]
fn nothing_of_a_farm_becomes_markup() {
    let mut plan = plan(ARTICLE);
    let hostile = || HOSTILE.to_owned();
    plan.card.name = hostile();
    plan.card.hostname = hostile();
    plan.card.network.bridge = Some(hostile());
    plan.firstboot.hostname = hostile();
    plan.firstboot.network.uplink = hostile();
    plan.firstboot.network.bridge = Some(hostile());
    plan.notes.push(hostile());
    for network in plan
        .firstboot
        .lxd
        .iter_mut()
        .flat_map(|lxd| &mut lxd.preseed.networks)
    {
        network.name = hostile();
        network.config.insert("ipv4.address".into(), hostile());
    }
    for user in &mut plan.users {
        user.name = hostile();
    }
    for container in &mut plan.firstboot.containers {
        container.name = hostile();
        container.profiles = vec![hostile()];
        container.publish = Some(hostile());
    }
    for stack in &mut plan.stacks {
        for device in stack.devices.values_mut() {
            device.from = hostile();
            device.value.insert("parent".into(), hostile());
            device.value.insert(hostile(), hostile());
        }
        if let Some(device) = stack.devices.get("eth0").cloned() {
            stack.devices.insert(hostile(), device);
        }
    }
    let mut tree = Tree::default();
    let planned = Planned {
        node: Node::File {
            content: Arc::from(HOSTILE.replace('\0', "").as_bytes()),
            access: Access::root(0o644),
        },
        origin: hostile(),
        privacy: Privacy::Public,
    };
    for folder in ["/etc/systemd/system", "/etc"] {
        let path = CardPath::new(&format!("{folder}/{}", HOSTILE.replace(['/', '\0'], "|"))).unwrap();
        tree.add(Volume::Root, path, planned.clone()).unwrap();
    }
    let page = html::page(slice::from_ref(&plan), &[tree], HOSTILE, &[hostile()]);
    let text = read(&page);
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{text}");
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(!page.contains(['\u{202e}', '\0']));
}
