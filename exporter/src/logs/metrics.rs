//! One exchange as lines of metrics: statsd's and Datadog's.
//!
//! Source: recorded datagrams; Kong `kong/plugins/{statsd,datadog}` (names, and what is left out).

use super::record::LogRecord;
use super::rows::{Found, Shown};
use std::fmt::Write;
use std::sync::Arc;

/// One metric of a row.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Kong's name of it.
    pub name: String,
    /// Kong's name of its kind.
    pub kind: String,
    /// The share that is reported; it only marks the line, as in Kong.
    pub sample_rate: Option<f64>,
    /// Which of a consumer's names is told; none tells none.
    pub consumer: Option<String>,
    /// Which of a service's names is told.
    pub service: String,
    /// Which of the workspace's names is told.
    pub workspace: String,
    /// More tags.
    pub tags: Vec<String>,
}

impl Metric {
    fn value(&self, record: &LogRecord<'_>) -> Option<(&'static str, i64)> {
        let times = &record.latencies;
        Some(match self.name.as_str() {
            "request_count" => ("request.count", 1),
            "latency" => ("latency", times.request_ms.into()),
            "request_size" => ("request.size", record.request_bytes as i64),
            "response_size" => ("response.size", record.response_bytes as i64),
            "upstream_latency" => ("upstream_latency", times.proxy_ms.map_or(-1, i64::from)),
            "kong_latency" => ("kong_latency", times.kong_ms.into()),
            _ => return None,
        })
    }

    fn rate(&self) -> String {
        match self.sample_rate {
            Some(rate) if rate != 1.0 => format!("|@{rate}"),
            _ => String::new(),
        }
    }

    fn consumer<'a>(&self, found: &'a Found) -> Option<&'a str> {
        let consumer = found.consumer.as_deref()?;
        consumer.get(match self.consumer.as_deref()? {
            "consumer_id" => "id",
            name => name,
        })
    }

    fn workspace<'a>(&self, found: &'a Found) -> &'a str {
        match self.workspace.as_str() {
            "workspace_name" => &found.workspace.name,
            _ => &found.workspace.id,
        }
    }

    fn service<'a>(&self, service: &'a Shown) -> Option<&'a str> {
        match self.service.as_str() {
            "service_id" => service.get("id"),
            "service_name" => service.get("name"),
            "service_host" => service.get("host"),
            _ => service.get("name").or_else(|| service.get("host")),
        }
    }
}

/// The letter of a kind.
fn letter(kind: &str) -> &'static str {
    match kind {
        "gauge" => "g",
        "histogram" => "h",
        "meter" => "m",
        "set" => "s",
        "timer" => "ms",
        "distribution" => "d",
        _ => "c",
    }
}

/// A name as a part of a dotted one, on one line.
fn part(name: &str) -> String {
    name.chars().map(|c| if c == '.' || c.is_control() { '_' } else { c }).collect()
}

/// How tags are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagStyle {
    /// `name:1|c|#tag:value`
    Dogstatsd,
    /// `name,tag=value:1|c`
    Influxdb,
    /// `name#tag=value:1|c`
    Librato,
    /// `name[tag=value]:1|c`
    Signalfx,
}

impl TagStyle {
    /// The style of a name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "dogstatsd" => Self::Dogstatsd,
            "influxdb" => Self::Influxdb,
            "librato" => Self::Librato,
            "signalfx" => Self::Signalfx,
            _ => return None,
        })
    }
}

/// What a row of statsd says.
#[derive(Debug, Clone)]
pub struct Statsd {
    /// What every name begins with.
    pub prefix: String,
    /// Whether the machine's name follows.
    pub hostname_in_prefix: bool,
    /// Tags in place of long names.
    pub tags: Option<TagStyle>,
    /// What is told.
    pub metrics: Vec<Metric>,
}

impl Statsd {
    /// Appends the lines of one record, each with its end but the last.
    pub(super) fn push_lines(
        &self,
        out: &mut Vec<u8>,
        record: &LogRecord<'_>,
        found: &Found,
        hostname: &str,
    ) {
        let hostname = part(hostname);
        let mut lines = String::new();
        for metric in &self.metrics {
            let line = match self.tags {
                Some(style) => self.tagged(metric, style, record, found, &hostname),
                None => self.named(metric, record, found, &hostname),
            };
            if let Some(line) = line {
                lines.push_str(if lines.is_empty() { "" } else { "\n" });
                lines.push_str(&line);
            }
        }
        out.extend_from_slice(lines.as_bytes());
    }

