//! Rate limits are exact for the node, on however many cores its connections are.

use std::sync::Barrier;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use super::echo::Echo;
use super::gateway::{Gateway, drivers};
use super::http::Connection;

const CLIENTS: usize = 64;
const REQUESTS: usize = 4;

/// Sends requests from many connections at once; gives how many passed.
fn passed(gateway: &Gateway) -> usize {
    let barrier = Barrier::new(CLIENTS);
    thread::scope(|scope| {
        let client = || {
            let mut connection = Connection::open(gateway.proxy);
            barrier.wait();
            (0..REQUESTS)
                .filter(|_| connection.call("GET", "/limited", &[], b"").status == 200)
                .count()
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    })
}

/// A window must not end in the middle of a test.
fn wait_for_a_long_minute() {
    loop {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() % 60;
        if second < 40 {
            return;
        }
        thread::sleep(std::time::Duration::from_secs(1));
    }
}

#[test]
fn exactly_the_limit_passes_whatever_core_a_request_is_on() {
    for driver in drivers() {
        let upstream = Echo::start();
        let gateway = Gateway::start(driver, &[]);
        gateway.route("/limited", upstream.port);
        for (config, limit) in [("config.minute=5", 5), ("config.hour=5&config.day=100", 5)] {
            wait_for_a_long_minute();
            let form =
                format!("name=rate-limiting&config.policy=local&config.limit_by=ip&{config}");
            let plugin = gateway.post("/routes/limited/plugins", &form);
            assert_eq!(passed(&gateway), limit, "{driver}: {config}");
            let id = plugin["id"].as_str().unwrap();
            let gone = gateway.admin("DELETE", &format!("/plugins/{id}"), &serde_json::json!({}));
            assert_eq!(gone.status, 204);
        }
    }
}
