//! Routes out of the store's rows, and what a change of rows means for the router.
//!
//! A route whose service is disabled does not exist for the router, as in Kong
//! (`kong/runloop/handler.lua`, `build_router`).

use super::{Net, PathText, Protocols, RouteChange, RouteFault, RouteSpec, Router};
use ipnet::IpNet;
use std::net::IpAddr;
use store::snapshot::{Change, Tables};
use store::value::{Row, Value};
use uuid::Uuid;

impl RouteSpec {
    /// Reads a row of `routes`.
    ///
    /// # Errors
    /// An address or protocol that cannot be read, in one sentence. The store has checked both, but
    /// a condition that is left out would let more requests in.
    pub fn from_row(row: &Row) -> Result<Self, String> {
        Self::from_values(row.id(), |name| row.get(name))
    }

    fn from_values<'v>(id: Uuid, get: impl Fn(&str) -> &'v Value) -> Result<Self, String> {
        let texts = |name| get(name).texts().map(str::to_owned).collect::<Vec<_>>();
        let flag = |name, preset| get(name).as_flag().unwrap_or(preset);
        let nets = |name| get(name).items().iter().map(net).collect::<Result<Vec<_>, _>>();
        let headers = get("headers").pairs().iter().map(|(name, values)| {
            (name.to_string(), values.texts().map(str::to_owned).collect::<Vec<_>>())
        });
        let redirect = get("https_redirect_status_code").as_integer();
        Ok(Self {
            id,
            name: get("name").as_text().map(str::to_owned),
            service: get("service").as_id(),
            protocols: protocols(get("protocols"))?,
            methods: texts("methods"),
            hosts: texts("hosts"),
            paths: get("paths").texts().map(PathText::new).collect(),
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

impl Router {
    /// The router of a snapshot; what cannot be routed to is left out and told.
    #[must_use]
    pub fn from_tables(tables: &Tables) -> (Self, Vec<RouteFault>) {
        let mut faults = Vec::new();
        let changes: Vec<_> =
            tables.all("routes").map(|row| change_of(tables, row, &mut faults)).collect();
        let (router, more) = Self::new([]).0.with(changes);
        faults.extend(more);
        (router, faults)
    }

    /// This router after some writes; `tables` is the snapshot after them.
    #[must_use]
    pub fn after(&self, tables: &Tables, writes: &[Change]) -> (Self, Vec<RouteFault>) {
        let mut faults = Vec::new();
        let mut changes = Vec::new();
        for write in writes {
            match (write.entity.name, &write.before, &write.after) {
                ("routes", _, Some(row)) => changes.push(change_of(tables, row, &mut faults)),
                ("routes", Some(row), None) => changes.push(RouteChange::Drop(row.id())),
                ("services", before, Some(row)) => {
                    let enabled = |row: &Row| row.flag("enabled") != Some(false);
                    if before.as_ref().is_none_or(|before| enabled(before) != enabled(row)) {
                        let routes = tables.children("routes", "service", row.id(), None);
                        changes.extend(routes.map(|row| change_of(tables, row, &mut faults)));
                    }
                }
                _ => {}
            }
        }
        if changes.is_empty() {
            return (self.clone(), faults);
        }
        let (router, more) = self.with(changes);
        faults.extend(more);
        (router, faults)
    }
}

fn change_of(tables: &Tables, row: &Row, faults: &mut Vec<RouteFault>) -> RouteChange {
    let id = row.id();
    let service = row.foreign("service").and_then(|service| tables.get("services", service));
    if service.is_some_and(|service| service.flag("enabled") == Some(false)) {
        return RouteChange::Drop(id);
    }
    match RouteSpec::from_row(row) {
        Ok(spec) => RouteChange::Put(Box::new(spec)),
        Err(reason) => {
            faults.push(RouteFault { id, reason });
            RouteChange::Drop(id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
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

    const SERVICE: u128 = 100;

    fn catalogue() -> Catalogue {
        Catalogue { entities: vec![&SERVICES, &ROUTES], ..Catalogue::default() }
    }

    fn service(enabled: bool) -> Arc<Row> {
        let object = Value::object([
            ("id", Value::Id(Uuid::from_u128(SERVICE))),
            ("host", Value::text("h")),
            ("enabled", Value::Flag(enabled)),
        ]);
        Arc::new(Row::pack(&SERVICES, &catalogue(), object, 1))
    }

    fn route(id: u128, path: &str, service: Option<u128>) -> Arc<Row> {
        let peer = Value::object([("ip", Value::text("127.0.0.0/8"))]);
        let object = Value::object([
            ("id", Value::Id(Uuid::from_u128(id))),
            ("protocols", list(&["http"])),
            ("paths", list(&[path])),
            ("headers", Value::object([("x-v", list(&["1"]))])),
            ("sources", Value::List(vec![peer])),
            ("service", service.map_or(Value::Null, |id| Value::Id(Uuid::from_u128(id)))),
        ]);
        Arc::new(Row::pack(&ROUTES, &catalogue(), object, 1))
    }

    /// Puts a row into the tables; gives the change.
    fn put(tables: &mut Tables, row: &Arc<Row>) -> Change {
        let before = tables.put(row).unwrap();
        Change { entity: row.entity(), before, after: Some(Arc::clone(row)) }
    }

    #[track_caller]
    fn check(router: &Router, expected: &[u128]) {
        let ids = (1..10).filter(|id| router.has(Uuid::from_u128(*id)));
        assert_eq!(ids.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_packed_row_reads_like_its_input() {
        let spec = RouteSpec::from_row(&route(1, "/a", Some(SERVICE))).unwrap();
        assert_eq!(spec.service, Some(Uuid::from_u128(SERVICE)));
        assert_eq!(spec.headers, [("x-v".to_owned(), vec!["1".to_owned()])]);
        assert_eq!(spec.sources, [Net { ip: Some("127.0.0.0/8".parse().unwrap()), port: None }]);
    }

    #[test]
    fn routes_of_a_disabled_service_do_not_exist() {
        let mut tables = Tables::new(&catalogue());
        put(&mut tables, &service(true));
        put(&mut tables, &route(1, "/a", Some(SERVICE)));
        put(&mut tables, &route(2, "/b", None));
        put(&mut tables, &route(3, "~/(", None));
        let (router, faults) = Router::from_tables(&tables);
        check(&router, &[1, 2]);
        assert_eq!(faults.iter().map(|fault| fault.id.as_u128()).collect::<Vec<_>>(), [3]);

        let change = put(&mut tables, &service(false));
        let (router, _) = router.after(&tables, &[change]);
        check(&router, &[2]);
        check(&Router::from_tables(&tables).0, &[2]);
        let change = put(&mut tables, &route(4, "/d", Some(SERVICE)));
        let (router, _) = router.after(&tables, &[change]);
        check(&router, &[2]);
        let change = put(&mut tables, &service(true));
        let (router, _) = router.after(&tables, &[change]);
        check(&router, &[1, 2, 4]);
    }

    #[test]
    fn writes_of_routes_are_followed() {
        let mut tables = Tables::new(&catalogue());
        let (router, _) = Router::from_tables(&tables);
        let change = put(&mut tables, &route(1, "/a", None));
        let (router, _) = router.after(&tables, &[change]);
        check(&router, &[1]);
        let moved = put(&mut tables, &route(1, "~/(", None));
        let (broken, faults) = router.after(&tables, &[moved]);
        check(&broken, &[]);
        assert_eq!(faults.len(), 1);
        let before = tables.remove(&ROUTES, Uuid::from_u128(1));
        let gone = Change { entity: &ROUTES, before, after: None };
        check(&router.after(&tables, &[gone]).0, &[]);
        check(&router, &[1]);
    }
}
