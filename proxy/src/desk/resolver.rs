//! Looks names up: the hosts file, memory, then the name servers, by type of record in the order
//! that the settings say.
//!
//! Source: Kong `kong/resty/dns/client.lua` (`dns_*`), `kong/dns/client.lua` (`resolver_*`).

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use runtime::clock;
use store::conf::Settings;
use tokio::sync::{OnceCell, Semaphore};

use super::cache::{Cache, Memory, Spans, renewed};
use super::hosts::Hosts;
use crate::names::{ADDRESSES_MAX, Answer, Found, Kind, NameFault, Told};

/// Answers live at least so long on a core, also where the record says 0.
const TTL_S_MIN: u32 = 1;
/// A stale answer is asked for again after this, in seconds.
const STALE_TTL_S: u32 = 1;
/// How long one name server is waited for, at most.
const SERVER_TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// How often it is asked, at most.
const SERVER_ATTEMPTS_MAX: usize = 2;
/// Names that are asked for at the same time; others wait.
const QUERIES_MAX: usize = 64;
/// Names of one SRV answer that are considered.
const SRV_NAMES_MAX: usize = 32;

/// How names are looked up.
#[derive(Debug, Clone)]
pub struct NameSettings {
    /// In place of the name servers of resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// Path of the hosts file.
    pub hosts_file: String,
    /// Types of records, in order.
    pub order: Vec<Kind>,
    /// Whether the type that answered last is asked for first.
    pub last_first: bool,
    /// For how long what is remembered.
    pub spans: Spans,
}

impl NameSettings {
    /// Reads `dns_*`, or `resolver_*` where `new_dns_client` is on.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        let new = settings.flag("new_dns_client");
        let own = |old, new_name| if new { new_name } else { old };
        let count = |name| settings.number(name).map(|n| n.clamp(0.0, f64::from(u32::MAX)) as u32);
        let order = settings.list(own("dns_order", "resolver_family"));
        let error_s = count(own("dns_error_ttl", "resolver_error_ttl")).unwrap_or(1);
        let not_found_s = if new { error_s } else { count("dns_not_found_ttl").unwrap_or(30) };
        let names_max = own("dns_cache_size", "resolver_lru_cache_size");
        let hosts_file = own("dns_hostsfile", "resolver_hosts_file");
        let mut kinds: Vec<Kind> = order.iter().filter_map(|word| kind(word)).collect();
        if kinds.is_empty() {
            kinds = vec![Kind::Srv, Kind::A];
        }
        Self {
            servers: settings
                .list(own("dns_resolver", "resolver_address"))
                .iter()
                .filter_map(|server| address(server))
                .collect(),
            hosts_file: settings.text(hosts_file).unwrap_or("/etc/hosts").to_owned(),
            order: kinds,
            last_first: new || order.iter().any(|word| word.eq_ignore_ascii_case("LAST")),
            spans: Spans {
                valid_s: count(own("dns_valid_ttl", "resolver_valid_ttl")),
                stale_s: count(own("dns_stale_ttl", "resolver_stale_ttl")).unwrap_or(3_600),
                not_found_s,
                error_s,
                names_max: count(names_max).unwrap_or(10_000).max(1) as usize,
            },
        }
    }
}

/// A type of record. CNAME needs no word of its own: name servers follow it, and we do.
fn kind(word: &str) -> Option<Kind> {
    match word.to_ascii_uppercase().as_str() {
        "A" => Some(Kind::A),
        "AAAA" => Some(Kind::Aaaa),
        "SRV" => Some(Kind::Srv),
        _ => None,
    }
}

/// A name server: an address, with or without a port.
fn address(text: &str) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    text.parse().ok().or_else(|| bare.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 53)))
}

/// Queries under way, by name: who asks for the same name waits for the same answer.
type Flights = RefCell<HashMap<Box<str>, Rc<OnceCell<Told>>>>;

/// Looks names up.
pub struct Resolver {
    net: TokioResolver,
    hosts: Hosts,
    order: Vec<Kind>,
    last_first: bool,
    cache: RefCell<Cache>,
    flights: Flights,
    queries: Semaphore,
}

impl Resolver {
    /// Reads the hosts file and resolv.conf.
    ///
    /// # Errors
    /// In one sentence.
    pub fn new(settings: &NameSettings) -> Result<Self, String> {
        Ok(Self {
            net: net(&settings.servers)?,
            hosts: Hosts::load(&settings.hosts_file),
            order: settings.order.clone(),
            last_first: settings.last_first,
            cache: RefCell::new(Cache::new(settings.spans)),
            flights: RefCell::default(),
            queries: Semaphore::new(QUERIES_MAX),
        })
    }

