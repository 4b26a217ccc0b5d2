//! A gRPC service for tests.

use runtime::buffers::Piece;
use runtime::http::h2;
use runtime::http::head::Response;
use runtime::io::{self, IoChoice, Listener};

use super::gateway::free_port;

/// A gRPC service that answers each call with its body, and says in its trailers what stood in the
/// request's.
pub(crate) fn calls() -> u16 {
    let port = free_port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        io::block_on_core(IoChoice::Epoll, async {
            let mut listener = Listener::new(listener).unwrap();
            loop {
                let (reader, writer, _) = listener.accept().await.unwrap();
                io::spawn(async move {
                    let (reader, writer) = (reader.into(), writer.into());
                    let (first, limits) = (Piece::empty(), h2::Limits::default());
                    let served = h2::serve(reader, writer, first, &limits, || false, call);
                    let _ended = served.await;
                });
            }
        })
    });
    port
}

async fn call(mut stream: h2::Stream) {
    let mut body = Vec::new();
    while let Some(piece) = stream.body.next().await {
        body.extend_from_slice(&piece.unwrap());
    }
    let mut trailers = stream.body.trailers().await.unwrap().unwrap_or_default();
    trailers.add("grpc-status", "0");
    let mut response = Response::default();
    response.status = 200;
    response.fields.add("content-type", "application/grpc");
    stream.reply.head(&response, false).unwrap();
    stream.reply.piece(Piece::from_vec(body)).await.unwrap();
    stream.reply.trailers(&trailers).unwrap();
}
