//! What systemd and the daemon tell each other: the socket to serve on, the state, that the loop goes round.
//!
//! Says nothing where no service manager started us.

use std::{
    fmt::Display,
    net::{SocketAddr, TcpListener},
    os::fd::{FromRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use sd_notify::NotifyState;
use socket2::{Socket, Type};
use tracing::warn;

/// What was told to the service manager.
pub(crate) struct ServiceManager {
    /// WatchdogSec=, when there is one.
    watchdog: Option<Duration>,
    status: String,
    /// It was told in the log that there is no way to the service manager.
    complained: bool,
}

impl ServiceManager {
    pub(crate) fn new() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled(),
            status: String::new(),
            complained: false,
        }
    }

    /// `pace`, or faster if the service manager wants to hear more often.
    pub(crate) fn at_least_every(&self, pace: Duration) -> Duration {
        self.watchdog.map_or(pace, |within| pace.min(within / 3))
    }

    /// Serving, with all settings in force.
    pub(crate) fn ready(&mut self, status: &impl Display) {
        self.status = status.to_string();
        let status = self.status.clone();
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// The loop goes round. A service manager that does not hear it for as long as WatchdogSec= says starts
    /// the daemon anew.
    pub(crate) fn alive(&mut self, status: &impl Display) {
        let status = status.to_string();
        if status == self.status {
            return self.tell(&[NotifyState::Watchdog]);
        }
        self.tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
        self.status = status;
    }

    /// Until the next [`ServiceManager::ready`].
    pub(crate) fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            // From systemd 253 on the second must come with the first.
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => warn!(%error, "cannot tell systemd of the reload"),
        }
    }

    pub(crate) fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&mut self, state: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(state)
            && !self.complained
        {
            self.complained = true;
            warn!(%error, "cannot notify systemd");
        }
    }
}

/// The listening socket that systemd passed (LISTEN_FDS), if it did. Call it once, at the start.
///
/// # Errors
///
/// When what was passed is not one listening TCP socket, or does not listen where it is `asked` to.
pub(crate) fn passed(asked: Option<SocketAddr>) -> Result<Option<TcpListener>> {
    let sockets =
        sd_notify::listen_fds().context("take the sockets that were passed (LISTEN_FDS)")?;
    // SAFETY: systemd opened these descriptors for this process, and nothing else in it knows of them:
    // this is called once, before anything looks for them.
    let mut sockets = sockets.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let count = sockets.len();
    ensure!(
        count <= 1,
        "{count} sockets were passed (LISTEN_FDS), and one is served: leave one ListenStream= in closewatch.socket"
    );
    let passed = sockets.next().map(Socket::from);
    passed.map(|socket| accept(socket, asked)).transpose()
}

fn accept(socket: Socket, asked: Option<SocketAddr>) -> Result<TcpListener> {
    let address = socket.local_addr().ok().and_then(|at| at.as_socket());
    let is_stream = socket.r#type().is_ok_and(|of| of == Type::STREAM);
    let (Some(address), true, Ok(true)) = (address, is_stream, socket.is_listener()) else {
        bail!(
            "what was passed (LISTEN_FDS) is no listening TCP socket: give closewatch.socket a ListenStream=IP:PORT, and no Accept="
        );
    };
    if let Some(asked) = asked.filter(|asked| *asked != address) {
        bail!(
            "--listen (CLOSEWATCH_LISTEN) says {asked}, and a socket was passed that listens on {address}: leave --listen out, or change ListenStream= of closewatch.socket"
        );
    }
    socket
        .set_nonblocking(true)
        .context("use the socket that was passed")?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn listening_tcp_socket_is_taken_where_it_was_asked_for() {
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener();
        let address = taken.local_addr().unwrap();
        let taken = accept(taken.into(), Some(address)).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        assert!(accept(listener().into(), None).is_ok());

        let elsewhere = "127.0.0.1:1".parse().unwrap();
        let error = accept(listener().into(), Some(elsewhere)).unwrap_err();
        assert!(
            error.to_string().contains("change ListenStream="),
            "{error}"
        );
    }

    #[test]
    fn other_sockets_are_refused() {
        let idle = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unix = Socket::new(socket2::Domain::UNIX, Type::STREAM, None).unwrap();
        for socket in [idle, datagrams.into(), unix] {
            let error = accept(socket, None).unwrap_err();
            assert!(
                error.to_string().contains("no listening TCP socket"),
                "{error}"
            );
        }
    }
}
