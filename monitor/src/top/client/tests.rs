use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::PathBuf,
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, pki_types::PrivatePkcs8KeyDer};

use super::*;

#[test]
fn what_is_no_closewatch_is_told_in_a_sentence() {
    for (response, sentence) in [
        (
            answer("404 Not Found", "<html>"),
            "is no closewatch: /api/v1/servers has status 404",
        ),
        (
            answer("302 Found", ""),
            "is no closewatch: /api/v1/servers has status 302",
        ),
        (
            answer("200 OK", "<html>"),
            "/api/v1/servers: expected value at line 1 column 1",
        ),
        (
            answer("200 OK", "{\"time\":\"2026-11-22T21:29:40Z\"}"),
            "/api/v1/servers: missing field `slow_after_seconds`",
        ),
        (
            answer(
                "503 Service Unavailable",
                r#"{"error":{"code":"not_answering","message":"the daemon \u001b[31m does not answer"}}"#,
            ),
            "says: the daemon \u{fffd}[31m does not answer (503)",
        ),
        ("SSH-2.0-OpenSSH_9.2p1\r\n".to_owned(), "is no closewatch: "),
        (String::new(), "does not answer: "),
    ] {
        let trouble = client(serve(response.clone())).ask(None).unwrap_err();
        assert!(trouble.0.contains(sentence), "{response:?}: {trouble}");
        assert!(!trouble.0.contains(char::is_control), "{trouble}");
    }
}

#[test]
fn daemon_that_is_not_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(format!("http://{address}").parse().unwrap());
    let trouble = client.ask(None).unwrap_err();
    assert_eq!(trouble.0, "does not answer: connection refused");
}

#[test]
fn certificates_that_do_not_do_are_told_in_a_sentence() {
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    for (name, is_ca, is_known, sentence) in [
        ("127.0.0.1", IsCa::NoCa, true, "is no closewatch: "),
        ("127.0.0.1", IsCa::NoCa, false, "is of another authority"),
        ("127.0.0.1", authority, true, "basicConstraints=CA:FALSE"),
        ("192.0.2.1", IsCa::NoCa, true, "is for another name"),
    ] {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = is_ca;
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let known = if is_known { &certificate } else { &other.cert };
        let ca = tempfile::NamedTempFile::new().unwrap();
        fs::write(ca.path(), known.pem()).unwrap();

        let url = serve_tls(certificate.der().clone(), &key);
        let client = client_with(url, Some(ca.path().to_owned()));
        let trouble = client.ask(None).unwrap_err();
        assert!(trouble.0.contains(sentence), "{sentence}: {trouble}");
    }
}

/// TLS, and nothing behind it.
fn serve_tls(certificate: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> DaemonUrl {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        // It fails where the client distrusts what it is shown.
        let mut tls = rustls::Stream::new(&mut connection, &mut stream);
        let _ = tls.read(&mut [0; 4096]);
        let _ = tls.write_all(b"SSH-2.0\r\n");
        let _ = tls.flush();
    });
    url.parse().unwrap()
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn client(url: DaemonUrl) -> Client {
    client_with(url, None)
}

fn client_with(url: DaemonUrl, ca: Option<PathBuf>) -> Client {
    let top = Top {
        url,
        once: true,
        ca,
        user: None,
        password_file: None,
        cert: None,
        key: None,
    };
    Client::new(&top).unwrap()
}

/// Says the same to whoever asks.
fn serve(response: String) -> DaemonUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(response.as_bytes());
        }
    });
    url.parse().unwrap()
}
