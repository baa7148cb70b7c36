//! The loop: waits for whatever comes next and hands it to the one [`Daemon`].
//!
//! In: a readable ring buffer, questions from HTTP, listings of sockets, signals, timers. Out: calls, one at a time. Decides
//! nothing but the order; what is ready at the same time gets its turn by chance.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    task,
    time::{self, Instant},
};
use tracing::info;

use crate::{
    check::Cgroup,
    clock,
    config::{self, Config},
    daemon::Daemon,
    http::Server,
    memory,
    service_manager::{self, ServiceManager},
    tls::Chosen,
    web_config::watch::WebConfigFile,
};

/// Flags, silent servers and records that wait are looked at this often.
const TICK: Duration = Duration::from_secs(1);
/// The same while there is nothing of them.
const IDLE_TICK: Duration = Duration::from_secs(3);
/// Questions from HTTP that may wait.
const QUERIES_MAX: usize = 64;

/// Watches until SIGTERM or SIGINT, or until an error that it cannot go on with.
pub(crate) async fn run(config: Config, cgroup: Cgroup, tls: Option<Chosen>) -> Result<()> {
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut hang_up = on(SignalKind::hangup())?;
    let web_config = config
        .web_config
        .clone()
        .map(WebConfigFile::open)
        .transpose()?;

    let passed = service_manager::passed(config.listen)?;
    let mut manager = ServiceManager::new();

    let (mut daemon, mut events, mut listings) = Daemon::start(&config, cgroup, tls)?;
    memory::give_back();
    let listener = match passed {
        Some(listener) => listener,
        None => listen(config.listen.unwrap_or(config::LISTEN)).await?,
    };
    let (asking, mut queries) = mpsc::channel(QUERIES_MAX);
    let mut server = Server::start(listener, asking, web_config)?;
    manager.ready(&daemon.status());

    let mut ticked = Instant::now();
    let result = loop {
        let pace = if daemon.is_idle() { IDLE_TICK } else { TICK };
        let tick = ticked + manager.at_least_every(pace);
        let grace = daemon
            .deadline()
            .map(|at| at.saturating_sub(clock::since_boot()));
        select! {
            readable = events.ready() => {
                if let Err(error) = readable.context("read the ring buffer") {
                    break Err(error);
                }
                daemon.drain(&mut events);
                // A ring that is never empty must not keep the other tasks from running.
                task::yield_now().await;
            }
            Some(query) = queries.recv() => daemon.answer(query),
            Some(listing) = listings.recv() => daemon.listed(&listing),
            ready = daemon.list_is_ready(), if daemon.is_comparing() => {
                daemon.compare(ready, &mut events);
                task::yield_now().await;
            }
            () = time::sleep(grace.unwrap_or_default()), if grace.is_some() => daemon.expire(&mut events),
            () = time::sleep_until(tick) => match daemon.tick(&mut events) {
                Ok(()) => {
                    ticked = Instant::now();
                    manager.alive(&daemon.status());
                }
                Err(error) => break Err(error),
            },
            _ = hang_up.recv() => {
                manager.reloading();
                daemon.reopen_records();
                manager.ready(&daemon.status());
            }
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            served = &mut server.ended => break served.context("serve HTTP").flatten(),
        }
    };

    manager.stopping();
    drop(server);
    daemon.stop(&mut events);
    info!("stopped");
    result
}

fn on(kind: SignalKind) -> Result<Signal> {
    signal(kind).context("install a signal handler")
}

async fn listen(at: SocketAddr) -> Result<TcpListener> {
    let listener = tokio::net::TcpListener::bind(at)
        .await
        .with_context(|| format!("listen on {at} (is it taken? --listen chooses another)"))?;
    listener.into_std().context("listen")
}
