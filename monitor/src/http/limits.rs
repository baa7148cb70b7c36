//! Bounds what those who ask can make the daemon hold: connections, and answers that nobody reads.
//!
//! An answer is as long as there are servers, up to tens of megabytes, and stays in memory until the last
//! byte has left.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::Response,
    serve::Listener,
};
use http_body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{self, Instant, Sleep},
};

use super::{ANSWER_WITHIN, error::ApiError};

/// Connections at a time; the others wait to be accepted. The daemon needs descriptors itself.
const CONNECTIONS_MAX: usize = 256;
/// Long answers that are made or read at a time.
const ANSWERS_MAX: usize = 8;
/// Who reads nothing of an answer for so long is gone.
const STALLED: Duration = Duration::from_secs(10);
/// Who asks nothing for so long is, too. Prometheus asks every minute at least.
const IDLE: Duration = Duration::from_secs(90);
/// What is handed on of an answer at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Accepts connections while there are not too many.
pub(super) struct Guests {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Guests {
    pub(super) fn of(listener: TcpListener) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }
}

impl Listener for Guests {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let guest = Guest {
            stream,
            stalled: false,
            patience: Box::pin(time::sleep(IDLE)),
            _place: place.expect("nobody closes it"),
        };
        (guest, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing happens on it.
pub(super) struct Guest {
    stream: TcpStream,
    /// Something waits to be written.
    stalled: bool,
    patience: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Guest {
    /// Something happened, or waits to.
    fn moved(&mut self, stalled: bool) {
        self.stalled = stalled;
        let patience = if stalled { STALLED } else { IDLE };
        self.patience.as_mut().reset(Instant::now() + patience);
    }

    /// Takes note of what became of a read or a write.
    fn timed<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        writes: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            // What comes in does not make up for what is not taken.
            self.moved(self.stalled && !writes);
            return polled;
        }
        if writes && !self.stalled {
            self.moved(true);
        }
        ready!(self.patience.as_mut().poll(cx));
        Poll::Ready(Err(ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.timed(polled, false, cx)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(polled, true, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.timed(polled, true, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Places for long answers.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ANSWERS_MAX))
}

/// Makes a long answer when there is a place for it, which it keeps until it has been read.
pub(super) async fn one_of_few(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let place = time::timeout(ANSWER_WITHIN, places.acquire_owned()).await;
    let place = place.map_err(|_| ApiError::busy())?;
    let place = place.expect("nobody closes it");
    let response = next.run(request).await;
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
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.piece.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
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
    use axum::{Router, middleware, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task,
    };

    use super::*;

    const LONG: usize = 32 * 1024 * 1024;

    /// Serves a long answer and a short one. Returns where, and the places for long ones.
    async fn start() -> (SocketAddr, Arc<Semaphore>) {
        let places = places();
        let router = Router::new()
            .route("/long", get(async || vec![b'x'; LONG]))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&places),
                one_of_few,
            ))
            .route("/short", get(async || "short"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        task::spawn(async { axum::serve(Guests::of(listener), router).await });
        (address, places)
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
        let (address, places) = start().await;
        for _ in 0..2 * ANSWERS_MAX {
            let text = read(ask(address, "/long").await).await;
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("content-length: {LONG}")), "{head}");
            assert_eq!(body.len(), LONG);
        }
        assert_eq!(places.available_permits(), ANSWERS_MAX);
    }

    #[tokio::test]
    async fn answers_that_nobody_reads_are_few_and_given_up() {
        let (address, places) = start().await;
        let mut lazy = Vec::new();
        for _ in 0..3 * ANSWERS_MAX {
            lazy.push(ask(address, "/long").await);
        }
        let refused = read(lazy.pop().unwrap()).await;
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused:.300}");
        assert!(refused.contains("\"busy\""), "{refused:.300}");
        assert_eq!(places.available_permits(), 0);
        assert!(read(ask(address, "/short").await).await.ends_with("short"));
        time::timeout(2 * STALLED, async {
            while places.available_permits() < ANSWERS_MAX {
                time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap();
    }
}
