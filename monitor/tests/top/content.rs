//! What the terminal shows is what the API says, and stays so.

use serde_json::Value;

use crate::{
    daemon::Daemon,
    tmux::{Terminal, program, words},
    traffic::{CLEAN, EVIL_HOST, EVIL_PATH, HANGS, SLOW, World},
};

#[test]
#[ignore = "needs root"]
fn slow_server_is_shown_with_the_figures_of_the_api() {
    let world = World::busy();
    let terminal = Terminal::top(200, 50, &url(&world));
    let screen = terminal.wait_for("closing, 2 connections hang");
    let slow = format!("127.0.0.1:{SLOW}");
    let answer = world.api(&format!("servers?server={slow}&role=server"));
    let server = &answer["servers"][0];

    let row = words(&screen, &["!", &slow, " server "]);
    let row: Vec<&str> = row.into_iter().skip_while(|word| *word != slow).collect();
    let longest = server["window"]["longest_seconds"].as_f64().unwrap();
    assert_eq!(row[..2], [&*slow, "server"]);
    let share = row.iter().position(|word| *word == "100").unwrap();
    assert_eq!(row[share - 1], server["ended"].to_string());
    assert!(row.contains(&&*format!("{longest:.2}")), "{row:?}");
    assert_eq!(*row.last().unwrap(), server["hosts"][0]);
    let health = world.api("health");
    let version = format!("closewatch {}", health["version"].as_str().unwrap());
    let own = words(
        &screen,
        &[
            &version,
            "lost 0",
            "folded 0",
            "4 probes",
            "4 of 1,000 servers",
        ],
    );
    assert!(own.contains(&"up"), "{screen}");

    // Slow ones first; the client's end of the same server is the first of them.
    let first = screen
        .lines()
        .position(|line| line.contains(&slow))
        .unwrap();
    let clean = screen
        .lines()
        .position(|line| line.contains(&format!(":{CLEAN}")))
        .unwrap();
    assert!(first < clean, "{screen}");
    terminal.keys(&["r"]);
    terminal.wait_for("worst first · role server");
    terminal.keys(&["Enter"]);
    let detail = terminal.wait_for("Hanging here  nothing");
    assert!(
        detail.contains(&format!("{slow}  role server\nSLOW for ")),
        "{detail}"
    );
    let outcomes = server["outcomes"].as_object().unwrap().iter();
    for (outcome, count) in outcomes.filter(|(_, count)| **count != 0) {
        assert!(detail.contains(&format!("{count} {outcome}")), "{detail}");
    }
    let edges = answer["edges_seconds"].as_array().unwrap();
    let bucket = edges.iter().position(|edge| *edge == 1.5).unwrap();
    let counted = &server["close_to_fin"]["server"]["counts"][bucket];
    let bar = words(&detail, &["1 s – 1.5 s"]);
    assert_eq!(
        bar[..8],
        ["!", "1", "s", "–", "1.5", "s", &counted.to_string(), "0"]
    );
    assert!(bar[8].chars().all(|c| c == '█'), "{detail}");
    assert!(detail.contains("── slow from 1 s on ─"), "{detail}");
    let held = &server["time_wait"]["entered"];
    assert!(
        detail.contains(&format!(
            "by client {}, server {}",
            held["client"], held["server"]
        )),
        "{detail}"
    );
    terminal.keys(&["Escape"]);
    terminal.wait_for("Servers  worst first");
}

#[test]
#[ignore = "needs root"]
fn what_hangs_appears_and_its_age_counts_up() {
    let mut world = World::quiet();
    let terminal = Terminal::top(120, 30, &url(&world));
    let empty = terminal.wait_for("No WebSocket has been seen yet");
    assert!(empty.contains("Hanging now  nothing"), "{empty}");
    world.hang();
    let hanging = format!("127.0.0.1:{HANGS}");
    let age = |screen: &str| {
        let line = words(screen, &["awaits FIN", &hanging, "both"]);
        assert_eq!(line[1], "s", "{line:?}");
        line[0].parse::<f64>().unwrap()
    };
    let screen = terminal.wait_for("awaits FIN");
    let first = age(&screen);
    let later = terminal.wait("an age that counts up", |screen| age(screen) >= first + 3.0);
    let told = world.api("connections?phase=awaiting_fin");
    let told = told["connections"][0]["age_seconds"].as_f64().unwrap();
    assert!((told - age(&later)).abs() < 2.0, "{told}: {later}");

    // The details have it as well.
    terminal.keys(&["Tab", "Enter"]);
    terminal.wait_for("Hanging here  1, longest first");
    let detail = terminal.screen();
    assert!(detail.contains("the longest hangs for"), "{detail}");
}

