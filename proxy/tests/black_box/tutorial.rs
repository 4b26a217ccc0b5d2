//! Kong's well-known tutorial, as a new user types it.

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http;

#[test]
fn a_service_a_route_a_limit_a_key_and_the_admin_api_behind_it() {
    for driver in drivers() {
        let upstream = Echo::start();
        let gateway = Gateway::start(driver, &[]);
        let url = format!("http://127.0.0.1:{}/posts", upstream.port);
        gateway.post("/services", &format!("name=posts&url={url}"));
        gateway.post("/services/posts/routes", "paths[]=/posts");
        let first = gateway.until("/posts", |response| response.status == 200);
        assert_eq!(first.json()["uri"], "/posts", "{driver}");

        gateway.post("/services/posts/plugins", "name=key-auth&config.hide_credentials=true");
        gateway.until("/posts", |response| response.status == 401);
        gateway.post("/consumers/", "username=admin");
        let key = gateway.post("/consumers/admin/key-auth", "")["key"].as_str().unwrap().to_owned();
        let target = format!("/posts?apikey={key}");
        let let_in = gateway.until(&target, |response| response.status == 200).json();
        assert_eq!(let_in["headers"]["x-consumer-username"][0], "admin", "{driver}");
        assert!(!let_in.to_string().contains(&key), "{driver}: the key is hidden");

        let admin = gateway.admin;
        gateway.post("/services", &format!("name=admin-api&host=localhost&port={admin}"));
        gateway.post("/services/admin-api/routes", "paths[]=/admin-api");
        gateway.post("/services/admin-api/plugins", "name=key-auth&config.hide_credentials=true");
        gateway.until("/admin-api/consumers", |response| response.status == 401);
        let secured = http::get(gateway.proxy, &format!("/admin-api/consumers?apikey={key}"), &[]);
        assert_eq!(secured.json()["data"][0]["username"], "admin", "{driver}");
    }
}
