//! Asks a gRPC server how it is: `grpc.health.v1.Health/Check` for the server as a whole.

use std::io::{Error, Result};

use bytes::Bytes;
use h2::client;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncWrite};

use super::checks::Asked;
use crate::balance::marks::Sign;

/// A message without a byte: neither compressed nor anything else.
const EMPTY_MESSAGE: &[u8] = &[0; 5];
/// The answer is read up to this.
const ANSWER_BYTES_MAX: usize = 1_024;
/// `grpc-status` of a server that has no health service: it is alive, and says so in gRPC.
const UNIMPLEMENTED: &str = "12";

/// Asks over a connection; it ends with the answer.
///
/// # Errors
/// The connection broke, or the peer does not speak HTTP/2.
pub(super) async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    host: &str,
    tls: bool,
) -> Result<Asked> {
    let (sender, connection) = client::handshake(stream).await.map_err(Error::other)?;
    let driving = tokio::task::spawn_local(async move { drop(connection.await) });
    let asked = call(sender, host, tls).await;
    driving.abort();
    asked
}

async fn call(sender: client::SendRequest<Bytes>, host: &str, tls: bool) -> Result<Asked> {
    let mut sender = sender.ready().await.map_err(Error::other)?;
    let scheme = if tls { "https" } else { "http" };
    let request = Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(Error::other)?;
    let (answer, mut body) = sender.send_request(request, false).map_err(Error::other)?;
    body.send_data(Bytes::from_static(EMPTY_MESSAGE), true).map_err(Error::other)?;
    let answer = answer.await.map_err(Error::other)?;
    if answer.status() != 200 {
        return Ok(Asked::Status(answer.status().as_u16()));
    }
    if let Some(status) = grpc_status(answer.headers()) {
        return Ok(Asked::Sign(sign(&status, &[])));
    }
    let mut stream = answer.into_body();
    let mut message = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.map_err(Error::other)?;
        stream.flow_control().release_capacity(piece.len()).map_err(Error::other)?;
        message.extend_from_slice(&piece);
        if message.len() > ANSWER_BYTES_MAX {
            return Ok(Asked::Status(0));
        }
    }
    let trailers = stream.trailers().await.map_err(Error::other)?.unwrap_or_default();
    let status = grpc_status(&trailers).unwrap_or_default();
    Ok(Asked::Sign(sign(&status, &message)))
}

fn grpc_status(fields: &HeaderMap) -> Option<String> {
    fields.get("grpc-status")?.to_str().ok().map(str::to_owned)
}

/// What an answer says. The message is `{status: SERVING}`, 5 bytes of frame before it.
fn sign(grpc_status: &str, message: &[u8]) -> Sign {
    let serving = matches!(message.get(5..), Some([0x08, 0x01, ..]));
    match grpc_status {
        "0" if serving => Sign::Success,
        UNIMPLEMENTED => Sign::Success,
        _ => Sign::HttpFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a server that answers with these trailers and this message.
    #[track_caller]
    fn check(grpc_status: &'static str, message: &'static [u8], expected: Sign) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let local = tokio::task::LocalSet::new();
        let asked = local.block_on(&runtime, async {
            let (ours, theirs) = tokio::io::duplex(4_096);
            tokio::task::spawn_local(async move {
                let mut server = h2::server::handshake(theirs).await.unwrap();
                let (request, mut reply) = server.accept().await.unwrap().unwrap();
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                assert_eq!(request.uri().authority().unwrap(), "a.example");
                assert_eq!(request.headers()["content-type"], "application/grpc");
                let mut body = reply.send_response(http::Response::new(()), false).unwrap();
                if !message.is_empty() {
                    body.send_data(Bytes::from_static(message), false).unwrap();
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", grpc_status.parse().unwrap());
                body.send_trailers(trailers).unwrap();
                while server.accept().await.is_some() {}
            });
            let limit = std::time::Duration::from_secs(20);
            tokio::time::timeout(limit, ask(ours, "a.example", false)).await.unwrap().unwrap()
        });
        let Asked::Sign(sign) = asked else { panic!("a status") };
        assert_eq!(sign, expected, "{grpc_status} {message:?}");
    }

    #[test]
    fn a_server_is_asked_for_its_health() {
        check("0", &[0, 0, 0, 0, 2, 8, 1], Sign::Success);
        check("0", &[0, 0, 0, 0, 2, 8, 2], Sign::HttpFailure);
        check("12", &[], Sign::Success);
        check("5", &[], Sign::HttpFailure);
    }

    #[test]
    fn serving_is_good_and_not_serving_is_not() {
        let message = |status| [0, 0, 0, 0, 2, 8, status];
        assert_eq!(sign("0", &message(1)), Sign::Success);
        assert_eq!(sign("0", &message(2)), Sign::HttpFailure);
        assert_eq!(sign("0", &[]), Sign::HttpFailure);
        assert_eq!(sign("12", &[]), Sign::Success);
        assert_eq!(sign("14", &[]), Sign::HttpFailure);
        assert_eq!(sign("", &message(1)), Sign::HttpFailure);
    }
}
