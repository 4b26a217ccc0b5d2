//! What every scenario begins with: a service, a plain route, a route with three plugins.

use serde_json::{Value, json};

use crate::{Fault, admin::Admin};

/// The key of the load's consumer.
pub const KEY: &str = "key-of-the-load";
/// A limit that no run reaches.
const MINUTE_MAX: u64 = 1_000_000_000;
const NOTHING: Value = Value::Null;

/// Makes service `load` at `upstream` and route `plain` for `/load`.
///
/// # Errors
/// The Admin API's.
pub fn plain(admin: &mut Admin, upstream: std::net::SocketAddr) -> Result<(), Fault> {
    let url = format!("http://{upstream}");
    admin.must("POST", "/services", &json!({"name": "load", "url": url}))?;
    let route = json!({"name": "plain", "paths": ["/load"]});
    admin.must("POST", "/services/load/routes", &route)?;
    Ok(())
}

/// Makes route `guarded` for `/guarded` with key-auth, rate-limiting and moesif.
///
/// # Errors
/// The Admin API's.
pub fn guarded(admin: &mut Admin, collector: &str) -> Result<(), Fault> {
    let route = json!({"name": "guarded", "paths": ["/guarded"]});
    admin.must("POST", "/services/load/routes", &route)?;
    admin.must("POST", "/consumers", &json!({"username": "loader"}))?;
    admin.must("POST", "/consumers/loader/key-auth", &json!({"key": KEY}))?;
    plugin(admin, "guarded", "key-auth", &json!({}))?;
    limit(admin, "guarded", &json!({"minute": MINUTE_MAX}))?;
    moesif(admin, "guarded", collector)
}

/// Makes route `guarded` for `/guarded` with key-auth and no service: who has a key gets 503, who
/// has none 401.
///
/// # Errors
/// The Admin API's.
pub fn guarded_alone(admin: &mut Admin) -> Result<(), Fault> {
    admin.must("POST", "/routes", &json!({"name": "guarded", "paths": ["/guarded"]}))?;
    plugin(admin, "guarded", "key-auth", &json!({}))
}

/// Makes a rate limit with the exact local policy on a route.
///
/// # Errors
/// The Admin API's.
pub fn limit(admin: &mut Admin, route: &str, periods: &Value) -> Result<(), Fault> {
    let mut config = periods.clone();
    config["policy"] = json!("local");
    plugin(admin, route, "rate-limiting", &config)
}

/// Makes the moesif plugin on a route, with the collector in Moesif's place.
///
/// # Errors
/// The Admin API's.
pub fn moesif(admin: &mut Admin, route: &str, collector: &str) -> Result<(), Fault> {
    moesif_with(admin, route, collector, &json!({}))
}

/// The same with further settings.
///
/// # Errors
/// The Admin API's.
pub fn moesif_with(
    admin: &mut Admin,
    route: &str,
    collector: &str,
    more: &Value,
) -> Result<(), Fault> {
    let mut config =
        json!({"application_id": "application-of-the-load", "api_endpoint": collector});
    for (name, value) in more.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    plugin(admin, route, "moesif", &config)
}

fn plugin(admin: &mut Admin, route: &str, name: &str, config: &Value) -> Result<(), Fault> {
    let path = format!("/routes/{route}/plugins");
    admin.must("POST", &path, &json!({"name": name, "config": config}))?;
    Ok(())
}

/// What `GET /status` says, null where there is nothing.
///
/// # Errors
/// The Admin API's.
pub fn status(admin: &mut Admin) -> Result<Value, Fault> {
    admin.must("GET", "/status", &NOTHING)
}

/// The bytes of a GET.
pub fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: load.example\r\nAccept: */*\r\n{headers}\r\n")
        .into_bytes()
}
