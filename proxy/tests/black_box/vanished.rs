//! Upstreams that vanish without a word: nothing comes from them any more, and no end either.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use super::calls::calls;
use super::gateway::{Gateway, drivers, free_port};
use super::http;
use super::unusual::{nothing, serve};

/// Between the gateway and a service: passes bytes on, until it passes none.
struct Wall {
    port: u16,
    accepted: Arc<AtomicUsize>,
    /// Connections that were accepted before so many pass nothing.
    dead: Arc<AtomicUsize>,
}

impl Wall {
    fn before(service: u16) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (accepted, dead) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let wall = Self { port, accepted: Arc::clone(&accepted), dead: Arc::clone(&dead) };
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let number = accepted.fetch_add(1, Ordering::SeqCst);
                let far = TcpStream::connect(("127.0.0.1", service)).unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let dead = Arc::clone(&dead);
                    thread::spawn(move || pass(from, to, number, &dead));
                }
            }
        });
        wall
    }

    /// From now on nothing passes on what is open.
    fn close(&self) {
        self.dead.store(self.accepted.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Passes bytes on; on a dead connection it takes them and keeps both ends open.
fn pass(mut from: TcpStream, mut to: TcpStream, number: usize, dead: &AtomicUsize) {
    let mut room = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut room) {
        if number >= dead.load(Ordering::SeqCst) && to.write_all(&room[..count]).is_err() {
            return;
        }
    }
    if number >= dead.load(Ordering::SeqCst) {
        let _gone = to.shutdown(std::net::Shutdown::Write);
    }
}

#[test]
fn calls_after_one_that_a_vanished_upstream_left_open_go_elsewhere() {
    for driver in drivers() {
        let wall = Wall::before(calls());
        let env = [("KONG_NGINX_MAIN_WORKER_PROCESSES", "1")];
        let gateway = Gateway::start(driver, &env);
        let service = json!({"protocol": "grpc", "read_timeout": 500, "retries": 0});
        serve(&gateway, wall.port, service, nothing());
        let call = || http::call(gateway.proxy, "POST", "/s", &[], b"abc").status;
        assert_eq!([call(), call()], [200, 200], "{driver}");
        assert_eq!(wall.accepted.load(Ordering::SeqCst), 1, "{driver}: calls share a connection");
        wall.close();
        assert_eq!([call(), call()], [504, 200], "{driver}");
        assert_eq!(wall.accepted.load(Ordering::SeqCst), 2, "{driver}");
    }
}
