//! How an upstream's targets are watched. Every record inside has its whole default, as in Kong.

use crate::schema::typical::{headers, path, sni};
use crate::schema::{Field, Preset, array, boolean, integer, number, record, text};

/// The field.
pub(super) const FIELD: Field =
    record("healthchecks", "The array of healthchecks.", &[PASSIVE_FIELD, ACTIVE_FIELD, THRESHOLD])
        .or(Preset::Record(&[("active", ACTIVE), ("passive", PASSIVE)]));

const KINDS: &[&str] = &["tcp", "http", "https", "grpc", "grpcs"];
const STATUS: Field = integer("", "").between(100, 999);
const THRESHOLD: Field = number("threshold", "").or(Preset::Integer(0)).between(0, 100);

const ZERO: Preset = Preset::Integer(0);
const HTTP: Preset = Preset::Text("http");

const ACTIVE_HEALTHY_STATUSES: Preset = Preset::List(&[Preset::Integer(200), Preset::Integer(302)]);
const ACTIVE_UNHEALTHY_STATUSES: Preset = Preset::List(&[
    Preset::Integer(429),
    Preset::Integer(404),
    Preset::Integer(500),
    Preset::Integer(501),
    Preset::Integer(502),
    Preset::Integer(503),
    Preset::Integer(504),
    Preset::Integer(505),
]);
const PASSIVE_HEALTHY_STATUSES: Preset = Preset::List(&[
    Preset::Integer(200),
    Preset::Integer(201),
    Preset::Integer(202),
    Preset::Integer(203),
    Preset::Integer(204),
    Preset::Integer(205),
    Preset::Integer(206),
    Preset::Integer(207),
    Preset::Integer(208),
    Preset::Integer(226),
    Preset::Integer(300),
    Preset::Integer(301),
    Preset::Integer(302),
    Preset::Integer(303),
    Preset::Integer(304),
    Preset::Integer(305),
    Preset::Integer(306),
    Preset::Integer(307),
    Preset::Integer(308),
]);
const PASSIVE_UNHEALTHY_STATUSES: Preset =
    Preset::List(&[Preset::Integer(429), Preset::Integer(500), Preset::Integer(503)]);

const ACTIVE_HEALTHY: Preset = Preset::Record(&[
    ("http_statuses", ACTIVE_HEALTHY_STATUSES),
    ("interval", ZERO),
    ("successes", ZERO),
]);
const ACTIVE_UNHEALTHY: Preset = Preset::Record(&[
    ("http_failures", ZERO),
    ("http_statuses", ACTIVE_UNHEALTHY_STATUSES),
    ("interval", ZERO),
    ("tcp_failures", ZERO),
    ("timeouts", ZERO),
]);
const ACTIVE: Preset = Preset::Record(&[
    ("concurrency", Preset::Integer(10)),
    ("healthy", ACTIVE_HEALTHY),
    ("http_path", Preset::Text("/")),
    ("https_verify_certificate", Preset::Flag(true)),
    ("timeout", Preset::Integer(1)),
    ("type", HTTP),
    ("unhealthy", ACTIVE_UNHEALTHY),
]);
const PASSIVE_HEALTHY: Preset =
    Preset::Record(&[("http_statuses", PASSIVE_HEALTHY_STATUSES), ("successes", ZERO)]);
const PASSIVE_UNHEALTHY: Preset = Preset::Record(&[
    ("http_failures", ZERO),
    ("http_statuses", PASSIVE_UNHEALTHY_STATUSES),
    ("tcp_failures", ZERO),
    ("timeouts", ZERO),
]);
const PASSIVE: Preset = Preset::Record(&[
    ("healthy", PASSIVE_HEALTHY),
    ("type", HTTP),
    ("unhealthy", PASSIVE_UNHEALTHY),
]);

const fn kind() -> Field {
    text("type", "").or(HTTP).one_of(KINDS)
}

/// A count that fits a byte; 0 turns it off.
const fn count(name: &'static str) -> Field {
    integer(name, "").or(ZERO).between(0, 255)
}

/// Seconds; 0 turns it off.
const fn seconds(name: &'static str, preset: i64) -> Field {
    number(name, "").or(Preset::Integer(preset)).between(0, 65_535)
}

const fn statuses(preset: Preset) -> Field {
    array("http_statuses", "", &STATUS).or(preset)
}

const PASSIVE_FIELD: Field = record(
    "passive",
    "",
    &[
        kind(),
        record(
            "unhealthy",
            "",
            &[
                statuses(PASSIVE_UNHEALTHY_STATUSES),
                count("tcp_failures"),
                count("timeouts"),
                count("http_failures"),
            ],
        )
        .or(PASSIVE_UNHEALTHY),
        record("healthy", "", &[count("successes"), statuses(PASSIVE_HEALTHY_STATUSES)])
            .or(PASSIVE_HEALTHY),
    ],
)
.or(PASSIVE);

const ACTIVE_FIELD: Field = record(
    "active",
    "",
    &[
        integer("concurrency", "").or(Preset::Integer(10)).between(1, 1 << 31),
        kind(),
        record(
            "unhealthy",
            "",
            &[
                statuses(ACTIVE_UNHEALTHY_STATUSES),
                seconds("interval", 0),
                count("tcp_failures"),
                count("timeouts"),
                count("http_failures"),
            ],
        )
        .or(ACTIVE_UNHEALTHY),
        path("http_path").or(Preset::Text("/")),
        record(
            "healthy",
            "",
            &[seconds("interval", 0), statuses(ACTIVE_HEALTHY_STATUSES), count("successes")],
        )
        .or(ACTIVE_HEALTHY),
        boolean("https_verify_certificate", "").or(Preset::Flag(true)).required(),
        headers("headers").optional(),
        seconds("timeout", 1),
        sni("https_sni").optional(),
    ],
)
.or(ACTIVE);
