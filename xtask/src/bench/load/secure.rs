//! A WebSocket over TLS with a server that is another program. The TLS library at this end is none that closewatch
//! follows: what the probes cost is the server's alone.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Value, json};

use super::ends::{Opcode, REQUEST, RESPONSE, frame, listen};

/// Before the clock is looked at: programs compile what they run often.
const WARM_UP: u64 = 50;

#[derive(Args)]
pub(crate) struct Secure {
    port: u16,
    /// Of a message's payload
    bytes: usize,
    milliseconds: u64,
    /// The certificate that the server must have
    certificate: PathBuf,
    /// Also be the echo without TLS that the server stands in front of
    #[arg(long, value_name = "PORT")]
    behind: Option<u16>,
}

pub(super) fn run(of: &Secure) -> Result<Value> {
    let payload = vec![b'x'; of.bytes];
    let [request, answer] = [true, false].map(|masked| frame(Opcode::Binary, masked, &payload));
    if let Some(port) = of.behind {
        let listener = listen(port)?;
        let (size, answer) = (request.len(), answer.clone());
        thread::spawn(move || serve(listener.accept()?.0, size, &answer));
    }
    let mut client = open(of.port, &of.certificate)?;
    let mut buffer = vec![0; answer.len()];
    let mut turn = || -> Result<()> {
        client.write_all(&request)?;
        client.flush()?;
        client.read_exact(&mut buffer)?;
        ensure!(buffer == answer, "the echo is another message");
        Ok(())
    };
    for _ in 0..WARM_UP {
        turn()?;
    }
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < Duration::from_millis(of.milliseconds) {
        let asked = Instant::now();
        turn()?;
        took.push(asked.elapsed());
    }
    let seconds = began.elapsed().as_secs_f64();
    let turns = took.len() as u64;
    took.sort_unstable();
    let median = took.get(took.len() / 2).context("there was no time")?;
    client.write_all(&frame(Opcode::Close, true, &1000u16.to_be_bytes()))?;
    client.flush()?;
    Ok(json!({
        "turns": turns,
        "all_turns": turns + WARM_UP,
        "seconds": seconds,
        "median_seconds": median.as_secs_f64(),
    }))
}

fn open(port: u16, certificate: &Path) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nodelay(true)?;
    let tls = ClientConnection::new(Arc::new(config), Ipv4Addr::LOCALHOST.into())?;
    let mut client = StreamOwned::new(tls, socket);
    client.write_all(REQUEST)?;
    client.flush()?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).context("open a WebSocket")?;
        head.extend(byte);
    }
    ensure!(
        head.starts_with(b"HTTP/1.1 101 "),
        "no WebSocket was opened"
    );
    Ok(client)
}

/// Until the other end is gone.
fn serve(socket: TcpStream, request: usize, answer: &[u8]) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(2 * request, &socket);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        ensure!(reader.read_line(&mut line)? != 0, "no request came");
    }
    (&socket).write_all(RESPONSE)?;
    let mut buffer = vec![0; request];
    while reader.read_exact(&mut buffer).is_ok() {
        (&socket).write_all(answer)?;
    }
    Ok(())
}
