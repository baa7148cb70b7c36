//! Where no terminal is, and what no daemon of this world would say.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::{Command, Output},
    thread,
    time::Duration,
};

use crate::{
    daemon::http_get,
    tmux::{Terminal, program, words},
    traffic::{EVIL_HOST, SLOW, World},
};

/// Sets the title, clears the screen, colours, moves, reports, and turns the direction of text.
const ESCAPES: &str =
    r"\u001b]0;owned\u0007\u001b[2J\u001b[31m\u009b5;5Hx\u001b[6n\u001b[?1049l\r\n\u202ey";
const HARMLESS: &str = "\u{fffd}]0;owned\u{fffd}\u{fffd}[2J\u{fffd}[31m\u{fffd}5;5Hx\u{fffd}[6n\u{fffd}[?1049l\u{fffd}\u{fffd}\u{fffd}y";

#[test]
#[ignore = "needs root"]
fn pipe_gets_a_plain_table_once() {
    let world = World::busy();
    // Until slow-after nothing hangs.
    thread::sleep(Duration::from_secs(1));
    let output = top(&["--url", &format!("http://{}", world.daemon.listen)]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !text.chars().any(|c| c.is_control() && c != '\n'),
        "{text:?}"
    );
    assert!(
        text.contains(" of 4 servers delay") && text.contains(" closing, 2 connections hang\n"),
        "{text}"
    );
    let row = words(&text, &["!", &format!("127.0.0.1:{SLOW}"), " server "]);
    assert_eq!(row[..3], ["!", &*format!("127.0.0.1:{SLOW}"), "server"]);
    let titles = words(&text, &["slow for", "no FIN", "longest"]);
    assert_eq!(titles.last(), Some(&"host"));
    assert_eq!(text.matches("awaits FIN").count(), 2, "{text}");
    assert!(text.contains(EVIL_HOST), "{text}");
    assert!(
        text.lines().last().unwrap().contains("lost 0, folded 0"),
        "{text}"
    );

    // The same on a terminal that is asked for it, and through a pipe that is not read.
    let terminal = Terminal::shell(220, 50);
    let url = format!("http://{}", world.daemon.listen);
    terminal.command(&format!(
        "{} top --once --url {url}; echo \"ended with $?\"",
        program()
    ));
    let screen = terminal.wait_for("\nended with 0");
    assert!(screen.contains("2 connections hang"), "{screen}");
    assert_eq!(terminal.is("alternate_on"), "0");
    terminal.command(&format!(
        "clear; {} top --url {url} | true; echo \"read with $?\"",
        program()
    ));
    let screen = terminal.wait_for("read with 0\n$");
    assert!(!screen.contains("closewatch: "), "{screen}");
}

#[test]
#[ignore = "needs root"]
fn what_does_not_answer_is_a_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let refused = format!("closewatch: {url} does not answer: connection refused\n");
    for (arguments, code, sentence) in [
        (["--url", &url], 1, &*refused),
        (
            ["--url", "http://closewatch.invalid:1"],
            1,
            "does not answer: ",
        ),
        (
            ["--url", "127.0.0.1:16455"],
            2,
            "write it like http://127.0.0.1:16455",
        ),
        (
            ["--url", "https://127.0.0.1:1"],
            1,
            "closewatch: https://127.0.0.1:1 does not answer: connection refused",
        ),
    ] {
        let output = top(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(sentence), "{said}");
        assert_eq!(output.stdout, b"");
    }
}

#[test]
#[ignore = "needs root"]
fn escape_sequences_of_a_peer_never_reach_the_terminal() {
    let world = World::busy();
    // A daemon that lets everything through: what this one says, with another host.
    let real = world.daemon.listen;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("/");
            let answer = http_get(real, path);
            let body = answer.split_once("\r\n\r\n").map_or("", |parts| parts.1);
            let body = body.replace(EVIL_HOST, ESCAPES);
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{body}", body.len());
        }
    });
    let terminal = Terminal::top(200, 40, &url);
    let title = terminal.is("pane_title");
    let screen = terminal.wait_for(HARMLESS);
    assert!(
        screen.starts_with("closewatch  ") && screen.contains(" of 4 servers delay"),
        "{screen}"
    );
    assert!(screen.contains("\nq quit"), "{screen}");
    assert_eq!(terminal.is("pane_title"), title);
    assert_eq!(terminal.is("alternate_on"), "1");
    let lines: Vec<usize> = screen.lines().map(|line| line.chars().count()).collect();
    assert!(
        lines.len() <= 40 && lines.iter().all(|line| *line <= 200),
        "{screen}"
    );

    let plain = String::from_utf8(top(&["--url", &url]).stdout).unwrap();
    assert!(plain.contains(HARMLESS), "{plain}");
    assert!(
        !plain.chars().any(|c| c.is_control() && c != '\n'),
        "{plain:?}"
    );
}

#[test]
#[ignore = "needs root"]
fn colours_are_the_terminals_own_and_none_where_none_are_wanted() {
    let world = World::busy();
    let url = format!("http://{}", world.daemon.listen);
    let coloured = |terminal: &Terminal| {
        let screen = terminal.colours();
        let sequences = screen.split("\u{1b}[").skip(1);
        let sequences = sequences.filter_map(|sequence| sequence.split_once('m'));
        let colours: Vec<&str> = sequences
            .map(|(numbers, _)| numbers)
            .filter(|numbers| numbers.starts_with('3') || numbers.starts_with('4'))
            .filter(|numbers| !["39", "49"].contains(numbers))
            .collect();
        // Of the text, by their number in the terminal's palette, of which the owner chooses 16.
        let own = |colour: &&str| {
            let number = colour.strip_prefix("38;5;");
            number.is_some_and(|number| number.parse::<u8>().is_ok_and(|number| number < 16))
        };
        assert!(colours.iter().all(own), "{colours:?}");
        !colours.is_empty()
    };
    let terminal = Terminal::top(120, 30, &url);
    assert!(coloured(&terminal));
    drop(terminal);
    let terminal = Terminal::shell(120, 30);
    terminal.command(&format!("NO_COLOR=1 {} top --url {url}", program()));
    terminal.wait_for(" live\n");
    assert!(!coloured(&terminal), "{}", terminal.screen());
}

fn top(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command
        .arg("top")
        .args(arguments)
        .env_remove("CLOSEWATCH_URL");
    command.output().unwrap()
}
