//! The longer trials of a cluster, by lot: every order of switching on, power cuts at any moment while it forms, and a
//! member that is lost under load. They take many minutes, so they run only where `PALMFARM_SEQUENCES` says how often.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::chance::draw;
use crate::cluster::{all_end_well, begin, care, is_whole, keep_caring, run_all, wait_until};
use crate::common::skipped;
use crate::document::{address, container};
use crate::fleet::Fleet;
use crate::running::Running;

/// How often; `None` if nobody asked for it, which the test has said then.
fn sequences() -> Option<u64> {
    let asked = std::env::var("PALMFARM_SEQUENCES").ok();
    if asked.is_none() {
        skipped("it takes many minutes, and PALMFARM_SEQUENCES does not say how often it is to run");
    }
    asked.map(|text| text.parse().unwrap())
}

#[test]
fn every_order() {
    if sequences().is_none() {
        return;
    }
    for (order, pause) in [
        ([1, 2, 3], 0),
        ([1, 3, 2], 70),
        ([2, 1, 3], 15),
        ([2, 3, 1], 70),
        ([3, 1, 2], 5),
        ([3, 2, 1], 30),
    ] {
        let Some(mut fleet) = Fleet::new(3) else { return };
        let mut running: Vec<(u8, Running)> = Vec::new();
        let mut last = Instant::now();
        for number in order {
            if !running.is_empty() {
                sleep(Duration::from_secs(pause));
            }
            last = Instant::now();
            fleet.card_mut(number).on();
            running.push((number, begin(&fleet, number)));
        }
        all_end_well(&fleet, running);
        is_whole(&fleet);
        println!(
            "order {order:?}, {pause} s apart: whole {:.0} s after the last was switched on",
            last.elapsed().as_secs_f32()
        );
    }
}

#[test]
fn power_cuts_at_any_moment() {
    let Some(sequences) = sequences() else { return };
    let first = std::env::var("PALMFARM_SEED").map_or(1, |text| text.parse().unwrap());
    for seed in first..first + sequences {
        let Some(mut fleet) = Fleet::new(3) else { return };
        let mut chance: u64 = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).max(1);
        let mut running: Vec<(u8, Running)> = Vec::new();
        for number in 1..=3 {
            fleet.card_mut(number).on();
            running.push((number, begin(&fleet, number)));
        }
        let mut cuts = Vec::new();
        let mut caring = Vec::new();
        for _ in 0..=draw(&mut chance, 3) {
            let (number, millis) = (1 + draw(&mut chance, 3), draw(&mut chance, 9000));
            let number = u8::try_from(number).unwrap();
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(millis) {
                keep_caring(&fleet, &mut caring);
                sleep(Duration::from_millis(100));
            }
            running.retain(|(one, _)| *one != number);
            caring.retain(|(one, _)| *one != number);
            fleet.card_mut(number).off();
            fleet.card_mut(number).on();
            running.push((number, begin(&fleet, number)));
            cuts.push((number, millis));
        }
        println!("seed {seed}: {cuts:?}");
        drop(caring);
        let begun = Instant::now();
        all_end_well(&fleet, running);
        is_whole(&fleet);
        println!("seed {seed}: whole after {:.0} s", begun.elapsed().as_secs_f32());
    }
}

#[test]
fn a_member_is_lost_under_load() {
    if sequences().is_none() {
        return;
    }
    let Some(mut fleet) = Fleet::new(3) else { return };
    for number in 1..=3 {
        fleet.card_mut(number).on();
    }
    run_all(&fleet, &[1, 2, 3]);
    let addresses: Vec<_> = (1..=3)
        .map(|number| address(&container("", number, "")))
        .collect();
    let router = fleet.router.netns();
    let over = AtomicBool::new(false);
    let missed = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut asked, mut missed) = (0, [0; 3]);
            while !over.load(Ordering::SeqCst) {
                let round = Instant::now();
                asked += 1;
                for (address, missed) in addresses.iter().zip(&mut missed) {
                    if !crate::router::ping(&router, *address) {
                        *missed += 1;
                    }
                }
                sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
            }
            (asked, missed)
        });
        sleep(Duration::from_secs(30));
        fleet.card_mut(3).off();
        wait_until(&fleet, 1, "palm3", "offline");
        sleep(Duration::from_secs(60));
        fleet.flash(3);
        fleet.card_mut(3).on();
        run_all(&fleet, &[3]);
        is_whole(&fleet);
        care(&fleet);
        sleep(Duration::from_secs(60));
        over.store(true, Ordering::SeqCst);
        client.join().unwrap()
    });
    println!("asked {} times, missed {:?}", missed.0, missed.1);
    assert_eq!(missed.1[..2], [0, 0]);
    assert!(missed.1[2] > 0);
}

#[test]
fn a_forming_that_hangs_is_ended() {
    if sequences().is_none() {
        return;
    }
    let Some(mut fleet) = Fleet::new(3) else { return };
    let running = all_begin(&mut fleet);
    let first = fleet.card(1);
    first.wait_for("var/lib/lxd/cluster.crt", "END CERTIFICATE");
    let before = first.daemon();
    first.order("pause");
    first.wait_for_another(&before);
    all_end_well(&fleet, running);
    is_whole(&fleet);
}

#[test]
fn joins_that_hang_are_ended() {
    if sequences().is_none() {
        return;
    }
    let Some(mut fleet) = Fleet::new(3) else { return };
    let mut running = all_begin(&mut fleet);
    for number in [2, 3] {
        let card = fleet.card(number);
        card.wait_for("run/palmfarm/report.txt", "waiting for its turn");
    }
    running.retain(|(number, _)| *number != 3);
    let begun = |number: u8| {
        let card = fleet.card(number);
        card.wait_for("var/lib/lxd/cluster.crt", "END CERTIFICATE");
        card.daemon()
    };

    println!("the leader's daemon stands still while palm2 joins");
    let mut caring = Vec::new();
    keep_caring(&fleet, &mut caring);
    let before = begun(2);
    fleet.card(1).order("pause");
    fleet.card(2).wait_for_another(&before);
    fleet.card(1).order("resume");
    drop(caring);
    all_end_well(&fleet, running);

    println!("palm3 listens, and does not join");
    // Whoever leads has waited for it once, while palm2 joined.
    for number in [1, 2] {
        let mut care = fleet.card(number).agent(&["cluster", "care"]);
        assert!(care.ended(Duration::from_secs(600)), "{}", care.printed());
        println!("a round of palm{number}: {:.0} s", care.age().as_secs_f32());
        assert!(care.age() < Duration::from_secs(60));
    }

    println!("its own daemon stands still while palm3 joins");
    let third = begin(&fleet, 3);
    let before = begun(3);
    fleet.card(3).order("pause");
    fleet.card(3).wait_for_another(&before);
    all_end_well(&fleet, vec![(3, third)]);
    is_whole(&fleet);
}

/// Switch all three cards on, the first as the last, and begin their runs.
fn all_begin(fleet: &mut Fleet) -> Vec<(u8, Running)> {
    let mut running = Vec::new();
    for number in [2, 3, 1] {
        fleet.card_mut(number).on();
        running.push((number, begin(fleet, number)));
    }
    running
}
