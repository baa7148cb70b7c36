//! Openings without end, each from another address, to another server, under another name.

use std::time::Duration;

use crate::{
    attacker::PORT,
    memory::{Watch, mebibytes},
    scene::{EVENTS_LOST, SOCKETS_LOST, Scene, check_records},
    size, turn,
};

/// What a flood may add to the daemon's memory: the README's table of bounds, added up.
const GROWS_BY: u64 = 96 << 20;

#[test]
#[ignore = "needs root"]
fn openings_from_everywhere() {
    let _turn = turn();
    let openings = size("CLOSEWATCH_ATTACK_OPENINGS", 20_000);
    let scene = Scene::new();
    let mut attacker = scene.attacker(PORT);
    let watch = Watch::start(scene.daemon.pid());
    attacker.begin(&format!("flood {openings}"));
    let took = attacker.finish(Duration::from_secs(3600));
    let ends = 2 * u64::from(openings);
    scene.await_rest();
    let lost = scene.count(EVENTS_LOST, &["ring_full_at_end"]);
    let late = scene.count(EVENTS_LOST, &["ring_full\""]);
    eprintln!(
        "{openings} openings in {:.1} s, {:.0} a second; {lost} of {ends} ends lost, {late} events late",
        took.as_secs_f64(),
        f64::from(openings) / took.as_secs_f64()
    );
    let grown = watch.settle("flood of openings");

    let records = scene.records();
    let told = records.len() as u64;
    let counted = told + scene.uncertain();
    let books = format!("{told} records, {:?}", scene.daemon.losses());
    assert!(counted >= ends, "an end is in no counter: {books}");
    assert!(lost > 0 || counted == ends, "{books}");
    eprintln!("{books}");
    // Only what is open or ends while the sockets are listed can be in two.
    assert!(counted <= ends + 100, "{books}");
    check_records(&records, late == 0);
    let written = scene.count("closewatch_records_written_total", &[]);
    assert_eq!(records.len() as u64, written);
    let ended = scene.count("closewatch_connections_ended_total", &[]);
    assert_eq!(ended, written);
    // Each of the two ends of most connections went to a server that has no series.
    let folded = scene.count("closewatch_servers_folded_total", &[]);
    assert!(folded + 2 * 2 * 1000 >= ended, "{folded} of {ended} folded");
    let known = scene.count("closewatch_server_slow", &[]);
    assert_eq!(known, 0, "none was slow");
    let streams = scene.count("closewatch_streams_lost_total", &[]);
    assert_eq!(streams, 0, "{books}");
    // The kernel's memory may be short for a moment.
    let sockets = scene.count(SOCKETS_LOST, &[]);
    assert!(sockets <= ends / 100_000, "{books}");
    assert!(grown < GROWS_BY, "{} MiB more", mebibytes(grown));
}
