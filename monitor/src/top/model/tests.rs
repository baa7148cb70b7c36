use std::time::Duration;

use super::*;
use crate::top::samples::{QUIET, Sample, answers, busy};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn selection_stays_with_its_server_when_the_order_changes() {
    let (mut model, now) = shown();
    press(&mut model, "j");
    assert_eq!(selected(&model), "server 192.0.2.1:9003");
    press(&mut model, "s");
    assert_eq!(
        shown_ports(&model),
        ["9002", "9003", "9003", "9001"],
        "IPv6 behind IPv4"
    );
    assert_eq!(selected(&model), "server 192.0.2.1:9003");
    model.take(Ok(answers(&[QUIET], now)), now);
    assert_eq!(
        selected(&model),
        "server 192.0.2.1:80",
        "the first when it is gone"
    );
}

#[test]
fn every_column_sorts_and_unknown_figures_come_last_either_way() {
    let (mut model, _) = shown();
    let mut orders = Vec::new();
    for _ in 0..Column::SORTABLE.len() {
        press(&mut model, "s");
        orders.push((model.sort.unwrap(), shown_ports(&model)));
    }
    let by = |column| &orders.iter().find(|(by, _)| *by == column).unwrap().1;
    assert_eq!(by(Column::Ended)[..2], ["9002", "9001"]);
    assert_eq!(by(Column::Hangs)[..2], ["9003", "9003"]);
    assert_eq!(by(Column::Host)[0], "9001");
    press(&mut model, "s");
    assert_eq!(model.sort, None, "after the last one the daemon's order");

    model.sort = Some(Column::SlowFor);
    press(&mut model, "S");
    assert_eq!(shown_ports(&model)[3], "9001", "never slow");
    model.sort = None;
    assert_eq!(
        shown_ports(&model)[0],
        "9001",
        "the daemon's order reversed"
    );
}

#[test]
fn filter_finds_servers_and_hosts_while_it_is_written() {
    let (mut model, _) = shown();
    press(&mut model, "/LATE.ex");
    assert!(model.writing);
    assert_eq!(shown_ports(&model), ["9002"]);
    assert_eq!(model.hanging().len(), 0);
    press(&mut model, "q?");
    assert_eq!(model.filter, "LATE.exq?", "letters are letters here");
    model.press(Press::Clear, Instant::now());
    press(&mut model, "9003");
    assert_eq!((shown_ports(&model).len(), model.hanging().len()), (2, 1));
    model.press(Press::Enter, Instant::now());
    assert!(!model.writing);
    press(&mut model, "r");
    assert_eq!(selected(&model), "server 192.0.2.1:9003");
    press(&mut model, "r");
    assert_eq!(selected(&model), "client 192.0.2.1:9003");
    press(&mut model, "r");
    model.press(Press::Escape, Instant::now());
    assert_eq!(shown_ports(&model).len(), 4);
}

#[test]
fn enter_opens_and_closes_the_details_and_wishes_for_them() {
    let (mut model, now) = shown();
    assert_eq!(model.wish(), Wish::default());
    model.press(Press::Enter, now);
    let wished = model.wish().detail.unwrap();
    assert_eq!(
        (wished.server.as_str(), wished.role),
        ("192.0.2.1:9003", Role::Client)
    );
    press(&mut model, "?");
    assert_eq!(model.screen, Screen::Help);
    assert!(model.wish().detail.is_some(), "help comes back to them");
    press(&mut model, "?");
    assert_eq!(model.screen, Screen::Detail(wished));
    model.press(Press::Enter, now);
    assert_eq!(model.screen, Screen::Overview);

    // Of a connection that both ends told of, the server's end knows more.
    model.press(Press::Tab, now);
    model.press(Press::Enter, now);
    let Screen::Detail(key) = &model.screen else {
        panic!("{:?}", model.screen)
    };
    assert_eq!(
        (key.server.as_str(), key.role),
        ("192.0.2.1:9003", Role::Server)
    );
    model.press(Press::Escape, now);
    assert_eq!(model.screen, Screen::Overview);
}

#[test]
fn scrolling_ends_at_both_ends() {
    let (mut model, now) = shown();
    model.press(Press::Enter, now);
    model.extent = Extent {
        page: 10,
        scroll_max: 25,
    };
    let scroll = |model: &mut Model, press| {
        model.press(press, now);
        model.scroll
    };
    assert_eq!(scroll(&mut model, Press::Up), 0);
    assert_eq!(scroll(&mut model, Press::Down), 1);
    assert_eq!(scroll(&mut model, Press::PageDown), 11);
    assert_eq!(scroll(&mut model, Press::End), 25);
    assert_eq!(scroll(&mut model, Press::Down), 25);
    assert_eq!(scroll(&mut model, Press::Home), 0);
}

