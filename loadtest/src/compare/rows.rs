//! What is compared: each row is one kind of request, sent through every server.

use std::sync::Arc;

use rustls::ClientConfig;

use crate::{Fault, clients::Pace, scene, servers::Server, stream};

/// One kind of load.
#[derive(Debug)]
pub(super) struct Row {
    /// What the command line calls it.
    pub(super) name: &'static str,
    /// In words.
    pub(super) about: &'static str,
    /// The most that a request may cost beside nginx, on io_uring and on epoll; 0 is no goal.
    pub(super) goals: (f64, f64),
    sent: Sent,
    /// Which of the servers' ports.
    pub(super) port: Port,
    /// Who sends it.
    pub(super) by: By,
    connections_max: usize,
}

/// Ports of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// HTTP/1 in the clear.
    Plain,
    /// TLS: HTTP/1 or HTTP/2.
    Tls,
    /// HTTP/2 in the clear.
    H2c,
}

/// Who sends the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Our own clients, as fast as they are answered.
    Us,
    /// Our own clients at a fixed rate.
    Rate,
    /// The program h2load.
    H2load,
}

#[derive(Debug, Clone, Copy)]
enum Sent {
    Get,
    Post,
    Close,
    Download,
    /// Beside nginx's plain request, through three plugins.
    Guarded,
    /// Both.
    Both,
    /// A gateway's plain request, and the same with moesif.
    Reported,
}

/// Bytes of the body of a POST.
const POST_BYTES: usize = 4_096;
/// The path of a large download.
const DOWNLOAD: &str = "/load/bytes/1048576";
/// Connections of h2load, and streams of each.
pub(super) const H2_CONNECTIONS: usize = 16;
/// See [`H2_CONNECTIONS`].
pub(super) const H2_STREAMS: usize = 16;

/// Every row.
pub(super) static ROWS: [Row; 12] = [
    row("get", "GET, 1 KiB back", (0.75, 0.85), Sent::Get, Port::Plain),
    row("post", "POST of 4 KiB, 1 KiB back", (0.75, 0.85), Sent::Post, Port::Plain),
    row("tls", "GET over TLS, kept alive", (0.75, 0.80), Sent::Get, Port::Tls),
    row(
        "handshake",
        "GET over TLS, each with a full handshake",
        (0.6, 0.6),
        Sent::Close,
        Port::Tls,
    ),
    Row {
        connections_max: 16,
        ..row("download", "GET, 1 MiB back", (0.8, 0.8), Sent::Download, Port::Plain)
    },
    Row { by: By::H2load, ..row("h2", "GET in HTTP/2 over TLS", (1.0, 1.0), Sent::Get, Port::Tls) },
    Row {
        by: By::H2load,
        ..row("h2c", "GET in HTTP/2 in the clear", (1.0, 1.0), Sent::Get, Port::H2c)
    },
    Row {
        connections_max: 16,
        ..row("download-tls", "GET over TLS, 1 MiB back", (0.0, 0.0), Sent::Download, Port::Tls)
    },
    row("plugins", "GET through three plugins", (1.0, 1.1), Sent::Guarded, Port::Plain),
    Row {
        by: By::Rate,
        ..row(
            "rate",
            "GET at a fixed rate, without and with plugins",
            (0.0, 0.0),
            Sent::Both,
            Port::Plain,
        )
    },
    row("moesif", "GET without and with moesif", (0.0, 0.0), Sent::Reported, Port::Plain),
    Row {
        by: By::Rate,
        ..row(
            "moesif-rate",
            "GET at a fixed rate, without and with moesif",
            (0.0, 0.0),
            Sent::Reported,
            Port::Plain,
        )
    },
];

const fn row(
    name: &'static str,
    about: &'static str,
    goals: (f64, f64),
    sent: Sent,
    port: Port,
) -> Row {
    Row { name, about, goals, sent, port, by: By::Us, connections_max: usize::MAX }
}

