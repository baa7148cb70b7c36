//! Text that peers write, in every place where it is shown.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    attacker::PORT,
    daemon::Daemon,
    memory::Watch,
    sandbox::Sandbox,
    scene::{Scene, check_records},
    turn,
};

/// In every one of the texts.
const MARK: &str = "marked-text";
const FIELD_MAX: usize = 256;

/// Escapes of terminals, quotes, what is no UTF-8, what reorders text, what ends lines elsewhere, and length.
pub(crate) fn texts() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 12] = [
        b"\"} 1\\",
        b"quote\" back\\slash \\n {a=\"b\"} # HELP x",
        b"\x1b[31mred\x1b[0m\x1b]0;title\x07\x08\x08",
        b"\x9b31m \xc2\x9b31m \xc2\x85next line",
        b"\xff\xfe \xc3\x28 \xed\xa0\x80 \xf4\x90\x80\x80",
        "\u{202e}gnp.exe\u{2066} \u{2028}\u{2029}\u{feff}\u{200b}".as_bytes(),
        b"<script>alert(1)</script> <img src=x onerror=alert(1)>",
        b"\tMESSAGE=forged PRIORITY=0",
        b"\x01\x7f\x00 nul",
        b"%s%n%x $(reboot) `reboot` ;--",
        b"' OR 1=1 --",
        &[b'x'; 60_000],
    ];
    texts
        .iter()
        .map(|text| [MARK.as_bytes(), b" ", text].concat())
        .collect()
}

#[test]
#[ignore = "needs root"]
fn text_of_peers_is_only_text() {
    let _turn = turn();
    let sandbox = Sandbox::new(1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_closewatch"));
    command.env("CLOSEWATCH_LOG", "trace");
    let path = sandbox.path("records.jsonl");
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let daemon = Daemon::launch(command, &sandbox, &path, anywhere);
    let scene = Scene { daemon, sandbox };
    let mut attacker = scene.attacker(PORT);
    attacker.does("texts");
    let connections = 2 * texts().len() as u64;
    let opened = "closewatch_connections_opened_total";
    scene.daemon.await_metric(opened, &[], connections as f64);

    for path in [
        "/api/v1/connections?limit=1000",
        "/api/v1/servers",
        "/api/v1/health",
    ] {
        let answer = scene.daemon.get(path);
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        check_text(&serde_json::from_str(body).unwrap());
    }
    let metrics = scene.daemon.metrics();
    promtool_reads(&metrics);
    assert_eq!(
        metrics.matches(MARK).count(),
        2,
        "one server, its host and its software"
    );

    attacker.does("end");
    scene.await_records(connections);
    let file = fs::read_to_string(&path).unwrap();
    assert_eq!(file.lines().count() as u64, connections);
    assert!(!file.chars().any(|char| char.is_control() && char != '\n'));
    let records = scene.records();
    assert_eq!(records.len() as u64, connections);
    records.iter().for_each(check_text);
    assert!(records.iter().all(|record| record["outcome"] == "clean"));

    // Not one word of it in the log, in which an administrator trusts.
    let log = scene.daemon.stop();
    assert!(log.len() > records.len(), "it tells everything");
    assert!(!log.iter().any(|line| line.contains(MARK)), "{log:#?}");
}

/// Any string in it is bounded, and steers no terminal.
fn check_text(value: &Value) {
    match value {
        Value::String(text) => {
            assert!(text.len() <= FIELD_MAX, "{text}");
            assert!(!text.chars().any(char::is_control), "{text:?}");
        }
        Value::Array(values) => values.iter().for_each(check_text),
        Value::Object(fields) => fields.values().for_each(check_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Prometheus' own parser takes it; what its linter thinks is asked elsewhere.
fn promtool_reads(metrics: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("`promtool` is missing: `cargo xtask test` installs it");
    let input = promtool.stdin.take();
    input.unwrap().write_all(metrics.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&said.stderr);
    // 3: it was read, and the linter has something to say.
    let read = said.status.success() || said.status.code() == Some(3);
    assert!(read, "{complaints}\n{metrics}");
}

#[test]
#[ignore = "needs root"]
fn names_of_a_server_are_bounded() {
    let _turn = turn();
    const NAMES: u32 = 5_000;
    let scene = Scene::new();
    let mut attacker = scene.attacker(PORT);
    attacker.does("names 100");
    scene.await_records(200);
    let series = |scene: &Scene| {
        let metrics = scene.daemon.metrics();
        metrics
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count()
    };
    let before = series(&scene);
    let watch = Watch::start(scene.daemon.pid());
    attacker.does(&format!("names {NAMES}"));
    scene.await_records(2 * (100 + u64::from(NAMES)));
    let info = scene.daemon.metric("closewatch_server_info", &[]);
    assert_eq!(info, 1.0, "one server, one name");
    assert_eq!(series(&scene), before);
    let answer = scene.daemon.get("/api/v1/servers");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let answer: Value = serde_json::from_str(body).unwrap();
    for server in answer["servers"].as_array().unwrap() {
        assert_eq!(server["hosts"].as_array().unwrap().len(), 8);
        assert_eq!(server["hosts_more"], true);
    }
    check_records(&scene.records(), false);
    let grown = watch.settle("names of one server");
    assert!(grown < 32 << 20, "{grown} bytes more");
}