    /// The addresses of a name. What has expired is told at once, and asked for behind.
    ///
    /// # Errors
    /// There is none, or nobody could tell.
    pub async fn look_up(self: &Rc<Self>, name: &str) -> Told {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Ok(Arc::new(itself(ip)));
        }
        let from_file =
            [Kind::A, Kind::Aaaa].into_iter().find_map(|kind| self.hosts.get(name, kind));
        if let Some(answer) = from_file {
            return Ok(Arc::new(answer));
        }
        let memory = self.cache.borrow().get(name, clock::now_us());
        match memory {
            Memory::Fresh(told) => told,
            Memory::Stale(answer) => {
                let (resolver, name) = (Rc::clone(self), Box::<str>::from(name));
                tokio::task::spawn_local(async move { drop(resolver.ask(&name).await) });
                Ok(renewed(&answer, STALE_TTL_S))
            }
            Memory::None => self.ask(name).await,
        }
    }

    /// Asks the name servers, once for all who want to know.
    async fn ask(&self, name: &str) -> Told {
        let flight = Rc::clone(self.flights.borrow_mut().entry(name.into()).or_default());
        let told = flight.get_or_init(|| async {
            let told = self.query(name).await;
            if let Err(fault) = &told {
                log::warn!("the name {name} cannot be looked up: {}", fault.words());
            }
            let told = self.cache.borrow_mut().put(name, told, clock::now_us());
            self.flights.borrow_mut().remove(name);
            told
        });
        told.await.clone()
    }

    async fn query(&self, name: &str) -> Told {
        let last = self.cache.borrow().last_kind(name).filter(|_| self.last_first);
        let rest = self.order.iter().copied().filter(|kind| Some(*kind) != last);
        let mut fault = NameFault::NotFound;
        for kind in last.into_iter().chain(rest) {
            let found = match kind {
                Kind::Srv => self.services(name).await,
                kind => self.addresses(name, kind).await,
            };
            match found {
                Ok(answer) => return Ok(Arc::new(answer)),
                Err(NameFault::NotFound) => {}
                // Whoever does not answer will not answer the next question.
                Err(NameFault::Unanswered) => {
                    return Err(NameFault::Failed(
                        "dns client error: no answer in time".to_owned(),
                    ));
                }
                Err(failed) => fault = failed,
            }
        }
        Err(fault)
    }

    async fn addresses(&self, name: &str, kind: Kind) -> Result<Answer, NameFault> {
        let wanted = if kind == Kind::Aaaa { RecordType::AAAA } else { RecordType::A };
        let (records, ttl_s) = self.records(name, wanted).await?;
        let mut ips: Vec<IpAddr> = records.iter().filter_map(|data| data.ip_addr()).collect();
        // Name servers turn the order at every question: that is no change.
        ips.sort();
        ips.truncate(ADDRESSES_MAX);
        let found = |ip| Found { ip, port: None, weight: None, name: None };
        let addresses: Box<[Found]> = ips.into_iter().map(found).collect();
        if addresses.is_empty() {
            return Err(NameFault::NotFound);
        }
        Ok(Answer { addresses, kind, ttl_s })
    }

    /// SRV: the names of the best priority, each with its port, weight and addresses.
    async fn services(&self, name: &str) -> Result<Answer, NameFault> {
        let (records, mut ttl_s) = self.records(name, RecordType::SRV).await?;
        let mut services: Vec<&SRV> = records
            .iter()
            .filter_map(|data| match data {
                RData::SRV(service) => Some(service),
                _ => None,
            })
            .collect();
        let best = services.iter().map(|service| service.priority).min();
        services.retain(|service| Some(service.priority) == best);
        services.truncate(SRV_NAMES_MAX);
        let mut addresses = Vec::new();
        for service in services {
            let target = service.target.to_utf8();
            let target = target.trim_end_matches('.');
            let Ok(answer) = self.target(target).await else { continue };
            ttl_s = ttl_s.min(answer.ttl_s);
            // Several addresses share the weight of their name.
            let share = service.weight / u16::try_from(answer.addresses.len()).unwrap_or(1).max(1);
            addresses.extend(answer.addresses.iter().map(|found| Found {
                ip: found.ip,
                port: Some(service.port),
                weight: Some(share.max(1)),
                name: Some(target.into()),
            }));
        }
        if addresses.is_empty() {
            return Err(NameFault::NotFound);
        }
        addresses.sort_by(|a, b| (&a.name, a.port, a.ip).cmp(&(&b.name, b.port, b.ip)));
        addresses.truncate(ADDRESSES_MAX);
        Ok(Answer { addresses: addresses.into(), kind: Kind::Srv, ttl_s })
    }

    /// The addresses of a name in an SRV record; no SRV again.
    async fn target(&self, name: &str) -> Result<Answer, NameFault> {
        if let Ok(ip) = name.parse() {
            return Ok(itself(ip));
        }
        let mut fault = NameFault::NotFound;
        for kind in [Kind::A, Kind::Aaaa] {
            match self.hosts.get(name, kind) {
                Some(answer) => return Ok(answer),
                None if self.order.contains(&kind) || kind == Kind::A => {
                    match self.addresses(name, kind).await {
                        Ok(answer) => return Ok(answer),
                        Err(failed) => fault = failed,
                    }
                }
                None => {}
            }
        }
        Err(fault)
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<(Vec<RData>, u32), NameFault> {
        // As it is written: names of containers have underscores, which no IDNA lets through.
        let name = Name::from_ascii(name)
            .map_err(|_| NameFault::Failed("dns client error: bad name".to_owned()))?;
        let _turn = self.queries.acquire().await;
        let found = self.net.lookup(name, kind).await.map_err(fault)?;
        let answers = found.answers();
        let ttl_s = answers.iter().map(|record| record.ttl).min().unwrap_or(TTL_S_MIN);
        let of_kind = answers.iter().filter(|record| record.record_type() == kind);
        let data: Vec<RData> = of_kind.map(|record| record.data.clone()).collect();
        if data.is_empty() {
            return Err(NameFault::NotFound);
        }
        Ok((data, ttl_s.max(TTL_S_MIN)))
    }
}

