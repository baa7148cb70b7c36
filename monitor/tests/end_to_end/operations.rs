//! The daemon among its neighbours: log rotation, full disks, service managers, Prometheus.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    daemon::{http_get, read_records},
    peers::Peer,
    sandbox::Plays,
    stage::{Pair, Stage},
};

const CLEAN: Pair = Pair {
    server: "accept; await-close; close; end",
    client: "upgrade; close; await-close; await-eof; end",
};

/// A file system of its own, gone with the value.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf, size: &str) -> Tmpfs {
        fs::create_dir(&at).unwrap();
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size}"),
                "tmpfs",
                path(&at),
            ],
        );
        Tmpfs(at)
    }

    fn resize(&self, size: &str) {
        run(
            "mount",
            &["-o", &format!("remount,size={size}"), path(&self.0)],
        );
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

#[test]
#[ignore = "needs root"]
fn a_rotated_records_file() {
    let stage = Stage::loopback("a_rotated_records_file");
    stage.raw(&[CLEAN, CLEAN]);
    let current = stage.daemon.records.clone();
    let old = stage.sandbox.path("records.jsonl.1");
    fs::rename(&current, &old).unwrap();
    stage.daemon.hang_up();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !current.exists() {
        assert!(
            Instant::now() < deadline,
            "SIGHUP does not reopen the records file"
        );
        thread::sleep(Duration::from_millis(5));
    }
    stage.raw(&[CLEAN, CLEAN, CLEAN]);
    let mut observed = stage.observe(5);
    assert!(
        observed.records.len() >= 6,
        "what ended after the rotation is in the new file"
    );
    observed.records.extend(read_records(&old));
    observed.compare().settle(observed.name);
}

#[test]
#[ignore = "needs root"]
fn records_on_a_full_disk() {
    let mut disk = None;
    let mut stage = Stage::with_records("records_on_a_full_disk", |sandbox| {
        let mounted = Tmpfs::mount(sandbox.path("disk"), "16k");
        let records = mounted.0.join("records.jsonl");
        disk = Some(mounted);
        records
    });
    let disk = disk.unwrap();
    let many: Vec<Pair> = (0..30).map(|_| CLEAN).collect();
    let ended = "closewatch_connections_ended_total";
    stage.raw(&many);
    stage.daemon.await_metric(ended, &[], 60.0);
    stage.daemon.await_log("WARN");
    disk.resize("1m");
    stage.raw(&[CLEAN, CLEAN]);
    stage.daemon.await_metric(ended, &[], 64.0);
    let lost = stage.daemon.metric("closewatch_records_lost_total", &[]);
    let observed = stage.observe(32);
    let figures = observed.compare();
    // What was written is whole and right, and exactly the counted ones are missing.
    let missing = figures
        .errors
        .iter()
        .filter(|error| error.ends_with("no record"))
        .count();
    assert_eq!(missing, figures.errors.len(), "{:#?}", figures.errors);
    assert_eq!(lost, missing as f64);
    assert_eq!(figures.right, 64 - missing);
    assert!(
        figures.right >= 4,
        "records are written again when there is room"
    );
}

#[test]
#[ignore = "needs root"]
fn records_to_a_device_that_is_always_full() {
    let mut stage = Stage::with_records("always_full", |_| PathBuf::from("/dev/full"));
    stage.raw(&[CLEAN, CLEAN]);
    stage
        .daemon
        .await_metric("closewatch_connections_ended_total", &[], 4.0);
    stage.daemon.await_log("WARN");
    assert!(stage.daemon.get("/livez").starts_with("HTTP/1.1 200"));
    stage.daemon.stop();
}

/// The cgroup of a service goes when it stops, and comes back as another when it starts.
#[test]
#[ignore = "needs root"]
fn service_that_restarts_is_watched_on() {
    let mut stage = Stage::loopback("service_that_restarts_is_watched_on");
    stage.raw(&[CLEAN]);
    let count = ["server=\"127.0.0.1:9000\"", "role=\"server\""];
    let ended = "closewatch_connections_ended_total";
    stage.daemon.await_metric(ended, &count, 1.0);

    let cgroup = stage.sandbox.cgroup_directory();
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir(cgroup).is_err() {
        assert!(Instant::now() < deadline, "the peers do not end");
        thread::sleep(Duration::from_millis(5));
    }
    stage.daemon.await_log("the watched cgroup is gone");
    let (attached, ingress) = ("closewatch_probe_attached", ["probe=\"observe_ingress\""]);
    assert_eq!(stage.daemon.metric(attached, &ingress), 0.0);
    let health = http_get(stage.daemon.listen, "/api/v1/health");
    assert!(health.contains(r#"{"name":"observe_ingress","attached":false}"#));

    fs::create_dir(cgroup).unwrap();
    stage.daemon.await_metric(attached, &ingress, 1.0);
    stage.raw(&[CLEAN]);
    stage.daemon.await_metric(ended, &count, 2.0);
}

#[test]
#[ignore = "needs root"]
fn sigterm_while_connections_live() {
    const OPEN: &str = "texts:2; say:open; await-word:close";
    let server = format!("accept; {OPEN}; await-close; close; end");
    let client = format!("upgrade; {OPEN}; close; await-close; await-eof; end");
    let spec = |script: &str| -> Vec<String> {
        (9000..9020)
            .map(|port| format!("{port}={script}"))
            .collect()
    };
    let stage = Stage::loopback("sigterm_while_connections_live");
    let start = |role, plays, specs: Vec<String>| {
        let mut arguments = vec![role, "127.0.0.1"];
        arguments.extend(specs.iter().map(String::as_str));
        stage.python(plays, "raw.py", &arguments)
    };
    let server = start("server", Plays::Server, spec(&server));
    let client = start("client", Plays::Client, spec(&client));
    for _ in 0..20 {
        server.await_line("open");
        client.await_line("open");
    }
    let live = |role| stage.daemon.metric("closewatch_connections", &[role]);
    assert_eq!(
        [live("role=\"client\""), live("role=\"server\"")],
        [20.0, 20.0]
    );
    let path = stage.daemon.records.clone();
    stage.daemon.stop();
    assert_eq!(
        read_records(&path),
        Vec::<Value>::new(),
        "nothing has ended"
    );
}

#[test]
#[ignore = "needs root"]
fn prometheus_knows_the_slow_server() {
    let stage = Stage::loopback("prometheus_knows_the_slow_server");
    let slow = "accept; await-close; close; pause:1.2; end";
    let pairs = [
        CLEAN,
        Pair {
            server: slow,
            client: CLEAN.client,
        },
    ];
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let configuration = stage.sandbox.path("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
         scrape_configs:\n- job_name: closewatch\n  static_configs:\n  - targets: ['{}']\n",
        stage.daemon.listen
    );
    fs::write(&configuration, text).unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", configuration.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            stage.sandbox.path("tsdb").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let prometheus = Peer::spawn(&stage.sandbox, &mut command);
    for _ in 0..4 {
        stage.raw(&pairs);
    }
    let p99 = |server: u16| {
        let query = format!(
            "histogram_quantile(0.99, sum by (le) (closewatch_close_to_fin_seconds_bucket\
             {{role=\"client\",server=\"127.0.0.1:{server}\"}}))"
        );
        let count = format!(
            "sum(closewatch_close_to_fin_seconds_count{{server=\"127.0.0.1:{server}\"}}) == 8"
        );
        await_query(port, &count);
        await_query(port, &query)
    };
    let (clean, slow) = (p99(9000), p99(9001));
    prometheus.stop();
    assert!(clean < 0.25, "the clean server's p99 is {clean} s");
    assert!(
        (1.0..=1.5).contains(&slow),
        "the slow server's p99 is {slow} s"
    );
    stage.finish(8);
}

/// The value of a PromQL query, once it has one.
fn await_query(port: u16, query: &str) -> f64 {
    let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let path = format!("/api/v1/query?query={encoded}");
        let response = http_get(([127, 0, 0, 1], port).into(), &path);
        let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let answer: Value = serde_json::from_str(body).unwrap_or_default();
        if let Some(value) = answer["data"]["result"][0]["value"][1].as_str() {
            return value.parse().unwrap();
        }
        assert!(Instant::now() < deadline, "{query}: {response}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs root"]
fn promtool_finds_nothing() {
    let stage = Stage::loopback("promtool_finds_nothing");
    stage.raw(&[
        CLEAN,
        Pair {
            server: "accept; end",
            client: "upgrade; await-eof; end",
        },
    ]);
    stage
        .daemon
        .await_metric("closewatch_connections_ended_total", &[], 4.0);
    let metrics = stage.sandbox.path("metrics");
    fs::write(&metrics, stage.daemon.metrics()).unwrap();
    let output = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::from(fs::File::open(&metrics).unwrap()))
        .output()
        .expect("promtool is missing: `cargo xtask test` installs prometheus");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success() && said.is_empty(),
        "promtool: {said}"
    );
    stage.finish(2);
}
