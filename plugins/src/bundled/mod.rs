//! Every bundled plugin. Written by `bench/tidy/tests/bundled_list.rs`, never by hand.

pub mod acl;
pub mod acme;
pub mod ai_prompt_decorator;
pub mod ai_prompt_guard;
pub mod ai_prompt_template;
pub mod ai_proxy;
pub mod ai_request_transformer;
pub mod ai_response_transformer;
pub mod aws_lambda;
pub mod azure_functions;
pub mod basic_auth;
pub mod bot_detection;
pub mod correlation_id;
pub mod cors;
pub mod datadog;
pub mod file_log;
pub mod grpc_gateway;
pub mod grpc_web;
pub mod hmac_auth;
pub mod http_log;
pub mod ip_restriction;
pub mod jwt;
pub mod key_auth;
pub mod ldap_auth;
pub mod loggly;
pub mod moesif;
pub mod oauth2;
pub mod opentelemetry;
pub mod post_function;
pub mod pre_function;
pub mod prometheus;
pub mod proxy_cache;
pub mod rate_limiting;
pub mod redirect;
pub mod request_size_limiting;
pub mod request_termination;
pub mod request_transformer;
pub mod response_ratelimiting;
pub mod response_transformer;
pub mod session;
pub mod standard_webhooks;
pub mod statsd;
pub mod syslog;
pub mod tcp_log;
pub mod udp_log;
pub mod zipkin;

use crate::pdk::Spec;

/// Every bundled plugin, by file name.
#[rustfmt::skip]
pub static ALL: &[&Spec] = &[
    &acl::PLUGIN,
    &acme::PLUGIN,
    &ai_prompt_decorator::PLUGIN,
    &ai_prompt_guard::PLUGIN,
    &ai_prompt_template::PLUGIN,
    &ai_proxy::PLUGIN,
    &ai_request_transformer::PLUGIN,
    &ai_response_transformer::PLUGIN,
    &aws_lambda::PLUGIN,
    &azure_functions::PLUGIN,
    &basic_auth::PLUGIN,
    &bot_detection::PLUGIN,
    &correlation_id::PLUGIN,
    &cors::PLUGIN,
    &datadog::PLUGIN,
    &file_log::PLUGIN,
    &grpc_gateway::PLUGIN,
    &grpc_web::PLUGIN,
    &hmac_auth::PLUGIN,
    &http_log::PLUGIN,
    &ip_restriction::PLUGIN,
    &jwt::PLUGIN,
    &key_auth::PLUGIN,
    &ldap_auth::PLUGIN,
    &loggly::PLUGIN,
    &moesif::PLUGIN,
    &oauth2::PLUGIN,
    &opentelemetry::PLUGIN,
    &post_function::PLUGIN,
    &pre_function::PLUGIN,
    &prometheus::PLUGIN,
    &proxy_cache::PLUGIN,
    &rate_limiting::PLUGIN,
    &redirect::PLUGIN,
    &request_size_limiting::PLUGIN,
    &request_termination::PLUGIN,
    &request_transformer::PLUGIN,
    &response_ratelimiting::PLUGIN,
    &response_transformer::PLUGIN,
    &session::PLUGIN,
    &standard_webhooks::PLUGIN,
    &statsd::PLUGIN,
    &syslog::PLUGIN,
    &tcp_log::PLUGIN,
    &udp_log::PLUGIN,
    &zipkin::PLUGIN,
];
