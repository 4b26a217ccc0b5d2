//! What the Admin API asks of the balancers: how targets do, and marks by hand.
//!
//! Source: Kong `kong/runloop/balancer/{init,balancers,healthcheckers}.lua`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use store::admin::{AddressHealth, Balancers, HealthMark, TargetHealth, UpstreamHealth};
use uuid::Uuid;

use super::registry::{Behind, Peer, Registry, Target, Which};

/// The balancers as the store's thread asks them.
#[must_use]
pub fn balancers(registry: &Arc<Registry>) -> Balancers {
    let (shown, marked) = (Arc::clone(registry), Arc::clone(registry));
    Balancers {
        health: Box::new(move |upstream, _| health(&shown, upstream.id())),
        mark: Box::new(move |mark| take(&marked, mark)),
    }
}

fn health(registry: &Registry, upstream: Uuid) -> Option<UpstreamHealth> {
    let view = registry.view(upstream)?;
    let mut targets = view.targets;
    targets.sort_by(|a, b| a.0.created.total_cmp(&b.0.created));
    let target = |(target, peers): &(Target, Vec<Peer>)| TargetHealth {
        target: format!("{}:{}", target.host, target.port),
        dns: dns(target),
        addresses: peers.iter().map(|peer| address(target, peer)).collect(),
    };
    Some(UpstreamHealth { healthy: view.healthy, targets: targets.iter().map(target).collect() })
}

/// An address as the target's own text has it, else as it was found.
fn address(target: &Target, peer: &Peer) -> AddressHealth {
    let ip = match target.found {
        Behind::Itself(_) => target.host.to_string(),
        _ => peer.address.ip().to_string(),
    };
    AddressHealth {
        ip,
        port: peer.address.port(),
        weight: u64::from(peer.weight),
        healthy: peer.good,
    }
}

/// Where the addresses come from: a type of record, or why there are none.
fn dns(target: &Target) -> String {
    match &target.found {
        Behind::Itself(IpAddr::V4(_)) => "A".to_owned(),
        Behind::Itself(IpAddr::V6(_)) => "AAAA".to_owned(),
        Behind::Unknown => "unknown".to_owned(),
        Behind::Peers(answer) => answer.kind.name().to_owned(),
        Behind::Nothing(fault) => fault.words(),
    }
}

/// An address that is a name stands for all addresses with its port, as in Kong.
fn take(registry: &Registry, mark: &HealthMark<'_>) -> Result<(), String> {
    let which = mark.address.map_or(Which::All, |(ip, port)| {
        let bare = ip.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_or(Which::Port(port), |ip| Which::At(SocketAddr::new(ip, port)))
    });
    registry.mark(mark.upstream.id(), mark.target.id(), which, mark.healthy)
}
