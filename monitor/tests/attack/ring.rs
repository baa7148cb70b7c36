//! The kernel's buffer runs over, because the daemon is stopped while connections open and end.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    attacker::PORT,
    memory::Watch,
    scene::{EVENTS_LOST, Scene, check_records},
    turn,
};

/// Their ends alone do not fit.
const OPENINGS: u32 = 12_000;
/// Known to the daemon before it is stopped; they end when the buffer is full.
const OPEN: u32 = 500;

#[test]
#[ignore = "needs root"]
fn what_did_not_fit_is_told() {
    let _turn = turn();
    let mut scene = Scene::new();
    let mut attacker = scene.attacker(PORT);
    attacker.does(&format!("ask {OPEN}"));
    attacker.does("answer");
    let opened = "closewatch_connections_opened_total";
    scene.daemon.await_metric(opened, &[], f64::from(2 * OPEN));
    assert_eq!(
        scene.count("closewatch_connections", &[]),
        u64::from(2 * OPEN)
    );

    let watch = Watch::start(scene.daemon.pid());
    scene.daemon.signal(libc::SIGSTOP);
    let took = attacker.does(&format!("flood {OPENINGS}"));
    attacker.does("end");
    scene.daemon.signal(libc::SIGCONT);
    eprintln!("{OPENINGS} openings in {took:?} while the daemon was stopped");

    let ends = u64::from(2 * (OPENINGS + OPEN));
    scene.await_records(ends);
    let lost = scene.count(EVENTS_LOST, &["ring_full_at_end"]);
    assert!(lost >= u64::from(2 * OPEN), "only {lost} ends did not fit");
    let records = scene.records();
    assert_eq!(records.len() as u64 + lost, ends);
    check_records(&records, false);

    let said = scene.daemon.await_log("ring buffer was full");
    let said = said.get("fields").unwrap_or(&said);
    assert_eq!(said["ends"], lost, "{said}");

    // What the daemon still holds for live ended unseen: it finds out by itself.
    let deadline = Instant::now() + Duration::from_secs(20);
    while scene.count("closewatch_connections", &[]) > 0 {
        let live = scene.count("closewatch_connections", &[]);
        assert!(Instant::now() < deadline, "{live} are still live");
        thread::sleep(Duration::from_millis(200));
    }
    let swept = scene.count("closewatch_connections_swept_total", &[]);
    let known = scene.count(opened, &[]);
    assert_eq!(
        known,
        records.len() as u64 + swept,
        "opened is recorded or swept"
    );
    let total = scene.count("closewatch_connections_ended_total", &[]);
    assert_eq!(
        total,
        records.len() as u64,
        "what ended unseen has no outcome"
    );
    watch.settle("ring overflow");
}

/// The daemon gets no rest: there is always more to read, and yet it finds out what ended unseen.
#[test]
#[ignore = "needs root"]
fn what_ended_unseen_is_found_while_the_flood_goes_on() {
    let _turn = turn();
    let mut scene = Scene::new();
    let mut victim = scene.attacker(PORT);
    let mut attacker = scene.attacker(PORT + 100);
    victim.does(&format!("ask {OPEN}"));
    victim.does("answer");
    let opened = "closewatch_connections_opened_total";
    scene.daemon.await_metric(opened, &[], f64::from(2 * OPEN));
    scene.daemon.signal(libc::SIGSTOP);
    attacker.does(&format!("flood {OPENINGS}"));
    victim.does("end");
    attacker.begin("flood 1000000");
    scene.daemon.signal(libc::SIGCONT);
    let began = Instant::now();
    // Not asked over HTTP: a daemon that is so far behind may take its time to answer.
    let said = scene.daemon.await_log("connections ended unseen");
    let found = &said.get("fields").unwrap_or(&said)["swept"];
    eprintln!(
        "{found} found after {:.1} s of flood",
        began.elapsed().as_secs_f64()
    );
    assert!(found.as_u64() >= Some(u64::from(2 * OPEN)), "{said}");
    check_records(&scene.records(), false);
}
