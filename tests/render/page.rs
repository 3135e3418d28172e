//! The page that `plan --format html` prints: whole in itself, well-formed, and nothing of a farm becomes markup.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use base64::prelude::{Engine, BASE64_STANDARD};
use palmfarm::edit::tree::{Access, CardPath, Node, Planned, Privacy, Tree, Volume};
use palmfarm::plan::{html, CardPlan};
use palmfarm::render;
use sha2::{Digest, Sha256};

use crate::bases;
use crate::farms::{inputs, plan, plan_card};

const ARTICLE: &str = include_str!("article.yaml");

fn page(plan: &CardPlan) -> String {
    let base = bases::jammy();
    let tree = render::render(plan, &base, &inputs(&base)).unwrap();
    html::page(slice::from_ref(plan), &[tree], "ubuntu-22.04-armhf", &[])
}

/// Elements that have no end tag (HTML, section 13.1.2), and SVG's that end in themselves.
const VOID: [&str; 3] = ["meta", "!doctype", "br"];

/// Elements that the page is made of.
const KNOWN: [&str; 42] = [
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
    "h4",
    "a",
    "b",
    "br",
    "i",
    "small",
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
    "script",
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
                        !name.starts_with("on") && !["src", "style", "action"].contains(&name),
                        "<{tag}>"
                    );
                }
            }
        }
        // To a place on the page, a container's web server, or a shell on the Pi.
        if let Some((_, link)) = attributes.split_once("href=\"") {
            let link = link.split('"').next().unwrap();
            let is_local = link
                .strip_prefix("#c")
                .is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
            let host = link.strip_prefix("http://").or(link.strip_prefix("ssh://craig@"));
            let host = host.and_then(|host| host.strip_suffix('/'));
            let host = host.map(|host| host.trim_matches(['[', ']']).parse::<IpAddr>());
            assert!(
                name == "a" && (is_local || host.is_some_and(|host| host.is_ok())),
                "<{tag}>"
            );
        }
        if name == "script" {
            let end = rest.find("</script>").unwrap();
            let digest = Sha256::digest(&rest.as_bytes()[..end]);
            let allowed = format!("script-src 'sha256-{}'\"", BASE64_STANDARD.encode(digest));
            assert!(attributes.is_empty() && page.contains(&allowed), "{allowed}");
            rest = &rest[end..];
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
    assert!(page.matches("<script").count() == 1 && !page.contains("<link") && !page.contains("<img"));
    // The template and the stack of what is made from it are drawn beside each other, and tied.
    assert!(
        text.contains("w2 … w4") && text.contains("3 containers, from web_image"),
        "{text}"
    );
    assert!(page.contains("Docker can run inside"));
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

/// The colours of the page by name: in light, in dark, in print.
fn palettes(page: &str) -> Vec<BTreeMap<&str, [f64; 3]>> {
    let roots = page.split(":root {").skip(1);
    let palettes = roots.map(|root| {
        let declared = root.split('}').next().unwrap().split(';');
        let colours = declared.filter_map(|one| one.trim().strip_prefix("--")?.split_once(": #"));
        let channel = |text: &str, at: usize| {
            let digits = if text.len() == 3 {
                text[at..=at].repeat(2)
            } else {
                text[at * 2..at * 2 + 2].to_owned()
            };
            f64::from(u8::from_str_radix(&digits, 16).unwrap()) / 255.0
        };
        colours
            .map(|(name, text)| (name, [0, 1, 2].map(|at| channel(text, at))))
            .collect()
    });
    palettes.collect()
}

/// The contrast of two colours (WCAG 2.2, "contrast ratio" and "relative luminance").
fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
    let luminance = |colour: [f64; 3]| {
        let [red, green, blue] = colour.map(|channel| {
            if channel <= 0.04045 {
                channel / 12.92
            } else {
                ((channel + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn outlines_and_texts_stand_out() {
    let page = page(&plan(ARTICLE));
    let palettes = palettes(&page);
    assert_eq!(palettes.len(), 3);
    for palette in palettes {
        let check = |least: f64, inks: &[&str], grounds: &[&str]| {
            for (ink, ground) in inks
                .iter()
                .flat_map(|ink| grounds.iter().map(move |ground| (ink, ground)))
            {
                let found = contrast(palette[ink], palette[ground]);
                assert!(found >= least, "{ink} on {ground}: {found:.2}");
            }
        };
        check(
            3.0,
            &["edge", "lan", "nat", "pi", "tint0", "tint1", "tint2", "tint3"],
            &["card", "page", "pi-soft"],
        );
        check(
            4.5,
            &["ink", "dim", "lan"],
            &["card", "page", "pi-soft", "lan-soft", "nat-soft"],
        );
        check(4.5, &["tint0", "tint1", "tint2", "tint3"], &["card"]);
        check(4.5, &["nat"], &["nat-soft"]);
        check(4.5, &["pi"], &["pi-soft"]);
        check(4.5, &["warn", "ink"], &["warn-soft"]);
    }
}

#[test]
fn a_phone_has_one_column_and_whole_names() {
    let page = page(&plan(ARTICLE));
    // A column of the grids is never wider than the grid.
    for columns in page.split("minmax(").skip(1) {
        assert!(columns.starts_with("min(100%, "), "{}", &columns[..40]);
    }
    let phone = page.split("@media (max-width: 44rem)").nth(1).unwrap();
    assert!(phone.contains("tbody, tr, th, td { display: block; }"));
    // Only MACs, addresses and interfaces do not wrap, and addresses do on a phone.
    let kept: Vec<&str> = page.lines().filter(|line| line.contains("nowrap")).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(phone.contains("td .address { white-space: normal; }"));
}

#[test]
fn a_fleet_is_drawn_on_one_lan() {
    let yaml = "lxd: {}\ncards: {a: {mac: \"b8:27:eb:12:34:56\"}, b: {}, c: {}}\n\
                containers: {web: {image: \"images:a\", publish: b}, w: {image: b, replicas: 1..60}}\n";
    let prefix = ["2001:db8::/64"];
    let plans = ["a", "b", "c"].map(|card| plan_card(yaml, Some(card), &prefix));
    let base = bases::jammy();
    let trees = plans
        .each_ref()
        .map(|plan| render::render(plan, &base, &inputs(&base)).unwrap());
    let page = html::page(&plans, &trees, "mini", &[]);
    read(&page);
    assert_eq!(page.matches("class=\"lan-bar\"").count(), 1);
    assert_eq!(page.matches("<section class=\"pi\">").count(), 3);
    // Nobody is behind NAT.
    assert_eq!(page.matches("<section class=\"seg nat idle\">").count(), 3);
    // Folded, the ends of each stack are there, and the others when it is opened.
    assert_eq!(page.matches("<details class=\"c stack tint0\">").count(), 3);
    assert_eq!(
        page.matches("60 containers, from <a class=\"chip\" href=\"#c")
            .count(),
        3
    );
    assert_eq!(page.matches("id=\"c1-").count(), 61);
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
    assert!(
        page.matches("<script").count() == 1 && !page.contains("<img"),
        "{page}"
    );
    assert!(!page.contains(['\u{202e}', '\0']));
}
