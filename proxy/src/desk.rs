//! The desk: the office thread that answers what requests wait for. For now that is names.
//!
//! It does nothing that takes over 1 ms by itself; every question is a task of its own, so a slow
//! name server holds up nobody who asks for another name. Names are looked up as Kong does by
//! default: the hosts file, then A records, then AAAA.

use std::convert::Infallible;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use runtime::mailbox::Desk;

/// Answers live at least so long on a core, also where the record says 0.
const TTL_S_MIN: u32 = 1;
/// Answers live at most so long on a core.
const TTL_S_MAX: u32 = 300;
/// How long one name server is waited for.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is asked.
const SERVER_ATTEMPTS: usize = 2;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// The name servers say that there is none.
    NotFound,
    /// They could not be asked, or did not answer in time.
    Failed(String),
    /// The desk did not answer in time.
    Unanswered,
}

/// Addresses in the order of preference, and how many seconds they hold; never empty.
pub type Resolved = Result<(Vec<IpAddr>, u32), NameFault>;

/// Answers questions for ever. Runs on the desk's thread, inside a `LocalSet`.
///
/// # Errors
/// No resolver can be built.
pub async fn run(mut desk: Desk<Box<str>, Resolved>) -> Result<Infallible, String> {
    let resolver = Rc::new(resolver()?);
    loop {
        let asked = desk.next().await.map_err(|error| format!("the desk hears nobody: {error}"))?;
        let resolver = Rc::clone(&resolver);
        tokio::task::spawn_local(async move {
            let answer = look_up(&resolver, &asked.question).await;
            asked.reply.give(answer);
        });
    }
}

fn resolver() -> Result<TokioResolver, String> {
    let builder = TokioResolver::builder_tokio().or_else(|error| {
        log::warn!("no name servers can be read from resolv.conf ({error}): only the hosts file");
        let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        Ok::<_, String>(TokioResolver::builder_with_config(none, TokioRuntimeProvider::default()))
    });
    let mut builder = builder?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.timeout = SERVER_TIMEOUT;
    options.attempts = SERVER_ATTEMPTS;
    builder.build().map_err(|error| error.to_string())
}

async fn look_up(resolver: &TokioResolver, name: &str) -> Resolved {
    let found = resolver.lookup_ip(name).await.map_err(|error| {
        if error.is_nx_domain() || error.is_no_records_found() {
            NameFault::NotFound
        } else {
            NameFault::Failed(error.to_string())
        }
    })?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() {
        return Err(NameFault::NotFound);
    }
    let ttl_s = found.as_lookup().answers().iter().map(|record| record.ttl).min();
    Ok((addresses, ttl_s.unwrap_or(TTL_S_MAX).clamp(TTL_S_MIN, TTL_S_MAX)))
}
