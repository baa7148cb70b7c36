//! What the page shows is what the API says, and stays so.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use crate::{
    browser::Browser,
    daemon::Daemon,
    traffic::{EVIL_HOST, EVIL_PATH, SLOW, World},
};

const WIDE: u32 = 1280;

#[test]
#[ignore = "needs root"]
fn slow_server_is_first_with_the_figures_of_the_api() {
    let world = World::busy();
    let mut browser = Browser::start();
    browser.open(world.daemon.listen, WIDE, "light");
    let answer = world.api(&format!("servers?server=127.0.0.1:{SLOW}&role=server"));
    let server = &answer["servers"][0];
    assert_eq!(server["slow"], true);

    assert_eq!(browser.text("h1"), "1 of 4 servers delays closing");
    let summary = browser.text("#summary");
    assert!(
        summary.contains("3 of 5 closes in the last hour were slow (60 %)"),
        "{summary}"
    );
    assert_eq!(browser.value("document.title"), "1 slow · closewatch");
    let order = browser.value(
        "[...document.querySelectorAll('.servers .about .address')].map(one => one.innerText)",
    );
    let slow = format!("127.0.0.1:{SLOW}");
    assert_eq!(order[0], slow, "{order}");
    assert_eq!(order[1], slow, "{order}");

    let row = "tr:has([aria-label='Details of 127.0.0.1:9002, on this host'])";
    let cell = |browser: &mut Browser, class: &str| browser.text(&format!("{row} > .{class}"));
    assert!(cell(&mut browser, "slow").starts_with("slow\nfor "));
    let ended = &server["ended"];
    assert_eq!(
        cell(&mut browser, "last-hour"),
        format!("100 % · {ended} of {ended}")
    );
    let held = &server["time_wait"]["entered"];
    let shown = cell(&mut browser, "time-wait");
    let entered = format!("client {} · server {}", held["client"], held["server"]);
    assert!(shown.starts_with(&entered), "{shown}");
    assert!(
        shown.ends_with(" now"),
        "listed for the first answer, too: {shown}"
    );
    let picture = browser.value(&format!(
        "document.querySelector(\"{row} .histogram\").getAttribute('aria-label')"
    ));
    assert_eq!(picture, "3 closes, 3 after 1 s; most took 1 s to 1.5 s.");

    browser.value(&format!(
        "document.querySelector(\"{row} .toggle\").click()"
    ));
    let detail = format!("{row} + .detail");
    browser.wait(&format!(
        "document.querySelector(\"{detail}\").innerText.includes('Nothing hangs.')"
    ));
    let outcomes = browser.value(&format!(
        "Object.fromEntries([...document.querySelectorAll(\"{detail} .facts > div\")]
            .map(fact => [fact.children[0].innerText, fact.children[1].innerText]))"
    ));
    for (outcome, count) in server["outcomes"].as_object().unwrap() {
        let shown = (*count != 0).then(|| count.to_string());
        assert_eq!(outcomes[outcome].as_str(), shown.as_deref(), "{outcomes}");
    }
    assert_eq!(outcomes["Software"], server["software"]);
    let edges = answer["edges_seconds"].as_array().unwrap();
    let bucket = edges.iter().position(|edge| *edge == 1.5).unwrap();
    let counted = &server["close_to_fin"]["server"]["counts"][bucket];
    assert_eq!(
        browser
            .text(&format!("{detail} .distribution tbody"))
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["1", "s", "to", "1.5", "s", &counted.to_string(), "0"],
    );

    let health = world.api("health");
    let records = format!("{} written, 0 lost", health["records"]["written"]);
    assert!(browser.text("#health").contains(&records));
    assert!(browser.text("#health").contains("4 of 4 attached"));
    browser.settle(world.daemon.listen);
}

