//! The Grafana dashboards of `deploy/`: generated anew, and every query put to a real Prometheus that
//! reads a real daemon under the demo's traffic.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    apt, daemon, demo,
    interrupt::Interrupt,
    libraries,
    prometheus::Prometheus,
    report::CONNECTIONS,
    rules,
    scene::Scene,
    scrape::get,
    setup,
    shell::{repository, run, run_quietly, target},
    stages::Tests,
};

const DASHBOARDS: [&str; 3] = [
    "closewatch-daemon.json",
    "closewatch-overview.json",
    "closewatch-server.json",
];

/// How long Prometheus looks on after a visit: long enough for rates, and for rules built on rules.
const SETTLE: Duration = Duration::from_secs(6);

fn folder() -> PathBuf {
    repository().join("deploy/grafana")
}

/// Fails when what is committed is not what the code makes, or nothing that Grafana knows.
pub(crate) fn regenerate() -> Result<Tests> {
    let made = tempfile::tempdir()?;
    run_quietly(
        Command::new(python()?)
            .arg("-B")
            .arg(folder().join("generate.py"))
            .arg(made.path()),
    )?;
    let listed = |folder: &Path| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for file in fs::read_dir(folder)? {
            names.push(file?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name.ends_with(".json"));
        names.sort();
        Ok(names)
    };
    for folder in [made.path(), &folder()] {
        ensure!(
            listed(folder)? == DASHBOARDS,
            "{} has {:?}",
            folder.display(),
            listed(folder)?
        );
    }
    for name in DASHBOARDS {
        ensure!(
            fs::read(made.path().join(name))? == fs::read(folder().join(name))?,
            "deploy/grafana/{name} is not what its code makes: run deploy/grafana/generate.py with {}",
            python()?.display()
        );
        complete(&read(name)?).with_context(|| format!("deploy/grafana/{name}"))?;
    }
    // Grafana itself is in none of the package registries that setting up needs; its types are.
    let modules = libraries::node_modules(
        &target().join("grafana-schema"),
        &folder().join("schema"),
        "Grafana's types",
    )?;
    run(Command::new("node")
        .arg(folder().join("schema/check.mjs"))
        .arg(modules)
        .args(DASHBOARDS.map(|name| folder().join(name))))?;
    Ok(Tests {
        passed: DASHBOARDS.len(),
        failed: 0,
    })
}

/// What a reader may expect of each panel, and an import of the whole.
fn complete(dashboard: &Value) -> Result<()> {
    let mut ids = BTreeSet::new();
    for panel in panels(dashboard) {
        let title = panel["title"].as_str().unwrap_or_default();
        ensure!(!title.is_empty(), "a panel has no title");
        for (what, there) in [
            ("a description", panel["description"].is_string()),
            (
                "the data source that the reader chose",
                panel["datasource"]["uid"] == "${datasource}",
            ),
            ("a number of its own", ids.insert(panel["id"].to_string())),
            (
                "a place",
                panel["gridPos"]["x"].as_u64().unwrap_or(0)
                    + panel["gridPos"]["w"].as_u64().unwrap_or(99)
                    <= 24,
            ),
        ] {
            ensure!(there, "the panel '{title}' lacks {what}");
        }
    }
    Ok(())
}

/// The second half of [`ask`], for those who call it by itself.
pub(crate) fn prepare_and_ask() -> Result<()> {
    setup::setup()?;
    daemon::build()?;
    apt::install(&["prometheus"])?;
    Err(asking()?.exec()).context("ask as root")
}

pub(crate) fn asking() -> Result<Command> {
    demo::prepared("dashboards")
}

/// How many queries [`ask`] puts.
pub(crate) fn queries() -> Result<usize> {
    let mut count = 0;
    for name in DASHBOARDS {
        let dashboard = read(name)?;
        count += panels(&dashboard).flat_map(targets).count() + variables(&dashboard).count();
    }
    Ok(count)
}

pub(crate) fn ask() -> Result<()> {
    let interrupt = Interrupt::catch()?;
    let mut scene = Scene::set(&interrupt)?;
    let prometheus = Prometheus::start(&interrupt, scene.address)?
        .context("Prometheus is not installed (Debian's package prometheus)")?;
    // A rate needs a series before what it counts. The first visit makes them all.
    for _ in 0..2 {
        scene.open()?;
        scene.visit(&interrupt, CONNECTIONS)?;
        scene.close();
        thread::sleep(SETTLE);
    }

    let exported = get(scene.address, "/metrics")?;
    nothing_is_lacking(&exported)?;
    let mut problems = Vec::new();
    let mut asked = 0;
    for name in DASHBOARDS {
        let dashboard = read(name)?;
        for query in variables(&dashboard) {
            asked += 1;
            if let Err(problem) = values(&prometheus, query) {
                problems.push(format!("{name}, variable {query}: {problem:#}"));
            }
        }
        for panel in panels(&dashboard) {
            for target in targets(panel) {
                asked += 1;
                match answers(&prometheus, target, &scene.servers_at) {
                    Ok(true) => {}
                    Ok(false) => problems.push(format!(
                        "{name}, '{}': no data for {}",
                        panel["title"],
                        expr(target)
                    )),
                    Err(problem) => {
                        problems.push(format!("{name}, '{}': {problem:#}", panel["title"]));
                    }
                }
            }
        }
    }
    problems.extend(rules_work(&prometheus, &scene)?);
    println!(
        "{asked} queries of {} dashboards answered",
        DASHBOARDS.len()
    );
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    scene.daemon.stop()
}

