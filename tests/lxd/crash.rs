//! The agent dies of SIGKILL after each single request for a change, and the next run must leave what an undisturbed run
//! leaves: no duplicate, no orphan, no second image.
//!
//! The farm here is smaller than the article's, so that this takes minutes; it has each kind of request in it.

use palmfarm_protocol::firstboot::FirstBoot;

use crate::document::{add, container, file, run, unplugged, with_alpine};
use crate::lab::Lab;
use crate::proxy::Kill;
use crate::state::{same, state};

/// A farm with every kind of request: carried image, template with file and command, publishing, a copy of it. Nothing
/// in it waits for the network. `edition` is part of what the template holds.
fn farm(lab: &Lab, edition: u32) -> FirstBoot {
    let page = format!("edition {edition}\n");
    lab.put("etc/palmfarm/files/page", page.as_bytes());
    let mut farm = with_alpine(lab);
    let mut web = container("web", 1, "alpine");
    web.devices = unplugged();
    web.files = vec![file(
        "/srv/www/page",
        "/etc/palmfarm/files/page",
        page.as_bytes(),
        0o644,
    )];
    web.run = vec![
        run("look", "cat /srv/www/page"),
        run("write", "echo done > /srv/done"),
    ];
    web.publish = Some("web_image".into());
    add(&mut farm, web);
    let mut w2 = container("w2", 2, "web_image");
    w2.devices = unplugged();
    add(&mut farm, w2);
    farm
}

#[test]
fn killed_as_a_request_arrives() {
    first_runs(Kill::Sent);
}

#[test]
fn killed_before_an_answer_is_read() {
    first_runs(Kill::Answered);
}

#[test]
fn killed_while_a_template_is_made_anew() {
    let Some(lab) = Lab::new() else { return };
    let mut edition = 1;
    let mut next = || {
        edition += 1;
        farm(&lab, edition)
    };
    lab.agent(&farm(&lab, 1)).all_well();
    let document = next();
    let calm = lab.agent(&document);
    calm.all_well();
    let expect = known(&state(&lab), &document);
    println!("a calm change of the template asks for {:#?}", calm.changes);
    for kill in [Kill::Sent, Kill::Answered] {
        for n in 1..=calm.changes.len() {
            let document = next();
            check(&lab, &document, kill(n), &calm.changes, &expect);
        }
    }
    println!(
        "killed at each of {} requests, before it was read and after it was answered",
        calm.changes.len()
    );
}

/// Kill the first run on a fresh daemon after each of its requests.
fn first_runs(kill: fn(usize) -> Kill) {
    let Some(lab) = Lab::new() else { return };
    let document = farm(&lab, 1);
    let calm = lab.agent(&document);
    calm.all_well();
    let expect = known(&state(&lab), &document);
    println!("a calm run asks for {:#?}", calm.changes);
    drop(lab);
    for n in 1..=calm.changes.len() {
        let lab = Lab::new().unwrap();
        check(&lab, &farm(&lab, 1), kill(n), &calm.changes, &expect);
    }
    println!("killed at each of {} requests", calm.changes.len());
}

/// Run the agent until `kill`, then undisturbed, then a third time.
fn check(lab: &Lab, document: &FirstBoot, kill: Kill, calm: &[String], expect: &str) {
    let (Kill::Sent(n) | Kill::Answered(n)) = kill else {
        return;
    };
    let killed = lab.agent_until(document, kill);
    // Names of records, snapshots and images have chance in them, so only the kind of request is compared.
    let kind = |one: &String| -> Vec<String> {
        let words = one.split(['?', '/']).filter(|word| word.len() < 64);
        words.take(4).map(str::to_owned).collect()
    };
    let kinds = |all: &[String]| all.iter().map(kind).collect::<Vec<_>>();
    assert_eq!(
        kinds(&killed.changes),
        kinds(&calm[..n]),
        "the run that was killed went another way"
    );
    // A container that the daemon has been told is ready is finished, whatever the record could still be told.
    let request = &calm[n - 1];
    let finished = request.starts_with("PATCH /1.0/instances/") && kill == Kill::Answered(n);
    let uuid = || {
        let path = request.trim_start_matches("PATCH ");
        finished.then(|| lab.pi.query(path)["config"]["volatile.uuid"].take())
    };
    let before = uuid();
    let next = lab.agent(document);
    assert_eq!(uuid(), before, "{request}");
    let case = format!("{kill:?}: {}, then {:#?}", calm[n - 1], next.changes);
    assert!(
        next.status.success(),
        "{case}\n{}\n{}",
        next.printed,
        lab.pi.log()
    );
    same(&known(&state(lab), document), expect, &case);
    let third = lab.agent(document);
    assert_eq!(third.changes, [""; 0], "{case}");
}

/// `state` with the digest of the template, which changes with the edition, under a fixed name.
fn known(state: &str, document: &FirstBoot) -> String {
    let digest = &document.containers[0].digest;
    state.replace(digest, "DIGEST").replace(&digest[..12], "DIGEST")
}
