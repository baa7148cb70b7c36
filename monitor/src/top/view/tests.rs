use std::time::Duration;

use ratatui::{Terminal, backend::TestBackend, style::Color};

use super::*;
use crate::top::{
    answers::{Key, Role},
    client::Trouble,
    hanging::Hanging,
    model::Press,
    samples::{QUIET, Sample, answers, busy},
    text::Text,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn overview_in_full() {
    let (model, now) = shown();
    let expected = "\
Servers  worst first
                                               ────────── live ───────────         ── closes ──  ─── waits, 5 min ───  ───── TIME_WAIT by ──────
   server                    role    slow for  open  closing  no FIN  half  hangs  ended   slow     p50  p99  longest  client  server  both  now  host
>! 192.0.2.1:9003            client     3m06s     2        0       1     0   14 s     10  100 %  4.00 s    –   4.01 s      10       0     0    –  hangs.example.com
 ! 192.0.2.1:9003            server     3m06s     2        0       1     0   14 s     10  100 %  4.00 s    –   4.01 s      10       0     0    –  hangs.example.com
 ! 192.0.2.1:9002            server     3m06s     2        0       0     0      –  1,234   50 %  4.00 s    –   4.01 s     617     617     0    –  late.example.com
   [2001:db8::1:2:3:4]:9001  server         –     2        0       0     0      –     20    0 %       –    –        –       0      20     0    –  chat.example.com

Hanging now  longest first
    for  phase       server          client              seen by  host and path           cgroup
   14 s  awaits FIN  192.0.2.1:9003  198.51.100.7:50000  both     hangs.example.com/live  /system.slice/chat.service

";
    let picture = picture(&model, 190, 40, now + 2 * SECOND);
    let (first, rest) = picture.split_once("\n\n").unwrap();
    assert!(first.starts_with("closewatch  2 of 3 servers delay closing, 1 connection hangs  "));
    assert!(first.ends_with("  live"));
    for (line, expected) in rest.lines().zip(expected.lines()) {
        assert_eq!(line, expected, "{picture}");
    }
    let last: Vec<&str> = picture.lines().rev().take(2).collect();
    assert!(
        last[1].starts_with("closewatch 0.1.0 · lost 0 · folded 0 · up 3m07s · 2 probes · 14 live"),
        "{picture}"
    );
    assert!(
        last[0].starts_with("q quit  ? help  Enter open"),
        "{picture}"
    );
}

#[test]
fn small_screens_show_the_worst_and_say_what_is_missing() {
    let (model, now) = shown();
    let usual = picture(&model, 80, 24, now);
    assert!(usual.contains(" columns hidden"), "{usual}");
    assert!(usual.contains("192.0.2.1:9002  "), "{usual}");
    let small = picture(&model, 40, 10, now);
    assert!(
        small.starts_with("2 of 3 servers delay closing,"),
        "{small}"
    );
    assert!(small.contains("1–") && small.contains(" of 4"), "{small}");
    assert!(small.contains("  1–3 of 4 · 15 columns hidden"), "{small}");
    assert!(small.contains("192.0.2.1:9003"), "{small}");
    assert!(small.contains("\nHanging now"), "{small}");
    assert!(small.contains("\nq quit"), "{small}");
    assert_eq!(
        picture(&model, 20, 5, now),
        "closewatch top needs\n30x6, this is 20x5\n\n\n\n"
    );
}

#[test]
fn every_screen_fits_every_size() {
    let (mut model, now) = shown();
    for keys in ["", "/chat", "\n?", "\nj", "h", "s", "S"] {
        for key in keys.chars() {
            let press = if key == '\n' {
                Press::Enter
            } else {
                Press::Character(key)
            };
            model.press(press, now);
        }
        for columns in (1..130).step_by(3).chain([200, 400]) {
            for lines in [1, 2, 5, 6, 7, 10, 13, 14, 17, 24, 60] {
                picture(&model, columns, lines, now);
            }
        }
        model.press(Press::Escape, now);
        model.press(Press::Escape, now);
    }
}

#[test]
fn details_tell_the_servers_delay_from_the_clients_patience() {
    let (mut model, now) = shown();
    for press in [Press::End, Press::Up, Press::Enter] {
        model.press(press, now);
    }
    let picture_of = picture(&model, 100, 40, now);
    for line in [
        "192.0.2.1:9002  role server",
        "SLOW for 3m04s, since 21:26:35 UTC",
        "ended        1,234: 617 clean, 617 client_gave_up",
        "slow closes  617 of 1,234, 50 %",
        "TIME_WAIT    by client 617, server 617, both 0, none 0; now in this kernel: –",
        "             617 of 1,234 slow, 50 %; a minute each, █ all, ▁ none, · nothing ended",
        "Hanging here  asking …",
    ] {
        assert!(
            picture_of.contains(&format!("{line}\n")),
            "{line}\n{picture_of}"
        );
    }
    assert!(
        picture_of.contains(&format!("last hour    {}▅\n", "·".repeat(59))),
        "{picture_of}"
    );
    let histogram: Vec<&str> = picture_of
        .lines()
        .filter(|line| line.contains(" – ") || line.contains("slow from") || line.contains("up to"))
        .collect();
    assert!(
        histogram[0].starts_with("         up to 1 ms     617       0  ██████"),
        "{picture_of}"
    );
    let rule = histogram
        .iter()
        .position(|line| line.starts_with("── slow from 1 s on ───"))
        .unwrap();
    assert!(
        histogram[rule - 1]
            .trim_start()
            .starts_with("0.75 s – 1 s "),
        "{picture_of}"
    );
    assert!(
        histogram[rule + 1].starts_with("!       1 s – 1.5 s       0       0"),
        "{picture_of}"
    );
    assert!(
        histogram
            .last()
            .unwrap()
            .starts_with("!       2.5 s – 4 s       0     617  ░░░░░░"),
        "{picture_of}"
    );

    let key = Key {
        server: Text::clean("192.0.2.1:9002"),
        role: Role::Server,
    };
    let mut told = busy(now);
    told.detail = Some((key, Hanging::default()));
    model.take(Ok(told), now);
    assert!(picture(&model, 100, 40, now).contains("Hanging here  nothing\n"));
    model.take(Ok(answers(&[QUIET], now)), now);
    assert!(picture(&model, 100, 40, now).contains("has forgotten this server"));
}

#[test]
fn long_texts_scroll_and_say_how_much_there_is() {
    let (mut model, now) = shown();
    model.press(Press::Character('?'), now);
    let first = picture(&model, 60, 12, now);
    assert!(first.contains("\nKeys\n"), "{first}");
    assert!(first.contains(" lines below ──"), "{first}");
    model.extent = extent(&model, 60, 12, now);
    model.press(Press::End, now);
    let last = picture(&model, 60, 12, now);
    assert!(
        last.contains(" lines above ──") && last.contains("not known"),
        "{last}"
    );
}

#[test]
fn daemon_that_is_gone_is_told_with_the_age_of_what_is_shown() {
    let (mut model, now) = shown();
    let trouble = Trouble("does not answer: connection refused".to_owned());
    model.take(Err(trouble.clone()), now + 3 * SECOND);
    let gone = picture(&model, 120, 24, now + 20 * SECOND);
    assert!(
        gone.lines()
            .next()
            .unwrap()
            .ends_with("NO ANSWER, 20 s old"),
        "{gone}"
    );
    let sentence = "http://127.0.0.1:16455 does not answer: connection refused. Asking again; what is shown is 20 s old.";
    assert!(gone.contains(sentence), "{gone}");
    assert!(
        gone.contains(" 15 s  awaits FIN"),
        "12.3 s and 3 s until it went: {gone}"
    );
    model.press(Press::Character('p'), now + 20 * SECOND);
    let paused = picture(&model, 120, 24, now + 21 * SECOND);
    assert!(
        paused.lines().next().unwrap().ends_with("PAUSED, 21 s old"),
        "{paused}"
    );

    let mut never = Model::new("http://127.0.0.1:16455".parse().unwrap());
    assert!(picture(&never, 80, 24, now).contains("asking …\n"));
    never.take(Err(trouble), now);
    let picture = picture(&never, 80, 24, now);
    assert!(picture.contains("connection refused. Asking"), "{picture}");
}

#[test]
fn nothing_seen_and_nothing_found_are_told() {
    let now = Instant::now();
    let mut model = Model::new("http://127.0.0.1:16455".parse().unwrap());
    model.take(Ok(answers(&[], now)), now);
    let empty = picture(&model, 80, 24, now);
    assert!(empty.contains("waiting for the first WebSocket"), "{empty}");
    assert!(empty.contains("No WebSocket has been seen yet."), "{empty}");
    assert!(empty.contains("Hanging now  nothing\n"), "{empty}");
    model.take(Ok(busy(now)), now);
    for key in "/nowhere".chars() {
        model.press(Press::Character(key), now);
    }
    let nothing = picture(&model, 80, 24, now);
    assert!(nothing.contains("has \"nowhere\" in it"), "{nothing}");
    assert!(
        nothing.contains("\nfilter: nowhere   Enter keeps it"),
        "{nothing}"
    );
}

#[test]
fn colour_is_never_alone_and_goes_when_it_is_not_wanted() {
    let (model, now) = shown();
    let colours = |theme| {
        let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
        terminal
            .draw(|frame| _ = draw(frame, &model, theme, now))
            .unwrap();
        let cells = terminal.backend().buffer().content().to_vec();
        cells
            .iter()
            .map(|cell| cell.fg)
            .filter(|colour| *colour != Color::Reset)
            .collect::<Vec<_>>()
    };
    assert!(colours(Theme::new(false)).contains(&Color::Red));
    assert_eq!(colours(Theme::new(true)), []);
    let picture = picture(&model, 120, 24, now);
    let marked = picture.lines().filter(|line| line.get(1..2) == Some("!"));
    assert_eq!(marked.count(), 3, "slow servers are marked by a sign");
}

#[test]
fn text_of_peers_stays_in_its_place() {
    let now = Instant::now();
    let mut model = Model::new("http://127.0.0.1:16455".parse().unwrap());
    let hosts = [
        "\u{1b}[2J\u{1b}]0;owned\u{7}\r\n",
        "漢字漢字漢字漢字漢字漢字漢字漢字",
        "\u{202e}e\u{301}\u{301}\u{301}",
    ];
    let samples = hosts.map(|host| Sample {
        host,
        hangs: Some(2.0),
        ..QUIET
    });
    model.take(Ok(answers(&samples, now)), now);
    for columns in [40, 80, 119, 120, 200] {
        let picture = picture(&model, columns, 24, now);
        assert!(
            !picture.chars().any(|c| c.is_control() && c != '\n'),
            "{picture:?}"
        );
        assert!(!picture.contains('\u{202e}'), "{picture:?}");
    }
    let picture = picture(&model, 200, 24, now);
    assert!(
        picture.contains("\u{fffd}[2J\u{fffd}]0;owned\u{fffd}\u{fffd}\u{fffd}"),
        "{picture}"
    );
}

fn shown() -> (Model, Instant) {
    let now = Instant::now();
    let mut model = Model::new("http://127.0.0.1:16455".parse().unwrap());
    model.take(Ok(busy(now)), now);
    (model, now)
}

fn extent(model: &Model, columns: u16, lines: u16, now: Instant) -> Extent {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    let mut extent = Extent::default();
    terminal
        .draw(|frame| extent = draw(frame, model, Theme::new(false), now))
        .unwrap();
    extent
}

/// The screen as text, without what is behind the last letter of each line.
fn picture(model: &Model, columns: u16, lines: u16, now: Instant) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal
        .draw(|frame| _ = draw(frame, model, Theme::new(false), now))
        .unwrap();
    let buffer = terminal.backend().buffer();
    let mut picture = String::new();
    for y in 0..lines {
        let mut line = String::new();
        let mut covered = 0;
        for x in 0..columns {
            // A wide character covers the cell behind it.
            if covered > 0 {
                covered -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            covered = width(symbol).saturating_sub(1);
            line += symbol;
        }
        picture += line.trim_end();
        picture.push('\n');
    }
    picture
}