/// What only a daemon with `--web-config` and a certificate exports; the scene's has none. The endpoint's tests ask a
/// Prometheus for them by these names.
const OF_A_WEB_CONFIG: [&str; 2] = [
    "closewatch_web_certificate_expiry_timestamp_seconds",
    "closewatch_web_config_valid",
];

/// An error if rules or dashboards know metrics that the daemon lacks.
fn nothing_is_lacking(exported: &str) -> Result<()> {
    let mut used = String::new();
    for name in DASHBOARDS {
        for panel in panels(&read(name)?) {
            for target in targets(panel) {
                used.push_str(expr(target));
                used.push('\n');
            }
        }
    }
    for name in ["rules.yml", "alerts.yml"] {
        used.push_str(&rules::expressions(&rules::folder().join(name))?);
    }
    let there = rules::metrics(exported);
    let mut unknown = rules::metrics(&used);
    unknown.retain(|name| !there.contains(name) && !OF_A_WEB_CONFIG.contains(&name.as_str()));
    ensure!(
        unknown.is_empty(),
        "no such metrics: {}",
        unknown.join(", ")
    );
    Ok(())
}

/// Every rule is evaluated without an error, and the two slow servers are on their way to an alert, once each.
fn rules_work(prometheus: &Prometheus, scene: &Scene) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let groups = prometheus.api("rules", &[])?;
    for rule in list(&groups["groups"]).flat_map(|group| list(&group["rules"])) {
        if rule["health"] != "ok" {
            problems.push(format!("rule {}: {}", rule["name"], rule["lastError"]));
        }
    }
    let alerts = prometheus.api("alerts", &[])?;
    let mut found: Vec<_> = list(&alerts["alerts"])
        .map(|alert| {
            format!(
                "{} {} {} {}",
                alert["state"],
                alert["labels"]["alertname"],
                alert["labels"]["role"],
                alert["labels"]["server"]
            )
        })
        .collect();
    let mut expected: Vec<_> = scene.servers_at[1..]
        .iter()
        .map(|server| format!(r#""pending" "ClosewatchServerSlow" "server" "{server}""#))
        .collect();
    found.sort();
    expected.sort();
    if found != expected {
        problems.push(format!("alerts: {found:#?}, expected {expected:#?}"));
    }
    Ok(problems)
}

/// Whether Prometheus has a number to show; of the dashboard of one server, for any of them.
fn answers(prometheus: &Prometheus, target: &Value, servers: &[String]) -> Result<bool> {
    for server in servers {
        let query = substituted(expr(target), server);
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let data = if target["instant"] == true {
            prometheus.api("query", &[("query", &query)])?
        } else {
            prometheus.api(
                "query_range",
                &[
                    ("query", &query),
                    ("start", &(now - 30).to_string()),
                    ("end", &now.to_string()),
                    ("step", "1"),
                ],
            )?
        };
        let number = |point: &Value| point[1].as_str().is_some_and(|value| value != "NaN");
        let has_number = list(&data["result"])
            .any(|series| number(&series["value"]) || list(&series["values"]).any(number));
        if has_number {
            return Ok(true);
        }
    }
    Ok(false)
}

/// As Grafana would, with All chosen where that can be, and one server where it cannot.
fn substituted(expr: &str, server: &str) -> String {
    let expr = expr.replace("server=\"$server\"", &format!("server=\"{server}\""));
    let all = ["$job", "$instance", "$role", "$server"];
    let expr = all
        .iter()
        .fold(expr, |expr, variable| expr.replace(variable, ".+"));
    expr.replace("$__rate_interval", "5s")
        .replace("$__range", "1m")
}

/// A variable's values, which Grafana asks for by `label_values(series, label)`.
fn values(prometheus: &Prometheus, query: &str) -> Result<()> {
    let (series, label) = query
        .strip_prefix("label_values(")
        .and_then(|query| query.strip_suffix(')'))
        .and_then(|query| query.rsplit_once(", "))
        .context("not label_values(series, label)")?;
    let data = prometheus.api(
        &format!("label/{label}/values"),
        &[("match[]", &substituted(series, ""))],
    )?;
    if list(&data).next().is_none() {
        bail!("no values");
    }
    Ok(())
}

fn read(name: &str) -> Result<Value> {
    let file = folder().join(name);
    let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    Ok(serde_json::from_slice(&text)?)
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(&dashboard["panels"]).filter(|panel| panel["type"] != "row")
}

fn targets(panel: &Value) -> impl Iterator<Item = &Value> {
    list(&panel["targets"])
}

fn expr(target: &Value) -> &str {
    target["expr"].as_str().unwrap_or_default()
}

fn variables(dashboard: &Value) -> impl Iterator<Item = &str> {
    list(&dashboard["templating"]["list"])
        .filter(|variable| variable["type"] == "query")
        .filter_map(|variable| variable["query"]["query"].as_str())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Python with Grafana's own library, in `target/grafana`.
fn python() -> Result<PathBuf> {
    libraries::python(
        &target().join("grafana"),
        &folder().join("requirements.txt"),
        "Grafana's library",
    )
}
