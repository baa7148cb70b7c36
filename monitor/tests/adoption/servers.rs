//! Servers of everything that is no WebSocket.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    peers::{Peer, peer_file, python},
    sandbox::{Plays, Sandbox},
};

pub(crate) const HTTP_PORT: u16 = 9010;
pub(crate) const HTTPS_PORT: u16 = 9011;

/// Starts a server on a port of its own.
pub(crate) fn python_server(sandbox: &Sandbox, script: &str, arguments: &[&str]) -> Peer {
    let mut command = sandbox.command(python(), 0, true);
    command.arg(peer_file(script)).args(arguments);
    Peer::start(sandbox, command, Plays::Server)
}

/// nginx, with and without TLS, and pages of several kinds.
pub(crate) fn nginx(sandbox: &Sandbox) -> Peer {
    let pages = sandbox.path("pages");
    fs::create_dir(&pages).unwrap();
    let words = "No WebSocket at all, however long it goes on. ";
    fs::write(pages.join("page.txt"), words.repeat(400)).unwrap();
    let row = r#"{"id": 17, "name": "a row", "values": [1, 2.5, null, true]},"#;
    fs::write(pages.join("data.json"), row.repeat(60)).unwrap();
    fs::write(
        pages.join("picture.svg"),
        "<path d=\"M0 0L9 9\"/>".repeat(30),
    )
    .unwrap();
    // The test's own program is as good as any.
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    fs::write(pages.join("data.bin"), &program[..50_000]).unwrap();
    certificate(sandbox);
    let configuration = format!(
        "daemon off; master_process off; error_log stderr; pid nginx.pid;
        worker_rlimit_nofile 20000;
        events {{ worker_connections 10000; }}
        http {{
            access_log off; keepalive_timeout 1h; keepalive_requests 1000000000;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            gzip on; gzip_types *; gzip_min_length 1;
            server {{
                listen 127.0.0.1:{HTTP_PORT} backlog=4096;
                listen 127.0.0.1:{HTTPS_PORT} ssl backlog=4096;
                ssl_certificate certificate.pem; ssl_certificate_key key.pem;
                ssl_protocols TLSv1.2 TLSv1.3;
                location /put/ {{ dav_methods PUT; create_full_put_path on; root .; }}
                location /plain/ {{ alias pages/; }}
                # What may include something has no length beforehand.
                location /chunked/ {{ alias pages/; ssi on; ssi_types *; }}
            }}
        }}"
    );
    let folder = sandbox.directory.path().display();
    let configuration = configuration
        .replace("alias pages/", &format!("alias {folder}/pages/"))
        .replace("root .;", &format!("root {folder};"));
    let file = sandbox.path("nginx.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = sandbox.command("nginx", 0, true);
    command.arg("-p").arg(sandbox.directory.path());
    command.arg("-c").arg(&file).args(["-e", "stderr"]);
    listening(sandbox, command, HTTPS_PORT)
}

fn certificate(sandbox: &Sandbox) {
    let mut openssl = Command::new("openssl");
    openssl
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
        ])
        .args(["-subj", "/CN=steady.test", "-keyout"])
        .arg(sandbox.path("key.pem"))
        .arg("-out")
        .arg(sandbox.path("certificate.pem"));
    run(&mut openssl);
}

pub(crate) fn redis(sandbox: &Sandbox, port: u16) -> Peer {
    let mut command = sandbox.command("redis-server", 0, true);
    let port_text = port.to_string();
    command.args(["--bind", "127.0.0.1", "--port", &port_text, "--save", ""]);
    command.args(["--appendonly", "no", "--maxclients", "4000"]);
    listening(sandbox, command, port)
}

/// A cluster of its own, gone with the value. PostgreSQL refuses to be run by root.
pub(crate) struct Postgres {
    _server: Peer,
    _cluster: TempDir,
}

impl Postgres {
    pub(crate) fn start(sandbox: &Sandbox, port: u16) -> Postgres {
        let programs = newest(Path::new("/usr/lib/postgresql")).join("bin");
        let cluster = tempfile::tempdir().unwrap();
        fs::set_permissions(cluster.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let id = |flag| -> u32 {
            let output = Command::new("id").args([flag, "postgres"]).output();
            let text = String::from_utf8(output.unwrap().stdout).unwrap();
            text.trim()
                .parse()
                .expect("there is no user postgres: `cargo xtask test` installs postgresql")
        };
        chown(cluster.path(), Some(id("-u")), Some(id("-g"))).unwrap();
        let as_user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];
        let mut initdb = Command::new("setpriv");
        initdb
            .args(as_user)
            .arg(programs.join("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres"])
            .args(["--encoding=UTF8", "--no-locale", "--pgdata"])
            .arg(cluster.path())
            .current_dir("/");
        run(&mut initdb);
        let mut command = sandbox.command("setpriv", 0, true);
        command
            .args(as_user)
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(cluster.path())
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off"])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=16MB"])
            .current_dir("/");
        Postgres {
            _server: listening(sandbox, command, port),
            _cluster: cluster,
        }
    }
}

/// The folder of the newest version.
fn newest(folder: &Path) -> PathBuf {
    let versions = fs::read_dir(folder)
        .expect("PostgreSQL is missing: `cargo xtask test` installs postgresql")
        .map(|entry| entry.unwrap().path());
    versions
        .max_by_key(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.parse::<u32>().unwrap_or(0)
        })
        .unwrap()
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!(
            "{:?}: {error}; `cargo xtask test` installs it",
            command.get_program()
        )
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A program, once it listens on the port.
fn listening(sandbox: &Sandbox, mut command: Command, port: u16) -> Peer {
    let program = command.get_program().to_owned();
    let peer = Peer::spawn(sandbox, &mut command);
    let deadline = Instant::now() + Duration::from_secs(30);
    let listens = format!(":{port:04X} 00000000:0000 0A");
    let sockets = format!("/proc/{}/net/tcp", peer.pid());
    while !fs::read_to_string(&sockets).is_ok_and(|sockets| sockets.contains(&listens)) {
        assert!(
            Instant::now() < deadline,
            "{program:?} does not listen on {port}: {}",
            peer.messages()
        );
        thread::sleep(Duration::from_millis(5));
    }
    peer
}