#[test]
fn daemon_that_goes_leaves_its_last_answer_and_its_ages_stand_still() {
    let (mut model, began) = shown();
    let since = |model: &Model, after| model.moment(began + after * SECOND).unwrap().since;
    assert_eq!(since(&model, 3), 3.0);
    model.take(
        Err(Trouble("does not answer".to_owned())),
        began + 4 * SECOND,
    );
    model.take(
        Err(Trouble("does not answer".to_owned())),
        began + 8 * SECOND,
    );
    assert_eq!(since(&model, 10), 4.0, "it is not known to go on");
    assert_eq!(model.age(began + 10 * SECOND), Some(10.0));
    assert_eq!(shown_ports(&model).len(), 4);
    model.take(Ok(busy(began + 12 * SECOND)), began + 12 * SECOND);
    assert_eq!(model.trouble, None);
    assert_eq!(since(&model, 13), 1.0);
}

#[test]
fn pause_keeps_what_is_shown_and_asks_nothing() {
    let (mut model, began) = shown();
    model.press(Press::Character('p'), began + 2 * SECOND);
    assert!(model.wish().paused);
    model.take(Ok(answers(&[], began)), began + 3 * SECOND);
    assert_eq!(shown_ports(&model).len(), 4, "an answer that was under way");
    assert_eq!(model.moment(began + 9 * SECOND).unwrap().since, 2.0);
    press(&mut model, "p");
    assert!(!model.wish().paused);
}

#[test]
fn keys_before_the_first_answer_and_without_servers_are_harmless() {
    let now = Instant::now();
    let mut empty = Model::new("http://127.0.0.1:1".parse().unwrap());
    for mut model in [Model::new(empty.url.clone()), {
        empty.take(Ok(answers(&[], now)), now);
        empty
    }] {
        for key in [
            Press::Up,
            Press::Down,
            Press::PageDown,
            Press::End,
            Press::Enter,
            Press::Tab,
            Press::Down,
            Press::Enter,
        ] {
            assert_eq!(model.press(key, now), None);
        }
        assert_eq!(model.screen, Screen::Overview);
        press(&mut model, "sSrh");
        assert_eq!(model.press(Press::Character('q'), now), Some(Effect::Quit));
        assert_eq!(model.press(Press::Interrupt, now), Some(Effect::Quit));
    }
}

#[test]
fn filter_that_is_written_does_not_keep_from_quitting() {
    let (mut model, now) = shown();
    press(&mut model, "/abc");
    assert_eq!(model.press(Press::Interrupt, now), Some(Effect::Quit));
}

#[test]
fn selection_moves_by_pages() {
    const PORTS: [&str; 5] = [
        "192.0.2.1:1",
        "192.0.2.1:2",
        "192.0.2.1:3",
        "192.0.2.1:4",
        "192.0.2.1:5",
    ];
    let now = Instant::now();
    let samples = PORTS.map(|server| Sample { server, ..QUIET });
    let mut model = Model::new("http://127.0.0.1:1".parse().unwrap());
    model.take(Ok(answers(&samples, now)), now);
    model.extent.page = 3;
    for (key, expected) in [
        (Press::PageDown, 4),
        (Press::PageDown, 5),
        (Press::PageUp, 2),
        (Press::End, 5),
        (Press::Home, 1),
        (Press::Up, 1),
    ] {
        model.press(key, now);
        assert_eq!(
            selected(&model),
            format!("server 192.0.2.1:{expected}"),
            "{key:?}"
        );
    }
}

fn shown() -> (Model, Instant) {
    let now = Instant::now();
    let mut model = Model::new("http://127.0.0.1:16455".parse().unwrap());
    model.take(Ok(busy(now)), now);
    (model, now)
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        model.press(Press::Character(key), Instant::now());
    }
}

fn shown_ports(model: &Model) -> Vec<String> {
    let port = |server: &&Server| {
        server
            .server
            .as_str()
            .rsplit(':')
            .next()
            .unwrap()
            .to_owned()
    };
    model.servers().iter().map(port).collect()
}

fn selected(model: &Model) -> String {
    let servers = model.servers();
    let server = servers[model.selected_server(&servers)];
    format!("{} {}", server.role.name(), server.server)
}
