//! What a log plugin's row asks for: where its entries go, in which form, on which terms.

use super::fields::Field;
use super::metrics::{Datadog, Statsd};
use super::queue::Terms;
use std::path::PathBuf;

/// One plugin row at one version.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Whom the entries go to. Rows that agree in all of this share one queue, as in Kong.
    pub destination: LogDestination,
    /// What an entry looks like.
    pub form: Form,
    /// What is changed in every document.
    pub fields: Vec<Field>,
}

/// Where entries go, and how they are batched and tried again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogDestination {
    /// The plugin's name.
    pub plugin: &'static str,
    /// The way.
    pub way: Way,
    /// The queue's terms.
    pub terms: Terms,
}

impl LogDestination {
    /// What logs and status may say; never a password.
    pub fn label(&self) -> String {
        let to = match &self.way {
            Way::Http(http) => without_secrets(&http.url),
            Way::File(file) => file.path.display().to_string(),
            Way::Tcp(tcp) => format!("{}:{}", tcp.host, tcp.port),
            Way::Udp(udp) => format!("{}:{}", udp.host, udp.port),
            Way::Local(path) => path.display().to_string(),
        };
        format!("{} to {to}", self.plugin)
    }
}

fn without_secrets(url: &str) -> String {
    let (url, _query) = url.split_once('?').unwrap_or((url, ""));
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            format!("{scheme}://{host}")
        }
        None => url.to_owned(),
    }
}

/// The ways that entries can go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Way {
    /// Requests.
    Http(HttpPlan),
    /// Lines at the end of a file.
    File(FilePlan),
    /// Lines over a connection.
    Tcp(TcpPlan),
    /// Datagrams.
    Udp(UdpPlan),
    /// Datagrams to a socket of this machine.
    Local(PathBuf),
}

/// Requests to a server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpPlan {
    /// Scheme, authority and path; the query is not sent, as recorded.
    pub url: String,
    /// `POST`, `PUT` or `PATCH`.
    pub method: String,
    /// The media type.
    pub content_type: String,
    /// More header lines.
    pub headers: Vec<(String, String)>,
    /// How long connecting, sending and the answer may take, each.
    pub timeout_ms: u64,
    /// How long an idle connection is kept.
    pub keepalive_ms: u64,
    /// Whether an entry goes without the brackets of a list: where a batch is one entry.
    pub single: bool,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FilePlan {
    /// Its path.
    pub path: PathBuf,
    /// Whether a file that was renamed or removed is left behind for a new one.
    pub reopen: bool,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpPlan {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How long connecting and sending may take, each.
    pub timeout_ms: u64,
    /// How long an idle connection is kept.
    pub keepalive_ms: u64,
    /// Whether it is encrypted, and then the name asked for, if another than the host.
    pub tls: Option<Option<String>>,
}

/// Datagrams.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UdpPlan {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// For metrics: lines are joined up to so many bytes; 0 sends each by itself. None: an entry is
    /// a datagram.
    pub lines_bytes_max: Option<usize>,
}

/// What an entry looks like.
#[derive(Debug, Clone)]
pub enum Form {
    /// The document.
    Document,
    /// The document behind the head of local syslog messages.
    Syslog(Severities),
    /// The document behind the head of RFC 5424, with Loggly's token and tags.
    Loggly(Severities, String),
    /// Lines of metrics.
    Statsd(Box<Statsd>),
    /// Lines of metrics with tags.
    Datadog(Box<Datadog>),
}

/// How important which answers are.
#[derive(Debug, Clone, Copy)]
pub struct Severities {
    /// The facility, 0 to 23.
    pub facility: u8,
    /// Of answers below 400, of 4xx, and of 5xx: 0 (emerg) to 7 (debug).
    pub by_class: [u8; 3],
    /// Less important ones are not sent.
    pub least: u8,
}

impl Severities {
    /// Names of severities, by number.
    pub const NAMES: [&'static str; 8] =
        ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

    /// The number of a severity.
    pub fn named(name: &str) -> Option<u8> {
        Self::NAMES.iter().position(|known| *known == name).map(|at| at as u8)
    }

    /// The severity of an answer; none if it is not sent.
    pub fn of(&self, status: u16) -> Option<u8> {
        let [well, client, server] = self.by_class;
        let severity = match status {
            500.. => server,
            400.. => client,
            _ => well,
        };
        (severity <= self.least).then_some(severity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_show_no_secret() {
        for (url, label) in [
            ("http://user:pass@h:1/a?key=v", "http://h:1/a"),
            ("https://h/log", "https://h/log"),
            ("h", "h"),
        ] {
            assert_eq!(without_secrets(url), label);
        }
    }

    #[test]
    fn answers_have_a_severity_or_are_not_sent() {
        let severities = Severities { facility: 1, by_class: [6, 5, 3], least: 5 };
        assert_eq!([200, 404, 500].map(|status| severities.of(status)), [None, Some(5), Some(3)]);
        assert_eq!(Severities::named("warning"), Some(4));
        assert_eq!(Severities::named("loud"), None);
    }
}
