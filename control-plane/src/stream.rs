//! A response stream that is its own task.
//!
//! The handler of a stream is a future that reads requests and sends responses into a small queue. It is polled by the
//! response stream itself, so that it lives exactly as long as the stream: no task to detach, to forget or to end.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tonic::Status;

use crate::status::Problem;

/// Responses that wait for HTTP/2. A handler that is further ahead waits.
const QUEUE: usize = 32;

/// A handler of one stream.
type Handler = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send>>;

/// See the module.
pub(crate) struct Driven<T> {
    handler: Option<Handler>,
    failed: Option<Status>,
    responses: mpsc::Receiver<T>,
}

impl<T> Driven<T> {
    /// Makes the stream of the handler that `make` returns.
    pub(crate) fn new<F>(make: impl FnOnce(Responses<T>) -> F) -> Self
    where
        F: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        let (sender, responses) = mpsc::channel(QUEUE);
        Self { handler: Some(Box::pin(make(Responses(sender)))), failed: None, responses }
    }
}

/// Where a handler sends its responses.
#[derive(Debug)]
pub(crate) struct Responses<T>(mpsc::Sender<T>);

impl<T> Responses<T> {
    /// Sends one, waiting while the queue is full. When the stream is gone the handler is dropped with it, so that
    /// nobody sees the response fail.
    pub(crate) async fn send(&self, response: T) {
        drop(self.0.send(response).await);
    }
}

impl<T: Send + 'static> futures_util::Stream for Driven<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(handler) = &mut this.handler
            && let Poll::Ready(done) = handler.as_mut().poll(cx)
        {
            this.handler = None;
            this.failed = done.err().map(Status::from);
        }
        // What was sent before the end comes before it.
        match this.responses.poll_recv(cx) {
            Poll::Ready(Some(response)) => Poll::Ready(Some(Ok(response))),
            Poll::Ready(None) => Poll::Ready(this.failed.take().map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}
