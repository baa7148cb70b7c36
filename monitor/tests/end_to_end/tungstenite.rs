//! tokio-tungstenite, client and server, each in a process of its own: this test binary, started
//! again. What a plan means is said in `peers/plan.py`.

use std::{env, io::stdin, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async, connect_async,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::{peers::Peer, sandbox::Plays, stage::Stage};

const ROLE: &str = "CLOSEWATCH_TEST_TUNGSTENITE";
const MESSAGES: usize = 3;

pub(crate) fn server(stage: &Stage, port: u16) -> Peer {
    start(stage, Plays::Server, &format!("server {port}"))
}

pub(crate) fn client(stage: &Stage, url: &str, plans: &[&str]) -> Peer {
    start(
        stage,
        Plays::Client,
        &format!("client {url} {}", plans.join(" ")),
    )
}

fn start(stage: &Stage, plays: Plays, role: &str) -> Peer {
    let mut command = stage.sandbox.command(env::current_exe().unwrap(), 0, true);
    command.args([
        "--exact",
        "tungstenite::peer",
        "--nocapture",
        "--test-threads=1",
    ]);
    Peer::start(
        &stage.sandbox,
        {
            command.env(ROLE, role);
            command
        },
        plays,
    )
}

/// Not a test: the peer's program. It does nothing unless a scenario starts it.
#[test]
fn peer() {
    let Ok(role) = env::var(ROLE) else { return };
    let words: Vec<String> = role.split(' ').map(str::to_owned).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if words[0] == "server" {
        runtime.block_on(serve(words[1].parse().unwrap()));
        return;
    }
    eprintln!("a client of {words:?}");
    say_ready();
    let mut line = String::new();
    stdin().read_line(&mut line).unwrap();
    runtime.block_on(async {
        let mut clients = JoinSet::new();
        for plan in words[2..].iter().cloned() {
            clients.spawn(run(words[1].clone(), plan));
        }
        clients.join_all().await;
    });
}

#[expect(
    clippy::print_stdout,
    reason = "how a peer tells the test that it is there"
)]
fn say_ready() {
    println!("ready");
}

async fn serve(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    say_ready();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream));
    }
}

#[expect(
    clippy::result_large_err,
    reason = "the callback's type is the library's"
)]
async fn answer(stream: TcpStream) {
    let mut plan = String::new();
    let callback = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        plan = request.uri().path().to_owned();
        Ok(response)
    };
    let mut socket = accept_hdr_async(stream, callback).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        if !message.is_text() {
            continue;
        }
        if plan.starts_with("/server/") {
            close(&mut socket, &plan).await;
        } else {
            socket.send(message).await.unwrap();
        }
    }
}

async fn run(url: String, plan: String) {
    let (mut socket, _) = connect_async(format!("{url}/{plan}")).await.unwrap();
    for number in 0..MESSAGES {
        socket
            .send(Message::text(format!("message {number}")))
            .await
            .unwrap();
        if plan.starts_with("server/") {
            break;
        }
        socket.next().await.unwrap().unwrap();
    }
    if plan.starts_with("client/") {
        close(&mut socket, &plan).await;
    }
    let closing = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(Duration::from_secs(20), closing)
        .await
        .unwrap();
}

async fn close<S>(socket: &mut WebSocketStream<S>, plan: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let words: Vec<&str> = plan.trim_matches('/').split('/').collect();
    let frame = words[1].parse::<u16>().ok().map(|code| CloseFrame {
        code: CloseCode::from(code),
        reason: "r".repeat(words[2].parse().unwrap()).into(),
    });
    // The other end may have closed first.
    let _ = socket.close(frame).await;
}
