//! Requests that never end, and requests from nobody, while others wait for their answers.

use crate::{
    attacker::PORT,
    memory::Watch,
    scene::{Scene, check_records},
    size, turn,
};

const HONEST: u32 = 200;
/// More than the kernel side has places for.
const STRAYS: u32 = 20_000;

/// What the honest ones' records must be, whatever the others did while they waited.
fn honest_are_followed(scene: &Scene) {
    scene.await_records(2 * u64::from(HONEST));
    let records = scene.records();
    assert_eq!(
        records.len() as u32,
        2 * HONEST,
        "{:?}",
        scene.daemon.losses()
    );
    check_records(&records, true);
    assert_eq!(scene.daemon.losses(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root"]
fn half_requests_take_nobodys_place() {
    let _turn = turn();
    let requests = size("CLOSEWATCH_ATTACK_REQUESTS", 6_000);
    let scene = Scene::new();
    let (mut honest, mut attacker) = (scene.attacker(PORT), scene.attacker(PORT + 100));
    honest.does(&format!("ask {HONEST}"));
    let watch = Watch::start(scene.daemon.pid());
    let took = attacker.does(&format!("begin {requests}"));
    let dripped = attacker.does("drip");
    eprintln!("{requests} requests begun in {took:?}, a byte more of each in {dripped:?}");
    honest.does("answer");
    honest.does("end");
    attacker.does("leave");
    honest_are_followed(&scene);
    let grown = watch.settle("half requests");
    assert!(
        grown < 8 << 20,
        "{grown} bytes more, of nothing that the daemon is told"
    );
}

#[test]
#[ignore = "needs root"]
fn requests_of_nobody_take_nobodys_place() {
    let _turn = turn();
    let scene = Scene::new();
    let (mut honest, mut attacker) = (scene.attacker(PORT), scene.attacker(PORT + 100));
    honest.does(&format!("ask {HONEST}"));
    let took = attacker.does(&format!("strays {STRAYS}"));
    eprintln!("{STRAYS} requests of nobody in {took:?}");
    honest.does("answer");
    honest.does("end");
    honest_are_followed(&scene);
}
