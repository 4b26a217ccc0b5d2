//! Routes out of the store's rows.

use super::condition::Hints;
use super::{Flavor, Net, PathText, Protocols, RouteSpec};
use ipnet::IpNet;
use std::net::IpAddr;
use store::value::{Row, Value};
use uuid::Uuid;

impl RouteSpec {
    /// Reads a row of `routes` for a router of that flavour.
    ///
    /// # Errors
    /// An address or protocol that cannot be read, in one sentence. The store has checked both, but
    /// a condition that is left out would let more requests in.
    pub fn from_row(row: &Row, flavor: Flavor) -> Result<Self, String> {
        let spec = Self::from_values(row.id(), |name| row.get(name))?;
        Ok(Self { flavor, ..spec })
    }

    fn from_values<'v>(id: Uuid, get: impl Fn(&str) -> &'v Value) -> Result<Self, String> {
        let texts = |name| get(name).texts().map(str::to_owned).collect::<Vec<_>>();
        let flag = |name, preset| get(name).as_flag().unwrap_or(preset);
        let nets = |name| get(name).items().iter().map(net).collect::<Result<Vec<_>, _>>();
        let headers = get("headers").pairs().iter().map(|(name, values)| {
            (name.to_string(), values.texts().map(str::to_owned).collect::<Vec<_>>())
        });
        let expression = get("expression").as_text().map(str::to_owned);
        let hints = expression.as_deref().map(Hints::of).unwrap_or_default();
        let redirect = get("https_redirect_status_code").as_integer();
        Ok(Self {
            id,
            name: get("name").as_text().map(str::to_owned),
            service: get("service").as_id(),
            protocols: protocols(get("protocols"))?,
            methods: texts("methods"),
            hosts: texts("hosts"),
            paths: get("paths").texts().map(PathText::new).chain(hints.path).collect(),
            headers: headers.collect(),
            snis: texts("snis"),
            sources: nets("sources")?,
            destinations: nets("destinations")?,
            regex_priority: get("regex_priority").as_integer().unwrap_or(0),
            strip_path: flag("strip_path", true),
            preserve_host: flag("preserve_host", false),
            https_redirect_status_code: redirect.and_then(|s| s.try_into().ok()).unwrap_or(426),
            request_buffering: flag("request_buffering", true),
            response_buffering: flag("response_buffering", true),
            created_at: get("created_at").as_integer().unwrap_or(0),
            expression,
            priority: get("priority").as_integer().and_then(|n| n.try_into().ok()).unwrap_or(0),
            path_v1: get("path_handling").as_text() == Some("v1"),
            flavor: Flavor::Compatible,
        })
    }
}

fn protocols(names: &Value) -> Result<Protocols, String> {
    let named = |name| Protocols::named(name).ok_or_else(|| format!("unknown protocol '{name}'"));
    names.texts().try_fold(Protocols::default(), |all, name| Ok(all.and(named(name)?)))
}

