//! Log entries as requests: http-log.
//!
//! Certificates are not checked, as in Kong, where this plugin never does.

use super::{all, none};
use crate::logs::HttpPlan;
use crate::logs::queue::Delivery;
use crate::sinks::moesif::USER_AGENT;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::tls::{TlsConfig, TlsProvider};

/// How much of an answer is read: nothing in it matters but its end.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// One server.
pub(crate) struct Http {
    agent: Agent,
    url: String,
    authorization: Option<String>,
    plan: HttpPlan,
}

impl Http {
    pub(crate) fn new(plan: &HttpPlan) -> Self {
        let limit = (plan.timeout_ms > 0).then(|| Duration::from_millis(plan.timeout_ms));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .disable_verification(true)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(limit)
            .timeout_send_request(limit)
            .timeout_send_body(limit)
            .timeout_recv_response(limit)
            .timeout_recv_body(limit)
            .max_idle_connections(crate::logs::queue::FLIGHTS_MAX)
            .max_idle_connections_per_host(crate::logs::queue::FLIGHTS_MAX)
            .max_idle_age(Duration::from_millis(plan.keepalive_ms))
            .tls_config(tls)
            .user_agent(USER_AGENT)
            .build();
        let (url, authorization) = without_user(&plan.url);
        Self { agent: Agent::new_with_config(config), url, authorization, plan: plan.clone() }
    }

    pub(crate) fn deliver(&self, batch: &[Vec<u8>]) -> Delivery {
        let body = match (batch, self.plan.single) {
            ([only], true) => only.clone(),
            _ => list(batch),
        };
        let mut request = match self.plan.method.as_str() {
            "PUT" => self.agent.put(&self.url),
            "PATCH" => self.agent.patch(&self.url),
            _ => self.agent.post(&self.url),
        };
        request = request.header("Content-Type", &self.plan.content_type);
        let own = |name: &str| {
            self.plan.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name))
        };
        if let Some(authorization) = self.authorization.as_ref().filter(|_| !own("authorization")) {
            request = request.header("Authorization", authorization);
        }
        for (name, value) in &self.plan.headers {
            request = request.header(name, value);
        }
        match request.send(&body[..]) {
            Ok(mut answer) => {
                let status = answer.status();
                // Read to its end, so that the connection can be used again.
                let _rest = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
                if status.is_success() {
                    all(batch)
                } else {
                    none(format!("response status {}", status.as_u16()))
                }
            }
            Err(fault) => none(fault),
        }
    }
}

/// The URL without user and query, and the user as a header.
fn without_user(url: &str) -> (String, Option<String>) {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let header = format!("Basic {}", STANDARD.encode(user));
            (format!("{scheme}://{host}{path}"), Some(header))
        }
        None => (url.to_owned(), None),
    }
}

/// The entries as one JSON array.
fn list(batch: &[Vec<u8>]) -> Vec<u8> {
    let mut list = Vec::with_capacity(batch.iter().map(|entry| entry.len() + 1).sum::<usize>() + 2);
    list.push(b'[');
    for (number, entry) in batch.iter().enumerate() {
        if number > 0 {
            list.push(b',');
        }
        list.extend_from_slice(entry);
    }
    list.push(b']');
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_in_the_url_becomes_a_header() {
        let header = Some("Basic dXNlcjpwYXNz".to_owned());
        for (url, expected) in [
            ("http://user:pass@h:1/a/b?key=v&x=1", ("http://h:1/a/b", header)),
            ("https://h", ("https://h", None)),
            ("https://h/a@b", ("https://h/a@b", None)),
        ] {
            assert_eq!(without_user(url), (expected.0.to_owned(), expected.1));
        }
    }

    #[test]
    fn a_list_is_json() {
        assert_eq!(list(&[b"1".to_vec(), b"2".to_vec()]), b"[1,2]");
        assert_eq!(list(&[b"1".to_vec()]), b"[1]");
    }
}