#[test]
#[ignore = "needs root"]
fn what_hangs_appears_and_its_age_counts_up_without_reload() {
    let mut world = World::quiet();
    let mut browser = Browser::start();
    browser.open(world.daemon.listen, WIDE, "light");
    assert_eq!(browser.text("h1"), "Waiting for the first WebSocket");
    let empty = browser.text("#servers-table");
    assert!(empty.contains("No WebSocket has been seen yet"), "{empty}");
    assert!(browser.text("#hanging").starts_with("Nothing"));

    browser.value("window.neverReloaded = true");
    world.hang();
    browser.wait("document.querySelector('#hanging .age')");
    let found = browser.text("#hanging tbody");
    assert!(found.contains("127.0.0.1:9003"), "{found}");
    assert!(found.contains("both ends"), "{found}");
    let age = |browser: &mut Browser| {
        browser.value("parseInt(document.querySelector('#hanging .age').innerText)")
    };
    let first = age(&mut browser).as_i64().unwrap();
    browser.wait(&format!(
        "parseInt(document.querySelector('#hanging .age').innerText) >= {}",
        first + 2
    ));
    let of_api = world.api("connections?phase=awaiting_fin");
    let of_api = of_api["connections"][0]["age_seconds"].as_f64().unwrap();
    let shown = age(&mut browser).as_f64().unwrap();
    assert!((of_api - shown).abs() < 2.0, "{of_api} and {shown}");
    assert_eq!(browser.value("window.neverReloaded"), true);
    browser.settle(world.daemon.listen);
}

#[test]
#[ignore = "needs root"]
fn close_frame_that_nobody_answers_hangs() {
    let mut world = World::quiet();
    let mut browser = Browser::start();
    browser.open(world.daemon.listen, WIDE, "light");
    world.ignore();
    browser.wait("document.querySelector('#hanging .age')");
    let found = browser.text("#hanging tbody");
    assert!(found.contains("awaits a Close frame"), "{found}");
    let summary = browser.text("#summary");
    assert!(summary.starts_with("1 connection hangs now"), "{summary}");
    let server = browser.text("#servers-table tbody");
    assert!(server.contains("1 await Close"), "{server}");
    browser.settle(world.daemon.listen);
}

#[test]
#[ignore = "needs root"]
fn daemon_that_goes_is_told_and_one_that_comes_back_is_shown() {
    let mut world = World::quiet();
    world.hang();
    let listen = world.daemon.listen;
    let mut browser = Browser::start();
    browser.open(listen, WIDE, "light");
    browser.wait("document.querySelector('#hanging .age')");
    browser.settle(listen);

    world.daemon.terminate();
    browser.wait("!document.getElementById('trouble').hidden");
    let trouble = browser.text("#trouble");
    assert!(trouble.contains("The daemon does not answer."), "{trouble}");
    assert_eq!(browser.text("#freshness"), "Not answering");
    assert!(
        browser
            .value("document.title")
            .as_str()
            .unwrap()
            .starts_with("(no answer) ")
    );
    // What is shown stays, with its age, and does not claim to go on.
    let age = "document.querySelector('#hanging .age').innerText";
    let before = browser.value(age);
    browser.wait("/What is shown is ([5-9]|\\d\\d) s old/.test(document.getElementById('trouble').innerText)");
    assert_eq!(browser.value(age), before);

    world.let_go();
    let returned = Daemon::start_at(&world.sandbox, &world.daemon.records, listen);
    browser.wait("document.getElementById('freshness').textContent === 'Live'");
    browser.wait("document.getElementById('trouble').hidden");
    browser.wait("document.querySelector('h1').innerText === 'Waiting for the first WebSocket'");
    // Refused connections are told on the console by the browser itself.
    browser.complaints.clear();
    thread::sleep(Duration::from_secs(4));
    browser.settle(listen);
    drop(returned);
}

#[test]
#[ignore = "needs root"]
fn what_a_peer_wrote_stays_text() {
    let world = World::busy();
    let told = world.api("connections?phase=awaiting_fin&server=127.0.0.1:9004&role=server");
    assert_eq!(told["connections"][0]["host"], EVIL_HOST);
    assert_eq!(told["connections"][0]["path"], EVIL_PATH);

    let mut browser = Browser::start();
    browser.open(world.daemon.listen, WIDE, "dark");
    let shown = json!(format!("{EVIL_HOST}{EVIL_PATH}"));
    browser.wait(&format!(
        "document.getElementById('hanging').innerText.includes({shown})"
    ));
    browser.value("document.querySelectorAll('.toggle').forEach(toggle => toggle.click())");
    let host = json!(EVIL_HOST);
    browser.wait(&format!(
        "[...document.querySelectorAll('.detail')].some(detail => detail.innerText.includes({host}))"
    ));
    assert_eq!(browser.value("document.querySelectorAll('img').length"), 0);
    assert_eq!(browser.value("document.scripts.length"), 1);
    assert_eq!(browser.value("window.evil"), Value::Null);
    browser.settle(world.daemon.listen);
}
