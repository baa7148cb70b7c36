//! What is between a client and its server: programs that pass TLS on, and ends of TLS that no library of OpenSSL's has.

use std::{env, io::stdin, path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, KeyLogFile, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{peers::Peer, sandbox::Plays, scene::Scene};

const ROLE: &str = "CLOSEWATCH_TEST_RUSTLS";

/// What arrives at the one port of a pair goes to the other one.
pub(super) fn start(scene: &mut Scene, kind: &str, ports: &[(u16, u16)]) {
    let pairs = ports.iter().map(|(from, to)| format!("{from}={to}"));
    let (address, pairs) = (scene.address(), pairs.collect::<Vec<_>>().join(" "));
    let command = if let Some(role) = kind.strip_prefix("rustls ") {
        let mut command = scene.sandbox.command(env::current_exe().unwrap(), 0, true);
        command
            .args(["--exact", "odd::between::peer", "--nocapture"])
            .arg("--test-threads=1")
            .env(ROLE, format!("{role} {address} {pairs}"))
            .env("SSLKEYLOGFILE", scene.sandbox.path("keys"));
        command
    } else {
        let mut command = scene.python("forwarder.py");
        command.args([address, kind]).args(pairs.split(' '));
        command
    };
    let peer = Peer::start(&scene.sandbox, command, Plays::Both);
    scene.keep(peer);
}

/// Not a test: a program that has rustls at one side, as a client or as a server, and plaintext at the other. It does nothing
/// unless a test starts it.
#[test]
fn peer() {
    let Ok(role) = env::var(ROLE) else { return };
    let words: Vec<&str> = role.split(' ').collect();
    let is_client = words[0] == "client";
    let address = words[1].to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for pair in &words[2..] {
            let [from, to] = [0, 1].map(|index| {
                let port: u16 = pair.split('=').nth(index).unwrap().parse().unwrap();
                (address.clone(), port)
            });
            let listener = TcpListener::bind(from).await.unwrap();
            tokio::spawn(async move {
                loop {
                    let (near, _) = listener.accept().await.unwrap();
                    let far = TcpStream::connect(to.clone()).await.unwrap();
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    if is_client {
                        let name = ServerName::try_from(to.0.clone()).unwrap();
                        let far = connector().connect(name, far).await.unwrap();
                        tokio::spawn(pass(near, far));
                    } else {
                        let near = acceptor().accept(near).await.unwrap();
                        tokio::spawn(pass(near, far));
                    }
                }
            });
        }
        say_ready();
        let told = tokio::task::spawn_blocking(|| stdin().read_line(&mut String::new()));
        told.await.unwrap().unwrap();
        std::future::pending::<()>().await;
    });
}

#[expect(clippy::print_stdout, reason = "this is how it tells its test")]
fn say_ready() {
    println!("ready");
}

async fn pass<A, B>(mut near: A, mut far: B)
where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // An end may go without the alert.
    let _ = copy_bidirectional(&mut near, &mut far).await;
}

/// Files lie where the program runs.
fn connector() -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_file(PathBuf::from("authority.crt")).unwrap();
    roots.add(authority).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.key_log = Arc::new(KeyLogFile::new());
    TlsConnector::from(Arc::new(config))
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(PathBuf::from("server.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(PathBuf::from("server.key")).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