    fn named(
        &self,
        metric: &Metric,
        record: &LogRecord<'_>,
        found: &Found,
        hostname: &str,
    ) -> Option<String> {
        let scope = match found.service.as_deref() {
            Some(service) => {
                format!("service.{}", metric.service(service).map_or("unnamed".into(), part))
            }
            None => "global.unmatched".to_owned(),
        };
        let consumer = || metric.consumer(found);
        let (rate, status) = (metric.rate(), record.status);
        let line = match metric.name.as_str() {
            "unique_users" => format!("{scope}.user.uniques:{}|s", consumer()?),
            "request_per_user" => format!("{scope}.user.{}.request.count:1|c{rate}", consumer()?),
            "status_count" => format!("{scope}.status.{status}:1|c{rate}"),
            "status_count_per_user" => {
                format!("{scope}.user.{}.status.{status}:1|c{rate}", consumer()?)
            }
            "status_count_per_workspace" => {
                let workspace = metric.workspace(found);
                format!("{scope}.workspace.{workspace}.status.{status}:1|c{rate}")
            }
            "status_count_per_user_per_route" => {
                let route = found.route.as_deref()?.get("id")?;
                format!("route.{route}.user.{}.status.{status}:1|c{rate}", consumer()?)
            }
            _ => {
                let (name, value) = metric.value(record).filter(|(_, value)| *value != -1)?;
                format!("{scope}.{name}:{value}|{}{rate}", letter(&metric.kind))
            }
        };
        let node =
            if self.hostname_in_prefix { format!(".node.{hostname}") } else { String::new() };
        Some(format!("{}{node}.{line}", self.prefix))
    }

    fn tagged(
        &self,
        metric: &Metric,
        style: TagStyle,
        record: &LogRecord<'_>,
        found: &Found,
        hostname: &str,
    ) -> Option<String> {
        let (name, value) = metric.value(record).filter(|(_, value)| *value != -1)?;
        let name = format!("{}.{name}", self.prefix);
        let end = format!("{value}|{}{}", letter(&metric.kind), metric.rate());
        let Some(tags) = tags(metric, record, found, hostname) else {
            return Some(format!("{name}:{end}"));
        };
        let join = |between: char| {
            let pairs: Vec<_> =
                tags.iter().map(|(name, value)| format!("{name}{between}{value}")).collect();
            pairs.join(",")
        };
        Some(match style {
            TagStyle::Dogstatsd => format!("{name}:{end}|#{}", join(':')),
            TagStyle::Influxdb => format!("{name},{}:{end}", join('=')),
            TagStyle::Librato => format!("{name}#{}:{end}", join('=')),
            TagStyle::Signalfx => format!("{name}[{}]:{end}", join('=')),
        })
    }
}

/// Tags of one line; none without a service.
fn tags(
    metric: &Metric,
    record: &LogRecord<'_>,
    found: &Found,
    hostname: &str,
) -> Option<Vec<(&'static str, String)>> {
    let service = metric.service(found.service.as_deref()?)?;
    let mut tags = vec![("service", service.to_owned())];
    let route = found.route.as_deref();
    if let Some(route) = route.and_then(|route| route.get("name").or_else(|| route.get("id"))) {
        tags.push(("route", route.to_owned()));
    }
    tags.push(("status", record.status.to_string()));
    if let Some(consumer) = metric.consumer(found) {
        tags.push(("consumer", consumer.to_owned()));
    }
    tags.push(("node", hostname.to_owned()));
    tags.push(("workspace", metric.workspace(found).to_owned()));
    Some(tags)
}

/// What a row of datadog says.
#[derive(Debug, Clone)]
pub struct Datadog {
    /// What every name begins with.
    pub prefix: String,
    /// The tag of the service's name.
    pub service_tag: String,
    /// The tag of the status.
    pub status_tag: String,
    /// The tag of the consumer.
    pub consumer_tag: String,
    /// What is told.
    pub metrics: Vec<Metric>,
}

