//! The thread that serves: accepts connections while there are places, and ends what has taken too long.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use caps::CapsHashSet;
use tokio::{
    net::TcpListener,
    runtime, select,
    sync::{oneshot, watch},
    task,
    time::{self, MissedTickBehavior},
};
use tracing::{info, warn};

use super::{
    Loop, Sources,
    connection::House,
    counts::{Counts, Figures},
    guard::Guard,
    places::{Dropped, Places, Stage},
    router,
};
use crate::{
    privileges,
    web_config::{
        WebConfig,
        watch::{Protection, WebConfigFile},
    },
};

/// What takes too long is looked for this often.
const REVIEW: Duration = Duration::from_millis(250);
/// A process without a free descriptor cannot accept: until one is free, it need not try.
const REST: Duration = Duration::from_millis(100);

/// Threads for what takes long: eight answers, a password, and the files of the web configuration.
const HELPERS_MAX: usize = 10;

/// The endpoint, served until this is dropped.
pub(crate) struct Server {
    /// Comes only when it cannot serve any more.
    pub(crate) ended: oneshot::Receiver<Result<()>>,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Serves on a thread of its own.
    ///
    /// # Errors
    ///
    /// When there can be no thread, it cannot give its capabilities up, or cannot read the web configuration
    /// without them.
    pub(crate) fn start(
        listener: StdListener,
        queries: Loop,
        web_config: Option<WebConfigFile>,
    ) -> Result<Self> {
        listener.set_nonblocking(true).context("listen")?;
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("http-help")
            .max_blocking_threads(HELPERS_MAX)
            .build()
            .context("start the runtime of HTTP")?;
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let (settle, settled) = mpsc::channel();
        thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                let web_config = match settle_in(web_config) {
                    Ok(web_config) => web_config,
                    Err(error) => {
                        let _ = settle.send(Err(error));
                        return;
                    }
                };
                if settle.send(Ok(())).is_err() {
                    return;
                }
                let result = runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).context("listen")?;
                    select! {
                        result = serve(listener, queries, web_config) => result,
                        _ = stopped => Ok(()),
                    }
                });
                // Who stops does not wait for it.
                let _ = end.send(result);
                runtime.shutdown_background();
            })
            .context("start the thread of HTTP")?;
        settled.recv().context("the thread of HTTP ended")??;
        Ok(Self { ended, _stop: stop })
    }
}

/// Gives up every capability of this thread, which those that it starts then do not have either, and
/// sees that the web configuration can be read like that, as it will be from now on.
fn settle_in(web_config: Option<WebConfigFile>) -> Result<Option<WebConfigFile>> {
    privileges::keep(&CapsHashSet::new())?;
    web_config.map(WebConfigFile::again).transpose()
}

/// What tells how the endpoint is doing.
#[derive(Clone)]
pub(super) struct Endpoint {
    places: Places,
    counts: Counts,
    protection: watch::Receiver<Protection>,
}

impl Endpoint {
    pub(super) fn figures(&self) -> Figures {
        self.counts.figures(&self.places, &self.protection.borrow())
    }
}

/// Answers requests for as long as it is polled.
pub(super) async fn serve(
    listener: TcpListener,
    queries: Loop,
    web_config: Option<WebConfigFile>,
) -> Result<()> {
    let at = listener.local_addr().context("read the bound address")?;
    let protection = web_config.as_ref().map(WebConfigFile::protection);
    let protection = protection.unwrap_or_default();
    announce(at, &protection.config);
    let (tell, protection) = watch::channel(protection);
    let places = Places::default();
    let counts = Counts::default();
    let guard = Guard::new(protection.clone(), counts.clone(), at.ip().is_loopback())?;
    let sources = Sources {
        queries,
        endpoint: Endpoint {
            places: places.clone(),
            counts: counts.clone(),
            protection: protection.clone(),
        },
    };
    let house = House {
        router: router(sources, guard, counts.clone()),
        protection,
        counts,
    };
    let kept = async {
        match web_config {
            Some(file) => file.keep(tell).await,
            // The sender stays: without one, every connection would see a change.
            None => tell.closed().await,
        }
    };
    select! {
        () = accept(&listener, &places, &house) => Ok(()),
        () = review(&places) => Ok(()),
        () = kept => bail!("the web configuration is not looked at any more"),
    }
}

/// Ends what takes too long, for as long as it is polled.
async fn review(places: &Places) {
    let mut tick = time::interval(REVIEW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        places.any_taken().await;
        tick.tick().await;
        places.end_overdue(Instant::now());
    }
}

async fn accept(listener: &TcpListener, places: &Places, house: &House) {
    let mut told = false;
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !told {
                    warn!(%error, "cannot accept connections over HTTP for now");
                    told = true;
                }
                time::sleep(REST).await;
                continue;
            }
        };
        told = false;
        let Some((place, ended)) = places.admit(from.ip(), Stage::Handshake, Instant::now()) else {
            house.counts.dropped(Dropped::NoRoom);
            continue;
        };
        // An answer is written in as few pieces as it has.
        let _ = stream.set_nodelay(true);
        task::spawn(house.clone().receive(stream, from, place, ended));
    }
}

/// Says how it is protected, and what is missing where others can reach it.
fn announce(at: SocketAddr, config: &WebConfig) {
    let (tls, passwords) = (config.tls.is_some(), config.users.is_some());
    info!(listen = %at, tls, passwords, "serving metrics");
    if config.http2 {
        info!("http2 in the web configuration changes nothing: closewatch serves HTTP/1.1 only");
    }
    if at.ip().is_loopback() {
        return;
    }
    let clients = config.tls.as_ref().is_some_and(|tls| tls.asks_clients);
    match (tls, passwords || clients) {
        (true, true) => {}
        (false, false) => warn!(
            listen = %at,
            "whoever reaches this address may read everything: --web-config adds TLS and passwords, --listen 127.0.0.1:16455 keeps it to this host"
        ),
        (false, true) => warn!(
            listen = %at,
            "passwords and answers cross the network in clear text: tls_server_config in the file of --web-config encrypts them"
        ),
        (true, false) => warn!(
            listen = %at,
            "whoever reaches this address may read everything: basic_auth_users or client_auth_type in the file of --web-config asks who it is"
        ),
    }
}

/// Serves any router as [`serve`] does its own, to everyone.
#[cfg(test)]
pub(super) async fn serve_unguarded(listener: TcpListener, router: axum::Router, places: Places) {
    let (_tell, protection) = watch::channel(Protection::default());
    let counts = Counts::default();
    let house = House {
        router,
        protection,
        counts,
    };
    select! {
        () = accept(&listener, &places, &house) => {}
        () = review(&places) => {}
    }
}
