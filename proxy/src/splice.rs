//! Large bodies that nobody looks at go from socket to socket inside the kernel.
//!
//! Only where the framing stays exactly what the head told: the length is known on both sides, and
//! neither connection is encrypted. The end of a body always takes the ordinary way, because what
//! is reported about an exchange is written before its last bytes leave.

use runtime::io;

use crate::client::{Client, ClientFault};
use crate::road;
use crate::upstream::Answered;

/// The shortest rest of a body that is spliced: below it the calls cost more than the copy.
const BYTES_MIN: u64 = 64 * 1024;
/// What is left for the ordinary way.
const TAIL_BYTES: u64 = 8 * 1024;

/// How many bytes of the rest of a body may be moved so; 0 is none.
pub fn movable_bytes(client: &mut Client, answered: &mut Answered) -> u64 {
    let (Client::H1(client), Answered::H1(answered)) = (client, answered) else { return 0 };
    let bytes = answered.spliceable_bytes().saturating_sub(TAIL_BYTES);
    if bytes >= BYTES_MIN && client.takes_splices() { bytes } else { 0 }
}

/// Moves so many bytes, see [`movable_bytes`], or none where there is no pipe. What is queued for
/// the client must have left.
///
/// # Errors
/// The client is gone or too slow, or the response broke off.
pub async fn pass(
    client: &mut Client,
    answered: &mut Answered,
    bytes: u64,
) -> Result<(), ClientFault> {
    let (Client::H1(client), Answered::H1(answered)) = (client, answered) else { return Ok(()) };
    let Some(mut pipe) = io::pipe() else { return Ok(()) };
    let mut left = bytes;
    while left > 0 {
        answered.fill_pipe(&mut pipe, left).await.map_err(road::broken)?;
        left = left.saturating_sub(pipe.held_bytes() as u64);
        client.drain(&mut pipe).await?;
    }
    Ok(())
}