impl Row {
    /// The row of that name; `plain` is an old word for `get`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn named(name: &str) -> Result<&'static Self, Fault> {
        let name = if name == "plain" { "get" } else { name };
        let all = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
        let found = ROWS.iter().find(|row| row.name == name);
        found.ok_or_else(|| format!("there is no row {name}: {}", all()).into())
    }

    /// How many connections, where the command line asks for so many.
    pub(super) fn connections(&self, asked: usize) -> usize {
        asked.min(self.connections_max)
    }

    /// When requests begin.
    pub(super) fn pace(&self, rate: f64) -> Pace {
        if self.by == By::Rate { Pace::Rate(rate) } else { Pace::Closed }
    }

    /// Whether it needs servers with plugins.
    pub(super) const fn is_guarded(&self) -> bool {
        matches!(self.sent, Sent::Guarded | Sent::Reported)
    }

    /// Whether a proxy can answer it that knows plain GETs only.
    pub(super) fn is_minimal(&self) -> bool {
        matches!(self.sent, Sent::Get | Sent::Both) && self.port == Port::Plain
    }

    /// Whether each gateway is compared with itself, two requests at a time.
    pub(super) const fn is_pair(&self) -> bool {
        matches!(self.sent, Sent::Reported)
    }

    /// How its clients speak TLS, if they do.
    ///
    /// # Errors
    /// The library's.
    pub(super) fn tls(&self) -> Result<Option<Arc<ClientConfig>>, Fault> {
        if self.port == Port::Tls { stream::trusting().map(Some) } else { Ok(None) }
    }

    /// What is sent to a server: labels and bytes of the requests.
    pub(super) fn requests(&self, server: &Server) -> Vec<(&'static str, Vec<u8>)> {
        let key = format!("apikey: {}\r\n", scene::KEY);
        let plain = || ("", scene::get("/load/", ""));
        let guarded = || (" + 3 plugins", scene::get("/guarded/", &key));
        let has_plugins = server.admin.is_some();
        match self.sent {
            Sent::Get => vec![plain()],
            Sent::Post => vec![("", scene::post("/load/", POST_BYTES))],
            Sent::Close => vec![("", scene::get("/load/", "Connection: close\r\n"))],
            Sent::Download => vec![("", scene::get(DOWNLOAD, ""))],
            Sent::Guarded if has_plugins => vec![guarded()],
            Sent::Both if has_plugins => vec![plain(), guarded()],
            Sent::Reported if has_plugins => {
                vec![plain(), (" + moesif", scene::get("/reported/", ""))]
            }
            Sent::Guarded | Sent::Both => vec![plain()],
            Sent::Reported => Vec::new(),
        }
    }

    /// What h2load is told to ask a server for.
    pub(super) fn url(&self, server: &Server) -> String {
        match self.port {
            Port::Tls => format!("https://{}/load/", server.tls),
            Port::Plain | Port::H2c => format!("http://{}/load/", server.h2c),
        }
    }

    /// Its goal for a driver; 0 is none.
    pub(super) fn goal(&self, label: &str) -> f64 {
        match () {
            () if !label.starts_with("tollgate") => 0.0,
            () if label.contains("io_uring") => self.goals.0,
            () if label.contains("epoll") => self.goals.1,
            () => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_names_of_their_own() {
        for row in &ROWS {
            assert!(std::ptr::eq(Row::named(row.name).unwrap(), row), "{}", row.name);
        }
        assert_eq!(Row::named("plain").unwrap().name, "get");
        assert!(Row::named("nothing").unwrap_err().to_string().contains("get, post, tls"));
        let goal = |label| Row::named("tls").unwrap().goal(label);
        assert_eq!(
            [
                goal("tollgate io_uring"),
                goal("tollgate epoll"),
                goal("nginx"),
                goal("minimal epoll")
            ],
            [0.75, 0.8, 0.0, 0.0]
        );
    }
}
