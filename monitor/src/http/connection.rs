//! One connection: its handshake, its requests, its end.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    http::{HeaderValue, header::CONNECTION},
};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    select,
    sync::{oneshot, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower_service::Service as _;
use tracing::debug;

use super::{
    counts::{Counts, Refused},
    guard::Visitor,
    places::{Dropped, Place, Stage, Turn},
};
use crate::web_config::watch::Protection;

/// The request line and all headers of a request together.
const HEAD_BYTES: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// What is held of a connection's requests and answers in memory; an answer is handed on in pieces of it.
const BUFFER_BYTES: usize = 64 * 1024;

/// All that a connection shares with the others.
#[derive(Clone)]
pub(super) struct House {
    pub(super) router: Router,
    pub(super) protection: watch::Receiver<Protection>,
    pub(super) counts: Counts,
}

impl House {
    /// Serves a connection to its end, or until it is told that it must go.
    pub(super) async fn receive(
        self,
        stream: TcpStream,
        from: SocketAddr,
        place: Place,
        ended: oneshot::Receiver<Dropped>,
    ) {
        let counts = self.counts.clone();
        let served = pin!(self.converse(stream, from, place.turn()));
        select! {
            () = served => {}
            Ok(reason) = ended => {
                debug!(%from, reason = reason.name(), "connection dropped");
                counts.dropped(reason);
            }
        }
    }

    async fn converse(mut self, stream: TcpStream, from: SocketAddr, turn: Turn) {
        let config = Arc::clone(&self.protection.borrow_and_update().config);
        let terms = config.tls.as_ref().map(|tls| tls.terms.clone());
        let stream = match &config.tls {
            None => Stream::Plain(stream),
            Some(tls) => match TlsAcceptor::from(Arc::clone(&tls.config))
                .accept(stream)
                .await
            {
                Ok(stream) => Stream::Tls(Box::new(stream)),
                Err(error) => {
                    debug!(%from, %error, "TLS handshake failed");
                    self.counts.dropped(Dropped::Handshake);
                    return;
                }
            },
        };
        turn.enter(Stage::Head);
        let visitor = Visitor {
            from,
            terms,
            turn: turn.clone(),
        };
        let begun = self.protection.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let visitor = visitor.clone();
            let mut router = self.router.clone();
            visitor.turn.enter(Stage::Asking);
            let begun = begun.clone();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(visitor.clone());
            async move {
                let mut response = router.call(request).await?;
                if begun.has_changed().unwrap_or(false) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                let answered = response.map(|body| Answer {
                    body,
                    turn: visitor.turn.clone(),
                });
                Ok::<_, std::convert::Infallible>(answered)
            }
        });
        let guest = TokioIo::new(Guest {
            stream,
            turn: turn.clone(),
        });
        let mut connection = pin!(
            http1::Builder::new()
                // How long a head may take is for the places to say, where a newcomer counts as well.
                .header_read_timeout(None)
                .timer(TokioTimer::new())
                .max_header_size(HEAD_BYTES)
                .max_headers(HEADERS_MAX)
                .max_buf_size(BUFFER_BYTES)
                .serve_connection(guest, service)
        );
        let result = select! {
            result = connection.as_mut() => result,
            _ = self.protection.changed() => {
                // What is protected otherwise from now on begins anew, but a request that is on its way, or will be
                // where none was yet, is answered first: it is this connection's last.
                if turn.stage() != Stage::Head {
                    connection.as_mut().graceful_shutdown();
                }
                connection.await
            }
        };
        if let Err(error) = result {
            debug!(%from, %error, "connection ended");
            if error.is_parse() {
                self.counts.refused(Refused::Malformed);
            }
        }
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection whose reads and writes are noticed.
struct Guest {
    stream: Stream,
    turn: Turn,
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if buffer.filled().len() > before && self.turn.stage() == Stage::Idle {
            self.turn.enter(Stage::Head);
        }
        polled
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        self.turn.stalled(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        self.turn.stalled(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.turn.stalled(polled.is_pending());
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A body that tells when it is over.
struct Answer {
    body: Body,
    turn: Turn,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.turn.enter(Stage::Idle);
    }
}