fn net(value: &Value) -> Result<Net, String> {
    let ip = match value.get("ip").as_text() {
        None => None,
        Some(text) => {
            let network = text.parse::<IpNet>();
            let ip = network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            Some(ip.map_err(|_| format!("'{text}' is neither an address nor a network"))?)
        }
    };
    let port = match value.get("port").as_integer() {
        None => None,
        Some(port) => Some(port.try_into().map_err(|_| format!("{port} is no port"))?),
    };
    if ip.is_none() && port.is_none() {
        return Err("a source or destination needs an address or a port".into());
    }
    Ok(Net { ip, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::entities::{ROUTES, SERVICES};
    use store::schema::Catalogue;

    fn list(texts: &[&str]) -> Value {
        Value::List(texts.iter().map(|&text| Value::text(text)).collect())
    }

    #[track_caller]
    fn read(pairs: Vec<(&str, Value)>) -> Result<RouteSpec, String> {
        let values = Value::Map(pairs.into_iter().map(|(name, v)| (name.into(), v)).collect());
        RouteSpec::from_values(Uuid::from_u128(7), |name| values.get(name))
    }

    #[test]
    fn a_row_says_everything() {
        let header = Value::object([("x-v", list(&["1", "2"]))]);
        let peer = Value::object([("ip", Value::text("10.1.2.3/8")), ("port", Value::Integer(80))]);
        let address = Value::object([("ip", Value::text("::1")), ("port", Value::Null)]);
        let found = read(vec![
            ("name", Value::text("r")),
            ("service", Value::Id(Uuid::from_u128(8))),
            ("protocols", list(&["https", "grpcs"])),
            ("methods", list(&["GET"])),
            ("hosts", list(&["a.com"])),
            ("paths", list(&["/a", "~/b"])),
            ("headers", header),
            ("snis", list(&["s.com"])),
            ("sources", Value::List(vec![peer])),
            ("destinations", Value::List(vec![address])),
            ("regex_priority", Value::Integer(3)),
            ("strip_path", Value::Flag(false)),
            ("preserve_host", Value::Flag(true)),
            ("https_redirect_status_code", Value::Integer(301)),
            ("request_buffering", Value::Flag(false)),
            ("response_buffering", Value::Flag(false)),
            ("created_at", Value::Integer(99)),
        ]);
        let expected = RouteSpec {
            id: Uuid::from_u128(7),
            name: Some("r".into()),
            service: Some(Uuid::from_u128(8)),
            protocols: Protocols::HTTPS.and(Protocols::GRPCS),
            methods: vec!["GET".into()],
            hosts: vec!["a.com".into()],
            paths: vec![PathText::Prefix("/a".into()), PathText::Regex("/b".into())],
            headers: vec![("x-v".into(), vec!["1".into(), "2".into()])],
            snis: vec!["s.com".into()],
            sources: vec![Net { ip: Some("10.1.2.3/8".parse().unwrap()), port: Some(80) }],
            destinations: vec![Net { ip: Some("::1/128".parse().unwrap()), port: None }],
            regex_priority: 3,
            strip_path: false,
            preserve_host: true,
            https_redirect_status_code: 301,
            request_buffering: false,
            response_buffering: false,
            created_at: 99,
            expression: None,
            priority: 0,
            path_v1: false,
            flavor: Flavor::Compatible,
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn nulls_are_the_defaults() {
        let found = read(vec![("paths", list(&["/"])), ("methods", Value::Null)]).unwrap();
        assert!(found.strip_path && found.request_buffering && found.response_buffering);
        assert!(!found.preserve_host && found.methods.is_empty() && found.service.is_none());
        assert_eq!(found.https_redirect_status_code, 426);
    }

    #[test]
    fn a_condition_that_cannot_be_read_is_a_fault() {
        for peer in [
            Value::object([("ip", Value::text("10.1.2.x"))]),
            Value::object([("port", Value::Integer(70_000))]),
            Value::object([]),
        ] {
            assert!(read(vec![("sources", Value::List(vec![peer.clone()]))]).is_err(), "{peer:?}");
        }
        assert!(read(vec![("protocols", list(&["smtp"]))]).is_err());
    }

    #[test]
    fn a_packed_row_reads_like_its_input() {
        let catalogue = Catalogue { entities: vec![&SERVICES, &ROUTES], ..Catalogue::default() };
        let (id, service) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let peer = Value::object([("ip", Value::text("127.0.0.0/8"))]);
        let object = Value::object([
            ("id", Value::Id(id)),
            ("protocols", list(&["http"])),
            ("paths", list(&["/a"])),
            ("headers", Value::object([("x-v", list(&["1"]))])),
            ("sources", Value::List(vec![peer])),
            ("service", Value::Id(service)),
        ]);
        let spec =
            RouteSpec::from_row(&Row::pack(&ROUTES, &catalogue, object, 1), Flavor::Compatible);
        let spec = spec.unwrap();
        assert_eq!((spec.id, spec.service), (id, Some(service)));
        assert_eq!(spec.headers, [("x-v".to_owned(), vec!["1".to_owned()])]);
        assert_eq!(spec.sources, [Net { ip: Some("127.0.0.0/8".parse().unwrap()), port: None }]);
        assert_eq!(spec.protocols, Protocols::HTTP);
    }
}
