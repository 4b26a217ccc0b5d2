//! What parameters do, for the pages only: `/schemas` says of these plugins what their originals
//! say, which is nothing.

/// The plugin, its parameter, what it does.
type Words = (&'static str, &'static str, &'static str);

const BODY_MASKS: &str = "Keys that are left out of bodies at any depth: of JSON, of forms, of \
    multipart forms. A body that should have keys and cannot be read is left out, and so is a text \
    with one of these as a JSON key in it; other texts have no keys and are reported.";

const WORDS: &[Words] = &[
    ("moesif", "api_endpoint", "Where Moesif is; a path of a proxy of yours may stand behind."),
    ("moesif", "timeout", "Deprecated: counts for a newer limit that was left alone."),
    ("moesif", "connect_timeout", "Milliseconds for each step of fetching rules and rates."),
    ("moesif", "send_timeout", "Milliseconds for each step of sending a batch."),
    ("moesif", "keepalive", "Milliseconds that an idle connection to Moesif is kept."),
    ("moesif", "event_queue_size", "Events that may wait; above it the newest are dropped."),
    ("moesif", "api_version", "Told in each event."),
    ("moesif", "application_id", "Collector Application Id, from Moesif's settings."),
    ("moesif", "disable_capture_request_body", "No bodies of requests."),
    ("moesif", "disable_capture_response_body", "No bodies of responses."),
    ("moesif", "request_masks", "Deprecated: counts where `request_body_masks` is empty."),
    ("moesif", "request_body_masks", BODY_MASKS),
    ("moesif", "request_header_masks", "Headers that are not reported."),
    ("moesif", "response_masks", "Deprecated: counts where `response_body_masks` is empty."),
    ("moesif", "response_body_masks", BODY_MASKS),
    ("moesif", "response_header_masks", "Headers that are not reported."),
    ("moesif", "batch_size", "Events a batch; of large ones fewer, at most 8 MiB."),
    ("moesif", "disable_transaction_id", "No X-Moesif-Transaction-Id on request and response."),
    ("moesif", "debug", "Keeps the last 20 events for `/plugins/moesif/recent`."),
    ("moesif", "disable_gzip_payload_decompression", "Compressed bodies are reported as they are."),
    ("moesif", "user_id_header", "The header of request or response that names the user."),
    ("moesif", "authorization_header_name", "Headers with a token that names the user, in order."),
    ("moesif", "authorization_user_id_field", "The token's claim that names the user."),
    ("moesif", "authorization_company_id_field", "The token's claim that names the company."),
    ("moesif", "company_id_header", "The header of request or response that names the company."),
    ("moesif", "max_callback_time_spent", "Milliseconds of every 1,500 in which batches start."),
    ("moesif", "request_max_body_size_limit", "Bytes of the longest request body reported."),
    ("moesif", "response_max_body_size_limit", "Bytes of the longest response body reported."),
    ("moesif", "request_query_masks", "Query arguments whose values are reported as `*****`."),
    ("moesif", "enable_compression", "Compresses batches."),
];

/// What a parameter does, where its schema does not say it.
pub(crate) fn words_for(plugin: &str, parameter: &str) -> &'static str {
    let found = WORDS.iter().find(|(of, name, _)| *of == plugin && *name == parameter);
    found.map_or("", |(_, _, words)| *words)
}
