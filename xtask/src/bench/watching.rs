//! The daemon as it is measured: it watches the cgroup of its load, and is asked for what it saw.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::place::{Place, Under, within};
use crate::{
    daemon::{self, Daemon},
    interrupt::Interrupt,
    scrape::{Sample, get},
};

/// Each takes 5 s at most.
const TRIES: u32 = 5;

pub(super) struct Watching {
    pub(super) daemon: Daemon,
    pub(super) address: SocketAddr,
}

impl Watching {
    /// Starts it, in the cgroup of watchers, and waits until it serves, which is after the probes are attached.
    pub(super) fn start(
        place: &Place,
        interrupt: &Interrupt,
        log: &Path,
        flags: &[&str],
    ) -> Result<Self> {
        let mut command = within(
            &place.watchers(),
            daemon::binary().to_str().context("a path in UTF-8")?,
        );
        command.arg("run").arg("--cgroup");
        command.arg(place.of(Under::Closewatch)).args(flags);
        let mut daemon = Daemon::start(&mut command, log)?;
        let address = interrupt.wait(Duration::from_secs(60), || daemon.address())?;
        let address = address.context("closewatch did not begin to serve within a minute")?;
        Ok(Self { daemon, address })
    }

    /// `/metrics`, once the loop has the time to answer: it says so after 5 s while it compares all that it follows with
    /// the kernel, and asking again is what Prometheus does.
    pub(super) fn exposition(&self) -> Result<String> {
        let mut tries = 0;
        loop {
            match get(self.address, "/metrics") {
                Err(_) if tries < TRIES => tries += 1,
                answer => return answer,
            }
        }
    }

    pub(super) fn samples(&self) -> Result<Vec<Sample>> {
        let exposition = self.exposition()?;
        Ok(exposition.lines().filter_map(Sample::parse).collect())
    }

    /// That what is measured was really done: WebSockets were followed. What was lost on the way is said.
    pub(super) fn saw_the_load(&self) -> Result<()> {
        let samples = self.samples()?;
        let opened = sum(&samples, "closewatch_connections_opened_total");
        ensure!(opened > 0.0, "closewatch saw no WebSocket of the load");
        for loss in [
            "closewatch_streams_lost_total",
            "closewatch_sockets_lost_total",
        ] {
            let lost = sum(&samples, loss);
            if lost != 0.0 {
                println!("closewatch did not follow all of the load: {loss} is {lost}");
            }
        }
        Ok(())
    }
}

/// Over all labels.
pub(super) fn sum(samples: &[Sample], name: &str) -> f64 {
    let of_it = samples.iter().filter(|sample| sample.is(name, &[]));
    of_it.map(|sample| sample.value).sum()
}
