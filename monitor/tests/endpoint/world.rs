//! A protected daemon, and curl.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{
    authority::Authority,
    daemon::{ANYWHERE, BINARY, Daemon},
    sandbox::Sandbox,
};

/// The hash of `secret`, at the least cost.
pub(crate) const HASH: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";
/// TLS with the certificate of the folder.
pub(crate) const TLS: &str =
    "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

/// One at a time: floods measure, and each keeps a small machine busy.
static TURN: Mutex<()> = Mutex::new(());

// Fields are dropped in this order.
pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) authority: Authority,
    pub(crate) sandbox: Sandbox,
    _turn: MutexGuard<'static, ()>,
}

/// What became of one request with curl.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 when there was no answer.
    pub(crate) status: u16,
    /// Head and body, or what curl said.
    pub(crate) text: String,
}

impl World {
    /// A daemon without any protection.
    pub(crate) fn open() -> World {
        World::begin(Daemon::start)
    }

    /// One with this file of `--web-config`; beside it are `server.crt`, `server.key` and `authority.crt`.
    pub(crate) fn protected(web_config: &str) -> World {
        World::begin(|sandbox, records| {
            let path = sandbox.path("web-config.yml");
            fs::write(&path, web_config).unwrap();
            start_protected(sandbox, records, ANYWHERE, &path)
        })
    }

    fn begin(start: impl FnOnce(&Sandbox, &Path) -> Daemon) -> World {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let sandbox = Sandbox::new(1);
        let folder = sandbox.directory.path();
        let authority = Authority::new(folder, "authority");
        authority.issue(folder, "server", &["localhost", "127.0.0.1"]);
        let daemon = start(&sandbox, &sandbox.path("records.jsonl"));
        World {
            daemon,
            authority,
            sandbox,
            _turn: turn,
        }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.sandbox.directory.path().to_owned()
    }

    pub(crate) fn write(&self, web_config: &str) {
        // In one step, as tools that manage configurations do.
        let new = self.sandbox.path("web-config.new");
        fs::write(&new, web_config).unwrap();
        fs::rename(new, self.sandbox.path("web-config.yml")).unwrap();
    }

    /// Asks for a path with curl, in the folder of the certificates.
    pub(crate) fn curl(&self, scheme: &str, path: &str, arguments: &[&str]) -> Answer {
        let url = format!("{scheme}://{}{path}", self.daemon.listen);
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--include", "--max-time", "10"])
            .args(["--cacert", "authority.crt", "--noproxy", "*"])
            .args(arguments)
            .arg(url)
            .current_dir(self.folder())
            .output()
            .expect("curl is missing: `cargo xtask test` installs it");
        Answer::of(&output)
    }

    /// Asks until the answer has this status, which must be soon.
    pub(crate) fn await_status(&self, scheme: &str, arguments: &[&str], status: u16) -> Duration {
        let began = Instant::now();
        loop {
            let answer = self.curl(scheme, "/metrics", arguments);
            if answer.status == status {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(8), "{answer:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A daemon with this file of `--web-config`.
pub(crate) fn start_protected(
    sandbox: &Sandbox,
    records: &Path,
    listen: SocketAddr,
    web_config: &Path,
) -> Daemon {
    let mut command = Command::new(BINARY);
    command.env("CLOSEWATCH_WEB_CONFIG", web_config);
    Daemon::begin(command, sandbox, records, listen)
}

impl Answer {
    fn of(output: &Output) -> Answer {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Answer {
            status: status.filter(|_| output.status.success()).unwrap_or(0),
            text: text + &String::from_utf8_lossy(&output.stderr),
        }
    }
}

/// A client of TLS that trusts the authority of this world.
pub(crate) fn trusting(world: &World) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = world.folder().join("authority.crt");
    roots
        .add(CertificateDer::from_pem_file(authority).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Through the handshake, and nothing asked yet.
pub(crate) fn shake_hands(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = TcpStream::connect(address)?;
    while client.is_handshaking() {
        client.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(client, stream))
}

/// Whether an openssl client gets through the handshake with these arguments, and what it said.
pub(crate) fn openssl(world: &World, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("timeout")
        .args(["10", "openssl", "s_client", "-CAfile", "authority.crt"])
        .args(["-verify_return_error", "-connect"])
        .arg(world.daemon.listen.to_string())
        .args(arguments)
        .current_dir(world.folder())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is missing: `cargo xtask test` installs it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let agreed = text.contains("Verify return code: 0") && !text.contains("Cipher is (NONE)");
    (agreed, text)
}
