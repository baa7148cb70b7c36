//! `cargo xtask demo`: real connections to three servers, watched by a daemon of our own.
//!
//! Everything it starts lives in a cgroup of its own and ends with it, whatever happens.

use std::{
    os::unix::process::CommandExt as _,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    daemon,
    interrupt::Interrupt,
    peers,
    prometheus::Prometheus,
    report::{BEHAVIOURS, CONNECTIONS, Report},
    scene::Scene,
    setup,
    shell::as_root,
};

/// Between two visits, once the report is told.
const PAUSE: Duration = Duration::from_secs(10);
/// Connections of each such visit to each server. The one that never closes keeps them all.
const VISITORS: usize = 3;
/// After so many visits the servers start anew, before one has no more file descriptors.
const DEPLOYED_EVERY: usize = 100;

pub(crate) fn prepare_and_watch(once: bool) -> Result<()> {
    setup::setup()?;
    daemon::build()?;
    let mut watching = watching()?;
    if once {
        watching.arg("--once");
    }
    Err(watching.exec()).context("start the demo as root")
}

/// The second half of the command, the one that needs root.
pub(crate) fn watching() -> Result<Command> {
    prepared("demo")
}

/// One of our commands that needs root, once everything is built.
pub(crate) fn prepared(command: &str) -> Result<Command> {
    peers::python()?;
    // By way of the process: a build meanwhile may have put another file in the place of ours.
    let mut prepared = as_root(format!("/proc/{}/exe", std::process::id()))?;
    prepared.args([command, "--prepared"]);
    Ok(prepared)
}

pub(crate) fn watch(once: bool) -> Result<()> {
    let interrupt = Interrupt::catch()?;
    let mut scene = Scene::set(&interrupt)?;
    let prometheus = if once {
        None
    } else {
        Prometheus::start(&interrupt, scene.address)?
    };

    println!("{CONNECTIONS} clients visit each of three servers and close; close_timeout is 4 s …");
    scene.open()?;
    scene.visit(&interrupt, CONNECTIONS)?;
    scene.close();

    let samples = scene.samples(&interrupt)?;
    if once {
        scene.daemon.stop()?;
    }
    // Both ends of each connection are local ends.
    let expected = 2 * BEHAVIOURS.len() * CONNECTIONS;
    let records = scene.records(&interrupt, expected)?;
    let report = Report::new(&scene.servers_at, &samples, &records);
    report.print();
    let problems = report.problems();
    ensure!(
        problems.is_empty(),
        "this is not what the servers did:\n  {}\nclosewatch said:\n{}",
        problems.join("\n  "),
        scene.daemon.log()
    );
    if once {
        return Ok(());
    }

    println!("its page:        http://{}/", scene.address);
    println!(
        "in a terminal:   {} top --url http://{}",
        daemon::binary().display(),
        scene.address
    );
    println!("its metrics:     http://{}/metrics", scene.address);
    match &prometheus {
        Some(prometheus) => {
            let address = prometheus.address;
            println!("Prometheus:      http://{address}/graph");
            println!("its alerts:      http://{address}/alerts (after 15 minutes)");
            println!(
                "For Grafana: a data source of http://{address}, and deploy/grafana/*.json to import."
            );
        }
        None => println!(
            "Prometheus is not installed (Debian's package prometheus): so no alerts and nothing for Grafana."
        ),
    }
    println!("Clients go on visiting the servers. Ctrl-C ends it all.");
    go_on(&interrupt, &mut scene)?;
    scene.daemon.stop()
}

/// Visits until someone interrupts.
fn go_on(interrupt: &Interrupt, scene: &mut Scene) -> Result<()> {
    for visit in 0.. {
        if visit % DEPLOYED_EVERY == 0 {
            scene.close();
            scene.open()?;
        }
        let visited = scene.visit(interrupt, VISITORS);
        let began = Instant::now();
        while !interrupt.came() && began.elapsed() < PAUSE {
            thread::sleep(Duration::from_millis(50));
        }
        if interrupt.came() {
            println!();
            break;
        }
        visited?;
    }
    Ok(())
}
