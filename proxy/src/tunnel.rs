//! Bytes both ways, after both ends agreed to leave HTTP.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use runtime::buffers::Pages;
use runtime::wire::WireWriter;

use crate::client::{Client, ClientFault};
use crate::inbox::Inbox;
use crate::upstream::Connection;

/// Copies until both directions have ended, or one has failed. What either side had read ahead goes
/// first, so no frame is lost. When nothing moves either way for `silent_ms` (the service's
/// `read_timeout`, as in nginx) the upstream's connection is closed, and so the tunnel.
///
/// # Errors
/// The tunnel is over, and so is the client's connection.
pub async fn run(
    client: &mut Client,
    mut upstream: Connection,
    silent_ms: u64,
) -> Result<(), ClientFault> {
    let Client::H1(client) = client else {
        return Err(std::io::Error::from(std::io::ErrorKind::Unsupported).into());
    };
    let (client_in, client_out) = client.halves();
    let (upstream_in, upstream_out, deadline) = upstream.halves();
    let moved = || deadline.arm(silent_ms);
    moved();
    let mut up = pin!(copy(client_in, upstream_out, moved));
    let mut down = pin!(copy(upstream_in, client_out, moved));
    let (mut up_done, mut down_done) = (false, false);
    poll_fn(|cx| {
        if !up_done && let Poll::Ready(ended) = up.as_mut().poll(cx) {
            ended?;
            up_done = true;
        }
        if !down_done && let Poll::Ready(ended) = down.as_mut().poll(cx) {
            ended?;
            down_done = true;
        }
        if up_done && down_done { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction: what was read ahead, then what comes, then the end. Holds no buffer while nothing
/// comes.
async fn copy(from: &mut Inbox, to: &mut WireWriter, moved: impl Fn()) -> std::io::Result<()> {
    loop {
        from.wait().await?;
        if !from.fill().await? {
            return to.shutdown().await;
        }
        to.write(Pages::from_iter([from.take_all()])).await?;
        moved();
    }
}
