//! A join that a power cut has ended, and what its owner does with the card before the next one. What only the join has made
//! is removed; what somebody made is not.

use palmfarm_protocol::report::StepState;
use serde_json::{json, Value};

use crate::cluster::{begin, STUCK};
use crate::fleet::Fleet;

const REPORT: &str = "run/palmfarm/report.txt";
const JOURNAL: &str = "var/lib/palmfarm/journal/run.json";
const POOLS: &str = "/1.0/storage-pools";

#[test]
fn what_somebody_made_after_a_cut_join_stays() {
    let Some(mut fleet) = Fleet::new(2) else { return };
    fleet.card_mut(2).on();
    let waiting = begin(&fleet, 2);
    fleet.card(2).wait_for(REPORT, "waiting for palm1");
    drop(waiting);
    make(&fleet, POOLS, &json!({"name": "mine", "driver": "dir"}));
    make(
        &fleet,
        &format!("{POOLS}/mine/volumes/custom"),
        &json!({"name": "data"}),
    );
    is_left(&fleet, "storage-pools/mine");
    remove(&fleet, &format!("{POOLS}/mine/volumes/custom/data"));
    remove(&fleet, &format!("{POOLS}/mine"));
    // The pool is one that a join makes, too, but the volume is not.
    make(&fleet, POOLS, &json!({"name": "default", "driver": "dir"}));
    make(
        &fleet,
        &format!("{POOLS}/default/volumes/custom"),
        &json!({"name": "data"}),
    );
    is_left(&fleet, "there is the volume data");
    remove(&fleet, &format!("{POOLS}/default/volumes/custom/data"));
    cut(&fleet);
    let mut waiting = begin(&fleet, 2);
    fleet.card(2).wait_for(REPORT, "waiting for palm1");
    assert_eq!(fleet.card(2).query(POOLS, 30), Some(json!([])));
    assert!(waiting.is_at_work());
}

/// The state in which a power cut leaves the journal while a card asks to join.
fn cut(fleet: &Fleet) {
    let mut run: Value = serde_json::from_slice(&fleet.card(2).get(JOURNAL)).unwrap();
    run["cluster"] = json!("joining");
    fleet.card(2).put(JOURNAL, run.to_string().as_bytes());
}

/// The next run ends with `why`, and what there is stays.
#[track_caller]
fn is_left(fleet: &Fleet, why: &str) {
    let all = || fleet.card(2).query(&format!("{POOLS}?recursion=1"), 30).unwrap();
    let before = all();
    cut(fleet);
    let mut running = begin(fleet, 2);
    assert!(!running.ended(STUCK), "{}", running.printed());
    let report = fleet.card(2).report();
    let said = report.steps.iter().find(|step| step.state == StepState::Failed);
    assert!(said.is_some_and(|step| step.message.contains(why)), "{report:#?}");
    assert_eq!(all(), before);
}

#[track_caller]
fn make(fleet: &Fleet, path: &str, what: &Value) {
    fleet.card(2).ask("POST", path, what).unwrap();
}

#[track_caller]
fn remove(fleet: &Fleet, path: &str) {
    fleet.card(2).ask("DELETE", path, &json!({})).unwrap();
}