/// The answer to an address.
fn itself(ip: IpAddr) -> Answer {
    let found = Found { ip, port: None, weight: None, name: None };
    let kind = if ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
    Answer { addresses: [found].into(), kind, ttl_s: u32::MAX }
}

fn fault(error: NetError) -> NameFault {
    if error.is_nx_domain() || error.is_no_records_found() {
        return NameFault::NotFound;
    }
    match error {
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) => NameFault::Unanswered,
        NetError::Dns(DnsError::ResponseCode(code)) => {
            NameFault::Failed(format!("dns server error: {} {}", u16::from(code), words(code)))
        }
        error => NameFault::Failed(format!("dns server error: {error}")),
    }
}

/// What a name server's code means, in the words of Kong's client.
fn words(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::FormErr => "format error",
        ResponseCode::ServFail => "server failure",
        ResponseCode::NXDomain => "name error",
        ResponseCode::NotImp => "not implemented",
        ResponseCode::Refused => "refused",
        _ => "unknown",
    }
}

fn net(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let builder = TokioResolver::builder_tokio().or_else(|error| {
        log::warn!("no name servers can be read from resolv.conf ({error})");
        let none = ResolverConfig::from_parts(None, Vec::new(), Vec::new());
        Ok::<_, String>(TokioResolver::builder_with_config(none, TokioRuntimeProvider::default()))
    });
    let mut builder = builder?;
    if !servers.is_empty() {
        let (options, config) = (builder.options_mut().clone(), system_names());
        let (domain, search) = config.map_or((None, Vec::new()), |config| {
            let (domain, search, _) = config.into_parts();
            (domain, search)
        });
        let servers = servers.iter().map(|at| {
            let mut server = NameServerConfig::udp_and_tcp(at.ip());
            server.connections.iter_mut().for_each(|way| way.port = at.port());
            server
        });
        let config = ResolverConfig::from_parts(domain, search, servers.collect());
        let provider = TokioRuntimeProvider::default();
        builder = TokioResolver::builder_with_config(config, provider).with_options(options);
    }
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    options.timeout = options.timeout.min(SERVER_TIMEOUT_MAX);
    options.attempts = options.attempts.min(SERVER_ATTEMPTS_MAX);
    builder.build().map_err(|error| error.to_string())
}

/// What resolv.conf says of domains.
fn system_names() -> Option<ResolverConfig> {
    hickory_resolver::system_conf::read_system_conf().ok().map(|(config, _)| config)
}

#[cfg(test)]
mod tests;