#[test]
#[ignore = "needs root"]
fn sorted_filtered_and_resized() {
    let world = World::busy();
    let terminal = Terminal::top(160, 40, &url(&world));
    terminal.wait_for("2 connections hang");
    let ports = |screen: &str| -> Vec<u16> {
        let table = screen.split("Hanging now").next().unwrap();
        let rows = table
            .lines()
            .filter_map(|line| line.split("127.0.0.1:").nth(1));
        rows.map(|row| row.split(' ').next().unwrap().parse().unwrap())
            .collect()
    };
    terminal.keys(&["s"]);
    // A screen that is read while it is drawn has lines of both.
    terminal.wait("by server ▲", |screen| {
        screen.contains("by server ▲") && ports(screen).is_sorted()
    });
    terminal.keys(&["S"]);
    terminal.wait("by server ▼", |screen| {
        screen.contains("by server ▼") && ports(screen).is_sorted_by(|a, b| a >= b)
    });
    terminal.keys(&["/"]);
    terminal.wait_for("Enter keeps it");
    terminal.keys(&["-l", &format!(":{CLEAN}")]);
    let filter = format!("filter \":{CLEAN}\"");
    terminal.wait(&filter, |screen| {
        screen.contains(&filter) && ports(screen) == [CLEAN, CLEAN]
    });
    terminal.keys(&["Enter"]);
    terminal.wait_for("q quit");
    terminal.keys(&["Escape"]);
    terminal.wait("no filter", |screen| ports(screen).len() >= 6);

    for (columns, lines) in [(80, 24), (40, 10), (200, 60), (20, 4), (100, 30)] {
        terminal.resize(columns, lines);
        let told = if columns < 30 {
            "closewatch top"
        } else {
            "q quit"
        };
        let last = |screen: &str| screen.trim_end().lines().count() == usize::from(lines);
        terminal.wait(told, |screen| {
            let whole = columns < 30 || last(screen) && screen.contains("Hanging now");
            screen.contains(told) && whole
        });
    }
}

#[test]
#[ignore = "needs root"]
fn daemon_that_goes_is_told_and_one_that_comes_back_is_shown() {
    let mut world = World::quiet();
    world.hang();
    let listen = world.daemon.listen;
    let terminal = Terminal::top(120, 30, &url(&world));
    terminal.wait_for("awaits FIN");
    world.daemon.terminate();
    let gone = terminal.wait_for("does not answer: connection refused");
    assert!(gone.contains("NO ANSWER, "), "{gone}");
    assert!(gone.contains("awaits FIN"), "what was known stays: {gone}");
    terminal.wait("its age", |screen| {
        ["6", "7", "8"]
            .iter()
            .any(|old| screen.contains(&format!("what is shown is {old} s old")))
    });
    world.let_go();
    let returned = Daemon::start_at(&world.sandbox, &world.daemon.records, listen);
    let back = terminal.wait_for("waiting for the first WebSocket");
    assert!(
        back.contains(" live\n") && !back.contains("NO ANSWER"),
        "{back}"
    );

    terminal.keys(&["p"]);
    terminal.wait_for("PAUSED, ");
    terminal.keys(&["p"]);
    terminal.wait("life", |screen| screen.contains(" live\n"));
    drop(returned);
}

#[test]
#[ignore = "needs root"]
fn view_that_is_there_before_the_daemon_waits_for_it() {
    let mut world = World::quiet();
    let listen = world.daemon.listen;
    world.daemon.terminate();
    let terminal = Terminal::shell(100, 30);
    terminal.command(&format!("{} top --url http://{listen}", program()));
    let none = terminal.wait_for("connection refused. Asking again.");
    assert!(none.contains("NO ANSWER"), "{none}");
    let returned = Daemon::start_at(&world.sandbox, &world.daemon.records, listen);
    terminal.wait_for("waiting for the first WebSocket");
    drop(returned);
}

#[test]
#[ignore = "needs root"]
fn what_a_peer_wrote_stays_text() {
    let world = World::busy();
    let terminal = Terminal::top(200, 50, &url(&world));
    terminal.wait_for(&format!("{EVIL_HOST}{EVIL_PATH}"));
    terminal.wait_for("2 connections hang");
    let told: Value = world.api("connections?phase=awaiting_fin&server=127.0.0.1:9004&role=server");
    assert_eq!(told["connections"][0]["host"], EVIL_HOST);
}

fn url(world: &World) -> String {
    format!("http://{}", world.daemon.listen)
}
