//! Bounds the long answers: how many are made or read at a time, and how much of one leaves at once.
//!
//! An answer is as long as there are servers, up to tens of megabytes. What it is made of, and for the API the
//! whole of it, stays in memory until the last byte has left.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{self as polled, Poll, ready},
};

use anyhow::Context as _;
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Extension, Request, State},
    middleware::Next,
    response::Response,
};
use http_body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task, time,
};

use super::{
    ANSWER_WITHIN,
    counts::{Counts, Refused},
    error::ApiError,
    guard::Visitor,
    metrics,
    places::network,
};

/// Long answers that are made or read at a time.
const ANSWERS_MAX: usize = 8;
/// Of these, those that one network may have: the others are for the others.
const ANSWERS_PER_NETWORK: usize = 6;
/// What is handed on at a time of an answer that was made whole.
const PIECE_BYTES: usize = 64 * 1024;

/// Places for long answers.
#[derive(Clone)]
pub(super) struct Answers {
    all: Arc<Semaphore>,
    /// Of each network that asks or has asked just now.
    networks: Arc<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
    counts: Counts,
}

impl Answers {
    pub(super) fn new(counts: Counts) -> Self {
        Self {
            all: Arc::new(Semaphore::new(ANSWERS_MAX)),
            networks: Arc::default(),
            counts,
        }
    }

    async fn place(&self, from: IpAddr) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = {
            let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody waits for and nobody holds.
            networks.retain(|_, own| Arc::strong_count(own) > 1);
            let own = networks
                .entry(network(from))
                .or_insert_with(|| Arc::new(Semaphore::new(ANSWERS_PER_NETWORK)));
            Arc::clone(own)
        };
        let own = own.acquire_owned().await.ok()?;
        let one = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some([own, one])
    }
}

/// Makes a long answer when there is a place for it, which it keeps until it has been read.
pub(super) async fn one_of_few(
    State(answers): State<Answers>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    visitor.turn.served(false);
    let place = time::timeout(ANSWER_WITHIN, answers.place(visitor.from.ip())).await;
    let Ok(Some(place)) = place else {
        answers.counts.refused(Refused::Busy);
        return Err(ApiError::busy());
    };
    visitor.turn.served(true);
    // Who hangs up meanwhile does not give the place to another one before the answer is made.
    let made = task::spawn(async move { (next.run(request).await, place) }).await;
    let (response, place) = made.context("make the answer")?;
    Ok(response.map(|body| {
        Body::new(Held {
            body,
            piece: Bytes::new(),
            _place: place,
        })
    }))
}

/// An answer that is handed on piece by piece, and not before the one before has left.
struct Held {
    body: Body,
    piece: Bytes,
    _place: [OwnedSemaphorePermit; 2],
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut polled::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.piece.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    // It is made in pieces itself, or short.
                    Ok(data) if data.len() < 2 * metrics::PIECE_BYTES => {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Ok(data) => self.piece = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.piece.len().min(PIECE_BYTES);
        // A copy: a part would keep the whole in memory.
        let piece = Bytes::copy_from_slice(&self.piece.split_to(length));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint().exact();
        let all = rest.map(|rest| rest + self.piece.len() as u64);
        all.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use axum::{Router, middleware, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::http::{
        places::{Places, STALLED},
        server,
    };

    const LONG: usize = 32 * 1024 * 1024;

    /// Serves a long answer and a short one. Returns where, and the places for long ones.
    async fn start() -> (SocketAddr, Answers) {
        let answers = Answers::new(Counts::default());
        let router = Router::new()
            .route("/long", get(async || vec![b'x'; LONG]))
            .layer(middleware::from_fn_with_state(answers.clone(), one_of_few))
            .route("/short", get(async || "short"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        task::spawn(server::serve_unguarded(listener, router, Places::default()));
        (address, answers)
    }

    async fn ask(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn read(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn long_answer_comes_whole_and_gives_its_place_back() {
        let (address, answers) = start().await;
        for _ in 0..2 * ANSWERS_MAX {
            let text = read(ask(address, "/long").await).await;
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {LONG}")), "{head}");
            assert_eq!(body.len(), LONG);
        }
        assert_eq!(answers.all.available_permits(), ANSWERS_MAX);
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_are_few_and_given_up() {
        let (address, answers) = start().await;
        let mut lazy = Vec::new();
        for _ in 0..3 * ANSWERS_MAX {
            lazy.push(ask(address, "/long").await);
        }
        let refused = read(lazy.pop().unwrap()).await;
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused:.300}");
        assert!(refused.contains("\"busy\""), "{refused:.300}");
        let others = ANSWERS_MAX - ANSWERS_PER_NETWORK;
        assert_eq!(answers.all.available_permits(), others);
        // Another network has places of its own.
        let other = answers.place(IpAddr::from([192, 0, 2, 1])).await;
        assert!(other.is_some());
        drop(other);
        assert!(read(ask(address, "/short").await).await.ends_with("short"));
        time::timeout(2 * STALLED, async {
            while answers.all.available_permits() < ANSWERS_MAX {
                time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap();
    }
}
