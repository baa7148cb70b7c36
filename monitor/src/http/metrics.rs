//! `/metrics`: its text is written piece by piece as it leaves, into memory that goes round.
//!
//! The numbers are all of one moment and taken before; how long the text is, is known before its first byte.

use std::{
    convert::Infallible,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use http_body::{Frame, SizeHint};

use super::{Query, Sources, ask, error::ApiError, off_the_loop};
use crate::metrics::{self, Writing};

/// About as much is written and sent at a time.
pub(super) const PIECE_BYTES: usize = 128 * 1024;

pub(super) async fn metrics(State(sources): State<Sources>) -> Result<Response, ApiError> {
    let figures = sources.endpoint.figures();
    let exposition = ask(&sources.queries, |reply| Query::Metrics(figures, reply)).await??;
    let writing = off_the_loop(move || exposition.write()).await?;
    let body = Body::new(Text {
        writing,
        spare: Spare::default(),
    });
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response())
}

struct Text {
    writing: Writing,
    spare: Spare,
}

/// The memory of a piece that has left.
type Spare = Arc<Mutex<Vec<u8>>>;

/// A piece on its way.
struct Piece {
    text: Vec<u8>,
    spare: Spare,
}

impl HttpBody for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.writing.left() == 0 {
            return Poll::Ready(None);
        }
        let spare = Arc::clone(&self.spare);
        let mut text = mem::take(&mut *spare.lock().unwrap_or_else(PoisonError::into_inner));
        self.writing.take(&mut text, PIECE_BYTES);
        let piece = Bytes::from_owner(Piece { text, spare });
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.writing.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.writing.left() as u64)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut text = mem::take(&mut self.text);
        text.clear();
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}
