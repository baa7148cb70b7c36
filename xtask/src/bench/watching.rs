//! The daemon as it is measured: it watches the cgroup of its load, and is asked for what it saw.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

use super::place::{Place, Under, within};
use crate::{
    daemon::{self, Daemon},
    interrupt::Interrupt,
    scrape::{Sample, scrape},
};

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

    pub(super) fn samples(&self) -> Result<Vec<Sample>> {
        scrape(self.address)
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
