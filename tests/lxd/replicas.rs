//! What the agent's care costs: ten replicas of a template beside a shell loop of `lxc launch` on the same daemon. The
//! ratio is printed, not judged: a busy machine must not fail a test.

use std::time::Instant;

use palmfarm_protocol::report::StepState;

use crate::document::{add, container, run, with_alpine};
use crate::lab::Lab;
use crate::router::Service;
use crate::sh;

#[test]
fn ten_replicas_beside_a_shell_loop() {
    let Some(mut lab) = Lab::new() else { return };
    lab.router.serve(Service::Both);
    let mut farm = with_alpine(&lab);
    let mut web = container("web", 1, "alpine");
    web.run = vec![run("mark", "touch /srv-was-here")];
    web.publish = Some("web_image".into());
    add(&mut farm, web);
    // The first one unpacks the image into the pool, for all later ones.
    add(&mut farm, container("w2", 2, "web_image"));
    lab.agent(&farm).all_well();

    let begun = Instant::now();
    let each = "for n in 1 2 3 4 5 6 7 8 9 10; do lxc launch web_image x$n -p default -p extbridge < /dev/null || exit; done";
    sh::run(&mut lab.pi.shell(each));
    let by_hand = begun.elapsed();

    for number in 3..=12 {
        add(&mut farm, container(&format!("w{number}"), number, "web_image"));
    }
    let ran = lab.agent(&farm);
    ran.all_well();
    for number in 3..=12 {
        assert_eq!(
            ran.step(&format!("container w{number}")).state,
            StepState::Changed
        );
    }
    let by_agent = ran.changed.unwrap();
    println!(
        "ten replicas: {:.1} s by the agent until the last was ready, {:.1} s by a loop of lxc launch, ratio {:.2}; {:.1} s \
         with the report of their addresses",
        by_agent.as_secs_f32(),
        by_hand.as_secs_f32(),
        by_agent.as_secs_f32() / by_hand.as_secs_f32(),
        ran.took.as_secs_f32(),
    );
}