impl Datadog {
    /// Appends the lines of one record, each with its end but the last.
    pub(super) fn push_lines(&self, out: &mut Vec<u8>, record: &LogRecord<'_>, found: &Found) {
        let named = |service: &Arc<Shown>| {
            service.get("name").or_else(|| service.get("host")).map(part).unwrap_or_default()
        };
        let service = found.service.as_ref().map(named).unwrap_or_default();
        let mut lines = String::new();
        for metric in &self.metrics {
            let Some((name, value)) = metric.value(record) else { continue };
            let (kind, rate) = (letter(&metric.kind), metric.rate());
            lines.push_str(if lines.is_empty() { "" } else { "\n" });
            let _never = write!(
                lines,
                "{}.{name}:{value}|{kind}{rate}|#{}:{service},{}:{}",
                self.prefix, self.service_tag, self.status_tag, record.status
            );
            if let Some(consumer) = metric.consumer(found) {
                // The ids are written as Datadog's tags want them.
                let consumer = match metric.consumer.as_deref() {
                    Some("consumer_id") => consumer.replace('-', "_"),
                    _ => consumer.to_owned(),
                };
                let _never = write!(lines, ",{}:{consumer}", self.consumer_tag);
            }
            for tag in &metric.tags {
                let _never = write!(lines, ",{tag}");
            }
        }
        out.extend_from_slice(lines.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{bytes_of, report};
    use super::super::report::LogReport;
    use super::super::rows::tests::found;
    use super::*;
    use serde_json::json;

    fn metric(name: &str, kind: &str) -> Metric {
        Metric {
            name: name.into(),
            kind: kind.into(),
            sample_rate: Some(1.0),
            consumer: Some("custom_id".into()),
            service: "service_name_or_host".into(),
            workspace: "workspace_id".into(),
            tags: Vec::new(),
        }
    }

    const ALL: [(&str, &str); 9] = [
        ("request_count", "counter"),
        ("latency", "timer"),
        ("upstream_latency", "timer"),
        ("unique_users", "set"),
        ("request_per_user", "counter"),
        ("status_count", "counter"),
        ("status_count_per_user", "counter"),
        ("status_count_per_workspace", "counter"),
        ("status_count_per_user_per_route", "counter"),
    ];

    fn statsd(tags: Option<TagStyle>) -> Statsd {
        let metrics = ALL.iter().map(|(name, kind)| metric(name, kind)).collect();
        Statsd { prefix: "kong".into(), hostname_in_prefix: false, tags, metrics }
    }

    #[track_caller]
    fn check(statsd: &Statsd, sent: &LogReport<'_>, with_consumer: bool, lines: &[&str]) {
        let bytes = bytes_of(sent);
        let record = LogRecord::read(&bytes).unwrap();
        let mut found = found(&record);
        if with_consumer {
            let value = json!({"id": "c-id", "custom_id": "c-1", "username": "bob"});
            let text = Vec::new();
            found.consumer = Some(Arc::new(Shown { value, text }));
        }
        let mut out = Vec::new();
        statsd.push_lines(&mut out, &record, &found, "gate.way");
        assert_eq!(String::from_utf8(out).unwrap().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn names_of_statsd() {
        let route = "kong.route.00000000-0000-0000-0000-000000000003.user.c-1.status.200:1|c";
        check(
            &statsd(None),
            &report(),
            true,
            &[
                "kong.service.s.request.count:1|c",
                "kong.service.s.latency:6|ms",
                "kong.service.s.upstream_latency:2|ms",
                "kong.service.s.user.uniques:c-1|s",
                "kong.service.s.user.c-1.request.count:1|c",
                "kong.service.s.status.200:1|c",
                "kong.service.s.user.c-1.status.200:1|c",
                "kong.service.s.workspace.w-id.status.200:1|c",
                route,
            ],
        );
        let times = super::super::Latencies { proxy_ms: None, ..report().latencies };
        let lost = LogReport { route: None, service: None, latencies: times, ..report() };
        check(
            &Statsd { hostname_in_prefix: true, ..statsd(None) },
            &lost,
            false,
            &[
                "kong.node.gate_way.global.unmatched.request.count:1|c",
                "kong.node.gate_way.global.unmatched.latency:6|ms",
                "kong.node.gate_way.global.unmatched.status.200:1|c",
                "kong.node.gate_way.global.unmatched.workspace.w-id.status.200:1|c",
            ],
        );
    }

    #[test]
    fn tags_of_statsd_in_four_styles() {
        let of = |style| {
            let metrics = vec![Metric { sample_rate: Some(0.5), ..metric("latency", "gauge") }];
            Statsd { metrics, ..statsd(Some(style)) }
        };
        let colons = "service:s,route:r,status:200,consumer:c-1,node:gate_way,workspace:w-id";
        let equals = colons.replace(':', "=");
        for (style, line) in [
            (TagStyle::Dogstatsd, format!("kong.latency:6|g|@0.5|#{colons}")),
            (TagStyle::Influxdb, format!("kong.latency,{equals}:6|g|@0.5")),
            (TagStyle::Librato, format!("kong.latency#{equals}:6|g|@0.5")),
            (TagStyle::Signalfx, format!("kong.latency[{equals}]:6|g|@0.5")),
        ] {
            check(&of(style), &report(), true, &[&line]);
        }
    }

    #[test]
    fn lines_of_datadog() {
        let datadog = Datadog {
            prefix: "my".into(),
            service_tag: "name".into(),
            status_tag: "status".into(),
            consumer_tag: "consumer".into(),
            metrics: vec![
                Metric { tags: vec!["app:kong".into()], ..metric("request_count", "counter") },
                Metric { consumer: None, ..metric("upstream_latency", "distribution") },
            ],
        };
        let times = super::super::Latencies { proxy_ms: None, ..report().latencies };
        let lost = LogReport { service: None, latencies: times, status: 404, ..report() };
        let bytes = bytes_of(&lost);
        let record = LogRecord::read(&bytes).unwrap();
        let mut out = Vec::new();
        datadog.push_lines(&mut out, &record, &found(&record));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "my.request.count:1|c|#name:,status:404,app:kong\n\
             my.upstream_latency:-1|d|#name:,status:404"
        );
    }
}
