//! Whom a request goes to, try by try: the peers of an Upstream, or the addresses of a name.

use std::net::SocketAddr;

use plugins::pdk::Exchange;
use runtime::clock;

use crate::balance::directory::Directory;
use crate::balance::key::{self, Cookie};
use crate::balance::marks::Sign;
use crate::balance::tries::Tries;
use crate::balance::vital::Lease;
use crate::balance::{Balancer, Seat};
use crate::core::Core;
use crate::fault::{Fault, What};
use crate::names::{self, Addresses};
use crate::roadmap::{Planned, Service};

/// Whom one try goes to.
pub(super) struct Aim<'a> {
    /// The address.
    pub(super) address: SocketAddr,
    /// What it is called in a TLS handshake.
    pub(super) name: &'a str,
    /// The peer, where there is an Upstream.
    seat: Option<&'a Seat>,
}

/// The tries of one exchange.
pub(super) enum Aims<'a> {
    /// At a name or an address.
    Names { service: &'a Service, addresses: Addresses, tries: names::Tries },
    /// At an Upstream.
    Peers { tls: bool, balancer: &'a Balancer, tries: Tries, cookie: Option<Cookie> },
}

impl<'a> Aims<'a> {
    /// Begins the tries of an exchange.
    ///
    /// # Errors
    /// The service's name has no address.
    pub(super) async fn begin(
        core: &Core,
        planned: &Planned,
        service: &'a Service,
        exchange: &Exchange,
        directory: &'a Directory,
    ) -> Result<Self, Fault> {
        let named = service.ip.is_none();
        let Some(balancer) = named.then(|| directory.get(&service.host)).flatten() else {
            let (addresses, tries) = core.names.resolve(service).await?;
            return Ok(Self::Names { service, addresses, tries });
        };
        let capture = |name: &str| core.uri_capture(exchange, planned, name);
        let key = key::of(&balancer.upstream, exchange, capture);
        Ok(Self::Peers {
            tls: service.tls.is_some(),
            balancer,
            tries: Tries::new(key.hash, service.retries),
            cookie: key.cookie,
        })
    }

    /// Whom the next try goes to; the Host line for it is put into `exchange`.
    ///
    /// # Errors
    /// `before`, the fault of the last try, when none is left; else that nobody may be asked.
    pub(super) fn next(
        &mut self,
        exchange: &mut Exchange,
        before: Option<Fault>,
    ) -> Result<Aim<'a>, Fault> {
        match self {
            Self::Names { service, addresses, tries } => {
                let none = || before.unwrap_or_else(|| What::NoTarget.into());
                let address = tries.next(addresses).ok_or_else(none)?;
                Ok(Aim { address, name: &service.host, seat: None })
            }
            Self::Peers { tls, balancer, tries, .. } => {
                let balancer: &'a Balancer = balancer;
                if let Some(fault) = before {
                    if tries.is_over() {
                        return Err(fault);
                    }
                    let place = tries.next(balancer, clock::now_us());
                    let seat = place.and_then(|place| balancer.seats.get(place as usize));
                    let gone = || Fault::new(What::PeersGone).because(fault);
                    return Ok(aim(exchange, seat.ok_or_else(gone)?, *tls));
                }
                let place = tries.next(balancer, clock::now_us());
                let seat = place.and_then(|place| balancer.seats.get(place as usize));
                Ok(aim(exchange, seat.ok_or(What::NoTarget)?, *tls))
            }
        }
    }

    /// The last try has failed: its peer is left out while there are others, and marked.
    pub(super) fn failed(&mut self, aim: &Aim<'_>, fault: &Fault) {
        match self {
            Self::Names { tries, .. } => tries.failed(),
            Self::Peers { balancer, tries, .. } => {
                tries.failed();
                let sign = match fault.what {
                    What::TimedOut => Some(Sign::Timeout),
                    What::Unreachable => Some(Sign::TcpFailure),
                    // What nginx calls an invalid header: a 502 of the peer's own making.
                    What::BadResponse => balancer.upstream.passive.sign(502),
                    _ => None,
                };
                note(balancer, aim, sign);
            }
        }
    }

    /// The last try was answered: marks the peer by the status, hands the cookie out.
    pub(super) fn answered(&self, aim: &Aim<'_>, exchange: &mut Exchange) {
        let Self::Peers { balancer, cookie, .. } = self else { return };
        note(balancer, aim, balancer.upstream.passive.sign(exchange.response.status));
        if let Some(cookie) = cookie {
            cookie.put(&mut exchange.response.fields);
        }
    }

    /// What counts a try while it is under way.
    pub(super) fn lease(&self, aim: &Aim<'_>) -> Option<Lease> {
        match self {
            Self::Names { .. } => None,
            Self::Peers { balancer, .. } => balancer.lease(aim.seat?, clock::now_us()),
        }
    }

    /// Whether everybody who may be asked has failed.
    pub(super) fn all_failed(&self) -> bool {
        match self {
            Self::Names { addresses, tries, .. } => tries.all_failed(addresses),
            Self::Peers { balancer, tries, .. } => tries.all_failed(balancer),
        }
    }

    /// Gives the last try back, since nothing of the request was sent.
    pub(super) fn again(&mut self) {
        match self {
            Self::Names { tries, .. } => tries.again(),
            Self::Peers { tries, .. } => tries.again(),
        }
    }
}

fn aim<'a>(exchange: &mut Exchange, seat: &'a Seat, tls: bool) -> Aim<'a> {
    exchange.onward.host.clear();
    exchange.onward.host.extend_from_slice(seat.host_line(tls).as_bytes());
    Aim { address: seat.address, name: seat.tls_name(), seat: Some(seat) }
}

/// Marks a peer by what a client's request met there.
fn note(balancer: &Balancer, aim: &Aim<'_>, sign: Option<Sign>) {
    let Some((seat, sign)) = aim.seat.zip(sign) else { return };
    let limit = balancer.upstream.passive.limit(sign);
    if let Some(good) = seat.vital.marks.note(sign, limit) {
        let state = if good { "healthy" } else { "unhealthy" };
        log::warn!("{} of {} is {state} ({sign:?})", seat.address, balancer.upstream.name);
        balancer.turned();
    }
}
